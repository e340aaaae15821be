"""The first page: what is spent, how requests go, how providers are, whose budget is nearly used up.

Live: open days come from the usage rows themselves, closed ones from their roll-ups. Days are billing days.
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, ExpressionWrapper, F
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from billing import reports
from billing.models import BudgetWindow, UsageRecord
from llm.admin.providers import HEALTH
from llm.models import CorrectionRun, LLMProvider, PriceProposal, PriceTask
from tenants.admin import dress
from tenants.fields import UsdField
from tenants.models import Tenant
from tollgate.admin import limits

ZERO = Decimal(0)
DAYS = 30
LATEST = 1000
TOP = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number, what it is made of, and the list behind it."""

    label: str
    value: str
    note: str
    url: str
    tone: str = ""


def context(request: HttpRequest, found: dict[str, Any]) -> dict[str, Any]:
    """unfold's DASHBOARD_CALLBACK. What a person may not see in the lists they do not see here either."""
    if not request.user.has_perm("billing.view_usagerecord"):
        return found
    now = timezone.now()
    today = now.date()
    first = min(today - timedelta(days=DAYS - 1), today.replace(day=1))
    # A day further: in the east of UTC it is tomorrow already.
    days = reports.summary(tenant_id=None, start=first, end=today + timedelta(days=1), group_by="day")
    top = reports.top_models(start=today.replace(day=1), end=today + timedelta(days=1), limit=TOP)
    health = providers(now)
    return {
        **found,
        "figures": figures(days, today),
        "chart": chart(days, today),
        "days": [as_text(row) for row in reversed(days) if row["requests"]][:DAYS],
        "top_models": [(as_text(row), usage_url(model_name=row["model"].partition("/")[2])) for row in top],
        "top_tenants": top_tenants(today),
        "providers": [row for row in health if row["probed"]],
        "unprobed": sum(not row["probed"] for row in health),
        "near": near_limit(today),
        "price_work": price_work(request),
        "ahead": limits.running_out(now),
    }


def price_work(request: HttpRequest) -> list[tuple[int, str, str]]:
    """What waits for somebody in the price queues: (how many, of what, URL), for those who may see them."""
    found: list[tuple[int, str, str]] = []
    if request.user.has_perm("llm.view_priceproposal"):
        waiting = PriceProposal.objects.filter(state="pending", is_informational=False).count()
        found.append((waiting, "price proposals to decide", reverse("admin:llm_priceproposal_changelist")))
    if request.user.has_perm("llm.view_correctionrun"):
        runs = CorrectionRun.objects.filter(state="pending").count()
        found.append(
            (runs, "corrections to decide", reverse("admin:llm_correctionrun_changelist") + "?state__exact=pending")
        )
    if request.user.has_perm("llm.view_pricetask"):
        left = PriceTask.objects.filter(state__in=("open", "in_progress")).order_by()
        counts = dict(left.values_list("kind").annotate(n=Count("pk")))
        queue = reverse("admin:llm_pricetask_changelist")
        words = (("unpriced", "models used but unpriced"), ("stale", "stale prices"))
        found += [(counts.get(kind, 0), said, f"{queue}?kind__exact={kind}") for kind, said in words]
    return found


def as_text(row: dict[str, Any]) -> dict[str, Any]:
    """A report's row with its figures as people read them."""
    counts = {name: f"{row[name]:,}" for name in ("requests", "errors", "total_tokens")}
    return {**row, **counts, "cost": dress.usd_round(row["cost_usd"]), "billed": dress.usd_round(row["billed_usd"])}


def usage_url(**filters: str) -> str:
    query = f"?{urlencode(filters)}" if filters else ""
    return f"{reverse('admin:billing_usagerecord_changelist')}{query}"


def between(start: date, end: date) -> dict[str, str]:
    """The request log's filter on billing days."""
    return {"billing_day_from": str(start), "billing_day_to": str(end)}


def figures(days: Sequence[dict[str, Any]], today: date) -> list[Figure]:
    month_start = today.replace(day=1)
    of_day = total(row for row in days if row["day"] == today)
    of_month = total(row for row in days if row["day"] >= month_start)
    of_today, of_this_month = between(today, today), between(month_start, today + timedelta(days=1))
    return [
        Figure(
            label="Spend today",
            value=dress.usd_round(of_day["cost_usd"]),
            note=f"{dress.usd_round(of_day['billed_usd'])} billed to tenants",
            url=usage_url(**of_today),
        ),
        Figure(
            label="Spend this month",
            value=dress.usd_round(of_month["cost_usd"]),
            note=f"{dress.usd_round(of_month['billed_usd'])} billed to tenants",
            url=usage_url(**of_this_month),
        ),
        Figure(
            label="Requests today",
            value=f"{of_day['requests']:,}",
            note=f"{of_month['requests']:,} this month, {of_month['total_tokens']:,} tokens",
            url=usage_url(**of_today),
        ),
        Figure(
            label="Errors today",
            value=share(of_day["errors"], of_day["requests"]),
            note=f"{of_day['errors']:,} requests; {share(of_month['errors'], of_month['requests'])} this month",
            url=usage_url(**of_today, answer="error"),
            tone="bad" if of_day["errors"] * 20 > of_day["requests"] else "",
        ),
        latency(),
    ]


