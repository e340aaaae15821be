"""Anthropic's answers, whole and streamed, as chat completions."""

from typing import Any

import orjson
import pytest

from llm.calls import StreamEvent, Usage
from llm.errors import UpstreamFailed, UpstreamInvalid, UpstreamRateLimited, UpstreamRejected
from llm.providers.anthropic import ADAPTER
from llm.providers.usage import from_openai
from tests.fakes import anthropic_wire
from tests.fakes.behaviour import Behaviour
from tests.llm.test_provider_registry import CREATED, REQUEST_ID, a_call

CALL = a_call(dialect="anthropic")
USAGE = {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3, "output_tokens": 7}
SHAPED = {
    "prompt_tokens": 18,
    "completion_tokens": 7,
    "total_tokens": 25,
    "prompt_tokens_details": {
        "cached_tokens": 5,
        "cache_creation_tokens": 3,
        "cache_creation_token_details": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 0},
    },
    "completion_tokens_details": {"reasoning_tokens": 0},
}


def message(*content: dict[str, Any], stop: str | None = "end_turn", **changes: Any) -> bytes:
    body: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": USAGE,
    }
    return orjson.dumps(body | changes)


def choice(body: bytes) -> dict[str, Any]:
    found = ADAPTER.parse_response(body, CALL).body["choices"]
    assert len(found) == 1
    return dict(found[0])


def test_a_message_is_a_completion_with_thinking_text_tools_and_usage() -> None:
    thinking = {"type": "thinking", "thinking": "Hm. ", "signature": "sig"}
    redacted = {"type": "redacted_thinking", "data": "enc"}
    use = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, "é"]}}
    text = [{"type": "text", "text": "Let "}, {"type": "text", "text": "me see"}]
    completed = ADAPTER.parse_response(message(thinking, redacted, *text, use, stop="tool_use"), CALL)
    created = completed.body.pop("created")
    assert isinstance(created, int)
    assert completed.usage == SHAPED
    assert completed.body == {
        "id": "msg_1",
        "object": "chat.completion",
        "model": "claude-x",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Let me see",
                    "refusal": None,
                    "reasoning_content": "Hm. ",
                    "thinking_blocks": [thinking, redacted],
                    "tool_calls": [
                        {
                            "id": "toolu_1",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"a":[1,"é"]}'},
                        }
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": SHAPED,
    }


@pytest.mark.parametrize(
    ("stop", "finish"),
    [("end_turn", "stop"), ("max_tokens", "length"), ("stop_sequence", "stop"), ("refusal", "content_filter"),
     ("pause_turn", "stop"), ("model_context_window_exceeded", "length"), (None, "stop"), ("tool_use", "stop")],
)  # fmt: skip
def test_stop_reasons(stop: str | None, finish: str) -> None:
    assert choice(message({"type": "text", "text": "x"}, stop=stop))["finish_reason"] == finish


def test_tool_calls_without_input_or_text_and_cut_ones() -> None:
    found = choice(message({"type": "tool_use", "id": "t", "name": "f", "input": {}}, stop="max_tokens"))
    assert found["message"]["content"] is None
    assert found["message"]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert found["finish_reason"] == "length"


def test_the_tool_that_stands_in_for_a_schema_is_the_text() -> None:
    use = {"type": "tool_use", "id": "t", "name": "tollgate_structured_answer", "input": {"n": 1}}
    found = choice(message(use, stop="tool_use"))
    assert found["message"] == {"role": "assistant", "content": '{"n":1}', "refusal": None}
    assert found["finish_reason"] == "stop"


def test_usage_beyond_belief_is_not_shown_and_an_empty_answer_is_one() -> None:
    completed = ADAPTER.parse_response(message(usage={"input_tokens": -1, "output_tokens": 5}), CALL)
    assert completed.usage is None
    assert "usage" not in completed.body
    assert completed.body["choices"][0]["message"]["content"] == ""
    assert ADAPTER.parse_response(message(usage=None), CALL).usage is None


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"{}", b'{"content":"x"}', b'{"content":[1]}',
     b'{"content":[{"type":"text","text":5}]}', b'{"choices":[]}'],
)  # fmt: skip
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        ADAPTER.parse_response(body, CALL)


