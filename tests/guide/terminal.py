"""A gateway started with `manage.py serve` on a database of its own, and a terminal to paste the guide's lines into."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from tests.faults.books import ROOT, Books, given_postgres

GUIDES_PORT = 8084
GUIDES_HOST = f"localhost:{GUIDES_PORT}"
PATIENCE_S = 60.0


class Gateway:
    """The server as its operator starts it, on an empty database that is migrated and gone afterwards."""

    def __enter__(self) -> "Gateway":
        self.books = Books(given_postgres() if os.environ.get("DATABASE_URL") else None)
        self.books.__enter__()
        self.server: subprocess.Popen[bytes] | None = None
        try:
            migrated = self.books.manage("migrate", "--verbosity", "0")
            assert migrated.returncode == 0, migrated.stderr
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.wait(30)
        self.books.__exit__()

    def shell(self, program: str) -> Any:
        """What a Python program prints last, as JSON, with Django set up on this database."""
        done = self.books.manage("shell", "--verbosity", "0", "-c", program)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])

    def serve(self) -> str:
        """Start it, on the guide's port unless that is taken, and return its address."""
        port = free_port()
        environment = self.books.environment | {"PORT": str(port)}
        self.server = subprocess.Popen(
            [sys.executable, "manage.py", "serve"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + PATIENCE_S
        while True:
            assert self.server.poll() is None, "the gateway did not start"
            assert time.monotonic() < until, "the gateway does not answer"
            try:
                httpx.get(f"http://localhost:{port}/health/live", timeout=5, trust_env=False)
            except httpx.HTTPError:
                time.sleep(0.05)
            else:
                return f"localhost:{port}"


def free_port() -> int:
    """The guide's if it is free; of several test processes only the first may have it, since it is one."""
    wanted = (GUIDES_PORT, 0) if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0" else (0,)
    for port in wanted:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise AssertionError


def commands(text: str) -> list[str]:
    """The curl commands of a text, each with all of its lines: those that follow are indented."""
    return [part.strip() for part in re.split(r"\n(?=\S)", text) if part.startswith("curl ")]


class Terminal:
    """A shell with variables, in a folder of its own. Only the address in a pasted line is changed, if it must be.

    Where curl is missing (or `curl` is False) httpx sends what the line says.
    """

    def __init__(self, host: str, folder: Path, variables: dict[str, str], *, curl: bool = True) -> None:
        self.host = host
        self.folder = folder
        self.variables = variables
        self.curl = curl and shutil.which("curl") is not None
        # So that the lines themselves need not be changed to learn the status.
        (folder / ".curlrc").write_text('silent\nwrite-out = "\\n%{http_code}"\n')
        self.environment = {"PATH": os.environ["PATH"], "CURL_HOME": str(folder), "HOME": str(folder)}

    def paste(self, line: str) -> tuple[int, Any]:
        """Run a curl line: the status and the JSON of the answer."""
        line = line.replace(GUIDES_HOST, self.host)
        if not self.curl:
            return self._without_curl(line)
        done = subprocess.run(
            ["/bin/sh", "-c", line], env=self.environment | self.variables, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)

    def _without_curl(self, line: str) -> tuple[int, Any]:
        for name, value in self.variables.items():
            line = line.replace(f"${name}", value)
        words = iter(shlex.split(line.replace("\\\n", " "))[1:])
        method, url, headers, body = "", "", {}, None
        for word in words:
            if word == "-X":
                method = next(words)
            elif word == "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            elif word == "-d":
                body = next(words)
            else:
                url = word
        answer = httpx.request(
            method or ("GET" if body is None else "POST"),
            url,
            headers=headers,
            content=body,
            timeout=60,
            trust_env=False,
        )
        return answer.status_code, answer.json()
