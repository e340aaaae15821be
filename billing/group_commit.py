"""One thread per process that commits whatever waits in one transaction: the commit under way is the tick.

It knows nothing of money: `apply` does the work of a batch inside a transaction and returns an outcome for each
operation (a value, or an exception to raise at the waiter). What nobody waits for any more is passed over. If the
database is out of reach, operations marked `must_happen` are kept and tried again; the others fail, and are undone
later only if the commit itself had begun: before that nothing of them can have stayed.
"""

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from billing.errors import LedgerUnavailable

logger = logging.getLogger(__name__)

MAX_BATCH = 256
MAX_WAITING = 20_000
RETRY_S = 0.2
STOP_S = 10.0


class Operation(Protocol):
    must_happen: ClassVar[bool]


class Waiting:
    """An operation and who waits for it."""

    __slots__ = ("future", "loop", "operation")

    def __init__(self, operation: Any, future: "asyncio.Future[Any] | None") -> None:
        self.operation = operation
        self.future = future
        self.loop = None if future is None else future.get_loop()

    @property
    def given_up(self) -> bool:
        """Nobody waits for it any more, and it need not happen."""
        return self.future is not None and self.future.done() and not self.operation.must_happen


@dataclass(slots=True)
class Commits:
    """What the thread has done since the process started: commits, operations in them, seconds they took."""

    count: int = 0
    operations: int = 0
    seconds: float = 0.0


class GroupCommit:
    """The thread. `tick` runs about every `tick_s` seconds between batches (lease, sweep)."""

    def __init__(
        self,
        apply: Callable[[Sequence[Any]], list[Any]],
        *,
        tick: Callable[[], None],
        on_lost: Callable[[Any, Any], Any | None],
        tick_s: float,
    ) -> None:
        self._apply = apply
        self._tick = tick
        self._on_lost = on_lost
        self._tick_s = tick_s
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._kept: deque[Waiting] = deque()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._stop_by = 0.0
        self.commits = Commits()

    @property
    def depth(self) -> int:
        """Operations that wait."""
        return self._queue.qsize() + len(self._kept)

    def start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Commit what waits, then end. What cannot be committed within STOP_S stays held, for the sweeper."""
        self._stop_by = time.monotonic() + STOP_S
        self._stopping = True
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(STOP_S)

    def submit(self, operation: Operation) -> "asyncio.Future[Any]":
        """A future of the outcome, on the running loop. Raises LedgerUnavailable when too much waits already."""
        if self._queue.qsize() > MAX_WAITING and not operation.must_happen:
            raise LedgerUnavailable
        if self._thread is None or not self._thread.is_alive():
            self.start()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put(Waiting(operation, future))
        return future

    def submit_unheard(self, operation: Operation) -> None:
        """Something that must happen and whose outcome nobody waits for."""
        self._queue.put(Waiting(operation, None))

    @property
    def _finished(self) -> bool:
        if not (self._stopping and self._queue.empty()):
            return False
        return not self._kept or time.monotonic() > self._stop_by

    def _run(self) -> None:
        ticked = 0.0
        try:
            while not self._finished:
                batch = self._take(self._tick_s if not self._kept else RETRY_S)
                if batch:
                    self._deliver(batch, self._counted_commit(batch))
                if time.monotonic() - ticked >= self._tick_s and not self._stopping:
                    ticked = time.monotonic()
                    self._between_batches()
        finally:
            connection.close()

    def _take(self, patience_s: float) -> list[Waiting]:
        batch: list[Waiting] = []
        while self._kept and len(batch) < MAX_BATCH:
            batch.append(self._kept.popleft())
        try:
            found = self._queue.get(timeout=patience_s)
            while found is not None:
                if not found.given_up:
                    batch.append(found)
                if len(batch) >= MAX_BATCH:
                    break
                found = self._queue.get_nowait()
        except queue.Empty:
            pass
        return batch

    def _between_batches(self) -> None:
        try:
            self._tick()
        except DatabaseError as error:
            logger.warning("The ledger's database did not answer: %s", type(error).__name__)
            connection.close()
        except Exception:  # a bug in it must not stop the thread that all wait on
            logger.exception("The ledger's tick failed")

    def _counted_commit(self, batch: list[Waiting]) -> list[Any]:
        started = time.perf_counter()
        outcomes = self._commit(batch)
        self.commits.seconds += time.perf_counter() - started
        self.commits.operations += len(batch)
        self.commits.count += 1
        return outcomes

    def _commit(self, batch: list[Waiting], *, again: bool = True) -> list[Any]:
        """One outcome for each. A batch the database refuses is tried again one by one: one bad row fails alone."""
        committing = False
        try:
            with transaction.atomic(durable=True):
                outcomes = self._apply([waiting.operation for waiting in batch])
                committing = True
            return outcomes
        except (OperationalError, InterfaceError) as error:
            logger.warning("The ledger's database did not answer: %s", type(error).__name__)
            connection.close()
            if again and not committing:
                # A connection that died unnoticed, or a deadlock: nothing was committed, and a new one may do.
                return self._commit(batch, again=False)
            return [self._lost(waiting, maybe_committed=committing) for waiting in batch]
        except Exception as error:  # whatever one operation broke must not stop the thread that all wait on
            connection.close_if_unusable_or_obsolete()
            if len(batch) == 1:
                logger.exception("The ledger could not commit an operation")
                self._undo(batch[0].operation, error)
                return [error]
            return [self._commit([waiting])[0] for waiting in batch]

    def _lost(self, waiting: Waiting, *, maybe_committed: bool) -> Any:
        """The database is away. Keep what must happen; undo what may have reached it when it is back."""
        if waiting.operation.must_happen:
            self._kept.append(waiting)
            return _KEPT
        if maybe_committed:
            self._undo(waiting.operation, None)
        return LedgerUnavailable()

    def _undo(self, operation: Any, outcome: Any) -> None:
        undo = self._on_lost(operation, outcome)
        if undo is not None:
            self._kept.append(Waiting(undo, None))

    def _deliver(self, batch: list[Waiting], outcomes: list[Any]) -> None:
        """Wake every waiter of a loop with one call into it."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Waiting, Any]]] = {}
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if waiting.loop is not None and outcome is not _KEPT:
                by_loop.setdefault(waiting.loop, []).append((waiting, outcome))
        for loop, woken in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._wake, woken)
            except RuntimeError:  # the loop is closed: nobody waits any more
                for waiting, outcome in woken:
                    self.give_back(waiting.operation, outcome)

    def _wake(self, woken: list[tuple[Waiting, Any]]) -> None:
        for waiting, outcome in woken:
            future = waiting.future
            if future is None or future.done():
                self.give_back(waiting.operation, outcome)
            elif isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def give_back(self, operation: Any, outcome: Any) -> None:
        """The waiter was cancelled while it waited: take back what it got."""
        if not isinstance(outcome, BaseException):
            undo = self._on_lost(operation, outcome)
            if undo is not None:
                self.submit_unheard(undo)


_KEPT = object()
