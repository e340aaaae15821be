"""Price card x disjoint meters -> lines -> total. Pure, exact, rounded once per request, half up.

A meter is a count of one kind of thing (input tokens, cached tokens, ...). No token is in two meters. Strictly above
a tier's threshold of prompt tokens the whole request is priced at that tier. A meter a card does not price falls back
as FALLBACK declares, never to zero.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext

from tenants.fields import UNIT

FALLBACK: Mapping[str, str] = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "audio_input": "input",
    "reasoning": "output",
    "audio_output": "output",
}
INPUT_METERS = frozenset({"input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image", "request"})
CACHE_WRITES = frozenset({"cache_write_5m", "cache_write_1h"})
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
    """One version of one model's prices. `tiers` highest threshold first; the last has threshold 0."""

    version_id: uuid.UUID
    number: int
    effective_from: datetime
    effective_to: datetime | None
    tiers: tuple[Tier, ...]

    def tier_for(self, prompt_tokens: int) -> Tier:
        for tier in self.tiers:
            if prompt_tokens > tier.above:
                return tier
        return self.tiers[-1]

    @property
    def blended_per_1m(self) -> Decimal:
        """(3 x input + output) / 4 of the base tier, USD per million tokens: what power levels compare."""
        base = self.tiers[-1]
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

    def as_json(self) -> dict[str, str | int]:
        return {
            "meter": self.meter,
            "priced_as": self.priced_as,
            "quantity": self.count,
            "unit_price_usd": f"{self.rate.price.normalize():f}",
            "unit_quantity": self.rate.quantity,
            "amount_usd": f"{self.amount.normalize():f}",
        }


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
    name: str | None = meter
    while name is not None:
        if name in tier.rates:
            return name
        name = FALLBACK.get(name)
    raise Unpriced(f"There is no price for {meter}.")


def price(card: PriceCard, meters: Mapping[str, int], *, prompt_tokens: int) -> Cost:
    """What these counts cost. `prompt_tokens` (cached ones included) picks the tier. Raises Unpriced."""
    tier = card.tier_for(prompt_tokens)
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
            lines.append(Line(meter=meter, priced_as=name, count=count, rate=rate, amount=amount))
            if meter in INPUT_METERS:
                incoming += amount
            else:
                outgoing += amount
        total = rounded(incoming + outgoing)
        charged_input = rounded(incoming)
    return Cost(lines=tuple(lines), input=charged_input, output=total - charged_input, total=total)


def worst_case(card: PriceCard, *, input_bound: int, output_bound: int, cache_writes: bool) -> Decimal:
    """The most that so many tokens can cost on this card, in USD: every tier in reach, every meter at its dearest.

    `cache_writes` says whether the request can write a provider's cache, which may cost more than plain input.
    """
    worst = ZERO
    with localcontext() as exact:
        exact.prec = 60
        for tier in card.tiers:
            if tier.above and input_bound <= tier.above:
                continue
            incoming = [
                rate.of(input_bound)
                for meter, rate in tier.rates.items()
                if meter in ("input", "cache_read", "audio_input") or (cache_writes and meter in CACHE_WRITES)
            ]
            outgoing = [
                rate.of(output_bound)
                for meter, rate in tier.rates.items()
                if meter in ("output", "reasoning", "audio_output")
            ]
            fixed = tier.rates["request"].of(1) if "request" in tier.rates else ZERO
            worst = max(worst, max(incoming, default=ZERO) + max(outgoing, default=ZERO) + fixed)
        return rounded(worst)
