"""Roll-ups add up exactly, however often, in whatever order and however rudely interrupted they run."""

import random
import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection, connections, transaction
from django.db.models import Sum

from billing import rollup
from billing.models import DailyUsage, RolledDay, UsageRecord
from billing.rollup_models import DailyUserUsage
from tests.billing.made import LONG_AGO, NOW, TODAY, a_tenant, adjust, an_id, spend

pytestmark = pytest.mark.django_db


def figures():
    """Everything DailyUsage says, without the ids of its rows."""
    return sorted(str({k: v for k, v in row.items() if k != "id"}) for row in DailyUsage.objects.values())


def test_a_day_is_summed_exactly_per_combination_of_dimensions():
    acme, key = a_tenant(), an_id()
    for _ in range(3):
        spend(acme.pk, "0.0075000001", day=LONG_AGO, key_id=key, user_id="7")
    spend(acme.pk, "0.1", day=LONG_AGO, key_id=key, user_id="7", status="failed", status_code=502, latency_ms=70_000)
    spend(acme.pk, "0", day=LONG_AGO, key_id=key, user_id="7", used_byok=True, ttft_ms=None)

    assert rollup.roll_up_day(day=LONG_AGO, now=NOW) == 2

    row = DailyUsage.objects.get(used_byok=False)
    assert (row.requests, row.errors, row.byok_requests) == (4, 1, 0)
    assert (row.prompt_tokens, row.completion_tokens, row.total_tokens) == (400, 80, 480)
    assert row.cost_total_usd == row.billed_usd == row.budget_usd == Decimal("0.1225000003")
    assert row.latency_ms_sum == 70_900
    assert row.latency_histogram == {"250-300": 3, "60000-120000": 1}
    assert row.ttft_histogram == {"100-150": 4}
    own_key = DailyUsage.objects.get(used_byok=True)
    assert (own_key.requests, own_key.byok_requests, sum(own_key.ttft_histogram.values())) == (1, 1, 0)


def test_the_bounds_of_the_histogram_are_included_and_every_request_is_in_one_bucket():
    acme = a_tenant()
    for latency in (0, 25, 26, 50, 600_000, 600_001):
        spend(acme.pk, day=LONG_AGO, latency_ms=latency)
    rollup.roll_up_day(day=LONG_AGO, now=NOW)
    histogram = DailyUsage.objects.get().latency_histogram
    assert histogram == {"0-25": 2, "25-50": 2, "300000-600000": 1, "600000-inf": 1}


def test_adjustments_change_the_money_of_their_row_and_count_as_no_request():
    acme, key, model = a_tenant(), an_id(), an_id()
    same = {"key_id": key, "model_id": model, "provider_slug": "openai", "model_name": "gpt-4o"}
    spend(acme.pk, "1", day=LONG_AGO, **same)
    adjust(acme, "-0.25", day=LONG_AGO, billed_usd=Decimal("-0.3"), **same)
    adjust(acme, "-2", day=LONG_AGO)

    rollup.roll_up_day(day=LONG_AGO, now=NOW)

    joined, alone = DailyUsage.objects.order_by("-cost_total_usd")
    assert (joined.requests, joined.cost_total_usd, joined.billed_usd) == (1, Decimal("0.75"), Decimal("0.7"))
    assert (alone.requests, alone.cost_total_usd, sum(alone.latency_histogram.values())) == (0, Decimal(-2), 0)


def test_twenty_thousand_times_a_fraction_of_a_cent_is_exact():
    acme = a_tenant()
    UsageRecord.objects.bulk_create(
        UsageRecord(
            tenant_id=acme.pk,
            cost_total_usd=Decimal("0.0075"),
            status="completed",
            status_code=200,
            billing_day=LONG_AGO,
            created_at=NOW,
        )
        for _ in range(20_000)
    )
    rollup.roll_up_day(day=LONG_AGO, now=NOW)
    assert DailyUsage.objects.aggregate(all=Sum("cost_total_usd"))["all"] == Decimal(150)


def test_rolling_up_again_changes_nothing():
    acme = a_tenant()
    spend(acme.pk, "0.3", day=LONG_AGO)
    rollup.roll_up_day(day=LONG_AGO, now=NOW)
    before = figures()
    rollup.roll_up_day(day=LONG_AGO, now=NOW)
    assert figures() == before


def test_only_a_day_that_nobody_can_add_to_is_marked():
    acme = a_tenant()
    for ago in range(5):
        spend(acme.pk, day=TODAY - timedelta(days=ago))
    written = rollup.roll_up(now=NOW)
    assert written == {(TODAY - timedelta(days=ago)).isoformat(): 1 for ago in range(5)}
    marked = set(RolledDay.objects.values_list("pk", flat=True))
    assert marked == {TODAY - timedelta(days=3), TODAY - timedelta(days=4)}
    assert DailyUsage.objects.count() == 5


