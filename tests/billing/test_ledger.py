"""The ledger, operation by operation: what is held, spent and refused, in every order and twice."""

import itertools
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Sum

from billing import ledger as ledgers
from billing.errors import AlreadySettled, BudgetExceeded
from billing.ledger import record, sweep
from billing.models import Adjustment, BudgetWindow, Hold, LedgerLease, RolledDay, UsageRecord
from billing.windows import MONTH, billing_day, resets_at
from tenants.errors import AuthenticationFailed, TenantSuspended
from tenants.models import Tenant
from tests.billing.books import NOW, Books, a_ledger, assert_books_agree, forsake, holds, usd

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def books_agree(db: None) -> Iterator[None]:
    """After every test, whatever it did."""
    yield
    assert_books_agree()


@pytest.fixture
def books(db: None) -> Books:
    return Books({"tenant": ("10", "100"), "key": ("5", None), "config": (None, "50")})


# --- one request ------------------------------------------------------------------------------------------------------


def test_a_hold_is_held_on_key_config_and_tenant_by_day_and_month(books: Books) -> None:
    hold = a_ledger().do(books.ask("2"))
    scopes = list(itertools.product(("tenant", "key", "config"), ("day", "month")))
    assert [books.window(kind, period) for kind, period in scopes] == [(0, 2)] * 6
    assert [window.key for window in hold.windows] == Hold.objects.get().windows
    assert hold.billing_day == date(2026, 11, 22)


def test_settling_replaces_the_hold_by_what_was_spent_and_writes_the_row(books: Books) -> None:
    ledger = a_ledger()
    hold = ledger.do(books.ask("2"))
    assert ledger.do(books.settle(hold, "0.0075")) is True
    assert {books.window(kind) for kind in ("tenant", "key", "config")} == {(usd("0.0075"), 0)}
    row = UsageRecord.objects.get()
    assert (row.pk, row.budget_usd, row.held_usd, row.status) == (hold.request_id, usd("0.0075"), 2, "completed")
    assert holds() == 0


def test_settling_twice_changes_nothing(books: Books) -> None:
    ledger = a_ledger()
    settle = books.settle(ledger.do(books.ask("2")), "1.5")
    assert [ledger.do(settle), ledger.do(settle), a_ledger().do(settle)] == [True, False, False]
    assert books.window() == (usd("1.5"), 0)
    assert (UsageRecord.objects.count(), Adjustment.objects.count()) == (1, 0)


def test_voiding_gives_everything_back_and_leaves_no_row(books: Books) -> None:
    ledger = a_ledger()
    void = books.void(ledger.do(books.ask("2")))
    assert [ledger.do(void), ledger.do(void)] == [True, False]
    assert (books.window(), holds(), UsageRecord.objects.count()) == ((0, 0), 0, 0)


def test_voiding_what_was_never_held_changes_nothing(books: Books) -> None:
    assert a_ledger().do(books.void(ledgers.hold_of(books.ask("2")))) is False
    assert books.window() == (0, 0)


def test_extending_holds_the_difference_and_settling_gives_all_of_it_back(books: Books) -> None:
    ledger = a_ledger()
    hold = ledger.do(books.ask("2"))
    dearer = ledger.do(books.extend(hold, "3.5"))
    assert (dearer.amount, books.window(), books.window("key")) == (usd("3.5"), (0, usd("3.5")), (0, usd("3.5")))
    ledger.do(books.settle(dearer, "3"))
    assert books.window() == (3, 0)


def test_a_refused_extension_leaves_the_hold_as_it_was(books: Books) -> None:
    ledger = a_ledger()
    hold = ledger.do(books.ask("2"))
    with pytest.raises(BudgetExceeded) as refused:
        ledger.do(books.extend(hold, "5.0000000001"))
    refusal = refused.value.refusal
    assert (refusal.scope_kind, refusal.held, refusal.needed) == ("key", 2, usd("3.0000000001"))
    assert (books.window(), Hold.objects.get().amount) == ((0, 2), 2)
    assert ledger.do(books.extend(hold, "5")).amount == 5


def test_an_extension_of_what_was_swept_is_refused(books: Books) -> None:
    ledger = a_ledger()
    hold = ledger.do(books.ask("2"))
    forsake(ledger)
    assert sweep(now=NOW) == 1
    with pytest.raises(AlreadySettled):
        ledger.do(books.extend(hold, "3"))
    assert books.window() == (2, 0)


