"""Gemini's streams as chat chunks; recorded bytes as they are on the wire, in pieces of any size."""

from typing import Any

import orjson
import pytest

from llm.calls import StreamEvent, Usage
from llm.errors import ProviderError, UpstreamFailed, UpstreamInvalid
from llm.providers.google import ADAPTER
from llm.providers.usage import from_openai
from tests.llm.test_provider_google import COUNTED, MADE_ID, recorded, response
from tests.llm.test_provider_registry import CREATED, a_call


def played(name: str, size: int | None = None) -> tuple[list[StreamEvent], ProviderError | None]:
    """The events of a recording that arrives in pieces of so many bytes, and what it ended with."""
    raw = recorded(name)
    decoder, reader = ADAPTER.decoder(), ADAPTER.reader(a_call(dialect="google", stream=True))
    pieces = [raw] if size is None else [raw[at : at + size] for at in range(0, len(raw), size)]
    events: list[StreamEvent] = []
    try:
        for payload in (one for feed in (*(map(decoder.feed, pieces)), decoder.close()) for one in feed):
            events += reader.read(payload)
    except ProviderError as error:
        return events, error
    return events, None


def deltas(events: list[StreamEvent]) -> list[dict[str, Any]]:
    return [event.chunk["choices"][0]["delta"] for event in events if event.chunk]


@pytest.mark.parametrize("size", [None, 1, 7, 100])
def test_a_recorded_stream_of_thoughts_and_text(size: int | None) -> None:
    events, error = played("stream_thoughts.sse", size)
    assert error is None
    assert deltas(events) == [
        {"reasoning_content": "**Weighing the words**\n\nThe user wants a duck. "},
        {"content": "Here is one: 🦆"},
        {"content": " — zażółć."},
        {},
    ]
    assert [event.output_bytes for event in events] == [47, 17, 16, 0]
    last = events[-1].chunk
    assert last == {
        "id": "f2nxaOHGB5m6kdUP9pOr-Ag",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": "gemini-2.5-flash",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    }
    assert from_openai(events[-1].usage, context_window=1000) == Usage(
        prompt_tokens=12, completion_tokens=36, reasoning_tokens=21
    )
    # Before anything but thoughts was counted: the prompt is exact, the rest at least the thoughts.
    assert from_openai(events[0].usage, context_window=1000, completion_estimate=12) == Usage(
        prompt_tokens=12, completion_tokens=21, reasoning_tokens=21, estimated=True
    )


@pytest.mark.parametrize("size", [None, 1, 64])
def test_a_recorded_stream_of_tools_whose_usage_comes_last(size: int | None) -> None:
    events, error = played("stream_tools_vertex.sse", size)
    assert error is None
    first, second, finish = deltas(events)
    assert first["tool_calls"] == [
        {
            "index": 0,
            "id": f"{MADE_ID}0",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city":"Łódź"}'},
            "extra_content": {"google": {"thought_signature": "CrICAdHtim827fQ="}},
        }
    ]
    assert second["tool_calls"][0]["index"] == 1
    assert second["tool_calls"][0]["id"] != first["tool_calls"][0]["id"]
    assert finish == {}
    assert [event.usage for event in events[:-1]] == [None] * 2
    assert events[-1].chunk is not None
    assert events[-1].chunk["choices"][0]["finish_reason"] == "tool_calls"
    assert from_openai(events[-1].usage, context_window=1000) == Usage(
        prompt_tokens=71, completion_tokens=88, cached_tokens=40, reasoning_tokens=64
    )


@pytest.mark.parametrize("size", [None, 1, 3, 50])
def test_a_recorded_stream_that_breaks_with_plain_json_is_an_error_after_its_words(size: int | None) -> None:
    events, error = played("stream_broken.sse", size)
    assert deltas(events) == [{"content": "Half an ans"}]
    assert isinstance(error, UpstreamFailed)


def test_plain_json_without_end_is_bounded() -> None:
    decoder = ADAPTER.decoder()
    for _ in range(60):
        decoder.feed(b'[{"error": "' + b"x" * 1000)
    with pytest.raises(UpstreamInvalid):
        decoder.feed(b"x" * 10_000)


def read(*events: Any) -> list[StreamEvent]:
    reader = ADAPTER.reader(a_call(dialect="google", stream=True))
    return [found for one in events for found in reader.read(one if isinstance(one, bytes) else orjson.dumps(one))]


def test_a_prompt_that_is_stopped_in_a_stream() -> None:
    events = read(orjson.loads(recorded("blocked.json")))
    assert deltas(events) == [{"refusal": "The provider's filter stopped this prompt (prohibited content)."}, {}]
    assert [event.good for event in events] == [True, True]
    assert events[-1].chunk is not None
    assert events[-1].chunk["choices"][0]["finish_reason"] == "content_filter"
    assert from_openai(events[-1].usage, context_window=1000) == Usage(prompt_tokens=9, completion_tokens=0)


def test_a_stream_that_is_filtered_half_way_or_says_nothing() -> None:
    events = read(response({"text": "Once"}, finish=None), response(finish="SAFETY"))
    assert [event.chunk["choices"][0]["finish_reason"] for event in events if event.chunk] == [None, "content_filter"]
    with pytest.raises(UpstreamInvalid, match="no answer"):
        read(response(finish="OTHER"))
    with pytest.raises(UpstreamInvalid, match="cannot be read"):
        read(response({"text": "I call"}, finish=None), response(finish="MALFORMED_FUNCTION_CALL"))


def test_usage_is_the_same_wherever_it_is_said_and_never_falls() -> None:
    prompt = {"promptTokenCount": 10, "totalTokenCount": 10}
    streams = (
        [response({"text": "a"}, finish=None, usageMetadata=prompt), response({"text": "b"})],
        [response({"text": "a"}, finish=None, usageMetadata=None), response({"text": "b"}, usageMetadata=None),
         {"usageMetadata": COUNTED}],
        [response({"text": "a"}, finish=None), response({"text": "b"}),
         {"usageMetadata": {"promptTokenCount": 0, "candidatesTokenCount": 0}}],
    )  # fmt: skip
    for stream in streams:
        assert from_openai(read(*stream)[-1].usage, context_window=100) == Usage(prompt_tokens=10, completion_tokens=7)


@pytest.mark.parametrize("payload", [b"{", b"5", b"[]", b'{"candidates":5}'])
def test_what_is_no_event_is_refused(payload: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        read(payload)
