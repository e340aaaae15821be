"""The OpenAI dialect's streams: clean ones pass untouched, dirty ones come out clean. Bytes in, events out."""

from typing import Any

import orjson
import pytest

from llm.calls import StreamEvent
from llm.errors import ByokRejected, UpstreamFailed, UpstreamInvalid
from llm.providers.openai import ADAPTER
from tests.fakes import openai_wire
from tests.fakes.behaviour import Behaviour
from tests.llm.test_provider_registry import a_call


def chunk(delta: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta if delta is not None else {}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]} | more


def read(*events: Any, **how: Any) -> list[StreamEvent]:
    reader = ADAPTER.reader(a_call(stream=True, **how))
    return [
        found for event in events for found in reader.read(event if isinstance(event, bytes) else orjson.dumps(event))
    ]


def one(event: Any) -> StreamEvent:
    (found,) = read(event)
    return found


def deltas(events: list[StreamEvent]) -> list[dict[str, Any]]:
    return [event.chunk["choices"][0]["delta"] for event in events if event.chunk and event.chunk["choices"]]


def test_a_text_event_is_good_counted_and_kept_as_it_came() -> None:
    payload = b'{"id":"c","choices":[{"index":0,"delta":{"content":"h\xc3\xa9llo"},"finish_reason":null}], "x":1}'
    (event,) = read(payload)
    assert event == StreamEvent(
        chunk=orjson.loads(payload), raw=payload, good=True, usage=None, output_bytes=6, done=False
    )


@pytest.mark.parametrize(
    ("delta", "finish", "good", "produced"),
    [
        ({"role": "assistant"}, None, False, 0),
        ({"role": "assistant", "content": ""}, None, False, 0),
        ({"role": "assistant", "content": None}, None, False, 0),
        ({}, None, False, 0),
        ({"content": ""}, None, False, 0),
        ({"content": "abc"}, None, True, 3),
        ({"role": "assistant", "content": "abc"}, None, True, 3),
        ({"reasoning_content": "abc"}, None, True, 3),
        ({"refusal": "no"}, None, True, 2),
        ({"function_call": {"name": "f", "arguments": "{}"}}, None, True, 2),
        ({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}}]}, None, True, 0),
        (
            {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": '{"a":"é"}'}}]},
            None,
            True,
            10,
        ),
        ({"tool_calls": []}, None, False, 0),
        ({}, "stop", True, 0),
        ({}, "length", True, 0),
        ({"audio": {"data": "AAA"}}, None, True, 0),
    ],
)
def test_what_makes_an_event_good(delta: dict[str, Any], finish: str | None, good: bool, produced: int) -> None:
    event = one(chunk(delta, finish))
    assert (event.good, event.output_bytes, event.done) == (good, produced, False)
    assert event.raw == orjson.dumps(chunk(delta, finish))


def test_done_in_every_spelling_and_twice() -> None:
    assert read(b"[DONE]", b" [DONE] ", b"[DONE]") == [StreamEvent(done=True)] * 3


def test_payloads_that_span_lines_are_never_sent_on_raw() -> None:
    payload = orjson.dumps(chunk({"content": "a"})).replace(b",", b",\n", 1)
    (event,) = read(payload)
    assert event.raw is None
    assert event.chunk == chunk({"content": "a"})


# Usage

USED = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


@pytest.mark.parametrize(
    "events",
    [
        [chunk({}, "stop"), chunk(choices=[], usage=USED)],
        [chunk({}, "stop", usage=USED)],
        [chunk({}, "stop", usage=USED), chunk(choices=[], usage=USED)],
        [chunk({"content": "x"}, usage=USED | {"completion_tokens": 1}), chunk({}, "stop", usage=USED)],
        [chunk({}, "stop", usage=USED), chunk(choices=[], usage=None)],
        [chunk({}, "stop"), {"usage": USED}],
        [chunk({}, "stop"), {"usage": USED, "choices": None}],
        [chunk({}, "stop", x_groq={"id": "r", "usage": USED})],
        [chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USED}])],
        [chunk({}, "stop", usage=USED), chunk(choices=[], usage={}), chunk(choices=[], usage="none")],
    ],
)
def test_usage_is_the_last_that_was_said_wherever_it_was_said(events: list[dict[str, Any]]) -> None:
    found = read(*events, b"[DONE]")
    assert found[-1].usage == USED
    assert found[-1].done
    assert all(event.chunk is None or isinstance(event.chunk["choices"], list) for event in found)


def test_a_stream_without_usage_says_none() -> None:
    assert [event.usage for event in read(chunk({"content": "x"}, usage=None), chunk({}, "stop"), b"[DONE]")] == [
        None
    ] * 3