def total(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The sums of some days."""
    days = list(rows)
    counts = {name: sum(row[name] for row in days) for name in ("requests", "errors", "total_tokens")}
    return {**counts, **{name: sum((row[name] for row in days), ZERO) for name in ("cost_usd", "billed_usd")}}


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "0 %"


def latency() -> Figure:
    """Medians over the latest requests that were answered: a page of the newest rows, never the whole table."""
    answered = UsageRecord.objects.filter(status=UsageRecord.Status.COMPLETED).order_by("-id")
    rows = list(answered.values_list("latency_ms", "ttft_ms")[:LATEST])
    first = [ttft for _, ttft in rows if ttft is not None]
    return Figure(
        label="Median latency",
        value=f"{statistics.median_low([took for took, _ in rows]):,} ms" if rows else dress.NONE,
        note=f"first token {statistics.median_low(first):,} ms" if first else f"of the last {LATEST:,} requests",
        url=usage_url(status__exact="completed"),
    )


def chart(days: Sequence[dict[str, Any]], today: date) -> str:
    """Spend per day as unfold's bar chart wants it. Amounts stay decimal strings: Chart.js reads them."""
    by_day = {row["day"]: row for row in days}
    shown = [today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    spend = [str(by_day[day]["cost_usd"].quantize(Decimal("0.000001"))) if day in by_day else "0" for day in shown]
    dataset = {
        "label": "USD, provider's list price",
        "data": spend,
        "backgroundColor": "var(--color-primary-600)",
        "displayYAxis": True,
        "maxBarThickness": 18,
        "maxTicksXLimit": 10,
    }
    return json.dumps({"labels": [f"{day:%d %b}" for day in shown], "datasets": [dataset]})


def top_tenants(today: date) -> list[tuple[str, str, str]]:
    """Who has spent most this month: (slug, amount, URL), from the month's windows."""
    month = BudgetWindow.objects.filter(scope_kind="tenant", period="month", starts_on=today.replace(day=1))
    rows = month.annotate(slug=limits.owner(Tenant, "slug")).order_by("-spent")[:TOP]
    return [
        (row.slug or str(row.scope_id), dress.usd_round(row.spent), usage_url(tenant=str(row.scope_id))) for row in rows
    ]


def providers(now: Any) -> list[dict[str, Any]]:
    """Active providers, those that are not well first."""
    order = {"down": 0, "degraded": 1, "healthy": 2, "unknown": 3}
    rows = sorted(
        LLMProvider.objects.filter(is_active=True), key=lambda row: (order.get(row.health_status, 4), row.slug)
    )
    return [
        {
            "name": row.display_name,
            "probed": row.health_status != "unknown",
            "status": row.get_health_status_display(),
            "tone": HEALTH.get(row.health_status, "plain"),
            "age": dress.ago(row.health_checked_at, now, none="never probed"),
            "url": reverse("admin:llm_llmprovider_change", args=(row.pk,)),
        }
        for row in rows
    ]


def near_limit(today: date) -> list[dict[str, Any]]:
    """Budgets of which 80 % or more is spent or held, in the windows that are open somewhere on earth now."""
    rows = limits.with_limits(
        BudgetWindow.objects.filter(
            starts_on__in={
                *(today + timedelta(days=shift) for shift in (-1, 0, 1)),
                *((today + timedelta(days=shift)).replace(day=1) for shift in (-1, 0, 1)),
            }
        )
    )
    used = ExpressionWrapper((F("spent") + F("held")) * 5, output_field=UsdField())
    floor = ExpressionWrapper(F("limit") * 4, output_field=UsdField())
    near = rows.filter(limit__isnull=False).annotate(used=used, floor=floor).filter(used__gte=F("floor"))
    today_or_month = {"day": "today", "month": "this month"}
    return [
        {
            "name": row.owner_name or str(row.scope_id),
            "kind": row.scope_kind,
            "period": today_or_month[row.period],
            "bar": dress.bar(spent=row.spent, held=row.held, limit=row.limit),
            "url": limits.scope_url(row),
        }
        for row in near.order_by("-starts_on", "id")[: limits.SHOWN]
        if row.period == "month" or row.starts_on >= today
    ]
