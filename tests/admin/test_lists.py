"""Lists open in few queries however many rows they have, logs are never counted, and foreign strings are inert."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing import rollup
from llm.models import LLMModel
from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.admin import rows

# Two of these are the session and the user.
LISTS = {
    "llm_llmbreaker": 4,
    "llm_llmprovider": 5,
    "llm_llmmodel": 8,
    "llm_providercredential": 7,
    "llm_llmroutingrule": 6,
    "llm_powerlevelpolicy": 8,
    "llm_priceproposal": 5,
    "llm_priceversion": 6,
    "llm_pricetask": 5,
    "llm_correctionrun": 4,
    "llm_llmconfig": 6,
    "llm_routerefusal": 5,
    "tenants_tenant": 5,
    "tenants_tierterms": 5,
    "llm_priceoverride": 6,
    "billing_creditentry": 6,
    "tenants_apikey": 5,
    "tenants_auditevent": 4,
    "billing_usagerecord": 5,
    "billing_budgetwindow": 4,
    "billing_hold": 5,
    "billing_dailyusage": 5,
    "billing_adjustment": 5,
    "billing_alert": 6,
    "billing_statement": 5,
    "billing_alertsubscription": 6,
}


@pytest.fixture
def full(gpt: LLMModel, acme: Tenant, globex: Tenant) -> None:
    """Several rows of everything."""
    for tenant in (acme, globex):
        key, _ = cast.make_key(tenant)
        cast.make_config(tenant, primary_model=gpt)
        cast.make_credential(gpt.provider, tenant=tenant)
        for _ in range(3):
            rows.usage(tenant, gpt)
        rows.refusal(tenant)
        rows.hold(tenant)
        rows.daily(tenant)
        rows.adjustment(tenant)
        rows.alert(tenant)
        rows.statement(tenant)
        rows.credit(tenant)
        rows.own_price(tenant, gpt)
        rows.window("tenant", tenant.pk, "day", rows.NOW.date(), "1.25", "0.5")
        rows.window("key", key.pk, "month", rows.NOW.date().replace(day=1), "2")
    for number in range(6):
        provider = cast.make_provider(f"vendor-{number}")
        model = cast.make_model(provider, f"model-{number}", cached="1")
        cast.make_rule(model, priority=number)
        cast.make_credential(provider)
        cast.make_breaker(model, what=rows.HOSTILE, reason=rows.HOSTILE)
        rows.proposal(model)
        rows.correction(model)
        rows.price_task(model)


@pytest.mark.parametrize("name", LISTS)
def test_a_list_opens_in_few_queries(
    browser: Client, full: None, django_assert_max_num_queries: Callable[..., Any], name: str
) -> None:
    browser.get(reverse("admin:index"))
    with django_assert_max_num_queries(LISTS[name]):
        answer = browser.get(reverse(f"admin:{name}_changelist"))
    assert answer.status_code == 200
    assert rows.HOSTILE not in answer.content.decode()


@pytest.mark.parametrize(
    "name", ["billing_usagerecord", "llm_routerefusal", "tenants_auditevent", "billing_hold", "billing_alert"]
)
def test_a_log_is_never_counted(browser: Client, full: None, name: str) -> None:
    table = {
        "billing_usagerecord": "llm_usage_logs",
        "llm_routerefusal": "llm_route_refusals",
        "billing_alert": "billing_alerts",
    }.get(name, name)
    with CaptureQueriesContext(
        connection,
    ) as asked:
        browser.get(reverse(f"admin:{name}_changelist"))
    assert not [query for query in asked.captured_queries if "COUNT(" in query["sql"].upper() and table in query["sql"]]


@pytest.mark.parametrize("page", ["2001", "99999999", "9" * 5000])
def test_a_log_is_not_leafed_through_without_end(browser: Client, full: None, page: str) -> None:
    url = reverse("admin:billing_usagerecord_changelist")
    answer = browser.get(url, {"p": page, "status__exact": "failed"})
    assert (answer.status_code, answer["Location"]) == (302, f"{url}?p=2000&status__exact=failed")
    assert "Filter it to look further back" in browser.get(answer["Location"]).content.decode()


def test_the_dashboard_opens_in_at_most_17_queries(
    browser: Client, full: None, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    with django_assert_max_num_queries(17):
        answer = browser.get(reverse("admin:index"))
    assert answer.status_code == 200


def test_a_request_is_found_by_its_id_and_by_nothing_else(browser: Client, acme: Tenant) -> None:
    found, other = rows.usage(acme), rows.usage(acme)
    url = reverse("admin:billing_usagerecord_changelist")
    page = browser.get(url, {"q": str(found.pk)}).content.decode()
    assert str(found.pk) in page
    assert str(other.pk) not in page
    assert "whole request id" in browser.get(url, {"q": "gpt"}).content.decode()


def test_requests_are_filtered_by_tenant_provider_model_status_and_day(
    browser: Client, acme: Tenant, globex: Tenant
) -> None:
    wanted = rows.usage(acme, status="failed", status_code=502)
    others = [rows.usage(globex), rows.usage(acme, provider_slug="xai"), rows.usage(acme, model_name="o3")]
    filters = {
        "tenant": str(acme.pk),
        "provider_slug": "openai",
        "model_name": "gpt-4o",
        "status__exact": "failed",
        "billing_day_from": "2026-11-22",
        "billing_day_to": "2026-11-22",
    }
    for _ in range(2):
        page = browser.get(reverse("admin:billing_usagerecord_changelist"), filters).content.decode()
        assert str(wanted.pk) in page
        assert not [other for other in others if str(other.pk) in page]
        rollup.roll_up(now=rows.NOW + timedelta(days=9))  # then what is rare is looked up by its days


def test_a_request_reads_with_its_cost_lines_and_its_decision(browser: Client, acme: Tenant) -> None:
    record = rows.usage(acme)
    page = browser.get(reverse("admin:billing_usagerecord_change", args=(record.pk,))).content.decode()
    for words in (
        "$2.50 per 1,000,000", "$0.0025", "$0.0045", "$0.00495",  # the lines, the list price, what is billed
        "openai/gpt-4o", "the first rule of balanced", "0.91", "code (80% sure)",
        "xai/grok-4", "provider_down", "anthropic/claude-sonnet-4", "812 ms",
    ):  # fmt: skip
        assert words in page, words
    assert rows.HOSTILE not in page
    assert "&lt;script&gt;alert(&#x27;tollgate&#x27;)&lt;/script&gt;" in page


def test_a_refusal_reads_with_its_decision(browser: Client, acme: Tenant) -> None:
    row = rows.refusal(acme)
    page = browser.get(reverse("admin:llm_routerefusal_change", args=(row.pk,))).content.decode()
    assert "provider_down" in page
    assert rows.HOSTILE not in page


@pytest.mark.parametrize(
    "broken", [[], "text", {"candidates": 3, "rejections": ["x"], "chosen": 7}, {"fallbacks": None}]
)
def test_a_trace_of_another_shape_does_not_break_its_page(browser: Client, acme: Tenant, broken: Any) -> None:
    record = rows.usage(acme, decision=broken, price_lines=broken, attempts=broken)
    answer = browser.get(reverse("admin:billing_usagerecord_change", args=(record.pk,)))
    assert answer.status_code == 200


def test_the_audit_log_lists_an_event_inertly(browser: Client) -> None:
    AuditEvent.objects.create(
        at=rows.NOW, actor_kind="user", actor_label=rows.HOSTILE, action="update", object_type="llm.LLMModel",
        object_id="1", object_label=rows.HOSTILE, before={"name": rows.HOSTILE}, after={"name": "b"},
    )  # fmt: skip
    event = AuditEvent.objects.get()
    for url in ("changelist", "change"):
        args = (event.pk,) if url == "change" else ()
        assert rows.HOSTILE not in browser.get(reverse(f"admin:tenants_auditevent_{url}", args=args)).content.decode()
