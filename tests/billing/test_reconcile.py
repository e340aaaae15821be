"""`reconcile` finds every cent that is off, says where, keeps no writer waiting, and is right under traffic."""

import threading
import time
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction

from billing import reconcile, rollup
from billing.models import BudgetWindow, DailyUsage, Hold, RolledDay, UsageRecord
from billing.rollup_models import COUNTS, MONEY, DailySlice, OpenDay
from tests.billing.made import LONG_AGO, NOW, TODAY, a_tenant, add, adjust, an_id, spend

pytestmark = pytest.mark.django_db(transaction=True)

CENT = Decimal("0.0000000001")


def hold(tenant, keys, amount="0.5"):
    Hold.objects.create(
        id=an_id(),
        owner=an_id(),
        tenant_id=tenant.pk,
        amount=Decimal(amount),
        windows=keys,
        billing_day=TODAY,
        facts={},
        created_at=NOW,
    )


@pytest.fixture
def acme():
    """Acme with usage, adjustments and a hold, by tenant, key and config, over two months; the old days rolled up."""
    tenant, key, config = a_tenant(), an_id(), an_id()
    for day in (LONG_AGO - timedelta(days=30), LONG_AGO, TODAY):
        spend(tenant.pk, "0.0000000007", day=day, key_id=key, config_id=config)
        spend(tenant.pk, "1.1", day=day, key_id=key, billed_usd=Decimal(0))
        adjust(tenant, "-0.3", day=day, key_id=key)
    rollup.roll_up(now=NOW)
    held = [f"tenant:{tenant.pk}:day:{TODAY}", f"tenant:{tenant.pk}:month:{TODAY.replace(day=1)}"]
    hold(tenant, held)
    hold(tenant, held[:1], "0.25")
    BudgetWindow.objects.filter(pk=held[0]).update(held=Decimal("0.75"))
    BudgetWindow.objects.filter(pk=held[1]).update(held=Decimal("0.5"))
    return tenant


def differences():
    return [(each.figure, each.expected, each.found) for each in reconcile.check(now=NOW)]


def test_books_that_agree_have_no_difference(acme):
    assert differences() == []


def test_an_empty_database_agrees():
    assert differences() == []


def test_a_window_off_by_the_last_digit_is_found(acme):
    window = BudgetWindow.objects.filter(scope_kind="key", period="month").first()
    add(BudgetWindow.objects.filter(pk=window.pk), "spent", CENT)
    (difference,) = reconcile.check(now=NOW)
    assert (difference.figure, difference.where) == ("spent", window.pk)
    assert difference.found - difference.expected == CENT


def test_a_missing_window_is_found(acme):
    BudgetWindow.objects.filter(scope_kind="config", starts_on=TODAY).delete()
    assert differences() == [("spent", Decimal("0.0000000007"), 0)]


def test_usage_that_no_window_counted_is_found_in_each_window(acme):
    row = spend(acme.pk, "5", key_id=an_id(), created_at=NOW)
    UsageRecord.objects.filter(pk=row.pk).update(budget_usd=Decimal(6))
    assert len(differences()) == 4  # tenant and key, day and month


def test_money_held_for_nobody_is_found(acme):
    Hold.objects.filter(amount=Decimal("0.25")).delete()
    assert differences() == [("held", Decimal("0.5"), Decimal("0.75"))]


def test_a_hold_of_a_settled_request_is_found(acme):
    settled = UsageRecord.objects.first()
    Hold.objects.filter(amount=Decimal("0.25")).update(id=settled.pk)
    assert differences() == [("holds", 0, 1)]


@pytest.mark.parametrize("column", ["cost_total_usd", "billed_usd", "budget_usd", "requests", "total_tokens"])
def test_a_wrong_roll_up_is_found_in_each_column(acme, column):
    row = DailyUsage.objects.filter(billing_day=LONG_AGO).first()
    step = CENT if column.endswith("_usd") else 1
    DailyUsage.objects.filter(pk=row.pk).update(**{column: getattr(row, column) + step})
    found = reconcile.check(now=NOW)
    (difference,) = [one for one in found if not one.figure.startswith("slices")]
    assert difference.found - difference.expected == step
    assert difference.where.startswith(column)
    # It is no longer what any of its slices says either: seven cuts of its tenant, four of all tenants.
    assert [one.found - one.expected for one in found if one is not difference] == [-step] * 11


