"""One call of one provider: send, wait for the first good event, pass the rest on. No money, no tenants."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from llm.calls import Call, Completed, StreamEvent
from llm.engine import oauth
from llm.engine.channel import PING, Channel
from llm.engine.http import MAX_ERROR_BYTES, Answer, Client
from llm.errors import ProviderError, UpstreamFailed, UpstreamInvalid, UpstreamTimeout
from llm.providers import registry
from llm.providers.base import Adapter, StreamReader
from llm.providers.chunks import output_bytes
from llm.providers.sandbox import Sandbox

PING_S = 15.0
AFTER_END_S = 5.0  # for the usage of an answer that is complete, from a provider that never says [DONE] nor hangs up


@dataclass(slots=True)
class Progress:
    """What one call has brought so far: it stays readable when the call breaks off."""

    sent: bool = False  # a connection was made: the provider may have seen the request, and may bill it
    upstream_s: float = 0.0  # seconds spent waiting for the provider before the first good event
    first_at: float | None = None  # time.perf_counter() of the first good event
    usage: Mapping[str, Any] | None = None
    produced_bytes: int = 0
    ended: bool = False  # the answer is complete; its usage may still come
    finished: bool = False
    dropped: tuple[str, ...] = ()
    service_tier: str = ""  # the one that the provider says it used, in its own word

    def connected(self) -> None:
        self.sent = True


@dataclass(slots=True)
class OpenStream:
    """A stream whose first good event is in hand."""

    first: list[StreamEvent]
    rest: AsyncIterator[list[StreamEvent]] | None
    answer: Answer | None = field(default=None, repr=False)

    async def hang_up(self) -> None:
        """Let go of the provider, whether or not the stream was ever read. Harmless when it has ended."""
        await _hang_up(self.answer)


async def complete(client: Client, call: Call, progress: Progress) -> Completed:
    """A whole answer. Raises ProviderError."""
    adapter = _adapter(call)
    if isinstance(adapter, Sandbox):
        done = adapter.respond(call)
        progress.first_at = time.perf_counter()
    else:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(_whole_answer_s(call)):
                answer = await _send(client, call, progress)
                try:
                    body = await answer.read()
                    await answer.close(drained=True)
                except BaseException:
                    await answer.close()
                    raise
        except TimeoutError as error:
            raise UpstreamTimeout("The provider did not answer in time.") from error
        finally:
            progress.upstream_s += time.perf_counter() - started
        progress.first_at = time.perf_counter()
        done = adapter.parse_response(body, call)
    progress.usage = done.usage
    progress.service_tier = done.service_tier
    progress.produced_bytes = output_bytes(done.body)
    progress.finished = True
    return done


async def begin(client: Client, call: Call, progress: Progress) -> OpenStream:
    """A stream up to its first good event; what came before it is in `first` too. Raises ProviderError."""
    adapter = _adapter(call)
    if isinstance(adapter, Sandbox):
        events = adapter.stream(call)
        _note(progress, events)
        return OpenStream(first=events, rest=None)
    started = time.perf_counter()
    answer: Answer | None = None
    try:
        async with asyncio.timeout(_first_event_s(call)):
            answer = await _send(client, call, progress)
            batches = _events(answer, call)
            first: list[StreamEvent] = []
            async for events in batches:
                first += events
                _note(progress, events)
                if progress.first_at is not None:
                    # If it all came at once, a provider that now forgets to hang up is not waited for.
                    return OpenStream(first=first, rest=None if progress.finished else batches, answer=answer)
        raise UpstreamInvalid("The provider's stream ended before it said anything.")
    except TimeoutError as error:
        await _hang_up(answer)
        raise UpstreamTimeout("The provider did not answer in time.") from error
    except BaseException:
        await _hang_up(answer)
        raise
    finally:
        progress.upstream_s += time.perf_counter() - started


async def pump(stream: OpenStream, channel: Channel, progress: Progress) -> None:
    """Pass the rest of a stream on to the client. Raises ProviderError when it breaks, at any byte."""
    channel.put(stream.first, _weight(stream.first))
    answer = stream.answer
    if stream.rest is None or answer is None:
        progress.finished = True
        if answer is not None:
            await answer.close(drained=True)
        return
    loop = asyncio.get_running_loop()
    idle_s = settings.UPSTREAM_IDLE_TIMEOUT_S
    last_moment = loop.time() + settings.UPSTREAM_TOTAL_TIMEOUT_S
    pinger = _Pinger(channel, loop)
    try:
        async with asyncio.timeout(min(idle_s, AFTER_END_S) if progress.ended else idle_s) as deadline:
            async for events in stream.rest:
                _note(progress, events)
                channel.put(events, _weight(events))
                if progress.ended:
                    idle_s = min(idle_s, AFTER_END_S)
                pinger.heard_at = loop.time()
                if progress.finished:
                    break
                if channel.full:
                    deadline.reschedule(last_moment)  # a slow client: the provider may wait
                    await channel.room()
                deadline.reschedule(min(loop.time() + idle_s, last_moment))
        if not (progress.finished or progress.ended or _framed(answer)):
            raise UpstreamFailed("The provider's stream ended early.")
        progress.finished = True
        await answer.close(drained=True)
    except TimeoutError as error:
        await answer.close()
        if not progress.ended:
            raise UpstreamTimeout("The provider fell silent.") from error
        progress.finished = True
    except BaseException:
        await answer.close()
        raise
    finally:
        pinger.stop()


class _Pinger:
    """Says that the gateway is there when the provider has been silent for 15 s."""

    __slots__ = ("_channel", "_loop", "_timer", "heard_at")

    def __init__(self, channel: Channel, loop: asyncio.AbstractEventLoop) -> None:
        self._channel, self._loop, self.heard_at = channel, loop, loop.time()
        self._timer = loop.call_later(PING_S, self._tick)

    def _tick(self) -> None:
        silent_s = self._loop.time() - self.heard_at
        if silent_s >= PING_S:
            self._channel.put([PING])
            silent_s = 0.0
        self._timer = self._loop.call_later(PING_S - silent_s, self._tick)

    def stop(self) -> None:
        self._timer.cancel()


def _adapter(call: Call) -> Adapter:
    return registry.adapter(call.target.model.provider.dialect, call.kind)


async def _send(client: Client, call: Call, progress: Progress) -> Answer:
    """Raises the ProviderError that a refusing answer is."""
    adapter = _adapter(call)
    upstream = adapter.build(await oauth.with_token(client, call))
    progress.dropped = (*call.dropped, *upstream.dropped)
    answer = await client.send(upstream, progress.connected)
    if answer.status == 200:
        return answer
    try:
        body = await answer.read(MAX_ERROR_BYTES)
    except ProviderError:
        body = b""  # the status says enough
    finally:
        await answer.close()
    if answer.status == 401:
        oauth.refused(call)
    byok = call.target.key_source == "byok"
    headers = {name.lower(): value for name, value in answer.headers.items()}
    raise adapter.parse_error(answer.status, headers, body, byok=byok)


async def _events(answer: Answer, call: Call) -> AsyncIterator[list[StreamEvent]]:
    """The events of a stream, in the groups in which its bytes arrive."""
    adapter = _adapter(call)
    decoder, reader = adapter.decoder(), adapter.reader(call)
    async for data in answer.chunks():
        events, failure = _read(reader, decoder.feed(data))
        if events:
            yield events
        if failure is not None:
            raise failure
    events, failure = _read(reader, decoder.close())
    if events:
        yield events
    if failure is not None:
        raise failure


def _read(reader: StreamReader, payloads: list[bytes]) -> tuple[list[StreamEvent], ProviderError | None]:
    """The events of one read up to the first that is an error: what came before it is the client's, and billed."""
    events: list[StreamEvent] = []
    try:
        for payload in payloads:
            events += reader.read(payload)
            if events and events[-1].done:
                break  # whatever follows the end is none of ours
    except ProviderError as error:
        return events, error
    return events, None


