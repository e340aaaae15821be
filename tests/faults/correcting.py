"""Workers that go on with a correction run and die by `kill -9` at a named point: forked from one parent, which has
imported everything and touched no database.

python -m tests.faults.correcting RUN_ID POINT...     in this order; says of each whether it was killed
"""

import itertools
import os
import signal
import sys
import uuid
from collections.abc import Callable
from typing import Any

import django

PAGE, BATCH = 4, 3
# Each: what is called, whether it dies before or after that, and at which call.
POINTS = {
    "work out: a page is written, not committed": ("page", "after", 2),
    "work out: between two pages": ("page", "before", 2),
    "book: in the transaction, nothing written": ("insert", "before", 1),
    "book: windows and adjustments written, not committed": ("insert", "after", 2),
    # By then a batch is booked, which is looked at again and left as it is; the next is booked.
    "book: between two batches": ("batch", "before", 3),
}


def dying(real: Callable[..., Any], when: str, at: int) -> Callable[..., Any]:
    calls = itertools.count(1)

    def call(*args: Any, **kwargs: Any) -> Any:
        last = next(calls) == at
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


def go_on(run_id: uuid.UUID, point: str) -> None:
    from django.utils import timezone

    from billing import rows
    from llm.catalog import corrections, repricing

    repricing.PAGE, corrections.BATCH = PAGE, BATCH
    name, when, at = POINTS[point]
    owner, attribute = {
        "page": (repricing, "_work_out"), "insert": (rows.CORRECTIONS, "insert"), "batch": (corrections, "_book_batch"),
    }[name]  # fmt: skip
    setattr(owner, attribute, dying(getattr(owner, attribute), when, at))
    corrections.go_on(run_id, now=timezone.now())


def main(run_id: str, *points: str) -> None:
    django.setup()
    for point in points:
        pid = os.fork()
        if pid == 0:
            try:
                go_on(uuid.UUID(run_id), point)
            finally:
                sys.stdout.flush()
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        sys.stdout.write(f"{point}: {'killed' if killed else 'ended'}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
