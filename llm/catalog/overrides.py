"""Tenants' own prices: entering one, ending one, reading those that still matter. USD per million of a meter.

A tenant's own price is what it owes for a model with a platform key, instead of the list price plus markup. Rows are
never edited: a new price ends the one before it, and one that has not begun is cancelled by ending where it begins.
Whether a second person must approve is decided before: `prices.set_own_price`, `prices.end_own_price`.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db import transaction
from django.db.models import F, Q, QuerySet

from billing.pricing import IF_PRICED, STANDARD
from llm.catalog import price_book
from llm.catalog.components import Component, check, components_of, stored
from llm.models import LLMModel, OverrideComponent, PriceOverride, PriceVersion
from llm.models.prices import IN_THE_BOOK, PER_MILLION
from tenants import audit, scoping, terms
from tenants.errors import Conflict, InvalidValue
from tenants.models import Tenant


@dataclass(frozen=True, kw_only=True)
class NewOverride:
    """A price for one tenant. `effective_from` None is now, `effective_to` None for good.

    `confirm`: more than five times up or down is meant. `author`: who wanted it and who approved it, if not the actor.
    """

    components: Sequence[Component]
    reason: str
    effective_from: datetime | None = None
    effective_to: datetime | None = None
    confirm: bool = False
    author: str = ""


def mattering(*, tenant_id: uuid.UUID, now: datetime) -> QuerySet[PriceOverride]:
    """The tenant's prices that are in force or will be, newest first, with their components."""
    mine = scoping.rows(PriceOverride, tenant_id=tenant_id).filter(
        Q(effective_to__isnull=True) | Q(effective_to__gt=now)
    )
    return mine.exclude(effective_to=F("effective_from")).prefetch_related("components")


def paid_at(*, tenant: Tenant, model: LLMModel, at: datetime) -> list[Component]:
    """What the tenant pays for standard service at a moment with a platform key: its own price, else the list price
    with its markup. Empty: the model is unpriced then."""
    own = mattering(tenant_id=tenant.pk, now=at).filter(model=model, effective_from__lte=at).first()
    listed = listed_at(tenant=tenant, model=model, at=at)
    return listed if own is None else beside(parts_of(own), listed)


def listed_at(*, tenant: Tenant, model: LLMModel, at: datetime) -> list[Component]:
    """The list price of standard service at a moment, with the tenant's markup. Empty: the model is unpriced then."""
    rows = PriceVersion.objects.filter(model=model, status__in=IN_THE_BOOK, effective_from__lte=at)
    version = rows.exclude(effective_to__lte=at).first()
    factor = 1 + terms.of(tenant).markup_percent / 100
    found = [] if version is None else components_of(version)
    return [replace(one, usd_per_1m=stored(one.usd_per_1m * factor)) for one in found if one.service_tier == STANDARD]


def beside(own: Sequence[Component], listed: Sequence[Component]) -> list[Component]:
    """An own price with the fees that it lacks: a request with one of them costs the list price."""
    named = {one.meter for one in own}
    return [*own, *(one for one in listed if one.meter in IF_PRICED and one.meter not in named)]


def parts_of(override: PriceOverride) -> list[Component]:
    """The components of an own price."""
    return [
        Component(one.meter, one.unit_price_usd * PER_MILLION / one.unit_quantity, one.above_tokens)
        for one in override.components.all()
    ]


def checked(*, model: LLMModel, wish: NewOverride, now: datetime) -> NewOverride:
    """The price with its first moment said. Raises InvalidValue (`effective_from`, `effective_to`, `components`)."""
    start = price_book.moment(wish.effective_from, now)
    if wish.effective_to is not None and wish.effective_to <= start:
        raise InvalidValue("A price must end after it begins.", param="effective_to")
    components = check(wish.components, kind=model.kind)
    if any(one.service_tier != STANDARD for one in components):
        raise InvalidValue("A tenant's own price is of standard service alone.", param="components")
    return replace(wish, components=components, effective_from=start)


