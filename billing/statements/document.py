"""Figures of a month as one canonical text: the same figures give the same bytes, on any machine and database.

JSON in ASCII with sorted keys, no spaces and one line feed at the end; decimals are strings without exponent and
trailing zeros, rounded half up to 1e-10 USD; lists are sorted by what they are of. Charges add up:

    list_usd             what the providers' list prices come to: the lines, what has none (`unitemised_usd`), and
                         what rounding each request once makes of it (`rounding_usd`)
    own_key_list_usd     the part of it that the tenant pays its providers itself
    markup_usd           what is billed above the list price (below, if negative), with the platform's keys
    own_key_fee_usd      what is billed for requests with the tenant's own keys
    adjustments_usd      corrections of what is billed; adjustments_list_usd: of the list price
    cost_usd             list_usd + adjustments_list_usd
    billed_usd           list_usd - own_key_list_usd + markup_usd + own_key_fee_usd + adjustments_usd
"""

import hashlib
import json
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext
from typing import Any

from billing import periods
from billing.pricing import STANDARD, rounded
from billing.statements.figures import TOKENS, ZERO, Adjusted, Figures, Place, Unit, Used

FORMAT = "tollgate-statement/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Whose statement it is. `finalised_at` None: a draft."""

    tenant_id: uuid.UUID
    slug: str
    name: str
    timezone: str
    month: date
    finalised_at: datetime | None = None


@dataclass(slots=True)
class Sums:
    """What some places and adjustments come to."""

    requests: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKENS, 0))
    listed: Decimal = ZERO
    own: Decimal = ZERO
    markup: Decimal = ZERO
    fee: Decimal = ZERO
    adjusted_list: Decimal = ZERO
    adjusted: Decimal = ZERO

    def use(self, place: Place, used: Used) -> None:
        self.requests += used.requests
        for name in TOKENS:
            self.tokens[name] += used.tokens[name]
        self.listed += used.cost
        if place.own_key:
            self.own += used.cost
            self.fee += used.billed
        else:
            self.markup += used.billed - used.cost

    def adjust(self, one: Adjusted) -> None:
        self.adjusted_list += one.cost
        self.adjusted += one.billed

    @property
    def cost(self) -> Decimal:
        return self.listed + self.adjusted_list

    @property
    def billed(self) -> Decimal:
        return self.listed - self.own + self.markup + self.fee + self.adjusted

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            **self.tokens,
            "list_usd": usd(self.listed),
            "own_key_list_usd": usd(self.own),
            "markup_usd": usd(self.markup),
            "own_key_fee_usd": usd(self.fee),
            "adjustments_list_usd": usd(self.adjusted_list),
            "adjustments_usd": usd(self.adjusted),
            "cost_usd": usd(self.cost),
            "billed_usd": usd(self.billed),
        }


def usd(amount: Decimal) -> str:
    """The one form of a decimal. Zero has no sign."""
    return f"{amount.normalize():f}" if amount else "0"


def compose(head: Head, figures: Figures) -> bytes:
    """The canonical text."""
    with localcontext() as exact:
        exact.prec = 60
        document = _document(head, figures)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"


def sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _document(head: Head, figures: Figures) -> dict[str, Any]:
    days = periods.days_of(head.month)
    total = Sums()
    for place, used in figures.used.items():
        total.use(place, used)
    for one in figures.adjusted:
        total.adjust(one)
    at = head.finalised_at
    return {
        "format": FORMAT,
        "tenant": {"id": str(head.tenant_id), "slug": head.slug, "name": head.name},
        "month": f"{head.month:%Y-%m}",
        "first_day": days[0].isoformat(),
        "last_day": days[-1].isoformat(),
        "timezone": head.timezone,
        "currency": "USD",
        "status": "draft" if at is None else "final",
        "finalised_at": None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds"),
        "totals": total.as_json(),
        "days": _by(figures, "day"),
        "keys": _by(figures, "key_id", figures.key_names),
        "configs": _by(figures, "config_id", figures.config_names),
        "models": _models(figures),
        "adjustments": [_adjustment(one) for one in figures.adjusted],
        "details": [_detail(place, figures.used[place]) for place in sorted(figures.used, key=_text)],
    }


