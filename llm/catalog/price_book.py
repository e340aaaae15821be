"""The price book: a model's decided prices, one after another without overlap, and how a price gets its place in it.

    draft -> proposed -> approved (waits for its date) -> active -> superseded
    draft, proposed, approved -> cancelled

Which price is in force is decided by the intervals alone, so nothing has to run at the moment one begins; `advance`
brings the stored status up to date, some minutes later. Every change here happens under a lock on the model's row.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from llm.catalog.components import SUSPICIOUS_FACTOR, Component, components_of, figures, first_jump, rows_of
from llm.choices import PriceStatus
from llm.models import LLMModel, PriceComponent, PriceVersion
from llm.models.prices import IN_THE_BOOK
from tenants import audit
from tenants.errors import Conflict, InvalidValue, PermissionDenied
from tenants.scoping import missing

BY_TIME = audit.system("price book")


@dataclass(frozen=True, kw_only=True)
class PriceChange:
    """A new price. `effective_from` None is now; `confirm` says that an unusual change is meant.

    `second_person`: it only waits for somebody else's approval. `person_id`: the user who wants it, who may then not
    approve it. `batch`: the same for all that are wanted together.
    """

    components: Sequence[Component]
    effective_from: datetime | None = None
    reason: str = ""
    confirm: bool = False
    source: str = "staff"
    draft: bool = False
    second_person: bool = False
    person_id: int | None = None
    batch: uuid.UUID | None = None


@dataclass(frozen=True)
class Book:
    """The prices of one model, whose row is locked."""

    model: LLMModel
    versions: list[PriceVersion]
    now: datetime

    def scheduled(self, start: datetime) -> list[PriceVersion]:
        """Decided prices that have not begun and would begin at `start` or later."""
        return [row for row in self.versions if row.status in IN_THE_BOOK and row.effective_from > self.now
                and row.effective_from >= start]  # fmt: skip

    def base(self, start: datetime) -> PriceVersion | None:
        """The price in force at `start` once those scheduled from then on are gone: the last that begins by then."""
        gone = self.scheduled(start)
        left = [row for row in self.versions if row.status in IN_THE_BOOK and row not in gone
                and row.effective_from <= start]  # fmt: skip
        return max(left, key=lambda row: (row.effective_from, row.number), default=None)

    def last(self) -> PriceVersion | None:
        """The decided price that begins last: what goes on for ever if nothing more is decided."""
        left = [row for row in self.versions if row.status in IN_THE_BOOK]
        return max(left, key=lambda row: (row.effective_from, row.number), default=None)

    @property
    def next_number(self) -> int:
        return max((row.number for row in self.versions), default=0) + 1


def locked(model_id: uuid.UUID, now: datetime) -> Book:
    """The model's book, within a transaction: one price change of a model at a time. Raises NotFound."""
    model = LLMModel.objects.select_for_update(of=("self",)).select_related("provider").filter(pk=model_id).first()
    if model is None:
        raise missing(LLMModel)
    versions = list(PriceVersion.objects.filter(model_id=model_id).prefetch_related("components"))
    return Book(model, versions, now)


def moment(wanted: datetime | None, now: datetime) -> datetime:
    """When a price is to begin. Raises InvalidValue for a moment that is past."""
    start = now if wanted is None else wanted
    if start < now:
        raise InvalidValue(
            "A price cannot begin in the past: what was billed stays billed. Leave it out to begin now.",
            param="effective_from",
        )
    return start


def refuse_unconfirmed(book: Book, components: Sequence[Component], start: datetime) -> None:
    """Raises Conflict: `price_change_scheduled` where a scheduled price would be cancelled, `price_change_unconfirmed`
    for more than five times up or down."""
    scheduled = book.scheduled(start)
    if scheduled:
        dates = ", ".join(f"{row.effective_from:%Y-%m-%dT%H:%M:%SZ}" for row in scheduled)
        raise Conflict(
            f"A price is scheduled already for {dates}. Send `confirm: true` to cancel it, or begin after it.",
            code="price_change_scheduled",
            param="confirm",
        )
    base = book.base(start)
    refuse_suspicious([] if base is None else components_of(base), components)


def refuse_suspicious(old: Sequence[Component], new: Sequence[Component]) -> None:
    """Raises Conflict (`price_change_unconfirmed`) if a meter would cost more than five times as much, or less than a
    fifth, with what stands in for one that is not named (`first_jump`)."""
    jump = first_jump(old, new)
    if jump is not None:
        meter, was, becomes = jump
        raise Conflict(
            f"The price of {meter} would go from ${was.normalize():f} to ${becomes.normalize():f} per million, "
            f"more than {SUSPICIOUS_FACTOR}x. Send `confirm: true` if it is meant.",
            code="price_change_unconfirmed",
            param="confirm",
        )


def enter(book: Book, change: PriceChange, *, start: datetime, status: PriceStatus, actor: audit.Actor) -> PriceVersion:
    """Write a version with its components. One that is decided needs its place made first (`make_room`)."""
    version = PriceVersion.objects.create(
        model=book.model,
        number=book.next_number,
        status=status,
        effective_from=start,
        recorded_at=book.now,
        source=change.source,
        reason=change.reason,
        author=actor.label[:200],
    )
    PriceComponent.objects.bulk_create(rows_of(version, change.components))
    event = audit.record(actor=actor, action="create", row=version, before={}, now=book.now, reason=change.reason)
    if event is not None:
        # The figures themselves, old and new: they live in rows of their own.
        event.before |= figures(book.base(start))
        event.after |= figures(version)
        event.save(update_fields=["before", "after"])
    book.versions.append(version)
    return version


