"""Drafts, finalising, and the proof: a finalised statement is worked out again from the ledger, byte for byte."""

import json
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from billing import periods
from billing.models import BudgetWindow, Hold
from billing.statement_models import Finalised, Statement, StatementDocument
from billing.statements import figures
from billing.statements.document import FORMATS, Head, compose, sha256
from tenants import audit, scoping
from tenants.errors import Conflict, NotFound
from tenants.models import Tenant

_TRIES = 3


class PeriodOpen(Conflict):
    """The month is not over in every time zone, or requests of it are under way."""

    code = "period_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where a finalised statement is not what the ledger says."""

    statement: str
    where: str
    stored: str
    recomputed: str

    def __str__(self) -> str:
        return f"{self.statement}: {self.where}: stored {self.stored}, recomputed {self.recomputed}"


def of_month(*, tenant_id: uuid.UUID, month: date) -> Statement | None:
    return scoping.rows(Statement, tenant_id=tenant_id).filter(month=month).first()


def text_of(statement: Statement) -> bytes:
    """The canonical document as it was finalised."""
    packed = StatementDocument.objects.values_list("packed", flat=True).get(pk=statement.pk)
    return zlib.decompress(bytes(packed))


def document(*, tenant: Tenant, month: date, now: datetime) -> bytes:
    """The statement's text, or a draft of it as the ledger is now. Raises NotFound for a month that has not begun."""
    statement = of_month(tenant_id=tenant.pk, month=month)
    if statement is not None:
        return text_of(statement)
    if month > periods.current(timezone=tenant.timezone, now=now):
        raise NotFound(f"{month:%Y-%m} has not begun: there is no statement of it.")
    head = Head(tenant_id=tenant.pk, slug=tenant.slug, name=tenant.name, timezone=tenant.timezone, month=month)
    return compose(head, figures.read(tenant_id=tenant.pk, month=month))


def months(*, tenant: Tenant, now: datetime) -> list[tuple[date, Statement | None]]:
    """The tenant's months, newest first, with their statements. Every month with usage or adjustments has a window."""
    windows = BudgetWindow.objects.filter(scope_kind="tenant", scope_id=tenant.pk, period="month")
    found = {statement.month: statement for statement in scoping.rows(Statement, tenant_id=tenant.pk)}
    begun = {*windows.values_list("starts_on", flat=True), periods.current(timezone=tenant.timezone, now=now)}
    return [(month, found.get(month)) for month in sorted(begun | set(found), reverse=True)]


def open_tenants(*, month: date) -> QuerySet[Tenant]:
    """The tenants that have something in the month and no statement of it."""
    used = BudgetWindow.objects.filter(scope_kind="tenant", period="month", starts_on=month)
    done = Statement.objects.filter(month=month)
    return Tenant.objects.filter(Q(pk__in=used.values("scope_id")) & ~Q(pk__in=done.values("tenant_id")))


def finalise(*, tenant: Tenant, month: date, actor: audit.Actor, now: datetime) -> Statement:
    """Close the month for good. Raises PeriodOpen, or Finalised if it is closed already.

    The sums are worked out before the transaction, since it locks the month against late figures: rows are only ever
    added, so if there are as many under the lock the sums are of all of them.
    """
    _check(tenant=tenant, month=month, now=now)
    head = Head(
        tenant_id=tenant.pk, slug=tenant.slug, name=tenant.name, timezone=tenant.timezone, month=month, finalised_at=now
    )
    for _ in range(_TRIES):
        found = figures.read(tenant_id=tenant.pk, month=month)
        text = compose(head, found)
        with transaction.atomic():
            periods.lock(tenant_id=tenant.pk, month=month)
            _check(tenant=tenant, month=month, now=now)
            if figures.number(tenant_id=tenant.pk, month=month) == (found.requests, found.adjustments):
                return _write(head, text, actor=actor)
    raise PeriodOpen(f"Corrections of {tenant.slug}'s {month:%Y-%m} are just coming in. Try again in a minute.")


