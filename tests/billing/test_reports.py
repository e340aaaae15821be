"""Reports say the same whether a day is rolled up or live, and never mix tenants."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from billing import reports, rollup
from billing.models import BudgetWindow, DailyUsage, Hold, RolledDay, UsageRecord
from billing.rollup_models import DailySlice, OpenDay
from billing.windows import window_key
from tenants.errors import InvalidValue
from tests.billing.made import LONG_AGO, NOW, TODAY, a_key, a_tenant, adjust, an_id, spend

pytestmark = pytest.mark.django_db


def summary(group_by="day", *, tenant=None, start=LONG_AGO, end=TODAY):
    return reports.summary(tenant_id=tenant and tenant.pk, start=start, end=end, group_by=group_by)


@pytest.fixture
def acme():
    """Acme used two models on an old day and today, with one failure, one own key and one adjustment each day."""
    tenant = a_tenant()
    key, _ = a_key(tenant, name="nightly")
    for day in (LONG_AGO, TODAY):
        common = {"day": day, "key_id": key.pk, "power_level": "eco", "task_type": "code", "user_id": "7"}
        spend(tenant.pk, "0.0000000003", **common)
        spend(tenant.pk, "0.5", **common, status="failed", status_code=502, latency_ms=901)
        spend(
            tenant.pk,
            "2",
            **{**common, "user_id": ""},
            provider_slug="anthropic",
            model_name="claude",
            used_byok=True,
            billed_usd=Decimal("0.02"),
        )
        adjust(tenant, "-0.1", day=day, key_id=key.pk, provider_slug="openai", model_name="gpt-4o")
    return tenant


def test_a_summary_by_day_has_every_column_exactly(acme):
    old, today = summary(tenant=acme)
    assert old == {
        "day": LONG_AGO,
        "requests": 3,
        "prompt_tokens": 300,
        "completion_tokens": 60,
        "total_tokens": 360,
        "cost_usd": Decimal("2.4000000003"),
        "billed_usd": Decimal("0.4200000003"),
        "avg_cost_usd": Decimal("0.8000000001"),
        "avg_latency_ms": 500,  # (300 + 901 + 300) / 3 = 500.33
        "byok_requests": 1,
        "errors": 1,
    }
    assert {**old, "day": TODAY} == today


@pytest.mark.parametrize("group_by", list(reports.GROUPS))
def test_a_rolled_up_day_reads_like_a_live_one(acme, group_by):
    live = summary(group_by, tenant=acme)
    rollup.roll_up(now=NOW)
    assert DailyUsage.objects.filter(billing_day=LONG_AGO).exists()
    assert summary(group_by, tenant=acme) == live


def test_days_are_read_from_their_roll_up_and_what_came_since_on_open_ones_live(acme):
    rollup.roll_up(now=NOW)
    DailySlice.objects.filter(cut="all").update(requests=1000)
    assert [row["requests"] for row in summary(tenant=acme)] == [1000, 1000]
    spend(acme.pk, day=TODAY, created_at=NOW)
    adjust(acme, "0.5", day=TODAY)
    assert [row["requests"] for row in summary(tenant=acme)] == [1000, 1001]
    # A day of a former release has no slices yet.
    DailyUsage.objects.update(requests=3000)
    RolledDay.objects.update(slices=None)
    assert [row["requests"] for row in summary(tenant=acme)] == [9000, 6001]  # three combinations, one the adjustment
    OpenDay.objects.all().delete()
    assert [row["requests"] for row in summary(tenant=acme)] == [9000, 4]


def test_an_open_day_is_rolled_up_as_far_as_nothing_is_under_way(acme):
    held = spend(acme.pk, day=TODAY)  # its id is the next one's predecessor
    UsageRecord.objects.filter(pk=held.pk).delete()
    Hold.objects.create(
        pk=held.pk, owner=an_id(), tenant_id=acme.pk, amount=1, windows=[], billing_day=TODAY, facts={}, created_at=NOW
    )
    spend(acme.pk, day=TODAY)
    rollup.roll_up(now=NOW)
    assert OpenDay.objects.get().upto == held.pk
    assert [row["requests"] for row in summary(tenant=acme)][-1] == 4
    Hold.objects.all().delete()
    UsageRecord.objects.bulk_create([held])  # settled after the roll-up, older than what is rolled up
    assert [row["requests"] for row in summary(tenant=acme)][-1] == 5


@pytest.mark.parametrize(
    ("group_by", "keys"),
    [
        ("month", ["2026-11"]),
        ("model", ["anthropic/claude", "openai/gpt-4o"]),
        ("provider", ["anthropic", "openai"]),
        ("user", ["", "7"]),
        ("power_level", ["eco", ""]),
        ("task_type", ["code", ""]),
        ("byok", [True, False]),
        ("config", [None]),
    ],
)
def test_groups_are_named_and_dearest_first(acme, group_by, keys):
    assert [row[group_by] for row in summary(group_by, tenant=acme)] == keys


def test_a_key_is_named_too(acme):
    (row,) = summary("key", tenant=acme)
    assert row["key_name"] == "nightly"
    assert row["requests"] == 6


def test_months_are_folded_in_order():
    acme = a_tenant()
    for day in (date(2026, 10, 31), date(2026, 11, 1), date(2026, 11, 30)):
        spend(acme.pk, "1", day=day)
    rows = summary("month", tenant=acme, start=date(2026, 1, 1), end=date(2026, 12, 31))
    assert [(row["month"], row["cost_usd"]) for row in rows] == [("2026-10", Decimal(1)), ("2026-11", Decimal(2))]


def test_a_tenant_reads_only_its_own_rows_and_staff_all(acme):
    globex = a_tenant("globex")
    spend(globex.pk, "9", day=LONG_AGO)
    adjust(globex, "1", day=LONG_AGO)
    for _ in range(2):  # live, then rolled up
        assert sum(row["cost_usd"] for row in summary(tenant=globex)) == 10
        assert sum(row["cost_usd"] for row in summary(tenant=acme)) == Decimal("4.8000000006")
        assert sum(row["cost_usd"] for row in summary()) == Decimal("14.8000000006")
        rollup.roll_up(now=NOW)


def test_an_adjustment_without_requests_divides_by_nothing():
    acme = a_tenant()
    adjust(acme, "-3")
    for group_by in reports.GROUPS:
        (row,) = summary(group_by, tenant=acme)
        assert (row["requests"], row["cost_usd"], row["avg_cost_usd"], row["avg_latency_ms"]) == (0, -3, 0, 0)


def test_nothing_used_is_no_rows():
    assert all(summary(group_by) == [] for group_by in reports.GROUPS)


def test_days_outside_the_span_are_left_out(acme):
    assert summary(tenant=acme, start=LONG_AGO + timedelta(days=1), end=TODAY - timedelta(days=1)) == []


def test_an_unknown_group_is_refused():
    with pytest.raises(InvalidValue) as refused:
        summary("model_name; DROP TABLE")
    assert refused.value.param == "group_by"


def test_the_total_is_the_sum_of_the_rows(acme):
    _, whole = reports.summary_and_total(tenant_id=acme.pk, start=LONG_AGO, end=TODAY, group_by="model")
    assert whole["requests"] == 6
    assert whole["cost_usd"] == Decimal("4.8000000006")
    assert whole["avg_cost_usd"] == Decimal("0.8000000001")
    assert whole["avg_latency_ms"] == 500


def test_top_models_are_the_dearest(acme):
    rows = reports.top_models(start=LONG_AGO, end=TODAY, limit=1)
    assert [(row["model"], row["provider"], row["cost_usd"]) for row in rows] == [
        ("anthropic/claude", "anthropic", Decimal(4))
    ]


def test_user_stats_count_one_users_last_days(acme):
    stats = reports.user_stats(user_id="7", days=1, now=NOW)
    assert stats["total_requests"] == 2
    assert stats["total_tokens"] == 240
    assert stats["total_cost_usd"] == Decimal("0.5000000003")
    assert stats["byok_share"] == 0
    assert [row["model"] for row in stats["by_model"]] == ["openai/gpt-4o"]
    assert reports.user_stats(user_id="7", days=30, now=NOW)["total_requests"] == 4
    assert reports.user_stats(user_id="", days=30, now=NOW, tenant_id=acme.pk)["byok_share"] == 1
    assert reports.user_stats(user_id="nobody", days=30, now=NOW)["avg_latency_ms"] == 0


def test_limits_say_what_is_left_and_when_they_reset():
    acme, key = a_tenant(), an_id()
    starts = {"day": date(2026, 11, 23), "month": date(2026, 11, 1)}  # it is the 23rd already in Auckland
    for kind, scope_id in (("tenant", acme.pk), ("key", key)):
        for period, starts_on in starts.items():
            BudgetWindow.objects.create(
                pk=window_key(kind, scope_id, period, starts_on),
                scope_kind=kind,
                scope_id=scope_id,
                period=period,
                starts_on=starts_on,
                spent=Decimal("1.5"),
                held=Decimal("0.25"),
            )
    rows = reports.limits_of(
        scopes=[
            reports.Limited(kind="key", id=key, daily=Decimal(1), monthly=None),
            reports.Limited(kind="tenant", id=acme.pk, daily=None, monthly=Decimal(20)),
        ],
        timezone="Pacific/Auckland",
        now=NOW,
    )
    assert [(row["scope"], row["period"], row["limit"], row["left"]) for row in rows] == [
        ("key", "day", 1, 0),  # overdrawn by a price nobody knew: nothing is left, not less than nothing
        ("key", "month", None, None),
        ("tenant", "day", None, None),
        ("tenant", "month", 20, Decimal("18.25")),
    ]
    assert {(row["spent"], row["held"]) for row in rows} == {(Decimal("1.5"), Decimal("0.25"))}
    assert rows[0]["resets_at"] == datetime(2026, 11, 23, 11, tzinfo=UTC)
    assert rows[1]["resets_at"] == datetime(2026, 11, 30, 11, tzinfo=UTC)


def test_usage_rows_are_found_by_each_filter():
    acme, key, config, model, provider = a_tenant(), an_id(), an_id(), an_id(), an_id()
    wanted = spend(
        acme.pk, day=LONG_AGO, key_id=key, config_id=config, model_id=model, provider_id=provider, status="partial"
    )
    spend(acme.pk, provider_slug="mistral", model_name="openai/gpt-4o-mini")
    for filters in (
        {"until": LONG_AGO},
        {"until": NOW - timedelta(days=9)},
        {"model": str(model)},
        {"model": "openai/gpt-4o"},
        {"model": "gpt-4o"},
        {"provider": "openai"},
        {"provider": str(provider)},
        {"status": "partial"},
        {"key_id": key},
        {"config_id": config},
        {"since": LONG_AGO, "until": LONG_AGO, "model": "gpt-4o", "status": "partial"},
    ):
        found = reports.usage_rows(tenant_id=acme.pk, wanted=reports.Wanted(**filters))
        assert [row.pk for row in found] == [wanted.pk], filters
    assert reports.usage_rows(tenant_id=an_id(), wanted=reports.Wanted()).count() == 0
    assert reports.usage_rows(tenant_id=None, wanted=reports.Wanted()).count() == UsageRecord.objects.count() == 2
