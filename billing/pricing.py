"""Price card x disjoint meters -> lines -> total. Pure, exact, rounded once per request, half up.

A meter is a count of one kind of thing (input tokens, cached tokens, ...). No token is in two meters. Strictly above
a tier's threshold of prompt tokens the whole request is priced at that tier. A meter a card does not price falls back
as FALLBACK declares, never to zero. What IF_PRICED names is charged where the card has it, and not counted elsewhere.

A card may have prices of other service tiers beside `standard`. What one does not name never gets cheaper for that:

    flex, batch   cheaper than standard: what they leave out costs what it costs in `standard`, threshold by threshold
    priority      dearer than standard: it prices what it names, falling back within itself as FALLBACK declares. It
                  must be able to price all that `standard` does, at every threshold; else the card does not offer it
"""

import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from types import MappingProxyType

from tenants.fields import UNIT

# What stands in for a meter that has no price, the first that has one.
FALLBACK: Mapping[str, tuple[str, ...]] = {
    "cache_read": ("input",),
    "cache_write_5m": ("input",),
    "cache_write_1h": ("cache_write_5m", "input"),
    "audio_input": ("input",),
    "image_input": ("input",),
    "video_input": ("input",),
    "audio_cache_read": ("audio_input", "cache_read", "input"),
    "image_cache_read": ("image_input", "cache_read", "input"),
    "reasoning": ("output",),
    "audio_output": ("output",),
    "image_output": ("output",),
    "video_output": ("output",),
}
CACHE_WRITES = frozenset({"cache_write_5m", "cache_write_1h"})
MEDIA_INPUT = frozenset({"audio_input", "image_input", "video_input", "audio_cache_read", "image_cache_read"})
OUTPUT_METERS = frozenset({"output", "reasoning", "audio_output", "image_output", "video_output"})
# A fee beside the tokens: for each image sent, search made, token of a source cited.
IF_PRICED = frozenset({"image", "search", "citation"})
INPUT_METERS = CACHE_WRITES | MEDIA_INPUT | IF_PRICED | {"input", "cache_read", "request"}
STANDARD = "standard"
CHEAPER = frozenset({"flex", "batch"})
NOTHING: Mapping[str, int] = MappingProxyType({})


def nothing() -> Mapping[str, int]:
    """No counts."""
    return NOTHING


ZERO = Decimal(0)


class Unpriced(Exception):
    """The card has no price for a meter and none it may fall back to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many USD (`price`) for so many units (`quantity`)."""

    price: Decimal
    quantity: int = 1_000_000

    def of(self, count: int) -> Decimal:
        return self.price * count / self.quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Prices that hold when a request has strictly more than `above` prompt tokens."""

    above: int
    rates: Mapping[str, Rate]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceCard:
    """One version of one model's prices. `tiers` highest threshold first; the last has threshold 0. `services`: the
    same of the other service tiers it offers."""

    version_id: uuid.UUID
    number: int
    effective_from: datetime
    effective_to: datetime | None
    tiers: tuple[Tier, ...]
    services: Mapping[str, tuple[Tier, ...]] = field(default_factory=dict)

    def tiers_of(self, service_tier: str) -> tuple[Tier, ...]:
        """Raises Unpriced for a service tier that the card does not offer."""
        if service_tier == STANDARD:
            return self.tiers
        try:
            return self.services[service_tier]
        except KeyError:
            raise Unpriced(f"There is no price for the service tier {service_tier}.") from None

    def tier_for(self, prompt_tokens: int, service_tier: str = STANDARD) -> Tier:
        tiers = self.tiers_of(service_tier)
        for tier in tiers:
            if prompt_tokens > tier.above:
                return tier
        return tiers[-1]

    def blended_per_1m(self, service_tiers: Iterable[str] = (STANDARD,)) -> Decimal:
        """(3 x input + output) / 4 of the base tier, USD per million tokens: what power levels compare. Of several
        service tiers it is the dearest. Raises Unpriced."""
        return max(_blended(self.tiers_of(one)[-1]) for one in service_tiers)


def _blended(base: Tier) -> Decimal:
    output = rate_for(base, "output").of(1_000_000) if "output" in base.rates else ZERO
    return (3 * rate_for(base, "input").of(1_000_000) + output) / 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One meter of one bill: `count` units at `rate`. `priced_as` differs from `meter` after a declared fallback."""

    meter: str
    priced_as: str
    count: int
    rate: Rate
    amount: Decimal
    service_tier: str = STANDARD

    def as_json(self) -> dict[str, str | int]:
        """`service_tier` is said where it is not `standard`."""
        line: dict[str, str | int] = {
            "meter": self.meter,
            "priced_as": self.priced_as,
            "quantity": self.count,
            "unit_price_usd": f"{self.rate.price.normalize():f}",
            "unit_quantity": self.rate.quantity,
            "amount_usd": f"{self.amount.normalize():f}",
        }
        if self.service_tier != STANDARD:
            line["service_tier"] = self.service_tier
        return line


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """USD, exact to 1e-10: `total` is rounded once, `output` is what is left of it after `input`."""

    lines: tuple[Line, ...]
    input: Decimal
    output: Decimal
    total: Decimal


def rounded(amount: Decimal) -> Decimal:
    """Half up to 1e-10 USD."""
    return amount.quantize(UNIT, rounding=ROUND_HALF_UP)


