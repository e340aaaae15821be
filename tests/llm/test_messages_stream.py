"""Streams as Anthropic's events, event by event: parallel calls that interleave, signatures, blocks out of order."""

import time
import uuid
import weakref
from typing import Any

import orjson
import pytest

from llm.calls import StreamEvent
from llm.engine.channel import PING, Ending
from llm.engine.completion import Reply
from llm.errors import UpstreamFailed, UpstreamInvalid
from llm.providers.anthropic_native import NativeReader
from llm.wire import messages, messages_translated
from llm.wire.request import Incoming
from tests.llm.test_provider_registry import REQUEST_ID, a_call
from tests.wires.anthropic_order import broken_off, events_of, message_of

Json = dict[str, Any]
USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "cost": 0.25}
PING_FRAME = b'event: ping\ndata: {"type": "ping"}\n\n'


class _Journey:
    """Nobody's."""


def a_stream(dialect: str = "openai", **body: Any) -> Any:
    raw = orjson.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]} | body)
    incoming = Incoming(id=uuid.UUID(REQUEST_ID), headers={}, ip=None, received=time.perf_counter())
    reply = Reply(
        request_id=REQUEST_ID,
        target=a_call(dialect=dialect).target,
        was_fallback=False,
        overhead_ms=0.1,
        standings=(),
        dropped=(),
        journey=weakref.ref(_Journey()),  # type: ignore[arg-type]
    )
    return messages.stream(messages.parse(raw, incoming), reply)


def chunk(delta: Json | None = None, finish: str | None = None, **choice: Any) -> StreamEvent:
    one = {"index": 0, "delta": delta or {}, "finish_reason": finish} | choice
    return StreamEvent(chunk={"id": "c", "model": "vendor-model", "choices": [one]}, good=True)


def call(index: int, arguments: str, name: str | None = None, **more: Any) -> Json:
    """A fragment; with a name, the first of its call."""
    function: Json = {"arguments": arguments} | ({"name": name} if name else {})
    head = {"id": f"call_{index}", "type": "function"} if name else {}
    return {"tool_calls": [{"index": index, "function": function} | head | more]}


def translated(*events: StreamEvent, one_by_one: bool = True, **body: Any) -> Json:
    stream = a_stream(**body)
    raw = b"".join(stream.render([event]) for event in events) if one_by_one else stream.render(list(events))
    return message_of(events_of(raw + stream.finish(Ending(usage=dict(USAGE)))))


def native(*events: Json) -> list[Json]:
    reader = NativeReader(a_call(dialect="anthropic", stream=True))
    stream = a_stream("anthropic")
    read = [found for event in events for found in reader.read(orjson.dumps(event))]
    return events_of(stream.render(read) + stream.finish(Ending(usage=dict(USAGE))))


# --- translated -------------------------------------------------------------------------------------------------------


def test_reasoning_text_and_tools_are_blocks_one_after_the_other() -> None:
    message = translated(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "Hm"}),
        chunk({"reasoning_content": "."}),
        chunk({"content": "Let "}),
        chunk({"content": "me."}),
        chunk(call(0, "", "f")),
        chunk(call(0, '{"a":')),
        chunk(call(0, "1}")),
        chunk(finish="tool_calls"),
    )
    assert message["id"] == f"msg_{REQUEST_ID}"
    assert message["model"] == "vendor-model"
    assert message["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "Let me."},
        {"type": "tool_use", "id": "call_0", "name": "f", "input": {"a": 1}},
    ]
    assert message["stop_reason"] == "tool_use"
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (10, 4)
    assert message["usage"]["cost"] == 0.25


def test_parallel_calls_that_interleave_wait_for_each_other() -> None:
    message = translated(
        chunk(call(0, "", "f")),
        chunk(call(1, "", "g")),
        chunk(call(0, '{"a"')),
        chunk(call(1, '{"b"')),
        chunk(call(0, ":{}")),
        chunk(call(1, ":2}")),
        chunk(call(0, "}")),
        chunk(call(2, "{}", "h")),
        chunk({"content": "Done."}),
        chunk(finish="tool_calls"),
    )
    assert message["content"] == [
        {"type": "tool_use", "id": "call_0", "name": "f", "input": {"a": {}}},
        {"type": "tool_use", "id": "call_1", "name": "g", "input": {"b": 2}},
        {"type": "tool_use", "id": "call_2", "name": "h", "input": {}},
        {"type": "text", "text": "Done."},
    ]


