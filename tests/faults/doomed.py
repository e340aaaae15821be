"""Web processes that die by `kill -9` at a named point of a request: forked from a parent that has imported everything.

python -m tests.faults.doomed

Prints `port N`. For every line `POINT` on standard input it forks a web process that kills itself there, and prints
`web PID`, then `dead` when it is. The point `none` is a process that lives until SIGTERM.
"""

import functools
import gc
import inspect
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import django

from tests.faults.webs import say, serve

# Each: what is wrapped, whether it dies before or after, and (for what both halves of a request pass) in which half.
POINTS = {
    "reserve: in the transaction, nothing written": ("posting.write", "before", "reserve"),
    "reserve: all written, not committed": ("ledger.apply", "after", "reserve"),
    "reserve: committed, nobody told": ("commit.deliver", "before", "reserve"),
    "reserved, the provider not called": ("client.send", "before", ""),
    "the provider has answered with its status": ("client.send", "after", ""),
    "the first event is here, or the whole answer": ("attempt.answered", "after", ""),
    "the client has its status line": ("exchange.start", "after", ""),
    "settle: about to": ("booking.settle", "before", ""),
    "settle: in the transaction, nothing written": ("posting.write", "before", "settle"),
    "settle: all written, not committed": ("ledger.apply", "after", "settle"),
    "settle: committed, nobody told": ("commit.deliver", "before", "settle"),
    "settled, the last byte not sent": ("booking.settle", "after", ""),
    "the last byte is sent": ("exchange.write", "after", ""),
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wrap(owner: Any, name: str, when: str, counts: Callable[..., bool]) -> None:
    """Die before or after `owner.name`, if `counts` says so of its arguments."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def plain(*args: Any, **kwargs: Any) -> Any:
        if when == "before" and counts(*args, **kwargs):
            die()
        result = real(*args, **kwargs)
        if when == "after" and counts(*args, **kwargs):
            die()
        return result

    @functools.wraps(real)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        if when == "before" and counts(*args, **kwargs):
            die()
        result = await real(*args, **kwargs)
        if when == "after" and counts(*args, **kwargs):
            die()
        return result

    setattr(owner, name, awaited if inspect.iscoroutinefunction(real) else plain)


def doom(point: str) -> None:
    """Patch this process, which has its application imported already."""
    from billing import group_commit, ledger, posting
    from llm.engine import attempt, booking, http
    from llm.wire import app

    place, when, half = POINTS[point]
    wanted = posting.Reserve if half == "reserve" else posting.Settle

    def always(*_: Any, **__: Any) -> bool:
        return True

    def in_half(_: Any, operations: Any, *__: Any) -> bool:
        return any(isinstance(getattr(one, "operation", one), wanted) for one in operations)

    def writes_half(_: Any, batch: Any) -> bool:
        return bool(batch.holds if half == "reserve" else batch.usage)

    def is_last(*_: Any, more: bool) -> bool:
        return not more

    if place == "posting.write":
        wrap(posting, "write", when, writes_half)
    elif place == "ledger.apply":
        wrap(ledger.Ledger, "_apply", when, in_half)
    elif place == "commit.deliver":
        wrap(group_commit.GroupCommit, "_deliver", when, in_half)
    elif place == "client.send":
        wrap(http.Client, "send", when, always)
    elif place == "attempt.answered":
        wrap(attempt, "complete", when, always)
        wrap(attempt, "begin", when, always)
    elif place == "booking.settle":
        wrap(booking.Booking, "_settle", when, always)
    elif place == "exchange.start":
        wrap(app.Exchange, "start", when, always)
    else:
        wrap(app.Exchange, "write", when, is_last)


def main() -> None:
    django.setup()
    import uvicorn  # noqa: F401 - imported once, before the forks

    import tollgate.asgi  # noqa: F401

    gc.freeze()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    say(f"port {listener.getsockname()[1]}")
    for line in sys.stdin:
        point = line.strip()
        pid = os.fork()
        if pid == 0:
            if point != "none":
                doom(point)
            try:
                serve(listener)
            finally:
                os._exit(0)
        say(f"web {pid}")
        os.waitpid(pid, 0)
        say("dead")


if __name__ == "__main__":
    main()
