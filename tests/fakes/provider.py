"""The fake provider's front door; as a program it prints its port and serves until it is told to end.

python -m tests.fakes.provider --port 0
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from .behaviour import Behaviour
from .bill import Entry, Totals
from .exchange import Captured
from .process import ProviderProcess
from .server import FakeProvider

__all__ = ["Behaviour", "Captured", "Entry", "FakeProvider", "ProviderProcess", "Totals"]


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="A scripted LLM provider on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with FakeProvider(port=parser.parse_args().port) as provider:
        sys.stdout.write(f"{provider.port}\n")
        sys.stdout.flush()
        ended.wait()


if __name__ == "__main__":
    main()
