"""Corrections that staff enter: signed, with a reason and an author, counted in the windows of what they correct."""

import uuid
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from django.db import connection, transaction

from billing import locking, periods, posting, rows
from billing.models import Adjustment, UsageRecord
from billing.windows import Scope, Window, billing_day, credit_window, windows_for
from tenants import audit, scoping
from tenants.errors import Conflict, InvalidValue
from tenants.fields import MAX_USD
from tenants.ids import uuid7
from tenants.models import Tenant

ZERO = Decimal(0)
_SAME = ("key_id", "config_id", "provider_id", "provider_slug", "model_id", "model_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What is to be corrected. USD, signed: below zero the tenant owes less.

    `budget` None: budgets follow what is billed. `request_id` names the request it is about, whose key, config and
    model it is counted for; `day` the billing day, else that request's, else today.
    """

    billed: Decimal
    reason: str
    budget: Decimal | None = None
    cost: Decimal = ZERO
    request_id: uuid.UUID | None = None
    day: date | None = None


def enter(*, tenant: Tenant, correction: Correction, actor: audit.Actor, now: datetime) -> Adjustment:
    """Book an adjustment, with its audit row. In a period that is finalised it goes to the next open one.

    It counts in the tenant's prepaid credit if the request it is about was paid from it; without a request, if the
    tenant pays in advance now. Raises InvalidValue, Conflict.
    """
    budget = correction.billed if correction.budget is None else correction.budget
    amounts = {"billed_usd": correction.billed, "budget_usd": budget, "cost_total_usd": correction.cost}
    if not any(amounts.values()):
        raise InvalidValue("An adjustment by nothing changes nothing.", param="billed_usd")
    for name, amount in amounts.items():
        if abs(amount) > MAX_USD:
            raise InvalidValue(f"An adjustment is at most {MAX_USD:,} USD.", param=name)
    usage = None if correction.request_id is None else _usage(tenant, correction.request_id)
    with transaction.atomic(), connection.wrap_database_errors:
        day = periods.open_day(tenant.pk, _day(tenant, correction, usage, now))
        row = Adjustment(
            id=uuid7(),
            tenant=tenant,
            kind=Adjustment.Kind.STAFF,
            request_id=correction.request_id,
            **({} if usage is None else {name: getattr(usage, name) for name in _SAME}),
            **amounts,
            is_prepaid=tenant.prepaid if usage is None else usage.is_prepaid,
            reason=correction.reason,
            author=actor.label[:200],
            billing_day=day,
            created_at=now,
        )
        _count(row, now)
        row.save(force_insert=True)
        audit.record(actor=actor, action="create", row=row, before={}, now=now, reason=correction.reason)
    return row


def _usage(tenant: Tenant, request_id: uuid.UUID) -> UsageRecord:
    found = scoping.rows(UsageRecord, tenant_id=tenant.pk).filter(pk=request_id).first()
    if found is None:
        raise InvalidValue("This tenant has no such request.", param="request_id")
    return found


def _day(tenant: Tenant, correction: Correction, usage: UsageRecord | None, now: datetime) -> date:
    """Raises InvalidValue for a day that has not begun."""
    today = billing_day(now, tenant.timezone)
    day = correction.day or (today if usage is None else usage.billing_day)
    if day > today:
        raise InvalidValue("This billing day has not begun.", param="billing_day")
    return day


def _count(row: Adjustment, now: datetime) -> None:
    """Count it in its windows, locked as the ledger locks them, and have its day rolled up again."""
    kinds = (("key", row.key_id), ("config", row.config_id), ("tenant", row.tenant_id))
    budgets = windows_for((Scope(kind, pk) for kind, pk in kinds if pk is not None), row.billing_day)
    credit: tuple[Window, ...] = (credit_window(row.tenant_id),) if row.is_prepaid else ()
    cursor = rows.cursor_of()
    batch = posting.Batch(owner=uuid.UUID(int=0))
    locking.take(batch, [], [budgets + credit], known=set(), scope_sql={})
    batch.add(budgets, spent=row.budget_usd, held=ZERO)
    batch.add(credit, spent=row.billed_usd, held=ZERO)
    if periods.open_day(row.tenant_id, row.billing_day) != row.billing_day:  # now that nobody can finalise it
        raise Conflict("The month was finalised in this very moment. Send the adjustment again.")
    posting.write(cursor, batch)
    posting.reopen(cursor, row.billing_day, now)
