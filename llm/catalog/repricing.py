"""Working out what a correction run would correct: each request priced again, rounded by itself as a bill is.

What it compares with is the request's own figures and every adjustment of it there is: what was set right already, by
hand or by another run, is not set right twice. It goes on page by page, each in one transaction with what it found.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Count, Q, QuerySet, Sum

from billing import money, pricing
from billing.models import Adjustment, DailyUsage, UsageRecord
from billing.money import plain
from llm.catalog import components
from llm.catalog.components import Component, from_json
from llm.catalog.recosting import counts_of, service_tier_of
from llm.choices import CorrectionState
from llm.models import CorrectionItem, CorrectionRun
from tenants.models import Tenant

PAGE = 1_000
# Why a request is left alone: the names of the run's counters.
NO_LINES, NO_METER, NO_TERMS = "no_lines", "no_meter", "no_terms"
_ZERO = Decimal(0)
_DAY = timedelta(days=1)
_COLUMNS = (
    *("id", "tenant_id", "created_at", "prompt_tokens", "price_lines", "terms", "used_byok"),
    *("cost_total_usd", "billed_usd", "budget_usd"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """USD: the provider's list price, what the tenant owes, what counts against budgets."""

    cost: Decimal = _ZERO
    billed: Decimal = _ZERO
    budget: Decimal = _ZERO

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(
            cost=self.cost + other.cost, billed=self.billed + other.billed, budget=self.budget + other.budget
        )

    def __sub__(self, other: "Figures") -> "Figures":
        return Figures(
            cost=self.cost - other.cost, billed=self.billed - other.billed, budget=self.budget - other.budget
        )


NOTHING = Figures()


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """A request as it was billed: its counts and terms as its row keeps them."""

    prompt_tokens: int
    lines: Any
    terms: Any
    byok: bool
    figures: Figures


def difference(card: pricing.PriceCard, request: Billed, adjusted: Figures) -> Figures | str:
    """What is to be added for the request to come to the price of `card`, with what it was `adjusted` by before.

    Markup and fee are those of its own terms. Where the tenant's own price decided what is billed, only the list price
    changes. A string says why it is left alone.
    """
    counts = counts_of(request.lines)
    if not counts:
        # What nobody produced cost nothing, and would have at any price.
        return NO_LINES if any((request.figures.cost, request.figures.billed, request.figures.budget)) else NOTHING
    try:
        tier = service_tier_of(request.lines)
        cost = pricing.price(card, counts, prompt_tokens=request.prompt_tokens, service_tier=tier).total
    except pricing.Unpriced:
        return NO_METER
    right = money.by_terms(cost, request.terms, byok=request.byok)
    if right is None:
        return Figures(cost=cost - request.figures.cost - adjusted.cost)
    was = money.by_terms(request.figures.cost, request.terms, byok=request.byok)
    if was is None or (was.billed, was.budget) != (request.figures.billed, request.figures.budget):
        return NO_TERMS
    return Figures(cost=right.cost, billed=right.billed, budget=right.budget) - request.figures - adjusted


def card_of(run: CorrectionRun) -> pricing.PriceCard:
    """The right price of a run, as bills are made from one."""
    card = components.card_of(components_of(run))
    return replace(card, version_id=run.pk, effective_from=run.since, effective_to=run.until)


def components_of(run: CorrectionRun) -> list[Component]:
    """The right price in the form a price is set in."""
    return from_json(run.components)


def go_on(run_id: uuid.UUID, *, at_most: int | None = None) -> bool:
    """Work out a run from where it stands, up to so many requests. True when there is nothing left to work out.

    Killed at any moment it goes on with the next page. One that is at work elsewhere is left to that.
    """
    names = None
    looked_at = 0
    while at_most is None or looked_at <= at_most:
        with transaction.atomic():
            waiting = CorrectionRun.objects.select_for_update(skip_locked=True)
            run = waiting.filter(pk=run_id, state=CorrectionState.WORKING).first()
            if run is None:
                return not CorrectionRun.objects.filter(pk=run_id, state=CorrectionState.WORKING).exists()
            names = _names(run) if names is None else names
            page = list(_after(run, names).values(*_COLUMNS)[:PAGE])
            if page:
                _work_out(run, page)
            if len(page) < PAGE:
                _finish(run)
            run.save()
        looked_at += len(page)
    return False


def forget(run: CorrectionRun) -> None:
    """To be worked out anew: nothing is known of it."""
    run.items.all().delete()
    run.reached_at = run.reached_id = None
    run.requests = run.affected = run.adjusted = run.no_lines = run.no_meter = run.no_terms = 0
    run.cost_usd = run.billed_usd = run.budget_usd = _ZERO
    run.tenants, run.state = [], CorrectionState.WORKING