def test_settling_with_the_hold_of_before_an_extension_gives_back_all_that_is_held(books: Books) -> None:
    """The extension may have been committed though its answer was lost."""
    ledger = a_ledger()
    hold = ledger.do(books.ask("2"))
    ledger.do(books.extend(hold, "4"))
    ledger.do(books.settle(hold, "1"))
    assert books.window() == (1, 0)


def test_an_overrun_is_recorded_as_it_is(books: Books) -> None:
    ledger = a_ledger()
    ledger.do(books.settle(ledger.do(books.ask("2")), "7", is_overrun=True))
    assert books.window("key") == (7, 0)
    with pytest.raises(BudgetExceeded):
        ledger.do(books.ask("0.0000000001"))


# --- every order ------------------------------------------------------------------------------------------------------

AFTER_EVERY_ORDER = {  # what came first decides; the true figure still counts after a sweep
    "settle": (usd("1.25"), 1, 0, "completed"),
    "void": (usd(0), 0, 0, None),
    "sweep": (usd(2), 1, 0, "expired"),
}


@pytest.mark.parametrize("order", list(itertools.permutations(["settle", "void", "sweep"])), ids="-".join)
@pytest.mark.parametrize("times", [1, 2])
def test_a_hold_is_resolved_once_in_every_order(books: Books, order: tuple[str, ...], times: int) -> None:
    ledger = a_ledger()
    hold = ledger.do(books.ask("2"))
    forsake(ledger)
    for step in order:
        for _ in range(times):
            if step == "sweep":
                sweep(now=NOW)
            else:
                ledger.do(books.settle(hold, "1.25") if step == "settle" else books.void(hold))
    spent, rows, adjusted, status = AFTER_EVERY_ORDER[order[0]]
    if order.index("sweep") < order.index("settle") and order[0] == "sweep":
        spent, adjusted = usd("1.25"), 1
    assert books.window() == (spent, 0)
    assert (UsageRecord.objects.count(), Adjustment.objects.count(), holds()) == (rows, adjusted, 0)
    assert UsageRecord.objects.values_list("status", flat=True).first() == status


def test_several_operations_of_one_batch_see_each_other(books: Books) -> None:
    ledger = a_ledger()
    first = ledger.do(books.ask("5"))
    with transaction.atomic():
        settled, second, third = ledger.apply([books.settle(first, "1"), books.ask("4"), books.ask("0.1")])
    assert (settled, second.amount) == (True, 4)
    assert isinstance(third, BudgetExceeded)
    assert (third.refusal.spent, third.refusal.held, third.refusal.needed) == (1, 4, usd("0.1"))


def test_the_same_settlement_twice_in_one_batch_counts_once(books: Books) -> None:
    ledger = a_ledger()
    settle = books.settle(ledger.do(books.ask("5")), "1")
    with transaction.atomic():
        assert ledger.apply([settle, settle]) == [True, False]
    assert books.window() == (1, 0)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "scope", "period", "limit", "resets"),
    [
        ({"key": ("1", None)}, "key", "day", 1, datetime(2026, 11, 23, tzinfo=UTC)),
        ({"key": (None, "1")}, "key", "month", 1, datetime(2026, 12, 1, tzinfo=UTC)),
        ({"config": ("1", None)}, "config", "day", 1, datetime(2026, 11, 23, tzinfo=UTC)),
        ({"config": (None, "1")}, "config", "month", 1, datetime(2026, 12, 1, tzinfo=UTC)),
        ({"tenant": ("1", None)}, "tenant", "day", 1, datetime(2026, 11, 23, tzinfo=UTC)),
        ({"tenant": (None, "1")}, "tenant", "month", 1, datetime(2026, 12, 1, tzinfo=UTC)),
        ({"key": ("2", None), "tenant": ("1", None)}, "tenant", "day", 1, datetime(2026, 11, 23, tzinfo=UTC)),
        ({"key": ("1", None), "tenant": ("1", "1")}, "key", "day", 1, datetime(2026, 11, 23, tzinfo=UTC)),
    ],
)
def test_a_refusal_names_its_scope_and_the_figures(
    limits: dict[str, tuple[str | None, str | None]], scope: str, period: str, limit: int, resets: datetime
) -> None:
    books = Books(limits)
    ledger = a_ledger()
    ledger.do(books.settle(ledger.do(books.ask("0.25")), "0.25"))
    ledger.do(books.ask("0.5"))
    with pytest.raises(BudgetExceeded) as refused:
        ledger.do(books.ask("0.2500000001"))
    found = refused.value.refusal
    assert (found.scope_kind, found.period, found.limit, found.resets_at) == (scope, period, limit, resets)
    assert (found.spent, found.held, found.needed) == (usd("0.25"), usd("0.5"), usd("0.2500000001"))
    assert refused.value.param == f"{scope}.{period}"
    assert "limit $1, spent $0.25, held $0.5, this request may cost up to $0.2500000001" in refused.value.message
    assert books.window() == (usd("0.25"), usd("0.5"))  # nothing was held
    ledger.do(books.ask("0.25"))  # exactly the limit fits


