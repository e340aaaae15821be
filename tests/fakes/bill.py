"""The provider's own bill: what it produced, whoever claims otherwise. Written by its thread, read by any other."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tokens:
    """Counts of one answer. `prompt` includes the cached and cache-writing ones; `completion` includes reasoning."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cache_creation: int = 0
    cache_creation_1h: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One accepted request and what it costs. Times are seconds; `started_mono` and `gone_mono` are `time.monotonic()`.

    prompt_tokens is billed from acceptance. completion_tokens: of a stream, the pieces whose last byte was written; of
    a plain answer, all of them as soon as its first byte is due, even if it is cut. completed: every byte of the body
    was written. disconnected_at: seconds after acceptance when the client was seen to leave before the end, else None.
    """

    request_id: str
    model: str
    path: str
    stream: bool
    key_last4: str
    prompt_tokens: int
    cached_tokens: int
    cache_creation_tokens: int
    cache_creation_1h_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    completed: bool
    in_flight: bool
    disconnected_at: float | None
    started_mono: float
    gone_mono: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over entries."""

    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(slots=True)
class Account:
    """An entry being written. Only the provider's thread touches it, each step one assignment."""

    request_id: str
    model: str
    path: str
    stream: bool
    key_last4: str
    planned: Tokens
    started: float
    produced: int = 0
    completed: bool = False
    closed: bool = False
    gone: float | None = None

    def entry(self) -> Entry:
        """As it stands now."""
        planned = self.planned
        return Entry(
            request_id=self.request_id,
            model=self.model,
            path=self.path,
            stream=self.stream,
            key_last4=self.key_last4,
            prompt_tokens=planned.prompt,
            cached_tokens=planned.cached,
            cache_creation_tokens=planned.cache_creation,
            cache_creation_1h_tokens=planned.cache_creation_1h,
            completion_tokens=self.produced,
            reasoning_tokens=min(planned.reasoning, self.produced),
            completed=self.completed,
            in_flight=not self.closed,
            disconnected_at=None if self.gone is None else self.gone - self.started,
            started_mono=self.started,
            gone_mono=self.gone,
        )


class Bill:
    """All accounts since the start or the last reset."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._accounts: list[Account] = []
        self._open = 0

    def open(self, account: Account) -> Account:
        """Enter an accepted request."""
        with self._changed:
            self._accounts.append(account)
            self._open += 1
        return account

    def close(self, account: Account, *, gone: bool) -> None:
        """The exchange is over; `gone`: because the client left."""
        with self._changed:
            account.gone = time.monotonic() if gone else None
            account.closed = True
            self._open -= 1
            self._changed.notify_all()

    def entries(self) -> list[Entry]:
        """A frozen copy, in order of acceptance."""
        with self._changed:
            return [account.entry() for account in self._accounts]

    def clear(self) -> None:
        """Forget what was billed. Requests in flight still count as in flight."""
        with self._changed:
            self._accounts = []

    @property
    def in_flight(self) -> int:
        """Accepted requests whose exchange is not over."""
        return self._open

    def wait_idle(self, timeout: float) -> bool:
        """True once nothing is in flight."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open == 0, timeout)

    def wait_gone(self, seconds: float, since: float | None, count: int) -> bool:
        """True once `count` disconnects were noticed between `since` and `since + seconds`; blocks until then."""
        earliest = float("-inf") if since is None else since
        latest = (time.monotonic() if since is None else since) + seconds

        def enough() -> bool:
            seen = [a.gone for a in self._accounts if a.gone is not None and earliest <= a.gone <= latest]
            return len(seen) >= count

        with self._changed:
            return self._changed.wait_for(enough, max(0.0, latest - time.monotonic()))


def sum_up(entries: list[Entry], model: str | None) -> Totals:
    """Totals of one model, or of all."""
    chosen = [entry for entry in entries if model is None or entry.model == model]
    return Totals(
        requests=len(chosen),
        prompt_tokens=sum(entry.prompt_tokens for entry in chosen),
        cached_tokens=sum(entry.cached_tokens for entry in chosen),
        completion_tokens=sum(entry.completion_tokens for entry in chosen),
    )
