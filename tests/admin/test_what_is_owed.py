"""Credit, adjustments, tenants' prices, terms of tiers and forecasts in the admin."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing import forecast, windows
from billing.credit_models import CreditEntry
from billing.models import Adjustment, BudgetWindow
from llm.models import LLMModel, PriceOverride
from tenants.models import AuditEvent, Tenant, TierTerms
from tests import cast
from tests.admin import rows
from tollgate.admin import limits


def page_of(browser: Client, tenant: Tenant) -> str:
    return browser.get(reverse("admin:tenants_tenant_change", args=(tenant.pk,))).content.decode()


def url(action: str, tenant: Tenant) -> str:
    return reverse(f"admin:tenants_tenant_{action}", args=(tenant.pk,))


def test_credit_is_granted_on_the_tenants_page_and_seen_there(browser: Client, acme: Tenant) -> None:
    Tenant.objects.update(prepaid=True)
    assert "nothing left: requests are refused" in page_of(browser, acme)
    form = {"amount": "25", "source": "purchase", "expires_at": "2099-01-31T12:00", "reason": rows.HOSTILE}
    answer = browser.post(url("grant_credits", acme), form, follow=True)
    page = answer.content.decode()
    assert "$25.00 are granted to acme." in page
    assert "nothing left" not in page
    assert "<strong>$25.00</strong> left" in page
    assert "$25.00 expire at 2099-01-31 12:00:00 UTC" in page
    assert rows.HOSTILE not in page
    entry = CreditEntry.objects.get()
    assert (entry.amount, entry.author, entry.source) == (25, "grace", "purchase")
    event = AuditEvent.objects.get(action="grant")
    assert (event.actor_label, event.tenant_id) == ("grace", acme.pk)


def test_a_wrong_grant_is_said_on_its_field(browser: Client, acme: Tenant) -> None:
    for change, words in (
        ({"amount": "0"}, "more than nothing"),
        ({"expires_at": "2020-01-01T00:00"}, "cannot expire before"),
        ({"reason": ""}, "This field is required"),
    ):
        form = {"amount": "1", "source": "other", "reason": "x", **change}
        assert words in browser.post(url("grant_credits", acme), form).content.decode()
    assert CreditEntry.objects.count() == 0


def test_a_grant_is_corrected_on_its_own_page(browser: Client, acme: Tenant) -> None:
    browser.post(url("grant_credits", acme), {"amount": "10", "source": "other", "reason": "x"})
    entry = CreditEntry.objects.get()
    correct = reverse("admin:billing_creditentry_correct", args=(entry.pk,))
    assert correct in browser.get(reverse("admin:billing_creditentry_change", args=(entry.pk,))).content.decode()
    page = browser.post(correct, {"amount": "-4", "reason": "typed twice"}, follow=True).content.decode()
    assert "The grant is corrected by -$4.00." in page
    assert BudgetWindow.objects.get(scope_kind="credit").granted == 6
    correction = CreditEntry.objects.get(kind="correction")
    assert browser.get(reverse("admin:billing_creditentry_correct", args=(correction.pk,))).status_code == 404
    assert "more cannot be taken back" in browser.post(correct, {"amount": "-7", "reason": "x"}).content.decode()
    history = browser.get(reverse("admin:billing_creditentry_history", args=(entry.pk,))).content.decode()
    assert "typed twice" in history


def test_an_adjustment_is_entered_on_the_tenants_page(browser: Client, acme: Tenant) -> None:
    form = {"billed_usd": "-2.5", "budget_usd": "", "cost_total_usd": "", "request_id": "", "billing_day": "",
            "reason": "an outage"}  # fmt: skip
    page = browser.post(url("adjust", acme), form, follow=True).content.decode()
    row = Adjustment.objects.get()
    assert f"An adjustment of -$2.50 is booked on {row.billing_day}." in page
    assert (row.billed_usd, row.budget_usd, row.author, row.reason) == (
        Decimal("-2.5"), Decimal("-2.5"), "grace", "an outage",
    )  # fmt: skip
    assert BudgetWindow.objects.get(scope_kind="tenant", period="month").spent == Decimal("-2.5")
    assert "-$2.50" in browser.get(reverse("admin:billing_adjustment_changelist")).content.decode()
    request = rows.usage(cast.make_tenant("globex"))
    wrong = browser.post(url("adjust", acme), {**form, "request_id": str(request.pk)}).content.decode()
    assert "This tenant has no such request." in wrong


def test_a_price_is_set_for_one_tenant_and_ended(browser: Client, acme: Tenant, gpt: LLMModel) -> None:
    form = {"model": str(gpt.pk), "input_usd": "1.5", "output_usd": "6", "cached_usd": "", "effective_from": "",
            "effective_to": "", "reason": "contract 12"}  # fmt: skip
    page = browser.post(url("set_price", acme), form, follow=True).content.decode()
    assert "acme has its own price of openai/gpt-4o." in page
    assert "Input tokens: $1.50 per 1M" in page
    price = PriceOverride.objects.get()
    figures = [(one.meter, one.unit_price_usd) for one in price.components.all()]
    assert figures == [("input", Decimal("1.5")), ("output", 6)]
    missing = browser.post(url("set_price", acme), {**form, "output_usd": ""}).content.decode()
    assert "A price for output is missing" in missing
    listed = browser.get(reverse("admin:llm_priceoverride_changelist")).content.decode()
    assert "contract 12" in listed
    assert "in force" in listed
    end = reverse("admin:llm_priceoverride_end", args=(price.pk,))
    said = browser.post(end, {"reason": "the contract is over"}, follow=True).content.decode()
    assert "acme pays the list price of openai/gpt-4o again." in said
    price.refresh_from_db()
    assert price.effective_to is not None
    assert AuditEvent.objects.get(action="end").reason == "the contract is over"
    assert "Its own prices" not in page_of(browser, acme)


def test_a_tiers_markup_is_edited_and_audited_and_tenants_say_whose_they_have(
    browser: Client, acme: Tenant, globex: Tenant
) -> None:
    terms, _ = TierTerms.objects.get_or_create(tier="professional")
    Tenant.objects.filter(pk=globex.pk).update(markup_percent=Decimal(3))
    change = reverse("admin:tenants_tierterms_change", args=(terms.pk,))
    browser.post(change, {"markup_percent": "12.5", "byok_fee_percent": "1", "change_reason": "new list"})
    terms.refresh_from_db()
    assert (terms.markup_percent, terms.byok_fee_percent) == (Decimal("12.5"), 1)
    event = AuditEvent.objects.get(action="update")
    assert (event.before["markup_percent"], event.after["markup_percent"], event.reason) == (
        "0.0000", "12.5000", "new list",
    )  # fmt: skip
    listed = browser.get(reverse("admin:tenants_tenant_changelist")).content.decode()
    assert "12.5 %" in listed
    assert "3 %" in listed
    page = page_of(browser, acme)
    assert "the list price plus 12.5 % (as its tier), with own keys 1 % of it (as its tier)" in page


def test_a_budget_that_will_run_out_is_on_the_dashboard_and_on_the_tenants_page(
    browser: Client, acme: Tenant, globex: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = rows.NOW  # the 22nd: 21.5 of 30 days have passed
    monkeypatch.setattr(timezone, "now", lambda: noon)
    Tenant.objects.update(budget_limit_monthly=Decimal(50))
    first = noon.date().replace(day=1)
    rows.window("tenant", acme.pk, "month", first, "38")  # 53.02 at this pace
    rows.window("tenant", globex.pk, "month", first, "30")  # 41.86
    page = browser.get(reverse("admin:index")).content.decode()
    ahead = page[page.index("Budgets that will run out") : page.index("Dearest models")]
    assert "acme" in ahead
    assert "used up on 2026-11-29" in ahead
    assert "$53.02 in all of $50.00" in ahead
    assert "globex" not in ahead
    assert "at this pace $53.02 in all, used up on 2026-11-29" in page_of(browser, acme)
    assert "at this pace $41.86 in all" in page_of(browser, globex)


def test_a_keys_and_a_configs_page_say_what_their_own_budgets_come_to(
    browser: Client, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timezone, "now", lambda: rows.NOW)
    first = rows.NOW.date().replace(day=1)
    limited = {"budget_limit_monthly": Decimal(50)}
    key, config = cast.make_key(acme, **limited)[0], cast.make_config(acme, **limited)
    Tenant.objects.update(budget_limit_monthly=Decimal(1000))
    for kind, pk, spent in (("tenant", acme.pk, "70"), ("key", key.pk, "38"), ("config", config.pk, "30")):
        rows.window(kind, pk, "month", first, spent)
    keys_page = browser.get(reverse("admin:tenants_apikey_change", args=(key.pk,))).content.decode()
    assert "at this pace $53.02 in all, used up on 2026-11-29" in keys_page
    configs_page = browser.get(reverse("admin:llm_llmconfig_change", args=(config.pk,))).content.decode()
    assert "at this pace $41.86 in all" in configs_page
    assert "$53.02" not in configs_page


# Each: the moment, and what every tenant has spent of 100 USD in the month that it is in its time zone.
AROUND_THE_FIRST = [
    ("2026-11-30T20:00", "50"),  # the 1st of December from UTC+4 on
    ("2026-12-01T00:30", "50"),
    ("2026-12-01T06:00", "4"),
    ("2026-12-01T13:00", "99"),  # the 2nd in Kiritimati; the 1st in all others
    ("2026-12-02T09:59", "5.5"),  # the 3rd there, while the first day of it has passed nowhere west of Hawaii
    ("2026-12-31T11:00", "97"),
    ("2026-03-01T12:00", "3.4"),
]
ZONES = ("Pacific/Kiritimati", "Pacific/Auckland", "Europe/Zurich", "UTC", "America/Santiago", "Pacific/Pago_Pago",
         "Etc/GMT+12")  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize(("moment", "spent"), AROUND_THE_FIRST)
def test_the_dashboard_names_exactly_the_budgets_whose_own_forecast_says_that_they_run_out(
    moment: str, spent: str, django_assert_num_queries: Any
) -> None:
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    expected = []
    for number, zone in enumerate(ZONES):
        limit = Decimal(100)
        tenant = cast.make_tenant(f"t{number}", timezone=zone, budget_limit_monthly=limit)
        first = windows.starts_on("month", windows.billing_day(now, zone))
        rows.window("tenant", tenant.pk, "month", first, spent)
        ahead = forecast.of(spent=Decimal(spent), limit=limit, period="month", timezone=zone, now=now)
        if ahead.runs_out_at is not None:
            expected.append((tenant.slug, f"{ahead.runs_out_at:%Y-%m-%d}"))
    with django_assert_num_queries(1):
        found = limits.running_out(now)
    assert sorted((row["name"], row["on"]) for row in found) == sorted(expected)


def test_of_too_many_budgets_the_dashboard_looks_at_those_nearest_to_their_limit(
    monkeypatch: pytest.MonkeyPatch, acme: Tenant, globex: Tenant
) -> None:
    monkeypatch.setattr(limits, "MOST_LOOKED_AT", 1)
    first = rows.NOW.date().replace(day=1)
    for tenant, limit, spent in ((acme, "5000", "4000"), (globex, "50", "49")):
        Tenant.objects.filter(pk=tenant.pk).update(budget_limit_monthly=Decimal(limit))
        rows.window("tenant", tenant.pk, "month", first, spent)
    assert [row["name"] for row in limits.running_out(rows.NOW)] == ["globex"]


@pytest.mark.parametrize(
    ("action", "permission", "form"),
    [
        ("grant_credits", "billing.add_creditentry", {"amount": "1", "source": "other", "reason": "x"}),
        ("adjust", "billing.add_adjustment", {"billed_usd": "1", "reason": "x"}),
    ],
)
def test_a_page_is_for_whom_may_do_it(client: Client, acme: Tenant, action: str, permission: str, form: Any) -> None:
    clerk = User.objects.create_user("clerk", is_staff=True)
    client.force_login(clerk)
    for method in (client.get, client.post):
        assert method(url(action, acme), form).status_code == 403
    assert (CreditEntry.objects.count(), Adjustment.objects.count()) == (0, 0)
    app, _, codename = permission.partition(".")
    for one in Permission.objects.filter(content_type__app_label=app, codename=codename):
        clerk.user_permissions.add(one)
    client.force_login(User.objects.get(pk=clerk.pk))
    assert client.post(url(action, acme), form).status_code == 302
    assert CreditEntry.objects.count() + Adjustment.objects.count() == 1


def test_the_tenants_page_opens_in_few_queries_however_many_grants_it_has(
    browser: Client, acme: Tenant, django_assert_max_num_queries: Any
) -> None:
    for number in range(6):
        browser.post(url("grant_credits", acme), {"amount": str(number + 1), "source": "other", "reason": "x"})
    page_of(browser, acme)
    with django_assert_max_num_queries(35):
        page_of(browser, acme)
