"""Slices: a day's or a month's usage by few columns, of each tenant and of all together, so that a report reads about
as many rows as it shows. `made` sums them from the day's `DailyUsage`; `smallest` says which table a report reads.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from billing.models import DailyUsage
from billing.rollup_models import (
    COUNTS,
    MONEY,
    DailySlice,
    DailyUserUsage,
    MonthlySlice,
    MonthlyUsage,
    MonthlyUserUsage,
)

# The columns of each cut, beside day or month and tenant: the fewest first.
CUTS: Mapping[str, tuple[str, ...]] = {
    "all": (),
    "provider": ("provider_slug",),
    "key": ("key_id",),
    "config": ("config_id",),
    "credential": ("credential_id",),
    "kind": ("power_level", "task_type", "used_byok"),
    "model": ("provider_slug", "model_name"),
}
# Those with rows of all tenants together as well. Of what belongs to one tenant they would be the same rows again.
SHARED = frozenset({"all", "provider", "kind", "model"})
_SUMMED = (*COUNTS, *MONEY)
_OF_ANY = frozenset({"billing_day", "month", "tenant_id"})
Table = tuple[type[Any], dict[str, Any]]  # a table of roll-ups, and which of its rows


def made(rows: Iterable[DailyUsage]) -> list[DailySlice]:
    """The slices of one day, out of all of its `DailyUsage` rows."""
    found: dict[tuple[Any, ...], DailySlice] = {}
    for row in rows:
        for cut in CUTS:
            _add(found, cut, row.tenant_id, row)
    for one in list(found.values()):
        if one.cut in SHARED:
            _add(found, one.cut, None, one)
    return list(found.values())


def _add(found: dict[tuple[Any, ...], DailySlice], cut: str, tenant_id: uuid.UUID | None, row: Any) -> None:
    values = {name: getattr(row, name) for name in CUTS[cut]}
    place = (cut, tenant_id, *values.values())
    into = found.get(place)
    if into is None:
        into = DailySlice(cut=cut, tenant_id=tenant_id, billing_day=row.billing_day, **values)
        found[place] = into
    for name in _SUMMED:
        setattr(into, name, getattr(into, name) + getattr(row, name))
    for mine, others in (
        (into.latency_histogram, row.latency_histogram),
        (into.ttft_histogram, row.ttft_histogram),
    ):
        for bucket, count in others.items():
            mine[bucket] = mine.get(bucket, 0) + count


def smallest(columns: Collection[str], *, tenant_id: uuid.UUID | None, sliced: bool) -> tuple[Table, Table]:
    """The smallest tables of days and of months that have these columns, grouped by or filtered by; and which of their
    rows. `sliced`: whether the days asked for have slices. `tenant_id` None asks for all tenants."""
    asked = set(columns) - _OF_ANY
    if "user_id" in asked:
        return (DailyUserUsage, {}), (MonthlyUserUsage, {})
    cut = next((cut for cut, has in CUTS.items() if asked <= set(has)), None)
    if cut is None or not sliced:
        return (DailyUsage, {}), (MonthlyUsage, {})
    only: dict[str, Any] = {"cut": cut}
    if tenant_id is None:
        only["tenant_id__isnull"] = cut in SHARED and "tenant_id" not in columns
    return (DailySlice, only), (MonthlySlice, only)
