"""What a budget's period will come to at its present pace, and when a limit is reached. NOW is the 22nd, noon."""

from datetime import UTC, datetime
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


@pytest.mark.parametrize("limit", ["1", "10", "44", "59.99"])
def test_the_moment_it_runs_out_is_within_the_period(limit: str) -> None:
    _, at = ahead("43", limit)
    assert at is not None
    assert NOW <= at < NOVEMBER
