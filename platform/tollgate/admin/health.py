"""The health board: each provider's last 24 hours, as probes saw it and as real requests did."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from kombu.exceptions import OperationalError

from billing import traffic
from billing.traffic import Traffic
from llm.admin.providers import health, in_words
from llm.catalog import probes
from llm.choices import HealthStatus
from llm.models import LLMProvider, ProviderHealthCheck
from llm.tasks import check_all_providers
from tenants.admin import dress
from tenants.admin.base import change_url
from tollgate.admin.charts import Cell
from tollgate.admin.dashboard import share, usage_url
from tollgate.admin.usage_figures import ms

DAY = timedelta(hours=24)
SLOT = timedelta(minutes=30)
SLOTS = DAY // SLOT
# The worst probe of a slot colours it.
_WORST_FIRST = (HealthStatus.DOWN, HealthStatus.DEGRADED, HealthStatus.HEALTHY, HealthStatus.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    at: datetime
    status: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One provider on the board. `marks` are (status, words) of each half hour, `said` sums them up in words."""

    provider: LLMProvider
    url: str
    health: SafeString
    marks: Sequence[tuple[str, str]]
    said: str
    last_error: str
    last_error_at: str
    cells: Sequence[Cell]
    is_busy: bool


def page(request: HttpRequest) -> HttpResponse:
    """`/admin/health/`. Figures of real requests are for those who may read the request log."""
    if not request.user.has_perm("llm.view_llmprovider"):
        raise PermissionDenied
    now = timezone.now()
    sees_traffic = request.user.has_perm("billing.view_usagerecord")
    served = traffic.by_provider(since=now - DAY, until=now) if sees_traffic else {}
    rows = board(served, now=now, sees_traffic=sees_traffic)
    context = {
        **admin.site.each_context(request),
        "title": "Health",
        "busy": [row for row in rows if row.is_busy],
        "quiet": [row for row in rows if not row.is_busy],
        "sees_traffic": sees_traffic,
        "may_probe": request.user.has_perm("llm.change_llmprovider"),
    }
    return TemplateResponse(request, "tollgate/admin/health.html", context)


def board(served: Mapping[str, Traffic], *, now: datetime, sees_traffic: bool) -> list[Row]:
    """Active providers, and others that had requests: those that are not well first, then the busiest."""
    order = {"down": 0, "degraded": 1}
    found = _probes(since=now - DAY)
    providers = [row for row in LLMProvider.objects.all() if row.is_active or row.slug in served]
    providers.sort(
        key=lambda row: (
            order.get(row.health_status, 2),
            -(served[row.slug].requests if row.slug in served else 0),
            -len(found[row.pk]),
            row.slug,
        )
    )
    return [
        _row(one, found[one.pk], served.get(one.slug, Traffic()) if sees_traffic else None, now) for one in providers
    ]


def _probes(*, since: datetime) -> dict[Any, list[Probe]]:
    """The probes of each provider, oldest first. One query."""
    found: dict[Any, list[Probe]] = defaultdict(list)
    rows = ProviderHealthCheck.objects.filter(checked_at__gte=since).order_by("checked_at")
    for pk, at, status, error in rows.values_list("provider_id", "checked_at", "status", "error").iterator():
        found[pk].append(Probe(at=at, status=status, error=error))
    return found


def _row(provider: LLMProvider, found: list[Probe], served: Traffic | None, now: datetime) -> Row:
    last = next((probe for probe in reversed(found) if probe.error), None)
    return Row(
        provider=provider,
        url=change_url(provider),
        health=health(provider),
        marks=_marks(found, now),
        said=_said(found),
        last_error="" if last is None else last.error,
        last_error_at="" if last is None else f"{last.at:%H:%M} UTC, {dress.ago(last.at, now)}",
        cells=[] if served is None else _cells(provider, served, now),
        is_busy=bool(found) or (served is not None and bool(served.requests or served.lost_attempts)),
    )


def _marks(found: list[Probe], now: datetime) -> list[tuple[str, str]]:
    slots: list[list[Probe]] = [[] for _ in range(SLOTS)]
    for probe in found:
        slots[min((probe.at - (now - DAY)) // SLOT, SLOTS - 1)].append(probe)
    marks = []
    for number, probes_then in enumerate(slots):
        begins = now - DAY + number * SLOT
        worst = next((one for one in _WORST_FIRST if any(probe.status == one for probe in probes_then)), None)
        words = f"{begins:%H:%M} to {begins + SLOT:%H:%M} UTC: {_said(probes_then)}"
        marks.append((worst.value if worst else "none", words))
    return marks


def _said(found: list[Probe]) -> str:
    """Probes in words: how many, and how they ended."""
    if not found:
        return "no probe"
    counts = [(sum(probe.status == one for probe in found), one.label.lower()) for one in reversed(_WORST_FIRST)]
    number = "1 probe" if len(found) == 1 else f"{len(found)} probes"
    return f"{number}: {', '.join(f'{count} {label}' for count, label in counts if count)}"


def _cells(provider: LLMProvider, served: Traffic, now: datetime) -> list[Cell]:
    """Requests, errors, lost attempts, median latency and time to first token, the last error."""
    since = {"created_at__gte": (now - DAY).isoformat(), "provider_slug": provider.slug}
    said = served.times.percentiles()
    of_errors = usage_url(**since, answer="error") if served.errors else ""
    errors = f"{served.errors:,} ({share(served.errors, served.requests)})" if served.errors else "0"
    return [
        Cell(text=f"{served.requests:,}", url=usage_url(**since)),
        Cell(text=errors, url=of_errors),
        Cell(text=f"{served.lost_attempts:,}"),
        Cell(text=ms(said["latency_p50"]), url=usage_url(**since)),
        Cell(text=ms(said["ttft_p50"]), url=usage_url(**since)),
        Cell(text=dress.ago(served.last_error_at, now, none=dress.NONE), url=of_errors),
    ]


def probe(request: HttpRequest) -> HttpResponse:
    """`POST /admin/health/probe/`: one `provider` now, while one waits; without it all active ones, by the worker."""
    if not request.user.has_perm("llm.change_llmprovider"):
        raise PermissionDenied
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if "provider" in request.POST:
        _probe_one(request, request.POST["provider"])
    else:
        _probe_all(request)
    return HttpResponseRedirect(reverse("admin:health"))


def _probe_one(request: HttpRequest, pk: str) -> None:
    try:
        provider = LLMProvider.objects.get(pk=pk)
    except (LLMProvider.DoesNotExist, ValidationError) as error:
        raise Http404 from error
    check = probes.probe(provider=provider, now=timezone.now())
    level = messages.SUCCESS if check.status == HealthStatus.HEALTHY else messages.WARNING
    messages.add_message(request, level, in_words(check))


def _probe_all(request: HttpRequest) -> None:
    try:
        check_all_providers.delay()
    except OperationalError:
        messages.error(request, "The job queue cannot be reached, so nothing was probed. Probe them one by one.")
        return
    messages.success(request, "The worker has been asked to probe every active provider. Look again in a minute.")
