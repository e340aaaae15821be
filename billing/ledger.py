"""Reserve, extend, settle: the only writer of budget windows and holds. Everything goes through one group commit.

Locking rules: the windows of a batch are locked first, all at once, in key order (FOR UPDATE; SQLite's BEGIN IMMEDIATE
locks the database); holds are deleted after. A hold is resolved by deleting its row, which can succeed only once: whoever
deletes it writes the usage row in the same commit. A true figure that comes after a sweep becomes an Adjustment.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from billing import posting, rows
from billing.errors import LedgerUnavailable
from billing.group_commit import GroupCommit
from billing.models import Hold as HoldRow
from billing.models import LedgerLease
from billing.posting import Batch, Disown, Extend, Hold, Reserve, Settle, Standing, Void
from billing.windows import Scope, Window, windows_for

LEASE = timedelta(seconds=15)
TICK_S = 2.0
SWEEP_BATCH = 200
RESERVE_TIMEOUT_S = 0.95
SETTLE_PATIENCE_S = 5.0

__all__ = ["Extend", "Hold", "Ledger", "Reserve", "Settle", "record", "sweep"]


class Ledger:
    """One process's ledger. `scope_sql` reads limits of scopes that apps above own: by kind, a query that ends before
    its list of ids and gives (id, daily limit, monthly limit)."""

    def __init__(self, scope_sql: Mapping[str, str] | None = None) -> None:
        self.owner = uuid.uuid4()
        self._scope_sql = dict(scope_sql or {})
        self._leased = False
        self._commit = GroupCommit(self.apply, tick=self.tick, on_lost=_undo, tick_s=TICK_S)

    # --- for coroutines ---

    async def reserve(self, request: Reserve) -> Hold:
        """Raises BudgetExceeded, AuthenticationFailed (revoked), TenantSuspended, LedgerUnavailable."""
        return await self._within(self._commit.submit(request))

    async def extend(self, request: Extend) -> Hold:
        """The hold with its new amount. Raises what `reserve` raises; the old hold stands then."""
        return await self._within(self._commit.submit(request))

    async def settle(self, settlement: Settle) -> bool:
        """True once it is committed. False if the database was away for 5 s: it goes on trying by itself."""
        future = self._commit.submit(settlement)
        try:
            await asyncio.wait_for(asyncio.shield(future), SETTLE_PATIENCE_S)
        except TimeoutError:
            return False
        return True

    @staticmethod
    async def _within(future: "asyncio.Future[Hold]") -> Hold:
        try:
            async with asyncio.timeout(RESERVE_TIMEOUT_S):
                return await future
        except TimeoutError as error:
            raise LedgerUnavailable from error

    # --- for threads and jobs ---

    def do(self, operation: Any) -> Any:
        """One operation in this thread, in its own transaction. Raises what it is refused for."""
        with transaction.atomic():
            outcome = self.apply([operation])[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def start(self) -> None:
        self._commit.start()

    def stop(self) -> None:
        """Commit what waits, then end."""
        self._commit.stop()

    @property
    def depth(self) -> int:
        """Operations that wait for a commit."""
        return self._commit.depth

    def tick(self) -> None:
        """Say that this process is alive, then sweep what silent ones left."""
        self._renew()
        sweep(now=datetime.now(UTC), ledger=self)

    def _renew(self) -> None:
        if not LedgerLease.objects.filter(pk=self.owner).update(renewed_at=Now()):
            LedgerLease.objects.create(owner=self.owner, renewed_at=Now())
        self._leased = True

    # --- the transaction ---

    def apply(self, operations: Sequence[Any]) -> list[Any]:
        """Do a batch inside the caller's transaction: for each operation an outcome, or the exception to raise."""
        asking = [operation for operation in operations if isinstance(operation, (Reserve, Extend))]
        if asking and not self._leased:
            self._renew()
        cursor = rows.cursor_of()
        batch = Batch(owner=self.owner)
        windows = [_windows(operation) for operation in operations]
        posting.lock(cursor, batch, windows)
        deleted = posting.delete_holds(cursor, operations)
        standings = posting.standings(cursor, asking, self._scope_sql)
        outcomes: list[Any] = [None] * len(operations)
        # Settles first: what they free may be held again in the same commit.
        for index, operation in enumerate(operations):
            if isinstance(operation, (Settle, Void)):
                outcomes[index] = posting.settle(cursor, batch, operation, deleted)
        for index, operation in enumerate(operations):
            if isinstance(operation, Reserve):
                outcomes[index] = _reserve(batch, operation, windows[index], standings)
            elif isinstance(operation, Extend):
                outcomes[index] = posting.extend(cursor, batch, operation, standings)
        posting.write(cursor, batch)
        posting.disown(cursor, operations)
        return outcomes


