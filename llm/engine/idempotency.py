"""`Idempotency-Key`: one request at a time under a key, and always the same one.

Answers are not stored, so a repeat after the first has ended runs again; what this prevents is a client that retries
while its first try is still being paid for. Counted per process, bounded, forgotten after ten minutes.
"""

import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from llm.errors import IdempotencyConflict, IdempotencyMismatch

KEEP = 10_000
KEEP_S = 600.0


class Idempotency:
    """What was sent under which key: (digest of the body, when, whether it is under way)."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[uuid.UUID, str], tuple[bytes, float, bool]] = OrderedDict()

    @contextmanager
    def once(self, owner: uuid.UUID, key: str, digest: bytes) -> Iterator[None]:
        """Hold `key` for its owner while the block runs; `digest` is the body's.

        Raises IdempotencyConflict (409) while it is held, IdempotencyMismatch (422) for another body.
        """
        name = (owner, key)
        known = self._seen.get(name)
        now = time.monotonic()
        if known is not None and now - known[1] < KEEP_S:
            if known[0] != digest:
                raise IdempotencyMismatch
            if known[2]:
                raise IdempotencyConflict
        self._note(name, digest, now, under_way=True)
        try:
            yield
        finally:
            self._note(name, digest, time.monotonic(), under_way=False)

    def _note(self, name: tuple[uuid.UUID, str], digest: bytes, now: float, *, under_way: bool) -> None:
        self._seen[name] = (digest, now, under_way)
        self._seen.move_to_end(name)
        while len(self._seen) > KEEP:
            self._seen.popitem(last=False)
