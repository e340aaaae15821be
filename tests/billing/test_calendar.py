"""Days of 23 and 25 hours, the ends of the earth, short months, and a clock that jumps: through the real ledger."""

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import available_timezones

import pytest
import time_machine

from billing import reconcile, rollup
from billing.errors import BudgetExceeded
from billing.ledger import Ledger, sweep
from billing.models import Adjustment, BudgetWindow, DailyUsage, LedgerLease, RolledDay, UsageRecord
from billing.posting import Hold
from billing.statement_models import Statement
from billing.statements import closing
from billing.windows import billing_day, resets_at
from tenants import audit
from tenants.models import Tenant
from tests.billing.books import Books, a_ledger, usd

pytestmark = pytest.mark.django_db(transaction=True)
TICK = timedelta(microseconds=1)
LIMIT = "0.3000000003"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Zone, day, and the moments in UTC in which it begins and ends.
DAYS = [
    ("Europe/Zurich", "2026-03-29", "2026-03-28 23:00", "2026-03-29 22:00"),  # 23 hours
    ("Europe/Zurich", "2026-10-25", "2026-10-24 22:00", "2026-10-25 23:00"),  # 25 hours
    ("America/New_York", "2026-03-08", "2026-03-08 05:00", "2026-03-09 04:00"),  # 23
    ("America/New_York", "2026-11-01", "2026-11-01 04:00", "2026-11-02 05:00"),  # 25
    ("Africa/Cairo", "2026-04-24", "2026-04-23 22:00", "2026-04-24 21:00"),  # begins at one o'clock
    ("Pacific/Kiritimati", "2027-01-01", "2026-12-31 10:00", "2027-01-01 10:00"),  # UTC+14
    ("Etc/GMT+12", "2026-12-31", "2026-12-31 12:00", "2027-01-01 12:00"),  # UTC-12
    ("UTC", "2028-02-29", "2028-02-29 00:00", "2028-03-01 00:00"),
]


@pytest.mark.parametrize(("zone", "day", "begins", "ends"), DAYS)
def test_a_days_budget_is_that_of_the_tenants_day(zone: str, day: str, begins: str, ends: str) -> None:
    """What is spent in its first and last moment counts, what comes before and after does not."""
    books, ledger = Books(limits={"tenant": (LIMIT, None)}, timezone=zone), a_ledger()
    begin, end = at(begins), at(ends)
    with time_machine.travel(begin - TICK, tick=False) as clock:
        for moment, amount in ((begin - TICK, LIMIT), (begin, "0.1"), (end - TICK, "0.2000000003"), (end, LIMIT)):
            clock.move_to(moment)
            hold: Hold = ledger.do(books.ask(amount, now=moment))
            assert ledger.do(books.settle(hold, amount, now=moment))
            if moment == end - TICK:
                with pytest.raises(BudgetExceeded) as refused:
                    ledger.do(books.ask("0.0000000001", now=moment))
                assert refused.value.refusal.resets_at == end
                assert (refused.value.refusal.spent, refused.value.refusal.held) == (usd(LIMIT), 0)
        clock.move_to(end + timedelta(days=4))
        rollup.roll_up(now=datetime.now(UTC))
    today = date.fromisoformat(day)
    three = {today - timedelta(days=1), today, today + timedelta(days=1)}
    expected = dict.fromkeys(three, usd(LIMIT))
    assert by_day(UsageRecord) == by_day(DailyUsage) == expected
    windows = BudgetWindow.objects.filter(scope_kind="tenant", period="day")
    assert {window.starts_on: window.spent for window in windows} == expected
    assert set(RolledDay.objects.values_list("billing_day", flat=True)) == three
    add_up(end + timedelta(days=4))


@pytest.mark.parametrize(
    ("zone", "last", "month_ends"),
    [
        ("UTC", "2027-01-31", "2027-02-01 00:00"),
        ("UTC", "2027-02-28", "2027-03-01 00:00"),
        ("UTC", "2028-02-29", "2028-03-01 00:00"),
        ("Europe/Zurich", "2026-03-31", "2026-03-31 22:00"),  # a month with a day of 23 hours
        ("America/New_York", "2026-11-30", "2026-12-01 05:00"),  # and one with a day of 25
        ("Pacific/Kiritimati", "2026-12-31", "2026-12-31 10:00"),
        ("Etc/GMT+12", "2026-12-31", "2027-01-01 12:00"),
    ],
)
def test_a_months_budget_ends_with_the_tenants_month(zone: str, last: str, month_ends: str) -> None:
    books, ledger = Books(limits={"key": (None, LIMIT)}, timezone=zone), a_ledger()
    end, last_day = at(month_ends), date.fromisoformat(last)
    # From the 31st one month is not simply the next one's 31st.
    for moment, amount in ((end - timedelta(days=27), "0.1000000003"), (end - TICK, "0.2")):
        ledger.do(books.settle(ledger.do(books.ask(amount, now=moment)), amount, now=moment))
    with pytest.raises(BudgetExceeded) as refused:
        ledger.do(books.ask("0.0000000001", now=end - TICK))
    assert (refused.value.refusal.period, refused.value.refusal.resets_at) == ("month", end)
    hold: Hold = ledger.do(books.ask(LIMIT, now=end))
    ledger.do(books.settle(hold, LIMIT, now=end))
    months = BudgetWindow.objects.filter(scope_kind="key", period="month")
    first = last_day.replace(day=1)
    following = last_day + timedelta(days=1)
    assert {month.starts_on: month.spent for month in months} == {first: usd(LIMIT), following: usd(LIMIT)}
    rollup.roll_up(now=end + timedelta(days=40))
    add_up(end + timedelta(days=40))