def test_an_error_under_200_is_an_error() -> None:
    with pytest.raises(UpstreamFailed):
        ADAPTER.parse_response(b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', CALL)


# Streams


def read(*events: Any) -> list[StreamEvent]:
    reader = ADAPTER.reader(a_call(dialect="anthropic", stream=True))
    return [found for one in events for found in reader.read(one if isinstance(one, bytes) else orjson.dumps(one))]


def started(usage: Any = None) -> dict[str, Any]:
    body: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": []}
    return {"type": "message_start", "message": body | {"usage": usage or USAGE | {"output_tokens": 1}}}


def block(index: int, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index: int, kind: str, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind} | content}


def stopped(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def ended(stop: str | None = "end_turn", **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None},
            "usage": usage or {"output_tokens": 7}}  # fmt: skip


STOP = {"type": "message_stop"}


def deltas(events: list[StreamEvent]) -> list[dict[str, Any]]:
    return [event.chunk["choices"][0]["delta"] for event in events if event.chunk]


def test_a_whole_stream_event_by_event() -> None:
    events = read(
        started(),
        {"type": "ping"},
        block(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="Hm"),
        delta(0, "signature_delta", signature="sig"),
        stopped(0),
        block(1, type="text", text=""),
        delta(1, "text_delta", text="Hé"),
        delta(1, "text_delta", text=""),
        delta(1, "citations_delta", citation={}),
        stopped(1),
        block(2, type="tool_use", id="toolu_1", name="f", input={}),
        delta(2, "input_json_delta", partial_json=""),
        delta(2, "input_json_delta", partial_json='{"a":'),
        delta(2, "input_json_delta", partial_json="1}"),
        stopped(2),
        block(3, type="tool_use", id="toolu_2", name="g", input={}),
        stopped(3),
        {"type": "something_new", "x": 1},
        ended("tool_use"),
        STOP,
    )
    assert deltas(events) == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm"},
        {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "sig"}]},
        {"content": "Hé"},
        {"tool_calls": [{"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
        {"tool_calls": [{"index": 1, "id": "toolu_2", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert [event.good for event in events] == [False] + [True] * 9 + [False]
    assert [event.output_bytes for event in events] == [0, 2, 0, 3, 0, 5, 2, 0, 2, 0, 0]
    assert [event.done for event in events] == [False] * 10 + [True]
    assert all(event.raw is None for event in events)
    assert events[3].chunk == {
        "id": "msg_1",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": "claude-x",
        "choices": [{"index": 0, "delta": {"content": "Hé"}, "finish_reason": None}],
    }
    assert events[-2].chunk is not None
    assert events[-2].chunk["choices"] == [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]
    assert events[-1].usage == events[-2].usage == SHAPED


def test_until_something_was_counted_the_answer_is_estimated_and_the_prompt_is_exact() -> None:
    events = read(started(), delta(0, "text_delta", text="Hello"))
    raw = events[-1].usage
    assert raw is not None
    assert raw["prompt_tokens"] == 18
    assert "completion_tokens" not in raw
    assert from_openai(raw, context_window=100) is None
    assert from_openai(raw, context_window=100, completion_estimate=2) == Usage(
        prompt_tokens=18, completion_tokens=2, cached_tokens=5, cache_write_5m_tokens=3, estimated=True
    )


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        (USAGE | {"output_tokens": 1}, {"output_tokens": 7}),
        (USAGE | {"output_tokens": 1}, USAGE),
        ({"input_tokens": 0, "output_tokens": 0}, USAGE),
        (USAGE | {"output_tokens": 1}, {"input_tokens": 0, "cache_read_input_tokens": None, "output_tokens": 7}),
    ],
    ids=["ordinary", "said twice", "only at the end", "a zero repeated"],
)
def test_usage_is_the_same_wherever_it_is_said(opening: dict[str, Any], closing: dict[str, Any]) -> None:
    assert read(started(opening), ended(**closing), STOP)[-1].usage == SHAPED


def test_bad_counts_in_a_stream_are_no_usage() -> None:
    assert read(started(), ended(output_tokens="many"), STOP)[-1].usage is None
    assert read(ended(output_tokens=7), STOP)[-1].usage is None
    assert read(started(), ended(None, output_tokens=7))[-1].usage == SHAPED


def test_the_tool_that_stands_in_for_a_schema_streams_as_text() -> None:
    events = read(
        started(),
        block(0, type="tool_use", id="t", name="tollgate_structured_answer", input={}),
        delta(0, "input_json_delta", partial_json='{"n":'),
        delta(0, "input_json_delta", partial_json="1}"),
        stopped(0),
        ended("tool_use"),
    )
    assert deltas(events)[1:] == [{"content": '{"n":'}, {"content": "1}"}, {}]
    assert events[-1].chunk is not None
    assert events[-1].chunk["choices"][0]["finish_reason"] == "stop"


def test_a_tool_whose_input_came_at_once_and_redacted_thinking() -> None:
    events = read(block(0, type="redacted_thinking", data="enc"), stopped(0),
                  block(1, type="tool_use", id="t", name="f", input={"a": 1}), stopped(1))  # fmt: skip
    assert deltas(events)[0] == {"thinking_blocks": [{"type": "redacted_thinking", "data": "enc"}]}
    assert deltas(events)[-1] == {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}
    assert events[0].chunk is not None
    assert events[0].chunk["id"] == f"chatcmpl-{REQUEST_ID}"
    assert events[0].chunk["model"] == "m-1"


@pytest.mark.parametrize(
    ("kind", "error"),
    [("overloaded_error", UpstreamFailed), ("api_error", UpstreamFailed), ("rate_limit_error", UpstreamRateLimited),
     ("invalid_request_error", UpstreamRejected), ("timeout_error", UpstreamFailed), ("new_error", UpstreamFailed)],
)  # fmt: skip
def test_error_events_are_errors(kind: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        read(started(), {"type": "error", "error": {"type": kind, "message": "x"}})


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b"5", b'{"type":"message_start"}', b'{"type":"content_block_delta"}',
     b'{"type":"content_block_delta","delta":{"type":"text_delta","text":5}}',
     b'{"type":"content_block_start","content_block":"x"}', b'{"type":"message_delta"}'],
)  # fmt: skip
def test_what_is_no_event_is_refused(payload: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        read(payload)


def test_imitations_that_end_with_done_end() -> None:
    assert read(b"[DONE]")[0].done
    assert read({"hello": 1}) == []


@pytest.mark.parametrize("reads", [0, 1, 13])
@pytest.mark.parametrize(
    "oddity",
    [{}, {"crlf": True}, {"comments": True}, {"multi_data": True}, {"no_final_blank": True}, {"no_done": True},
     {"usage_placement": "last_content"}, {"usage_placement": "both"}, {"missing_finish_keys": True}],
    ids=str,
)  # fmt: skip
def test_dirty_streams_of_the_scripted_vendor_say_the_same(oddity: dict[str, Any], reads: int) -> None:
    behaviour = Behaviour(
        text="Grüße an 世界",
        reasoning="Well now",
        tool_calls=[{"name": "f", "arguments": '{"a": "b c"}'}],
        usage={"cached_tokens": 4, "prompt_tokens": 30},
        **oddity,
    )
    request = {"model": "m", "messages": [], "max_tokens": 100, "tools": [{"name": "f", "input_schema": {}}]}
    said = anthropic_wire.answer(request, behaviour, ordinal=1, created=1)
    wire = b"".join(frame.data for frame in anthropic_wire.stream(said, behaviour, request))
    decoder, reader = ADAPTER.decoder(), ADAPTER.reader(a_call(dialect="anthropic", stream=True))
    size = reads or len(wire)
    payloads = [found for at in range(0, len(wire), size) for found in decoder.feed(wire[at : at + size])]
    events = [event for payload in payloads + decoder.close() for event in reader.read(payload)]
    parts = deltas(events)
    assert "".join(part.get("content") or "" for part in parts) == "Grüße an 世界"
    assert "".join(part.get("reasoning_content") or "" for part in parts) == "Well now"
    calls = [call for part in parts for call in part.get("tool_calls", [])]
    assert {call["index"] for call in calls} == {0}
    assert "".join(call["function"]["arguments"] for call in calls) == '{"a": "b c"}'
    usage = from_openai(events[-1].usage, context_window=1000)
    assert usage is not None
    whole = ADAPTER.parse_response(orjson.dumps(anthropic_wire.plain(said, behaviour)), CALL)
    assert usage == from_openai(whole.usage, context_window=1000)
    assert (usage.prompt_tokens, usage.cached_tokens) == (30, 4)
