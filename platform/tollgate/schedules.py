"""The shipped schedule of jobs. Beat reads it from the database, where staff change it in the admin."""

from dataclasses import dataclass

from django_celery_beat.models import IntervalSchedule, PeriodicTask


@dataclass(frozen=True, slots=True)
class Job:
    """A task and how often it runs: every `every` of `period` (a plural: seconds, minutes, hours, days)."""

    task: str
    name: str
    every: int
    period: str
    seconds: int
    description: str


JOBS = (
    Job(
        "llm.tasks.check_all_providers",
        "Check all providers",
        5,
        IntervalSchedule.MINUTES,
        300,
        "Asks each active provider for its model list and records its health.",
    ),
    Job(
        "llm.tasks.revalidate_byok_keys",
        "Re-validate tenants' own keys",
        1,
        IntervalSchedule.DAYS,
        86_400,
        "Asks each provider whether it still takes the tenants' own keys; drops secrets whose overlap is over.",
    ),
    Job(
        "billing.tasks.roll_up_daily",
        "Roll up usage",
        1,
        IntervalSchedule.HOURS,
        3_600,
        "Sums usage per day, the open day included, and per month. Missed days are caught up.",
    ),
    Job(
        "billing.tasks.prune_usage",
        "Prune old usage",
        1,
        IntervalSchedule.DAYS,
        86_400,
        "Deletes usage older than USAGE_RETENTION_DAYS, if that is set, once it is rolled up, reconciled and final.",
    ),
    Job(
        "billing.tasks.sweep_stale_holds",
        "Sweep stale holds",
        30,
        IntervalSchedule.SECONDS,
        30,
        "Posts the holds of web processes that died, in full. Web processes do this too.",
    ),
    Job(
        "billing.tasks.reconcile_ledger",
        "Reconcile the ledger",
        1,
        IntervalSchedule.DAYS,
        86_400,
        "Proves that usage, budget windows and roll-ups agree to the last digit.",
    ),
    Job(
        "llm.tasks.sync_prices",
        "Read the price feed",
        1,
        IntervalSchedule.DAYS,
        86_400,
        "Compares prices with the public feed and proposes what differs. Nothing it finds is in force by itself.",
    ),
    Job(
        "llm.tasks.review_prices",
        "Keep prices under review",
        5,
        IntervalSchedule.MINUTES,
        300,
        "Notes which prices have begun or ended, re-costs proposals, and finds unpriced and stale models.",
    ),
    Job(
        "llm.tasks.go_on_with_corrections",
        "Go on with correction runs",
        1,
        IntervalSchedule.MINUTES,
        60,
        "Works out what correction runs would correct, and books those that were approved, where that takes longer.",
    ),
    Job(
        "llm.tasks.send_alerts",
        "Send alerts",
        1,
        IntervalSchedule.MINUTES,
        60,
        "Tells subscribers of budgets that passed a threshold, providers down or back, refused keys and failed "
        "reconciliation, and tries again what did not arrive.",
    ),
)


def ensure_schedules() -> list[str]:
    """Add the jobs that have no schedule yet; the names of those added.

    A job is known by its task: what staff renamed, retimed or switched off stays so. One they deleted comes back, so
    switch a job off instead of deleting it.
    """
    added = []
    for job in JOBS:
        if PeriodicTask.objects.filter(task=job.task).exists():
            continue
        interval = IntervalSchedule.objects.filter(every=job.every, period=job.period).first()
        PeriodicTask.objects.create(
            name=job.name,
            task=job.task,
            interval=interval or IntervalSchedule.objects.create(every=job.every, period=job.period),
            description=job.description,
            # A run that waited in the queue until the next one was due is dropped: it would do the same again.
            expire_seconds=job.seconds,
        )
        added.append(job.name)
    return added