def _by(figures: Figures, name: str, names: dict[uuid.UUID, str] | None = None) -> list[dict[str, Any]]:
    """Sums by one part of the place; all add up to the totals. What belongs to none stands under null."""
    sums: dict[Any, Sums] = defaultdict(Sums)
    for place, used in figures.used.items():
        sums[getattr(place, name)].use(place, used)
    for one in figures.adjusted:
        sums[getattr(one, name)].adjust(one)
    result = []
    for value in sorted(sums, key=lambda value: (value is None, str(value))):
        row: dict[str, Any] = {name: None if value is None else str(value), **sums[value].as_json()}
        if names is not None:
            row["name"] = names.get(value, "")
        result.append(row)
    return result


def _models(figures: Figures) -> list[dict[str, Any]]:
    """By model and whose key paid the provider, with a line for each meter and unit price."""
    sums: dict[tuple[str, str, bool], Sums] = defaultdict(Sums)
    merged: dict[tuple[str, str, bool], Used] = defaultdict(Used)
    for place, used in figures.used.items():
        group = (place.provider, place.model, place.own_key)
        sums[group].use(place, used)
        whole = merged[group]
        whole.cost += used.cost
        whole.unitemised += used.unitemised
        for unit, quantity in used.units.items():
            whole.units[unit] += quantity
    for one in figures.adjusted:
        sums[one.provider, one.model, False].adjust(one)
    return [
        {
            "provider": group[0],
            "model": group[1],
            "own_key": group[2],
            **sums[group].as_json(),
            **_itemised(merged[group]),
        }
        for group in sorted(sums)
    ]


def _detail(place: Place, used: Used) -> dict[str, Any]:
    return {
        "day": place.day.isoformat(),
        "key_id": None if place.key_id is None else str(place.key_id),
        "config_id": None if place.config_id is None else str(place.config_id),
        "provider": place.provider,
        "model": place.model,
        "own_key": place.own_key,
        "requests": used.requests,
        "list_usd": usd(used.cost),
        "billed_usd": usd(used.billed),
        **_itemised(used),
    }


def _itemised(used: Used) -> dict[str, Any]:
    """The lines of a charge at list price, and what they leave of it."""
    amounts = {unit: rounded(unit.price * used.units[unit] / unit.per) for unit in used.units}
    return {
        "lines": [
            {
                "meter": unit.meter,
                "priced_as": unit.priced_as,
                "quantity": used.units[unit],
                "unit_price_usd": usd(unit.price),
                "unit_quantity": unit.per,
                "amount_usd": usd(amounts[unit]),
                **({} if unit.service_tier == STANDARD else {"service_tier": unit.service_tier}),
            }
            for unit in sorted(amounts, key=_unit_order)
        ],
        "unitemised_usd": usd(used.unitemised),
        "rounding_usd": usd(used.cost - used.unitemised - sum(amounts.values(), ZERO)),
    }


def _unit_order(unit: Unit) -> tuple[str, str, Decimal, int, str]:
    return unit.meter, unit.priced_as, unit.price, unit.per, unit.service_tier


def _adjustment(one: Adjusted) -> dict[str, Any]:
    ids = {"request_id": one.request_id, "key_id": one.key_id, "config_id": one.config_id}
    return {
        "day": one.day.isoformat(),
        "kind": one.kind,
        "count": one.count,
        **{name: None if value is None else str(value) for name, value in ids.items()},
        "provider": one.provider,
        "model": one.model,
        "reason": one.reason,
        "list_usd": usd(one.cost),
        "billed_usd": usd(one.billed),
    }


def _text(place: Iterable[Any]) -> tuple[str, ...]:
    return tuple(map(str, place))
