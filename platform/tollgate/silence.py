"""Management requests while the database says nothing at all: 503, where they would hang.

A database that is stopped refuses at once. One that is frozen (its disk hangs, its machine swaps) takes questions and
never answers, and the thread that asked cannot be called back. So the client is told, and the thread is left to end by
itself when the database goes on. Completions keep time for themselves.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from llm.engine import snapshot

Message = MutableMapping[str, Any]
SILENT_S = 3.0  # the catalog's watch asks every second, which takes milliseconds
LOOK_S = 0.25
# A refused database is told in 0.75 s by whoever asks it, and what asks none, a static file say, takes no time at all:
# only what hangs is cut short.
FIRST_S = 0.8

_left: set[asyncio.Future[None]] = set()  # the loop keeps only weak references


class SilentError(Exception):
    """The database has not answered for too long, and nothing of the answer has been sent."""


def _silent() -> bool:
    return snapshot.WATCH.silent_s > SILENT_S


async def unless_silent(
    answer: Callable[[Callable[[Message], Awaitable[None]]], Awaitable[None]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Have `answer` send its answer. Raises SilentError once the database is silent; what it sends then is lost."""
    begun = left = False

    async def heard(message: Message) -> None:
        nonlocal begun
        begun = True
        if not left:
            await send(message)

    work = asyncio.ensure_future(answer(heard))
    try:
        await asyncio.wait({work}, timeout=FIRST_S)
        while not (work.done() or begun or _silent()):
            await asyncio.wait({work}, timeout=LOOK_S)
        if work.done() or begun:
            await work
            return
    except asyncio.CancelledError:
        work.cancel()
        raise
    left = True
    _left.add(work)
    work.add_done_callback(_forget)
    raise SilentError


def _forget(work: asyncio.Future[None]) -> None:
    _left.discard(work)
    if not work.cancelled():
        work.exception()  # its own log has it; nobody waits for it