# Tool calls


def fragments(*calls: dict[str, Any] | list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    events = read(*(chunk({"tool_calls": call if isinstance(call, list) else [call]}) for call in calls))
    return [delta["tool_calls"] for delta in deltas(events)]


def indexes(*calls: dict[str, Any] | list[dict[str, Any]]) -> list[int]:
    return [call["index"] for group in fragments(*calls) for call in group]


def start(known: str, index: int | None = None, arguments: str = "") -> dict[str, Any]:
    call: dict[str, Any] = {"id": known, "type": "function", "function": {"name": "f", "arguments": arguments}}
    return call if index is None else {"index": index} | call


def more(arguments: str, index: int | None = None) -> dict[str, Any]:
    call: dict[str, Any] = {"function": {"arguments": arguments}}
    return call if index is None else {"index": index} | call


def test_tool_calls_in_order_are_untouched() -> None:
    calls = [start("a", 0), more('{"x', 0), more('":1}', 0), start("b", 1), more("{}", 1), more(" ", 0)]
    events = [chunk({"tool_calls": [call]}) for call in calls]
    assert [event.raw for event in read(*events)] == [orjson.dumps(event) for event in events]


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([start("a"), more("{"), more("}"), start("b"), more("{}")], [0, 0, 0, 1, 1]),
        ([[start("a", arguments="{}"), start("b", arguments="{}")]], [0, 1]),
        ([start("a", 0, "{}"), start("b", 0, "{}"), start("c", 0, "{}")], [0, 1, 2]),
        ([start("a", 0), more("{", 0), start("b", 0), more("{", 0)], [0, 0, 1, 1]),
        ([start("a"), start("b"), start("a", arguments="{}")], [0, 1, 0]),
        ([start("a", 0), start("b", 1), more("{}", 0), more("{}", 1)], [0, 1, 0, 1]),
        ([start("a", 1), start("b", 2)], [0, 1]),
        ([start("a", -1), start("b", -1)], [0, 1]),
        ([start("a"), start("b", 7), more("{}", 7)], [0, 1, 1]),
        ([start("x1", 0), {"index": 0, "id": "x2", "function": {"arguments": "{}"}}], [0, 0]),
        ([start(""), start("")], [0, 1]),
    ],
    ids=["no index", "two in one event", "all zero", "zero again with fragments", "by id", "interleaved", "from one",
         "negative", "jumping", "an id that changes midway", "neither id nor index"],
)  # fmt: skip
def test_every_call_has_one_index_of_its_own(calls: list[Any], expected: list[int]) -> None:
    assert indexes(*calls) == expected


def test_choices_count_their_tool_calls_apart() -> None:
    def event(choice: int) -> dict[str, Any]:
        row = {"index": choice, "delta": {"tool_calls": [start(f"c{choice}")]}, "finish_reason": None}
        return chunk(choices=[row])

    found = read(event(0), event(1), event(0))
    assert [delta["tool_calls"][0]["index"] for delta in deltas(found)] == [0, 0, 0]


def test_the_finish_says_tool_calls_when_tools_were_called() -> None:
    events = read(chunk({"tool_calls": [start("a", 0)]}), chunk({}, "stop"))
    assert events[-1].chunk is not None
    assert events[-1].chunk["choices"][0]["finish_reason"] == "tool_calls"
    assert events[-1].raw is None
    events = read(chunk({"tool_calls": [start("a", 0)]}), chunk({}, "length"))
    assert events[-1].chunk is not None
    assert events[-1].chunk["choices"][0]["finish_reason"] == "length"


def test_arguments_given_as_an_object_become_text() -> None:
    ((call,),) = fragments({"index": 0, "id": "a", "function": {"name": "f", "arguments": {"a": [1]}}})
    assert call["function"]["arguments"] == '{"a":[1]}'


# Vendors' ways


def test_reasoning_under_another_name_is_given_under_both() -> None:
    event = one(chunk({"content": "", "reasoning": "Hm"}))
    assert deltas([event]) == [{"content": "", "reasoning": "Hm", "reasoning_content": "Hm"}]
    assert (event.good, event.output_bytes, event.raw) == (True, 2, None)


def test_content_in_parts_becomes_text_and_reasoning() -> None:
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]
    assert deltas([one(chunk({"content": thinking}))]) == [{"content": "", "reasoning_content": "Hm"}]
    assert deltas([one(chunk({"content": [{"type": "text", "text": "Hi"}]}))]) == [{"content": "Hi"}]