def _names(run: CorrectionRun) -> Q:
    """What the model was called in its usage rows, which are indexed by name and day: renaming it changes none."""
    called = {(run.provider_slug, run.model_name)}
    days = DailyUsage.objects.filter(billing_day__gte=_first_day(run), billing_day__lte=(run.until + _DAY).date())
    called |= set(days.filter(model_id=run.model_id).values_list("provider_slug", "model_name").distinct())
    found = Q(pk__in=())
    for slug, name in sorted(called):
        found |= Q(provider_slug=slug, model_name=name)
    return found


def _first_day(run: CorrectionRun) -> Any:
    return (run.since - _DAY).date()  # a tenant's day may begin up to a day before UTC's


def _after(run: CorrectionRun, names: Q) -> QuerySet[UsageRecord]:
    """The run's requests from where it stands, in the order of their acceptance."""
    found = UsageRecord.objects.filter(
        names,
        model_id=run.model_id,
        billing_day__gte=_first_day(run),
        created_at__gte=run.reached_at or run.since,
        created_at__lt=run.until,
    )
    if run.reached_at is not None and run.reached_id is not None:
        found = found.exclude(created_at=run.reached_at, id__lte=run.reached_id)
    if run.price_version_id is not None:
        found = found.filter(price_version_id=run.price_version_id)
    return found.order_by("created_at", "id")


def _work_out(run: CorrectionRun, page: Sequence[dict[str, Any]]) -> None:
    adjusted = adjusted_by([row["id"] for row in page])
    card = card_of(run)
    items = []
    for row in page:
        number, before = adjusted.get(row["id"], (0, NOTHING))
        found = difference(card, _billed(row), before)
        if isinstance(found, str):
            setattr(run, found, getattr(run, found) + 1)
        elif found != NOTHING:
            money_of = {"cost_usd": found.cost, "billed_usd": found.billed, "budget_usd": found.budget}
            items.append(
                CorrectionItem(
                    run=run, request_id=row["id"], tenant_id=row["tenant_id"], adjustments=number, **money_of
                )
            )
    CorrectionItem.objects.bulk_create(items)
    run.requests += len(page)
    run.affected += len(items)
    run.adjusted += sum(bool(item.adjustments) for item in items)
    run.reached_at, run.reached_id = page[-1]["created_at"], page[-1]["id"]


def _billed(row: dict[str, Any]) -> Billed:
    return Billed(
        prompt_tokens=row["prompt_tokens"],
        lines=row["price_lines"],
        terms=row["terms"],
        byok=row["used_byok"],
        figures=Figures(cost=row["cost_total_usd"], billed=row["billed_usd"], budget=row["budget_usd"]),
    )


def adjusted_by(request_ids: Sequence[uuid.UUID]) -> dict[Any, tuple[int, Figures]]:
    """Of each request that has adjustments: how many, and what they come to."""
    rows = Adjustment.objects.filter(request_id__in=request_ids).order_by().values("request_id")
    sums = rows.annotate(Count("pk"), Sum("cost_total_usd"), Sum("billed_usd"), Sum("budget_usd"))
    return {
        request_id: (number, Figures(cost=cost, billed=billed, budget=budget))
        for request_id, number, cost, billed, budget in sums.values_list(
            "request_id", "pk__count", "cost_total_usd__sum", "billed_usd__sum", "budget_usd__sum"
        )
    }


def _finish(run: CorrectionRun) -> None:
    """Sum up what was found, by tenant: those that get most back first."""
    sums = {"cost": Sum("cost_usd"), "billed": Sum("billed_usd"), "budget": Sum("budget_usd")}
    touched = Count("pk", filter=Q(adjustments__gt=0))
    grouped = run.items.order_by().values("tenant_id").annotate(number=Count("pk"), touched=touched, **sums)
    found = grouped.values_list("tenant_id", "number", "touched", *sums)
    rows = sorted(found, key=lambda row: (row[4], row[3], str(row[0])))
    slugs = dict(Tenant.objects.filter(pk__in=[row[0] for row in rows]).values_list("pk", "slug"))
    run.tenants = [
        {
            "tenant": slugs.get(tenant_id, str(tenant_id)),
            "tenant_id": str(tenant_id),
            "requests": requests,
            "adjusted_requests": adjusted,
            "cost_usd": plain(cost),
            "billed_usd": plain(billed),
            "budget_usd": plain(budget),
        }
        for tenant_id, requests, adjusted, cost, billed, budget in rows
    ]
    run.cost_usd, run.billed_usd, run.budget_usd = (sum((row[at] for row in rows), _ZERO) for at in (3, 4, 5))
    run.state = CorrectionState.PENDING
