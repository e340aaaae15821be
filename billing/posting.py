"""What a ledger transaction does, step by step. Called by `billing.ledger` only, inside its transaction."""

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from django.db import OperationalError

from billing import periods, rows
from billing.errors import AlreadySettled, BudgetExceeded, CreditsExhausted, Refusal
from billing.models import UsageRecord
from billing.windows import DAY, Scope, Window, billing_day, resets_at, windows_for
from tenants.errors import AuthenticationFailed
from tenants.ids import uuid7

logger = logging.getLogger(__name__)
ZERO = Decimal(0)
Row = Mapping[str, Any]
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

    `facts` is the usage row to write if this process dies, at the worst case. `credit` is what to hold of the tenant's
    prepaid credit (None: it pays later).
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
    credit: Decimal | None = None

    def __post_init__(self) -> None:
        if self.billing_day == date.min:
            self.billing_day = billing_day(self.now, self.timezone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What a reserve gives: money promised to one request, in these windows.

    With `credit` the last window is that of the tenant's prepaid credit: it holds `credit`, the others `amount`.
    """

    request_id: uuid.UUID
    tenant_id: uuid.UUID
    key_id: uuid.UUID | None
    config_id: uuid.UUID | None
    timezone: str
    amount: Decimal
    billing_day: date
    windows: tuple[Window, ...]
    credit: Decimal | None = None


@dataclass(slots=True, kw_only=True)
class Extend:
    """Raise a hold to `amount` (and of prepaid credit to `credit`), for a dearer fallback, or refuse and leave it as it
    is."""

    must_happen: ClassVar[bool] = False
    hold: Hold
    amount: Decimal
    facts: Row
    now: datetime
    credit: Decimal | None = None


@dataclass(slots=True, kw_only=True)
class Settle:
    """Replace a hold by what was spent (`usage["budget_usd"]`, and `usage["billed_usd"]` of prepaid credit) and write
    the usage row. `expired`: by the sweeper."""

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


UNLIMITED = Standing(daily=None, monthly=None)


@dataclass(slots=True, kw_only=True)
class Batch:
    """The windows of one transaction, locked, as they change, and the rows to write."""

    owner: uuid.UUID
    windows: dict[str, list[Decimal]] = field(default_factory=dict)  # key -> [spent, held]
    granted: dict[str, Decimal] = field(default_factory=dict)  # key of a credit window -> what was granted
    changed: set[str] = field(default_factory=set)
    holds: list[Row] = field(default_factory=list)
    usage: list[Row] = field(default_factory=list)

    def add(self, windows: Iterable[Window], *, spent: Decimal, held: Decimal) -> None:
        for window in windows:
            state = self.windows[window.key]
            state[0] += spent
            state[1] += held
            self.changed.add(window.key)


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
            standing = UNLIMITED
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


def admit_credit(batch: Batch, window: Window, amount: Decimal) -> Exception | None:
    """None if the prepaid credit has room for `amount` more. What asks for nothing (a request with the tenant's own key
    and no fee) is never refused."""
    spent, held = batch.windows[window.key]
    balance = batch.granted.get(window.key, ZERO) - spent
    if amount > 0 and held + amount > balance:
        return CreditsExhausted(balance=balance, held=held, needed=amount)
    return None


def budgets_of(hold: Hold) -> tuple[Window, ...]:
    """The windows of a hold without that of prepaid credit."""
    return hold.windows if hold.credit is None else hold.windows[:-1]


def _count(batch: Batch, hold: Hold, *, spent: Decimal, held: Decimal, billed: Decimal, credit: Decimal) -> None:
    """Change what a hold's windows say: budgets by `spent` and `held`, prepaid credit by `billed` and `credit`."""
    batch.add(budgets_of(hold), spent=spent, held=held)
    if hold.credit is not None:
        batch.add(hold.windows[-1:], spent=billed, held=credit)


def spend(batch: Batch, hold: Hold, *, budget: Decimal, billed: Decimal) -> None:
    """Count money that was never held in the windows of `hold`."""
    _count(batch, hold, spent=budget, held=ZERO, billed=billed, credit=ZERO)


def add_hold(batch: Batch, hold: Hold, facts: Row, now: datetime) -> None:
    _count(batch, hold, spent=ZERO, held=hold.amount, billed=ZERO, credit=hold.credit or ZERO)
    batch.holds.append(
        {
            "id": hold.request_id,
            "owner": batch.owner,
            "tenant_id": hold.tenant_id,
            "amount": hold.amount,
            "credit": hold.credit,
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
    more_credit = ZERO if hold.credit is None or request.credit is None else request.credit - hold.credit
    refused = admit(batch, budgets_of(hold), standings, more, hold.timezone)
    if refused is None and hold.credit is not None:
        refused = admit_credit(batch, hold.windows[-1], more_credit)
    if refused is not None:
        return refused
    credit = None if hold.credit is None else hold.credit + more_credit
    cursor.execute(
        "UPDATE billing_holds SET amount = %s, credit = %s, facts = %s WHERE id = %s",
        [
            rows.column(request.amount),
            None if credit is None else rows.column(credit),
            rows.as_json(request.facts),
            rows.key(hold.request_id),
        ],
    )
    if cursor.rowcount != 1:
        return AlreadySettled("This request's hold was swept: its process was silent for too long.")
    _count(batch, hold, spent=ZERO, held=more, billed=ZERO, credit=more_credit)
    return replace(hold, amount=request.amount, credit=credit)


def settle(
    cursor: Any, batch: Batch, operation: Settle | Void, deleted: dict[uuid.UUID, tuple[Decimal, Decimal]]
) -> bool:
    """True if this resolved the hold. A sweep that came first is corrected by an Adjustment.

    `deleted`: of each hold that was still there, what it held of budgets and of prepaid credit.
    """
    hold = operation.hold
    found = deleted.pop(hold.request_id, None)
    if found is not None:
        held, credit = found
        spent = billed = ZERO
        if isinstance(operation, Settle):
            spent, billed = operation.usage["budget_usd"], operation.usage["billed_usd"]
        _count(batch, hold, spent=spent, held=-held, billed=billed, credit=-credit)
        if isinstance(operation, Settle):
            batch.usage.append(operation.usage)
            reopen(cursor, hold.billing_day, operation.now)
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
    day, windows = _open(hold)
    if any(window.key not in batch.windows for window in windows):
        raise OperationalError("The month was finalised in this very moment. The batch is done again.")
    late: dict[str, Any] = {
        "id": uuid7(),
        "kind": "system",
        "tenant_id": hold.tenant_id,
        "request_id": hold.request_id,
        "reason": "The true figure of a request that had been charged in full.",
        "author": "ledger",
        "is_prepaid": hold.credit is not None,
        "billing_day": day,
        "created_at": datetime.now(UTC),
    }
    for name in ("key_id", "config_id", "provider_id", "provider_slug", "model_id", "model_name"):
        late[name] = usage.get(name)
    for name, amount in zip(("cost_total_usd", "billed_usd", "budget_usd"), posted[1:4], strict=True):
        late[name] = usage[name] - rows.usd(amount)
    # As the row that it corrects: its money is taken from where that row's stands.
    credential, late["power_level"], late["task_type"], own_key = posted[4:]
    late["credential_id"], late["used_byok"] = credential and rows.as_uuid(credential), rows.truth(own_key)
    rows.ADJUSTMENTS.insert(cursor, [late])
    if cursor.rowcount == 1:
        spend(batch, replace(hold, windows=windows), budget=late["budget_usd"], billed=late["billed_usd"])
        reopen(cursor, day, operation.now)


def _open(hold: Hold) -> tuple[date, tuple[Window, ...]]:
    """The day on which a late figure of a hold is booked, and its windows: its own, unless its month is finalised."""
    if not periods.may_be_final(day=hold.billing_day, now=datetime.now(UTC)):
        return hold.billing_day, hold.windows
    day = periods.open_day(hold.tenant_id, hold.billing_day)
    if day == hold.billing_day:
        return day, hold.windows
    budgets = windows_for(dict.fromkeys(window.scope for window in budgets_of(hold)), day)
    return day, budgets if hold.credit is None else (*budgets, hold.windows[-1])  # prepaid credit has one window


def windows_of(settlement: Settle) -> tuple[Window, ...]:
    """What a settlement has to lock: the hold's windows, and where a late figure goes if their month is finalised."""
    day, windows = _open(settlement.hold)
    # The hold's own last: prepaid credit, if any, is its last window.
    return windows if day == settlement.hold.billing_day else (*windows, *settlement.hold.windows)


_POSTED = (
    "SELECT status, cost_total_usd, billed_usd, budget_usd, user_key_id, power_level, task_type, used_byok"
    " FROM llm_usage_logs WHERE id = %s"
)


def reopen(cursor: Any, day: date, now: datetime) -> None:
    """A row for a day that may be rolled up takes its mark away, and its month's. Insert first: it waits for a roll-up
    under way. Raises OperationalError for a day that is pruned: nothing lands there any more."""
    if day < datetime.now(UTC).date() - timedelta(days=1):
        moment, mark, month = rows.moment(now), rows.day(day), rows.day(periods.month_of(day))
        cursor.execute(
            "INSERT INTO billing_rolled_days (billing_day, rolled_at) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [mark, moment],
        )
        cursor.execute("DELETE FROM billing_rolled_days WHERE billing_day = %s AND pruned_at IS NULL", [mark])
        if cursor.rowcount != 1:
            raise OperationalError("The day's usage was pruned in this very moment. The batch is done again.")
        cursor.execute(
            "INSERT INTO billing_rolled_months (month, rolled_at) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [month, moment],
        )
        cursor.execute("DELETE FROM billing_rolled_months WHERE month = %s", [month])


def write(cursor: Any, batch: Batch) -> None:
    """Everything the batch changed."""
    if batch.changed:
        windows = [(key, batch.windows[key][0], batch.windows[key][1]) for key in sorted(batch.changed)]
        rows.write(cursor, windows=windows, holds=batch.holds, usage=batch.usage)


def disown(cursor: Any, operations: Sequence[Any]) -> None:
    for operation in operations:
        if isinstance(operation, Disown):
            nobody = rows.key(uuid.UUID(int=0))
            hold = rows.key(operation.hold.request_id)
            cursor.execute("UPDATE billing_holds SET owner = %s WHERE id = %s", [nobody, hold])
