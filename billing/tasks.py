"""Celery's way in. Each job can run twice, late or never: all is worked out again from the rows."""

import structlog
from celery import shared_task
from django.utils import timezone

from billing import alerts, ledger, reconcile, rollup

log = structlog.get_logger(__name__)


@shared_task  # type: ignore[untyped-decorator]  # celery has no types
def roll_up_daily() -> dict[str, int]:
    """Roll up every day that is not marked yet, the open one included, then months: {ISO day or month: rows}."""
    now = timezone.now()
    return {**rollup.roll_up(now=now), **rollup.roll_up_months(now=now)}


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
