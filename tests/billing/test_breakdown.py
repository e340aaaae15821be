"""Breakdowns say the same whether a day is rolled up or live, and closed days are never read row by row."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing import breakdown, reports, rollup
from billing.models import DailyUsage, RolledDay, UsageRecord
from tenants.models import Tenant
from tests.billing.made import LONG_AGO, NOW, TODAY, a_tenant, adjust, spend

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Tenant:
    """Two models and two users on an old day and today, with a failure, an own key, and an adjustment each day."""
    tenant = a_tenant()
    for day in (LONG_AGO, TODAY):
        spend(tenant.pk, "0.5", day=day, user_id="ada", power_level="eco", latency_ms=460, ttft_ms=70)
        spend(tenant.pk, "0", day=day, user_id="ada", status="failed", status_code=502, latency_ms=9_000, ttft_ms=None)
        spend(tenant.pk, "2", day=day, provider_slug="anthropic", model_name="claude", used_byok=True)
        adjust(tenant, "-0.1", day=day, provider_slug="openai", model_name="gpt-4o")
    return tenant


def both(tenant: Tenant | None, columns: tuple[str, ...]) -> tuple[Any, Any]:
    days = reports.days_of(LONG_AGO, TODAY)
    tenant_id = tenant and tenant.pk
    totals = breakdown.totals(tenant_id=tenant_id, days=days, columns=columns)
    times = breakdown.times(tenant_id=tenant_id, days=days, columns=columns)
    return totals, {group: (found.latency, found.ttft) for group, found in times.items() if found.latency}


@pytest.mark.parametrize("by", breakdown.COLUMNS)
def test_a_rolled_up_day_reads_like_a_live_one(acme: Tenant, by: str) -> None:
    spend(a_tenant("globex").pk, "7", day=LONG_AGO, user_id="ada")
    for tenant in (acme, None):
        live = both(tenant, breakdown.COLUMNS[by])
        rollup.roll_up(now=NOW)
        assert RolledDay.objects.filter(pk=LONG_AGO).exists()
        assert both(tenant, breakdown.COLUMNS[by]) == live
        RolledDay.objects.all().delete()


def test_the_figures_of_a_model_are_exact(acme: Tenant) -> None:
    rollup.roll_up(now=NOW)
    totals, times = both(acme, breakdown.COLUMNS["model"])
    gpt = totals["openai", "gpt-4o"]
    assert (gpt.requests, gpt.errors, gpt.byok_requests) == (4, 2, 0)
    assert gpt.cost_total_usd == Decimal("0.8")  # 2 x 0.5, less 2 x 0.1 of adjustments
    assert times["openai", "gpt-4o"] == ({"400-500": 2, "8000-10000": 2}, {"50-75": 2})
    assert times["anthropic", "claude"] == ({"250-300": 2}, {"100-150": 2})


@pytest.mark.parametrize("rolled", [True, False])
def test_the_times_of_some_groups_alone(acme: Tenant, rolled: bool) -> None:
    if rolled:
        rollup.roll_up(now=NOW)
    days = reports.days_of(LONG_AGO, TODAY)
    columns = breakdown.COLUMNS["user"]
    found = breakdown.times(tenant_id=None, days=days, columns=columns, of=[(acme.pk, "ada")])
    assert {group: one.latency for group, one in found.items()} == {(acme.pk, "ada"): {"400-500": 2, "8000-10000": 2}}
    assert breakdown.times(tenant_id=None, days=days, columns=columns, of=[]) == {}


def test_a_roll_up_with_the_former_bounds_still_adds_up(acme: Tenant) -> None:
    rollup.roll_up(now=NOW)
    former = {"50": 0, "100": 0, "200": 0, "500": 1, "1000": 0, "inf": 0}
    DailyUsage.objects.filter(billing_day=LONG_AGO, power_level="eco").update(latency_histogram=former)
    rollup.slice_day(day=LONG_AGO)
    _, times = both(acme, breakdown.COLUMNS["power_level"])
    latency, _ = times["eco",]
    assert {key: count for key, count in latency.items() if count} == {"500": 1, "400-500": 1}
    assert breakdown.Times(latency=latency).percentiles()["latency_p50"] == 425


def test_rows_of_closed_days_are_not_read(acme: Tenant) -> None:
    for ago in (3, 5, 6):  # a gap between two marked days: nothing was used then
        spend(acme.pk, day=TODAY - timedelta(days=ago))
    rollup.roll_up(now=NOW)
    newer = spend(acme.pk, day=TODAY, created_at=NOW)
    days = reports.days_of(LONG_AGO, TODAY)
    live, newest = days.of_rows(UsageRecord.objects.all())
    assert not live.exists()
    assert list(newest) == [newer]  # of the open day, what came after its roll-up
    assert "NOT" not in str(live.query)  # ranges, which the index on the day finds


@pytest.mark.parametrize("marked", [(), (0,), (0, 1, 2), (2,), (1,), (0, 2)])
def test_every_day_is_either_rolled_or_live(marked: tuple[int, ...]) -> None:
    acme = a_tenant()
    days = [LONG_AGO + timedelta(days=number) for number in range(3)]
    for day in (LONG_AGO - timedelta(days=1), *days, LONG_AGO + timedelta(days=3)):
        spend(acme.pk, day=day)
    for number in marked:
        RolledDay.objects.create(billing_day=days[number], rolled_at=NOW)
    found = reports.days_of(days[0], days[-1])
    live = UsageRecord.objects.filter(found.live).order_by("billing_day").values_list("billing_day", flat=True)
    assert list(live) == [day for number, day in enumerate(days) if number not in marked]
    rolled = UsageRecord.objects.filter(found.rolled).values_list("billing_day", flat=True)
    assert sorted(rolled) == [days[number] for number in marked]
