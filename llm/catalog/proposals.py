"""Proposed prices: entered, overtaken, approved or rejected. A second person decides; the proposer cannot.

One proposal of a model and source waits at a time: a newer one takes its place. What waits has no effect on anything.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from llm.catalog import own_proposals, price_book, recosting
from llm.catalog.components import MeterChange, changes, components_of, largest_percent, suspicious
from llm.catalog.price_book import Book, PriceChange
from llm.choices import PriceStatus, ProposalState
from llm.models import LLMModel, PricePolicy, PriceProposal, PriceVersion
from tenants import audit
from tenants.errors import Conflict, InvalidValue, PermissionDenied
from tenants.models import Tenant
from tenants.scoping import missing

BAND = audit.system("auto-approve band")
MANUAL = "staff"  # the source of a price that a person set
FEED = "feed"
_NEWER = "a newer proposal took its place"


@dataclass(frozen=True, kw_only=True)
class FeedWord:
    """What the feed is called, and the digest of what it says of one model."""

    version: str
    digest: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Approve or reject, and why. `person_id` is the user who decides. `effective_from` None: at the proposed moment,
    or now if that is past. `confirm`: an unusual change is meant."""

    reason: str
    person_id: int | None
    effective_from: datetime | None = None
    confirm: bool = False


def propose(
    book: Book, change: PriceChange, *, start: datetime, actor: audit.Actor, feed: FeedWord | None = None
) -> PriceProposal:
    """Enter a price as proposed, in the book's transaction. A proposal of the same source that waits is overtaken."""
    version = price_book.enter(book, change, start=start, status=PriceStatus.PROPOSED, actor=actor)
    return _open(book, version, change, actor=actor, feed=feed)


@dataclass(frozen=True, kw_only=True)
class OwnWish:
    """What is wanted of a tenant's own price (`own_proposals.to_set`, `to_end`), and the user who wants it."""

    tenant: Tenant
    model: LLMModel
    wanted: dict[str, Any]
    person_id: int | None


def propose_own(book: Book, wish: OwnWish, *, actor: audit.Actor) -> PriceProposal:
    """Enter a proposal about a tenant's own price, in the book's transaction. One of the same tenant that waits is
    overtaken. It is not re-costed."""
    _overtake(book, MANUAL, tenant=wish.tenant, actor=actor, reason=_NEWER)
    found = own_proposals.changed(tenant=wish.tenant, model=wish.model, wanted=wish.wanted, now=book.now)
    proposal = PriceProposal.objects.create(
        model=book.model,
        tenant=wish.tenant,
        wanted=wish.wanted,
        source=MANUAL,
        changes=[one.as_json() for one in found],
        largest_percent=largest_percent(found),
        proposed_by_id=wish.person_id,
        proposer=actor.label[:200],
        created_at=book.now,
    )
    audit.record(actor=actor, action="propose", row=proposal, before={}, now=book.now, reason=proposal.why)
    return proposal


def propose_draft(
    *,
    version_id: uuid.UUID,
    person_id: int | None,
    second_person: bool,
    confirm: bool = False,
    actor: audit.Actor,
    now: datetime,
) -> PriceVersion:
    """A draft is finished: it waits for a second person, or is decided at once where one is enough.

    Raises NotFound, Conflict (`price_is_no_draft`, and what `refuse_unconfirmed` says of one that is not to wait and
    not confirmed; of one that waits the approver is asked).
    """
    with transaction.atomic():
        model_id = PriceVersion.objects.filter(pk=version_id).values_list("model_id", flat=True).first()
        if model_id is None:
            raise missing(PriceVersion)
        book = price_book.locked(model_id, now)
        version = next(row for row in book.versions if row.pk == version_id)
        if version.status != PriceStatus.DRAFT:
            raise Conflict("Only a draft can be proposed.", code="price_is_no_draft")
        start = max(version.effective_from, now)
        change = PriceChange(components=components_of(version), source=version.source, person_id=person_id)
        if second_person:
            before = audit.state(version)
            version.status = PriceStatus.PROPOSED
            version.save(update_fields=["status"])
            audit.record(actor=actor, action="propose", row=version, before=before, now=now)
            _open(book, version, change, actor=actor, feed=None)
        else:
            if not confirm:
                price_book.refuse_unconfirmed(book, change.components, start)
            price_book.approve(book, version, start=start, actor=actor, reason=version.reason)
    return version


def _open(
    book: Book, version: PriceVersion, change: PriceChange, *, actor: audit.Actor, feed: FeedWord | None
) -> PriceProposal:
    base = book.last()
    _overtake(book, change.source, actor=actor, reason=_NEWER)
    found = changes([] if base is None else components_of(base), change.components)
    proposal = PriceProposal.objects.create(
        model=book.model,
        version=version,
        base=base,
        source=change.source,
        source_version="" if feed is None else feed.version,
        digest="" if feed is None else feed.digest,
        is_informational=feed is not None and base is not None and base.source == MANUAL,
        batch=change.batch,
        changes=[one.as_json() for one in found],
        largest_percent=largest_percent(found),
        note="" if feed is None else feed.note,
        proposed_by_id=change.person_id,
        proposer=actor.label[:200],
        created_at=book.now,
    )
    audit.record(actor=actor, action="propose", row=proposal, before={}, now=book.now, reason=change.reason)
    _recost(proposal, now=book.now, at_most=recosting.AT_ONCE)
    return proposal


