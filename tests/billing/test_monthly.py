"""Months are summed from their days, lose their mark with any of them, and say what the rows say."""

import random
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.db import transaction

from billing import posting, reconcile, reports, rollup, rows
from billing.models import DailyUsage, RolledDay, UsageRecord
from billing.rollup_models import DailySlice, MonthlySlice, MonthlyUsage, OpenDay, RolledMonth
from tests.billing.made import NOW, TODAY, a_tenant, adjust, an_id, spend

pytestmark = pytest.mark.django_db

START = date(2026, 8, 20)  # August's end, September and October whole, November so far


def settle_late(day, usd="1", **fields):
    """As the ledger does: the row and its day's mark in one transaction."""
    with transaction.atomic():
        spend(fields.pop("tenant_id"), usd, day=day, **fields)
        posting.reopen(rows.cursor_of(), day, NOW)


def everything(tenant_id=None):
    """Every grouping of reports over months, parts of months and open days."""
    return {
        (group, start): reports.summary_and_total(tenant_id=tenant_id, start=start, end=TODAY, group_by=group)
        for group in reports.GROUPS
        for start in (START, date(2026, 9, 1), date(2026, 9, 2))
    }


def test_months_days_and_rows_say_the_same_in_every_report():
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    tenants = [a_tenant(), a_tenant("globex")]
    keys, config = [an_id(), an_id(), None], an_id()
    for number in range(120):
        tenant, day = dice.choice(tenants), START + timedelta(days=dice.randrange((TODAY - START).days + 1))
        model = {"provider_slug": "openai", "model_name": dice.choice(["gpt-4o", "gpt-5"]), "key_id": dice.choice(keys)}
        if number % 6 == 0:
            adjust(tenant, Decimal(dice.randrange(-(10**9), 10**9)).scaleb(-10), day=day, **model)
            continue
        spend(
            tenant.pk, Decimal(dice.randrange(10**9)).scaleb(-10), day=day, used_byok=dice.random() < 0.3,
            user_id=dice.choice("ab"), config_id=dice.choice([config, None]), power_level=dice.choice(["eco", ""]),
            task_type=dice.choice(["coding", ""]), status_code=dice.choice([200, 502]), latency_ms=number, **model,
        )  # fmt: skip
    from_rows = [everything(), everything(tenants[0].pk)]
    rollup.roll_up(now=NOW)
    assert set(rollup.roll_up_months(now=NOW)) == {"2026-08", "2026-09", "2026-10"}
    assert [everything(), everything(tenants[0].pk)] == from_rows, f"seed {seed}"
    assert [*reconcile._rolled_days(NOW), *reconcile._rolled_months(NOW)] == [], f"seed {seed}"
    # Days of a former release are read as before, get their slices out of their roll-ups alone, and months with them.
    slices = DailySlice.objects.count(), MonthlySlice.objects.count()
    for model in (DailySlice, MonthlySlice, RolledMonth):
        model.objects.all().delete()
    RolledDay.objects.update(slices=None, pruned_at=NOW)
    OpenDay.objects.all().delete()
    assert rollup.roll_up_months(now=NOW) == {}
    assert [everything(), everything(tenants[0].pk)] == from_rows, f"seed {seed}"
    rollup.roll_up(now=NOW)
    assert len(rollup.roll_up_months(now=NOW)) == 3
    assert (DailySlice.objects.count(), MonthlySlice.objects.count()) == slices
    assert [everything(), everything(tenants[0].pk)] == from_rows, f"seed {seed}"
    # Whole months are read from nothing else.
    DailyUsage.objects.filter(billing_day__month__in=(9, 10)).delete()
    DailySlice.objects.filter(billing_day__month__in=(9, 10)).delete()
    UsageRecord.objects.filter(billing_day__month__in=(9, 10)).delete()
    whole = reports.summary_and_total(tenant_id=None, start=date(2026, 9, 1), end=TODAY, group_by="key")
    assert whole == from_rows[0]["key", date(2026, 9, 1)], f"seed {seed}"


def test_a_month_is_rolled_when_it_is_over_and_every_day_with_rows_has_its_mark():
    acme, october = a_tenant(), date(2026, 10, 1)
    spend(acme.pk, "1", day=october, user_id="one")
    spend(acme.pk, "2", day=date(2026, 10, 31), user_id="another")
    adjust(acme, "-0.5", day=TODAY.replace(day=1))
    rollup.roll_up_day(day=october, now=NOW)
    assert rollup.roll_up_months(now=NOW) == {}
    rollup.roll_up(now=NOW)
    assert rollup.roll_up_months(now=NOW) == {"2026-10": 1}  # November goes on
    assert rollup.roll_up_months(now=NOW) == {}
    row = MonthlyUsage.objects.get()
    assert (row.requests, row.total_tokens, row.cost_total_usd) == (2, 240, Decimal(3))


def test_a_late_row_takes_the_months_mark_away_and_the_next_roll_up_has_it():
    acme = a_tenant()
    spend(acme.pk, "1", day=date(2026, 10, 1))
    rollup.roll_up(now=NOW)
    rollup.roll_up_months(now=NOW)
    settle_late(date(2026, 10, 7), tenant_id=acme.pk)  # a day that had nothing
    assert not RolledMonth.objects.exists()
    assert rollup.roll_up_months(now=NOW) == {}
    rollup.roll_up(now=NOW)
    rollup.roll_up_months(now=NOW)
    assert MonthlyUsage.objects.get().cost_total_usd == 2
    # A day that is rolled up again may say something else, too.
    rollup.roll_up_day(day=date(2026, 10, 1), now=NOW)
    assert (RolledDay.objects.count(), RolledMonth.objects.count()) == (2, 0)


def test_what_comes_while_a_month_is_summed_leaves_it_without_a_mark(monkeypatch):
    acme = a_tenant()
    spend(acme.pk, "1", day=date(2026, 10, 1))
    rollup.roll_up(now=NOW)
    summed = rollup._summed

    def meanwhile(*asked):
        found = summed(*asked)
        settle_late(date(2026, 10, 1), tenant_id=acme.pk)
        return found

    monkeypatch.setattr(rollup, "_summed", meanwhile)
    assert rollup.roll_up_months(now=NOW) == {}
    assert (RolledMonth.objects.count(), MonthlyUsage.objects.count()) == (0, 0)