JUMPS = {
    "an hour back": timedelta(hours=-1),
    "a day forward": timedelta(days=1),
    "over midnight": timedelta(minutes=45),
    "a week back": timedelta(days=-7),
    "a week forward": timedelta(days=7),
}


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "Europe/Zurich"])
@pytest.mark.parametrize("jump", JUMPS)
def test_a_clock_that_jumps_between_reserve_and_settle(zone: str, jump: str) -> None:
    """The day is that of the reserve, whatever the clock says later, and roll-ups meanwhile do not miss it."""
    # Half an hour before the end of the day on which Zurich's clocks go back.
    reserved_at = resets_at("day", date(2026, 10, 25), zone) - timedelta(minutes=30)
    books, ledger = Books(limits={"tenant": ("1", None)}, timezone=zone), a_ledger()
    with time_machine.travel(reserved_at, tick=False) as clock:
        hold: Hold = ledger.do(books.ask("1", now=reserved_at))
        ledger.do(books.settle(ledger.do(books.ask("0", now=reserved_at)), "0", now=reserved_at))
        clock.shift(JUMPS[jump])
        rollup.roll_up(now=datetime.now(UTC))
        assert ledger.do(books.settle(hold, "0.1234567891", now=reserved_at))
        rollup.roll_up(now=datetime.now(UTC))
        add_up(datetime.now(UTC))
        clock.move_to(reserved_at)  # somebody has put it right
        rollup.roll_up(now=datetime.now(UTC))
        add_up(datetime.now(UTC))
        clock.shift(timedelta(days=5))
        rollup.roll_up(now=datetime.now(UTC))
        add_up(datetime.now(UTC))
    assert by_day(UsageRecord) == by_day(DailyUsage) == {date(2026, 10, 25): usd("0.1234567891")}
    assert books.window() == (usd("0.1234567891"), usd(0))


def test_a_clock_that_ran_ahead_closes_no_day_for_good() -> None:
    """Days rolled up too early are rolled up again: requests go on falling on them once the clock is right."""
    now, books, ledger = at("2026-10-25 12:00"), Books(), a_ledger()
    spend: Callable[[str], object] = lambda amount: settled(ledger, books, amount, now)  # noqa: E731
    with time_machine.travel(now + timedelta(days=30), tick=False) as clock:
        spend("0.1")
        rollup.roll_up(now=datetime.now(UTC))
        clock.move_to(now)
        spend("0.2")
        rollup.roll_up(now=now)
        add_up(now)
        spend("0.4")
        clock.shift(timedelta(days=5))
        rollup.roll_up(now=datetime.now(UTC))
        add_up(datetime.now(UTC))
    assert by_day(DailyUsage) == {now.date(): usd("0.7")}


@pytest.mark.parametrize("first", ["UTC", "Asia/Tokyo", "Pacific/Kiritimati", "Etc/GMT+12"])
@pytest.mark.parametrize("then", ["UTC", "Asia/Tokyo", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_a_changed_time_zone_puts_nothing_into_a_final_month(first: str, then: str) -> None:
    """As early as the month can be finalised: a request of a process that has not heard of the change, one of a process
    that has, and the true figure of a request of the month which was charged in full."""
    month, early = date(2026, 11, 1), at("2026-11-30 09:00")
    with time_machine.travel(early, tick=False) as clock:
        books, ledger = Books(timezone=first), a_ledger()
        swept: Hold = ledger.do(books.ask("1", now=early))
        LedgerLease.objects.all().delete()
        assert sweep(now=early) == 1
        tried = early + timedelta(minutes=5)
        while not (statement := final(books, month, tried)):
            tried += timedelta(minutes=30)
        for zone in (first, then):
            clock.move_to(tried)
            books.timezone = zone
            settled(ledger, books, "2", tried)
            Tenant.objects.update(timezone=then)
        a_ledger().do(books.settle(swept, "0.25", now=early))
        assert [str(one) for one in closing.verify(statement)] == []
        add_up(tried)
    assert Adjustment.objects.get().billing_day == date(2026, 12, 1)
    assert tried == at("2026-12-01 12:05")


def final(books: Books, month: date, now: datetime) -> Statement | None:
    try:
        return closing.finalise(tenant=books.tenant, month=month, actor=audit.system("test"), now=now)
    except closing.PeriodOpen:
        return None


def test_everywhere_on_earth_a_day_ends_where_the_next_begins() -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - to repeat it
    dice = random.Random(seed)
    zones = sorted(available_timezones())
    for _ in range(20_000):
        zone = dice.choice(zones)
        now = at("2020-01-01 00:00") + timedelta(seconds=dice.randrange(10 * 366 * 86_400))
        day = billing_day(now, zone)
        ends = resets_at("day", day, zone)
        told = f"{zone} {now}"
        assert timedelta(0) < ends - now <= timedelta(hours=27), told
        assert billing_day(ends - TICK, zone) == day, told
        assert billing_day(ends, zone) == day + timedelta(days=1), told


def settled(ledger: Ledger, books: Books, amount: str, now: datetime) -> bool:
    done: bool = ledger.do(books.settle(ledger.do(books.ask(amount, now=now)), amount, now=now))
    return done


def by_day(model: type[UsageRecord] | type[DailyUsage]) -> dict[date, Decimal]:
    found: dict[date, Decimal] = {}
    for day, amount in model._default_manager.values_list("billing_day", "budget_usd"):
        found[day] = found.get(day, usd(0)) + amount
    return found


def add_up(now: datetime) -> None:
    assert [str(difference) for difference in reconcile.check(now=now)] == []