@pytest.mark.parametrize("amount", ["0", "0.0000000001", "5"])
def test_a_budget_of_zero_refuses_everything_even_what_is_free(amount: str) -> None:
    books = Books({"key": ("0", None)})
    with pytest.raises(BudgetExceeded):
        a_ledger().do(books.ask(amount))
    assert (holds(), books.window()) == (0, (0, 0))


def test_no_budget_is_no_limit() -> None:
    books = Books()
    assert a_ledger().do(books.ask("900000000")).amount == 900_000_000


@pytest.mark.parametrize("field", ["budget_limit_daily", "budget_limit_monthly"])
@pytest.mark.parametrize("kind", ["tenant", "key"])
def test_the_database_refuses_a_negative_limit(books: Books, kind: str, field: str) -> None:
    row = getattr(books, kind)
    with pytest.raises(IntegrityError), transaction.atomic():
        type(row).objects.filter(pk=row.pk).update(**{field: usd("-0.01")})


def test_a_limit_lowered_below_what_is_spent_refuses_from_then_on(books: Books) -> None:
    ledger = a_ledger()
    ledger.do(books.settle(ledger.do(books.ask("3")), "3"))
    Tenant.objects.update(budget_limit_monthly=usd("2"))
    with pytest.raises(BudgetExceeded) as refused:
        ledger.do(books.ask("0.1"))
    assert (refused.value.refusal.scope_kind, refused.value.refusal.limit) == ("tenant", 2)


def test_a_request_without_a_key_is_held_to_the_tenants_budget(books: Books) -> None:
    request = books.ask("2")
    request.key_id = request.config_id = None
    a_ledger().do(request)
    request = books.ask("9")
    request.key_id = request.config_id = None
    with pytest.raises(BudgetExceeded):
        a_ledger().do(request)
    Tenant.objects.update(is_active=False)
    with pytest.raises(TenantSuspended):
        a_ledger().do(request)


def test_a_revoked_an_expired_and_a_deleted_key_and_a_suspended_tenant_hold_nothing(books: Books) -> None:
    books.key.revoked_at = NOW
    books.key.save()
    with pytest.raises(AuthenticationFailed):
        a_ledger().do(books.ask("1"))
    books.key.revoked_at, books.key.expires_at = None, datetime.now(UTC) - timedelta(seconds=1)
    books.key.save()
    with pytest.raises(AuthenticationFailed):
        a_ledger().do(books.ask("1"))
    books.key.expires_at = None
    books.key.save()
    Tenant.objects.update(is_active=False)
    with pytest.raises(TenantSuspended):
        a_ledger().do(books.ask("1"))
    request = books.ask("1")
    books.key.delete()
    with pytest.raises(AuthenticationFailed):
        a_ledger().do(request)
    assert (holds(), books.window()[1]) == (0, 0)


# --- sweeps and leases ------------------------------------------------------------------------------------------------


def test_the_hold_of_a_silent_process_is_posted_in_full_and_flagged(books: Books) -> None:
    ledger = a_ledger()
    hold = ledger.do(books.ask("2", user_agent="curl", key_name="test"))
    assert sweep(now=NOW) == 0  # its lease is fresh
    forsake(ledger)
    assert [sweep(now=NOW), sweep(now=NOW)] == [1, 0]
    row = UsageRecord.objects.get()
    assert (row.pk, row.status, row.error_code, row.is_estimated) == (hold.request_id, "expired", "expired", True)
    assert (row.cost_total_usd, row.billed_usd, row.budget_usd) == (2, 2, 2)
    assert (row.user_agent, row.key_id, row.billing_day, row.created_at) == (
        "curl",
        books.key.pk,
        hold.billing_day,
        NOW,
    )
    assert books.window() == (2, 0)