def scopes_of(asker: Reserve | Hold) -> tuple[Scope, ...]:
    """Key, config and tenant: the order in which a refusal is named."""
    scopes = [Scope("tenant", asker.tenant_id)]
    if asker.config_id is not None:
        scopes.insert(0, Scope("config", asker.config_id))
    if asker.key_id is not None:
        scopes.insert(0, Scope("key", asker.key_id))
    return tuple(scopes)


def _windows(operation: Any) -> tuple[Window, ...]:
    if isinstance(operation, Reserve):
        return windows_for(scopes_of(operation), operation.billing_day)
    windows: tuple[Window, ...] = operation.hold.windows
    return windows


def hold_of(request: Reserve) -> Hold:
    return Hold(
        request_id=request.request_id,
        tenant_id=request.tenant_id,
        key_id=request.key_id,
        config_id=request.config_id,
        timezone=request.timezone,
        amount=request.amount,
        billing_day=request.billing_day,
        windows=_windows(request),
    )


def _reserve(
    batch: Batch, request: Reserve, windows: tuple[Window, ...], standings: Mapping[Scope, Standing]
) -> Hold | Exception:
    refused = posting.admit(batch, windows, standings, request.amount, request.timezone)
    if refused is not None:
        return refused
    hold = hold_of(request)
    posting.add_hold(batch, hold, request.facts, request.now)
    return hold


def _undo(operation: Any, outcome: Any) -> Any | None:
    """What takes an operation back: its waiter is gone, or its outcome is not known (None), or it failed for good."""
    if isinstance(operation, Reserve) and not isinstance(outcome, Exception):
        return Void(hold=hold_of(operation), now=operation.now)
    if isinstance(operation, Settle) and isinstance(outcome, Exception):
        # Its row cannot be written: leave the hold to the sweeper, which posts it in full.
        return Disown(hold=operation.hold)
    return None


def _expired(row: HoldRow) -> Settle:
    """The settlement of a hold whose owner is silent: posted in full and flagged."""
    facts = dict(row.facts)
    request = Reserve(
        request_id=row.id,
        tenant_id=row.tenant_id,
        key_id=uuid.UUID(facts["key_id"]),
        config_id=None if facts.get("config_id") is None else uuid.UUID(facts["config_id"]),
        timezone="UTC",
        amount=row.amount,
        billing_day=row.billing_day,
        facts=facts,
        now=row.created_at,
    )
    usage = {**facts, **posting.EXPIRED, "created_at": row.created_at}
    return Settle(hold=hold_of(request), usage=posting.typed(usage), now=row.created_at, expired=True)


def sweep(*, now: datetime, ledger: Ledger | None = None) -> int:
    """Settle the holds of processes that have been silent for 15 s, in full. Returns how many. Safe to run anywhere,
    at any time, twice at once: a hold is deleted only once."""
    alive = LedgerLease.objects.filter(renewed_at__gte=Now() - LEASE)
    stale = list(HoldRow.objects.exclude(owner__in=alive.values("owner"))[:SWEEP_BATCH])
    if not stale:
        LedgerLease.objects.filter(renewed_at__lt=Now() - 100 * LEASE).exclude(
            owner__in=HoldRow.objects.values("owner")
        ).delete()
        return 0
    with transaction.atomic():
        outcomes = (ledger or Ledger()).apply([_expired(row) for row in stale])
    return sum(outcome is True for outcome in outcomes)


def record(*, request: Reserve, usage: Mapping[str, Any]) -> uuid.UUID:
    """Book a request that ran elsewhere (the Python interface's log_usage): no limit is asked, it is spent already."""
    hold = replace(hold_of(request), amount=Decimal(0))
    ledger = Ledger()
    with transaction.atomic():
        cursor = rows.cursor_of()
        batch = Batch(owner=ledger.owner)
        posting.lock(cursor, batch, [hold.windows])
        batch.add(hold.windows, spent=usage["budget_usd"], held=Decimal(0))
        batch.usage.append(usage)
        posting.write(cursor, batch)
    return request.request_id