def _overtake(book: Book, source: str, *, actor: audit.Actor, reason: str, tenant: Tenant | None = None) -> int:
    waiting = PriceProposal.objects.select_for_update(of=("self",)).select_related("version")
    rows = list(waiting.filter(model=book.model, source=source, tenant=tenant, state=ProposalState.PENDING))
    for row in rows:
        _decide(row, ProposalState.SUPERSEDED, Decision(reason=reason, person_id=None), actor, book.now)
        _drop(book, row, reason=reason, actor=actor)
    return len(rows)


def _drop(book: Book, row: PriceProposal, *, reason: str, actor: audit.Actor) -> None:
    """Of a list price the proposed version is cancelled; an own price leaves nothing behind."""
    if row.version is not None:
        price_book.drop(_own(book, row.version), reason=reason, actor=actor, now=book.now)


def overtake_feed(book: Book, *, actor: audit.Actor) -> int:
    """The feed agrees with the price book: what it proposed before is no longer wanted. How many were waiting."""
    return _overtake(book, FEED, actor=actor, reason="the feed agrees with the price now")


def approve(*, ids: Sequence[uuid.UUID], decision: Decision, actor: audit.Actor, now: datetime) -> list[PriceProposal]:
    """Approve these proposals, all or none: each price gets its place in the book, or is set or ended for its tenant.

    Raises InvalidValue (`effective_from` in the past, `reason` missing), NotFound, PermissionDenied
    (`second_person_required`) and Conflict: `price_proposal_decided`, `price_is_manual`, `price_base_changed`,
    `price_change_scheduled`, `price_change_unconfirmed`. The last three are let through with `confirm`.
    """
    _require_reason(decision)
    if decision.effective_from is not None:
        price_book.moment(decision.effective_from, now)
    with transaction.atomic():
        return [_approve(book, row, decision, actor) for book, row in _locked(ids, now)]


def reject(*, ids: Sequence[uuid.UUID], decision: Decision, actor: audit.Actor, now: datetime) -> list[PriceProposal]:
    """Reject these, all or none; information is dismissed this way too. What the feed proposed is not proposed again
    until it says something else. The proposer may not reject either: an own proposal is overtaken by a better one.

    Raises as `approve`.
    """
    _require_reason(decision)
    with transaction.atomic():
        rows = []
        for book, row in _locked(ids, now):
            _refuse_decided(row)
            _refuse_proposer(row, decision)
            _decide(row, ProposalState.REJECTED, decision, actor, now)
            _drop(book, row, reason=decision.reason, actor=actor)
            rows.append(row)
        return rows


def in_band(proposal: PriceProposal, policy: PricePolicy) -> bool:
    """Whether the band that staff set lets this proposal of the feed through without a person."""
    up, down = policy.auto_approve_up_percent, policy.auto_approve_down_percent
    if proposal.source != FEED or proposal.is_informational or proposal.base_id is None:
        return False
    return bool(proposal.changes) and all(_within(one, up, down) for one in proposal.changes)


def _within(change: dict[str, Any], up: Decimal | None, down: Decimal | None) -> bool:
    """Exact, on the prices and not on the percentage that is shown."""
    if change["old"] is None or change["new"] is None:
        return False
    old, new = Decimal(change["old"]), Decimal(change["new"])
    limit = up if new > old else down
    return limit is not None and not suspicious(old, new) and abs(new - old) * 100 <= limit * old


def approve_in_band(book: Book, proposal: PriceProposal) -> None:
    """Approve by the band, in the transaction that proposed it. A scheduled price is left to a person."""
    if not book.scheduled(book.now):
        decision = Decision(reason="within the band that staff set", person_id=None)
        _approve(book, proposal, decision, BAND)


def recost_waiting(*, now: datetime) -> int:
    """Price the last 30 days' traffic of each waiting proposal that could not be at once. How many."""
    waiting = PriceProposal.objects.filter(state=ProposalState.PENDING, impact__isnull=True, version__isnull=False)
    ids = list(waiting.order_by("pk").values_list("pk", flat=True))
    for pk in ids:
        _recost(PriceProposal.objects.select_related("model__provider", "version").get(pk=pk), now=now)
    return len(ids)


def _recost(row: PriceProposal, *, now: datetime, at_most: int | None = None) -> None:
    """Not audited: it says what was, by tenant, at length, and nobody decided anything."""
    assert row.version is not None
    found = recosting.impact(model=row.model, version=row.version, now=now, at_most=at_most)
    if found is not None:
        row.impact, row.impact_usd = found.as_json(), found.change
        row.save(update_fields=["impact", "impact_usd"])


