"""Tenants, their keys and budgets; and history, which is the audit log."""

from decimal import Decimal
from typing import Any

from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tenants import keys
from tenants.models import ApiKey, AuditEvent, Membership, Tenant
from tests import cast
from tests.admin import rows
from tests.admin.test_catalog import post


def secret_on(page: str) -> str:
    """The key on the page that shows it."""
    start = page.index('value="tg_live_') + len('value="')
    return page[start : page.index('"', start)]


def test_a_key_is_shown_once(browser: Client, acme: Tenant) -> None:
    url = reverse("admin:tenants_tenant_issue_key", args=(acme.pk,))
    answer = browser.post(url, {"name": "nightly", "scopes": ["completions"], "budget_limit_daily": "2.5"})
    secret = secret_on(answer.content.decode())
    assert keys.well_formed(secret)
    assert "no-store" in answer["cache-control"]
    key = ApiKey.objects.get(tenant=acme)
    assert (key.name, key.scopes, key.budget_limit_daily) == ("nightly", ["completions"], Decimal("2.5"))
    assert key.digest in [digest for _, digest in keys.digests(secret)]
    for name, args in (("tenant_change", (acme.pk,)), ("apikey_change", (key.pk,)), ("apikey_changelist", ())):
        page = browser.get(reverse(f"admin:tenants_{name}", args=args)).content.decode()
        assert secret not in page
        assert key.digest not in page
        assert key.masked in page
    event = AuditEvent.objects.get(action="issue")
    assert secret not in str(event.after)
    assert event.tenant_id == acme.pk


def test_a_staff_key_belongs_to_who_issued_it_and_to_no_tenant(browser: Client, superuser: User) -> None:
    answer = browser.post(reverse("admin:tenants_apikey_issue_staff_key"), {"name": "deploys"})
    assert keys.well_formed(secret_on(answer.content.decode()))
    key = ApiKey.objects.get()
    assert (key.tenant, key.owner) == (None, superuser)


def test_a_key_is_rotated_and_its_successor_shown_once(browser: Client, acme: Tenant) -> None:
    key, _ = cast.make_key(acme, budget_limit_daily=Decimal(3))
    answer = browser.post(reverse("admin:tenants_apikey_rotate", args=(key.pk,)), {"overlap": "24"})
    assert keys.well_formed(secret_on(answer.content.decode()))
    key.refresh_from_db()
    successor = key.replaced_by
    assert successor is not None
    assert successor.budget_limit_daily == 3
    again = browser.post(reverse("admin:tenants_apikey_rotate", args=(key.pk,)), {"overlap": "24"}, follow=True)
    assert "rotated already" in again.content.decode()
    assert ApiKey.objects.count() == 2


def test_a_key_is_revoked_with_a_reason(browser: Client, acme: Tenant) -> None:
    key, _ = cast.make_key(acme)
    url = reverse("admin:tenants_apikey_revoke", args=(key.pk,))
    browser.get(url)
    key.refresh_from_db()
    assert key.revoked_at is None
    browser.post(url, {"reason": "leaked"})
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert AuditEvent.objects.get(action="revoke").reason == "leaked"


def test_a_tenant_is_suspended_and_resumed_by_post_only(browser: Client, acme: Tenant) -> None:
    browser.get(reverse("admin:tenants_tenant_suspend", args=(acme.pk,)))
    assert Tenant.objects.get().is_active
    browser.post(reverse("admin:tenants_tenant_suspend", args=(acme.pk,)), {"reason": "unpaid"})
    assert not Tenant.objects.get().is_active
    browser.post(reverse("admin:tenants_tenant_resume", args=(acme.pk,)))
    assert Tenant.objects.get().is_active
    assert list(AuditEvent.objects.order_by("id").values_list("action", "reason")) == [
        ("suspend", "unpaid"), ("resume", ""),
    ]  # fmt: skip


def test_a_tenant_shows_its_budgets_as_bars(browser: Client, acme: Tenant) -> None:
    Tenant.objects.update(budget_limit_daily=Decimal(10))
    today = timezone.now().date()
    rows.window("tenant", acme.pk, "day", today, "7.5", "1")
    page = browser.get(reverse("admin:tenants_tenant_change", args=(acme.pk,))).content.decode()
    assert "$7.50 spent, $1.00 held of $10.00 (85 %)" in page


