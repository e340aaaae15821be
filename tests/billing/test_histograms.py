"""Percentiles out of histograms are in the bucket of the exact percentile, whatever the values and the bounds."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.histograms import BUCKETS, bounds, percentile

FORMER = ("50", "100", "200", "500", "1000", "2000", "5000", "10000", "30000", "60000", "inf")
times = st.lists(st.integers(0, 900_000), min_size=1, max_size=40)
percents = st.integers(1, 100)


def bucket(value: int, keys: tuple[str, ...]) -> str:
    """The key of the bucket that a time belongs to, the slow way."""
    return next(key for key in keys if (upto := bounds(key)[1]) is None or value <= upto)


def exact(values: list[int], percent: int) -> int:
    """The smallest time that `percent` of the values do not pass: nearest rank."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


@given(times, percents, st.sampled_from([BUCKETS, FORMER]))
def test_a_percentile_is_in_the_bucket_of_the_exact_one(values: list[int], percent: int, keys: tuple[str, ...]) -> None:
    found = percentile(Counter(bucket(value, keys) for value in values), percent)
    over, upto = bounds(bucket(exact(values, percent), keys))
    assert found is not None
    assert over <= found <= (over if upto is None else upto)


@given(times, times)
def test_percentiles_never_fall_and_adding_the_same_again_changes_none(first: list[int], second: list[int]) -> None:
    counts = Counter(bucket(value, BUCKETS) for value in first) + Counter(bucket(value, FORMER) for value in second)
    found = [percentile(counts, percent) for percent in range(1, 101)]
    assert found == sorted(found)  # type: ignore[type-var]  # none of them is None
    assert [percentile(counts + counts, percent) for percent in range(1, 101)] == found


@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=40), percents)
def test_coarse_and_fine_buckets_together_stay_between_each_alone(values: list[int], percent: int) -> None:
    fine = Counter(bucket(value, BUCKETS) for value in values)
    coarse = Counter(bucket(value, FORMER) for value in values)
    alone = sorted([percentile(fine, percent) or 0, percentile(coarse, percent) or 0])
    assert alone[0] <= (percentile(fine + coarse, percent) or 0) <= alone[1]


def test_within_a_bucket_times_are_taken_as_evenly_spread() -> None:
    assert percentile({"400-500": 10}, 50) == 450
    assert percentile({"400-500": 3, "500-600": 1}, 95) == 580
    assert percentile({"500": 10}, 50) == 350  # as roll-ups used to be: 200 to 500
    assert percentile({"500": 10, "400-500": 10}, 50) == 425


def test_nothing_has_no_percentile_and_the_open_bucket_only_a_beginning() -> None:
    assert percentile({}, 50) is None
    assert percentile({"0-25": 0}, 50) is None
    assert percentile({"600000-inf": 7}, 50) == 600_000
    assert percentile({"inf": 7}, 50) == 60_000


def test_the_buckets_leave_no_gap() -> None:
    assert bounds(BUCKETS[0])[0] == 0
    assert all(bounds(one)[1] == bounds(next_one)[0] for one, next_one in pairwise(BUCKETS))
    assert bounds(BUCKETS[-1])[1] is None


def test_what_is_no_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="450"):
        bounds("450")
