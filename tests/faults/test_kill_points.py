"""`kill -9` at every named point between a request's reserve and its last byte: one row or none, and never too little.

Before the reserve is committed nothing has happened. Until the settlement is committed the hold covers what the
provider bills: whoever lives posts it in full. After that the row stands at its true cost.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.client import HTTPException
from typing import Any

from tests.fakes import Behaviour, ProviderProcess
from tests.faults.books import ROOT, Books, given_postgres
from tests.faults.doomed import POINTS
from tests.faults.storm import ask, cost_of, most, wait_ready
from tests.journeys.world import eventually

CHARACTERS, CAP = 100, 50
HOLD = most(CHARACTERS, CAP)
ON_POSTGRES = "DATABASE_URL" in os.environ
NOTHING = 2  # points before the reserve is committed
SETTLED = list(POINTS).index("settle: committed, nobody told")
STATUS_LINE = "the client has its status line"


class Webs:
    """The parent of doomed processes, told what to do line by line."""

    def __init__(self, books: Books) -> None:
        command = [sys.executable, "-m", "tests.faults.doomed"]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._parent = subprocess.Popen(command, cwd=ROOT, env=books.environment, **pipes)
        self.port = int(self._line().split()[1])

    def _line(self) -> str:
        assert self._parent.stdout is not None
        return self._parent.stdout.readline()

    @contextmanager
    def one(self, point: str) -> Iterator[int]:
        """A process that dies at the point; afterwards it must be dead."""
        assert self._parent.stdin is not None
        self._parent.stdin.write(point + "\n")
        self._parent.stdin.flush()
        pid = int(self._line().split()[1])
        wait_ready(self.port)
        yield pid
        if point == "none":
            os.kill(pid, signal.SIGTERM)
        assert self._line() == "dead\n"

    def stop(self) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait(20)


def send(port: int, key: str, stream: bool) -> bytes:
    """What a client gets before the process dies."""
    body = json.dumps(ask(CHARACTERS, CAP, stream=stream)).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, headers)
    got = b""
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            while piece := answer.read1():
                got += piece
    except (urllib.error.URLError, HTTPException, OSError):
        pass
    return got


def age_the_leases(books: Books) -> None:
    """As if the dead had been dead for a minute: who lives renews its own lease every two seconds."""
    if books.postgres:
        books.change("UPDATE billing_leases SET renewed_at = renewed_at - INTERVAL '1 minute'")
    else:
        books.change("UPDATE billing_leases SET renewed_at = datetime(renewed_at, '-1 minute')")


def test_a_process_killed_at_any_point_leaves_one_row_or_none_and_never_too_little() -> None:
    asked = [(point, stream) for point in POINTS for stream in (False, True)]
    with ProviderProcess() as provider, Books(given_postgres() if ON_POSTGRES else None) as books:
        key = books.run("prepare", provider.base_url)["keys"][0]
        webs = Webs(books)
        try:
            expected = []
            for point, stream in asked:
                # A stream that comes in one piece may be settled while its status line is written.
                between_s = 0.3 if point == STATUS_LINE else 0
                provider.script("m", Behaviour(bill_whole_cap=True, chunks=3, delay_between_s=between_s))
                before = provider.bill()
                with webs.one(point):
                    send(webs.port, key, stream)
                billed = [cost_of(entry) for entry in provider.bill()[len(before) :]]
                expected += outcome(point, stream, billed)
            age_the_leases(books)
            with webs.one("none"):
                eventually(lambda: books.held() == (0, Decimal(0)), within_s=20, what="letting go of what they held")
        finally:
            webs.stop()
        assert [found for _, found in sorted(books.rows().items())] == expected  # ids are in order of time
        billed = sum((cost_of(entry) for entry in provider.bill()), Decimal(0))
        assert books.standing() == (sum(cost for _, cost in expected), 0, sum(cost for _, cost in expected), 0)
        assert books.standing()[0] >= billed > 0
        assert books.run("audit") == []


def outcome(point: str, stream: bool, billed: list[Decimal]) -> list[tuple[str, Decimal]]:
    """The row a request must leave, by where its process dies, and what the provider billed for it."""
    place = list(POINTS).index(point)
    if place < NOTHING:
        assert billed == []
        return []
    # A plain answer has its status line once all of it is settled; a stream long before.
    if place >= SETTLED or (point == STATUS_LINE and not stream):
        [cost] = billed
        return [("completed", cost)]
    assert sum(billed) <= HOLD
    return [("expired", HOLD)]
