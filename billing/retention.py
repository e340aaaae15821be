"""Retention: usage rows of old days are given up once nothing needs them, a day at a time.

A day is first **pruned**, in one short transaction that marks it (`RolledDay.pruned_at`): from then on its roll-ups are
all there is of it, for reports, statements and the proof; nothing lands there and nothing rebuilds them. Then its rows
are deleted in small batches. Killed at any point it loses nothing: a day without the mark has all its rows, and what is
left of a marked day is deleted by the next run.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db import transaction

from billing import periods, reconcile, rollup
from billing.models import Hold, RolledDay, UsageRecord
from billing.rollup_models import DailyCharge
from billing.snapshot import snapshot
from billing.statement_models import Statement
from billing.statements import closing
from tenants import audit
from tenants.errors import InvalidValue

LEAST_DAYS = 35  # what looks at rows looks back 30 days: one user's figures, the re-costing of a price
_BLOCK = 50_000  # ids read at once
_BATCH = 200  # rows deleted in one transaction
_PATIENCE = 3  # how many times as long as a batch took the next one waits
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What became of one old day: `rows` deleted (or, in a dry run, there to delete), or why it is `kept`."""

    day: date
    rows: int
    kept: str = ""


def prune(
    *, now: datetime, keep_days: int, dry_run: bool = False, rest: Callable[[float], None] = time.sleep
) -> Iterator[Day]:
    """Give up the usage of each day older than `keep_days` that may go, oldest first, telling of each as it is done.

    `rest` is called after each batch with the seconds to wait, so that requests have most of the database's time.
    Raises InvalidValue below LEAST_DAYS.
    """
    if keep_days < LEAST_DAYS:
        raise InvalidValue(
            f"Usage is kept for at least {LEAST_DAYS} days: reports and the re-costing of prices look back 30.",
            param="days",
        )
    proven: set[uuid.UUID] = set()
    for day in rollup.days_with_usage(before=(now - timedelta(days=keep_days)).date()):
        kept, rows = why_kept(day=day, now=now, proven=proven)
        if not kept and not dry_run:
            kept = _mark(day, rows, now)
        if kept or dry_run:
            yield Day(day=day, rows=rows, kept=kept)
        else:
            yield Day(day=day, rows=sum(_delete(day, rest)))


def why_kept(*, day: date, now: datetime, proven: set[uuid.UUID]) -> tuple[str, int]:
    """Why the day's usage cannot be given up ("" if it can), and how many rows it has. All of one snapshot.

    It can when the day is closed, rolled up, without holds, in a month that is finalised for everybody, when its
    roll-ups are what its rows say to the last digit, and when the statements of whoever used something are what those
    roll-ups say byte by byte. `proven`: statements found right before in this run.
    """
    with snapshot():
        rows = UsageRecord.objects.filter(billing_day=day).count()
        mark = RolledDay.objects.filter(pk=day).first()
        if mark is not None and mark.pruned_at is not None:
            return "", rows
        if not rollup.is_closed(day=day, now=now) or mark is None or mark.charges is None:
            return "It is not rolled up yet.", rows
        if Hold.objects.filter(billing_day=day).exists():
            return "Requests of it still hold money.", rows
        month = periods.month_of(day)
        waiting = list(closing.open_tenants(month=month).order_by("slug").values_list("slug", flat=True))
        if waiting:
            more = f" and {len(waiting) - _NAMED} more" if len(waiting) > _NAMED else ""
            return f"{month:%Y-%m} is not finalised for {', '.join(waiting[:_NAMED])}{more}.", rows
        wrong = next(reconcile.of_day(mark), None) or _unproven(day, month, proven)
        return (f"It does not add up: {wrong}." if wrong else ""), rows


def _unproven(day: date, month: date, proven: set[uuid.UUID]) -> closing.Difference | None:
    """The first difference between a statement of the month and the roll-ups and rows it is made of: each day's roll-up
    is held to its rows before these go."""
    users = DailyCharge.objects.filter(billing_day=day).values("tenant_id")
    for statement in Statement.objects.filter(month=month, tenant__in=users).exclude(pk__in=proven):
        for difference in closing.verify(statement, from_rows=False):
            return difference
        proven.add(statement.pk)
    return None


def _mark(day: date, rows: int, now: datetime) -> str:
    """Mark the day as pruned, unless something came in since it was proven: why not then. The day's lock keeps late
    figures waiting, who then find the mark (`posting.reopen`)."""
    with transaction.atomic(durable=True):
        mark = RolledDay.objects.select_for_update().filter(pk=day).first()
        if mark is not None and mark.pruned_at is not None:
            return ""
        if mark is None or UsageRecord.objects.filter(billing_day=day).count() != rows:
            return "Something was booked on it in this very moment."
        before = audit.state(mark)
        mark.pruned_at = now
        mark.save(update_fields=["pruned_at"])
        audit.record(actor=audit.system("usage prune"), action="prune", row=mark, before=before, now=now)
    return ""


def _delete(day: date, rest: Callable[[float], None]) -> Iterator[int]:
    """Delete the rows of a pruned day: how many, batch by batch."""
    while ids := list(UsageRecord.objects.filter(billing_day=day).order_by().values_list("pk", flat=True)[:_BLOCK]):
        for first in range(0, len(ids), _BATCH):
            began = time.monotonic()
            deleted, _ = UsageRecord.objects.filter(pk__in=ids[first : first + _BATCH]).delete()
            yield deleted
            rest(_PATIENCE * (time.monotonic() - began))
