"""What can go wrong with money.

TollgateError (tenants.errors)
├── BudgetExceeded       429  a reserve would pass the limit of one scope, named by `param`
│   └── CreditsExhausted      the tenant pays in advance, and what is left does not cover the worst case
├── LedgerUnavailable    503  the database did not answer in time; nothing was promised
└── AlreadySettled       500  a hold was settled twice: a bug of ours, never silently ignored
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from tenants.errors import TollgateError, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a reserve was refused: amounts in USD."""

    scope_kind: str
    period: str
    limit: Decimal
    spent: Decimal
    held: Decimal
    needed: Decimal
    resets_at: datetime


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


class BudgetExceeded(TollgateError):
    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self.decision: Any = None  # the route it was refused on, for whoever keeps refusals
        period = {"day": "daily", "month": "monthly"}[refusal.period]
        super().__init__(
            f"The {period} budget of this {refusal.scope_kind} would be exceeded: limit ${_plain(refusal.limit)}, "
            f"spent ${_plain(refusal.spent)}, held ${_plain(refusal.held)}, this request may cost up to "
            f"${_plain(refusal.needed)}. It resets at {refusal.resets_at:%Y-%m-%dT%H:%M:%SZ}. "
            "Lower max_tokens, or raise the budget.",
            param=f"{refusal.scope_kind}.{refusal.period}",
        )


class CreditsExhausted(BudgetExceeded):
    def __init__(self, *, balance: Decimal, held: Decimal, needed: Decimal) -> None:
        self.decision = None
        TollgateError.__init__(
            self,
            f"The prepaid credits of this tenant do not cover this request: balance ${_plain(balance)}, of which "
            f"${_plain(held)} is held for requests under way, this request may cost up to ${_plain(needed)}. "
            "Lower max_tokens, or ask the operator of this gateway for more credits.",
            param="credits",
        )


class LedgerUnavailable(Unavailable):
    def __init__(self) -> None:
        super().__init__("The gateway's database is out of reach; nothing was charged. Try again shortly.")


class AlreadySettled(TollgateError):
    code = "internal_error"
