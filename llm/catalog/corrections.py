"""A wrong price found later: a run proposes what to correct, a second person decides, the ledger books it.

    working -> pending -> approved -> booked        working, pending -> cancelled        pending -> rejected

Nothing in the past is edited: usage rows, prices and finalised statements stay as they are, and each request that is
corrected gets one adjustment. Up to `recosting.AT_ONCE` requests are worked out, and booked, while somebody waits; more
are left to a worker, which is asked at once, and to the job, which goes on every minute where anything was left.
"""

import contextlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from celery import current_app
from django.db import IntegrityError, transaction
from django.db.models import Q, Sum
from kombu.exceptions import ChannelError, OperationalError

from billing import adjustments
from billing.errors import BudgetExceeded
from billing.models import Adjustment
from llm.catalog import price_book, recosting, repricing
from llm.catalog.components import Component, as_json, check, components_of
from llm.choices import CorrectionState
from llm.models import CorrectionItem, CorrectionRun, LLMModel, PriceVersion, RouteRefusal
from llm.models.prices import IN_THE_BOOK
from tenants import audit
from tenants.errors import Conflict, InvalidValue, PermissionDenied
from tenants.ids import uuid7_of
from tenants.scoping import missing

# The windows of a batch are locked until its commit, which the requests of those tenants wait for.
BATCH = 200
JOB = audit.system("correction run")
UNDECIDED = (CorrectionState.WORKING, CorrectionState.PENDING)
UNFINISHED = (CorrectionState.WORKING, CorrectionState.APPROVED)
_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The right price, and which requests it is for: those accepted from `since` until `until` (None: now), all or
    those priced with one version, whose own span is then meant where none is given.

    `confirm`: more than five times up or down is meant. `person_id`: the user who wants it and may not approve it.
    """

    components: Sequence[Component]
    reason: str
    since: datetime | None = None
    until: datetime | None = None
    version_id: uuid.UUID | None = None
    confirm: bool = False
    person_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Why, and which user decides."""

    reason: str
    person_id: int | None


def propose(*, model: LLMModel, wish: Wish, actor: audit.Actor, now: datetime) -> CorrectionRun:
    """Enter a run and work it out, or leave what is long to the job (its state is then `working`).

    Raises InvalidValue (`components` as the price book does, `from`, `to`, `reason`), NotFound (the version is none of
    the model's) and Conflict (`price_change_unconfirmed`).
    """
    _require_reason(wish.reason)
    components = check(wish.components, kind=model.kind)
    version = _version(model, wish)
    since, until = _span(wish, version, now)
    if not wish.confirm:
        for wrong in _in_force(model, since, until) if version is None else [version]:
            price_book.refuse_suspicious(components_of(wrong), components)
    with transaction.atomic():
        run = CorrectionRun.objects.create(
            model_id=model.pk,
            provider_slug=model.provider.slug,
            model_name=model.model_id,
            price_version_id=None if version is None else version.pk,
            price_version_number=None if version is None else version.number,
            components=as_json(components),
            since=since,
            until=until,
            reason=wish.reason,
            proposed_by_id=wish.person_id,
            proposer=actor.label[:200],
            created_at=now,
        )
        audit.record(actor=actor, action="propose", row=run, before={}, now=now, reason=wish.reason)
    repricing.go_on(run.pk, at_most=recosting.AT_ONCE)
    return _seen_to(run)


def _seen_to(run: CorrectionRun) -> CorrectionRun:
    """The run as it is now; a worker is asked to go on with what is left of it. A queue that cannot be reached is no
    matter: the job of every minute finds it."""
    run.refresh_from_db()
    if run.state in UNFINISHED:

        def ask() -> None:
            # By its name: tasks import this module.
            task = current_app.signature("llm.tasks.go_on_with_correction", kwargs={"run_id": str(run.pk)})
            with contextlib.suppress(OperationalError, ChannelError, OSError):
                task.delay()

        transaction.on_commit(ask)
    return run


def _version(model: LLMModel, wish: Wish) -> PriceVersion | None:
    if wish.version_id is None:
        return None
    found = PriceVersion.objects.filter(pk=wish.version_id, model=model, status__in=IN_THE_BOOK).first()
    if found is None:
        raise missing(PriceVersion)
    return found


def _span(wish: Wish, version: PriceVersion | None, now: datetime) -> tuple[datetime, datetime]:
    since, until = wish.since, wish.until
    if version is not None:
        since = since or version.effective_from
        until = until or min(version.effective_to or now, now)
    until = until or now
    if since is None:
        raise InvalidValue("Say from when on requests were priced wrong, or with which price version.", param="from")
    if until > now:
        raise InvalidValue("What has not been billed yet needs no correction: set a new price.", param="to")
    if since >= until:
        raise InvalidValue("It must end after it begins, and begin in the past.", param="from")
    return since, until