def test_a_late_true_figure_becomes_exactly_one_system_adjustment(books: Books) -> None:
    ledger = a_ledger()
    hold = ledger.do(books.ask("2"))
    forsake(ledger)
    sweep(now=NOW)
    settle = books.settle(hold, "0.5", billed_usd=usd("0.75"))
    assert [ledger.do(settle), ledger.do(settle)] == [False, False]
    late = Adjustment.objects.get()
    assert (late.kind, late.request_id, late.billing_day) == ("system", hold.request_id, hold.billing_day)
    assert (late.cost_total_usd, late.billed_usd, late.budget_usd) == (usd("-1.5"), usd("-1.25"), usd("-1.5"))
    assert books.window() == (usd("0.5"), 0)
    assert UsageRecord.objects.get().budget_usd == 2  # the row itself is never changed


def test_a_process_that_was_stopped_renews_its_lease_before_it_holds_again(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger()
    ledger.do(books.ask("1"))
    forsake(ledger)
    assert sweep(now=NOW) == 1
    clock = ledgers.time.monotonic
    monkeypatch.setattr(ledgers.time, "monotonic", lambda: clock() + 16)
    ledger.do(books.ask("1"))
    assert (sweep(now=NOW), holds()) == (0, 1)


def test_a_lease_forgotten_by_the_database_is_made_again(books: Books) -> None:
    ledger = a_ledger()
    ledger.do(books.ask("1"))
    LedgerLease.objects.all().delete()
    ledger.tick()
    assert (sweep(now=NOW), holds()) == (0, 1)


def test_old_leases_are_forgotten_once_they_own_nothing(books: Books) -> None:
    ledger = a_ledger()
    ledger.do(books.settle(ledger.do(books.ask("1")), "1"))
    LedgerLease.objects.update(renewed_at=datetime.now(UTC) - timedelta(hours=1))
    sweep(now=NOW)
    assert LedgerLease.objects.count() == 0


@pytest.mark.parametrize("broken", [{"request_ip": "not an address"}, {"key_name": "x" * 200}, {"prompt_tokens": None}])
def test_one_hold_that_cannot_be_written_does_not_keep_the_others_held(books: Books, broken: dict[str, object]) -> None:
    ledger = a_ledger()
    for facts in ({}, broken, {}):
        ledger.do(books.ask("1", **facts))
    forsake(ledger)
    assert sweep(now=NOW) == 3  # the broken one without what adorned it
    assert (books.window(), holds()) == ((3, 0), 0)
    assert list(UsageRecord.objects.values_list("budget_usd", "key_id")) == [(1, books.key.pk)] * 3


def test_the_limit_holds_while_holds_are_swept(books: Books) -> None:
    ledger = a_ledger()
    ledger.do(books.ask("4"))
    forsake(ledger)
    sweep(now=NOW)
    with pytest.raises(BudgetExceeded):
        a_ledger().do(books.ask("2"))


# --- days, months and time zones --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "moment", "day", "midnight", "month_ends"),
    [
        ("UTC", "2026-11-30T23:59:59Z", "2026-11-30", "2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("Pacific/Auckland", "2026-11-30T11:00:00Z", "2026-12-01", "2026-12-01T11:00:00Z", "2026-12-31T11:00:00Z"),
        ("Pacific/Auckland", "2026-11-30T10:59:59Z", "2026-11-30", "2026-11-30T11:00:00Z", "2026-11-30T11:00:00Z"),
        ("America/New_York", "2027-01-01T04:59:59Z", "2026-12-31", "2027-01-01T05:00:00Z", "2027-01-01T05:00:00Z"),
        ("Europe/Zurich", "2026-03-28T23:30:00Z", "2026-03-29", "2026-03-29T22:00:00Z", "2026-03-31T22:00:00Z"),
        ("Europe/Zurich", "2026-10-25T12:00:00Z", "2026-10-25", "2026-10-25T23:00:00Z", "2026-10-31T23:00:00Z"),
        ("Asia/Kathmandu", "2028-02-29T18:14:59Z", "2028-02-29", "2028-02-29T18:15:00Z", "2028-02-29T18:15:00Z"),
        # Midnight does not exist: clocks go from 23:59 to 01:00.
        ("Africa/Cairo", "2026-04-23T20:00:00Z", "2026-04-23", "2026-04-23T22:00:00Z", "2026-04-30T21:00:00Z"),
    ],
)
def test_days_and_months_are_the_tenants_own(zone: str, moment: str, day: str, midnight: str, month_ends: str) -> None:
    now = datetime.fromisoformat(moment)
    first = billing_day(now, zone)
    assert first == date.fromisoformat(day)
    assert resets_at("day", first, zone) == datetime.fromisoformat(midnight)
    assert resets_at(MONTH, first, zone) == datetime.fromisoformat(month_ends)
    assert billing_day(datetime.fromisoformat(midnight), zone) == first + timedelta(days=1)
    assert billing_day(datetime.fromisoformat(midnight) - timedelta(microseconds=1), zone) == first


def test_a_budget_is_whole_again_at_the_tenants_midnight_and_midnight_changes_nothing_in_flight() -> None:
    books = Books({"tenant": ("1", None)}, timezone="Europe/Zurich")
    ledger = a_ledger()
    late, after = datetime(2026, 10, 25, 22, 59, tzinfo=UTC), datetime(2026, 10, 25, 23, 0, tzinfo=UTC)
    hold = ledger.do(books.ask("1", now=late))
    with pytest.raises(BudgetExceeded) as refused:
        ledger.do(books.ask("0.1", now=late))
    assert refused.value.refusal.resets_at == after
    ledger.do(books.ask("1", now=after))
    ledger.do(books.settle(hold, "0.5", now=after))
    days = BudgetWindow.objects.filter(period="day", scope_kind="tenant").order_by("starts_on")
    assert [(row.starts_on.day, row.spent, row.held) for row in days] == [(25, usd("0.5"), 0), (26, 0, 1)]
    assert UsageRecord.objects.get().billing_day == date(2026, 10, 25)


def test_a_settlement_of_a_day_that_was_rolled_up_takes_its_mark_away(books: Books) -> None:
    ledger = a_ledger()
    old = datetime.now(UTC) - timedelta(days=5)
    hold = ledger.do(books.ask("1", now=old))
    RolledDay.objects.create(billing_day=hold.billing_day, rolled_at=old)
    ledger.do(books.settle(hold, "1", now=old))
    assert RolledDay.objects.count() == 0


# --- exactness --------------------------------------------------------------------------------------------------------


def test_twenty_thousand_times_a_price_is_exact(books: Books) -> None:
    Tenant.objects.update(budget_limit_daily=None, budget_limit_monthly=None)
    row = {"status": "completed", "status_code": 200, "billing_day": NOW.date(), "created_at": NOW}
    facts = {name: value for name, value in books.facts(uuid.uuid4(), usd("0.0075")).items() if name != "id"}
    UsageRecord.objects.bulk_create((UsageRecord(**{**facts, **row}) for _ in range(20_000)), batch_size=500)
    total = UsageRecord.objects.aggregate(sum=Sum("budget_usd"))["sum"]
    assert (total, type(total)) == (usd("150"), Decimal)
    UsageRecord.objects.all().delete()


@pytest.mark.parametrize("amount", ["0.0000000001", "0.1", "899999999.9999999999", "0"])
def test_amounts_come_back_to_the_last_digit(books: Books, amount: str) -> None:
    Tenant.objects.update(budget_limit_daily=usd(amount))
    assert Tenant.objects.get().budget_limit_daily == usd(amount)
    assert Tenant.objects.filter(budget_limit_daily=usd(amount)).count() == 1


def test_money_is_never_a_float(books: Books) -> None:
    with pytest.raises(TypeError, match="never a float"), transaction.atomic():
        Tenant.objects.update(budget_limit_daily=0.1)
    with pytest.raises(ValidationError), transaction.atomic():
        Tenant.objects.update(budget_limit_daily=usd("0.00000000001"))
    assert Tenant.objects.get().budget_limit_daily == 10


def test_what_ran_elsewhere_is_booked_without_asking_any_limit(books: Books) -> None:
    request = books.ask("0")
    usage = books.facts(request.request_id, usd("99"), billing_day=request.billing_day)
    record(request=request, usage={**usage, "status": "completed", "status_code": 200})
    assert books.window() == (99, 0)
    with pytest.raises(IntegrityError):
        record(request=request, usage={**usage, "status": "completed", "status_code": 200})
    assert books.window() == (99, 0)
