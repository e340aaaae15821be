"""Web processes that come back at once: forked from a parent that has imported everything and bound the socket.

python -m tests.faults.webs COUNT

Prints `port N`, then `web PID` for every process it starts. A dead one is replaced immediately. SIGTERM stops all.
A web process is what `manage.py serve` runs: the same application, the same server, its own ledger.
"""

import gc
import os
import signal
import socket
import sys
from types import FrameType
from typing import Any

import django


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def serve(listener: socket.socket) -> None:
    """One web process, until SIGTERM or death."""
    import uvicorn
    from django.conf import settings

    from llm.engine import runtime
    from tollgate.asgi import application

    runtime.reset()  # a ledger of its own: the owner of holds must be one process
    config = uvicorn.Config(
        application, http="httptools", loop="uvloop", ws="none", lifespan="on", log_config=None, access_log=False,
        backlog=2048, timeout_keep_alive=75, timeout_graceful_shutdown=settings.GRACE_PERIOD_S,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


class Parent:
    def __init__(self, count: int) -> None:
        self.count = count
        self.children: set[int] = set()
        self.stopping = False
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(2048)

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self.stop)
        say(f"port {self.listener.getsockname()[1]}")
        for _ in range(self.count):
            self.fork()
        while self.children:
            pid, _ = os.wait()
            self.children.discard(pid)
            if not self.stopping:
                self.fork()

    def fork(self) -> None:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                serve(self.listener)
            finally:
                os._exit(0)
        self.children.add(pid)
        say(f"web {pid}")

    def stop(self, _number: int, _frame: FrameType | None) -> Any:
        self.stopping = True
        for pid in self.children:
            os.kill(pid, signal.SIGTERM)


def main() -> None:
    django.setup()
    import uvicorn  # noqa: F401 - imported once, before the forks

    import tollgate.asgi  # noqa: F401

    gc.freeze()
    Parent(int(sys.argv[1])).run()


if __name__ == "__main__":
    main()
