"""What one key has used: an API key of a tenant, or a provider key of its own (BYOK). Days without a roll-up are read
from the requests themselves, as in every report. Amounts are USD, exact; latencies whole milliseconds.
"""

import uuid
from collections import defaultdict
from collections.abc import Mapping
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

from django.db.models import Q

from billing.snapshot import reading
from billing.sums import Totals, days_of, sums

KeyColumn = Literal["key_id", "credential_id"]
# By what the figures are broken down, and the columns that decide it.
PARTS: Mapping[str, tuple[str, ...]] = {
    "provider": ("provider_slug",),
    "model": ("provider_slug", "model_name"),
    "power_level": ("power_level",),
    "day": ("billing_day",),
}
# By day they are few, and all else is in the months: together they would be the days of each model.
_READ = (("billing_day",), ("provider_slug", "model_name", "power_level"))
_SHARE = Decimal("0.0001")


def of_key(*, tenant_id: uuid.UUID, column: KeyColumn, key: uuid.UUID, start: date, end: date) -> dict[str, Any]:
    """`total`, and `by_provider`, `by_model`, `by_power_level` (dearest first), `by_day` (in order, days without any
    left out): rows as `reports.summary`, each with `byok_share` (0 to 1, of its requests).

    Adjustments of its requests count in the money.
    """
    groups: dict[str, dict[tuple[Any, ...], Totals]] = {name: defaultdict(Totals) for name in PARTS}
    whole = Totals()
    with reading():
        days = days_of(start, end)
        for read in _READ:
            parts = {name: columns for name, columns in PARTS.items() if set(columns) <= set(read)}
            for found in sums(tenant_id=tenant_id, days=days, columns=read, only=Q(**{column: key})):
                if "day" in parts:
                    whole.add(found)
                for name, columns in parts.items():
                    groups[name][tuple(found[one] for one in columns)].add(found)
    return {"total": _row(whole), **{f"by_{name}": _rows(name, found) for name, found in groups.items()}}


def _rows(name: str, found: Mapping[tuple[Any, ...], Totals]) -> list[dict[str, Any]]:
    rows = [
        {name: group[0] if len(group) == 1 else "/".join(part for part in group if part), **_row(totals)}
        for group, totals in found.items()
    ]
    if name == "day":
        return sorted(rows, key=lambda row: row["day"])
    return sorted(rows, key=lambda row: (-row["cost_usd"], -row["requests"], row[name]))


def _row(totals: Totals) -> dict[str, Any]:
    return {**totals.row(), "byok_share": share(totals.byok_requests, totals.requests)}


def share(part: int, whole: int) -> Decimal:
    """Part of the whole, 0 to 1, rounded half up to four places; 0 of nothing."""
    return (Decimal(part) / whole).quantize(_SHARE, ROUND_HALF_UP) if whole else Decimal(0)
