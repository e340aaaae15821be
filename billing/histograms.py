"""Histograms of times, which add up where percentiles do not, and the percentiles out of them.

A bucket's key says its bounds in milliseconds: `400-500` counts what took more than 400 and at most 500, `600000-inf`
what took longer than 600000. Roll-ups made before the bounds were this fine name the upper one alone (`500`): they
keep their meaning, and both kinds add up.
"""

from collections.abc import Mapping
from functools import cache
from itertools import pairwise

from django.db.models import Case, CharField, Value, When

# A percentile is off by a bucket's width at most: from 50 ms to a minute half its value,
# mostly a third or less.
BOUNDS_MS = (
    *(25, 50, 75, 100, 150, 200, 250, 300, 400, 500, 600, 800),
    *(1_000, 1_250, 1_500, 2_000, 2_500, 3_000, 4_000, 5_000, 6_000, 8_000),
    *(10_000, 15_000, 20_000, 30_000, 45_000, 60_000, 120_000, 300_000, 600_000),
)
BUCKETS = (*(f"{over}-{upto}" for over, upto in pairwise((0, *BOUNDS_MS))), f"{BOUNDS_MS[-1]}-inf")
_FORMER_MS = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000)
_FORMER = {str(upto): over for over, upto in pairwise((0, *_FORMER_MS))} | {"inf": _FORMER_MS[-1]}


@cache
def bounds(key: str) -> tuple[int, int | None]:
    """The bounds of a bucket in ms: more than the first, at most the second (None: no end). Raises ValueError."""
    over, dash, upto = key.partition("-")
    if not dash:
        if key not in _FORMER:
            raise ValueError(f"“{key}” is no bucket.")
        over, upto = str(_FORMER[key]), key
    return int(over), None if upto == "inf" else int(upto)


def percentile(histogram: Mapping[str, int], percent: int) -> int | None:
    """The time in ms that `percent` of the counted values do not pass; None of nothing.

    Values are taken as spread evenly over their bucket, so it is in the bucket of the exact percentile, and off by its
    width at most. Of values in the bucket without an end only its beginning is known.
    """
    counted = [(*bounds(key), count) for key, count in histogram.items() if count]
    if not counted:
        return None
    rank = sum(count for *_, count in counted) * percent / 100
    edges = sorted({edge for over, upto, _ in counted for edge in (over, upto) if edge is not None})
    below = 0.0
    for left, right in pairwise(edges):
        inside = sum(
            count * (right - left) / (upto - over)
            for over, upto, count in counted
            if upto is not None and over <= left and right <= upto
        )
        if inside and below + inside >= rank:
            return round(left + (right - left) * (rank - below) / inside)
        below += inside
    return edges[-1]


def bucket_of(column: str) -> Case:
    """In a query: the key of the bucket that a row's `column` (ms) falls into, null where it is null."""
    within = [When(**{f"{column}__lte": upto}, then=Value(key)) for key, upto in zip(BUCKETS, BOUNDS_MS, strict=False)]
    beyond = When(**{f"{column}__isnull": False}, then=Value(BUCKETS[-1]))
    return Case(*within, beyond, default=None, output_field=CharField())
