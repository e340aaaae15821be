"""Corrections that staff enter: signed, with a reason and an author, counted in the windows of what they correct.

One by one (`enter`), or the many of a correction run (`book`).
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from billing import locking, periods, posting, rows
from billing.models import Adjustment, Facts, UsageRecord
from billing.windows import Scope, Window, billing_day, credit_window, windows_for
from tenants import audit, scoping
from tenants.errors import Conflict, InvalidValue
from tenants.fields import MAX_USD
from tenants.ids import uuid7
from tenants.models import Tenant

ZERO = Decimal(0)
# What it says as its request does.
_SAME = ("key_id", "config_id", "provider_id", "provider_slug", "model_id", "model_name", "credential_id",
         "power_level", "task_type", "used_byok")  # fmt: skip


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a correction run corrects of one request. USD, signed. `seen`: the adjustments this request had when that
    was worked out."""

    request_id: uuid.UUID
    cost: Decimal
    billed: Decimal
    budget: Decimal
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The correction run that adjustments are of: they bear its id, reason and author."""

    id: uuid.UUID
    reason: str
    author: str


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
        _count(_locked([row]), [row], now)
        row.save(force_insert=True)
        audit.record(actor=actor, action="create", row=row, before={}, now=now, reason=correction.reason)
    return row


def book(*, run: Run, shares: Sequence[Share], now: datetime) -> int:
    """Book an adjustment for each of these requests, in the caller's transaction. How many were booked.

    One that was corrected by somebody else since it was worked out is passed over: its share is not right any more.
    Each counts where its request did, in prepaid credit too; those of a finalised month go to the next open one.
    Raises Conflict if a month was finalised in this very moment, IntegrityError if the run has corrected one before.
    """
    of = {row["id"]: row for row in UsageRecord.objects.filter(pk__in=_ids(shares)).values(*_USED)}
    days = periods.open_days({(row["tenant_id"], row["billing_day"]) for row in of.values()})
    wanted = [_of_run(run, share, of[share.request_id], days, now) for share in shares if share.request_id in of]
    with connection.wrap_database_errors:
        batch = _locked(wanted)  # whoever else corrects these requests has committed, or waits
        now_there = Counter(
            Adjustment.objects.filter(request_id__in=_ids(shares)).order_by().values_list("request_id", flat=True)
        )
        stale = {share.request_id for share in shares if now_there[share.request_id] != share.seen}
        made = [row for row in wanted if row.request_id not in stale]
        if made:
            _count(batch, made, now)
            rows.CORRECTIONS.insert(rows.cursor_of(), [_facts(row) for row in made])
    return len(made)


def _ids(shares: Iterable[Share]) -> list[uuid.UUID]:
    return [share.request_id for share in shares]


_USED = ("id", "tenant_id", "billing_day", "is_prepaid", *_SAME)


def _of_run(
    run: Run, share: Share, usage: Facts, days: dict[tuple[uuid.UUID, date], date], now: datetime
) -> Adjustment:
    return Adjustment(
        id=uuid7(),
        tenant_id=usage["tenant_id"],
        kind=Adjustment.Kind.STAFF,
        request_id=share.request_id,
        correction_id=run.id,
        **{name: usage[name] for name in _SAME},
        cost_total_usd=share.cost,
        billed_usd=share.billed,
        budget_usd=share.budget,
        is_prepaid=usage["is_prepaid"],
        reason=run.reason,
        author=run.author,
        billing_day=days[usage["tenant_id"], usage["billing_day"]],
        created_at=now,
    )


def _facts(row: Adjustment) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in Adjustment._meta.concrete_fields}


def _usage(tenant: Tenant, request_id: uuid.UUID) -> UsageRecord:
    found = scoping.rows(UsageRecord, tenant_id=tenant.pk).filter(pk=request_id).first()
    if found is None:
        raise InvalidValue(
            "This tenant has no such request. If its usage has been pruned, correct it without request_id.",
            param="request_id",
        )
    return found


def _day(tenant: Tenant, correction: Correction, usage: UsageRecord | None, now: datetime) -> date:
    """Raises InvalidValue for a day that has not begun."""
    today = billing_day(now, tenant.timezone)
    day = correction.day or (today if usage is None else usage.billing_day)
    if day > today:
        raise InvalidValue("This billing day has not begun.", param="billing_day")
    return day


def _windows(row: Adjustment) -> tuple[tuple[Window, ...], tuple[Window, ...]]:
    """Where it counts: in budgets, and in prepaid credit."""
    kinds = (("key", row.key_id), ("config", row.config_id), ("tenant", row.tenant_id))
    budgets = windows_for((Scope(kind, pk) for kind, pk in kinds if pk is not None), row.billing_day)
    return budgets, (credit_window(row.tenant_id),) if row.is_prepaid else ()


def _locked(made: Sequence[Adjustment]) -> posting.Batch:
    """The windows they count in, locked as the ledger locks them. Raises Conflict."""
    batch = posting.Batch(owner=uuid.UUID(int=0))
    if made:
        locking.take(
            batch, [], [budgets + credit for budgets, credit in map(_windows, made)], known=set(), scope_sql={}
        )
        # Now that nobody can finalise them:
        days = periods.open_days({(row.tenant_id, row.billing_day) for row in made})
        if any(day != wished for (_, wished), day in days.items()):
            raise Conflict("The month was finalised in this very moment. Send it again.", code="month_finalised")
    return batch


def _count(batch: posting.Batch, made: Sequence[Adjustment], now: datetime) -> None:
    """Count them in their windows, and have their days rolled up again."""
    for row in made:
        budgets, credit = _windows(row)
        batch.add(budgets, spent=row.budget_usd, held=ZERO)
        batch.add(credit, spent=row.billed_usd, held=ZERO)
    cursor = rows.cursor_of()
    posting.write(cursor, batch)
    for day in sorted({row.billing_day for row in made}):
        posting.reopen(cursor, day, now)
