"""What models cost: reading the price in force, and setting a new one. Prices are append-only.

A version that has a successor is `superseded` and ends where the successor begins; which version is in force is decided
by its interval alone, so nothing has to run at the moment a scheduled price begins. Units: USD per million of a meter.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

from llm.choices import Kind, Meter, PriceStatus
from llm.models import LLMModel, PriceComponent, PriceVersion
from llm.models.prices import PER_MILLION
from tenants import audit
from tenants.errors import Conflict, InvalidValue
from tenants.fields import UNIT

IN_FORCE = (PriceStatus.ACTIVE, PriceStatus.SUPERSEDED)
MAX_USD_PER_1M = Decimal(100_000_000)
MAX_TOKENS = 2**31 - 1
SUSPICIOUS_FACTOR = 5


@dataclass(frozen=True)
class Component:
    """USD per million of one meter, for requests of strictly more than `above_tokens` prompt tokens (0: all others)."""

    meter: str
    usd_per_1m: Decimal
    above_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class PriceChange:
    """A new price. `effective_from` None is now; `confirm` says that an unusual change is meant."""

    components: Sequence[Component]
    effective_from: datetime | None = None
    reason: str = ""
    confirm: bool = False
    source: str = "staff"


def version_at(model: LLMModel, at: datetime | None = None) -> PriceVersion | None:
    """The price in force at a moment (None: now), its components loaded. None: unpriced, so refused, never free.

    Costs two queries, or none for models that came through `with_prices`.
    """
    moment = timezone.now() if at is None else at
    for version in model.price_versions.all():
        if version.status in IN_FORCE and _contains(version, moment):
            models.prefetch_related_objects([version], "components")
            return version
    return None


def with_prices(query: "models.QuerySet[LLMModel]") -> "models.QuerySet[LLMModel]":
    """`query` with everything `version_at` needs, in two queries however many models there are."""
    versions = PriceVersion.objects.filter(status__in=IN_FORCE).prefetch_related("components")
    return query.prefetch_related(models.Prefetch("price_versions", queryset=versions))


def components_of(version: PriceVersion) -> list[Component]:
    """The components of a version in the form `set_price` takes."""
    return [
        Component(row.meter, row.unit_price_usd * PER_MILLION / row.unit_quantity, row.above_tokens)
        for row in version.components.all()
    ]


def stored(usd: Decimal) -> Decimal:
    """The amount as the database keeps it, rounded half up to 1e-10."""
    return usd.quantize(UNIT, rounding=ROUND_HALF_UP)


def flat(*, input_usd: Decimal, output_usd: Decimal | None, cached_usd: Decimal | None) -> list[Component]:
    """The components of a plain price, USD per million tokens; None leaves a meter out."""
    given = ((Meter.INPUT, input_usd), (Meter.OUTPUT, output_usd), (Meter.CACHE_READ, cached_usd))
    return [Component(meter.value, usd) for meter, usd in given if usd is not None]


def set_price(*, model: LLMModel, change: PriceChange, actor: audit.Actor, now: datetime) -> PriceVersion:
    """A new version, in force from its date on; the one before it ends there.

    With PRICE_FOUR_EYES=all the version is only stored, as `proposed`. A price already scheduled for the same moment or
    a later one would end the new one without anybody seeing it: that is refused with `price_change_scheduled`, and the
    scheduled price is cancelled when the change is confirmed.

    Raises InvalidValue (`effective_from`, `components`) and Conflict (`price_change_unconfirmed`: more than five times
    up or down for any meter; `price_change_scheduled`).
    """
    start = now if change.effective_from is None else change.effective_from
    if start < now:
        raise InvalidValue(
            "A price cannot begin in the past: what was billed stays billed. Leave it out to begin now.",
            param="effective_from",
        )
    components = check(change.components, kind=model.kind)
    with transaction.atomic():
        # One price change of a model at a time: the second sees what the first did.
        LLMModel.objects.select_for_update().get(pk=model.pk)
        versions = list(PriceVersion.objects.filter(model=model).prefetch_related("components"))
        scheduled = [row for row in versions if _scheduled(row, start, now)]
        base = _in_force(versions, start, without=scheduled)
        if not change.confirm:
            _refuse_unconfirmed(base, components, scheduled)
        proposed = settings.PRICE_FOUR_EYES == "all" and change.source != "catalog"
        if not proposed:
            _make_room(base, scheduled, start=start, actor=actor, now=now)
        version = PriceVersion.objects.create(
            model=model,
            number=max((row.number for row in versions), default=0) + 1,
            status=PriceStatus.PROPOSED if proposed else PriceStatus.ACTIVE,
            effective_from=start,
            recorded_at=now,
            source=change.source,
            reason=change.reason,
            author=actor.label[:200],
        )
        PriceComponent.objects.bulk_create(_rows(version, components))
        _audit(version, base, actor=actor, now=now)
    return version


def check(components: Iterable[Component], *, kind: str) -> list[Component]:
    """The components as they will be stored. Raises InvalidValue(param="components") saying what is wrong."""
    checked = list(components)
    seen: set[tuple[str, int]] = set()
    for component in checked:
        _check_one(component)
        if (component.meter, component.above_tokens) in seen:
            raise _wrong(f"{component.meter} is priced twice above {component.above_tokens} tokens.")
        seen.add((component.meter, component.above_tokens))
    required = [Meter.INPUT, Meter.OUTPUT] if kind == Kind.CHAT else [Meter.INPUT]
    for meter in required:
        if (meter.value, 0) not in seen:
            raise _wrong(f"A price for {meter.value} is missing. An explicit 0 makes it free.")
    for meter_name, _ in seen:
        if (meter_name, 0) not in seen:
            raise _wrong(f"{meter_name} has a price above a threshold, but none below it.")
    return checked


def _check_one(component: Component) -> None:
    usd = component.usd_per_1m
    if component.meter not in Meter.values:
        raise _wrong(f"“{component.meter}” is no meter. Meters are: {', '.join(Meter.values)}.")
    if not usd.is_finite() or usd < 0:
        raise _wrong(f"The price of {component.meter} is negative or no number.")
    if usd > MAX_USD_PER_1M:
        raise _wrong(f"The price of {component.meter} is above {MAX_USD_PER_1M:,} USD per million.")
    if usd != stored(usd):
        raise _wrong(f"The price of {component.meter} has more than 10 decimal places of a dollar.")
    if not 0 <= component.above_tokens <= MAX_TOKENS:
        raise _wrong(f"above_tokens of {component.meter} is not between 0 and {MAX_TOKENS}.")


def _wrong(message: str) -> InvalidValue:
    return InvalidValue(message, param="components")


def _contains(version: PriceVersion, moment: datetime) -> bool:
    return version.effective_from <= moment and (version.effective_to is None or moment < version.effective_to)


def _scheduled(version: PriceVersion, start: datetime, now: datetime) -> bool:
    """True for a price that has not begun and would begin at `start` or later."""
    return version.status in IN_FORCE and version.effective_from > now and version.effective_from >= start


def _in_force(versions: list[PriceVersion], at: datetime, *, without: list[PriceVersion]) -> PriceVersion | None:
    """The version in force at a moment once those in `without` are gone: the last that begins by then."""
    left = [row for row in versions if row.status in IN_FORCE and row not in without and row.effective_from <= at]
    return max(left, key=lambda row: (row.effective_from, row.number), default=None)


def _refuse_unconfirmed(base: PriceVersion | None, components: list[Component], scheduled: list[PriceVersion]) -> None:
    if scheduled:
        dates = ", ".join(f"{row.effective_from:%Y-%m-%dT%H:%M:%SZ}" for row in scheduled)
        raise Conflict(
            f"A price is scheduled already for {dates}. Send `confirm: true` to cancel it, or begin after it.",
            code="price_change_scheduled",
            param="confirm",
        )
    before = {} if base is None else {(one.meter, one.above_tokens): one.usd_per_1m for one in components_of(base)}
    for component in components:
        old = before.get((component.meter, component.above_tokens))
        if old is not None and suspicious(old, component.usd_per_1m):
            raise Conflict(
                f"The price of {component.meter} would go from ${old.normalize():f} to "
                f"${component.usd_per_1m.normalize():f} per million, more than {SUSPICIOUS_FACTOR}x. "
                "Send `confirm: true` if it is meant.",
                code="price_change_unconfirmed",
                param="confirm",
            )


def suspicious(old: Decimal, new: Decimal) -> bool:
    """True if `new` is more than five times `old` or less than a fifth of it; to or from free is, too."""
    return old != new and max(old, new) > SUSPICIOUS_FACTOR * min(old, new)


def _make_room(
    base: PriceVersion | None,
    scheduled: list[PriceVersion],
    *,
    start: datetime,
    actor: audit.Actor,
    now: datetime,
) -> None:
    """End the version before `start`, and cancel those after it."""
    for row in scheduled:
        before = audit.state(row)
        row.status = PriceStatus.CANCELLED
        row.save(update_fields=["status"])
        audit.record(actor=actor, action="cancel", row=row, before=before, now=now, reason="replaced before it began")
    if base is not None:
        before = audit.state(base)
        base.status = PriceStatus.SUPERSEDED
        base.effective_to = start
        base.save(update_fields=["status", "effective_to"])
        audit.record(actor=actor, action="supersede", row=base, before=before, now=now)


def _rows(version: PriceVersion, components: list[Component]) -> list[PriceComponent]:
    return [
        PriceComponent(
            version=version,
            meter=component.meter,
            unit_quantity=PER_MILLION,
            unit_price_usd=component.usd_per_1m,
            above_tokens=component.above_tokens,
        )
        for component in components
    ]


def _audit(version: PriceVersion, base: PriceVersion | None, *, actor: audit.Actor, now: datetime) -> None:
    """The event of a new price carries the figures themselves, old and new: they live in rows of their own."""
    event = audit.record(actor=actor, action="create", row=version, before={}, now=now, reason=version.reason)
    if event is not None:
        event.before |= _figures(base)
        event.after |= _figures(version)
        event.save(update_fields=["before", "after"])


def _figures(version: PriceVersion | None) -> dict[str, Any]:
    """USD per million by meter, as text."""
    return {
        component.meter + (f">{component.above_tokens}" if component.above_tokens else ""): (
            f"{component.usd_per_1m.normalize():f}"
        )
        for component in ([] if version is None else components_of(version))
    }
