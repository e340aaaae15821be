"""Celery's way in. Each job can run twice, late or never: all is worked out again from the rows."""

import structlog
from celery import shared_task
from django.conf import settings
from django.utils import timezone

from billing import alerts, ledger, reconcile, retention, rollup

log = structlog.get_logger(__name__)


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def roll_up_daily() -> dict[str, int]:
    """Roll up every day that is not marked yet, the open one included, then months: {ISO day or month: rows}."""
    now = timezone.now()
    return {**rollup.roll_up(now=now), **rollup.roll_up_months(now=now)}


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def prune_usage() -> dict[str, int]:
    """Delete the usage of old days that nothing needs any more, if USAGE_RETENTION_DAYS says so: {ISO day: rows}."""
    keep_days, done = settings.USAGE_RETENTION_DAYS, {}
    for one in retention.prune(now=timezone.now(), keep_days=keep_days) if keep_days else ():
        if one.kept:
            log.warning("usage_kept", day=one.day.isoformat(), reason=one.kept)
        else:
            done[one.day.isoformat()] = one.rows
    return done


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def sweep_stale_holds() -> int:
    """Post the holds whose process has died. The number of holds."""
    return ledger.sweep(now=timezone.now())


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def reconcile_ledger() -> list[str]:
    """Prove that the money adds up; what does not is logged as an error, raised as an alert and returned."""
    now = timezone.now()
    differences = reconcile.check(now=now)
    if differences:
        alerts.reconcile_failed(differences=differences, now=now)
    for difference in differences:
        log.error("ledger_difference", difference=str(difference))
    return [str(difference) for difference in differences]