def refuse_unfit(*, tenant: Tenant, model: LLMModel, wish: NewOverride, start: datetime, now: datetime) -> None:
    """Raises Conflict: `price_change_scheduled` where another own price begins later, `price_change_unconfirmed` for
    more than five times up or down from what the tenant pays at `start`, or back to the list price where it ends."""
    waiting = mattering(tenant_id=tenant.pk, now=now).filter(model=model, effective_from__gte=start)
    later = waiting.filter(effective_from__gt=now).order_by("effective_from").first()
    if later is not None:
        raise Conflict(
            f"This tenant has a price of this model that begins at {later.effective_from:%Y-%m-%dT%H:%M:%SZ}. End that "
            "one first, or begin after it.",
            code="price_change_scheduled",
            param="effective_from",
        )
    if wish.confirm:
        return
    listed = listed_at(tenant=tenant, model=model, at=start)
    price_book.refuse_suspicious(paid_at(tenant=tenant, model=model, at=start), beside(wish.components, listed))
    if wish.effective_to is not None:
        then = listed_at(tenant=tenant, model=model, at=wish.effective_to)
        price_book.refuse_suspicious(beside(wish.components, then), then)


def set_override(
    *, tenant: Tenant, model: LLMModel, wish: NewOverride, actor: audit.Actor, now: datetime
) -> PriceOverride:
    """The tenant's price of the model from its date on; one in force then ends there.

    Raises InvalidValue (`effective_from`, `effective_to`, `components`) and Conflict (`price_change_scheduled`: another
    one begins later, end that one first; `price_change_unconfirmed`: more than five times off what the tenant pays).
    """
    wish = checked(model=model, wish=wish, now=now)
    start = price_book.moment(wish.effective_from, now)
    with transaction.atomic():
        # One change of a model's prices at a time: the second sees what the first did.
        LLMModel.objects.select_for_update().get(pk=model.pk)
        refuse_unfit(tenant=tenant, model=model, wish=wish, start=start, now=now)
        for row in mattering(tenant_id=tenant.pk, now=start).filter(model=model):
            _end(row, start, actor=actor, now=now, reason="replaced")
        last = PriceOverride.objects.filter(tenant=tenant, model=model).order_by("-number").first()
        override = PriceOverride.objects.create(
            tenant=tenant,
            model=model,
            number=1 if last is None else last.number + 1,
            effective_from=start,
            effective_to=wish.effective_to,
            recorded_at=now,
            reason=wish.reason,
            author=(wish.author or actor.label)[:200],
        )
        OverrideComponent.objects.bulk_create(
            OverrideComponent(
                override=override,
                meter=one.meter,
                unit_quantity=PER_MILLION,
                unit_price_usd=one.usd_per_1m,
                above_tokens=one.above_tokens,
            )
            for one in wish.components
        )
        event = audit.record(actor=actor, action="create", row=override, before={}, now=now, reason=wish.reason)
        if event is not None:
            event.after |= {one.name: f"{one.usd_per_1m.normalize():f}" for one in wish.components}
            event.save(update_fields=["after"])
    return override


def ended_at(override: PriceOverride, now: datetime) -> tuple[list[Component], list[Component]]:
    """What the tenant pays and what it will pay if this price is ended now. Of one that has not begun: what its
    beginning would have ended, if anything."""
    tenant, model = override.tenant, override.model
    end = max(now, override.effective_from)
    listed = listed_at(tenant=tenant, model=model, at=end)
    gone = override
    if override.effective_from > now:
        rows = scoping.rows(PriceOverride, tenant_id=tenant.pk).filter(model=model, effective_to=end)
        before = rows.exclude(effective_from=F("effective_to")).first()
        if before is None:
            return listed, listed
        gone = before
    return beside(parts_of(gone), listed), listed


def end_override(
    *,
    override: PriceOverride,
    actor: audit.Actor,
    now: datetime,
    reason: str = "",
    confirm: bool = False,
) -> PriceOverride:
    """From now on the list price counts again. One that has not begun is cancelled. Ending twice changes nothing.

    Raises Conflict (`price_change_unconfirmed`: the tenant will pay more than five times more or less).
    """
    with transaction.atomic():
        lock = PriceOverride.objects.select_for_update(of=("self",)).select_related("tenant", "model")
        row: PriceOverride = lock.get(pk=override.pk)
        end = max(now, row.effective_from)
        if row.effective_to is None or row.effective_to > end:
            if not confirm:
                price_book.refuse_suspicious(*ended_at(row, now))
            _end(row, end, actor=actor, now=now, reason=reason)
    return row


def _end(row: PriceOverride, at: datetime, *, actor: audit.Actor, now: datetime, reason: str) -> None:
    before = audit.state(row)
    row.effective_to = at
    row.save(update_fields=["effective_to"])
    action = "cancel" if at == row.effective_from else "end"
    audit.record(actor=actor, action=action, row=row, before=before, now=now, reason=reason)
