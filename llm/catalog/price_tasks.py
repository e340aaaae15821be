"""The price queue: models used but unpriced, and prices nobody confirmed for long. Each is a row with an owner."""

import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from billing import alerts
from billing.alert_models import Event
from billing.models import DailyUsage, UsageRecord
from llm.catalog import price_book, price_sync
from llm.choices import PriceTaskKind, PriceTaskState
from llm.models import LLMModel, PricePolicy, PriceTask, PriceVersion, RouteRefusal
from llm.models.prices import IN_THE_BOOK
from tenants import audit
from tenants.errors import Conflict, NotFound

_Row = TypeVar("_Row", PriceTask, PricePolicy)
ACTOR = audit.system("price queue")
DAYS = 30
NEWEST = 2_000  # requests looked through for models that were passed over: some ten milliseconds
REFUSED = "model_unpriced"
MOST_TOLD = 20
_REJECTED = "unpriced"


def refresh(*, now: datetime) -> int:
    """Bring the queue up to date: new rows for what came up, `done` for what is over. The number left to do.

    A model without a price joins when somebody asks for it and leaves when it has one, or is no longer offered: what it
    was asked in may be forgotten by then.
    """
    unpriced = _unpriced(now)
    _keep(PriceTaskKind.UNPRICED, found=_asked_for(unpriced, now) if unpriced else {}, still=unpriced.keys(), now=now)
    stale = _stale(now)
    _keep(PriceTaskKind.STALE, found=stale, still=stale.keys(), now=now)
    return PriceTask.objects.filter(state__in=(PriceTaskState.OPEN, PriceTaskState.IN_PROGRESS)).count()


def confirm(*, task: PriceTask, person: str, actor: audit.Actor, now: datetime) -> None:
    """A person looked: the price is still right. Raises NotFound for a model that has none."""
    with transaction.atomic():
        row = PriceTask.objects.select_for_update(of=("self",)).select_related("model__provider").get(pk=task.pk)
        version = in_force(now).filter(model_id=row.model_id).first()
        if version is None:
            raise NotFound(f"{row.model} has no price that could be right. Set one.")
        before = audit.state(version)
        price_book.confirm([version], now=now)
        version.refresh_from_db()
        audit.record(actor=actor, action="confirm", row=version, before=before, now=now, reason=f"{person} looked")
        _move(row, PriceTaskState.DONE, actor=actor, now=now, reason="the price is still right")


def change(*, task: PriceTask, values: Mapping[str, Any], actor: audit.Actor, now: datetime) -> PriceTask:
    """Write its owner (`assignee`), `state` or `note`. Raises Conflict for one to be opened again beside another."""
    try:
        return _written(PriceTask.objects.select_related("model__provider"), task.pk, values, actor=actor, now=now)
    except IntegrityError as error:
        raise Conflict("There is a newer task for this model. Take that one.", code="price_task_superseded") from error


def change_policy(*, values: Mapping[str, Any], actor: audit.Actor, now: datetime) -> PricePolicy:
    """Write some columns of the one row."""
    PricePolicy.objects.get_or_create(pk=1)
    return _written(PricePolicy.objects.all(), 1, values, actor=actor, now=now)


def _written(rows: QuerySet[_Row], pk: Any, values: Mapping[str, Any], *, actor: audit.Actor, now: datetime) -> _Row:
    with transaction.atomic():
        row = rows.select_for_update(of=("self",)).get(pk=pk)
        before = audit.state(row)
        for name, value in values.items():
            setattr(row, name, value)
        row.save(update_fields=[*values, "updated_at"])
        audit.record(actor=actor, action="update", row=row, before=before, now=now)
    return row


def in_force(now: datetime) -> QuerySet[PriceVersion]:
    """The prices in force at a moment, of all models."""
    open_end = Q(effective_to__isnull=True) | Q(effective_to__gt=now)
    return PriceVersion.objects.filter(open_end, status__in=IN_THE_BOOK, effective_from__lte=now)


def _unpriced(now: datetime) -> Mapping[uuid.UUID, str]:
    """The models that are offered without a price, by id: their references."""
    offered = LLMModel.objects.filter(is_active=True, provider__is_active=True).select_related("provider")
    return {model.pk: model.reference for model in offered.exclude(pk__in=in_force(now).values("model_id"))}


