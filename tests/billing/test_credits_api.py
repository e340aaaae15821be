"""Prepaid credit over HTTP: staff grant and correct, tenants read."""

from datetime import timedelta

from django.utils import timezone

from billing.credit_models import CreditEntry
from tenants.models import AuditEvent, Tenant
from tests.conftest import Api


def test_a_tenant_reads_its_balance_its_grants_and_what_expires_next(staff: Api, tenant: Api, stranger: Api) -> None:
    soon = (timezone.now() + timedelta(days=3)).replace(microsecond=0)
    body = {"amount": "20.50", "reason": "Invoice 7", "expires_at": soon.isoformat()}
    status, made = staff.post("admin/tenants/acme/credits", body)
    assert (status, made["kind"], made["amount"], made["number"]) == (201, "grant", "20.5", 1)
    staff.post("admin/tenants/acme/credits", {"amount": "5", "reason": "Welcome", "source": "promotion"})
    status, corrected = staff.post(
        f"admin/tenants/acme/credits/{made['id']}/correct", {"amount": "-0.5", "reason": "typed wrong"}
    )
    assert (status, corrected["amount"], corrected["grant"]) == (201, "-0.5", made["id"])
    staff.patch("admin/tenants/acme", {"prepaid": True})
    status, seen = tenant.get("llm/credits")
    grants = seen.pop("grants")
    assert seen == {
        "prepaid": True, "balance": "25", "held": "0", "available": "25", "granted": "25", "drawn": "0", "expired": "0",
        "next_expiry": {"at": soon.isoformat().replace("+00:00", "Z"), "amount": "20"},
    }  # fmt: skip
    assert [(one["amount"], one["corrected"], one["left"], one["source"], one["reason"]) for one in grants] == [
        ("5", "0", "5", "promotion", "Welcome"), ("20.5", "-0.5", "20", "purchase", "Invoice 7"),
    ]  # fmt: skip
    assert "author" not in grants[0]
    assert staff.get("admin/tenants/acme/credits")[1]["grants"][0]["author"] == "grace (staff)"
    assert stranger.get("llm/credits")[1]["balance"] == "0"
    assert [event.action for event in AuditEvent.objects.order_by("pk")] == ["grant", "grant", "correct", "update"]


def test_a_wrong_grant_is_a_400_that_names_the_field(staff: Api, acme: Tenant) -> None:
    past = (timezone.now() - timedelta(days=1)).isoformat()
    for change, param in (
        ({"amount": "0"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": None}, "amount"),
        ({"amount": "0.00000000001"}, "amount"),
        ({"reason": ""}, "reason"),
        ({"source": "theft"}, "source"),
        ({"expires_at": past}, "expires_at"),
        ({"kind": "expiry"}, "kind"),
    ):
        status, answer = staff.post("admin/tenants/acme/credits", {"amount": "1", "reason": "r", **change})
        assert (status, answer["error"]["param"]) == (400, param)
    assert CreditEntry.objects.count() == 0


def test_only_a_grant_of_that_tenant_can_be_corrected(staff: Api, acme: Tenant, globex: Tenant) -> None:
    _, theirs = staff.post("admin/tenants/globex/credits", {"amount": "5", "reason": "r"})
    body = {"amount": "-1", "reason": "r"}
    assert staff.post(f"admin/tenants/acme/credits/{theirs['id']}/correct", body)[0] == 404
    _, change = staff.post(f"admin/tenants/globex/credits/{theirs['id']}/correct", body)
    assert staff.post(f"admin/tenants/globex/credits/{change['id']}/correct", body)[0] == 404
    status, answer = staff.post(f"admin/tenants/globex/credits/{theirs['id']}/correct", {"amount": "-5", "reason": "r"})
    assert (status, answer["error"]["param"]) == (400, "amount")  # four are left to take back
