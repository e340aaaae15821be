"""A storm: web processes on one database, hundreds of clients, `kill -9` meanwhile; and the books kept from outside.

The provider's bill is the independent truth. `Storm` starts everything it needs and stops it by its process id.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp
import orjson

from tests.fakes import Behaviour, Entry, ProviderProcess
from tests.faults.books import INPUT, OUTPUT, ROOT, Books

PER_MESSAGE = 64  # what the gateway adds to the bytes of a message to bound its tokens
MILLION = Decimal(1_000_000)


def most(characters: int, cap: int) -> Decimal:
    """The worst case of one message of so many ASCII characters and `cap` tokens of answer."""
    return ((characters + PER_MESSAGE) * INPUT + cap * OUTPUT) / MILLION


def cost_of(entry: Entry) -> Decimal:
    """What the provider would bill for one request."""
    return (entry.prompt_tokens * INPUT + entry.completion_tokens * OUTPUT) / MILLION


@dataclass
class Seen:
    """What the clients saw: whole answers by request id with their cost, and everything else counted."""

    answers: dict[uuid.UUID, Decimal] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)

    @property
    def refused(self) -> int:
        return self.others["429"]

    def with_(self, more: "Seen") -> "Seen":
        """This, and what was seen later."""
        return Seen(self.answers | more.answers, self.others + more.others)


@dataclass
class Watched:
    """Every look at the books from outside while the storm went on."""

    looks: int = 0
    overshoot: Decimal = Decimal(0)
    disagreements: list[str] = field(default_factory=list)


class Storm:
    """Provider, database, web processes. A context manager."""

    def __init__(self, admin_url: str | None, *, webs: int, seed: int) -> None:
        self.seed, self.random = seed, random.Random(seed)
        self.books = Books(admin_url)
        self.provider = ProviderProcess()
        self.webs = Webs(self.books, webs)
        self.keys: list[str] = []
        self.limit = Decimal(0)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Storm":
        with self._stack:
            self._stack.enter_context(self.books)
            self._stack.enter_context(self.provider)
            self.keys = self.books.run("prepare", self.provider.base_url)["keys"]
            self._stack = self._stack.pop_all()
        self._stack.callback(self.webs.stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def budget(self, amount: Decimal) -> None:
        self.books.limit("tenants", amount)
        self.limit = amount

    def left(self) -> Decimal:
        spent, held, _, _ = self.books.standing()
        return self.limit - spent - held

    # --- clients ------------------------------------------------------------------------------------------------------

    async def clients(self, count: int, ports: list[int], plan: Any) -> Seen:
        """`count` clients at once; each sends what `plan(number)` yields: (characters, cap, stream)."""
        seen = Seen()
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            await asyncio.gather(*(self._client(session, number, ports, plan, seen) for number in range(count)))
        return seen

    async def _client(
        self, session: aiohttp.ClientSession, number: int, ports: list[int], plan: Any, seen: Seen
    ) -> None:
        for turn, (characters, cap, stream) in enumerate(plan(number)):
            url = f"http://127.0.0.1:{ports[(number + turn) % len(ports)]}"
            key = self.keys[number % len(self.keys)]
            try:
                await one(session, url, key, ask(characters, cap, stream=stream), seen)
            except (TimeoutError, aiohttp.ClientError, OSError):
                seen.others["connection lost"] += 1
                await asyncio.sleep(0.02)

    # --- looking on ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def watched(self) -> Any:
        """Compare window, rows and limit every few milliseconds, each in one statement."""
        found, stop = Watched(), threading.Event()

        def look() -> None:
            while not stop.wait(0.005):
                spent, held, used, on_hold = self.books.standing()
                found.looks += 1
                found.overshoot = max(found.overshoot, spent + held - self.limit)
                if (spent, held) != (used, on_hold):
                    found.disagreements.append(f"window {spent} + {held}, rows {used} + {on_hold}")

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield found
        finally:
            stop.set()
            thread.join()

    async def killing(self, until: float, every_s: tuple[float, float]) -> int:
        """`kill -9` of a random web process, again and again. How many."""
        kills = 0
        while time.monotonic() < until:
            await asyncio.sleep(self.random.uniform(*every_s))
            kills += self.webs.kill(self.random)
        return kills

    def wait_until_nothing_is_held(self, patience_s: float = 30.0) -> float:
        """Seconds it took."""
        started = time.monotonic()
        while self.books.held() != (0, Decimal(0)):
            if time.monotonic() - started > patience_s:
                raise AssertionError(f"still held after {patience_s} s: {self.books.held()}")
            time.sleep(0.2)
        return time.monotonic() - started

    def billed(self) -> Decimal:
        assert self.provider.wait_idle(10)
        return sum((cost_of(entry) for entry in self.provider.bill()), Decimal(0))


class Webs:
    """Forked web processes on one socket (see tests/faults/webs.py)."""

    def __init__(self, books: Books, count: int) -> None:
        self._books, self._count = books, count
        self._parent: subprocess.Popen[str] | None = None
        self._alive: list[int] = []
        self._lock = threading.Lock()
        self.port = 0

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.faults.webs", str(self._count)]
        self._parent = subprocess.Popen(
            command, cwd=ROOT, env=self._books.environment, stdout=subprocess.PIPE, text=True
        )
        assert self._parent.stdout is not None
        self.port = int(self._parent.stdout.readline().split()[1])
        threading.Thread(target=self._listen, args=(self._parent.stdout,), daemon=True).start()
        wait_ready(self.port)

    def _listen(self, lines: Any) -> None:
        for line in lines:
            with self._lock:
                self._alive.append(int(line.split()[1]))

    def kill(self, chance: random.Random) -> int:
        """One of them, at random. 0 if none is left to kill just now."""
        with self._lock:
            if not self._alive:
                return 0
            pid = self._alive.pop(chance.randrange(len(self._alive)))
        os.kill(pid, signal.SIGKILL)
        return 1

    def stop(self) -> None:
        parent, self._parent = self._parent, None
        if parent is None:
            return
        parent.terminate()
        try:
            parent.wait(15)
        except subprocess.TimeoutExpired:
            for pid in self._alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            parent.kill()
            parent.wait()


@contextlib.contextmanager
def served(books: Books, count: int, *, workers: int = 1, **variables: str) -> Any:
    """`manage.py serve`, `count` times on ports of their own, with more variables: the ports."""
    children, ports = [], []
    try:
        for _ in range(count):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                ports.append(free.getsockname()[1])
            environment = books.environment | {"PORT": str(ports[-1]), "WEB_WORKERS": str(workers)} | variables
            children.append(subprocess.Popen([sys.executable, "manage.py", "serve"], cwd=ROOT, env=environment))
        for port in ports:
            wait_ready(port)
        yield ports
    finally:
        for child in children:
            child.terminate()
        for child in children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def wait_ready(port: int, patience_s: float = 60.0) -> None:
    until = time.monotonic() + patience_s
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def ask(characters: int, cap: int, *, stream: bool, model: str = "m") -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": f"fakeai/{model}",
        "messages": [{"role": "user", "content": "x" * characters}],
        "max_tokens": cap,
        "stream": stream,
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    return body


async def one(session: aiohttp.ClientSession, url: str, key: str, body: dict[str, Any], seen: Seen) -> None:
    """One request, read to its last byte."""
    headers = {"Authorization": f"Bearer {key}"}
    async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
        raw = await answer.read()
        if answer.status != 200:
            said = orjson.loads(raw)
            assert said["error"]["message"], raw  # JSON, always
            seen.others[str(answer.status)] += 1
            return
        request_id = uuid.UUID(answer.headers["x-request-id"])
    if body["stream"]:
        if not raw.endswith(b"data: [DONE]\n\n"):
            seen.others["cut stream"] += 1
            return
        frames = [frame[6:] for frame in raw.split(b"\n\n") if frame.startswith(b"data: {")]
        usage = next((found for frame in reversed(frames) if (found := orjson.loads(frame).get("usage"))), None)
        if usage is None or b'"error"' in frames[-1]:
            seen.others["stream error"] += 1
            return
        cost = Decimal(str(usage["cost"]))
    else:
        cost = Decimal(answer.headers["x-cost-incurred"])
    seen.answers[request_id] = cost


WHOLE = Behaviour(bill_whole_cap=True, chunks=("x",))