def _in_force(model: LLMModel, since: datetime, until: datetime) -> list[PriceVersion]:
    """The prices that requests of that time were billed with."""
    not_over = Q(effective_to__isnull=True) | Q(effective_to__gt=since)
    rows = PriceVersion.objects.filter(not_over, model=model, status__in=IN_THE_BOOK, effective_from__lt=until)
    return list(rows.prefetch_related("components"))


def approve(*, run_id: uuid.UUID, decision: Decision, actor: audit.Actor, now: datetime) -> CorrectionRun:
    """Approve a run and book it: budgets follow in the same commit as each adjustment.

    Raises InvalidValue (`reason`), NotFound, PermissionDenied (`second_person_required`) and Conflict:
    `correction_decided`, `correction_not_ready`, `correction_under_way` (another of the model is being booked),
    `correction_base_changed` (requests were adjusted since it was worked out).
    """
    _require_reason(decision.reason)
    with transaction.atomic():
        run = _locked(run_id)
        _refuse_decided(run)
        if run.state == CorrectionState.WORKING:
            raise Conflict("This run is still being worked out.", code="correction_not_ready")
        _refuse_proposer(run, decision)
        if CorrectionRun.objects.filter(model_id=run.model_id, state=CorrectionState.APPROVED).exists():
            raise _under_way(run)
        _refuse_changed(run)
        try:
            with transaction.atomic():
                _decide(run, CorrectionState.APPROVED, decision, actor, now)
        except IntegrityError as error:  # somebody approved another one in this very moment
            raise _under_way(run) from error
    book(run_id, at_most=recosting.AT_ONCE, now=now)
    return _seen_to(run)


def reject(*, run_id: uuid.UUID, decision: Decision, actor: audit.Actor, now: datetime) -> CorrectionRun:
    """Reject a run: nothing is booked. The proposer may not: who does not want it any more cancels it.

    Raises as `approve`.
    """
    _require_reason(decision.reason)
    with transaction.atomic():
        run = _locked(run_id)
        _refuse_decided(run)
        _refuse_proposer(run, decision)
        _decide(run, CorrectionState.REJECTED, decision, actor, now)
    return run


def cancel(*, run_id: uuid.UUID, reason: str, actor: audit.Actor, now: datetime) -> CorrectionRun:
    """Take back a run that nobody decided on. Raises NotFound, Conflict (`correction_decided`)."""
    with transaction.atomic():
        run = _locked(run_id)
        _refuse_decided(run)
        _decide(run, CorrectionState.CANCELLED, Decision(reason=reason, person_id=None), actor, now)
    return run


def work_out_again(*, run_id: uuid.UUID, actor: audit.Actor, now: datetime) -> CorrectionRun:
    """Work out a run anew, from the ledger as it is now. Raises NotFound, Conflict (`correction_decided`)."""
    with transaction.atomic():
        run = _locked(run_id)
        _refuse_decided(run)
        before = audit.state(run)
        repricing.forget(run)
        run.save()
        audit.record(actor=actor, action="work out again", row=run, before=before, now=now)
    repricing.go_on(run_id, at_most=recosting.AT_ONCE)
    return _seen_to(run)


def unfinished() -> list[uuid.UUID]:
    """The runs that are to be worked out or booked, the oldest first."""
    rows = CorrectionRun.objects.filter(state__in=UNFINISHED)
    return list(rows.order_by("pk").values_list("pk", flat=True))


def go_on(run_id: uuid.UUID, *, now: datetime) -> None:
    """Do what is left of a run. Safe when killed, run twice, or at once with another."""
    repricing.go_on(run_id)
    book(run_id, now=now)


@dataclass(slots=True)
class _Part:
    """Some of a run's requests, booked ahead of the others, the newest first: down to `before`, which is done."""

    which: Q
    before: uuid.UUID | None = None


def book(run_id: uuid.UUID, *, now: datetime, at_most: int | None = None) -> None:
    """Book what is left of an approved run, up to so many requests, batch by batch. One that is being booked elsewhere
    is left to that.

    What frees somebody comes first (`_ahead`). Then all of it is gone through in order, which is noted in the run:
    what is booked already is left out there, and what somebody else corrected since is counted.
    """
    done = 0
    for part in (*_ahead(now), None):
        more = True
        while more:
            if at_most is not None and done > at_most:
                return
            try:
                with transaction.atomic():
                    waiting = CorrectionRun.objects.select_for_update(skip_locked=True)
                    run = waiting.filter(pk=run_id, state=CorrectionState.APPROVED).first()
                    if run is None:
                        return
                    booked, items = run.booked, _book_batch(run, part, now)
            except Conflict:  # a month was finalised in this very moment: its adjustments go to the next one now
                continue
            done += run.booked - booked
            more = len(items) == BATCH
            if part is not None and items:
                part.before = items[-1].request_id


