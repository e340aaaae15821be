"""Where processes share their breakers: the table `llm_breakers`, or Redis where there is one (breaker_redis.py)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import Q

from llm.engine.breaker import CLOSED, HALF_OPEN, LAPSE_S, OPEN, PROBE_S, Record
from llm.models import LLMBreaker

KEEP_S = 7 * 86_400.0  # closed ones stay readable for so long


class StoreAway(Exception):
    """The store does not answer: each process goes on by itself."""


class Store(Protocol):
    """Every method may take long, and raises StoreAway."""

    def read(self, now: float) -> list[Record]:
        """All that are not closed; those that nobody has probed for 15 minutes are left out."""

    def write(self, records: Sequence[Record], now: float) -> None:
        """Say how breakers are now. An opening is never shortened by another process's."""

    def claim(self, keys: Sequence[str], *, owner: str, now: float) -> list[Record] | None:
        """Claim the probe of all these half-open breakers: None if they are `owner`'s now, else how they are."""


class Database:
    """The table. An open breaker is a row; a closed one stays a while, to be read."""

    def read(self, now: float) -> list[Record]:
        with _reachable():
            alive = Q(until__gt=_moment(now - LAPSE_S)) | Q(probe_until__gt=_moment(now - LAPSE_S))
            return [record_of(row) for row in LLMBreaker.objects.filter(alive).exclude(state=CLOSED)]

    def write(self, records: Sequence[Record], now: float) -> None:
        with _reachable(), transaction.atomic():
            for record in sorted(records, key=lambda one: one.key):
                _put(record, now)
            if any(record.state == CLOSED for record in records):
                LLMBreaker.objects.filter(state=CLOSED, updated_at__lt=_moment(now - KEEP_S)).delete()

    def claim(self, keys: Sequence[str], *, owner: str, now: float) -> list[Record] | None:
        moment = _moment(now)
        free = Q(state=OPEN) | Q(state=HALF_OPEN, probe_until__lte=moment)
        with _reachable(), transaction.atomic():
            rows = LLMBreaker.objects.filter(key__in=keys)
            found = list(rows.select_for_update().order_by("key"))  # in one order, so that no two wait for each other
            claimed = rows.filter(free, until__lte=moment).update(
                state=HALF_OPEN, probe_owner=owner, probe_until=_moment(now + PROBE_S), updated_at=moment
            )
            if claimed == len(keys):
                return None
            transaction.set_rollback(True)
            return [record_of(row) for row in found]


def _put(record: Record, now: float) -> None:
    rows = LLMBreaker.objects.select_for_update().filter(key=record.key)
    row = rows.first()
    if row is None:
        if record.state == CLOSED:
            return
        moments = {"opened_at": _moment(record.opened_at), "until": _moment(record.until), "updated_at": _moment(now)}
        new = LLMBreaker(key=record.key, kind=record.kind, what=record.what[:300], state=record.state, **moments)
        LLMBreaker.objects.bulk_create([new], ignore_conflicts=True)  # another process may be making it just now
        row = rows.get()
    if record.state != CLOSED:  # a closed one goes on to say why it was opened last
        until = max(record.until, _seconds(row.until)) if row.state == OPEN else record.until
        row.what, row.reason = record.what[:300], record.reason[:300]
        row.opened_at, row.until = _moment(record.opened_at), _moment(until)
    row.state, row.failures, row.openings = record.state, record.failures, record.openings
    row.probe_owner = record.probe_owner
    row.probe_until = _moment(record.probe_until) if record.probe_until else None
    row.updated_at = _moment(now)
    row.save()


def record_of(row: LLMBreaker) -> Record:
    return Record(
        key=row.key,
        what=row.what,
        state=row.state,
        opened_at=_seconds(row.opened_at),
        until=_seconds(row.until),
        failures=row.failures,
        openings=row.openings,
        reason=row.reason,
        probe_owner=row.probe_owner,
        probe_until=_seconds(row.probe_until),
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _seconds(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except (DatabaseError, InterfaceError, ImproperlyConfigured, OSError) as error:
        raise StoreAway(f"the database: {type(error).__name__}") from error
