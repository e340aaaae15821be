"""A Messages API body at a provider that speaks it: what travels, what is changed, what comes back."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from llm.calls import Call, StreamEvent
from llm.errors import UpstreamFailed, UpstreamInvalid, UpstreamRateLimited
from llm.providers.anthropic import ADAPTER
from tests.fakes import anthropic_wire
from tests.fakes.behaviour import Behaviour
from tests.llm.test_provider_anthropic import SHAPED, USAGE, message
from tests.llm.test_provider_registry import a_call

HI = {"role": "user", "content": "Hi"}
BODY: dict[str, Any] = {"model": "fakeai/m", "max_tokens": 5_000, "messages": [HI]}


def native(body: dict[str, Any] | None = None, **how: Any) -> Call:
    return replace(a_call(dialect="anthropic", **how), native=BODY | (body or {}))


def both(body: dict[str, Any] | None = None, **how: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    call = native(body, **how)
    before = orjson.dumps(call.native)
    upstream = ADAPTER.build(call)
    assert orjson.dumps(call.native) == before
    return orjson.loads(upstream.body), upstream.dropped


def sent(body: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:
    return both(body, **how)[0]


def read(*events: dict[str, Any]) -> list[StreamEvent]:
    reader = ADAPTER.reader(native(stream=True))
    return [found for event in events for found in reader.read(orjson.dumps(event))]


# --- requests ---------------------------------------------------------------------------------------------------------


def test_only_the_model_the_cap_and_the_stream_are_ours() -> None:
    given = {
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [HI, {"role": "assistant", "content": [{"type": "block_of_tomorrow", "x": [1]}]}],
        "top_k": 3,
        "thing_of_tomorrow": {"a": 1},
    }
    assert sent(given) == given | {"model": "m-1", "max_tokens": 1000}
    assert sent(given, stream=True) == given | {"model": "m-1", "max_tokens": 1000, "stream": True}
    assert "stream" not in sent({"stream": False})


def test_what_the_model_refuses_is_taken_out_and_named() -> None:
    body, dropped = both({"temperature": 0.5, "top_k": 3}, quirks={"unsupported_params": ["temperature", "top_p"]})
    assert ("temperature" in body, body["top_k"], dropped) == (False, 3, ("temperature",))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 0.7),
        ({"temperature": 0.2}, 0.2),
        ({"top_p": 0.9}, None),
        ({"top_k": 5}, None),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "disabled"}}, 0.7),
    ],
)
def test_the_configs_temperature_counts_where_nothing_goes_against_it(given: dict[str, Any], expected: Any) -> None:
    assert sent(given, temperature="0.7").get("temperature") == expected


def test_the_configs_temperature_is_at_most_anthropics_highest() -> None:
    assert sent(temperature="1.6")["temperature"] == 1.0
    assert "temperature" not in sent(temperature="0.7", quirks={"unsupported_params": ["temperature"]})


def test_a_budget_fits_below_a_cap_that_was_lowered() -> None:
    thinking = {"type": "enabled", "budget_tokens": 4_000, "display": "omitted"}
    assert sent({"thinking": thinking}, cap=5_000)["thinking"] == thinking
    assert sent({"thinking": thinking}, cap=3_000)["thinking"] == thinking | {"budget_tokens": 2_999}
    body, dropped = both({"thinking": thinking}, cap=1_000)
    assert ("thinking" in body, dropped) == (False, ("thinking",))


def test_marks_of_other_vendors_do_not_travel() -> None:
    said = [
        {"type": "thinking", "thinking": "mine", "signature": "s"},
        {"type": "thinking", "thinking": "another's", "signature": ""},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}, "extra_content": {"google": {}}},
    ]
    messages = [HI, {"role": "assistant", "content": said}, {"role": "assistant", "content": said[1:2]}, HI]
    assert sent({"messages": messages})["messages"] == [
        HI,
        {
            "role": "assistant",
            "content": [said[0], said[2], {"type": "tool_use", "id": "t", "name": "f", "input": {}}],
        },
        HI,
    ]


def test_betas_that_change_no_bill_are_asked_for_and_others_named() -> None:
    names = [
        "interleaved-thinking-2025-05-14",
        "fast-mode-2026-02-01",
        "effort-\r\nx: y",
        "context-management-2025-06-27",
    ]
    upstream = ADAPTER.build(native({"anthropic_beta": names}))
    assert upstream.headers["anthropic-beta"] == f"{names[0]},{names[3]}"
    assert upstream.dropped == ("anthropic-beta:fast-mode-2026-02-01", "anthropic-beta:effort-\r\nx: y")
    assert "anthropic_beta" not in orjson.loads(upstream.body)
    assert "anthropic-beta" not in ADAPTER.build(native()).headers


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_comes_back_as_it_came_and_counts_as_a_chat() -> None:
    body = message({"type": "text", "text": "Hello"}, {"type": "block_of_tomorrow", "x": 1}, note="kept")
    done = ADAPTER.parse_response(body, native())
    assert done.native == orjson.loads(body)
    assert done.usage == SHAPED
    assert done.body["choices"][0]["message"]["content"] == "Hello"


def test_events_come_as_they_are_and_are_counted() -> None:
    said = anthropic_wire.answer(BODY, Behaviour(reasoning="let me", text="Grüße da"), ordinal=1, created=1)
    reader, chat = ADAPTER.reader(native(stream=True)), ADAPTER.reader(a_call(dialect="anthropic", stream=True))
    events, chunks = [], []
    for one in anthropic_wire.stream(said, Behaviour(), BODY):
        [payload] = ADAPTER.decoder().feed(one.data)
        [event] = reader.read(payload)
        assert event.raw == payload
        assert event.native == orjson.loads(payload)
        assert event.chunk is None
        events.append(event)
        chunks += chat.read(payload)
    assert events[-1].done
    assert events[-1].usage == chunks[-1].usage
    assert sum(event.output_bytes for event in events) == sum(chunk.output_bytes for chunk in chunks) > 0
    good = [event.native["type"] for event in events if event.good and event.native]
    assert good[0] == "content_block_delta"
    assert good[-1] == "message_delta"


def test_what_is_good_is_content_and_a_finish() -> None:
    start = {"type": "message_start", "message": {"usage": USAGE}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    tool = block | {"content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}}
    signed = {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}}
    empty = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ""}}
    going = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 3}}
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    new = {"type": "event_of_tomorrow"}
    goods = [event.good for event in read(start, block, empty, tool, signed, going, ended, new, {"type": "ping"})]
    assert goods == [False, False, False, True, True, False, True, False, False]


def test_an_event_over_several_lines_is_not_sent_on_as_it_is() -> None:
    [event] = ADAPTER.reader(native(stream=True)).read(b'{"type":\n"ping"}')
    assert (event.raw, event.native) == (None, {"type": "ping"})


@pytest.mark.parametrize(
    "event",
    [
        [],
        {"type": "content_block_delta", "index": 0},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 5}},
        {"type": "content_block_start", "index": 0},
        {"type": "content_block_start", "index": 0, "content_block": {"type": []}},
        {"type": "message_start"},
        {"type": "message_delta"},
    ],
)
def test_what_is_no_event_is_an_invalid_answer(event: Any) -> None:
    with pytest.raises(UpstreamInvalid):
        read(event)


def test_errors_in_a_stream_are_raised() -> None:
    with pytest.raises(UpstreamFailed):
        read({"type": "error", "error": {"type": "overloaded_error", "message": "x"}})
    with pytest.raises(UpstreamRateLimited):
        read({"type": "error", "error": {"type": "rate_limit_error", "message": "x"}})
    with pytest.raises(UpstreamInvalid):
        ADAPTER.reader(native(stream=True)).read(b"{")
    [done] = ADAPTER.reader(native(stream=True)).read(b"[DONE]")
    assert done.done
