"""Figures of a month as one canonical text: the same figures give the same bytes, on any machine and database.

JSON in ASCII with sorted keys, no spaces and one line feed at the end; decimals are strings without exponent and
trailing zeros, rounded half up to 1e-10 USD; lists are sorted by what they are of. Charges add up:

    list_usd             what the providers' list prices come to: the lines, what has none (`unitemised_usd`), and
                         what rounding each request once makes of it (`rounding_usd`)
    own_key_list_usd     the part of it that the tenant pays its providers itself
    own_price_list_usd   the part of it that is billed at the tenant's own prices instead
    own_price_usd        what that comes to: `own_price_lines`, `own_price_unitemised_usd`, `own_price_rounding_usd`
    markup_usd           what is billed above the list price (below, if negative), with the platform's keys
    own_key_fee_usd      what is billed for requests with the tenant's own keys
    adjustments_usd      corrections of what is billed; adjustments_list_usd: of the list price
    cost_usd             list_usd + adjustments_list_usd
    billed_usd           list_usd - own_key_list_usd - own_price_list_usd + own_price_usd + markup_usd + own_key_fee_usd
                         + adjustments_usd
    prepaid_usd          the part of billed_usd that prepaid credit paid; due_usd is the rest

The form is the document's own `format`, so one that was finalised in an earlier form is worked out in that again.
`tollgate-statement/1` knew neither own prices (their difference was in markup_usd) nor prepaid credit.
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
from billing.charges import TOKENS, ZERO, Place, Unit, Used
from billing.pricing import STANDARD, rounded
from billing.statements.figures import Adjusted, Figures

FIRST, FORMAT = "tollgate-statement/1", "tollgate-statement/2"
FORMATS = (FIRST, FORMAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Whose statement it is, in which of FORMATS. `finalised_at` None: a draft."""

    tenant_id: uuid.UUID
    slug: str
    name: str
    timezone: str
    month: date
    finalised_at: datetime | None = None
    format: str = FORMAT


@dataclass(slots=True, kw_only=True)
class Sums:
    """What some places and adjustments come to, in a document of that format."""

    format: str
    requests: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKENS, 0))
    listed: Decimal = ZERO
    own_key: Decimal = ZERO
    own_list: Decimal = ZERO
    own_price: Decimal = ZERO
    markup: Decimal = ZERO
    fee: Decimal = ZERO
    adjusted_list: Decimal = ZERO
    adjusted: Decimal = ZERO
    prepaid: Decimal = ZERO

    def use(self, place: Place, used: Used) -> None:
        self.requests += used.requests
        for name in TOKENS:
            self.tokens[name] += used.tokens[name]
        self.listed += used.cost
        self.prepaid += used.prepaid
        if place.own_key:
            self.own_key += used.cost
            self.fee += used.billed
        elif self.format == FIRST:
            self.markup += used.billed - used.cost
        else:
            self.own_list += used.own_list
            self.own_price += used.own
            self.markup += markup(used)

    def adjust(self, one: Adjusted) -> None:
        self.adjusted_list += one.cost
        self.adjusted += one.billed
        self.prepaid += one.prepaid

    @property
    def cost(self) -> Decimal:
        return self.listed + self.adjusted_list

    @property
    def billed(self) -> Decimal:
        at_list = self.listed - self.own_key - self.own_list
        return at_list + self.own_price + self.markup + self.fee + self.adjusted

    def as_json(self) -> dict[str, Any]:
        later = {
            "own_price_list_usd": self.own_list,
            "own_price_usd": self.own_price,
            "prepaid_usd": self.prepaid,
            "due_usd": self.billed - self.prepaid,
        }
        return {
            "requests": self.requests,
            **self.tokens,
            "list_usd": usd(self.listed),
            "own_key_list_usd": usd(self.own_key),
            "markup_usd": usd(self.markup),
            "own_key_fee_usd": usd(self.fee),
            "adjustments_list_usd": usd(self.adjusted_list),
            "adjustments_usd": usd(self.adjusted),
            "cost_usd": usd(self.cost),
            "billed_usd": usd(self.billed),
            **_since_second(self.format, later),
        }


def markup(used: Used) -> Decimal:
    """What is billed above the list price, with the platform's keys, where the tenant has no price of its own."""
    return (used.billed - used.own) - (used.cost - used.own_list)


