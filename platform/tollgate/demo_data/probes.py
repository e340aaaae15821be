"""Two days of probes of the providers that demo traffic went to, with the same bad hours as the traffic."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random

from django.db import transaction
from django.db.models import Q

from llm.catalog.probes import SLOW_MS, UNREACHABLE
from llm.choices import HealthStatus
from llm.models import LLMProvider, ProviderHealthCheck
from tenants.ids import uuid7_of
from tollgate.demo_data.calendar import Incident

_EVERY = timedelta(minutes=5)
_HISTORY = timedelta(days=2)
_BATCH = 500


def write(*, slugs: Iterable[str], incidents: Iterable[Incident], now: datetime, rng: Random) -> int:
    """Their probes, oldest first, and the last one as the provider's state where no true one is newer. The number."""
    bad = list(incidents)
    written = 0
    with transaction.atomic():
        for provider in LLMProvider.objects.filter(slug__in=slugs).order_by("slug"):
            checks = _checks(provider, [one for one in bad if one.provider == provider.slug], now, rng)
            ProviderHealthCheck.objects.bulk_create(checks, batch_size=_BATCH)
            last = checks[-1]
            LLMProvider.objects.filter(
                Q(health_checked_at__isnull=True) | Q(health_checked_at__lt=last.checked_at), pk=provider.pk
            ).update(
                health_status=last.status,
                health_checked_at=last.checked_at,
                health_response_time_ms=last.response_time_ms,
            )
            written += len(checks)
    return written


def _checks(provider: LLMProvider, incidents: list[Incident], now: datetime, rng: Random) -> list[ProviderHealthCheck]:
    checks: list[ProviderHealthCheck] = []
    at = now - _HISTORY + timedelta(seconds=rng.randrange(300))
    usual = rng.uniform(120, 420)
    while at <= now:
        incident = next((one for one in incidents if one.since <= at < one.until), None)
        failing, slower = (0.001, 1.0) if incident is None else (incident.failing, incident.slower)
        failed_before = bool(checks) and (checks[-1].status_code or 500) >= 500
        check = _check(provider, at, rng)
        if rng.random() < failing:
            check.status = HealthStatus.DOWN if failed_before else HealthStatus.DEGRADED
            check.status_code = 503 if rng.random() < 0.6 else None
            check.error = "It answered HTTP 503: the fault is on its side." if check.status_code else UNREACHABLE
        else:
            took = round(usual * slower * slower * rng.lognormvariate(0, 0.3))
            check.response_time_ms, check.status_code = took, 200
            if took >= SLOW_MS:
                check.status, check.error = HealthStatus.DEGRADED, f"It took {took} ms to answer."
        checks.append(check)
        at += _EVERY
    return checks


def _check(provider: LLMProvider, at: datetime, rng: Random) -> ProviderHealthCheck:
    return ProviderHealthCheck(
        id=uuid7_of(round(at.timestamp() * 1000), rng.getrandbits(74)),
        provider=provider,
        status=HealthStatus.HEALTHY,
        checked_at=at,
    )