def test_a_call_that_is_whole_lets_the_next_one_begin_at_once() -> None:
    stream = a_stream()
    assert b"call_0" in stream.render([chunk(call(0, '{"a": "}"}', "f"))])
    assert b"call_1" in stream.render([chunk(call(1, "", "g"))])
    assert stream.render([chunk(call(0, " "))]) == b""  # of a block that has ended
    assert b"call_2" not in stream.render([chunk(call(2, "{}", "h"))])
    assert b"call_2" in stream.render([chunk(call(1, "{}"))])


def test_a_call_cut_short_is_still_closed() -> None:
    message = translated(chunk(call(0, '{"a": "b', "f")), chunk({"content": "x"}), chunk(finish="length"))
    assert message["content"][0]["input"] == '{"a": "b'
    assert message["content"][1] == {"type": "text", "text": "x"}
    assert message["stop_reason"] == "max_tokens"


def test_what_waits_is_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(messages_translated, "MAX_WAITING", 100)
    stream = a_stream()
    stream.render([chunk(call(0, "{", "f"))])
    assert stream.render([chunk(call(1, '{"a": "' + "x" * 50, "g"))]) == b""
    assert b"x" * 50 in stream.render([chunk(call(1, "x" * 60))])


def test_signatures_follow_the_thinking_they_sign() -> None:
    def signed(signature: str) -> Json:
        return {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": signature}]}

    hidden = {"type": "redacted_thinking", "data": "x"}
    message = translated(
        chunk({"reasoning_content": "One."}),
        chunk(signed("s1")),
        chunk({"reasoning_content": "Two."}),
        chunk(signed("s2")),
        chunk({"thinking_blocks": [hidden]}),
        chunk(signed("s3")),
        chunk({"content": "So."}),
        chunk(finish="stop"),
    )
    assert message["content"] == [
        {"type": "thinking", "thinking": "One.", "signature": "s1"},
        {"type": "thinking", "thinking": "Two.", "signature": "s2"},
        hidden,
        {"type": "thinking", "thinking": "", "signature": "s3"},
        {"type": "text", "text": "So."},
    ]


def test_a_vendor_that_says_which_stop_it_was_is_believed() -> None:
    ended = chunk(finish="stop", stop_reason="END")
    message = translated(chunk({"content": "x"}), ended, stop_sequences=["END"])
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")
    assert translated(chunk({"content": "x"}), ended)["stop_reason"] == "end_turn"


def test_a_stream_without_a_finish_still_ends_well() -> None:
    assert translated(chunk({"content": "x"}))["stop_reason"] == "end_turn"
    assert translated(chunk(call(0, "{}", "f")))["stop_reason"] == "tool_use"
    assert translated()["content"] == []


def test_other_choices_and_pings_do_not_disturb() -> None:
    second = StreamEvent(chunk={"model": "m", "choices": [{"index": 1, "delta": {"content": "no"}}]})
    stream = a_stream()
    assert stream.render([PING]) == b""  # nothing has begun
    raw = stream.render([chunk({"content": "x"}), second, PING, chunk({"content": "y"})])
    assert raw.count(PING_FRAME) == 1
    message = message_of(events_of(raw + stream.finish(Ending(usage=dict(USAGE)))))
    assert message["content"] == [{"type": "text", "text": "xy"}]


def test_usage_that_comes_early_is_told_early() -> None:
    early = chunk({"content": "x"})
    early.usage = {"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 5}}
    [start, *_] = events_of(a_stream().render([early]))
    usage = start["message"]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (2, 5, 1)


def test_an_error_is_an_event_and_the_end() -> None:
    for dialect in ("openai", "anthropic"):
        stream = a_stream(dialect)
        event = chunk({"content": "x"})
        if dialect == "anthropic":
            event = StreamEvent(native={"type": "message_start", "message": {}})
        raw = stream.render([event]) + stream.finish(Ending(error=UpstreamFailed("The provider broke off.")))
        assert broken_off(events_of(raw)) == {"type": "api_error", "message": "The provider broke off."}


# --- native -----------------------------------------------------------------------------------------------------------

START: Json = {
    "type": "message_start",
    "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 1},
    },
}  # fmt: skip
END: Json = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}
STOP: Json = {"type": "message_stop"}


def begin(index: Any, kind: str = "text", **block: Any) -> Json:
    head = {"type": "text", "text": ""} if kind == "text" else {"type": kind} | block
    return {"type": "content_block_start", "index": index, "content_block": head}


def piece(index: Any, words: str, kind: str = "text_delta", name: str = "text") -> Json:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: words}}


def end(index: Any) -> Json:
    return {"type": "content_block_stop", "index": index}