@pytest.mark.parametrize("column", [*COUNTS, *MONEY, "latency_histogram", "ttft_histogram"])
@pytest.mark.parametrize("day", [LONG_AGO, TODAY])
def test_a_wrong_slice_is_found_in_each_column(acme, column, day):
    row = DailySlice.objects.filter(billing_day=day, cut="model").first()
    wrong = {"0-25": 7} if column.endswith("histogram") else getattr(row, column) + 1
    DailySlice.objects.filter(pk=row.pk).update(**{column: wrong})
    found = reconcile.check(now=NOW)
    assert found
    assert {(one.figure, one.where.split()[0]) for one in found} == {(f"slices {day}", column)}


def test_a_slice_too_few_or_too_many_is_found(acme):
    DailySlice.objects.filter(billing_day=LONG_AGO, cut="all", tenant_id=None).delete()
    DailySlice.objects.create(billing_day=TODAY, cut="other", requests=1)
    figures = {(figure, int(found)) for figure, _, found in differences() if found or figure == f"slices {LONG_AGO}"}
    assert figures == {(f"slices {LONG_AGO}", 0), (f"slices {TODAY}", 1)}


def test_money_in_the_wrong_row_of_a_roll_up_is_found(acme):
    DailyUsage.objects.filter(billing_day=LONG_AGO).update(model_name="gpt-5")
    assert differences()


def test_days_not_rolled_up_yet_are_no_difference(acme):
    RolledDay.objects.all().delete()
    OpenDay.objects.all().delete()
    DailyUsage.objects.all().delete()
    assert differences() == []


def test_a_wrong_roll_up_of_an_open_day_is_found(acme):
    row = DailyUsage.objects.filter(billing_day=TODAY).first()
    DailyUsage.objects.filter(pk=row.pk).update(requests=row.requests + 1)
    found = differences()
    assert found.pop(0) == (f"roll-up {TODAY}", row.requests, row.requests + 1)
    assert {figure for figure, *_ in found} == {f"slices {TODAY}"}


def test_a_mark_on_a_day_still_open_is_found(acme):
    RolledDay.objects.create(billing_day=TODAY, rolled_at=NOW)
    assert differences() == [("roll-up marks", 0, 1)]


def test_the_command_says_so_and_exits_0_or_1(acme):
    said = StringIO()
    call_command("reconcile", "--check", stdout=said)
    assert "agree" in said.getvalue()
    add(BudgetWindow.objects.filter(scope_kind="tenant"), "spent", 1)
    said = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("reconcile", "--check", stdout=said, stderr=StringIO())
    assert ended.value.code == 1
    assert said.getvalue().count("spent of tenant:") == 5  # two months, three days
    call_command("reconcile", stdout=StringIO(), stderr=StringIO())  # without --check it only tells


def test_the_snapshot_is_read_only_and_sees_one_moment(acme):
    with reconcile.snapshot():
        before = UsageRecord.objects.count()
        elsewhere(lambda: spend(acme.pk, "1"))  # a writer is not kept waiting
        assert UsageRecord.objects.count() == before
    assert UsageRecord.objects.count() == before + 1
    if connection.vendor == "sqlite":
        assert connection.transaction_mode == "IMMEDIATE"


def test_under_traffic_it_never_sees_half_a_settlement(acme):
    stop, failures, settled = threading.Event(), [], []

    def traffic():
        try:
            while not stop.is_set():
                with transaction.atomic():
                    key = settled[0].key_id if settled else an_id()
                    settled.append(spend(acme.pk, "0.0123", key_id=key, created_at=NOW))
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            connections.close_all()

    writer = threading.Thread(target=traffic)
    writer.start()
    try:
        ends = time.monotonic() + 2
        checks = 0
        while time.monotonic() < ends:
            assert differences() == []
            checks += 1
    finally:
        stop.set()
        writer.join()
    assert failures == []
    assert checks > 5
    assert len(settled) > 20


def elsewhere(work):
    """Do `work` in another thread, on a connection of its own; its failure is ours."""
    failed = []

    def run():
        try:
            work()
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert failed == []
