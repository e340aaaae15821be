"""Prepaid credit worked out from its entries: what is left of each grant, what is due to expire. Pure.

What requests draw comes from the grant that expires first. Draws are not written to the grants: between two entries of
a tenant the order of its grants does not change, so from what had been drawn when each entry was written (`spent_then`)
follows all that was drawn from each. Nothing has to run when a grant expires: whoever locks the tenant's credit next
finds it due, and since nothing was drawn in between, what is left is what was left at that moment.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from billing.credit_models import CreditEntry

ZERO = Decimal(0)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Grant:
    """One grant as it stands. USD; `corrected` is signed."""

    entry: CreditEntry
    left: Decimal = ZERO
    corrected: Decimal = ZERO
    expired: Decimal = ZERO
    closed: bool = False  # its expiry is written

    @property
    def drawn(self) -> Decimal:
        amount: Decimal = self.entry.amount
        return amount + self.corrected - self.expired - self.left

    @property
    def expires_at(self) -> datetime:
        return self.entry.expires_at or _NEVER


@dataclass(slots=True, kw_only=True)
class Account:
    """A tenant's credit after some entries and draws.

    `loose` belongs to no grant: what came back after it was drawn, and what an expired grant had promised to requests
    under way; drawn last. Below zero it is what was drawn beyond all grants, which the next grant pays first.
    """

    grants: dict[uuid.UUID, Grant] = field(default_factory=dict)
    loose: Decimal = ZERO
    drawn: Decimal = ZERO
    granted: Decimal = ZERO  # the sum of the entries
    entries: int = 0

    @property
    def balance(self) -> Decimal:
        """What is left: always `granted - drawn`."""
        return sum((grant.left for grant in self.grants.values()), self.loose)

    @property
    def in_order(self) -> list[Grant]:
        """The grants in the order in which they are drawn."""
        return sorted(self.grants.values(), key=lambda grant: (grant.expires_at, grant.entry.number))

    def draw(self, amount: Decimal) -> None:
        """Requests were billed so much more; below zero, something of it came back."""
        self.drawn += amount
        if amount > 0:
            self._take(amount)
        else:
            self.loose -= amount

    def enter(self, entry: CreditEntry) -> None:
        """Apply the next entry."""
        self.entries = entry.number
        self.granted += entry.amount
        if entry.kind == CreditEntry.Kind.GRANT:
            self.grants[entry.pk] = Grant(entry=entry, left=entry.amount)
            self._pay_debt()
            return
        assert entry.grant_id is not None
        grant = self.grants[entry.grant_id]
        if entry.kind == CreditEntry.Kind.EXPIRY:
            grant.expired -= entry.amount
            self.loose += grant.left + entry.amount
            grant.left, grant.closed = ZERO, True
            return
        grant.corrected += entry.amount
        if grant.closed:
            self.loose += entry.amount
        elif entry.amount >= 0:
            grant.left += entry.amount
            self._pay_debt()
        else:
            taken = min(grant.left, -entry.amount)
            grant.left -= taken
            self._take(-entry.amount - taken)  # it was drawn already, instead of another

    def due(self, *, now: datetime, held: Decimal) -> list[tuple[Grant, Decimal]]:
        """The grants that have expired but are not written off, each with what of it is gone.

        What is held for requests under way is taken as drawn: it stays, whatever they come to in the end.
        """
        found = []
        for grant in self.in_order:
            if grant.expires_at > now:
                break
            if not grant.closed and grant.left > 0:
                kept = min(grant.left, held)
                held -= kept
                found.append((grant, grant.left - kept))
        return found

    @property
    def next_expiry(self) -> Grant | None:
        """The grant with something left that expires next."""
        return next((grant for grant in self.in_order if grant.left > 0 and grant.entry.expires_at is not None), None)

    def _take(self, amount: Decimal) -> None:
        for grant in self.in_order:
            taken = min(grant.left, amount)
            grant.left -= taken
            amount -= taken
        self.loose -= amount

    def _pay_debt(self) -> None:
        if self.loose < 0:
            debt, self.loose = -self.loose, ZERO
            self._take(debt)


def replay(entries: Iterable[CreditEntry], *, spent: Decimal) -> Account:
    """The account after `entries`, in order of their number, and all that was drawn up to now (`spent`)."""
    account = Account()
    for entry in entries:
        account.draw(entry.spent_then - account.drawn)
        account.enter(entry)
    account.draw(spent - account.drawn)
    return account