def test_events_in_order_are_the_very_same_bytes() -> None:
    reader, stream = NativeReader(a_call(dialect="anthropic", stream=True)), a_stream("anthropic")
    raws = [
        b'{"type": "message_start", "message": ' + orjson.dumps(START["message"]) + b"}",
        b'{"type": "content_block_start",  "index": 0, "content_block": {"type": "text", "text": ""}}',
        b'{"index": 0, "type": "content_block_delta", "delta": {"type": "text_delta", "text": "\\u00fc"}}',
        b'{"type": "content_block_stop", "index":0, "later": 1.50}',
        b'{"type": "content_block_start", "index": 1, "content_block": {"type": "block_of_tomorrow"}}',
        b'{"type": "content_block_delta", "index": 1, "delta": {"type": "delta_of_tomorrow"}}',
        b'{"type": "content_block_stop", "index": 1}',
    ]
    out = stream.render([found for raw in raws for found in reader.read(raw)])
    assert [block.split(b"\ndata: ", 1)[1] for block in out.split(b"\n\n")[:-1]] == raws
    assert message_of(events_of(out + stream.finish(Ending(usage=dict(USAGE)))))["content"][0]["text"] == "ü"


def test_the_last_delta_keeps_what_the_provider_said_and_tells_the_settled_usage() -> None:
    said = {"type": "message_delta", "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END", "new": 1},
            "usage": {"output_tokens": 3, "server_tool_use": None}}  # fmt: skip
    *_, last, stop = native(START, begin(0), piece(0, "x"), end(0), said, STOP)
    assert last["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END", "new": 1}
    assert (last["usage"]["input_tokens"], last["usage"]["output_tokens"], last["usage"]["cost"]) == (10, 4, 0.25)
    assert stop == {"type": "message_stop"}


def test_blocks_that_are_not_closed_or_numbered_oddly_come_out_in_order() -> None:
    message = message_of(
        native(
            START, begin(3), piece(3, "a"), begin(7), piece(7, "b"), piece(7, "c"), end(3), end(7), end(7),
            begin(None), piece(None, "d"), END, END, STOP, STOP,
        )
    )  # fmt: skip
    assert [block["text"] for block in message["content"]] == ["a", "bc", "d"]


def test_pieces_without_a_block_get_one() -> None:
    message = message_of(
        native(
            START, piece(0, "a"), piece(0, "b"), piece(1, "hm", "thinking_delta", "thinking"), END, STOP,
        )
    )  # fmt: skip
    assert message["content"] == [
        {"type": "text", "text": "ab"},
        {"type": "thinking", "thinking": "hm", "signature": ""},
    ]


def test_arguments_of_a_tool_call_that_is_not_under_way_are_an_error() -> None:
    with pytest.raises(UpstreamInvalid):
        native(START, piece(0, "a"), piece(5, "{}", "input_json_delta", "partial_json"), END, STOP)


def test_a_stream_without_its_beginning_or_counts_gets_them() -> None:
    events = native(begin(0), piece(0, "a"), end(0), END, STOP)
    assert events[0]["message"]["id"] == f"msg_{REQUEST_ID}"
    assert message_of(events)["content"] == [{"type": "text", "text": "a"}]
    for usage in (None, {}, {"input_tokens": 0, "output_tokens": 0}, {"input_tokens": -1}, "many"):
        bare = {"type": "message_start", "message": {"usage": usage, "later": 1}}
        [first, *_] = native(bare, END, STOP)
        assert first["message"]["usage"]["input_tokens"] > 0
        assert (first["message"]["later"], first["message"]["model"]) == (1, "m-1")


def test_a_prompt_all_from_the_cache_is_no_missing_count() -> None:
    cached = START["message"] | {"usage": {"input_tokens": 0, "cache_read_input_tokens": 9, "output_tokens": 1}}
    [first, *_] = native({"type": "message_start", "message": cached}, END, STOP)
    assert first["message"]["usage"] == cached["usage"]


def test_tools_were_called_whatever_the_provider_said() -> None:
    tool = begin(0, "tool_use", id="t", name="f", input={})
    assert message_of(native(START, tool, end(0), END, STOP))["stop_reason"] == "tool_use"
    assert message_of(native(START, tool, end(0), STOP))["stop_reason"] == "tool_use"


def test_events_of_tomorrow_pass_and_their_names_break_no_line() -> None:
    events = native(START, {"type": "hint", "x": 1}, {"type": "a\nevent: b", "x": 1}, {"type": 5}, {"x": 1}, END, STOP)
    assert [event["type"] for event in events] == ["message_start", "hint", "message_delta", "message_stop"]