def rate_for(tier: Tier, meter: str) -> Rate:
    """The rate of a meter, or of what it falls back to. Raises Unpriced."""
    return tier.rates[_priced_as(tier, meter)]


def _priced_as(tier: Tier, meter: str) -> str:
    if meter in tier.rates:
        return meter
    for name in FALLBACK.get(meter, ()):
        if name in tier.rates:
            return name
    raise Unpriced(f"There is no price for {meter}.")


def whole_tiers(*named: Mapping[int, Mapping[str, Rate]]) -> tuple[Tier, ...]:
    """Highest threshold first. A tier prices what it names; for the rest the price of the tier below goes on. Of
    several price lists a later one wins at the same threshold."""
    found: list[Tier] = []
    rates: dict[str, Rate] = {}
    for above in sorted({0}.union(*named)):
        for one in named:
            rates = {**rates, **one.get(above, {})}
        found.append(Tier(above=above, rates=rates))
    return tuple(reversed(found))


Priced = tuple[str, int, str, Rate]  # service tier, threshold, meter


def card_tiers(priced: Iterable[Priced]) -> tuple[tuple[Tier, ...], dict[str, tuple[Tier, ...]]]:
    """`tiers` and `services` of a card with these prices."""
    named: dict[str, dict[int, dict[str, Rate]]] = {STANDARD: {}}
    for service_tier, above, meter, rate in priced:
        named.setdefault(service_tier, {}).setdefault(above, {})[meter] = rate
    standard = named.pop(STANDARD)
    return whole_tiers(standard), services(standard, named)


def services(
    standard: Mapping[int, Mapping[str, Rate]], others: Mapping[str, Mapping[int, Mapping[str, Rate]]]
) -> dict[str, tuple[Tier, ...]]:
    """The tiers of each other service tier that is offered. All are named by threshold and meter."""
    offered = {}
    for service_tier, named in others.items():
        if service_tier in CHEAPER:
            offered[service_tier] = whole_tiers(standard, named)
        elif lacking(standard, named) is None:
            offered[service_tier] = whole_tiers(named)
    return offered


def lacking(standard: Mapping[int, Collection[str]], named: Mapping[int, Collection[str]]) -> tuple[str, int] | None:
    """A meter and threshold that `standard` prices and a dearer service tier does not; None if it prices all."""
    base = named.get(0, ())
    for above, meters in sorted(standard.items()):
        for meter in meters:
            stands = next((one for one in (meter, *FALLBACK.get(meter, ())) if one in base), None)
            if stands is None or (above and stands not in named.get(above, ())):
                return meter if stands is None else stands, above
    return None


def price(card: PriceCard, meters: Mapping[str, int], *, prompt_tokens: int, service_tier: str = STANDARD) -> Cost:
    """What these counts cost. `prompt_tokens` (cached ones included) picks the tier. Raises Unpriced."""
    tier = card.tier_for(prompt_tokens, service_tier)
    if "request" in tier.rates:
        meters = {**meters, "request": 1}
    lines = []
    incoming = outgoing = ZERO
    with localcontext() as exact:
        exact.prec = 60
        for meter, count in meters.items():
            name = _priced_as(tier, meter)
            rate = tier.rates[name]
            amount = rate.of(count)
            lines.append(
                Line(meter=meter, priced_as=name, count=count, rate=rate, amount=amount, service_tier=service_tier)
            )
            if meter in INPUT_METERS:
                incoming += amount
            else:
                outgoing += amount
        total = rounded(incoming + outgoing)
        charged_input = rounded(incoming)
    return Cost(lines=tuple(lines), input=charged_input, output=total - charged_input, total=total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The most that a request can use. `media`: it may hold audio, images or video. `cache_writes`: it can write a
    provider's cache, which may cost more than plain input. `beside`: counts of what IF_PRICED names."""

    input: int
    output: int
    cache_writes: bool = True
    media: bool = True
    beside: Mapping[str, int] = field(default_factory=nothing)


def worst_case(card: PriceCard, bounds: Bounds, service_tiers: Iterable[str] = (STANDARD,)) -> Decimal:
    """The most that so much can cost on this card at any of these service tiers, in USD: every tier in reach, every
    meter at its dearest. Raises Unpriced for a service tier that is not offered."""
    kept_out = (frozenset() if bounds.cache_writes else CACHE_WRITES) | (frozenset() if bounds.media else MEDIA_INPUT)
    worst = ZERO
    with localcontext() as exact:
        exact.prec = 60
        for service_tier in service_tiers:
            for tier in card.tiers_of(service_tier):
                if not tier.above or bounds.input > tier.above:
                    worst = max(worst, _most(tier, bounds, kept_out))
        return rounded(worst)


def _most(tier: Tier, bounds: Bounds, kept_out: Collection[str]) -> Decimal:
    incoming = outgoing = beside = ZERO
    for meter, rate in tier.rates.items():
        if meter in OUTPUT_METERS:
            outgoing = max(outgoing, rate.of(bounds.output))
        elif meter == "request":
            beside += rate.of(1)
        elif meter in IF_PRICED:
            beside += rate.of(bounds.beside.get(meter, 0))
        elif meter not in kept_out:
            incoming = max(incoming, rate.of(bounds.input))
    return incoming + outgoing + beside
