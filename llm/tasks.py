"""Celery's way in to llm's jobs."""

import contextlib
import uuid
from collections import Counter

from celery import shared_task
from django.utils import timezone

from llm import alerts
from llm.catalog import corrections, feed, price_book, price_sync, price_tasks, probes, proposals, shipped, validation
from llm.models import LLMProvider, ProviderCredential
from tenants import audit
from tenants.errors import NotFound


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


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def revalidate_byok_keys() -> int:
    """Have each tenant's own active key validated, by a task of its own; and drop the secrets before rotations whose
    time is over. The number of keys.
    """
    validation.forget_previous(now=timezone.now())
    keys = ProviderCredential.objects.filter(tenant__isnull=False, is_active=True, provider__is_active=True)
    ids = [str(pk) for pk in keys.values_list("pk", flat=True)]
    for credential_id in ids:
        revalidate_byok_key.delay(credential_id=credential_id)
    return len(ids)


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def revalidate_byok_key(*, credential_id: str) -> None:
    """Ask the provider about one key, unless it was deleted meanwhile."""
    credential = ProviderCredential.objects.select_related("provider").filter(pk=credential_id).first()
    if credential is not None:
        with contextlib.suppress(NotFound):
            validation.validate(credential=credential, actor=audit.system("revalidate_byok_keys"), now=timezone.now())


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def sync_prices() -> dict[str, int]:
    """Read the public price feed into proposals: how many models came to what."""
    known = shipped.load().known_differences
    source = price_sync.Feed(lookup=feed.lookup, version=feed.version(), known_differences=known)
    return dict(Counter(one.outcome for one in price_sync.sync(feed=source, now=timezone.now())))


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def review_prices() -> dict[str, int]:
    """Keep the price book, the proposals and the price queue up to date with the clock and the traffic."""
    now = timezone.now()
    return {
        "begun or ended": price_book.advance(now=now),
        "recosted": proposals.recost_waiting(now=now),
        "tasks": price_tasks.refresh(now=now),
    }


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def go_on_with_corrections() -> int:
    """Have each correction run that is to be worked out or booked gone on with, by a task of its own. Their number."""
    ids = [str(pk) for pk in corrections.unfinished()]
    for run_id in ids:
        go_on_with_correction.delay(run_id=run_id)
    return len(ids)


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def go_on_with_correction(*, run_id: str) -> None:
    """Do what is left of one run, unless another worker is at it."""
    corrections.go_on(uuid.UUID(run_id), now=timezone.now())
