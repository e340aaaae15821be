"""Reserve, extend, settle: the only writer of budget windows and holds. Everything goes through one group commit.

Locking rules: the windows of a batch are locked first, all at once, in key order (FOR UPDATE; SQLite's BEGIN IMMEDIATE
locks the database); holds are deleted after. A hold is resolved by deleting its row, which can succeed only once: who
deletes it writes the usage row in the same commit. A true figure that comes after a sweep becomes an Adjustment, in
the next open month if its own is finalised (`billing.periods`).
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from django.db.models.functions import Now

from billing import locking, posting, rows
from billing.errors import LedgerUnavailable
from billing.group_commit import Commits, GroupCommit
from billing.models import Hold as HoldRow
from billing.models import LedgerLease
from billing.posting import Batch, Disown, Extend, Hold, Reserve, Settle, Standing, Void
from billing.windows import Scope, Window, credit_window, windows_for
from tenants.auth import patience_s

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=15)
TICK_S = 2.0
RENEW_BEFORE_S = 6.0  # a process that was stopped for this long says that it is alive before it holds anything
SWEEP_BATCH = 200
SETTLE_PATIENCE_S = 5.0

__all__ = ["Extend", "Hold", "Ledger", "Reserve", "Settle", "record", "sweep"]


class Ledger:
    """One process's ledger. `scope_sql` reads limits of scopes that apps above own: by kind, a query that ends before
    its list of ids and gives (id, daily limit, monthly limit)."""

    def __init__(self, scope_sql: Mapping[str, str] | None = None) -> None:
        self.owner = uuid.uuid4()
        self._scope_sql = dict(scope_sql or {})
        self._renewed_at: float | None = None
        self._known_windows: set[str] = set()
        self._commit = GroupCommit(self.apply, tick=self.tick, on_lost=_undo, tick_s=TICK_S)

    # --- for coroutines ---

    async def reserve(self, request: Reserve) -> Hold:
        """Raises BudgetExceeded, AuthenticationFailed (revoked), TenantSuspended, LedgerUnavailable."""
        hold: Hold = await self._answer(request, patience_s())
        return hold

    async def extend(self, request: Extend) -> Hold:
        """The hold with its new amount. Raises what `reserve` raises; the old hold stands then."""
        hold: Hold = await self._answer(request, patience_s())
        return hold

    async def settle(self, settlement: Settle) -> bool:
        """True once it is committed. False if the database was away for 5 s: it goes on trying by itself."""
        try:
            await self._answer(settlement, SETTLE_PATIENCE_S)
        except LedgerUnavailable:
            return False
        return True

    def disown(self, hold: Hold) -> None:
        """This process cannot settle it (a bug): the sweeper posts it in full, instead of it being held for ever."""
        self._commit.submit_unheard(Disown(hold=hold))

    async def _answer(self, operation: Reserve | Extend | Settle, patience_s: float) -> Any:
        """The outcome. Raises what it is refused for; LedgerUnavailable when time is up, after which it is undone, or
        goes on by itself if it must happen."""
        future = self._commit.submit(operation)
        # A timer of our own: asyncio.timeout costs five times as much, and this runs twice a request.
        timer = future.get_loop().call_later(patience_s, _give_up, future)
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled() and future.exception() is None:  # cancelled in the moment in which the hold came
                self._commit.give_back(operation, future.result())
            raise
        finally:
            timer.cancel()

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

    @property
    def commits(self) -> Commits:
        """What this process has committed so far."""
        return self._commit.commits

    def tick(self) -> None:
        """Say that this process is alive, then sweep what silent ones left."""
        self._renew()
        sweep(now=datetime.now(UTC), ledger=self)

    def _renew(self) -> None:
        if not LedgerLease.objects.filter(pk=self.owner).update(renewed_at=Now()):
            LedgerLease.objects.create(owner=self.owner, renewed_at=Now())
        self._renewed_at = time.monotonic()

    # --- the transaction ---

    def apply(self, operations: Sequence[Any]) -> list[Any]:
        """Do a batch inside the caller's transaction: for each operation an outcome, or the exception to raise.

        Raises Django's database errors, though on PostgreSQL it speaks to the driver directly.
        """
        with connection.wrap_database_errors:
            return self._apply(operations)

    def _apply(self, operations: Sequence[Any]) -> list[Any]:
        asking = any(isinstance(operation, (Reserve, Extend)) for operation in operations)
        if asking and (self._renewed_at is None or time.monotonic() - self._renewed_at > RENEW_BEFORE_S):
            self._renew()
        cursor = rows.cursor_of()
        batch = Batch(owner=self.owner)
        windows = [_windows(operation) for operation in operations]
        found = locking.take(batch, operations, windows, known=self._known_windows, scope_sql=self._scope_sql)
        outcomes: list[Any] = [None] * len(operations)
        # Settles first: what they free may be held again in the same commit.
        for index, operation in enumerate(operations):
            if isinstance(operation, (Settle, Void)):
                outcomes[index] = posting.settle(cursor, batch, operation, found.deleted)
        for index, operation in enumerate(operations):
            if isinstance(operation, Reserve):
                outcomes[index] = _reserve(batch, operation, windows[index], found.standings)
            elif isinstance(operation, Extend):
                outcomes[index] = posting.extend(cursor, batch, operation, found.standings)
        posting.write(cursor, batch)
        posting.disown(cursor, operations)
        return outcomes


def _give_up(future: "asyncio.Future[Any]") -> None:
    if not future.done():
        future.set_exception(LedgerUnavailable())


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
        budgets = windows_for(scopes_of(operation), operation.billing_day)
        return budgets if operation.credit is None else (*budgets, credit_window(operation.tenant_id))
    if isinstance(operation, Settle) and not operation.expired:
        return posting.windows_of(operation)
    windows: tuple[Window, ...] = operation.hold.windows
    return windows


def hold_of(request: Reserve, windows: tuple[Window, ...] | None = None) -> Hold:
    return Hold(
        request_id=request.request_id,
        tenant_id=request.tenant_id,
        key_id=request.key_id,
        config_id=request.config_id,
        timezone=request.timezone,
        amount=request.amount,
        billing_day=request.billing_day,
        windows=_windows(request) if windows is None else windows,
        credit=request.credit,
    )


def _reserve(
    batch: Batch, request: Reserve, windows: tuple[Window, ...], standings: Mapping[Scope, Standing]
) -> Hold | Exception:
    hold = hold_of(request, windows)
    refused = posting.admit(batch, posting.budgets_of(hold), standings, request.amount, request.timezone)
    if refused is None and request.credit is not None:
        refused = posting.admit_credit(batch, windows[-1], request.credit)
    if refused is not None:
        return refused
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


def _expired(row: HoldRow, *, bare: bool = False) -> Settle:
    """The settlement of a hold whose owner is silent: posted in full and flagged. `bare`: ids and money alone."""
    facts = {name: value for name, value in row.facts.items() if not bare or name in rows.ESSENTIAL}
    request = Reserve(
        request_id=row.id,
        tenant_id=row.tenant_id,
        key_id=None if facts.get("key_id") is None else uuid.UUID(facts["key_id"]),
        config_id=None if facts.get("config_id") is None else uuid.UUID(facts["config_id"]),
        timezone="UTC",
        amount=row.amount,
        billing_day=row.billing_day,
        facts=facts,
        now=row.created_at,
        credit=row.credit,
    )
    usage = {
        "budget_usd": row.amount,
        "billed_usd": Decimal(0) if row.credit is None else row.credit,
        **facts,
        **posting.EXPIRED,
        "is_prepaid": row.credit is not None,
        "id": row.id,
        "tenant_id": row.tenant_id,
        "billing_day": row.billing_day,
        "created_at": row.created_at,
    }
    return Settle(hold=hold_of(request), usage=rows.typed(usage), now=row.created_at, expired=True)


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
    return _post(ledger or Ledger(), stale)


def _post(ledger: Ledger, stale: list[HoldRow], *, bare: bool = False) -> int:
    """Settle them in one commit; if one of them cannot be written, each alone, and that one without what adorns it."""
    try:
        with transaction.atomic():
            outcomes = ledger.apply([_expired(row, bare=bare) for row in stale])
        return sum(outcome is True for outcome in outcomes)
    except (OperationalError, InterfaceError):
        raise
    except (DatabaseError, ValueError, TypeError):
        if len(stale) > 1:
            return sum(_post(ledger, [row]) for row in stale)
        logger.exception("The hold of request %s cannot be posted%s", stale[0].pk, " at all" if bare else " as it is")
        return 0 if bare else _post(ledger, stale, bare=True)


def record(*, request: Reserve, usage: Mapping[str, Any]) -> uuid.UUID:
    """Book a request that ran elsewhere (the Python interface's log_usage): no limit is asked, it is spent already."""
    hold = hold_of(request)
    ledger = Ledger()
    with transaction.atomic(), connection.wrap_database_errors:
        cursor = rows.cursor_of()
        batch = Batch(owner=ledger.owner)
        locking.take(batch, [], [hold.windows], known=set(), scope_sql={})
        posting.spend(batch, hold, budget=usage["budget_usd"], billed=usage["billed_usd"])
        batch.usage.append({**usage, "is_prepaid": hold.credit is not None})
        posting.write(cursor, batch)
    return request.request_id
