"""What was used and what it cost, for tenants and staff: summaries, top models, one user's figures, limits.

Whole months and closed days are read from their roll-ups, the rest from the usage rows themselves, so a request is in
every figure as soon as its answer has been read. All amounts are USD, exact Decimals; tokens and requests are counts;
latencies are whole milliseconds.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from django.db.models import CharField, Q, QuerySet
from django.db.models.functions import Cast

from billing import forecast, rare, windows
from billing.models import Adjustment, BudgetWindow, DailyUsage, RolledDay, UsageRecord
from billing.snapshot import reading
from billing.sums import Totals, adjusted_sums, average_ms, days_of, live_sums, rolled_sums, rows_of, sums
from tenants.errors import InvalidValue
from tenants.models import ApiKey

ZERO = Decimal(0)

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
    with reading():
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
    """What each of these provider keys has served since it was added. Adjustments count in the money.

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
    unrolled, adjusted = (rows_of(of, None).filter(live, credential_id__in=ids) for of in (UsageRecord, Adjustment))
    for rows, summed in ((rolled, rolled_sums()), (unrolled, live_sums()), (adjusted, adjusted_sums())):
        for found in rows.values("credential_id").annotate(**summed):
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
    for found in rows.order_by().values(*GROUPS["model"]).annotate(**live_sums()):
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


def usage_rows(*, tenant_id: uuid.UUID | None, wanted: Wanted, page: rare.Page | None = None) -> QuerySet[UsageRecord]:
    """The usage rows of a tenant, or of all if None. Not sorted. If a `page` is named, enough of them for that page."""
    rows = rows_of(UsageRecord, tenant_id)
    for moment, operator in ((wanted.since, "gte"), (wanted.until, "lte")):
        if moment is not None:
            # Days as text, so that no database takes the index on the day, sorts all that is under it and shows fifty.
            column, asked = ("created_at", moment) if isinstance(moment, datetime) else ("as_text", moment.isoformat())
            bound = rare.id_bound(moment, operator, tenant_id=tenant_id)
            rows = rows.alias(as_text=Cast("billing_day", CharField()))
            rows = rows.filter(**{f"{column}__{operator}": asked, f"pk__{operator}": bound})
    only = Q()
    if wanted.provider is not None:
        only &= _named(wanted.provider, "provider_id", Q(provider_slug=wanted.provider))
    if wanted.model is not None:
        slug, _, name = wanted.model.partition("/")
        named = Q(model_name=wanted.model) | (Q(provider_slug=slug, model_name=name) if name else Q())
        only &= _named(wanted.model, "model_id", named)
    if wanted.config_id is not None:
        only &= Q(config_id=wanted.config_id)
    exact = {"status": wanted.status, "key_id": wanted.key_id}
    rows = rows.filter(only, **{name: value for name, value in exact.items() if value is not None})
    if page is not None and wanted.until is not None:
        page = page.up_to(rare.id_near(wanted.until, "lte"))
    return rare.narrowed(rows, tenant_id=tenant_id, only=only, page=page) if only else rows


def _named(text: str, id_column: str, named: Q) -> Q:
    try:
        return Q(**{id_column: uuid.UUID(text)})
    except ValueError:
        return named


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