def test_missing_keys_do_not_hurt() -> None:
    event = one({"choices": [{"delta": {"content": "x"}}]})
    assert event.chunk == {"choices": [{"delta": {"content": "x"}, "index": 0}]}
    assert event.good
    assert one({"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]}).good
    assert one({"choices": [{"index": 0, "finish_reason": "stop"}]}).good
    assert one({"choices": [], "prompt_filter_results": []}).good is False


@pytest.mark.parametrize("event", [{}, {"type": "ping"}, {"id": "x", "error": None}, {"choices": None}])
def test_keep_alives_in_json_are_passed_over(event: dict[str, Any]) -> None:
    assert read(event) == []


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"hello", b"[]", b"5", b"null", b'"x"', b'{"choices":{}}', b'{"choices":[5]}', b"\xff\xfe",
     b'{"choices":[{"delta":"x"}]}', b'{"choices":[{"delta":{"tool_calls":{"a":1}}}]}', b"[DONE",
     b'{"choices":[{"delta":{"tool_calls":[1]}}]}', b'{"choices":[{"delta":{"content":5}}]}',
     b'{"choices":[{"delta":{"role":"assistant","content":{}}}]}'],
)  # fmt: skip
def test_what_is_no_event_is_refused(payload: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        read(payload)


def test_errors_inside_a_stream_are_errors() -> None:
    with pytest.raises(UpstreamFailed):
        read(chunk({"content": "x"}), {"error": {"type": "server_error", "message": "x"}})
    with pytest.raises(UpstreamFailed):
        read(chunk({"content": ""}, "error"))
    with pytest.raises(ByokRejected):
        read({"error": {"type": "authentication_error"}}, key_source="byok")


# Whole streams of the scripted vendor, as bytes


def spoken(behaviour: Behaviour, reads: int = 0, **body: Any) -> list[StreamEvent]:
    request = {"model": "m", "messages": [], "stream_options": {"include_usage": True}, "max_tokens": 100} | body
    said = openai_wire.answer(request, behaviour, ordinal=1, created=1)
    wire = b"".join(frame.data for frame in openai_wire.stream(said, behaviour, request))
    call = a_call(stream=True)
    decoder, reader = ADAPTER.decoder(), ADAPTER.reader(call)
    size = reads or len(wire) or 1
    payloads = [found for at in range(0, len(wire), size) for found in decoder.feed(wire[at : at + size])]
    return [event for payload in payloads + decoder.close() for event in reader.read(payload)]


def said(events: list[StreamEvent]) -> tuple[str, str | None, Any]:
    text, finish = "", None
    for event in events:
        for choice in event.chunk["choices"] if event.chunk else []:
            text += choice["delta"].get("content") or ""
            finish = choice.get("finish_reason") or finish
    return text, finish, events[-1].usage


@pytest.mark.parametrize("reads", [0, 1, 7, 4096])
@pytest.mark.parametrize(
    "oddity",
    [
        {}, {"crlf": True}, {"comments": True}, {"multi_data": True}, {"no_done": True}, {"double_done": True},
        {"no_final_blank": True}, {"missing_finish_keys": True}, {"role_every_chunk": True}, {"id_changes": True},
        {"usage_placement": "last_content"}, {"usage_placement": "both"}, {"usage_placement": "cumulative"},
        {"crlf": True, "comments": True, "multi_data": True, "no_final_blank": True},
    ],
    ids=str,
)  # fmt: skip
def test_a_dirty_stream_says_what_the_clean_one_says(oddity: dict[str, Any], reads: int) -> None:
    clean = said(spoken(Behaviour(text="Grüße, 世界 and 😀 all", chunks=6)))
    assert clean[:2] == ("Grüße, 世界 and 😀 all", "stop")
    assert clean[2]["completion_tokens"] == 5
    assert said(spoken(Behaviour(text="Grüße, 世界 and 😀 all", chunks=6, **oddity), reads)) == clean


def test_parallel_calls_without_indexes_come_out_apart() -> None:
    calls = [{"name": "f", "arguments": '{"a": 1}', "id": "1"}, {"name": "g", "arguments": '{"b": 2}', "id": "2"}]
    tools = [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]
    events = spoken(Behaviour(tool_calls=calls, text="", omit_tool_index=True), tools=tools)
    whole: dict[int, str] = {}
    for delta in deltas(events):
        for call in delta.get("tool_calls", []):
            whole[call["index"]] = whole.get(call["index"], "") + call["function"]["arguments"]
    assert whole == {0: '{"a": 1}', 1: '{"b": 2}'}
    assert said(events)[1] == "tool_calls"
