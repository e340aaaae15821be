"""Alerts over HTTP: tenants subscribe to their own events, staff to all; a webhook's secret is shown once."""

import io
import logging
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from billing import alerts as raising
from billing import subscriptions
from billing.alert_models import Alert, AlertDelivery, AlertSubscription
from llm import alerts
from tenants.models import AuditEvent, Tenant
from tests.conftest import Api
from tests.fakes import FakeReceiver

HOOK = {"kind": "webhook", "target": "https://hooks.acme.org/in"}
pytestmark = pytest.mark.django_db


def happen(tenant: Tenant | None, event: str = "budget.threshold") -> Alert:
    number = Alert.objects.count()
    notice = raising.Notice(
        key=f"test:{number}", event=event, title=f"thing {number}", data={},
        tenant_id=None if tenant is None else tenant.pk,
    )  # fmt: skip
    raising.raise_all(notices=[notice], now=timezone.now())
    return Alert.objects.get(key=notice.key)


def test_a_subscription_is_made_with_its_secret_shown_once(tenant: Api, acme: Tenant) -> None:
    status, made = tenant.post("alerts/subscriptions", HOOK)
    assert status == 201
    said = HOOK | {
        "events": ["budget.threshold", "budget.forecast", "byok.invalid"], "thresholds": [50, 80, 100],
        "is_active": True, "created_by": "acme (test)",
    }  # fmt: skip
    assert {name: made[name] for name in said} == said
    row = AlertSubscription.objects.get()
    assert (row.tenant, made["secret"]) == (acme, subscriptions.secret(row))
    assert made["secret"].startswith("whsec_")
    _, read = tenant.get(f"alerts/subscriptions/{made['id']}")
    _, listed = tenant.get("alerts/subscriptions")
    assert listed["results"] == [read]
    assert read == {name: value for name, value in made.items() if name != "secret"}
    status, rotated = tenant.post(f"alerts/subscriptions/{made['id']}/rotate-secret")
    assert (status, rotated["id"]) == (200, made["id"])
    assert rotated["secret"] != made["secret"]


