"""What the last 30 days' traffic of a model would have cost at another price, request by request: exact, in USD.

Each usage row keeps the lines of its bill: what was counted, by meter. Those counts are priced again, rounded once per
request as a bill is, and summed. It is the provider's list price (`cost_total_usd`): markups are the tenants' own.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from billing import pricing
from billing.models import UsageRecord
from billing.money import plain
from llm.engine import snapshot
from llm.models import LLMModel, PriceVersion
from tenants.models import Tenant

DAYS = 30
# So many requests are priced anew while somebody waits; more are left to the job.
AT_ONCE = 2_000
_ADDED_BY_PRICE = "request"  # not counted but charged, where the price has it
_COLUMNS = ("tenant_id", "prompt_tokens", "price_lines", "cost_total_usd")


@dataclass(slots=True)
class Sum:
    """Requests, and USD as they were charged and as they would be."""

    requests: int = 0
    old: Decimal = pricing.ZERO
    new: Decimal = pricing.ZERO

    def add(self, old: Decimal, new: Decimal) -> None:
        self.requests += 1
        self.old += old
        self.new += new

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "old_usd": plain(self.old),
            "new_usd": plain(self.new),
            "change_usd": plain(self.new - self.old),
        }


@dataclass(slots=True)
class Impact:
    """`unchanged` requests kept their cost: without lines (swept after a crash), or the new price lacks a meter."""

    since: datetime
    until: datetime
    total: Sum = field(default_factory=Sum)
    tenants: dict[Any, Sum] = field(default_factory=lambda: defaultdict(Sum))
    unchanged: int = 0

    @property
    def change(self) -> Decimal:
        return self.total.new - self.total.old

    def as_json(self) -> dict[str, Any]:
        """As it is kept: the tenants that pay most more first."""
        slugs = dict(Tenant.objects.filter(pk__in=list(self.tenants)).values_list("pk", "slug"))
        by_change = sorted(self.tenants.items(), key=lambda one: (one[1].old - one[1].new, str(one[0])))
        rows = [{"tenant": slugs.get(pk, str(pk)), "tenant_id": str(pk), **one.as_json()} for pk, one in by_change]
        return {
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            **self.total.as_json(),
            "unchanged_requests": self.unchanged,
            "tenants": rows,
        }


def impact(*, model: LLMModel, version: PriceVersion, now: datetime, at_most: int | None = None) -> Impact | None:
    """The model's last 30 days at the price of `version`. None if there are more than `at_most` requests."""
    since = now - timedelta(days=DAYS)
    # A billing day may begin up to a day before UTC's; the index is by name and day.
    rows = UsageRecord.objects.filter(
        provider_slug=model.provider.slug,
        model_name=model.model_id,
        model_id=model.pk,
        billing_day__gte=(since - timedelta(days=1)).date(),
        created_at__gte=since,
        created_at__lt=now,
    ).order_by()
    if at_most is not None and len(rows.values_list("pk", flat=True)[: at_most + 1]) > at_most:
        return None
    return recost(rows.values_list(*_COLUMNS).iterator(), snapshot.card_of(version), since=since, until=now)


def recost(rows: Iterable[tuple[Any, ...]], card: pricing.PriceCard, *, since: datetime, until: datetime) -> Impact:
    """The same of given rows: (tenant id, prompt tokens, price lines, cost)."""
    found = Impact(since, until)
    for tenant_id, prompt_tokens, lines, old in rows:
        new = _again(card, lines, prompt_tokens)
        if new is None:
            found.unchanged += bool(old)
            new = old
        found.total.add(old, new)
        found.tenants[tenant_id].add(old, new)
    return found


def _again(card: pricing.PriceCard, lines: Any, prompt_tokens: int) -> Decimal | None:
    """One request at the new price; None if that cannot be said."""
    counts = counts_of(lines)
    if not counts:
        return None
    try:
        return pricing.price(card, counts, prompt_tokens=prompt_tokens, service_tier=service_tier_of(lines)).total
    except pricing.Unpriced:
        return None


def service_tier_of(lines: list[dict[str, Any]]) -> str:
    """The one that a bill was made at; its lines say so where it was not standard."""
    return str(lines[0].get("service_tier", pricing.STANDARD))


def counts_of(lines: Any) -> Mapping[str, int]:
    """What the lines of a bill counted, by meter; empty where that cannot be said."""
    counts: dict[str, int] = {}
    for line in lines if isinstance(lines, list) else ():
        if not isinstance(line, dict) or not isinstance(line.get("quantity"), int):
            return {}
        if line["meter"] != _ADDED_BY_PRICE:
            counts[line["meter"]] = counts.get(line["meter"], 0) + line["quantity"]
    return counts
