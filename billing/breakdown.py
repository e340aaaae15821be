"""Usage broken down by columns, with its times: what the staff site's usage page is made of.

Like every report it reads closed days from their roll-ups and the rest from the rows, never a closed day's rows.
Amounts are USD, exact; times are whole milliseconds.
"""

import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.db.models import Count, Q, TextField
from django.db.models.functions import Cast

from billing.histograms import bucket_of, percentile
from billing.models import UsageRecord
from billing.sums import Days, Totals, rolled_up, rows_of, sums

# What the usage page can be broken down by, and the columns that decide it. A user is one only within a tenant.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "day": ("billing_day",),
    "tenant": ("tenant_id",),
    "provider": ("provider_slug",),
    "model": ("provider_slug", "model_name"),
    "user": ("tenant_id", "user_id"),
    "power_level": ("power_level",),
}
Group = tuple[Any, ...]  # a value for each of the columns
_MEDIAN, _SLOW = 50, 95


@dataclass(slots=True)
class Times:
    """How long requests took, and how long to their first token where they had one: counts by bucket."""

    latency: dict[str, int] = field(default_factory=dict)
    ttft: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Times") -> None:
        for mine, others in ((self.latency, other.latency), (self.ttft, other.ttft)):
            for key, count in others.items():
                mine[key] = mine.get(key, 0) + count

    def percentiles(self) -> dict[str, int | None]:
        """latency_p50, latency_p95, ttft_p50, ttft_p95 in ms; None where there was nothing."""
        found = {"latency": self.latency, "ttft": self.ttft}
        return {
            f"{name}_p{percent}": percentile(histogram, percent)
            for name, histogram in found.items()
            for percent in (_MEDIAN, _SLOW)
        }


def totals(*, tenant_id: uuid.UUID | None, days: Days, columns: tuple[str, ...]) -> dict[Group, Totals]:
    """Sums per combination of `columns`; of all tenants if `tenant_id` is None. Adjustments count in the money."""
    found: dict[Group, Totals] = defaultdict(Totals)
    for row in sums(tenant_id=tenant_id, days=days, columns=columns):
        found[tuple(row[name] for name in columns)].add(row)
    return dict(found)


def times(
    *, tenant_id: uuid.UUID | None, days: Days, columns: tuple[str, ...], of: Collection[Group] | None = None
) -> dict[Group, Times]:
    """The histograms of each combination of `columns`; of these alone, if `of` names some."""
    only, wanted = Q(), None
    if of is not None:
        wanted = set(of)
        only = Q(**{f"{name}__in": {group[place] for group in wanted} for place, name in enumerate(columns)})
    found: dict[Group, Times] = defaultdict(Times)
    # The histograms come as text: a JSON column's own decoding is four times slower than orjson, and there is one for
    # each combination of dimensions.
    texts = (Cast("latency_histogram", TextField()), Cast("ttft_histogram", TextField()))
    of_days, _ = rolled_up(columns, tenant_id=tenant_id, days=days)
    for *values, latency, ttft in of_days.filter(days.rolled, only).values_list(*columns, *texts).iterator():
        if wanted is None or tuple(values) in wanted:
            found[tuple(values)].add(Times(latency=orjson.loads(latency), ttft=orjson.loads(ttft)))
    for live in days.of_rows(rows_of(UsageRecord, tenant_id).filter(only)):
        buckets = live.values_list(*columns, bucket_of("latency_ms"), bucket_of("ttft_ms"))
        for *values, latency, ttft, count in buckets.annotate(count=Count("pk")).iterator():
            if wanted is None or tuple(values) in wanted:
                one = Times(latency={latency: count}, ttft={} if ttft is None else {ttft: count})
                found[tuple(values)].add(one)
    return found
