"""The figures of `/metrics` that no request moves: those of a process, taken every second so that another process may
tell them, and those read from the database and the catalog when somebody looks.
"""

import asyncio
import contextlib
import gc
import os
import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import DatabaseError
from django.db.models import Count, Max, Sum
from django.utils import timezone
from django_celery_results.models import TaskResult
from prometheus_client import Counter, Gauge
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from billing.models import Hold
from llm.choices import HealthStatus
from llm.engine import runtime, snapshot
from llm.engine.metrics import REGISTRY
from llm.types import Provider
from tenants import auth
from tollgate.schedules import JOBS

SAMPLE_S = 1.0
LOOK_S = 5.0  # the database is asked at most this often
DATABASE_DEADLINE_S = 1.0
JOBS_WINDOW = timedelta(days=2)  # longer than the longest schedule
_FILES = "/proc/self/fd"  # since Linux 6.2 its size is how many there are, which spares counting them

# --- a process's own figures ------------------------------------------------------------------------------------------


def _gauge(name: str, text: str, mode: Any, *labels: str) -> Gauge:
    """`mode`: how the figures of live processes are put together; liveall adds the label `pid`."""
    return Gauge(f"tollgate_{name}", text, labels, registry=REGISTRY, multiprocess_mode=mode)


IN_FLIGHT = _gauge("requests_in_flight", "Completion requests that are not settled yet.", "livesum")
STREAMS = _gauge("streams_open", "Streamed answers that a provider is still sending.", "livesum")
QUEUE = _gauge("ledger_queue_depth", "Reserves and settlements that wait for a commit.", "livesum")
CATALOG_AGE = _gauge(
    "catalog_age_seconds",
    "Since the catalog in memory was last compared with the database, in the process where it is oldest. Normally "
    "below 2; more means that edits are not seen.",
    "livemax",
)
LOOP_DELAY = _gauge(
    "event_loop_delay_seconds",
    "How late the event loop is, in the process where it is latest. Beyond MAX_LOOP_DELAY_S requests are refused.",
    "livemax",
)
CPU = _gauge("process_cpu_seconds", "CPU time used by a web process since it started; rate() is cores.", "liveall")
MEMORY = _gauge("process_resident_memory_bytes", "Resident memory of a web process.", "liveall")
FILES = _gauge("process_open_fds", "Open files and sockets of a web process.", "liveall")
FILES_LIMIT = _gauge("process_max_fds", "The most it may have open.", "liveall")
COLLECTIONS = _gauge(
    "process_gc_collections", "Garbage collections since a web process started.", "liveall", "generation"
)


class _Followed:
    """A counter that follows a total which something else keeps."""

    def __init__(self, name: str, text: str) -> None:
        self._counter = Counter(f"tollgate_{name}", text, registry=REGISTRY)
        self._seen = 0.0

    def follow(self, total: float) -> None:
        """A total that fell was begun anew."""
        self._counter.inc(total - self._seen if total >= self._seen else total)
        self._seen = total


COMMITS = _Followed("ledger_commits", "Transactions of the ledgers' threads.")
OPERATIONS = _Followed("ledger_operations", "Reserves and settlements in them; by commits: how many share one.")
COMMIT_SECONDS = _Followed("ledger_commit_seconds", "Seconds spent in them; by commits: how long one takes.")


def keep_sampling(loop: asyncio.AbstractEventLoop) -> None:
    """Sample now and every second, as long as the loop runs."""
    sample()
    loop.call_later(SAMPLE_S, keep_sampling, loop)


def sample() -> None:
    """Take this process's figures. Measured: 30 to 40 us."""
    engine = runtime.RUNTIME
    IN_FLIGHT.set(engine.under_way)
    STREAMS.set(engine.streams)
    QUEUE.set(engine.ledger.depth)
    commits = engine.ledger.commits
    COMMITS.follow(commits.count)
    OPERATIONS.follow(commits.operations)
    COMMIT_SECONDS.follow(commits.seconds)
    CATALOG_AGE.set(time.monotonic() - snapshot.WATCH.looked_at)
    LOOP_DELAY.set(engine.admission.late_s)
    CPU.set(time.process_time())
    FILES_LIMIT.set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    with contextlib.suppress(OSError):  # only Linux has it
        MEMORY.set(int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize())
        FILES.set(os.stat(_FILES).st_size or len(os.listdir(_FILES)))  # noqa: PTH116, PTH208 - on the event loop
    for generation, done in enumerate(gc.get_stats()):
        COLLECTIONS.labels(generation).set(done["collections"])


# --- what is read when somebody looks ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the database said last, and when (time.monotonic)."""

    read_at: float
    holds: int = 0
    held_usd: float = 0.0
    jobs: tuple[tuple[str, str, int, datetime], ...] = ()  # task, status, how many, the last one's end


_books: Books | None = None


async def read_books() -> Books | None:
    """The books, at most LOOK_S old. None: the database does not answer."""
    global _books  # noqa: PLW0603 - the last look, for all scrapes of this process
    if _books is None or time.monotonic() - _books.read_at > LOOK_S:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(DATABASE_DEADLINE_S):
                _books = await loop.run_in_executor(None, auth.off_the_loop, _look)
        except (TimeoutError, DatabaseError):
            _books = None
    return _books


def _look() -> Books:
    held = Hold.objects.aggregate(count=Count("pk"), usd=Sum("amount"))
    ended = TaskResult.objects.filter(
        task_name__in=[job.task for job in JOBS], date_done__gte=timezone.now() - JOBS_WINDOW
    )
    jobs = ended.order_by().values_list("task_name", "status").annotate(count=Count("pk"), last=Max("date_done"))
    return Books(read_at=time.monotonic(), holds=held["count"], held_usd=float(held["usd"] or 0), jobs=tuple(jobs))


def looked_up(books: Books | None) -> Iterator[Metric]:
    """What the database says, and the catalog."""
    yield GaugeMetricFamily(
        "tollgate_database_up", "1 if the database answered within a second.", float(books is not None)
    )
    if books is not None:
        yield from _of_books(books)
    if snapshot.WATCH.current is not None:
        yield _provider_health(snapshot.WATCH.current.providers.values())


def _of_books(books: Books) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "tollgate_holds_open", "Requests under way that hold budget, on all machines.", float(books.holds)
    )
    yield GaugeMetricFamily("tollgate_held_usd", "The worst case of those requests, in USD.", books.held_usd)
    ended = GaugeMetricFamily(
        "tollgate_job_runs",
        "Runs of a scheduled job that ended within the last two days, by status (SUCCESS, FAILURE, ...).",
        labels=("task", "status"),
    )
    last = GaugeMetricFamily(
        "tollgate_job_last_run_timestamp_seconds",
        "When the last of them ended, in Unix time.",
        labels=("task", "status"),
    )
    for task, status, count, moment in books.jobs:
        labels = (task.rpartition(".")[2], status)
        ended.add_metric(labels, count)
        last.add_metric(labels, moment.timestamp())
    yield from (ended, last)


def _provider_health(providers: Iterable[Provider]) -> Metric:
    health = GaugeMetricFamily(
        "tollgate_provider_health",
        "1 for the status an active provider has: healthy, degraded, down or unknown.",
        labels=("provider", "status"),
    )
    for provider in providers:
        if provider.is_active:
            for status in HealthStatus.values:
                health.add_metric((provider.slug, status), float(provider.health_status == status))
    return health