def _note(progress: Progress, events: list[StreamEvent]) -> None:
    for event in events:
        progress.produced_bytes += event.output_bytes
        if event.usage is not None:
            progress.usage = event.usage
        if event.service_tier:
            progress.service_tier = event.service_tier
        if event.ended:
            progress.ended = True
        if event.done:
            progress.finished = True
        if event.good and progress.first_at is None:
            progress.first_at = time.perf_counter()


def _weight(events: list[StreamEvent]) -> int:
    return sum(200 if event.raw is None else len(event.raw) for event in events)


def _first_event_s(call: Call) -> float:
    """Seconds this model may take to its first event: its quirk `first_event_timeout_s`, else the gateway's setting."""
    return float(call.target.model.quirks.get("first_event_timeout_s", settings.UPSTREAM_FIRST_EVENT_TIMEOUT_S))


def _whole_answer_s(call: Call) -> float:
    """Seconds for an answer that is not streamed: its first byte comes when the model has finished."""
    return float(call.target.model.quirks.get("first_event_timeout_s", settings.UPSTREAM_TOTAL_TIMEOUT_S))


def _framed(answer: Answer) -> bool:
    """True if the transport itself says where the body ends, so that an early end is seen as one."""
    return "transfer-encoding" in answer.headers or "content-length" in answer.headers


async def _hang_up(answer: Answer | None) -> None:
    if answer is not None:
        await answer.close()
