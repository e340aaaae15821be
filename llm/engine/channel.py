"""From the journey, which reads the provider, to the wire, which writes to the client. One writer, one reader.

Bounded by bytes: a client that reads slowly makes the journey wait, and with it the provider. The journey never depends
on the reader: a reader that never comes or goes away makes `closed` true, and the journey settles all the same.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from llm.calls import StreamEvent
from tenants.errors import TollgateError

MAX_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a stream ended: settled usage for the last chunk and the service tier that is billed, or the error."""

    usage: dict[str, Any] | None = None
    service_tier: str = ""
    error: TollgateError | None = None


PING = StreamEvent()  # an event that says nothing: the wire turns it into a comment


class Channel:
    """A queue of events with one waiter on each side."""

    __slots__ = ("_events", "_reader", "_size", "_writer", "closed", "ending")

    def __init__(self) -> None:
        self._events: list[StreamEvent] = []
        self._size = 0
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self.ending: Ending | None = None
        self.closed = False  # the reader is gone

    def put(self, events: list[StreamEvent], size: int = 0) -> None:
        self._events += events
        self._size += size
        self._wake_reader()

    def end(self, ending: Ending) -> None:
        self.ending = ending
        self._wake_reader()

    def close(self) -> None:
        """The reader reads no more."""
        self.closed = True
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    @property
    def full(self) -> bool:
        return self._size > MAX_BYTES and not self.closed

    async def room(self) -> None:
        """Wait until the reader has taken what is here."""
        self._writer = asyncio.get_running_loop().create_future()
        try:
            await self._writer
        finally:
            self._writer = None

    async def batches(self) -> AsyncIterator[list[StreamEvent]]:
        """All events that have come, as often as some have, until the end; then `ending` says how it ended."""
        while True:
            if self._events:
                events, self._events, self._size = self._events, [], 0
                if self._writer is not None and not self._writer.done():
                    self._writer.set_result(None)
                yield events
            elif self.ending is not None:
                return
            else:
                self._reader = asyncio.get_running_loop().create_future()
                await self._reader

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
