"""SIGTERM: what is under way may finish within the grace period; what cannot is told so, and settled."""

import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from tests.fakes import Behaviour, FakeProvider
from tests.faults.books import ROOT, Books
from tests.faults.storm import ask, wait_ready

GRACE_S = 2


class Stream(threading.Thread):
    """A client that reads its stream to the end."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(daemon=True)
        self.url, self.key = url, key
        self.text = ""
        self.started_well = threading.Event()

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        with httpx.stream("POST", self.url, headers=headers, json=ask(10, 50, stream=True), timeout=30) as answer:
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
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = books.environment | {"PORT": str(port), "GRACE_PERIOD_S": str(GRACE_S)}
        server = subprocess.Popen([sys.executable, "manage.py", "serve"], cwd=ROOT, env=environment)
        try:
            wait_ready(port)
            client = Stream(f"http://127.0.0.1:{port}/v1/chat/completions", made["keys"][0])
            client.start()
            assert client.started_well.wait(20)
            server.send_signal(signal.SIGTERM)
            told = time.monotonic()
            client.join(20)
            assert server.wait(20) == 0
            assert time.monotonic() - told < GRACE_S + 8
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()
        assert client.text.endswith(ends_with), client.text[-300:]
        assert books.query("SELECT status, status_code FROM llm_usage_logs") == [(status, 200)]
        assert books.query("SELECT count(*) FROM billing_holds") == [(0,)]
        assert books.run("audit") == []
