"""Two child processes kept together: what `make run` does with the web server and the worker.

Nothing is restarted silently. If one child ends, the other is stopped and the failure is reported. A stop is asked for
with SIGTERM, waited for, and enforced with SIGKILL on the child's whole process group.
"""

import contextlib
import ctypes
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

_POLL_S = 0.1
_SLACK_S = 15  # what a child may need beyond the grace period to close its database and exit
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)  # loaded before forking: a child should do as little as possible before it starts


class ChildFailedError(Exception):
    """A child ended by itself, or never became ready. The message names it and says what to look at."""


@dataclass(frozen=True)
class Program:
    """One child: a name for messages and the command that starts it."""

    name: str
    command: Sequence[str]


class Supervisor:
    """Starts programs, waits, and stops them all. Used as a context manager, so that no way out leaves one behind."""

    def __init__(self, *, folder: Path, environment: Mapping[str, str], grace_s: float) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._grace_s = grace_s
        self._children: list[tuple[Program, subprocess.Popen[bytes]]] = []
        self.stopping = Event()

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def start(self, program: Program) -> None:
        """Start one child in a process group of its own: Ctrl-C in the terminal then reaches us alone, and we stop the
        children in order instead of all their grandchildren dying at once.
        """
        child = subprocess.Popen(
            program.command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else None,
            process_group=0,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  # the caller has no threads
        )
        self._children.append((program, child))

    def wait_until(self, ready: Callable[[], bool], *, deadline_s: float) -> bool:
        """Poll `ready`. False if a stop was asked for meanwhile; ChildFailedError on a dead child or too late."""
        end = time.monotonic() + deadline_s
        while not ready():
            self._raise_if_one_ended()
            if time.monotonic() > end:
                raise ChildFailedError(f"The server did not answer within {deadline_s:g} s. Its messages are above.")
            if self.stopping.wait(_POLL_S):
                return False
        return True

    def watch(self) -> None:
        """Return once a stop is asked for. Raises ChildFailedError if a child ends before."""
        while not self.stopping.wait(_POLL_S):
            self._raise_if_one_ended()

    def stop(self) -> list[str]:
        """Stop every child, last started first asked; returns the names of those that had to be killed."""
        self.stopping.set()
        for _program, child in reversed(self._children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        end = time.monotonic() + self._grace_s + _SLACK_S
        killed = []
        for program, child in self._children:
            try:
                child.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                killed.append(program.name)
            # The group, even if the child itself is gone: what it started must not outlive it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        self._children.clear()
        return killed

    def _raise_if_one_ended(self) -> None:
        for program, child in self._children:
            status = child.poll()
            if status is not None:
                how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
                raise ChildFailedError(f"The {program.name} {how}. Its messages are above.")


def answers(host: str, port: int, path: str) -> bool:
    """Whether `GET path` gives 200 within a second. Plain sockets: proxies named in the environment do not apply."""
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def reachable_host(host: str) -> str:
    """The address to reach a server that listens on `host`: loopback for the wildcard ones."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104  # compared, not bound


def _has_descriptor(stream: object) -> bool:
    try:
        stream.fileno()  # type: ignore[attr-defined]  # the point of the try: a test's stream may lack it
    except (AttributeError, OSError):
        return False
    return True


def _end_with_parent() -> None:
    """In the child, before it starts: ask Linux for SIGTERM when the supervisor dies, even by SIGKILL."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
