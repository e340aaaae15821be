"""The usage page: what was spent, asked, wrong and slow, in a span of days, broken down as one likes.

Every number leads to the requests behind it. Days are billing days, each tenant's own; closed ones are read from their
roll-ups, so the page costs the same however long the past is.
"""

import uuid
from collections.abc import Mapping
from functools import partial

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from billing import breakdown
from billing.breakdown import Group
from billing.models import Adjustment
from billing.snapshot import reading
from billing.sums import Totals, days_of, rows_of
from tenants.models import Membership, Tenant
from tollgate.admin import dashboard, period, usage_figures
from tollgate.admin.period import Question
from tollgate.admin.usage_figures import BY_DAY, BY_MODEL, Found

MOST_LISTED = 500


def page(request: HttpRequest) -> HttpResponse:
    """`/admin/usage/`, for those who may read the request log."""
    if not request.user.has_perm("billing.view_usagerecord"):
        raise PermissionDenied
    now = timezone.now()
    question = period.asked(request.GET.dict(), now=now)
    tenants = dict(Tenant.objects.order_by("slug").values_list("pk", "slug"))
    tenant_id = next((pk for pk, slug in tenants.items() if slug == question.tenant), None)
    problems = list(question.problems.values())
    if question.tenant and tenant_id is None:
        problems.append(f"There is no tenant “{question.tenant}”. Choose one of the list; shown are all.")
    with reading():
        found = _found(question, tenant_id, tenants)
    context = {
        **admin.site.each_context(request),
        "title": "Usage",
        "question": question,
        "problems": problems,
        "spans": _links(question, "span", {key: name for key, name in period.SPANS.items() if key != "custom"}),
        "breakdowns": [(label, f"{url}#breakdown", shown) for label, url, shown in _links(question, "by", period.BY)],
        "listed_tenants": list(tenants.values())[:MOST_LISTED],
        "near": dashboard.near_limit(now.date()),
        "tenant": question.tenant if tenant_id is not None else "",
        **usage_figures.context(found),
    }
    return TemplateResponse(request, "tollgate/admin/usage.html", context)


def _links(question: Question, name: str, choices: Mapping[str, str]) -> list[tuple[str, str, bool]]:
    """(label, URL, whether it is the one shown) of each choice."""
    return [(label, question.url(**{name: key}), getattr(question, name) == key) for key, label in choices.items()]


def _found(question: Question, tenant_id: uuid.UUID | None, tenants: Mapping[uuid.UUID, str]) -> Found:
    """Everything the page shows, in as many queries however much that is."""
    columns = breakdown.COLUMNS[question.by]
    days = days_of(question.start, question.end)
    totals = partial(breakdown.totals, tenant_id=tenant_id, days=days)
    times = partial(breakdown.times, tenant_id=tenant_id, days=days)
    by_day, by_model = totals(columns=BY_DAY), totals(columns=BY_MODEL)
    if columns == BY_MODEL:
        found = by_model
    elif set(columns) <= set(BY_DAY):
        found = _coarser(by_day, BY_DAY, columns)
    else:
        found = totals(columns=columns)
    shown = usage_figures.shown(found, by=question.by)
    of_days = times(columns=breakdown.COLUMNS["day"])
    within = {"billing_day__gte": question.start, "billing_day__lte": question.end}
    return Found(
        question=question,
        tenant_id=tenant_id,
        tenants=tenants,
        by_day=by_day,
        by_model=by_model,
        of_days=of_days,
        totals=found,
        shown=shown,
        times=of_days if question.by == "day" else times(columns=columns, of=shown),
        members=_members() if question.by == "user" else {},
        adjusted=rows_of(Adjustment, tenant_id).filter(**within).aggregate(all=Sum("cost_total_usd"))["all"],
    )


def _members() -> dict[tuple[uuid.UUID, str], str]:
    """Names by tenant and user id, as usage spells it."""
    rows = Membership.objects.values_list("tenant_id", "user_id", "user__username")
    return {(tenant_id, str(user_id)): username for tenant_id, user_id, username in rows}


def _coarser(fine: Mapping[Group, Totals], by: tuple[str, ...], columns: tuple[str, ...]) -> dict[Group, Totals]:
    """Sums that are by some columns, by fewer of them."""
    places = [by.index(name) for name in columns]
    groups: dict[Group, Totals] = {}
    for group, totals in fine.items():
        groups.setdefault(tuple(group[place] for place in places), Totals()).include(totals)
    return groups