def _since_second(form: str, amounts: dict[str, Decimal]) -> dict[str, str]:
    """What the first format did not say."""
    return {} if form == FIRST else {name: usd(amount) for name, amount in amounts.items()}


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
    total = Sums(format=head.format)
    for place, used in figures.used.items():
        total.use(place, used)
    for one in figures.adjusted:
        total.adjust(one)
    at = head.finalised_at
    return {
        "format": head.format,
        "tenant": {"id": str(head.tenant_id), "slug": head.slug, "name": head.name},
        "month": f"{head.month:%Y-%m}",
        "first_day": days[0].isoformat(),
        "last_day": days[-1].isoformat(),
        "timezone": head.timezone,
        "currency": "USD",
        "status": "draft" if at is None else "final",
        "finalised_at": None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds"),
        "totals": total.as_json(),
        "days": _by(figures, "day", head.format),
        "keys": _by(figures, "key_id", head.format, figures.names("key")),
        "configs": _by(figures, "config_id", head.format, figures.names("config")),
        "models": _models(figures, head.format),
        "adjustments": [_adjustment(one, head.format) for one in figures.adjusted],
        "details": [_detail(place, figures.used[place], head.format) for place in sorted(figures.used, key=_text)],
    }


def _by(figures: Figures, name: str, form: str, names: dict[Any, str] | None = None) -> list[dict[str, Any]]:
    """Sums by one part of the place; all add up to the totals. What belongs to none stands under null."""
    sums: dict[Any, Sums] = defaultdict(lambda: Sums(format=form))
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


def _models(figures: Figures, form: str) -> list[dict[str, Any]]:
    """By model and whose key paid the provider, with a line for each meter and unit price."""
    sums: dict[tuple[str, str, bool], Sums] = defaultdict(lambda: Sums(format=form))
    merged: dict[tuple[str, str, bool], Used] = defaultdict(Used)
    for place, used in figures.used.items():
        group = (place.provider, place.model, place.own_key)
        sums[group].use(place, used)
        merged[group].add(used)
    for one in figures.adjusted:
        sums[one.provider, one.model, one.own_key].adjust(one)
    return [
        {
            "provider": group[0],
            "model": group[1],
            "own_key": group[2],
            **sums[group].as_json(),
            **_itemised(merged[group], form),
        }
        for group in sorted(sums)
    ]


def _detail(place: Place, used: Used, form: str) -> dict[str, Any]:
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
        **_since_second(
            form,
            {"own_price_list_usd": used.own_list, "own_price_usd": used.own, "prepaid_usd": used.prepaid},
        ),
        **_itemised(used, form),
    }


def _itemised(used: Used, form: str) -> dict[str, Any]:
    """The lines of a charge at list price, and what they leave of it; since the second format the same at the tenant's
    own prices."""
    lines, at_list = _lines(used.units)
    itemised = {
        "lines": lines,
        "unitemised_usd": usd(used.unitemised),
        "rounding_usd": usd(used.cost - used.unitemised - at_list),
    }
    if form == FIRST:
        return itemised
    lines, at_own = _lines(used.own_units)
    return {
        **itemised,
        "own_price_lines": lines,
        "own_price_unitemised_usd": usd(used.own_unitemised),
        "own_price_rounding_usd": usd(used.own - used.own_unitemised - at_own),
    }


def _lines(units: dict[Unit, int]) -> tuple[list[dict[str, Any]], Decimal]:
    """A line for each unit price, and what they come to, each rounded."""
    lines, total = [], ZERO
    for unit in sorted(units):
        amount = rounded(unit.price * units[unit] / unit.per)
        total += amount
        lines.append(
            {
                "meter": unit.meter,
                "priced_as": unit.priced_as,
                "quantity": units[unit],
                "unit_price_usd": usd(unit.price),
                "unit_quantity": unit.per,
                "amount_usd": usd(amount),
                **({} if unit.service_tier == STANDARD else {"service_tier": unit.service_tier}),
            }
        )
    return lines, total


def _adjustment(one: Adjusted, form: str) -> dict[str, Any]:
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
        **_since_second(form, {"prepaid_usd": one.prepaid}),
    }


def _text(place: Iterable[Any]) -> tuple[str, ...]:
    return tuple(map(str, place))
