"""What a budget's period will come to at its present pace, and when a limit is reached. NOW is the 22nd, noon."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from billing import forecast
from tests.billing.books import NOW

NOVEMBER = datetime(2026, 12, 1, tzinfo=UTC)


def ahead(spent: str, limit: str | None, **more: object) -> tuple[str, datetime | None]:
    asked = {"period": "month", "timezone": "UTC", "now": NOW, **more}
    found = forecast.of(spent=Decimal(spent), limit=None if limit is None else Decimal(limit), **asked)
    return f"{found.expected.normalize():f}", found.runs_out_at


def test_a_month_goes_on_as_it_has_begun() -> None:
    # 21.5 of 30 days have passed.
    assert ahead("43", None) == ("60", None)
    assert ahead("43", "60") == ("60", None)  # exactly at the end is not before it


def test_a_limit_below_what_is_expected_is_reached_on_a_day_that_is_named() -> None:
    assert ahead("43", "50") == ("60", datetime(2026, 11, 26, tzinfo=UTC))  # 2 a day: 7 more take 3.5 days


def test_what_is_used_up_already_is_used_up_now() -> None:
    assert ahead("43", "43") == ("60", NOW)
    assert ahead("43", "0")[1] == NOW


def test_nothing_spent_is_nothing_expected() -> None:
    assert ahead("0", "5") == ("0", None)
    assert ahead("-3", "5") == ("-3", None)  # an adjustment has paid back more than was spent


def test_the_first_hours_count_as_a_day_of_a_month_and_the_first_minutes_as_an_hour_of_a_day() -> None:
    at_one = datetime(2026, 11, 1, 1, tzinfo=UTC)
    assert ahead("2", None, now=at_one) == ("60", None)
    just = datetime(2026, 11, 22, 0, 1, tzinfo=UTC)
    assert ahead("2", None, period="day", now=just) == ("48", None)


def test_a_day_and_a_month_are_the_tenants_own() -> None:
    # In Auckland (UTC+13) it is already 01:00 on the 23rd.
    assert ahead("1", None, period="day", timezone="Pacific/Auckland") == ("24", None)
    assert ahead("22.0416666667", None, timezone="Pacific/Auckland") == ("30", None)


# Each: time zone, period, the moment in UTC, what was spent (a dollar for each hour that has passed), what it will come
# to (one for each hour there is), and when a limit of half a dollar more is reached: half an hour later.
BY_THE_HOUR = [
    # 29 March 2026 in Zurich has 23 hours, from 23:00 UTC to 22:00 UTC.
    ("Europe/Zurich", "day", "2026-03-29T00:30", "1.5", "23"),  # 01:30, before the clocks go forward
    ("Europe/Zurich", "day", "2026-03-29T10:00", "11", "23"),  # noon
    ("Europe/Zurich", "day", "2026-03-29T20:00", "21", "23"),
    # 25 October 2026 has 25, from 22:00 UTC to 23:00 UTC; 02:30 is there twice.
    ("Europe/Zurich", "day", "2026-10-25T00:30", "2.5", "25"),
    ("Europe/Zurich", "day", "2026-10-25T01:30", "3.5", "25"),
    ("Europe/Zurich", "day", "2026-10-25T11:00", "13", "25"),  # noon
    # The months of those days: an hour less than 31 days, and an hour more.
    ("Europe/Zurich", "month", "2026-03-29T10:00", "683", "743"),
    ("Europe/Zurich", "month", "2026-10-25T11:00", "589", "745"),
    # 6 September 2026 in Santiago begins at 01:00, 04:00 UTC: it has no midnight. The day before has its 24 hours.
    ("America/Santiago", "day", "2026-09-06T03:00", "23", "24"),
    ("America/Santiago", "day", "2026-09-06T05:30", "1.5", "23"),
    ("America/Santiago", "day", "2026-09-06T16:00", "12", "23"),
    ("America/Santiago", "month", "2026-09-06T04:00", "120", "719"),
    # 4 April 2026 has 25: 23:00 is there twice.
    ("America/Santiago", "day", "2026-04-05T03:00", "24", "25"),
    # October 2017 in Asuncion begins at 01:00 on the 1st: the month itself has no midnight to begin at.
    ("America/Asuncion", "month", "2017-10-02T04:00", "24", "743"),
    # A month's first hour and last, in the zone where it begins first and where it ends last.
    ("Pacific/Kiritimati", "month", "2026-11-30T09:00", "719", "720"),
    ("Pacific/Kiritimati", "month", "2026-12-01T10:00", "24", "744"),
    ("Etc/GMT+12", "month", "2026-12-01T11:00", "719", "720"),
]


@pytest.mark.parametrize(("timezone", "period", "moment", "spent", "expected"), BY_THE_HOUR)
def test_a_dollar_an_hour_comes_to_as_many_dollars_as_the_period_has_hours(
    timezone: str, period: str, moment: str, spent: str, expected: str
) -> None:
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    limit = f"{Decimal(spent) + Decimal('0.5')}"
    found = ahead(spent, limit, period=period, timezone=timezone, now=now)
    assert Decimal(found[0]).quantize(Decimal("1e-8")) == Decimal(expected)
    assert found[1] == now + timedelta(minutes=30)


def test_at_its_last_moment_a_month_comes_to_what_was_spent_and_the_next_begins_with_a_day() -> None:
    first = datetime(2026, 11, 30, 23, tzinfo=UTC)  # midnight in Zurich
    assert ahead("30", "30.01", timezone="Europe/Zurich", now=first - timedelta(microseconds=1)) == ("30", None)
    assert ahead("1", "30", timezone="Europe/Zurich", now=first) == ("31", first + timedelta(days=29))


@pytest.mark.parametrize("limit", ["1", "10", "44", "59.99"])
def test_the_moment_it_runs_out_is_within_the_period(limit: str) -> None:
    _, at = ahead("43", limit)
    assert at is not None
    assert NOW <= at < NOVEMBER
