"""`FakeProvider`: the server in a thread of its own, its scripts, and what tests may ask it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections import deque
from types import TracebackType
from typing import Any, Self

from .behaviour import DEFAULT, Behaviour, Json
from .bill import Bill, Entry, Totals, sum_up
from .exchange import Captured, Desk, Exchange, parsed
from .http1 import ClientGoneError, Peer, Reply, Request, read_request

ANY = "*"


class FakeProvider:
    """A scripted LLM vendor on 127.0.0.1, speaking OpenAI, Anthropic and Gemini, with its own bill.

    Use it as a context manager, or `start()` and `stop()`; after a stop, `start()` takes the same port again. Scripts
    survive that. Every method may be called from any thread.

    A model's behaviour is found so: the first one queued for it by `once`, else queued for "*", else its `script`, else
    the script of "*", else the honest default. The model lists go by the name "/v1/models", Google's token endpoint by
    "/token".
    """

    def __init__(self, *, port: int = 0, expected_key: str | None = None, keep_requests: int = 10_000) -> None:
        self.port = port
        self.expected_key = expected_key
        self._bill = Bill()
        self._requests: deque[Captured] = deque(maxlen=keep_requests)
        self._lock = threading.Lock()
        self._scripts: dict[str, Behaviour] = {}
        self._queues: dict[str, deque[Behaviour]] = {}
        self._ordinal = 0
        self._peers: set[Peer] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._refused: set[str] = set()
        self._desk = Desk(self._bill, self._take, self._models, self._accepts)

    # Life

    def start(self) -> Self:
        """Listen; returns when connections are accepted. Raises OSError if the port is taken."""
        ready = threading.Event()
        failed: list[OSError] = []
        self._thread = threading.Thread(target=self._run, args=(ready, failed), name="fake-provider", daemon=True)
        self._thread.start()
        ready.wait()
        if failed:
            self._thread.join()
            self._thread = None
            raise failed[0]
        return self

    def stop(self) -> None:
        """Drop every connection and end the thread. Harmless if it is not running."""
        thread, loop = self._thread, self._loop
        if thread is None or loop is None:
            return
        loop.call_soon_threadsafe(self._stopping.set)
        thread.join()
        self._thread = self._loop = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _run(self, ready: threading.Event, failed: list[OSError]) -> None:
        try:
            asyncio.run(self._serve(ready))
        except OSError as error:
            failed.append(error)
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await self._loop.create_server(self._peer, "127.0.0.1", self.port, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stopping.wait()
        server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for peer in list(self._peers):
            peer.writer.transport.abort()
        await asyncio.sleep(0)  # one turn of the loop closes the aborted sockets

    def _peer(self) -> Peer:
        return Peer(self._begin, self._peers.discard)

    def _begin(self, peer: Peer) -> None:
        self._peers.add(peer)
        task = asyncio.get_running_loop().create_task(self._connection(peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, peer: Peer) -> None:
        peer.writer.transport.set_write_buffer_limits(high=0)
        try:
            going = True
            while going and (request := await read_request(peer)) is not None:
                if request.path.startswith("/control/"):
                    going = await self._control(peer, request)
                else:
                    going = await Exchange(self._desk, peer, request, self._capture(request)).run()
        finally:
            peer.writer.close()

    # Scripts

    def script(self, model: str, behaviour: Behaviour) -> None:
        """Behaviour of a model from now on. "*" is every model without a script."""
        with self._lock:
            self._scripts[model] = behaviour

    def once(self, model: str, *behaviours: Behaviour, times: int = 1) -> None:
        """Queue behaviours for the next requests of a model, each for one request; the row `times` times."""
        with self._lock:
            self._queues.setdefault(model, deque()).extend(behaviours * times)

    def revoke(self, key: str) -> None:
        """401 for this key from now on, the model list included; every other key is taken as before."""
        with self._lock:
            self._refused.add(key)

    def reinstate(self, key: str) -> None:
        """Take a revoked key again."""
        with self._lock:
            self._refused.discard(key)

    def _accepts(self, key: str) -> bool:
        with self._lock:
            return key not in self._refused and self.expected_key in (None, key)

    def reset(self) -> None:
        """Forget scripts, queues, revoked keys, requests and the bill."""
        with self._lock:
            self._refused.clear()
            self._scripts.clear()
            self._queues.clear()
            self._requests.clear()
        self._bill.clear()

    def _take(self, model: str) -> Behaviour:
        with self._lock:
            for name in (model, ANY):
                if queue := self._queues.get(name):
                    return queue.popleft()
            return self._scripts.get(model) or self._scripts.get(ANY) or DEFAULT

    def _models(self) -> list[str]:
        with self._lock:
            names = {*self._scripts, *self._queues}
        return sorted(name for name in names if name != ANY and not name.startswith("/")) or ["fake-model"]

    # What happened

    @property
    def root_url(self) -> str:
        """Without the `/v1`: what Anthropic's SDK calls the base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """Ends in `/v1`."""
        return f"{self.root_url}/v1"

    @property
    def requests(self) -> list[Captured]:
        """The latest requests (control ones excepted), oldest first."""
        with self._lock:
            return list(self._requests)

    @property
    def in_flight(self) -> int:
        """Accepted completions and embeddings that are being answered."""
        return self._bill.in_flight

    @property
    def open_connections(self) -> int:
        """Sockets open now, idle ones included."""
        return len(self._peers)

    def bill(self) -> list[Entry]:
        """Every accepted request, in order. Written before the last byte is sent, so a finished answer is in it."""
        return self._bill.entries()

    def totals(self, model: str | None = None) -> Totals:
        """Sums of the bill, of one model or of all."""
        return sum_up(self.bill(), model)

    def wait_idle(self, timeout: float = 5.0) -> bool:
        """Block until nothing is in flight; False if that takes longer."""
        return self._bill.wait_idle(timeout)

    def cancelled_within(self, seconds: float, *, since: float | None = None, count: int = 1) -> bool:
        """Block until `count` clients were seen to leave before the end of their answer.

        With `since` (`time.monotonic()` of the hang-up): counted only from then to `seconds` later. Without: all since
        the last reset, waiting `seconds` from now.
        """
        return self._bill.wait_gone(seconds, since, count)

    def _capture(self, request: Request) -> Captured:
        body = parsed(request.body)
        with self._lock:
            self._ordinal += 1
            captured = Captured(
                self._ordinal, request.method, request.path, request.headers, body, request.body, time.monotonic()
            )
            self._requests.append(captured)
        return captured

    # Control over HTTP, for the process of its own

    async def _control(self, peer: Peer, request: Request) -> bool:
        status, answer = self._controlled(request.method, request.path, parsed(request.body))
        reply = Reply(peer, DEFAULT, keep_alive=request.keep_alive)
        body = json.dumps(answer).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        try:
            await reply.send(reply.head(status, headers) + body)
        except ClientGoneError:
            return False
        return request.keep_alive

    def _controlled(self, method: str, path: str, body: Any) -> tuple[int, Json]:
        """Status and body of a control request; the README of it is `process.py`."""
        if method == "GET":
            found = self._report(path)
            return (404, {"error": "unknown control path"}) if found is None else (200, found)
        if path == "/control/reset":
            self.reset()
            return 200, {"ok": True}
        if path != "/control/script" or not isinstance(body, dict):
            return 404, {"error": "POST a JSON object to /control/script, or to /control/reset"}
        try:
            if "expected_key" in body:
                self.expected_key = body["expected_key"]
            if "model" in body:
                behaviour = Behaviour(**body.get("behaviour", {}))
                if body.get("once"):
                    self.once(body["model"], behaviour, times=int(body.get("times", 1)))
                else:
                    self.script(body["model"], behaviour)
        except (TypeError, ValueError) as error:
            return 400, {"error": str(error)}
        return 200, {"ok": True}

    def _report(self, path: str) -> Json | None:
        if path == "/control/bill":
            entries = self.bill()
            totals = dataclasses.asdict(sum_up(entries, None))
            return {"entries": [dataclasses.asdict(entry) for entry in entries], "totals": totals}
        if path == "/control/requests":
            rows = [(one.ordinal, one.method, one.path, one.headers, one.body, one.at) for one in self.requests]
            names = ("ordinal", "method", "path", "headers", "body", "at")
            return {"requests": [dict(zip(names, row, strict=True)) for row in rows]}
        if path == "/control/state":
            return {"in_flight": self.in_flight, "open_connections": self.open_connections}
        return None
