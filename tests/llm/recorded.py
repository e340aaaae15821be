"""A recording through its dialect's adapter and out of a client's wire, and what it costs."""

import time
import uuid
import weakref
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from billing.pricing import PriceCard, Rate, Tier, price
from llm.calls import Call, Completed, StreamEvent, Usage
from llm.engine.bookkeeping import usage_for_client
from llm.engine.channel import Ending
from llm.engine.completion import Reply
from llm.errors import ProviderError
from llm.providers import registry
from llm.providers.usage import from_openai
from llm.wire import chat, messages
from llm.wire.request import Incoming
from tests.llm.test_provider_registry import REQUEST_ID, a_call

Json = dict[str, Any]
HI: Json = {"model": "vendor/m-1", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
WINDOW = 128_000
# USD per million tokens. Reasoning has no price of its own: it is output.
PRICES = {"input": "2", "cache_read": "0.5", "cache_write_5m": "2.5", "cache_write_1h": "4", "output": "8"}
CARD = PriceCard(
    version_id=uuid.UUID(int=1),
    number=1,
    effective_from=datetime(2026, 1, 1, tzinfo=UTC),
    effective_to=None,
    tiers=(Tier(above=0, rates={meter: Rate(price=Decimal(usd)) for meter, usd in PRICES.items()}),),
)


class Recordings:
    """The recordings of one dialect."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self.folder = Path(__file__).parents[1] / "recordings" / dialect
        self.adapter = registry.adapter(dialect)

    def raw(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def names(self, ending: str) -> list[str]:
        return sorted(path.name for path in self.folder.glob(f"*{ending}"))

    def call(self, *, native: bool = False) -> Call:
        call = a_call(dialect=self.dialect, stream=True, context_window=WINDOW)
        return replace(call, native=HI) if native else call

    def payloads(self, *reads: bytes) -> list[bytes]:
        """What the decoder makes of these reads."""
        decoder = self.adapter.decoder()
        return [payload for read in reads for payload in decoder.feed(read)] + decoder.close()

    def played(self, name: str, *, native: bool = False) -> tuple[list[StreamEvent], ProviderError | None]:
        """The events of a stream up to its end, and the error that it broke with."""
        reader = self.adapter.reader(self.call(native=native))
        events: list[StreamEvent] = []
        try:
            for payload in self.payloads(self.raw(name)):
                events += reader.read(payload)
                if events and events[-1].done:
                    break
        except ProviderError as error:
            return events, error
        return events, None

    def whole(self, name: str, *, native: bool = False) -> Completed:
        return self.adapter.parse_response(self.raw(name), self.call(native=native))

    def reply(self, completed: Completed | None = None) -> Reply:
        """An answer as a wire gets it; a whole one is settled."""
        return Reply(
            request_id=REQUEST_ID,
            target=self.call().target,
            was_fallback=False,
            overhead_ms=0.1,
            standings=(),
            dropped=(),
            completed=completed,
            usage=None if completed is None else settled(completed.usage),
            journey=weakref.ref(_Journey()),  # type: ignore[arg-type]
        )

    def chatted(self, name: str, *, usage: bool = True) -> bytes:
        """What a chat client gets of a stream."""
        events, error = self.played(name)
        options: Json = {"stream_options": {"include_usage": True}} if usage else {}
        stream = chat.stream(chat.parse(orjson.dumps(HI | {"stream": True} | options), _incoming()), self.reply())
        return b"".join(stream.render([event]) for event in events) + stream.finish(_ending(events, error))

    def chat_body(self, name: str) -> bytes:
        """What a chat client gets of a whole answer."""
        return chat.body_of(chat.parse(orjson.dumps(HI), _incoming()), self.reply(self.whole(name)))

    def messaged(self, name: str) -> bytes:
        """What a client of the Messages API gets of a stream, as its provider's dialect allows."""
        events, error = self.played(name, native=self.dialect == "anthropic")
        stream = messages.stream(messages.parse(orjson.dumps(HI | {"stream": True}), _incoming()), self.reply())
        return b"".join(stream.render([event]) for event in events) + stream.finish(_ending(events, error))

    def message_body(self, name: str) -> Json:
        """What a client of the Messages API gets of a whole answer."""
        reply = self.reply(self.whole(name, native=self.dialect == "anthropic"))
        found: Json = orjson.loads(messages.body_of(messages.parse(orjson.dumps(HI), _incoming()), reply))
        return found


class _Journey:
    """Nobody's."""


def _incoming() -> Incoming:
    return Incoming(id=uuid.UUID(REQUEST_ID), headers={}, ip=None, received=time.perf_counter())


def _ending(events: list[StreamEvent], error: ProviderError | None) -> Ending:
    return Ending(error=error) if error is not None else Ending(usage=settled(events[-1].usage))


def counted(raw: Mapping[str, Any] | None) -> Usage:
    """What is believed of a usage object."""
    usage = from_openai(raw, context_window=WINDOW)
    assert usage is not None
    return usage


def bill(raw: Mapping[str, Any] | None) -> Decimal:
    """USD, by CARD."""
    usage = counted(raw)
    return price(CARD, usage.meters(), prompt_tokens=usage.prompt_tokens).total


def settled(raw: Mapping[str, Any] | None) -> Json:
    """The usage that the client is shown."""
    return usage_for_client(raw, counted(raw), bill(raw))


def chunks(events: list[StreamEvent]) -> list[Json]:
    return [event.chunk for event in events if event.chunk is not None and event.chunk["choices"]]


def deltas(events: list[StreamEvent]) -> list[Json]:
    return [chunk["choices"][0]["delta"] for chunk in chunks(events)]
