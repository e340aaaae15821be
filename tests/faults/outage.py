"""Clients that never stop asking while the database goes away and comes back, and what they and the books must show."""

import asyncio
import itertools
import json
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp

from tests.faults.storm import Storm, ask
from tests.faults.tally import Tally

EVERY_S = 0.04  # a request, whatever became of those before: clients that wait for one another would not ask
REFUSED_WITHIN_S = 1.0
BACK_WITHIN_S = 5.0
SETTLE_S = 5.0  # what an answer may wait for its settlement
PATHS = ("/v1/chat/completions", "/api/v1/llm/chat/completions")


@dataclass
class Tried:
    """One request as its client saw it."""

    sent: float
    took: float
    status: int
    whole: bool
    request_id: uuid.UUID
    error: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    cost: Decimal | None = None  # None: not told


@dataclass
class Outage:
    """One fault on one web process. `broken` and `mended` are moments of time.monotonic()."""

    weather: Storm
    port: int
    tries: list[Tried] = field(default_factory=list)
    broken: float = 0.0
    mended: float = 0.0
    _stop: bool = False

    async def run(self, fault: Callable[["Outage"], Awaitable[None]], *, afterwards_s: float = 1.0) -> None:
        """Load, the fault, and load until it has been well for a while."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            clients = asyncio.create_task(self._clients(session))
            await self._well()
            self.broken = time.monotonic()
            await fault(self)
            self.mended = time.monotonic()
            await self._well()
            await asyncio.sleep(afterwards_s)
            self._stop = True
            await clients

    async def _well(self) -> None:
        """Until a request sent from now on is answered."""
        since = time.monotonic()
        while not any(tried.status == 200 and tried.sent >= since for tried in self.tries):
            assert time.monotonic() < since + 60, Counter(tried.status for tried in self.tries[-100:])
            await asyncio.sleep(0.02)

    async def _clients(self, session: aiohttp.ClientSession) -> None:
        async with asyncio.TaskGroup() as group:
            for turn in itertools.count():
                if self._stop:
                    return
                # Some of what is under way when it breaks ends while it is broken, some after.
                model = "slow" if turn % 8 == 0 else "m"
                path, key = PATHS[turn // 2 % 2], self.weather.keys[turn % 4]
                group.create_task(self._one(session, path, key, model, bool(turn % 3)))
                await asyncio.sleep(EVERY_S)

    async def _one(self, session: aiohttp.ClientSession, path: str, key: str, model: str, stream: bool) -> None:
        body = ask(10, 5, stream=stream, model=model)
        sent = time.monotonic()
        headers = {"Authorization": f"Bearer {key}"}
        url = f"http://127.0.0.1:{self.port}{path}"
        async with session.post(url, json=body, headers=headers) as answer:
            raw = await answer.read()
        tried = Tried(
            sent=sent,
            took=time.monotonic() - sent,
            status=answer.status,
            whole=answer.status == 200 and (not stream or raw.endswith(b"data: [DONE]\n\n")),
            request_id=uuid.UUID(answer.headers["x-request-id"]),
            headers={name.lower(): value for name, value in answer.headers.items()},
        )
        if answer.status != 200:
            tried.error = json.loads(raw)["error"]
        elif "x-cost-incurred" in answer.headers:
            tried.cost = Decimal(answer.headers["x-cost-incurred"])
        self.tries.append(tried)

    # --- what must hold -----------------------------------------------------------------------------------------------

    def answers(self) -> list[Tried]:
        return [tried for tried in self.tries if tried.status == 200]

    def refusals(self) -> list[Tried]:
        return [tried for tried in self.tries if tried.status != 200]

    @property
    def recovery_s(self) -> float:
        """From the mending to the moment in which the last refused request was sent."""
        return max([0.0, *(tried.sent - self.mended for tried in self.refusals())])

    def judge_statuses(self, tally: Tally, *, longest_answer_s: float) -> None:
        """200, or 503 in JSON at once, saying when to come back; and soon after the mending nothing but 200."""
        tally.runs += sum(tried.sent + tried.took >= self.broken and tried.sent <= self.mended for tried in self.tries)
        for tried in self.tries:
            with tally.checking("statuses"):
                told = f"{tried.status} after {tried.took:.2f} s, {tried.sent - self.broken:.2f} s after the break"
                assert tried.status in {200, 503}, f"{told}: {tried.error}"
                if tried.status == 200:
                    assert tried.whole, f"a cut answer: {told}"
                    assert tried.took < longest_answer_s + SETTLE_S + REFUSED_WITHIN_S, told
                else:
                    assert tried.error["code"] == "overloaded", tried.error
                    assert tried.error["type"] == "overloaded_error", tried.error
                    assert tried.headers["x-should-retry"] == "true"
                    assert 1 <= int(tried.headers["retry-after"]) <= 5
                    assert tried.took < REFUSED_WITHIN_S, told
        with tally.checking("statuses"):
            assert self.recovery_s < BACK_WITHIN_S, f"well only {self.recovery_s:.1f} s after the mending"
        tally.recovery_s = max(tally.recovery_s or 0.0, self.recovery_s)

    def judge_books(self, tally: Tally, calls_before: int) -> None:
        """The provider was called for what was answered and for nothing else; every call is paid, once."""
        weather = self.weather
        with tally.checking("leaks"):
            weather.wait_until_nothing_is_held()
        billed = weather.billed()
        calls = len(weather.provider.bill()) - calls_before
        with tally.checking("statuses"):
            answered = len(self.answers())
            assert calls == answered, f"{calls} calls of the provider for {answered} answers"
        with tally.checking("charges"):
            spent, held, used, on_hold = weather.books.standing()
            assert (spent, held, on_hold) == (billed, 0, 0), f"spent {spent}, held {held}, billed {billed}"
            assert used == spent, f"rows {used}, windows {spent}"
        charged = {request: amount for request, (_, amount) in weather.books.rows().items()}
        for request, amount in weather.books.corrections().items():
            charged[request] += amount
        for tried in self.tries:
            with tally.checking("charges"):
                assert (tried.request_id in charged) == (tried.status == 200), f"{tried.status}: {tried.request_id}"
                if tried.cost is not None:
                    assert charged[tried.request_id] == tried.cost
        with tally.checking("leaks"):
            done = weather.books.manage("reconcile", "--check")
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