def test_missed_days_are_caught_up_and_marked_ones_left_alone():
    acme = a_tenant()
    spend(acme.pk, day=LONG_AGO)
    rollup.roll_up(now=NOW)
    spend(acme.pk, day=LONG_AGO - timedelta(days=30))
    adjust(acme, "1", day=LONG_AGO - timedelta(days=40))
    assert list(rollup.roll_up(now=NOW)) == [
        (LONG_AGO - timedelta(days=40)).isoformat(),
        (LONG_AGO - timedelta(days=30)).isoformat(),
    ]
    assert rollup.roll_up(now=NOW) == {}


def test_a_day_whose_mark_was_taken_away_is_rolled_up_again():
    acme = a_tenant()
    spend(acme.pk, "1", day=LONG_AGO)
    rollup.roll_up(now=NOW)
    spend(acme.pk, "2", day=LONG_AGO)
    RolledDay.objects.all().delete()
    rollup.roll_up(now=NOW)
    assert DailyUsage.objects.aggregate(all=Sum("cost_total_usd"))["all"] == Decimal(3)


@pytest.mark.django_db(transaction=True)
def test_killed_half_way_it_leaves_the_old_roll_up_and_no_mark(monkeypatch):
    acme = a_tenant()
    spend(acme.pk, "1", day=LONG_AGO)
    rollup.roll_up(now=NOW)
    spend(acme.pk, "2", day=LONG_AGO)
    RolledDay.objects.all().delete()
    before = figures()

    def die(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(DailyUsage._default_manager, "bulk_create", die)
    with pytest.raises(KeyboardInterrupt):
        rollup.roll_up_day(day=LONG_AGO, now=NOW)
    assert figures() == before
    assert not RolledDay.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_roll_ups_of_one_day_at_the_same_time_take_turns():
    acme = a_tenant()
    for number in range(20):
        spend(acme.pk, day=LONG_AGO, user_id=str(number))
    start, failures = threading.Barrier(4), []

    def work():
        start.wait()
        try:
            for _ in range(5):
                rollup.roll_up_day(day=LONG_AGO, now=NOW)
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (DailyUsage.objects.count(), DailyUserUsage.objects.count()) == (1, 20)
    assert DailyUserUsage.objects.aggregate(all=Sum("requests"))["all"] == 20
    assert DailyUsage.objects.aggregate(all=Sum("requests"))["all"] == 20


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("config.getoption('--db') == 'sqlite'", reason="SQLite has one writer at a time")
def test_a_late_settlement_during_a_roll_up_waits_and_takes_the_mark_away(monkeypatch):
    acme = a_tenant()
    spend(acme.pk, "1", day=LONG_AGO)
    rolling, settled = threading.Event(), threading.Event()
    number = rollup._number

    def slowly(day):
        found = number(day)
        if connection.in_atomic_block:
            rolling.set()
            assert not settled.wait(0.5)  # it must be waiting for us
        return found

    def settle():
        rolling.wait()
        with transaction.atomic():
            spend(acme.pk, "2", day=LONG_AGO)
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO billing_rolled_days (billing_day, rolled_at) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    [LONG_AGO, NOW],
                )
                cursor.execute("DELETE FROM billing_rolled_days WHERE billing_day = %s", [LONG_AGO])
        settled.set()
        connections.close_all()

    monkeypatch.setattr(rollup, "_number", slowly)
    thread = threading.Thread(target=settle)
    thread.start()
    rollup.roll_up_day(day=LONG_AGO, now=NOW)
    thread.join()
    assert not RolledDay.objects.exists()
    monkeypatch.undo()
    rollup.roll_up(now=NOW)
    assert DailyUsage.objects.aggregate(all=Sum("cost_total_usd"))["all"] == Decimal(3)


def test_what_is_settled_while_a_closed_day_is_summed_is_in_its_roll_up(monkeypatch):
    acme = a_tenant()
    spend(acme.pk, "1", day=LONG_AGO)
    made = rollup._made

    def meanwhile(day, closed):
        rows = made(day, closed)
        if UsageRecord.objects.count() == 1:
            spend(acme.pk, "2", day=day)
        return rows

    monkeypatch.setattr(rollup, "_made", meanwhile)
    rollup.roll_up_day(day=LONG_AGO, now=NOW)
    assert DailyUsage.objects.aggregate(all=Sum("cost_total_usd"))["all"] == Decimal(3)
    assert RolledDay.objects.exists()


def test_any_order_of_spending_and_rolling_ends_in_the_same_sums():
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    acme, globex = a_tenant(), a_tenant("globex")
    days = [LONG_AGO - timedelta(days=n) for n in range(3)]
    truth = Decimal(0)
    for _ in range(60):
        day, amount = dice.choice(days), Decimal(dice.randrange(10**9)).scaleb(-10)
        truth += amount
        spend(dice.choice([acme, globex]).pk, amount, day=day, user_id=dice.choice("abc"))
        RolledDay.objects.filter(pk=day).delete()
        if dice.random() < 0.4:
            rollup.roll_up_day(day=dice.choice(days), now=NOW)
    rollup.roll_up(now=NOW)
    assert DailyUsage.objects.aggregate(all=Sum("budget_usd"))["all"] == truth, f"seed {seed}"
    assert DailyUsage.objects.aggregate(all=Sum("requests"))["all"] == 60, f"seed {seed}"
