"""Celery's way in to llm's jobs."""

from celery import shared_task
from django.utils import timezone

from llm import alerts
from llm.catalog import probes
from llm.models import LLMProvider


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def check_all_providers() -> int:
    """Have each active provider probed, by a task of its own: a slow one keeps nobody waiting. Their number."""
    ids = [str(pk) for pk in LLMProvider.objects.filter(is_active=True).values_list("pk", flat=True)]
    for provider_id in ids:
        check_provider.delay(provider_id=provider_id)
    return len(ids)


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def check_provider(*, provider_id: str) -> None:
    """Probe one provider, unless it was deleted meanwhile."""
    provider = LLMProvider.objects.filter(pk=provider_id).first()
    if provider is not None:
        probes.probe(provider=provider, now=timezone.now())


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def send_alerts() -> dict[str, int]:
    """Find what is worth an alert and send what is due: how many were raised, and attempts made."""
    now = timezone.now()
    return {"raised": alerts.find(now=now), "attempts": alerts.deliver(now=now)}
