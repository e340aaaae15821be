"""Prepaid credit written: grants and corrections by staff, expiries by whoever locks the credit after them.

Every entry is written by a transaction that holds the tenant's credit window, as every request does that draws from it.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from billing import prepaid
from billing.credit_models import CreditEntry
from billing.models import BudgetWindow
from billing.snapshot import reading
from billing.windows import credit_window
from tenants import audit, scoping
from tenants.errors import InvalidValue
from tenants.fields import MAX_USD
from tenants.models import Tenant

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewGrant:
    """What is to be given. USD; `expires_at` None: it never expires."""

    amount: Decimal
    reason: str
    source: str = CreditEntry.Source.PURCHASE
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A tenant's credit at one moment, what is due to expire taken off. USD."""

    account: prepaid.Account
    held: Decimal
    entries: Sequence[CreditEntry]


def grant(*, tenant: Tenant, wish: NewGrant, actor: audit.Actor, now: datetime) -> CreditEntry:
    """Give credit. Raises InvalidValue (`amount`, `expires_at`)."""
    if wish.amount <= 0:
        raise InvalidValue(
            "A grant is more than nothing. Correct an earlier grant to take credit back.", param="amount"
        )
    if wish.expires_at is not None and wish.expires_at <= now:
        raise InvalidValue("A grant cannot expire before it is given. Leave it out for one that never does.",
                           param="expires_at")  # fmt: skip
    fields = {"kind": CreditEntry.Kind.GRANT, "amount": wish.amount, "expires_at": wish.expires_at}
    with transaction.atomic():
        books = _Books.locked(tenant.pk, now)
        entry = books.write(**fields, source=wish.source, reason=wish.reason, author=actor.label)
        books.close()
        audit.record(actor=actor, action="grant", row=entry, before={}, now=now, reason=wish.reason)
    return entry


def correct(*, entry: CreditEntry, amount: Decimal, reason: str, actor: audit.Actor, now: datetime) -> CreditEntry:
    """Change what a grant gave by a signed amount. More may be taken than is left of it: then what it was drawn for is
    taken from the other grants, and at last the balance goes below zero. Raises InvalidValue."""
    if not amount:
        raise InvalidValue("A correction by nothing changes nothing.", param="amount")
    if entry.kind != CreditEntry.Kind.GRANT:
        raise InvalidValue("Only a grant can be corrected.", param="grant")
    with transaction.atomic():
        books = _Books.locked(entry.tenant_id, now)
        given = entry.amount + books.account.grants[entry.pk].corrected
        if given + amount < 0:
            raise InvalidValue(f"This grant gave ${given.normalize():f}: more cannot be taken back.", param="amount")
        kind = CreditEntry.Kind.CORRECTION
        made = books.write(kind=kind, amount=amount, grant=entry, reason=reason, author=actor.label)
        books.close()
        audit.record(actor=actor, action="correct", row=made, before={}, now=now, reason=reason)
    return made


def expire(*, tenant_id: uuid.UUID, now: datetime) -> Decimal:
    """Write off what has expired, inside the caller's transaction, which holds the window. What is granted then."""
    books = _Books.locked(tenant_id, now)
    books.close()
    return books.account.granted


def picture(*, tenant_id: uuid.UUID, now: datetime) -> Picture:
    """The tenant's credit as it is at `now`, without writing anything. Outside of a transaction it is of one moment."""
    with reading():
        window = BudgetWindow.objects.filter(pk=credit_window(tenant_id).key).first()
        entries = list(scoping.rows(CreditEntry, tenant_id=tenant_id).order_by("number"))
    spent, held = (ZERO, ZERO) if window is None else (window.spent, window.held)
    account = prepaid.replay(entries, spent=spent)
    for one, gone in account.due(now=now, held=held):
        account.enter(_expiry(account, one, gone, now))
    return Picture(account=account, held=held, entries=entries)


class _Books:
    """A tenant's credit window, locked, and its account, what is due written off."""

    def __init__(self, window: BudgetWindow, now: datetime) -> None:
        self.window = window
        self.now = now
        entries = CreditEntry.objects.filter(tenant_id=window.scope_id).order_by("number")
        self.account = prepaid.replay(entries, spent=window.spent)
        for one, gone in self.account.due(now=now, held=window.held):
            entry = _expiry(self.account, one, gone, now)
            entry.save(force_insert=True)
            self.account.enter(entry)

    @classmethod
    def locked(cls, tenant_id: uuid.UUID, now: datetime) -> "_Books":
        wanted = credit_window(tenant_id)
        row = BudgetWindow(
            id=wanted.key, scope_kind=wanted.scope.kind, scope_id=tenant_id, period=wanted.period,
            starts_on=wanted.starts_on,
        )  # fmt: skip
        BudgetWindow.objects.bulk_create([row], ignore_conflicts=True)
        return cls(BudgetWindow.objects.select_for_update().get(pk=wanted.key), now)

    def write(self, **fields: Any) -> CreditEntry:
        """The next entry. Raises InvalidValue where the sum would pass what both databases can hold."""
        entry = CreditEntry(
            tenant_id=self.window.scope_id,
            number=self.account.entries + 1,
            spent_then=self.window.spent,
            created_at=self.now,
            **{**fields, "author": str(fields["author"])[:200]},
        )
        if abs(self.account.granted + entry.amount) > MAX_USD:
            raise InvalidValue(f"Credits are at most {MAX_USD:,} USD in all.", param="amount")
        entry.save(force_insert=True)
        self.account.enter(entry)
        return entry

    def close(self) -> None:
        """Say on the window what requests ask of it: what is granted, and when that has to be looked at again."""
        soon = self.account.next_expiry
        self.window.granted = self.account.granted
        self.window.expires_at = None if soon is None else soon.entry.expires_at
        self.window.save(update_fields=["granted", "expires_at"])


def _expiry(account: prepaid.Account, one: prepaid.Grant, gone: Decimal, now: datetime) -> CreditEntry:
    return CreditEntry(
        tenant_id=one.entry.tenant_id,
        number=account.entries + 1,
        kind=CreditEntry.Kind.EXPIRY,
        amount=-gone,
        grant=one.entry,
        reason=f"What was left of grant {one.entry.number} on {one.expires_at:%Y-%m-%dT%H:%M:%SZ}.",
        author="ledger",
        spent_then=account.drawn,
        created_at=now,
    )