def _asked_for(models: Mapping[uuid.UUID, str], now: datetime) -> Mapping[uuid.UUID, int]:
    """How often each of these was passed over for want of a price: in the requests of 30 days that were refused for it,
    as far as they are kept, and in the newest of those that another model answered."""
    since = now - timedelta(days=DAYS)
    refused = RouteRefusal.objects.filter(code=REFUSED, created_at__gte=since).values_list("decision", flat=True)
    answered = UsageRecord.objects.order_by("-id").values_list("created_at", "decision")[:NEWEST]
    counts: Counter[str] = Counter()
    for decision in refused.iterator():
        counts.update(set(_passed_over(decision)))
    for accepted_at, decision in answered.iterator():
        if accepted_at >= since:
            counts.update(set(_passed_over(decision)))
    return {pk: counts[reference] for pk, reference in models.items() if counts[reference]}


def _passed_over(decision: Any) -> Iterator[str]:
    rejections = decision.get("rejections") if isinstance(decision, dict) else None
    for one in rejections if isinstance(rejections, list) else ():
        if isinstance(one, dict) and one.get("code") == _REJECTED and isinstance(one.get("model"), str):
            yield one["model"]


def _stale(now: datetime) -> Mapping[uuid.UUID, int]:
    """Active models whose price nobody confirmed for longer than staff allow, with their requests of 30 days."""
    before = now - timedelta(days=price_sync.policy().stale_after_days)
    rows = in_force(now).annotate(seen=Coalesce(F("confirmed_at"), F("recorded_at"))).filter(
        seen__lt=before, model__is_active=True, model__provider__is_active=True
    )  # fmt: skip
    ids = list(rows.values_list("model_id", flat=True))
    used = DailyUsage.objects.filter(billing_day__gte=(now - timedelta(days=DAYS)).date(), model_id__isnull=False)
    counts = dict(used.order_by().values("model_id").annotate(n=Sum("requests")).values_list("model_id", "n"))
    return {pk: counts.get(pk, 0) for pk in ids}


def _keep(kind: PriceTaskKind, *, found: Mapping[uuid.UUID, int], still: Collection[uuid.UUID], now: datetime) -> None:
    """Open a task for each model that was found, with its number of requests, and end those of models that are not
    `still` so; all in one transaction, with the alert that tells of the new ones."""
    with transaction.atomic():
        rows = PriceTask.objects.select_for_update(of=("self",)).select_related("model__provider").order_by("pk")
        known = {row.model_id: row for row in rows.filter(kind=kind).exclude(state=PriceTaskState.DONE)}
        for pk, row in known.items():
            if pk not in still:
                _move(row, PriceTaskState.DONE, actor=ACTOR, now=now, reason="it is over")
            else:
                PriceTask.objects.filter(pk=row.pk).update(seen_at=now, requests=found.get(pk, row.requests))
        fresh = LLMModel.objects.filter(pk__in=found.keys() - known.keys()).select_related("provider")
        _open(kind, {model: found[model.pk] for model in fresh}, now)


def _open(kind: PriceTaskKind, found: Mapping[LLMModel, int], now: datetime) -> None:
    owner = price_sync.policy().task_owner
    if owner is not None and not (owner.is_staff and owner.is_active):
        owner = None
    tasks = []
    for model, requests in found.items():
        task = PriceTask(kind=kind, model=model, requests=requests, assignee=owner, opened_at=now, seen_at=now)
        task.save(force_insert=True)
        audit.record(actor=ACTOR, action="create", row=task, before={}, now=now)
        tasks.append(task)
    if tasks:
        alerts.raise_all(notices=[_notice(kind, tasks)], now=now)


def _notice(kind: PriceTaskKind, tasks: Sequence[PriceTask]) -> alerts.Notice:
    """One for all that came up together: when the feed stands still, whole vendors grow stale at once."""
    number, owner = len(tasks), tasks[0].assignee
    models = "1 model" if number == 1 else f"{number} models"
    return alerts.Notice(
        key=f"{Event.PRICE_TASK}:{tasks[0].pk}",
        event=Event.PRICE_TASK,
        title=f"{models} joined the price queue: {kind.label.lower()}",
        data={
            "kind": kind.value,
            "tasks": number,
            "models": [task.model.reference for task in tasks[:MOST_TOLD]],
            "owner": None if owner is None else owner.get_username(),
        },
    )


def _move(row: PriceTask, state: PriceTaskState, *, actor: audit.Actor, now: datetime, reason: str) -> None:
    before = audit.state(row)
    row.state = state
    row.save(update_fields=["state", "updated_at"])
    audit.record(actor=actor, action="update", row=row, before=before, now=now, reason=reason)