def test_budgets_near_their_limit_are_on_the_dashboard(browser: Client, acme: Tenant, globex: Tenant) -> None:
    Tenant.objects.update(budget_limit_daily=Decimal(10))
    today = timezone.now().date()
    rows.window("tenant", acme.pk, "day", today, "7.5", "0.5")
    rows.window("tenant", globex.pk, "day", today, "7.9999999999")
    page = browser.get(reverse("admin:index")).content.decode()
    near = page[page.index("Budgets near") : page.index("Dearest models")]
    assert "acme" in near
    assert "globex" not in near


def test_spend_on_the_dashboard_is_that_of_the_usage_rows(browser: Client, acme: Tenant) -> None:
    now = timezone.now()
    for cost in ("1.25", "2.5"):
        rows.usage(acme, cost_total_usd=Decimal(cost), billing_day=now.date(), created_at=now)
    page = browser.get(reverse("admin:index"))
    figures = {figure.label: figure.value for figure in page.context["figures"]}
    assert figures["Spend today"] == "$3.75"
    assert figures["Requests today"] == "2"
    assert figures["Median latency"] == "812 ms"


def test_a_change_is_in_the_history_with_what_it_was_and_became(browser: Client, acme: Tenant) -> None:
    url = reverse("admin:tenants_tenant_change", args=(acme.pk,))
    assert post(browser, url, tier="enterprise", change_reason="upgraded").status_code == 302
    event = AuditEvent.objects.get()
    assert (event.action, event.before, event.after) == ("update", {"tier": "professional"}, {"tier": "enterprise"})
    page = browser.get(reverse("admin:tenants_tenant_history", args=(acme.pk,))).content.decode()
    for words in ("upgraded", "professional", "enterprise", "grace", "127.0.0.1"):
        assert words in page, words


def test_a_form_saved_without_a_change_writes_no_audit_row(browser: Client, acme: Tenant) -> None:
    post(browser, reverse("admin:tenants_tenant_change", args=(acme.pk,)))
    assert not AuditEvent.objects.exists()


def test_a_change_that_fails_leaves_neither_itself_nor_an_audit_row(
    browser: Client, acme: Tenant, monkeypatch: Any
) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("the audit log is down")

    monkeypatch.setattr("tenants.audit.record", broken)
    browser.raise_request_exception = False
    answer = post(browser, reverse("admin:tenants_tenant_change", args=(acme.pk,)), tier="enterprise")
    assert answer.status_code == 500
    assert Tenant.objects.get().tier == "professional"


def test_members_are_added_on_the_tenant_s_page(browser: Client, acme: Tenant) -> None:
    ada = User.objects.create_user("ada")
    member = {"memberships-TOTAL_FORMS": "1", "memberships-0-user": str(ada.pk), "memberships-0-role": "admin"}
    assert post(browser, reverse("admin:tenants_tenant_change", args=(acme.pk,)), **member).status_code == 302
    assert Membership.objects.get().role == "admin"
    assert AuditEvent.objects.get().object_type == "tenants.Membership"


def test_a_change_of_someone_s_rights_is_audited(browser: Client) -> None:
    group = Group.objects.create(name="support")
    user = User.objects.create_user("ada", password="x")
    url = reverse("admin:auth_user_change", args=(user.pk,))
    post(browser, url, groups=[str(group.pk)], date_joined_0="2026-01-01", date_joined_1="00:00:00")
    event = AuditEvent.objects.get(action="rights")
    assert (event.before, event.after) == ({"groups": []}, {"groups": ["support"]})


def test_a_change_of_password_is_audited_without_it(browser: Client) -> None:
    user = User.objects.create_user("ada", password="old")
    new = "correct horse battery"
    browser.post(reverse("admin:auth_user_password_change", args=(user.pk,)), {"password1": new, "password2": new})
    user.refresh_from_db()
    assert user.check_password(new)
    event = AuditEvent.objects.get(action="password")
    assert "md5" not in str([event.before, event.after])
