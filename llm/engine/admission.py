"""How much one process takes on at once. Beyond that it refuses before any work is done: who is told to come back is
served sooner than who stands in a line that only grows.
"""

import asyncio
import random
from collections import deque

from django.conf import settings

from tenants.errors import Unavailable

LAST_MOMENT_S = 1.0  # what is on its way when a process is told to stop is still served
BEAT_S = 0.02
BEATS = 3  # late in a row before requests are refused: one alone is a collection of garbage or a new snapshot
# A request takes about ten turns of the loop. One that is idle now and then is not 2 ms late ten times in a row; one
# that has fifty requests to work on is.
BUSY_S = 0.002
BUSY_BEATS = 10


def overloaded() -> Unavailable:
    """The refusal. Clients are sent back after 1 to 3 s, scattered, so that they do not return as one wave."""
    return Unavailable(
        "This server has as much to do as it can. Send the request again shortly.",
        retry_after=random.uniform(1, 3),  # noqa: S311 - not a secret
    )


class Admission:
    """One process's door: requests under way, bytes of bodies in memory, and how late the event loop is."""

    def __init__(self) -> None:
        self.body_bytes = 0
        self.late_s = 0.0  # how late the loop was, at the least, at each of the last beats
        self.busy = False  # requests wait for the processor, and have for a fifth of a second
        self._late_s = deque([0.0] * BUSY_BEATS, maxlen=BUSY_BEATS)
        self._beat: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure how late the running loop is: it costs about 0.05 % of a core."""
        self._tick(asyncio.get_running_loop(), due=None)

    def stop(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float | None) -> None:
        now = loop.time()
        self.note(0.0 if due is None else max(0.0, now - due))
        self._beat = loop.call_later(BEAT_S, self._tick, loop, now + BEAT_S)

    def note(self, late_s: float) -> None:
        """One beat, so many seconds late."""
        self._late_s.append(late_s)
        self.late_s = min(list(self._late_s)[-BEATS:])
        self.busy = min(self._late_s) > BUSY_S

    def check(self, under_way: int) -> None:
        """Raises Unavailable if one more request beside `under_way` others would only wait."""
        if under_way >= settings.MAX_IN_FLIGHT or self.late_s > settings.MAX_LOOP_DELAY_S:
            raise overloaded()

    def take_body(self, size: int) -> None:
        """Count so many bytes of a body into memory. Raises Unavailable if all bodies together have no room for it."""
        if self.body_bytes + size > settings.MAX_BODY_BYTES_IN_FLIGHT:
            raise overloaded()
        self.body_bytes += size

    def drop_body(self, size: int) -> None:
        self.body_bytes -= size
