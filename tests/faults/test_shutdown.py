"""SIGTERM: what is under way may finish within the grace period; what cannot is told so, and settled."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.fakes import Behaviour, FakeProvider
from tests.faults.books import ROOT, Books, given_postgres
from tests.faults.storm import ask, wait_ready
from tests.journeys.world import eventually

GRACE_S = 2


class Stream(threading.Thread):
    """A client that reads its stream to the end."""

    def __init__(self, url: str, key: str, model: str = "m") -> None:
        super().__init__(daemon=True)
        self.url, self.key, self.model = url, key, model
        self.text = ""
        self.started_well = threading.Event()

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        with httpx.stream(
            "POST", self.url, headers=headers, json=ask(10, 50, stream=True, model=self.model), timeout=30
        ) as answer:
            for piece in answer.iter_text():
                self.text += piece
                self.started_well.set()


@pytest.mark.parametrize(
    ("pause_s", "status", "ends_with"),
    [(0.05, "completed", "data: [DONE]\n\n"), (1.0, "partial", '"code":"overloaded"}}\n\n')],
    ids=["a stream that ends in time", "a late stream"],
)
def test_a_stream_under_way_at_sigterm(pause_s: float, status: str, ends_with: str) -> None:
    with FakeProvider() as vendor, Books(None) as books:
        vendor.script("*", Behaviour(text="one two three four five six seven eight", delay_between_s=pause_s))
        made = books.run("prepare", vendor.base_url)
        with running(books, GRACE_PERIOD_S=str(GRACE_S)) as (server, port):
            client = Stream(f"http://127.0.0.1:{port}/v1/chat/completions", made["keys"][0])
            client.start()
            assert client.started_well.wait(20)
            server.send_signal(signal.SIGTERM)
            told = time.monotonic()
            client.join(20)
            assert server.wait(20) == 0
            assert time.monotonic() - told < GRACE_S + 8
        assert client.text.endswith(ends_with), client.text[-300:]
        assert books.query("SELECT status, status_code FROM llm_usage_logs") == [(status, 200)]
        assert books.query("SELECT count(*) FROM billing_holds") == [(0,)]
        assert books.run("audit") == []


class Caller(threading.Thread):
    """A client that asks again and again, on one connection or on a new one each time, and never tries twice."""

    def __init__(self, url: str, key: str, *, keep_alive: bool) -> None:
        super().__init__(daemon=True)
        self.url, self.key, self.keep_alive = url, key, keep_alive
        self.enough = threading.Event()
        self.seen: list[object] = []

    def run(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if self.keep_alive else 0)
        headers = {"Authorization": f"Bearer {self.key}"}
        with httpx.Client(limits=limits, headers=headers, timeout=20) as client:
            while not self.enough.is_set():
                try:
                    self.seen.append(client.post(self.url, json=ask(10, 20, stream=False)).status_code)
                except httpx.HTTPError as error:
                    self.seen.append(repr(error))


def test_a_rolling_restart_of_two_processes_fails_no_request() -> None:
    with FakeProvider() as vendor, Books(given_postgres() if "DATABASE_URL" in os.environ else None) as books:
        vendor.script("*", Behaviour(delay_first_s=0.05))
        made = books.run("prepare", vendor.base_url)
        with running(books, WEB_WORKERS="2") as (server, port):
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            callers = [Caller(url, made["keys"][0], keep_alive=bool(number % 2)) for number in range(6)]
            before = workers_of(server.pid)
            for caller in callers:
                caller.start()
            server.send_signal(signal.SIGHUP)  # uvicorn's: each worker in turn, the new one before the old one goes
            eventually(lambda: len(workers_of(server.pid) - before) == 2, within_s=90, what="two new workers")
            eventually(lambda: not workers_of(server.pid) & before, within_s=30, what="the old ones' end")
            for caller in callers:
                caller.enough.set()
            for caller in callers:
                caller.join(20)
        answers = [one for caller in callers for one in caller.seen]
        assert len(answers) > 50
        assert Counter(answers) == {200: len(answers)}
        assert books.query("SELECT status, count(*) FROM llm_usage_logs GROUP BY status") == [
            ("completed", len(answers))
        ]
        assert books.query("SELECT count(*) FROM billing_holds") == [(0,)]
        assert books.run("audit") == []


def test_many_streams_under_way_at_sigterm_all_end_and_are_all_settled() -> None:
    streams = 80
    with FakeProvider() as vendor, Books(given_postgres() if "DATABASE_URL" in os.environ else None) as books:
        text = "one two three four five six seven eight"
        vendor.script("m", Behaviour(text=text, delay_between_s=0.5))
        vendor.script("slow", Behaviour(text=text, delay_between_s=10.0))
        made = books.run("prepare", vendor.base_url)
        with running(books, GRACE_PERIOD_S="8") as (server, port):
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            clients = [Stream(url, made["keys"][0], "slow" if number % 2 else "m") for number in range(streams)]
            # In waves: eighty first requests of a new process would not all be held within their 0.75 s everywhere.
            for first in range(0, streams, 16):
                for client in clients[first : first + 16]:
                    client.start()
                for client in clients[first : first + 16]:
                    assert client.started_well.wait(30)
            server.send_signal(signal.SIGTERM)
            for client in clients:
                client.join(30)
            assert server.wait(30) == 0
        done, cut = "data: [DONE]\n\n", '"code":"overloaded"}}\n\n'
        ends = Counter(
            next((end for end in (done, cut) if client.text.endswith(end)), client.text) for client in clients
        )
        assert ends == {done: streams // 2, cut: streams // 2}
        rows = books.query("SELECT status, count(*) FROM llm_usage_logs GROUP BY status ORDER BY status")
        assert rows == [("completed", streams // 2), ("partial", streams // 2)]
        assert books.query("SELECT count(*) FROM billing_holds") == [(0,)]
        assert books.run("audit") == []


@contextmanager
def running(books: Books, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`manage.py serve`, and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, settings = [sys.executable, "manage.py", "serve"], books.environment | {"PORT": str(port), **environment}
    server = subprocess.Popen(command, cwd=ROOT, env=settings)
    try:
        wait_ready(port)
        yield server, port
    finally:
        if server.poll() is None:
            server.terminate()
            try:
                server.wait(40)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def workers_of(pid: int) -> set[int]:
    """The server's worker processes, without multiprocessing's own helper."""
    found = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    return {int(line.split()[0]) for line in found.stdout.splitlines() if "spawn_main" in line}
