"""What a ledger transaction has to know first: its windows, locked; its holds, deleted; the limits in force."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from billing import granting, rows
from billing.posting import Batch, Extend, Reserve, Settle, Standing, Void
from billing.windows import EVER, Scope, Window
from tenants.errors import AuthenticationFailed, TenantSuspended

_MAX_KNOWN_WINDOWS = 20_000
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`deleted`: of the holds that were still there, by request, what they held of budgets and of prepaid credit.
    `standings`: the scopes that ask for money, as they are now."""

    deleted: dict[uuid.UUID, tuple[Decimal, Decimal]]
    standings: dict[Scope, Standing]


def take(
    batch: Batch,
    operations: Sequence[Any],
    windows: Iterable[tuple[Window, ...]],
    *,
    known: set[str],
    scope_sql: Mapping[str, str],
) -> Found:
    """Lock the windows of a batch in key order, delete the holds it resolves, read the limits of who asks.

    `known`: windows seen before. Whoever makes a window holds it until the commit. So nothing is locked before
    everything is made: two processes that met a new day's windows half made, half locked would wait for each other.
    """
    groups = list(windows)
    wanted = {window.key: window for group in groups for window in group}
    keys = sorted(wanted)
    # A tenant's prepaid credit, if any, is the last window of its requests.
    lock = _lock_with_credits if any(group and group[-1].period == EVER for group in groups) else _lock
    if len(known) > _MAX_KNOWN_WINDOWS:
        known.clear()
    _make([wanted[key] for key in keys if key not in known])
    lock(batch, keys)
    if len(batch.windows) < len(keys):  # known from a transaction that did not commit
        _make([wanted[key] for key in keys])
        lock(batch, keys)
    known.update(keys)
    return Found(deleted=_delete_holds(operations), standings=_standings(operations, scope_sql))


def _make(windows: Sequence[Window]) -> None:
    if windows:
        rows.WINDOWS.insert(
            rows.cursor_of(),
            [
                {
                    "id": window.key,
                    "scope_kind": window.scope.kind,
                    "scope_id": window.scope.id,
                    "period": window.period,
                    "starts_on": window.starts_on,
                }
                for window in windows
            ],
        )


def _lock(batch: Batch, keys: Sequence[str]) -> None:
    if keys:
        locked = rows.among("SELECT id, spent, held FROM billing_windows WHERE id", keys, _in_order())
        batch.windows |= {key: [rows.usd(spent), rows.usd(held)] for key, spent, held in locked}


_LOCK_WITH_CREDITS = "SELECT id, spent, held, scope_id, granted, expires_at FROM billing_windows WHERE id"


def _lock_with_credits(batch: Batch, keys: Sequence[str]) -> None:
    """The same where some of the windows are of prepaid credit, whose limit comes with them. One whose next grant has
    expired is written off first; for all others nothing more is asked."""
    now = datetime.now(UTC)
    for key, spent, held, scope, granted, expires in rows.among(_LOCK_WITH_CREDITS, keys, _in_order()):
        batch.windows[key] = [rows.usd(spent), rows.usd(held)]
        if expires is not None and rows.as_moment(expires) <= now:
            batch.granted[key] = granting.expire(tenant_id=rows.as_uuid(scope), now=now)
        elif granted is not None:
            batch.granted[key] = rows.usd(granted)


def _in_order() -> str:
    return " ORDER BY id FOR UPDATE" if rows.on_postgres() else ""


def _delete_holds(operations: Sequence[Any]) -> dict[uuid.UUID, tuple[Decimal, Decimal]]:
    ids = [operation.hold.request_id for operation in operations if isinstance(operation, (Settle, Void))]
    if not ids:
        return {}
    deleted = rows.among("DELETE FROM billing_holds WHERE id", ids, " RETURNING id, amount, credit")
    return {
        rows.as_uuid(hold): (rows.usd(amount), _ZERO if credit is None else rows.usd(credit))
        for hold, amount, credit in deleted
    }


# --- limits -----------------------------------------------------------------------------------------------------------

_KEYS = (
    "SELECT k.id, k.budget_limit_daily, k.budget_limit_monthly, k.revoked_at, k.expires_at,"
    " t.id, t.is_active, t.budget_limit_daily, t.budget_limit_monthly"
    " FROM api_keys k JOIN tenants t ON t.id = k.tenant_id WHERE k.id"
)
_TENANTS = "SELECT t.id, t.is_active, t.budget_limit_daily, t.budget_limit_monthly FROM tenants t WHERE t.id"


def _standings(operations: Sequence[Any], scope_sql: Mapping[str, str]) -> dict[Scope, Standing]:
    """The limits in force now of every scope that is asked for money. A key's row tells its tenant's too."""
    askers = [
        operation.hold if isinstance(operation, Extend) else operation
        for operation in operations
        if isinstance(operation, (Reserve, Extend))
    ]
    found: dict[Scope, Standing] = {}
    for tenant, *of_tenant in _of(_TENANTS, {asker.tenant_id for asker in askers if asker.key_id is None}):
        found[Scope("tenant", rows.as_uuid(tenant))] = _of_tenant(*of_tenant)
    now = datetime.now(UTC)
    for key, day, month, revoked, expires, tenant, *of_tenant in _of(_KEYS, {asker.key_id for asker in askers}):
        gone = revoked is not None or (expires is not None and rows.as_moment(expires) <= now)
        found[Scope("key", rows.as_uuid(key))] = _standing(day, month, AuthenticationFailed() if gone else None)
        found[Scope("tenant", rows.as_uuid(tenant))] = _of_tenant(*of_tenant)
    if "config" in scope_sql:
        for config, day, month in _of(scope_sql["config"], {asker.config_id for asker in askers}):
            found[Scope("config", rows.as_uuid(config))] = _standing(day, month, None)
    return found


def _of(statement: str, ids: set[uuid.UUID | None]) -> list[Any]:
    ids.discard(None)
    return rows.among(statement, ids) if ids else []


def _of_tenant(active: Any, daily: Any, monthly: Any) -> Standing:
    return _standing(daily, monthly, None if rows.truth(active) else TenantSuspended())


def _standing(daily: Any, monthly: Any, barred: Exception | None) -> Standing:
    return Standing(
        daily=None if daily is None else rows.usd(daily),
        monthly=None if monthly is None else rows.usd(monthly),
        barred=barred,
    )
