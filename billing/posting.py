"""What a ledger transaction does, step by step. Called by `billing.ledger` only, inside its transaction."""

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from django.db import connection

from billing import rows
from billing.errors import AlreadySettled, BudgetExceeded, Refusal
from billing.models import UsageRecord
from billing.windows import DAY, Scope, Window, billing_day, resets_at
from tenants.errors import AuthenticationFailed, TenantSuspended
from tenants.ids import uuid7

logger = logging.getLogger(__name__)
ZERO = Decimal(0)
Row = Mapping[str, Any]
_MAX_KNOWN_WINDOWS = 20_000
EXPIRED = {
    "status": UsageRecord.Status.EXPIRED,
    "status_code": 500,
    "error_code": "expired",
    "error_message": "The process that served it stopped; it is charged in full until the true figure turns up.",
    "is_estimated": True,
}


@dataclass(slots=True, kw_only=True)
class Reserve:
    """Hold `amount` USD on key, config and tenant, for a day and a month, or refuse.

    `facts` is the usage row to write if this process dies, at the worst case.
    """

    must_happen: ClassVar[bool] = False
    request_id: uuid.UUID
    tenant_id: uuid.UUID
    key_id: uuid.UUID | None
    config_id: uuid.UUID | None
    timezone: str
    amount: Decimal
    facts: Row
    now: datetime
    billing_day: date = date.min

    def __post_init__(self) -> None:
        if self.billing_day == date.min:
            self.billing_day = billing_day(self.now, self.timezone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What a reserve gives: money promised to one request, in these windows."""

    request_id: uuid.UUID
    tenant_id: uuid.UUID
    key_id: uuid.UUID | None
    config_id: uuid.UUID | None
    timezone: str
    amount: Decimal
    billing_day: date
    windows: tuple[Window, ...]


@dataclass(slots=True, kw_only=True)
class Extend:
    """Raise a hold to `amount`, for a dearer fallback, or refuse and leave it as it is."""

    must_happen: ClassVar[bool] = False
    hold: Hold
    amount: Decimal
    facts: Row
    now: datetime


@dataclass(slots=True, kw_only=True)
class Settle:
    """Replace a hold by what was spent (`usage["budget_usd"]`) and write the usage row. `expired`: by the sweeper."""

    must_happen: ClassVar[bool] = True
    hold: Hold
    usage: Row
    now: datetime
    expired: bool = False


@dataclass(slots=True, kw_only=True)
class Void:
    """Take back a reserve that nobody waits for: no usage row, the request was never accepted."""

    must_happen: ClassVar[bool] = True
    hold: Hold
    now: datetime


@dataclass(slots=True, kw_only=True)
class Disown:
    """Leave a hold to the sweeper: this process cannot settle it."""

    must_happen: ClassVar[bool] = True
    hold: Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A scope as it is in this transaction: its limits in USD (None: no limit), and why it may not spend at all."""

    daily: Decimal | None
    monthly: Decimal | None
    barred: Exception | None = None


@dataclass(slots=True, kw_only=True)
class Batch:
    """The windows of one transaction, locked, as they change, and the rows to write."""

    owner: uuid.UUID
    windows: dict[str, list[Decimal]] = field(default_factory=dict)  # key -> [spent, held]
    changed: set[str] = field(default_factory=set)
    holds: list[Row] = field(default_factory=list)
    usage: list[Row] = field(default_factory=list)

    def add(self, windows: Iterable[Window], *, spent: Decimal, held: Decimal) -> None:
        for window in windows:
            state = self.windows[window.key]
            state[0] += spent
            state[1] += held
            self.changed.add(window.key)


def lock(cursor: Any, batch: Batch, wanted: Iterable[tuple[Window, ...]], known: set[str]) -> None:
    """Make the windows that may be missing, then lock all of them; both in key order.

    Whoever makes a window holds it until the commit. So nothing is locked before everything is made: two processes
    that met a new day's windows half made, half locked would wait for each other. `known`: windows seen before.
    """
    windows = {window.key: window for group in wanted for window in group}
    if not windows:
        return
    keys = sorted(windows)
    if len(known) > _MAX_KNOWN_WINDOWS:
        known.clear()
    if not known.issuperset(keys):
        rows.WINDOWS.insert(cursor, [_new_window(windows[key]) for key in keys if key not in known])
        known.update(keys)
    _read_windows(cursor, batch, keys)
    if len(batch.windows) < len(keys):  # known from a transaction that did not commit
        rows.WINDOWS.insert(cursor, [_new_window(windows[key]) for key in keys])
        _read_windows(cursor, batch, keys)


def _new_window(window: Window) -> Row:
    return {
        "id": window.key,
        "scope_kind": window.scope.kind,
        "scope_id": window.scope.id,
        "period": window.period,
        "starts_on": window.starts_on,
    }


def _read_windows(cursor: Any, batch: Batch, keys: list[str]) -> None:
    tail = " ORDER BY id FOR UPDATE" if connection.vendor == "postgresql" else ""
    sql, values = rows.among(_WINDOWS, keys, tail)
    cursor.execute(sql, values)
    for key, spent, held in cursor.fetchall():
        batch.windows[key] = [rows.usd(spent), rows.usd(held)]


_WINDOWS = "SELECT id, spent, held FROM billing_windows WHERE id"


def delete_holds(cursor: Any, operations: Sequence[Any]) -> dict[uuid.UUID, Decimal]:
    """Delete the holds that this batch resolves: the amounts of those that were still there, by request."""
    ids = [operation.hold.request_id for operation in operations if isinstance(operation, (Settle, Void))]
    if not ids:
        return {}
    sql, values = rows.among("DELETE FROM billing_holds WHERE id", ids, " RETURNING id, amount")
    cursor.execute(sql, values)
    return {rows.as_uuid(hold_id): rows.usd(amount) for hold_id, amount in cursor.fetchall()}


def standings(cursor: Any, asking: Sequence[Reserve | Extend], scope_sql: Mapping[str, str]) -> dict[Scope, Standing]:
    """The limits in force now of every scope that is asked for money."""
    found: dict[Scope, Standing] = {}
    askers = [request.hold if isinstance(request, Extend) else request for request in asking]
    if not askers:
        return found
    keyless = {asker.tenant_id for asker in askers if asker.key_id is None}
    if keyless:
        sql, values = rows.among(_TENANTS, keyless)
        cursor.execute(sql, values)
        for tenant, *of_tenant in cursor.fetchall():
            found[Scope("tenant", rows.as_uuid(tenant))] = _of_tenant(*of_tenant)
    sql, values = rows.among(_KEYS, {asker.key_id for asker in askers if asker.key_id is not None})
    cursor.execute(sql, values)
    now = datetime.now(UTC)
    for key, key_day, key_month, revoked, expires, tenant, active, day, month in cursor.fetchall():
        gone = revoked is not None or (expires is not None and rows.as_moment(expires) <= now)
        found[Scope("key", rows.as_uuid(key))] = _standing(key_day, key_month, AuthenticationFailed() if gone else None)
        found[Scope("tenant", rows.as_uuid(tenant))] = _of_tenant(active, day, month)
    for kind, statement in scope_sql.items():
        ids = {asker.config_id for asker in askers if asker.config_id is not None}
        if kind == "config" and ids:
            sql, values = rows.among(statement, ids)
            cursor.execute(sql, values)
            for scope_id, day, month in cursor.fetchall():
                found[Scope(kind, rows.as_uuid(scope_id))] = _standing(day, month, None)
    return found


_KEYS = (
    "SELECT k.id, k.budget_limit_daily, k.budget_limit_monthly, k.revoked_at, k.expires_at,"
    " t.id, t.is_active, t.budget_limit_daily, t.budget_limit_monthly"
    " FROM api_keys k JOIN tenants t ON t.id = k.tenant_id WHERE k.id"
)
_TENANTS = "SELECT t.id, t.is_active, t.budget_limit_daily, t.budget_limit_monthly FROM tenants t WHERE t.id"
_NOBODY = Standing(daily=None, monthly=None)


def _of_tenant(active: Any, daily: Any, monthly: Any) -> Standing:
    return _standing(daily, monthly, None if active else TenantSuspended())


def _standing(daily: Any, monthly: Any, barred: Exception | None) -> Standing:
    return Standing(
        daily=None if daily is None else rows.usd(daily),
        monthly=None if monthly is None else rows.usd(monthly),
        barred=barred,
    )


def admit(
    batch: Batch, windows: Iterable[Window], standings: Mapping[Scope, Standing], amount: Decimal, timezone: str
) -> Exception | None:
    """None if every window has room for `amount` more, else the refusal that names the first that has not."""
    for window in windows:
        standing = standings.get(window.scope)
        if standing is None:
            # A key deleted since it was read is a bad key; a deleted config has no limit left to hold.
            if window.scope.kind == "key":
                return AuthenticationFailed()
            standing = _NOBODY
        if standing.barred is not None:
            return standing.barred
        limit = standing.daily if window.period == DAY else standing.monthly
        if limit is None:
            continue
        spent, held = batch.windows[window.key]
        if limit == 0 or spent + held + amount > limit:
            return BudgetExceeded(
                Refusal(
                    scope_kind=window.scope.kind,
                    period=window.period,
                    limit=limit,
                    spent=spent,
                    held=held,
                    needed=amount,
                    resets_at=resets_at(window.period, window.starts_on, timezone),
                )
            )
    return None


def add_hold(batch: Batch, hold: Hold, facts: Row, now: datetime) -> None:
    batch.add(hold.windows, spent=ZERO, held=hold.amount)
    batch.holds.append(
        {
            "id": hold.request_id,
            "owner": batch.owner,
            "tenant_id": hold.tenant_id,
            "amount": hold.amount,
            "windows": [window.key for window in hold.windows],
            "billing_day": hold.billing_day,
            "facts": facts,
            "created_at": now,
        }
    )


def extend(cursor: Any, batch: Batch, request: Extend, standings: Mapping[Scope, Standing]) -> Hold | Exception:
    """Raise a hold by the difference, if every window has room and the hold is still there."""
    hold = request.hold
    more = request.amount - hold.amount
    refused = admit(batch, hold.windows, standings, more, hold.timezone)
    if refused is not None:
        return refused
    cursor.execute(
        "UPDATE billing_holds SET amount = %s, facts = %s WHERE id = %s",
        [rows.column(request.amount), rows.as_json(request.facts), rows.key(hold.request_id)],
    )
    if cursor.rowcount != 1:
        return AlreadySettled("This request's hold was swept: its process was silent for too long.")
    batch.add(hold.windows, spent=ZERO, held=more)
    return replace(hold, amount=request.amount)


def settle(cursor: Any, batch: Batch, operation: Settle | Void, deleted: dict[uuid.UUID, Decimal]) -> bool:
    """True if this resolved the hold. A sweep that came first is corrected by an Adjustment."""
    hold = operation.hold
    held = deleted.pop(hold.request_id, None)
    if held is not None:
        spent = operation.usage["budget_usd"] if isinstance(operation, Settle) else ZERO
        batch.add(hold.windows, spent=spent, held=-held)
        if isinstance(operation, Settle):
            batch.usage.append(operation.usage)
            _reopen(cursor, hold.billing_day, operation.now)
        return True
    if isinstance(operation, Settle) and not operation.expired:
        _correct(cursor, batch, operation)
    return False


def _correct(cursor: Any, batch: Batch, operation: Settle) -> None:
    """The hold is gone: swept (then the difference is an Adjustment), or settled by this very operation before."""
    hold, usage = operation.hold, operation.usage
    cursor.execute(_POSTED, [rows.key(hold.request_id)])
    posted = cursor.fetchone()
    if posted is None:
        logger.error("Request %s was settled without a hold", hold.request_id)
        return
    if posted[0] != UsageRecord.Status.EXPIRED:
        return
    late: dict[str, Any] = {
        "id": uuid7(),
        "kind": "system",
        "tenant_id": hold.tenant_id,
        "request_id": hold.request_id,
        "reason": "The true figure of a request that had been charged in full.",
        "author": "ledger",
        "billing_day": hold.billing_day,
        "created_at": datetime.now(UTC),
    }
    for name in ("key_id", "config_id", "provider_id", "provider_slug", "model_id", "model_name"):
        late[name] = usage.get(name)
    for name, amount in zip(("cost_total_usd", "billed_usd", "budget_usd"), posted[1:], strict=True):
        late[name] = usage[name] - rows.usd(amount)
    rows.ADJUSTMENTS.insert(cursor, [late])
    if cursor.rowcount == 1:
        batch.add(hold.windows, spent=late["budget_usd"], held=ZERO)
        _reopen(cursor, hold.billing_day, operation.now)


_POSTED = "SELECT status, cost_total_usd, billed_usd, budget_usd FROM llm_usage_logs WHERE id = %s"


def _reopen(cursor: Any, day: date, now: datetime) -> None:
    """A row for a day that may be rolled up takes its mark away. Insert first: it waits for a roll-up under way."""
    if day < datetime.now(UTC).date() - timedelta(days=1):
        mark = rows.day(day)
        cursor.execute(
            "INSERT INTO billing_rolled_days (billing_day, rolled_at) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [mark, rows.moment(now)],
        )
        cursor.execute("DELETE FROM billing_rolled_days WHERE billing_day = %s", [mark])


def write(cursor: Any, batch: Batch) -> None:
    """Everything the batch changed, in three round trips."""
    if batch.changed:
        rows.set_windows(cursor, [(key, batch.windows[key][0], batch.windows[key][1]) for key in sorted(batch.changed)])
    if batch.holds:
        rows.HOLDS.insert(cursor, batch.holds)
    if batch.usage:
        rows.USAGE.insert(cursor, batch.usage)


def disown(cursor: Any, operations: Sequence[Any]) -> None:
    for operation in operations:
        if isinstance(operation, Disown):
            nobody = rows.key(uuid.UUID(int=0))
            hold = rows.key(operation.hold.request_id)
            cursor.execute("UPDATE billing_holds SET owner = %s WHERE id = %s", [nobody, hold])