def decided(start: datetime, now: datetime) -> PriceStatus:
    """The status of a price that is decided on."""
    return PriceStatus.APPROVED if start > now else PriceStatus.ACTIVE


def make_room(book: Book, start: datetime, *, actor: audit.Actor) -> None:
    """End the price before `start`, and cancel those after it."""
    base = book.base(start)
    for row in book.scheduled(start):
        _move(row, actor, book.now, "cancel", "replaced before it began", status=PriceStatus.CANCELLED)
    if base is not None:
        ended = PriceStatus.SUPERSEDED if start <= book.now else base.status_at(book.now)
        _move(base, actor, book.now, "supersede", "", status=ended, effective_to=start)


def approve(book: Book, version: PriceVersion, *, start: datetime, actor: audit.Actor, reason: str) -> None:
    """Give a draft or a proposed price its place in the book."""
    make_room(book, start, actor=actor)
    status = decided(start, book.now)
    _move(version, actor, book.now, "approve", reason, status=status, effective_from=start)


def cancel(*, version_id: uuid.UUID, may_approve: bool, reason: str, actor: audit.Actor, now: datetime) -> PriceVersion:
    """Take back a price that has not begun: the one before it goes on. A draft is thrown away.

    `may_approve`: the person has the right to approve prices, without which only drafts are theirs. It takes no second
    one, whatever PRICE_FOUR_EYES says: what is in force stays in force.

    Raises NotFound, PermissionDenied (`price_is_decided`: scheduled, for one who may not approve), and Conflict
    (`price_has_begun`, `price_is_proposed`, `price_is_cancelled`).
    """
    with transaction.atomic():
        model_id = PriceVersion.objects.filter(pk=version_id).values_list("model_id", flat=True).first()
        if model_id is None:
            raise missing(PriceVersion)
        book = locked(model_id, now)
        version = next(row for row in book.versions if row.pk == version_id)
        status = version.status_at(now)
        if status in {PriceStatus.ACTIVE, PriceStatus.SUPERSEDED}:
            raise Conflict("This price has begun. Set a new one to end it.", code="price_has_begun")
        if status == PriceStatus.PROPOSED:
            raise Conflict("This price is proposed: reject the proposal instead.", code="price_is_proposed")
        if status == PriceStatus.CANCELLED:
            raise Conflict("This price is cancelled already.", code="price_is_cancelled")
        if status == PriceStatus.APPROVED and not may_approve:
            raise PermissionDenied(
                "This price is decided: only who may approve prices cancels it. Ask one of them.",
                code="price_is_decided",
            )
        _cancel(book, version, reason=reason, actor=actor)
    return version


def _cancel(book: Book, version: PriceVersion, *, reason: str, actor: audit.Actor) -> None:
    was_decided, until = version.status in IN_THE_BOOK, version.effective_to
    _move(version, actor, book.now, "cancel", reason, status=PriceStatus.CANCELLED)
    if not was_decided:
        return
    before = [row for row in book.versions if row.status in IN_THE_BOOK and row.effective_to == version.effective_from]
    for row in before:
        if row.effective_from < version.effective_from:  # not one that never was in force
            row.effective_to = until
            going_on = row.status_at(book.now)
            row.effective_to = version.effective_from
            _move(row, actor, book.now, "go on", reason, status=going_on, effective_to=until)


def drop(version: PriceVersion, *, reason: str, actor: audit.Actor, now: datetime) -> None:
    """Cancel a proposed price whose proposal is decided otherwise."""
    _move(version, actor, now, "cancel", reason, status=PriceStatus.CANCELLED)


def advance(*, now: datetime, actor: audit.Actor = BY_TIME) -> int:
    """Bring stored statuses up to date with the clock: how many changed. Prices do not depend on it."""
    late = PriceVersion.objects.filter(status=PriceStatus.APPROVED, effective_from__lte=now)
    over = PriceVersion.objects.filter(status__in=(PriceStatus.APPROVED, PriceStatus.ACTIVE), effective_to__lte=now)
    model_ids = sorted({*late.values_list("model_id", flat=True), *over.values_list("model_id", flat=True)})
    changed = 0
    for model_id in model_ids:
        with transaction.atomic():
            for row in locked(model_id, now).versions:
                if row.status in IN_THE_BOOK and (status := row.status_at(now)) != row.status:
                    _move(row, actor, now, "begin" if status == PriceStatus.ACTIVE else "supersede", "", status=status)
                    changed += 1
    return changed


def confirm(versions: Iterable[PriceVersion], *, now: datetime) -> int:
    """Note that these prices were found right again. How many."""
    ids = [row.pk for row in versions]
    return PriceVersion.objects.filter(pk__in=ids).update(confirmed_at=now)


def _move(row: PriceVersion, actor: audit.Actor, now: datetime, action: str, reason: str, **values: object) -> None:
    before = audit.state(row)
    for name, value in values.items():
        setattr(row, name, value)
    row.save(update_fields=list(values))
    if audit.state(row) != before:
        audit.record(actor=actor, action=action, row=row, before=before, now=now, reason=reason)