def test_a_mail_subscription_has_no_secret(tenant: Api) -> None:
    status, made = tenant.post("alerts/subscriptions", {"kind": "email", "target": "ops@acme.org"})
    assert (status, made["secret"]) == (201, None)
    status, refused = tenant.post(f"alerts/subscriptions/{made['id']}/rotate-secret")
    assert (status, refused["error"]["message"]) == (
        409, "An e-mail subscription has no secret: only webhooks are signed.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target", "http://hooks.acme.org/in"),
        ("target", "https://hooks.acme.org:8443/in"),
        ("target", "https://user:pw@hooks.acme.org/in"),
        ("target", "https://hooks.acme.org/in#part"),
        ("target", "https://127.0.0.1/in"),
        ("target", "https://2130706433/in"),
        ("target", "https://0x7f.0x1/in"),
        ("target", "https://[::1]/in"),
        ("target", "https://[::ffff:a9fe:a9fe]/latest"),
        ("target", "https://localhost/in"),
        ("target", "https://intranet/in"),
        ("target", "ftp://hooks.acme.org/in"),
        ("target", "https:///in"),
        ("target", "https://hooks.acme.org/a b"),
        ("target", "https://hooks.acme.org/\r\nx-evil: 1"),
        ("target", "https://hooks.acme.org:0x50/"),
        ("target", "ops@acme.org"),
        ("target", ""),
        ("target", "https://hooks.acme.org/" + "x" * 500),
        ("kind", "pigeon"),
        ("events", []),
        ("events", ["provider.down"]),
        ("events", ["reconcile.failed", "budget.threshold"]),
        ("events", ["nonsense"]),
        ("events", "budget.threshold"),
        ("thresholds", []),
        ("thresholds", [0]),
        ("thresholds", [101]),
        ("thresholds", [50.5]),
        ("thresholds", ["50"]),
        ("thresholds", list(range(1, 12))),
        ("created_by", "somebody"),
        ("secret", "whsec_mine"),
        ("salt", "0"),
        ("tenant", "globex"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_name_and_nothing_is_made_or_changed(tenant: Api, field: str, value: Any) -> None:
    status, refused = tenant.post("alerts/subscriptions", HOOK | {field: value})
    assert (status, refused["error"]["param"].split(".")[0]) == (400, field), refused
    assert not AlertSubscription.objects.exists()
    _, made = tenant.post("alerts/subscriptions", HOOK)
    before = AlertSubscription.objects.values().get()
    status, refused = tenant.patch(f"alerts/subscriptions/{made['id']}", {field: value})
    assert (status, refused["error"]["param"].split(".")[0]) == (400, field), refused
    assert AlertSubscription.objects.values().get() == before


@pytest.mark.parametrize("target", ["nobody", "a@b", "a@b.org, c@d.org", "a@b.org\nBcc: x@y.org", '"\x01"@acme.org'])
def test_a_mail_address_must_be_one(tenant: Api, target: str) -> None:
    status, refused = tenant.post("alerts/subscriptions", {"kind": "email", "target": target})
    assert (status, refused["error"]["param"]) == (400, "target")


def test_a_subscription_is_changed_but_for_its_kind(tenant: Api) -> None:
    _, made = tenant.post("alerts/subscriptions", HOOK)
    path = f"alerts/subscriptions/{made['id']}"
    status, changed = tenant.patch(
        path, {"thresholds": [90, 75, 90], "events": ["budget.threshold"], "kind": "webhook"}
    )
    assert (status, changed["thresholds"], changed["events"]) == (200, [75, 90], ["budget.threshold"])
    status, refused = tenant.patch(path, {"kind": "email", "target": "ops@acme.org"})
    assert (status, refused["error"]["message"]) == (
        400, "kind: It cannot be changed. Delete this subscription and make another.",
    )  # fmt: skip
    assert tenant.delete(path) == (204, None)
    assert tenant.get(path)[0] == 404


def test_each_change_has_an_audit_row_without_the_secret(tenant: Api, acme: Tenant) -> None:
    _, made = tenant.post("alerts/subscriptions", HOOK)
    path = f"alerts/subscriptions/{made['id']}"
    tenant.patch(path, {"is_active": False})
    _, rotated = tenant.post(f"{path}/rotate-secret")
    tenant.delete(path)
    events = AuditEvent.objects.order_by("pk")
    assert [(event.action, event.actor_label, event.tenant_id) for event in events] == [
        (action, "acme (test)", acme.pk) for action in ("create", "update", "rotate-secret", "delete")
    ]
    assert (events[1].before, events[1].after) == ({"is_active": True}, {"is_active": False})
    for secret in (made["secret"], rotated["secret"]):
        assert secret not in str(list(events.values()))


def test_a_tenant_has_at_most_twenty_subscriptions(tenant: Api, stranger: Api) -> None:
    for _ in range(20):
        assert tenant.post("alerts/subscriptions", HOOK)[0] == 201
    status, refused = tenant.post("alerts/subscriptions", HOOK)
    assert (status, refused["error"]["message"]) == (
        409, "A tenant has at most 20 subscriptions. Delete one first.",
    )  # fmt: skip
    assert AlertSubscription.objects.count() == 20
    assert stranger.post("alerts/subscriptions", HOOK)[0] == 201


def test_another_s_subscription_reads_like_a_missing_one_and_stays(tenant: Api, stranger: Api) -> None:
    _, theirs = stranger.post("alerts/subscriptions", HOOK)
    before = AlertSubscription.objects.values().get()
    for method, rest in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate-secret"), ("POST", "/test")):
        found = tenant.call(method, f"alerts/subscriptions/{theirs['id']}{rest}", {})
        missing = tenant.call(method, f"alerts/subscriptions/{'0' * 32}{rest}", {})
        assert found == missing
        assert found[0] == 404
    assert AlertSubscription.objects.values().get() == before
    assert tenant.get("alerts/subscriptions")[1]["results"] == []


def test_a_tenant_sees_its_alerts_and_who_of_its_own_was_told(
    tenant: Api, staff: Api, acme: Tenant, globex: Tenant
) -> None:
    _, mine = tenant.post("alerts/subscriptions", HOOK)
    staff.post("admin/alerts/subscriptions", HOOK | {"target": "http://10.0.0.7/in", "events": ["budget.threshold"]})
    alert = happen(acme)
    happen(globex)
    happen(None, "reconcile.failed")
    _, page = tenant.get("alerts")
    (row,) = page["results"]
    assert (row["id"], row["event"], row["tenant"], row["message"]) == (
        str(alert.pk), "budget.threshold", "acme", "thing 0",
    )  # fmt: skip
    assert [(each["subscription"], each["status"], each["attempts"]) for each in row["deliveries"]] == [
        (mine["id"], "pending", 0)
    ]
    assert tenant.get("alerts?event=byok.invalid")[1]["results"] == []
    assert tenant.get("alerts?event=nonsense")[0] == 400
    _, everything = staff.get("admin/alerts")
    assert [len(each["deliveries"]) for each in everything["results"]] == [0, 1, 2]  # newest first
    assert [each["tenant"] for each in staff.get("admin/alerts?tenant=globex")[1]["results"]] == ["globex"]


def test_staff_subscribe_for_the_platform_and_for_tenants(staff: Api, tenant: Api, acme: Tenant) -> None:
    status, platform = staff.post("admin/alerts/subscriptions", HOOK | {"target": "http://10.0.0.7:8080/in"})
    assert (status, platform["tenant"], platform["events"]) == (
        201, None, ["provider.down", "provider.up", "reconcile.failed", "price.task"],
    )  # fmt: skip
    assert platform["secret"].startswith("whsec_")
    status, refused = staff.post("admin/alerts/subscriptions", HOOK | {"target": "http://10.0.0.7/", "tenant": "acme"})
    assert (status, refused["error"]["param"]) == (400, "target")
    status, theirs = staff.post("admin/alerts/subscriptions", HOOK | {"tenant": str(acme.pk)})
    assert (status, theirs["tenant"]) == (201, "acme")
    assert [row["id"] for row in tenant.get("alerts/subscriptions")[1]["results"]] == [theirs["id"]]
    assert [row["id"] for row in staff.get(f"admin/alerts/subscriptions?tenant={acme.pk}")[1]["results"]] == [
        theirs["id"]
    ]
    status, refused = staff.patch(f"admin/alerts/subscriptions/{theirs['id']}", {"tenant": None})
    assert (status, refused["error"]["param"]) == (400, "tenant")
    status, refused = staff.post("admin/alerts/subscriptions", HOOK | {"tenant": "nobody"})
    assert (status, refused["error"]["param"]) == (400, "tenant")


def test_a_test_is_sent_at_once_and_its_answer_is_told_in_words(staff: Api, tenant: Api) -> None:
    with FakeReceiver() as receiver:
        _, made = staff.post("admin/alerts/subscriptions", HOOK | {"target": receiver.url})
        path = f"admin/alerts/subscriptions/{made['id']}/test"
        assert staff.post(path) == (200, {"ok": True, "message": "It arrived.", "response_status": 204})
        (got,) = receiver.received
        assert (got.json["type"], got.json["tenant"], got.is_signed_with(made["secret"])) == ("test", None, True)
        receiver.answer(500)
        assert staff.post(path) == (
            200, {"ok": False, "message": "It answered HTTP 500 instead of 2xx.", "response_status": 500},
        )  # fmt: skip
    _, made = tenant.post("alerts/subscriptions", HOOK | {"target": "https://nowhere.invalid/"})
    assert tenant.post(f"alerts/subscriptions/{made['id']}/test") == (
        200, {"ok": False, "message": "Its host is not known to DNS.", "response_status": None},
    )  # fmt: skip
    assert not Alert.objects.exists()


def test_a_webhook_s_secret_is_in_no_log_and_no_dump(
    tenant: Api, staff: Api, acme: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with FakeReceiver() as receiver:
        receiver.answer(500)
        secrets = [staff.post("admin/alerts/subscriptions", HOOK | {"target": receiver.url})[1]["secret"]]
        secrets += [tenant.post("alerts/subscriptions", HOOK | {"target": "https://nowhere.invalid/"})[1]["secret"]]
        AlertSubscription.objects.update(events=["budget.threshold"])
        happen(acme)
        for minutes in (0, 1):
            assert alerts.deliver(now=timezone.now() + timedelta(minutes=minutes)) == 2
        assert [got.is_signed_with(secrets[0]) for got in receiver.received] == [True, True]
    dumped = io.StringIO()
    call_command("dumpdata", "billing", "tenants", stdout=dumped)
    said = dumped.getvalue() + caplog.text + str(list(AlertDelivery.objects.values())) + str(tenant.get("alerts"))
    assert "hooks" in said
    for secret in secrets:
        assert secret.removeprefix("whsec_")[4:-4] not in said
