"""From the provider's list price to what the tenant owes and what counts against budgets. Pure."""

from dataclasses import dataclass
from decimal import Decimal

from billing.pricing import rounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """USD: `cost` is the provider's list price, `billed` what the tenant owes the platform, `budget` what counts
    against budgets."""

    cost: Decimal
    billed: Decimal
    budget: Decimal


def charge(cost: Decimal, *, byok: bool, markup: Decimal, byok_fee: Decimal) -> Charge:
    """`markup` and `byok_fee` are shares of the cost (0.10 is ten percent).

    With a platform key the tenant owes cost plus markup, and budgets count that. With its own key it owes the fee
    alone (the provider bills it directly), and budgets count cost plus fee.
    """
    if byok:
        fee = rounded(cost * byok_fee)
        return Charge(cost=cost, billed=fee, budget=cost + fee)
    billed = rounded(cost * (1 + markup))
    return Charge(cost=cost, billed=billed, budget=billed)


def plain(amount: Decimal) -> str:
    """A decimal string without exponent or trailing zeros."""
    return f"{amount.normalize():f}"
