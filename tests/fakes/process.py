"""The provider as a process of its own: `ProviderProcess` starts it and speaks to its control endpoints.

POST /control/script    {"model", "behaviour": {field: value}, "once"?: true, "times"?: n, "expected_key"?: str | null}
POST /control/reset     forget scripts, queues, requests and the bill
GET  /control/bill      {"entries": [Entry as JSON], "totals"}
GET  /control/requests  {"requests": [{ordinal, method, path, headers, body, at}]}
GET  /control/state     {"in_flight", "open_connections"}
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .behaviour import Behaviour, Json
from .bill import Entry, Totals, sum_up
from .exchange import Captured

_ROOT = Path(__file__).resolve().parents[2]


class ProviderProcess:
    """The same questions as `FakeProvider`, answered over HTTP. For load tests, where threads would share one GIL."""

    def __init__(self, *, port: int = 0) -> None:
        self.port = port
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start the process; returns when it listens."""
        command = [sys.executable, "-m", "tests.fakes.provider", "--port", str(self.port)]
        self._child = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        line = self._child.stdout.readline() if self._child.stdout else ""
        if not line.strip():
            self.stop()
            raise OSError("the fake provider did not start; see its stderr")
        self.port = int(line)
        return self

    def stop(self) -> None:
        """End the process."""
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdout is not None:
            child.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def root_url(self) -> str:
        """Without the `/v1`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """Ends in `/v1`."""
        return f"{self.root_url}/v1"

    def script(self, model: str, behaviour: Behaviour) -> None:
        """Behaviour of a model from now on."""
        self._call("POST", "/control/script", {"model": model, "behaviour": behaviour.to_json()})

    def once(self, model: str, *behaviours: Behaviour, times: int = 1) -> None:
        """Queue behaviours, each for one request; the row `times` times."""
        for behaviour in behaviours * times:
            self._call("POST", "/control/script", {"model": model, "behaviour": behaviour.to_json(), "once": True})

    def expect_key(self, key: str | None) -> None:
        """401 for every other key."""
        self._call("POST", "/control/script", {"expected_key": key})

    def reset(self) -> None:
        """Forget scripts, queues, requests and the bill."""
        self._call("POST", "/control/reset")

    def bill(self) -> list[Entry]:
        """Every accepted request."""
        return [Entry(**row) for row in self._call("GET", "/control/bill")["entries"]]

    def totals(self, model: str | None = None) -> Totals:
        """Sums of the bill."""
        return sum_up(self.bill(), model)

    @property
    def requests(self) -> list[Captured]:
        """The latest requests; `raw` is empty."""
        return [Captured(raw=b"", **row) for row in self._call("GET", "/control/requests")["requests"]]

    def wait_idle(self, timeout: float = 5.0) -> bool:
        """Wait until nothing is in flight."""
        until = time.monotonic() + timeout
        while self._call("GET", "/control/state")["in_flight"]:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def _call(self, method: str, path: str, body: Json | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode())
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(answer["error"])
        return answer