def _locked(ids: Sequence[uuid.UUID], now: datetime) -> list[tuple[Book, PriceProposal]]:
    """The proposals with their models' books, locked in the order of the models. Raises NotFound."""
    wanted = set(ids)
    if not wanted:
        raise InvalidValue("Name at least one proposal.", param="ids")
    rows = PriceProposal.objects.filter(pk__in=wanted)
    pairs = sorted(rows.values_list("model_id", "pk"))
    if len(pairs) != len(wanted):
        raise missing(PriceProposal)
    found, books = [], {}
    for model_id, pk in pairs:
        if model_id not in books:
            books[model_id] = price_book.locked(model_id, now)
        lock = PriceProposal.objects.select_for_update(of=("self",))
        lock = lock.select_related("model__provider", "version", "tenant")
        found.append((books[model_id], lock.get(pk=pk)))
    return found


def _own(book: Book, version: PriceVersion) -> PriceVersion:
    """The proposed version as the book holds it: one object, so that the book sees what becomes of it."""
    return next((one for one in book.versions if one.pk == version.pk), version)


def _approve(book: Book, row: PriceProposal, decision: Decision, actor: audit.Actor) -> PriceProposal:
    _refuse_decided(row)
    if row.version is not None:
        return _approve_list(book, row, row.version, decision, actor)
    _refuse_proposer(row, decision)
    own_proposals.carry_out(
        row, effective_from=decision.effective_from, confirm=decision.confirm, actor=actor, now=book.now
    )
    _decide(row, ProposalState.APPROVED, decision, actor, book.now)
    return row


def _approve_list(
    book: Book, row: PriceProposal, proposed: PriceVersion, decision: Decision, actor: audit.Actor
) -> PriceProposal:
    if row.is_informational:
        raise Conflict(
            f"The price of {row.model} was set by staff, which the feed does not overwrite. "
            "Set the price by hand if the feed is right.",
            code="price_is_manual",
        )
    _refuse_proposer(row, decision)
    version = _own(book, proposed)
    start = max(version.effective_from, book.now) if decision.effective_from is None else decision.effective_from
    last = book.last()
    if row.source == FEED and last is not None and last.source == MANUAL:
        raise Conflict(
            f"The price of {row.model} was set by staff since, which the feed does not overwrite.",
            code="price_is_manual",
        )
    if not decision.confirm:
        if (None if last is None else last.pk) != row.base_id:
            raise Conflict(
                f"The price of {row.model} has changed since this was proposed: the percentages shown are of the one "
                "before it. Send `confirm: true` if it is meant all the same.",
                code="price_base_changed",
                param="confirm",
            )
        price_book.refuse_unconfirmed(book, components_of(version), start)
    price_book.approve(book, version, start=start, actor=actor, reason=decision.reason)
    _decide(row, ProposalState.APPROVED, decision, actor, book.now)
    row.version = version
    return row


def _refuse_decided(row: PriceProposal) -> None:
    if row.state != ProposalState.PENDING:
        by = f" by {row.decider}" if row.decider else ""
        raise Conflict(
            f"This proposal for {row.model} is {row.get_state_display().lower()} already{by}.",
            code="price_proposal_decided",
        )


def _refuse_proposer(row: PriceProposal, decision: Decision) -> None:
    if row.proposed_by_id is not None and row.proposed_by_id == decision.person_id:
        raise PermissionDenied("You proposed this price: a second person decides on it.", code="second_person_required")


def _require_reason(decision: Decision) -> None:
    if not decision.reason.strip():
        raise InvalidValue("Say why: it is kept with the decision.", param="reason")


def _decide(row: PriceProposal, state: ProposalState, decision: Decision, actor: audit.Actor, now: datetime) -> None:
    before = audit.state(row)
    row.decided_by_id = decision.person_id
    row.state, row.decided_at, row.decider, row.decision_reason = state, now, actor.label[:200], decision.reason
    row.save(update_fields=["state", "decided_by", "decided_at", "decider", "decision_reason"])
    action = {"approved": "approve", "rejected": "reject", "superseded": "supersede"}[state.value]
    audit.record(actor=actor, action=action, row=row, before=before, now=now, reason=decision.reason)


def in_words(found: Sequence[MeterChange]) -> str:
    """Such as `input 2.5 -> 3 (+20 %), output 10 -> 12 (+20 %)`."""
    return ", ".join(f"{one.name} {_usd(one.old)} -> {_usd(one.new)}{_percent(one.percent)}" for one in found)


def _percent(percent: Decimal | None) -> str:
    return "" if percent is None else f" ({percent.normalize():+f} %)"


def _usd(amount: Decimal | None) -> str:
    return "none" if amount is None else f"{amount.normalize():f}"
