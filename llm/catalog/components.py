"""What a price says: USD per million of each meter. Reading it from a version, checking it, comparing it. Pure.

Units: USD per million of a meter, whatever it counts.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from billing.pricing import (
    CHEAPER,
    IF_PRICED,
    STANDARD,
    ZERO,
    PriceCard,
    Rate,
    Unpriced,
    card_tiers,
    lacking,
    rate_for,
)
from llm.choices import Kind, Meter, ServiceTier
from llm.models import PriceComponent, PriceVersion
from llm.models.prices import PER_MILLION
from tenants.errors import InvalidValue
from tenants.fields import UNIT

MAX_USD_PER_1M = Decimal(100_000_000)
MAX_TOKENS = 2**31 - 1
SUSPICIOUS_FACTOR = 5
# Charged only where a price has them: one that does not name them charges nothing for them.
FEES = IF_PRICED | {Meter.REQUEST.value}
_CENT_OF_A_PERCENT = Decimal("0.01")
_MOST_PERCENT = Decimal("9999999999.99")


@dataclass(frozen=True)
class Component:
    """USD per million of one meter, for requests of strictly more than `above_tokens` prompt tokens (0: all others)."""

    meter: str
    usd_per_1m: Decimal
    above_tokens: int = 0
    service_tier: str = ServiceTier.STANDARD.value

    @property
    def key(self) -> tuple[str, int, str]:
        """What it is the price of."""
        return self.meter, self.above_tokens, self.service_tier

    @property
    def name(self) -> str:
        """Such as `input`, `input>200000`, `input (batch)`."""
        tier = "" if self.service_tier == ServiceTier.STANDARD else f" ({self.service_tier})"
        return self.meter + (f">{self.above_tokens}" if self.above_tokens else "") + tier


@dataclass(frozen=True)
class MeterChange:
    """What becomes of one meter's price, USD per million; None on a side that has none.

    `percent` is exact to 0.01, half up; None for a meter that is new, gone, or was free.
    """

    name: str
    old: Decimal | None
    new: Decimal | None
    percent: Decimal | None

    def as_json(self) -> dict[str, str | None]:
        return {name: None if (value := getattr(self, name)) is None else _plain(value) for name in _CHANGE}


_CHANGE = ("name", "old", "new", "percent")


def _plain(value: Decimal | str) -> str:
    return value if isinstance(value, str) else f"{value.normalize():f}"


def components_of(version: PriceVersion) -> list[Component]:
    """The components of a version in the form `set_price` takes."""
    return [
        Component(row.meter, row.unit_price_usd * PER_MILLION / row.unit_quantity, row.above_tokens, row.service_tier)
        for row in version.components.all()
    ]


def rows_of(version: PriceVersion, components: Iterable[Component]) -> list[PriceComponent]:
    """The same as rows, not saved."""
    return [
        PriceComponent(
            version=version,
            meter=component.meter,
            unit_quantity=PER_MILLION,
            unit_price_usd=component.usd_per_1m,
            above_tokens=component.above_tokens,
            service_tier=component.service_tier,
        )
        for component in components
    ]


def as_json(components: Iterable[Component]) -> list[dict[str, Any]]:
    """As rows keep a price that is none of the price book. `service_tier` is said where it is not `standard`."""
    return [
        {"meter": one.meter, "usd_per_1m": _plain(one.usd_per_1m), "above_tokens": one.above_tokens}
        | ({} if one.service_tier == ServiceTier.STANDARD else {"service_tier": one.service_tier})
        for one in components
    ]


def from_json(rows: Iterable[dict[str, Any]]) -> list[Component]:
    """What `as_json` kept."""
    return [
        Component(
            one["meter"], Decimal(one["usd_per_1m"]), one["above_tokens"],
            one.get("service_tier", ServiceTier.STANDARD.value),
        )
        for one in rows
    ]  # fmt: skip


def figures(version: PriceVersion | None) -> dict[str, Any]:
    """USD per million by meter, as text: what an audit event says of a price."""
    return {one.name: _plain(one.usd_per_1m) for one in ([] if version is None else components_of(version))}


def stored(usd: Decimal) -> Decimal:
    """The amount as the database keeps it, rounded half up to 1e-10."""
    return usd.quantize(UNIT, rounding=ROUND_HALF_UP)


def flat(*, input_usd: Decimal, output_usd: Decimal | None, cached_usd: Decimal | None) -> list[Component]:
    """The components of a plain price, USD per million tokens; None leaves a meter out."""
    given = ((Meter.INPUT, input_usd), (Meter.OUTPUT, output_usd), (Meter.CACHE_READ, cached_usd))
    return [Component(meter.value, usd) for meter, usd in given if usd is not None]


def check(components: Iterable[Component], *, kind: str) -> list[Component]:
    """The components as they will be stored. Raises InvalidValue(param="components") saying what is wrong."""
    checked = list(components)
    seen: set[tuple[str, int, str]] = set()
    for component in checked:
        _check_one(component)
        if component.key in seen:
            raise _wrong(f"{component.meter} is priced twice above {component.above_tokens} tokens.")
        seen.add(component.key)
    required = [Meter.INPUT, Meter.OUTPUT] if kind == Kind.CHAT else [Meter.INPUT]
    for meter in required:
        if (meter.value, 0, ServiceTier.STANDARD.value) not in seen:
            raise _wrong(f"A price for {meter.value} is missing. An explicit 0 makes it free.")
    for meter_name, _, tier in seen:
        if (meter_name, 0, tier) not in seen:
            raise _wrong(f"{meter_name} has a price above a threshold, but none below it.")
    _check_dearer(seen)
    return checked


def _check_dearer(seen: Iterable[tuple[str, int, str]]) -> None:
    """A service tier that is dearer than standard must price all that standard does: nothing of it gets cheaper."""
    named: dict[str, dict[int, set[str]]] = {}
    for meter, above, tier in seen:
        named.setdefault(tier, {}).setdefault(above, set()).add(meter)
    for tier in sorted(named.keys() - CHEAPER - {STANDARD}):
        missing = lacking(named[STANDARD], named[tier])
        if missing is not None:
            meter, above = missing
            where = f" above {above} tokens" if above else ""
            raise _wrong(f"The service tier {tier} has no price for {meter}{where}, which standard has.")


def _check_one(component: Component) -> None:
    usd = component.usd_per_1m
    if component.meter not in Meter.values:
        raise _wrong(f"“{component.meter}” is no meter. Meters are: {', '.join(Meter.values)}.")
    if component.service_tier not in ServiceTier.values:
        raise _wrong(f"“{component.service_tier}” is no service tier: {', '.join(ServiceTier.values)}.")
    if not usd.is_finite() or usd < 0:
        raise _wrong(f"The price of {component.meter} is negative or no number.")
    if usd > MAX_USD_PER_1M:
        raise _wrong(f"The price of {component.meter} is above {MAX_USD_PER_1M:,} USD per million.")
    if usd != stored(usd):
        raise _wrong(f"The price of {component.meter} has more than 10 decimal places of a dollar.")
    if not 0 <= component.above_tokens <= MAX_TOKENS:
        raise _wrong(f"above_tokens of {component.meter} is not between 0 and {MAX_TOKENS}.")


def _wrong(message: str) -> InvalidValue:
    return InvalidValue(message, param="components")


def suspicious(old: Decimal, new: Decimal) -> bool:
    """True if `new` is more than five times `old` or less than a fifth of it; to or from free is, too."""
    return old != new and max(old, new) > SUSPICIOUS_FACTOR * min(old, new)


def first_jump(old: Sequence[Component], new: Sequence[Component]) -> tuple[str, Decimal, Decimal] | None:
    """The first meter that would cost a request more than five times as much, or less than a fifth (`suspicious`): its
    name in words, and USD per million before and after. None if there is none, or no price before.

    Compared is what is charged, not what is named: fallbacks are resolved, on both sides of each context threshold of
    either price, at each service tier; at one that a price does not offer its standard counts.
    """
    if not old:
        return None
    before, after = card_of(old), card_of(new)
    thresholds = sorted({0, *(one.above_tokens for one in (*old, *new))})
    for service_tier in ServiceTier.values:
        for above in thresholds:
            for meter in Meter.values:
                was, becomes = (_charged(card, meter, above, service_tier) for card in (before, after))
                if was is not None and becomes is not None and suspicious(was, becomes):
                    where = f" above {above} prompt tokens" if above else ""
                    where += "" if service_tier == STANDARD else f" ({service_tier})"
                    return meter + where, was, becomes
    return None


def card_of(components: Iterable[Component]) -> PriceCard:
    """A card of these, as bills are made from one; of no version, and of no time."""
    tiers, services = card_tiers(
        (one.service_tier, one.above_tokens, one.meter, Rate(price=one.usd_per_1m, quantity=PER_MILLION))
        for one in components
    )
    return PriceCard(
        version_id=uuid.UUID(int=0), number=0, effective_from=datetime.min.replace(tzinfo=UTC), effective_to=None,
        tiers=tiers, services=services,
    )  # fmt: skip


def _charged(card: PriceCard, meter: str, above: int, service_tier: str) -> Decimal | None:
    """USD per million for a request of just more than so many prompt tokens. None: it cannot be priced."""
    offered = service_tier if service_tier in card.services else STANDARD
    try:
        return rate_for(card.tier_for(above + 1, offered), meter).of(PER_MILLION)
    except Unpriced:
        return ZERO if meter in FEES else None


def changes(old: Sequence[Component], new: Sequence[Component]) -> list[MeterChange]:
    """Every meter whose price differs, in order of its name."""
    before = {one.key: one for one in old}
    after = {one.key: one for one in new}
    found = []
    for key in before.keys() | after.keys():
        was, becomes = before.get(key), after.get(key)
        old_usd = None if was is None else was.usd_per_1m
        new_usd = None if becomes is None else becomes.usd_per_1m
        if old_usd != new_usd:
            named = becomes or was
            assert named is not None
            found.append(MeterChange(named.name, old_usd, new_usd, _percent(old_usd, new_usd)))
    return sorted(found, key=lambda change: change.name)


def _percent(old: Decimal | None, new: Decimal | None) -> Decimal | None:
    if not old or new is None:
        return None
    percent = min((new - old) * 100 / old, _MOST_PERCENT)
    return percent.quantize(_CENT_OF_A_PERCENT, rounding=ROUND_HALF_UP)


def largest_percent(found: Iterable[MeterChange]) -> Decimal | None:
    """The percentage furthest from zero, sign and all; None if there is none."""
    return max((one.percent for one in found if one.percent is not None), key=abs, default=None)
