"""What this process has seen of providers: breakers and latencies, shared with the others, ready for routing.

Everything here but `look` runs on the event loop. The store (the database, or Redis) is asked in threads: read every
second by the watch of the catalog, written when a breaker changes, and asked once more by a request that would be a
probe. Without it each process goes on by itself, and says so in the log once.
"""

import asyncio
import itertools
import logging
import random
import time
import uuid
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from llm.engine import breaker
from llm.engine.breaker import CLOSED, Breaker, Line, Record
from llm.engine.breaker_redis import store
from llm.engine.breaker_store import Store, StoreAway
from llm.engine.latency import Latencies
from llm.errors import ProviderDown, ProviderError, UpstreamAuthFailed, UpstreamRateLimited
from llm.types import RoutingState, Target, number_of
from tenants import auth

logger = logging.getLogger(__name__)

MOST_LINES = 10_000  # pairs of a model and a key that are remembered
CLAIM_S = 0.25  # the longest a probe waits to hear that it is the only one


class Health:
    """One process's breakers and latencies."""

    def __init__(self) -> None:
        self._owner, self._probes = uuid.uuid4().hex, itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._writing: asyncio.Future[Any] | None = None
        self._store: Store | None = None
        self._away = False
        self.reset()

    def reset(self) -> None:
        """Know nothing, as at the start; for tests."""
        self.latencies = Latencies()
        self.any_open = False
        self._since = time.time()
        self._breakers: dict[str, Breaker] = {}
        self._lines: dict[tuple[str, int], Line] = {}
        self._open: dict[str, Breaker] = {}
        self._touched: dict[str, float] = {}  # when an open or just closed one was last changed, or written, here
        self._unwritten: set[str] = set()
        self._being_written: set[str] = set()
        self._state = RoutingState()
        self._turns_at = float("inf")  # when `_state` is no longer true

    @property
    def at_rest(self) -> bool:
        """Everything that changed has been written."""
        return not self._unwritten and (self._writing is None or self._writing.done())

    # --- with the process ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "breakers")
        self._store = store()

    async def stop(self) -> None:
        """What is being written is finished."""
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None:
            await self._loop.run_in_executor(None, thread.shutdown)
        self._loop = self._store = None

    # --- for routing --------------------------------------------------------------------------------------------------

    def state(self, now: float) -> RoutingState:
        """What plan() is to know. 0.1 us while nothing changes."""
        if now >= self._turns_at:
            blocks, key_blocks = breaker.blocks_of((one.record() for one in self._open.values()), now)
            self._state = RoutingState(ttft_ms=self._state.ttft_ms, blocks=blocks, key_blocks=key_blocks)
            ends = [block.until for block in (*blocks.values(), *key_blocks.values())]
            self._turns_at = min(ends, default=float("inf"))
        return self._state

    def shared_state(self, now: float) -> RoutingState:
        """The same for a thread that may wait, in whatever process: breakers as the store knows them."""
        try:
            blocks, key_blocks = breaker.blocks_of(store().read(now), now)
        except StoreAway:
            return self._state
        return RoutingState(ttft_ms=self._state.ttft_ms, blocks=blocks, key_blocks=key_blocks)

    def passage(self, target: Target, *, trickle: bool) -> "Passage":
        """One call of a provider, about to begin."""
        return Passage(self, self._line(target), target, trickle=trickle)

    def _line(self, target: Target) -> Line:
        place = (target.model.reference, number_of(target.credential))
        line = self._lines.get(place)
        if line is None:
            if len(self._lines) >= MOST_LINES:
                self._forget()
            provider, model, credential, limit = (self._breaker(*key) for key in breaker.keys_of(target))
            line = self._lines[place] = (provider, model, credential, limit)
        return line

    def _breaker(self, key: str, what: str) -> Breaker:
        found = self._breakers.get(key)
        if found is None:
            found = self._breakers[key] = Breaker(key, what)
        return found

    def _forget(self) -> None:
        """Memory is bounded: what is closed starts to count anew."""
        self._lines.clear()
        self._breakers = dict(self._open)

    # --- changes ------------------------------------------------------------------------------------------------------

    def changed(self, one: Breaker, *, write: bool = True) -> None:
        """A breaker changed here: routing knows at once, the others within a second."""
        self._note(one)
        self._touched[one.key] = time.time()
        if write:
            self._unwritten.add(one.key)
            self._write()

    def _note(self, one: Breaker) -> None:
        if one.state == CLOSED:
            self._open.pop(one.key, None)
        else:
            self._open[one.key] = one
        self.any_open, self._turns_at = bool(self._open), 0.0

    def _records(self, keys: Set[str]) -> list[Record]:
        closed = (Record(key=key, what="", state=CLOSED) for key in keys if key not in self._open)
        return [*closed, *(self._open[key].record() for key in keys if key in self._open)]

    def _write(self) -> None:
        """Write what has changed, in the thread; what changes meanwhile is written after."""
        if self._loop is None or self._thread is None or not (self._writing is None or self._writing.done()):
            return
        keys, self._unwritten = self._unwritten, set()
        self._being_written = keys
        records = self._records(keys)
        self._writing = self._ask(lambda kept: kept.write(records, time.time()))
        self._writing.add_done_callback(lambda done: self._written(keys, done))

    def _written(self, keys: set[str], done: "asyncio.Future[Any]") -> None:
        self._being_written = set()
        if done.cancelled():
            return
        if self._heard(done.exception()):
            self._touched |= dict.fromkeys(keys, time.time())
            if self._unwritten:
                self._write()
        else:
            self._unwritten |= keys  # `look` tries again

    def _ask(self, question: Callable[[Store], Any]) -> "asyncio.Future[Any]":
        assert self._loop is not None
        assert self._store is not None
        kept = self._store
        return self._loop.run_in_executor(self._thread, auth.off_the_loop, lambda: question(kept))

    def _heard(self, error: BaseException | None) -> bool:
        """Whether the store answered. Said once when it goes away, and once when it is back."""
        if error is None:
            if self._away:
                logger.warning("Breakers are shared between processes again")
            self._away = False
            return True
        if not isinstance(error, StoreAway):
            raise error
        if not self._away:
            logger.error("Breakers cannot be shared, each process goes on by itself: %s", error)
        self._away = True
        return False

    # --- what the others say ------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Ask the store, in the thread of the catalog's watch, and let the loop take in what it says."""
        kept, loop, asked = self._store, self._loop, time.time()
        if kept is None or loop is None or loop.is_closed():
            return
        try:
            records: list[Record] | None = kept.read(asked)
            error = None
        except StoreAway as away:
            records, error = None, away
        loop.call_soon_threadsafe(self._take_in, records, error, asked)

    def _take_in(self, records: list[Record] | None, error: StoreAway | None, asked: float) -> None:
        if self._heard(error) and records is not None:
            self._adopt(records, asked)
            if self._unwritten:
                self._write()
        now = time.time()
        medians = self.latencies.medians(now)
        if medians != self._state.ttft_ms:
            self._state = RoutingState(ttft_ms=medians)
            self._turns_at = 0.0

    def _adopt(self, records: Sequence[Record], asked: float) -> None:
        """What was changed here since the store was asked is newer than its answer."""
        told = {record.key: record for record in records}
        for key in {*told, *self._open}:
            if key in self._unwritten or key in self._being_written or self._touched.get(key, self._since) >= asked:
                continue
            record = told.get(key, Record(key=key, what="", state=CLOSED))
            self._take(self._breaker(key, record.what), record)
        self._touched = {key: at for key, at in self._touched.items() if at >= asked or key in self._open}

    def _take(self, one: Breaker, record: Record) -> None:
        before = one.state
        one.adopt(record)
        self._note(one)
        if one.state != before:
            logger.info("Breaker %s is %s elsewhere", one.key, one.state)

    # --- probes -------------------------------------------------------------------------------------------------------

    async def admit(self, passage: "Passage") -> None:
        """Let a call begin, as the one probe of what is half-open. Raises ProviderDown."""
        for _ in passage.line:  # a claim may fail because one of them was closed elsewhere: then the rest is claimed
            now = time.time()
            for one in passage.line:
                block = one.record().block(now)
                if block is not None:
                    raise ProviderDown(block.detail, limited=block.limited, retry_after=block.until - now)
            due = [one for one in passage.line if one.state != CLOSED]
            if not due:
                return
            passage.owner = f"{self._owner}-{next(self._probes)}"
            self._mark(due, passage.owner, now)  # at once, so that no other request of this process sees a chance
            others = await self._claim([one.key for one in due], passage.owner, now)
            if others is None:
                self._mark(due, passage.owner, now)  # again: a look meanwhile may have shown the time before
                return
            for one in due:
                one.let_go()
                self._take(one, others.get(one.key, Record(key=one.key, what="", state=CLOSED)))
        raise ProviderDown("other requests are trying it", limited=False, retry_after=1.0)

    def _mark(self, due: Sequence[Breaker], owner: str, now: float) -> None:
        for one in due:
            one.claim(now, owner)
            self.changed(one, write=False)

    async def _claim(self, keys: list[str], owner: str, now: float) -> dict[str, Record] | None:
        """None: this process may probe. Else what the store knows that forbids it."""
        if self._away or self._loop is None or self._thread is None:
            return None
        late = self._unwritten & set(keys)
        self._unwritten -= late
        records = self._records(late)

        def question(kept: Store) -> list[Record] | None:
            if records:
                kept.write(records, now)
            return kept.claim(keys, owner=owner, now=now)

        asked = self._ask(question)
        try:
            others: list[Record] | None = await asyncio.wait_for(asyncio.shield(asked), CLAIM_S)
        except TimeoutError:
            asked.add_done_callback(_let_be)
            self._heard(StoreAway("it is slow"))
        except StoreAway as error:
            self._heard(error)
        else:
            return None if others is None else {record.key: record for record in others}
        self._unwritten |= late
        return None


