"""From the provider's list price to what the tenant owes and what counts against budgets. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

from billing.pricing import rounded

OWN_PRICE = "price_override"  # in `terms`: the id of the tenant's own price, which is what it owes


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """USD: `cost` is the provider's list price, `billed` what the tenant owes the platform, `budget` what counts
    against budgets. `terms` say how `billed` follows from the cost, as JSON; empty where they are the same."""

    cost: Decimal
    billed: Decimal
    budget: Decimal
    terms: Mapping[str, Any] = field(default_factory=dict)


def charge(cost: Decimal, *, byok: bool, markup: Decimal, byok_fee: Decimal) -> Charge:
    """`markup` and `byok_fee` are shares of the cost (0.10 is ten percent).

    With a platform key the tenant owes cost plus markup, and budgets count that. With its own key it owes the fee
    alone (the provider bills it directly), and budgets count cost plus fee.
    """
    if byok:
        fee = rounded(cost * byok_fee)
        terms = {"byok_fee_percent": _percent(byok_fee)} if byok_fee else {}
        return Charge(cost=cost, billed=fee, budget=cost + fee, terms=terms)
    billed = rounded(cost * (1 + markup))
    terms = {"markup_percent": _percent(markup)} if markup else {}
    return Charge(cost=cost, billed=billed, budget=billed, terms=terms)


def at_own_price(cost: Decimal, *, billed: Decimal, terms: Mapping[str, Any]) -> Charge:
    """The charge where the tenant has a price of its own for the model: that is what it owes, without markup."""
    return Charge(cost=cost, billed=billed, budget=billed, terms=terms)


def by_terms(cost: Decimal, terms: Mapping[str, Any], *, byok: bool) -> Charge | None:
    """The charge for another list price by the terms of a request. None where the tenant's own price decides."""
    if OWN_PRICE in terms:
        return None
    markup, fee = (Decimal(terms.get(name, 0)) / 100 for name in ("markup_percent", "byok_fee_percent"))
    return charge(cost, byok=byok, markup=markup, byok_fee=fee)


@lru_cache(maxsize=256)
def _percent(share: Decimal) -> str:
    return plain(share * 100)


def plain(amount: Decimal) -> str:
    """A decimal string without exponent or trailing zeros."""
    return f"{amount.normalize():f}"
