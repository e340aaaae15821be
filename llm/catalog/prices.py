"""What models cost: reading the price in force, and setting a new one. Prices are append-only.

The door to the modules behind it: `components` (what a price says), `price_book` (the prices of a model through time),
`proposals` (prices that wait for a second person), `overrides` (what single tenants pay instead). Units: USD per
million of a meter.
"""

from datetime import datetime

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

from llm.catalog import overrides, own_proposals, price_book, proposals
from llm.catalog.components import (
    MAX_TOKENS,
    MAX_USD_PER_1M,
    SUSPICIOUS_FACTOR,
    Component,
    check,
    components_of,
    flat,
    stored,
    suspicious,
)
from llm.catalog.price_book import PriceChange
from llm.choices import PriceStatus
from llm.models import LLMModel, PriceOverride, PriceProposal, PriceVersion
from llm.models.prices import IN_THE_BOOK
from tenants import audit
from tenants.models import Tenant

__all__ = [
    "IN_THE_BOOK",
    "MAX_TOKENS",
    "MAX_USD_PER_1M",
    "SUSPICIOUS_FACTOR",
    "Component",
    "PriceChange",
    "check",
    "components_of",
    "end_own_price",
    "flat",
    "set_own_price",
    "set_price",
    "stored",
    "suspicious",
    "version_at",
    "waits",
    "with_prices",
]


def version_at(model: LLMModel, at: datetime | None = None) -> PriceVersion | None:
    """The price in force at a moment (None: now), its components loaded. None: unpriced, so refused, never free.

    Costs two queries, or none for models that came through `with_prices`.
    """
    moment = timezone.now() if at is None else at
    for version in model.price_versions.all():
        if version.status in IN_THE_BOOK and _contains(version, moment):
            models.prefetch_related_objects([version], "components")
            return version
    return None


def with_prices(query: "models.QuerySet[LLMModel]") -> "models.QuerySet[LLMModel]":
    """`query` with everything `version_at` needs, in two queries however many models there are."""
    versions = PriceVersion.objects.filter(status__in=IN_THE_BOOK).prefetch_related("components")
    return query.prefetch_related(models.Prefetch("price_versions", queryset=versions))


def waits(change: PriceChange) -> bool:
    """Whether a second person must approve: who wants it may not decide alone, or nobody may (PRICE_FOUR_EYES=all).
    What ships was reviewed before it shipped."""
    return change.second_person or (settings.PRICE_FOUR_EYES == "all" and change.source != "catalog")


def set_price(*, model: LLMModel, change: PriceChange, actor: audit.Actor, now: datetime) -> PriceVersion:
    """A new version, in force from its date on; the one before it ends there. One that needs a second person (`waits`)
    is only stored, as `proposed`, and a draft as `draft`.

    A price already scheduled for the same moment or a later one would end the new one without anybody seeing it: that
    is refused with `price_change_scheduled`, and the scheduled price is cancelled when the change is confirmed.

    Raises InvalidValue (`effective_from`, `components`) and Conflict (`price_change_unconfirmed`: more than five times
    up or down for any meter; `price_change_scheduled`).
    """
    start = price_book.moment(change.effective_from, now)
    components = check(change.components, kind=model.kind)
    with transaction.atomic():
        book = price_book.locked(model.pk, now)
        if change.draft:
            return price_book.enter(book, change, start=start, status=PriceStatus.DRAFT, actor=actor)
        if not change.confirm:
            price_book.refuse_unconfirmed(book, components, start)
        if waits(change):
            proposed = proposals.propose(book, change, start=start, actor=actor).version
            assert proposed is not None
            return proposed
        price_book.make_room(book, start, actor=actor)
        return price_book.enter(book, change, start=start, status=price_book.decided(start, now), actor=actor)


def set_own_price(
    *,
    tenant: Tenant,
    model: LLMModel,
    wish: overrides.NewOverride,
    person_id: int | None,
    actor: audit.Actor,
    now: datetime,
) -> PriceOverride | PriceProposal:
    """What a tenant pays for a model instead of the list price, from its date on; with PRICE_FOUR_EYES=all a proposal
    that waits for a second person. `person_id`: the user who wants it, and may then not approve it.

    Raises what `overrides.set_override` does.
    """
    if settings.PRICE_FOUR_EYES != "all":
        return overrides.set_override(tenant=tenant, model=model, wish=wish, actor=actor, now=now)
    wish = overrides.checked(model=model, wish=wish, now=now)
    with transaction.atomic():
        book = price_book.locked(model.pk, now)
        start = price_book.moment(wish.effective_from, now)
        overrides.refuse_unfit(tenant=tenant, model=model, wish=wish, start=start, now=now)
        own = proposals.OwnWish(tenant=tenant, model=model, wanted=own_proposals.to_set(wish), person_id=person_id)
        return proposals.propose_own(book, own, actor=actor)


def end_own_price(
    *,
    override: PriceOverride,
    reason: str = "",
    confirm: bool = False,
    person_id: int | None,
    actor: audit.Actor,
    now: datetime,
) -> PriceOverride | PriceProposal:
    """End a tenant's own price now, or cancel one that has not begun; with PRICE_FOUR_EYES=all a proposal of that.

    Raises what `overrides.end_override` does.
    """
    over = override.effective_to is not None and override.effective_to <= max(now, override.effective_from)
    if settings.PRICE_FOUR_EYES != "all" or over:
        return overrides.end_override(override=override, reason=reason, confirm=confirm, actor=actor, now=now)
    with transaction.atomic():
        book = price_book.locked(override.model_id, now)
        if not confirm:
            price_book.refuse_suspicious(*overrides.ended_at(override, now))
        wanted = own_proposals.to_end(override, reason)
        own = proposals.OwnWish(tenant=override.tenant, model=override.model, wanted=wanted, person_id=person_id)
        return proposals.propose_own(book, own, actor=actor)


def _contains(version: PriceVersion, moment: datetime) -> bool:
    return version.effective_from <= moment and (version.effective_to is None or moment < version.effective_to)
