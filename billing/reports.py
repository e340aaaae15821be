"""What was used and what it cost, for tenants and staff: summaries, top models, one user's figures, limits.

Whole months and closed days are read from their roll-ups, the rest from the usage rows themselves, so a request is in
every figure as soon as its answer has been read. All amounts are USD, exact Decimals; tokens and requests are counts;
latencies are whole milliseconds.
"""

import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.aggregates import Aggregate
from django.db.models.functions import TruncMonth

from billing import forecast, periods, windows
from billing.models import Adjustment, BudgetWindow, DailyUsage, RolledDay, UsageRecord
from billing.rollup import NOT_OF_ADJUSTMENTS
from billing.rollup_models import DailyUserUsage, MonthlyUsage, MonthlyUserUsage, RolledMonth
from tenants import scoping
from tenants.errors import InvalidValue
from tenants.fields import UNIT
from tenants.models import ApiKey

ZERO = Decimal(0)
_DAY = timedelta(days=1)
_SHORTEST_MONTH = timedelta(days=27)  # from its first day to its last

# What a summary can be grouped by, and the columns that decide it.
GROUPS: dict[str, tuple[str, ...]] = {
    "day": ("billing_day",),
    "month": ("month",),
    "model": ("provider_slug", "model_name"),
    "provider": ("provider_slug",),
    "key": ("key_id",),
    "config": ("config_id",),
    "user": ("user_id",),
    "power_level": ("power_level",),
    "task_type": ("task_type",),
    "byok": ("used_byok",),
    "credential": ("credential_id",),
}


@dataclass(slots=True)
class Totals:
    """Sums of one group of a report."""

    requests: int = 0
    errors: int = 0
    byok_requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost_total_usd: Decimal = ZERO
    billed_usd: Decimal = ZERO
    latency_ms_sum: int = 0

    def add(self, found: dict[str, Any]) -> None:
        """Add the sums of one query row, in columns named `of_<measure>`; missing ones and nulls are nothing."""
        for name in MEASURES:
            value = found.get(f"of_{name}") or 0
            # PostgreSQL's sum of a bigint is a numeric: counts are made whole again.
            setattr(self, name, getattr(self, name) + (value if name.endswith("_usd") else int(value)))

    def include(self, other: "Totals") -> None:
        """Add another group's sums."""
        for name in MEASURES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def row(self) -> dict[str, Any]:
        """The columns of a report row, averages included (0 where there was no request)."""
        return {
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "cost_usd": self.cost_total_usd,
            "billed_usd": self.billed_usd,
            "avg_cost_usd": average_usd(self.cost_total_usd, self.requests),
            "avg_latency_ms": average_ms(self.latency_ms_sum, self.requests),
            "byok_requests": self.byok_requests,
            "errors": self.errors,
        }


MEASURES = tuple(field.name for field in fields(Totals))


def average_usd(total: Decimal, number: int) -> Decimal:
    """USD, rounded half up to 1e-10; 0 of nothing."""
    return (total / number).quantize(UNIT, ROUND_HALF_UP) if number else ZERO


def average_ms(total: int, number: int) -> int:
    """Whole milliseconds, rounded half up; 0 of nothing."""
    return (2 * total + number) // (2 * number) if number else 0


def summary(*, tenant_id: uuid.UUID | None, start: date, end: date, group_by: str) -> list[dict[str, Any]]:
    """One row per group over the billing days `start` to `end`, both included; of all tenants if `tenant_id` is None.

    Each row has the group's own column, named by `group_by` (`day` a date, `month` as 2026-11, `model` as
    provider/model_id, `key`, `config` and `credential` ids or None, `byok` true or false), and: requests,
    prompt_tokens, completion_tokens, total_tokens, cost_usd, billed_usd, avg_cost_usd, avg_latency_ms, byok_requests,
    errors.
    Adjustments count in the money, not in the requests. Days and months come in order, all else dearest first.
    Raises InvalidValue for another `group_by`.
    """
    rows, _ = summary_and_total(tenant_id=tenant_id, start=start, end=end, group_by=group_by)
    return rows