def _check(*, tenant: Tenant, month: date, now: datetime) -> None:
    if of_month(tenant_id=tenant.pk, month=month) is not None:
        raise Finalised(f"The statement of {tenant.slug} for {month:%Y-%m} is final already.")
    end = periods.ends_at(month)
    if now < end:
        raise PeriodOpen(
            f"{month:%Y-%m} is not over in every time zone. It can be finalised from {end:%Y-%m-%dT%H:%M:%SZ} on."
        )
    under_way = Hold.objects.filter(tenant_id=tenant.pk, billing_day__in=periods.days_of(month)).count()
    if under_way:
        raise PeriodOpen(
            f"{under_way} requests of {tenant.slug}'s {month:%Y-%m} still hold money. They end by themselves, or the "
            "sweeper settles them 15 s after their process died: try again then.",
            code="holds_open",
        )


def _write(head: Head, text: bytes, *, actor: audit.Actor) -> Statement:
    totals = json.loads(text)["totals"]
    assert head.finalised_at is not None
    statement = Statement(
        tenant_id=head.tenant_id,
        month=head.month,
        tenant_slug=head.slug,
        tenant_name=head.name,
        timezone=head.timezone,
        requests=totals["requests"],
        cost_total_usd=Decimal(totals["cost_usd"]),
        billed_usd=Decimal(totals["billed_usd"]),
        sha256=sha256(text),
        finalised_at=head.finalised_at,
        finalised_by=actor.label[:200],
    )
    try:
        with transaction.atomic():
            statement.save()
    except IntegrityError as error:
        raise Finalised(f"The statement of {head.slug} for {head.month:%Y-%m} is final already.") from error
    StatementDocument(statement=statement, packed=zlib.compress(text)).save()
    audit.record(actor=actor, action="finalise", row=statement, before={}, now=head.finalised_at)
    return statement


def verify(statement: Statement, *, from_rows: bool = True) -> list[Difference]:
    """Where the statement differs from its own hash, from what its row says, and from the ledger; none is good.

    The ledger is the usage rows, wherever they are still there, whatever roll-ups say: some 40 s a million. Without
    `from_rows` it is the roll-ups, for who has held them to the rows.
    """
    stored = text_of(statement)
    differences = []
    if sha256(stored) != statement.sha256:
        differences.append(_difference(statement, "sha256", statement.sha256, sha256(stored)))
    document = json.loads(stored)
    totals = document["totals"]
    said = {"requests": statement.requests, "cost_usd": statement.cost_total_usd, "billed_usd": statement.billed_usd}
    for name, value in said.items():
        if value != Decimal(totals[name]):
            differences.append(_difference(statement, f"its row's {name}", value, totals[name]))
    head = _head(statement, document.get("format"))
    found = figures.read(tenant_id=statement.tenant_id, month=statement.month, from_rows=from_rows)
    recomputed = compose(head, found)
    if recomputed != stored:
        where, was, now = next(_unlike("", document, json.loads(recomputed)), ("bytes", "", ""))
        differences.append(_difference(statement, where, was, now))
    return differences


def _head(statement: Statement, form: str) -> Head:
    """In the format that its document says; in the newest if that is none we know."""
    return Head(
        **({"format": form} if form in FORMATS else {}),
        tenant_id=statement.tenant_id,
        slug=statement.tenant_slug,
        name=statement.tenant_name,
        timezone=statement.timezone,
        month=statement.month,
        finalised_at=statement.finalised_at,
    )


def _difference(statement: Statement, where: str, stored: Any, recomputed: Any) -> Difference:
    return Difference(statement=str(statement), where=where, stored=_short(stored), recomputed=_short(recomputed))


def _short(value: Any) -> str:
    text = f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)
    return text if len(text) <= 120 else f"{text[:119]}…"


def _unlike(path: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Each place at which two JSON values differ, totals first."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}, key=lambda name: (name != "totals", name)):
            yield from _unlike(f"{path}.{name}".lstrip("."), one.get(name), other.get(name))
    elif isinstance(one, list) and isinstance(other, list):
        for index in range(max(len(one), len(other))):
            was, found = (side[index] if index < len(side) else "nothing" for side in (one, other))
            yield from _unlike(f"{path}[{index}]", was, found)
    elif one != other:
        yield path, one, other