def _let_be(done: "asyncio.Future[Any]") -> None:
    """Nobody waits for it any more: an error of it is no news."""
    if not done.cancelled():
        done.exception()


class Passage:
    """One call of a provider: whether it may begin, and what its end says about the provider."""

    __slots__ = ("_health", "_started", "_target", "_trickle", "error", "line", "owner")

    def __init__(self, health: Health, line: Line, target: Target, *, trickle: bool) -> None:
        self.line = line
        self.owner = ""  # as what it has claimed a probe
        self.error: ProviderError | None = None
        self._health, self._target, self._trickle = health, target, trickle
        self._started = time.time()

    async def enter(self) -> None:
        """Raises ProviderDown where a breaker has opened since the plan, or another request is the probe."""
        if self._health.any_open and not self._trickle and any(one.state != CLOSED for one in self.line):
            await self._health.admit(self)

    def heard(self) -> None:
        """The first good event of a stream is here: that is its latency, and proof enough for a probe."""
        now = time.time()
        self._health.latencies.record(self._target.model.id, (now - self._started) * 1000, now)
        if self._health.any_open:
            self._succeeded(now)

    def leave(self, *, answered: bool) -> None:
        """The call is over. `answered`: completely and well; neither that nor an error says nothing."""
        now = time.time()
        if self.error is not None:
            self._failed(self.error, now)
        elif answered:
            self._succeeded(now)
        if self.owner:
            for one in self.line:
                if one.probe_owner == self.owner:  # nothing was found out
                    one.let_go()
                    self._health.changed(one)

    def _succeeded(self, now: float) -> None:
        trying = self._trickle or self.owner != ""
        for one in self.line:
            if one.succeeded(now, started=self._started, trying=trying):
                logger.info("Breaker %s closed", one.key)
                self._health.changed(one)

    def _failed(self, error: ProviderError, now: float) -> None:
        provider, model, credential, limit = self.line
        if not error.counts:
            return
        if isinstance(error, UpstreamRateLimited):
            if error.retry_after:
                if limit.told_to_wait(now, error.retry_after):
                    self._opened(limit)
                return
            blamed: tuple[Breaker, ...] = (limit,)
        elif isinstance(error, UpstreamAuthFailed):
            blamed = (credential,)
        else:
            blamed = (provider, model)
        for one in blamed:
            probing = self.owner != "" and one.probe_owner == self.owner
            if one.failed(now, why=error.code, draw=random.random(), probing=probing):  # noqa: S311 - not a secret
                self._opened(one)

    def _opened(self, one: Breaker) -> None:
        logger.warning("Breaker %s opened for %.1f s: %s", one.key, one.until - time.time(), one.reason)
        self._health.changed(one)