def summary_and_total(
    *, tenant_id: uuid.UUID | None, start: date, end: date, group_by: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A `summary`, and one more row without a group: the sums and averages over all of it."""
    if group_by not in GROUPS:
        raise InvalidValue(f"group_by is one of: {', '.join(GROUPS)}.", param="group_by")
    groups: dict[Any, Totals] = {}
    whole = Totals()
    for found in sums(tenant_id=tenant_id, days=days_of(start, end), columns=GROUPS[group_by]):
        groups.setdefault(_group(group_by, found), Totals()).add(found)
        whole.add(found)
    rows = [{group_by: key, **totals.row()} for key, totals in groups.items()]
    if group_by in {"day", "month"}:
        rows.sort(key=lambda row: row[group_by])
    else:
        rows.sort(key=lambda row: (-row["cost_usd"], -row["requests"], str(row[group_by])))
    return (_with_key_names(rows) if group_by == "key" else rows), whole.row()


def top_models(*, start: date, end: date, limit: int, tenant_id: uuid.UUID | None = None) -> list[dict[str, Any]]:
    """The `limit` models that cost most, dearest first: rows as `summary` by model, with `provider` (its slug)."""
    rows = summary(tenant_id=tenant_id, start=start, end=end, group_by="model")
    named = [row for row in rows if row["model"]][:limit]  # an adjustment may be of no model
    return [{"model": row["model"], "provider": row["model"].partition("/")[0], **row} for row in named]


def of_credentials(ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Totals]:
    """What each of these provider keys has served since it was added. Adjustments belong to no provider key.

    Days without a roll-up are named one by one, so that the index on provider keys finds their requests.
    """
    totals = {pk: Totals() for pk in ids}
    marked = sorted(RolledDay.objects.values_list("billing_day", flat=True))
    live = Q()
    if marked:
        first, last = marked[0], marked[-1]
        between = {first + timedelta(days=n) for n in range((last - first).days)} - set(marked)
        live = Q(billing_day__lt=first) | Q(billing_day__gt=last) | Q(billing_day__in=between)
    rolled = rows_of(DailyUsage, None).filter(billing_day__in=marked, credential_id__in=ids)
    unrolled = rows_of(UsageRecord, None).filter(live, credential_id__in=ids)
    for rows, sums in ((rolled, _rolled_sums()), (unrolled, _live_sums())):
        for found in rows.values("credential_id").annotate(**sums):
            totals[found["credential_id"]].add(found)
    return totals


def user_stats(*, user_id: str, days: int, now: datetime, tenant_id: uuid.UUID | None = None) -> dict[str, Any]:
    """One user's last `days` times 24 hours: total_requests, total_tokens, total_cost_usd, avg_latency_ms,
    byok_requests, byok_share (0 to 1, a Decimal), errors, and `by_model` as rows of `summary`, dearest first.

    `user_id` may come from a request's own `user` field, so it is unique only within a tenant: give the tenant too
    where it is known. Adjustments belong to no user and are not in it.
    """
    rows = rows_of(UsageRecord, tenant_id).filter(user_id=user_id, created_at__gte=now - timedelta(days=days))
    whole, models = Totals(), []
    for found in rows.order_by().values(*GROUPS["model"]).annotate(**_live_sums()):
        one = Totals()
        one.add(found)
        whole.add(found)
        models.append({"model": _group("model", found), **one.row()})
    models.sort(key=lambda row: (-row["cost_usd"], row["model"]))
    share = Decimal(whole.byok_requests) / whole.requests if whole.requests else ZERO
    return {
        "user_id": user_id,
        "days": days,
        "total_requests": whole.requests,
        "total_tokens": whole.total_tokens,
        "total_cost_usd": whole.cost_total_usd,
        "avg_latency_ms": average_ms(whole.latency_ms_sum, whole.requests),
        "byok_requests": whole.byok_requests,
        "byok_share": share.quantize(Decimal("0.0001"), ROUND_HALF_UP),
        "errors": whole.errors,
        "by_model": models,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Limited:
    """A scope with its limits in USD: None is no limit, 0 is nothing at all."""

    kind: str
    id: uuid.UUID
    daily: Decimal | None
    monthly: Decimal | None


def limits_of(*, scopes: Sequence[Limited], timezone: str, now: datetime) -> list[dict[str, Any]]:
    """For each scope and period: scope, period, limit, spent, held, left (USD), resets_at; and what it will come to at
    this pace: expected (USD), runs_out_at (see billing.forecast).

    Without a limit, `limit` and `left` are None; what is spent and held is said all the same. `left` is never negative.
    """
    today = windows.billing_day(now, timezone)
    asked = [
        (scope, period, limit, windows.window_key(scope.kind, scope.id, period, starts_on))
        for scope in scopes
        for period, starts_on, limit in (
            ("day", today, scope.daily),
            ("month", today.replace(day=1), scope.monthly),
        )
    ]
    found = BudgetWindow.objects.in_bulk([key for *_, key in asked])
    rows = []
    for scope, period, limit, key in asked:
        window = found.get(key)
        spent, held = (ZERO, ZERO) if window is None else (window.spent, window.held)
        ahead = forecast.of(spent=spent, limit=limit, period=period, timezone=timezone, now=now)
        rows.append(
            {
                "scope": scope.kind,
                "period": period,
                "limit": limit,
                "spent": spent,
                "held": held,
                "left": None if limit is None else max(ZERO, limit - spent - held),
                "resets_at": windows.resets_at(period, today, timezone),
                "expected": ahead.expected,
                "runs_out_at": ahead.runs_out_at,
            }
        )
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which usage rows: each None asks nothing. Dates are billing days, datetimes moments of acceptance; both included.

    `model` is an id, `provider/model_id` or a bare model id; `provider` an id or a slug.
    """

    since: date | datetime | None = None
    until: date | datetime | None = None
    model: str | None = None
    provider: str | None = None
    status: str | None = None
    key_id: uuid.UUID | None = None
    config_id: uuid.UUID | None = None


def usage_rows(*, tenant_id: uuid.UUID | None, wanted: Wanted) -> QuerySet[UsageRecord]:
    """The usage rows of a tenant, or of all if None. Not sorted."""
    rows = rows_of(UsageRecord, tenant_id)
    for moment, operator in ((wanted.since, "gte"), (wanted.until, "lte")):
        if moment is not None:
            column = "created_at" if isinstance(moment, datetime) else "billing_day"
            rows = rows.filter(**{f"{column}__{operator}": moment})
    if wanted.provider is not None:
        rows = rows.filter(_named(wanted.provider, "provider_id", Q(provider_slug=wanted.provider)))
    if wanted.model is not None:
        slug, _, name = wanted.model.partition("/")
        named = Q(model_name=wanted.model) | (Q(provider_slug=slug, model_name=name) if name else Q())
        rows = rows.filter(_named(wanted.model, "model_id", named))
    exact = {"status": wanted.status, "key_id": wanted.key_id, "config_id": wanted.config_id}
    return rows.filter(**{name: value for name, value in exact.items() if value is not None})


def _named(text: str, id_column: str, named: Q) -> Q:
    try:
        return Q(**{id_column: uuid.UUID(text)})
    except ValueError:
        return named


def rows_of(model: type[Any], tenant_id: uuid.UUID | None) -> QuerySet[Any]:
    """A tenant's rows; for staff (None) everybody's."""
    rows = model._default_manager.all() if tenant_id is None else scoping.rows(model, tenant_id=tenant_id)
    return rows.order_by()  # the models' own order would become part of every GROUP BY


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """The billing days of a report: those of `rolled` are read from their roll-up, those of `live` from the rows.

    Of the rolled ones, whole months can be read from `months`; what is left of them then is `rest`.
    """

    rolled: Q
    live: Q
    months: Q
    rest: Q


def days_of(start: date, end: date) -> Days:
    """How the days from `start` to `end`, both included, are to be read now. Ask once a report: marks come and go."""
    span = Q(billing_day__gte=start, billing_day__lte=end)
    months = _whole_months(start, end)
    within = {day for month in months for day in periods.days_of(month)}  # those without a mark have no rows
    marked = sorted(within.union(RolledDay.objects.filter(span).values_list("billing_day", flat=True)))
    # The gaps between marked days, as ranges: those the index on the day finds, where "none of these" reads all rows.
    live = Q()
    for after, before in pairwise((None, *marked, None)):
        begins = Q(billing_day__gte=start) if after is None else Q(billing_day__gt=after)
        ends = Q(billing_day__lte=end) if before is None else Q(billing_day__lt=before)
        first, last = after or start, before or end
        if last - first > (_DAY if after and before else timedelta(0)) or (after is None and before is None):
            live |= begins & ends
    return Days(
        rolled=Q(billing_day__in=marked),
        live=live or Q(pk__in=()),
        months=Q(month__in=months),
        rest=Q(billing_day__in=[day for day in marked if day not in within]),
    )


def _whole_months(start: date, end: date) -> list[date]:
    """The rolled months that lie between the two days, both included."""
    if end - start < _SHORTEST_MONTH:
        return []
    begun = RolledMonth.objects.filter(month__gte=start, month__lte=end).values_list("month", flat=True)
    return [month for month in begun if periods.days_of(month)[-1] <= end]


def daily_of(columns: Collection[str]) -> type[DailyUsage] | type[DailyUserUsage]:
    """The roll-up of days that has these columns: users have their own."""
    return DailyUserUsage if "user_id" in columns else DailyUsage


def sums(*, tenant_id: uuid.UUID | None, days: Days, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Sums per combination of `columns`: marked months and days from their roll-ups, others from usage and adjustments.

    Besides those of `DailyUsage`, a column may be `month`, a day's first of the month, and `user_id` with no other but
    day, month and tenant.
    """
    daily, of_months = daily_of(columns), MonthlyUserUsage if "user_id" in columns else MonthlyUsage

    def grouped(rows: QuerySet[Any], names: Sequence[str] = columns) -> QuerySet[Any, dict[str, Any]]:
        return (rows.annotate(month=TruncMonth("billing_day")) if "month" in names else rows).values(*names)

    monthly = "billing_day" not in columns
    if monthly:
        yield from rows_of(of_months, tenant_id).filter(days.months).values(*columns).annotate(**_rolled_sums())
    rolled = rows_of(daily, tenant_id).filter(days.rest if monthly else days.rolled)
    yield from grouped(rolled).annotate(**_rolled_sums())
    yield from grouped(rows_of(UsageRecord, tenant_id).filter(days.live)).annotate(**_live_sums())
    unsaid = {name: NOT_OF_ADJUSTMENTS[name] for name in columns if name in NOT_OF_ADJUSTMENTS}
    said = [name for name in columns if name not in unsaid]
    adjustments = rows_of(Adjustment, tenant_id).filter(days.live)
    money = {f"of_{name}": Sum(name) for name in ("cost_total_usd", "billed_usd")}
    if said:
        adjusted: Iterable[dict[str, Any]] = grouped(adjustments, said).annotate(**money)
    else:
        adjusted = [adjustments.aggregate(**money, of_rows=Count("pk"))]
        adjusted = [row for row in adjusted if row["of_rows"]]
    for found in adjusted:
        yield {**unsaid, **found}


def _rolled_sums() -> dict[str, Aggregate]:
    return {f"of_{name}": Sum(name) for name in MEASURES}


def _live_sums() -> dict[str, Aggregate]:
    counts = {
        "requests": Count("pk"),
        "errors": Count("pk", filter=Q(status_code__gte=400)),
        "byok_requests": Count("pk", filter=Q(used_byok=True)),
        "latency_ms_sum": Sum("latency_ms"),
    }
    return {f"of_{name}": counts[name] if name in counts else Sum(name) for name in MEASURES}


def _group(group_by: str, found: dict[str, Any]) -> Any:
    """The value of the group's own column for one query row."""
    if group_by == "month":
        return f"{found['month']:%Y-%m}"
    if group_by == "model":
        return "/".join(part for part in (found["provider_slug"], found["model_name"]) if part)
    return found[GROUPS[group_by][0]]


def _with_key_names(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ids = [row["key"] for row in rows if row["key"] is not None]
    names = dict(ApiKey.objects.filter(pk__in=ids).values_list("pk", "name"))
    return [{"key": row["key"], "key_name": names.get(row["key"], ""), **row} for row in rows]
