"""Statements and drift in the admin: look at a draft, finalise it once, download it; compare an invoice."""

from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from billing.models import BudgetWindow
from billing.statement_models import Statement
from tenants.models import AuditEvent, Tenant
from tests.admin import rows
from tests.billing.made import spend
from tests.billing.stated import AFTER, MONTH, a_month


@pytest.fixture
def october(db: None) -> Iterator[Tenant]:
    """It is November, and Acme and Globex have an October."""
    with time_machine.travel(AFTER, tick=False):
        yield a_month()


def reader(client: Client, *codenames: str) -> Client:
    user = User.objects.create_user("rita", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    return client


def months(client: Client, **query: str) -> str:
    return client.get(reverse("admin:billing_statement_months"), query).content.decode()


def document(client: Client, tenant: Tenant, kind: str = "html", month: str = "2026-10") -> Any:
    return client.get(reverse("admin:billing_statement_document", args=(tenant.pk, month, kind)))


def test_the_last_months_tenants_are_listed_with_their_drafts(browser: Client, october: Tenant) -> None:
    text = months(browser)
    assert "Open months: 2026-10" in text
    assert document(browser, october).content.decode().count("Draft:") == 1
    for kind in ("html", "csv", "json"):
        assert reverse("admin:billing_statement_document", args=(october.pk, "2026-10", kind)) in text
    assert "until 2026-12-01 12:05" in months(browser, month="2026-11")
    assert "Finalise the chosen" not in months(browser, month="2026-11")
    assert "has its statement" in months(browser, month="2026-08")


def test_the_chosen_are_finalised_once_with_an_audit_event(browser: Client, october: Tenant) -> None:
    url = f"{reverse('admin:billing_statement_months')}?month=2026-10"
    text = browser.post(url, {"tenant": [str(october.pk)]}, follow=True).content.decode()
    assert "1 finalised." in text
    [statement] = Statement.objects.all()
    assert (statement.tenant, statement.month, statement.finalised_by) == (october, MONTH, "grace")
    assert AuditEvent.objects.get(action="finalise").actor_label == "grace"
    again = browser.post(url, {"tenant": [str(october.pk)]}, follow=True).content.decode()
    assert "finalised." not in again.replace("Finalised statements", "")
    assert Statement.objects.count() == 1
    listed = browser.get(reverse("admin:billing_statement_changelist")).content.decode()
    assert "$0.0186677424" in listed
    final = document(browser, october, "json")
    assert final.headers["X-Statement-SHA256"] == statement.sha256
    assert final.headers["Content-Disposition"] == 'attachment; filename="statement-acme-2026-10.json"'


def test_a_month_that_goes_on_cannot_be_finalised_even_if_it_is_posted(browser: Client, october: Tenant) -> None:
    url = f"{reverse('admin:billing_statement_months')}?month=2026-11"
    text = browser.post(url, {"tenant": [str(october.pk)]}, follow=True).content.decode()
    assert "2026-11 is not over in every time zone. It can be finalised from 2026-12-01T12:05:00Z on." in text
    assert Statement.objects.count() == 0


def test_who_may_only_look_can_neither_finalise_nor_see_the_button(client: Client, october: Tenant) -> None:
    reader(client, "view_statement")
    assert "Finalise the chosen" not in months(client)
    url = f"{reverse('admin:billing_statement_months')}?month=2026-10"
    assert client.post(url, {"tenant": [str(october.pk)]}).status_code == 403
    assert Statement.objects.count() == 0
    assert document(client, october).status_code == 200


@pytest.mark.parametrize(("month", "kind"), [("2026-13", "html"), ("2026-12", "html"), ("2026-10", "pdf")])
def test_what_there_is_not_is_a_404(browser: Client, october: Tenant, month: str, kind: str) -> None:
    assert document(browser, october, kind, month).status_code == 404


def test_the_open_months_cost_as_few_queries_with_many_tenants(
    browser: Client, october: Tenant, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    for number in range(20):
        tenant = Tenant.objects.create(slug=f"tenant-{number}", name=rows.HOSTILE)
        rows.window("tenant", tenant.pk, "month", MONTH, "1")
    months(browser)
    with django_assert_max_num_queries(6):
        text = months(browser)
    assert BudgetWindow.objects.filter(starts_on=MONTH, scope_kind="tenant", period="month").count() == 22
    assert text.count('type="checkbox" name="tenant"') == 22
    assert rows.HOSTILE not in text


# --- drift ------------------------------------------------------------------------------------------------------------


def compare(client: Client, content: bytes | None = None, **values: str) -> str:
    given: dict[str, Any] = {"month": "2026-10", "tolerance": "1", **values}
    if content is not None:
        given["invoice"] = SimpleUploadedFile("invoice.csv", content, content_type="text/csv")
    return client.post(reverse("admin:drift"), given).content.decode()


def test_an_uploaded_invoice_is_compared_line_by_line(browser: Client, october: Tenant) -> None:
    text = compare(browser, b"date,model,cost\n2026-10-02,gpt-4o,0.2150\n", provider="openai")
    # Acme's $0.0075 and Globex's on that day.
    for words in ("$0.015", "$0.215", "-$0.20", "-93.02 %", "2 beyond the tolerance"):
        assert words in text, words


def test_what_answers_said_is_compared_without_a_file(browser: Client, october: Tenant) -> None:
    assert "No provider named a cost" in compare(browser)
    spend(october.pk, "1", day=date(2026, 10, 9), reported_cost_usd=Decimal("1.005"), model_name=rows.HOSTILE)
    text = compare(browser)
    assert "all within the tolerance" in text
    assert "-0.50 %" in text
    assert rows.HOSTILE not in text


@pytest.mark.parametrize(
    ("content", "values", "said"),
    [
        (b"a,b\n", {"provider": "openai"}, "Say which column holds the model"),
        (b"model,cost\nx,y\n", {"provider": "openai"}, "Line 2 of the invoice"),
        (b"model,cost\nx,1\n", {}, "Say whose invoice it is."),
        (None, {"month": "2026"}, "Give a month as 2026-11."),
        (None, {"aliases": "x"}, "One a line"),
    ],
)
def test_what_cannot_be_compared_is_said(
    browser: Client, october: Tenant, content: bytes | None, values: dict[str, str], said: str
) -> None:
    assert said in compare(browser, content, **values)


def test_the_drift_page_opens_in_few_queries_and_not_for_everybody(
    browser: Client, nobody: Client, october: Tenant, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    browser.get(reverse("admin:drift"))
    with django_assert_max_num_queries(6):  # the last two look for corrections
        assert browser.get(reverse("admin:drift")).status_code == 200
    assert nobody.get(reverse("admin:drift")).status_code == 403
