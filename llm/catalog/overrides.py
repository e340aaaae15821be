"""Tenants' own prices: entering one, ending one, reading those that still matter. USD per million of a meter.

A tenant's own price is what it owes for a model with a platform key, instead of the list price plus markup. Rows are
never edited: a new price ends the one before it, and one that has not begun is cancelled by ending where it begins.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import F, Q, QuerySet

from llm.catalog import prices
from llm.choices import ServiceTier
from llm.models import LLMModel, OverrideComponent, PriceOverride
from llm.models.prices import PER_MILLION
from tenants import audit, scoping
from tenants.errors import Conflict, InvalidValue
from tenants.models import Tenant


@dataclass(frozen=True, kw_only=True)
class NewOverride:
    """A price for one tenant. `effective_from` None is now, `effective_to` None for good."""

    components: Sequence[prices.Component]
    reason: str
    effective_from: datetime | None = None
    effective_to: datetime | None = None


def mattering(*, tenant_id: uuid.UUID, now: datetime) -> QuerySet[PriceOverride]:
    """The tenant's prices that are in force or will be, newest first, with their components."""
    mine = scoping.rows(PriceOverride, tenant_id=tenant_id).filter(
        Q(effective_to__isnull=True) | Q(effective_to__gt=now)
    )
    return mine.exclude(effective_to=F("effective_from")).prefetch_related("components")


def set_override(
    *, tenant: Tenant, model: LLMModel, wish: NewOverride, actor: audit.Actor, now: datetime
) -> PriceOverride:
    """The tenant's price of the model from its date on; one in force then ends there.

    Raises InvalidValue (`effective_from`, `effective_to`, `components`) and Conflict (`price_change_scheduled`: another
    one begins later; end that one first).
    """
    start = now if wish.effective_from is None else wish.effective_from
    if start < now:
        raise InvalidValue(
            "A price cannot begin in the past: what was billed stays billed. Leave it out to begin now.",
            param="effective_from",
        )
    if wish.effective_to is not None and wish.effective_to <= start:
        raise InvalidValue("A price must end after it begins.", param="effective_to")
    components = prices.check(wish.components, kind=model.kind)
    if any(one.service_tier != ServiceTier.STANDARD for one in components):
        raise InvalidValue("A tenant's own price is of standard service alone.", param="components")
    with transaction.atomic():
        # One change of a model's prices at a time: the second sees what the first did.
        LLMModel.objects.select_for_update().get(pk=model.pk)
        rows = list(PriceOverride.objects.filter(tenant=tenant, model=model))
        _make_room([row for row in rows if row.effective_to != row.effective_from], start, actor=actor, now=now)
        override = PriceOverride.objects.create(
            tenant=tenant,
            model=model,
            number=max((row.number for row in rows), default=0) + 1,
            effective_from=start,
            effective_to=wish.effective_to,
            recorded_at=now,
            reason=wish.reason,
            author=actor.label[:200],
        )
        OverrideComponent.objects.bulk_create(
            OverrideComponent(
                override=override,
                meter=one.meter,
                unit_quantity=PER_MILLION,
                unit_price_usd=one.usd_per_1m,
                above_tokens=one.above_tokens,
            )
            for one in components
        )
        event = audit.record(actor=actor, action="create", row=override, before={}, now=now, reason=wish.reason)
        if event is not None:
            event.after |= {one.name: f"{one.usd_per_1m.normalize():f}" for one in components}
            event.save(update_fields=["after"])
    return override


def end_override(*, override: PriceOverride, actor: audit.Actor, now: datetime, reason: str = "") -> PriceOverride:
    """From now on the list price counts again. One that has not begun is cancelled. Ending twice changes nothing."""
    with transaction.atomic():
        row = PriceOverride.objects.select_for_update().get(pk=override.pk)
        end = max(now, row.effective_from)
        if row.effective_to is None or row.effective_to > end:
            _end(row, end, actor=actor, now=now, reason=reason)
    return row


def _make_room(rows: Sequence[PriceOverride], start: datetime, *, actor: audit.Actor, now: datetime) -> None:
    later = sorted(row.effective_from for row in rows if row.effective_from >= start and row.effective_from > now)
    if later:
        raise Conflict(
            f"This tenant has a price of this model that begins at {later[0]:%Y-%m-%dT%H:%M:%SZ}. End that one first, "
            "or begin after it.",
            code="price_change_scheduled",
            param="effective_from",
        )
    for row in rows:
        if row.effective_to is None or row.effective_to > start:
            _end(row, start, actor=actor, now=now, reason="replaced")


def _end(row: PriceOverride, at: datetime, *, actor: audit.Actor, now: datetime, reason: str) -> None:
    before = audit.state(row)
    row.effective_to = at
    row.save(update_fields=["effective_to"])
    action = "cancel" if at == row.effective_from else "end"
    audit.record(actor=actor, action=action, row=row, before=before, now=now, reason=reason)