def _ahead(now: datetime) -> list[_Part]:
    """Those of tenants that were refused for money in the last day; then those whose budgets may still be open: this
    month's, in any time zone."""
    refused = RouteRefusal.objects.filter(code=BudgetExceeded.code, created_at__gte=now - _DAY)
    blocked = list(refused.order_by().values_list("tenant_id", flat=True).distinct())
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0) - _DAY
    first = uuid7_of(int(month.timestamp()) * 1000, 0)  # request ids are in the order of time
    return [_Part(Q(tenant_id__in=blocked))] * bool(blocked) + [_Part(Q(request_id__gte=first))]


def _book_batch(run: CorrectionRun, part: _Part | None, now: datetime) -> Sequence[CorrectionItem]:
    """Book the next batch of this part, or (None) of all: in the transaction that notes how far the run is. What was
    looked at; a batch of all that is not full was the last one."""
    if part is not None:
        which = part.which if part.before is None else part.which & Q(request_id__lt=part.before)
    else:
        which = Q() if run.booked_to is None else Q(request_id__gt=run.booked_to)
    items = list(run.items.filter(which).order_by("request_id" if part is None else "-request_id")[:BATCH])
    ids = [item.request_id for item in items]
    mine = Adjustment.objects.filter(correction_id=run.pk, request_id__in=ids).order_by()
    booked_already = set(mine.values_list("request_id", flat=True))
    left = [item for item in items if item.request_id not in booked_already]
    if left:
        booked_run = adjustments.Run(id=run.pk, reason=run.reason, author=f"{run.proposer}, {run.decider}"[:200])
        booked = adjustments.book(run=booked_run, shares=[_share(item) for item in left], now=now)
        run.booked += booked
        if part is None:
            run.passed_over += len(left) - booked
    if part is None and items:
        run.booked_to = ids[-1]
    if part is not None or len(items) == BATCH:
        run.save(update_fields=["booked", "passed_over", "booked_to"])
        return items
    # Batches are not audited one by one: what all of them did.
    before = audit.state(CorrectionRun.objects.get(pk=run.pk)) | {"booked": 0, "passed_over": 0}
    run.state, run.booked_at = CorrectionState.BOOKED, now
    run.save(update_fields=["booked", "passed_over", "booked_to", "state", "booked_at"])
    audit.record(actor=JOB, action="book", row=run, before=before, now=now, reason=run.decision_reason)
    return items


def _share(item: CorrectionItem) -> adjustments.Share:
    return adjustments.Share(
        request_id=item.request_id,
        cost=item.cost_usd,
        billed=item.billed_usd,
        budget=item.budget_usd,
        seen=item.adjustments,
    )


def _locked(run_id: uuid.UUID) -> CorrectionRun:
    run = CorrectionRun.objects.select_for_update(of=("self",)).filter(pk=run_id).first()
    if run is None:
        raise missing(CorrectionRun)
    return run


def _refuse_decided(run: CorrectionRun) -> None:
    if run.state not in UNDECIDED:
        by = f" by {run.decider}" if run.decider else ""
        raise Conflict(f"This run is {run.get_state_display().lower()} already{by}.", code="correction_decided")


def _refuse_proposer(run: CorrectionRun, decision: Decision) -> None:
    if run.proposed_by_id is not None and run.proposed_by_id == decision.person_id:
        raise PermissionDenied(
            "You proposed this correction: a second person decides on it.", code="second_person_required"
        )


def _refuse_changed(run: CorrectionRun) -> None:
    """Adjustments are only added, so as many of these requests as there were are the same ones."""
    seen = run.items.aggregate(all=Sum("adjustments"))["all"] or 0
    if Adjustment.objects.filter(request_id__in=run.items.values("request_id")).count() != seen:
        raise Conflict(
            "Some of these requests were adjusted since this was worked out. Work it out again, and look at it again.",
            code="correction_base_changed",
        )


def _under_way(run: CorrectionRun) -> Conflict:
    return Conflict(
        f"Another correction of {run.reference} is being booked. Work this one out again when it is done.",
        code="correction_under_way",
    )


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise InvalidValue("Say why: it is kept.", param="reason")


def _decide(run: CorrectionRun, state: CorrectionState, decision: Decision, actor: audit.Actor, now: datetime) -> None:
    before = audit.state(run)
    run.decided_by_id = decision.person_id
    run.state, run.decided_at, run.decider, run.decision_reason = state, now, actor.label[:200], decision.reason
    run.save(update_fields=["state", "decided_by", "decided_at", "decider", "decision_reason"])
    action = {"approved": "approve", "rejected": "reject", "cancelled": "cancel"}[state.value]
    audit.record(actor=actor, action=action, row=run, before=before, now=now, reason=decision.reason)
