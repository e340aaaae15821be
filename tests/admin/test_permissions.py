"""Nobody changes the ledger or the audit log here, superusers included; staff without permissions see nothing."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.admin import rows


def audit_event(tenant: Tenant) -> AuditEvent:
    return AuditEvent.objects.create(
        at=rows.NOW, actor_kind="user", actor_label="grace", action="update", object_type="x", object_id="1",
        object_label="x",
    )  # fmt: skip


LEDGER: dict[str, Any] = {
    "billing_usagerecord": rows.usage,
    "billing_budgetwindow": lambda tenant: rows.window("tenant", tenant.pk, "day", rows.NOW.date(), "1"),
    "billing_hold": rows.hold,
    "billing_dailyusage": rows.daily,
    "billing_adjustment": rows.adjustment,
    "billing_alert": rows.alert,
    "billing_statement": rows.statement,
    "billing_creditentry": rows.credit,
    "llm_priceoverride": lambda tenant: rows.own_price(tenant, cast.make_model(cast.make_provider())),
    "llm_correctionrun": lambda _: rows.correction(cast.make_model(cast.make_provider())),
    "llm_routerefusal": rows.refusal,
    "llm_llmbreaker": lambda _: cast.make_breaker(cast.make_model(cast.make_provider())),
    "tenants_auditevent": audit_event,
}


@pytest.mark.parametrize("name", LEDGER)
def test_a_superuser_can_read_a_ledger_row_but_not_change_it(browser: Client, acme: Tenant, name: str) -> None:
    row = LEDGER[name](acme)
    before = type(row).objects.values().get(pk=row.pk)
    assert browser.get(reverse(f"admin:{name}_change", args=(row.pk,))).status_code == 200
    assert browser.get(reverse(f"admin:{name}_add")).status_code == 403
    assert browser.post(reverse(f"admin:{name}_change", args=(row.pk,)), {"reason": "x"}).status_code == 403
    assert browser.post(reverse(f"admin:{name}_delete", args=(row.pk,)), {"post": "yes"}).status_code == 403
    bulk = {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"}
    browser.post(reverse(f"admin:{name}_changelist"), bulk)
    assert type(row).objects.values().get(pk=row.pk) == before


def every_list() -> list[str]:
    return [f"{model._meta.app_label}_{model._meta.model_name}" for model in admin.site._registry]


@pytest.mark.parametrize("name", every_list())
def test_staff_without_permissions_see_no_list(nobody: Client, name: str) -> None:
    assert nobody.get(reverse(f"admin:{name}_changelist")).status_code == 403


def test_staff_without_permissions_see_no_figure_on_the_dashboard(nobody: Client, acme: Tenant) -> None:
    rows.usage(acme)
    page = nobody.get(reverse("admin:index")).content.decode()
    assert "Spend today" not in page
    assert reverse("admin:billing_usagerecord_changelist") not in page


def test_anonymous_visitors_are_sent_to_the_login(client: Client, db: None) -> None:
    answer = client.get(reverse("admin:llm_llmprovider_changelist"))
    assert answer.status_code == 302
    assert "/admin/login/" in answer["location"]


def test_staff_without_permission_cannot_reach_the_pages_of_actions(nobody: Client, acme: Tenant, gpt: Any) -> None:
    key = gpt.provider
    for url in (
        reverse("admin:llm_llmmodel_change_price", args=(gpt.pk,)),
        reverse("admin:llm_llmmodel_deprecate", args=(gpt.pk,)),
        reverse("admin:llm_llmprovider_test", args=(key.pk,)),
        reverse("admin:llm_llmprovider_import_models", args=(key.pk,)),
        reverse("admin:llm_llmroutingrule_simulate"),
        reverse("admin:tenants_tenant_issue_key", args=(acme.pk,)),
        reverse("admin:tenants_tenant_suspend", args=(acme.pk,)),
        reverse("admin:tenants_apikey_issue_staff_key"),
    ):
        assert nobody.post(url, {}).status_code == 403, url
    acme.refresh_from_db()
    assert acme.is_active


@pytest.mark.django_db
def test_who_signs_in_at_the_login_page_itself_lands_on_the_dashboard(client: Client) -> None:
    person = User.objects.create_superuser("grace", password="a long pass phrase")
    answer = client.post("/admin/login/", {"username": person.username, "password": "a long pass phrase"})
    assert (answer.status_code, answer["location"]) == (302, "/admin/")
