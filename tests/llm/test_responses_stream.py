"""A chat stream as a Responses stream: order, turns, and the same answer as the whole one. No server, no database."""

from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from llm.calls import StreamEvent
from llm.engine.channel import PING, Ending
from llm.errors import UpstreamFailed, UpstreamRateLimited
from llm.wire import responses_stream
from llm.wire.responses_answer import Facts, response_of
from llm.wire.responses_reasoning import unsealed
from llm.wire.responses_stream import ResponseStream
from tests.llm.test_provider_registry import REQUEST_ID, a_call
from tests.wires.responses_order import events_of, judged

Json = dict[str, Any]
USAGE: Json = {
    "prompt_tokens": 10,
    "completion_tokens": 7,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 3},
    "cost": orjson.Fragment("0.0000041"),
}


def facts(**settings: Any) -> Facts:
    return Facts(request_id=REQUEST_ID, model="m-1", settings=settings, target=a_call().target)


def events(deltas: Iterable[Json], finish: str | None = "stop") -> list[Json]:
    """The judged events of a stream of these deltas."""
    raw, _ = raw_of(deltas, finish)
    found = events_of(raw)
    judged(found)
    return found


def raw_of(deltas: Iterable[Json], finish: str | None = "stop", ending: Ending | None = None) -> tuple[bytes, Facts]:
    known = facts()
    stream = ResponseStream(known)
    chunks = [chunk(delta) for delta in deltas] + ([chunk({}, finish)] if finish else [])
    raw = b"".join(stream.render([event]) for event in chunks)
    return raw + stream.finish(ending or Ending(usage=dict(USAGE))), known


def chunk(delta: Json, finish: str | None = None) -> StreamEvent:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return StreamEvent(chunk={"id": "c", "model": "m-1", "created": 1, "choices": choices}, good=True)


def fragment(index: int, arguments: str = "", *, name: str = "", call_id: str = "") -> Json:
    call: Json = {"index": index, "function": {"arguments": arguments}}
    if name:
        call |= {"id": call_id, "type": "function"}
        call["function"]["name"] = name
    return {"tool_calls": [call]}


def kinds(found: list[Json]) -> list[str]:
    """The types of the events between the first two and the last, shortened."""
    return [event["type"].removeprefix("response.") for event in found[2:-1]]


def output(found: list[Json]) -> list[Json]:
    return list(found[-1]["response"]["output"])


def test_text_comes_in_openais_order() -> None:
    found = events([{"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": "lo"}])
    assert [event["type"] for event in found] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert output(found)[0]["content"] == [{"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello"}]


def test_the_last_event_carries_the_settled_usage_and_its_cost_to_the_digit() -> None:
    raw, _ = raw_of([{"content": "Hi"}])
    assert b'"cost":0.0000041' in raw
    assert events_of(raw)[-1]["response"]["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 17,
        "cost": 0.0000041,
    }


def test_reasoning_then_text_then_a_call() -> None:
    found = events(
        [
            {"reasoning_content": "Let me "},
            {"reasoning_content": "think."},
            {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "sig"}]},
            {"content": "Calling."},
            fragment(0, name="f", call_id="c1"),
            fragment(0, '{"a":1}'),
        ],
        "tool_calls",
    )
    assert kinds(found) == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    reasoning, _, call = output(found)
    assert unsealed(reasoning["encrypted_content"], "") == [
        {"type": "thinking", "thinking": "Let me think.", "signature": "sig"}
    ]
    assert (call["call_id"], call["name"], call["arguments"], call["status"]) == ("c1", "f", '{"a":1}', "completed")


def test_calls_that_come_interleaved_go_out_one_after_the_other() -> None:
    found = events(
        [
            fragment(0, name="f", call_id="c1"),
            fragment(1, name="g", call_id="c2"),
            fragment(0, '{"a":'),
            fragment(1, '{"b":'),
            fragment(1, "2}"),
            fragment(0, "1}"),
            fragment(2, "{}", name="h", call_id="c3"),
        ],
        "tool_calls",
    )
    assert [(one["name"], one["arguments"]) for one in output(found)] == [
        ("f", '{"a":1}'),
        ("g", '{"b":2}'),
        ("h", "{}"),
    ]
    assert kinds(found).count("function_call_arguments.delta") == 4  # what waited is said at once


def test_a_call_is_told_of_as_it_comes_once_the_one_before_is_whole() -> None:
    stream = ResponseStream(facts())
    stream.render([chunk(fragment(0, '{"a":1}', name="f", call_id="c1"))])
    assert b"c2" in stream.render([chunk(fragment(1, name="g", call_id="c2"))])
    assert b'"delta":"{\\"b\\""' in stream.render([chunk(fragment(1, '{"b"'))])


def test_what_comes_after_a_call_was_told_of_to_its_end_is_left_out() -> None:
    calls = [fragment(0, "{}", name="f", call_id="c1"), fragment(1, "{", name="g", call_id="c2"), fragment(0, "\n")]
    found = events([*calls, fragment(1, "}")], "tool_calls")
    assert [one["arguments"] for one in output(found)] == ["{}", "{}"]


def test_text_that_comes_between_the_fragments_of_a_call_waits_for_its_end() -> None:
    found = events([fragment(0, '{"a"', name="f", call_id="c1"), {"content": "Hm."}, fragment(0, ":1}")], "tool_calls")
    assert [one["type"] for one in output(found)] == ["function_call", "message"]
    assert output(found)[0]["arguments"] == '{"a":1}'


def test_calls_without_ids_or_with_the_same_get_their_own() -> None:
    found = events(
        [fragment(0, "{}", name="f", call_id="x"), fragment(1, "{}", name="f", call_id="x"), fragment(2, name="g")]
    )
    ids = [one["call_id"] for one in output(found)]
    assert ids[0] == "x"
    assert len(set(ids)) == 3
    assert output(found)[2]["arguments"] == "{}"  # what OpenAI writes for none


def test_a_custom_tool_is_called_with_text() -> None:
    call = {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "sh", "input": "ls"}}
    found = events([{"tool_calls": [call]}, {"tool_calls": [{"index": 0, "custom": {"input": " -l"}}]}], "tool_calls")
    [item] = output(found)
    assert (item["type"], item["name"], item["input"], item["call_id"]) == ("custom_tool_call", "sh", "ls -l", "c1")


def test_what_a_provider_wants_back_with_a_call_is_handed_out() -> None:
    call = fragment(0, "{}", name="f", call_id="c1")
    call["tool_calls"][0]["extra_content"] = {"google": {"thought_signature": "s"}}
    assert output(events([call], "tool_calls"))[0]["extra_content"] == {"google": {"thought_signature": "s"}}


def test_a_refusal_is_a_part_of_its_own() -> None:
    found = events([{"content": "Well. "}, {"refusal": "I"}, {"refusal": " won't."}])
    assert output(found)[0]["content"][1] == {"type": "refusal", "refusal": "I won't."}
    assert kinds(found).count("refusal.delta") == 2


def test_log_probabilities_go_with_their_text() -> None:
    event = chunk({"content": "Hi"})
    assert event.chunk is not None
    top = {"token": "Hi", "logprob": -0.1, "bytes": [72, 105]}
    event.chunk["choices"][0]["logprobs"] = {"content": [{**top, "top_logprobs": [top]}]}
    stream = ResponseStream(facts())
    found = events_of(stream.render([event]) + stream.finish(Ending(usage=dict(USAGE))))
    judged(found)
    [delta] = [one for one in found if one["type"] == "response.output_text.delta"]
    assert delta["logprobs"] == [{**top, "top_logprobs": [top]}] == output(found)[0]["content"][0]["logprobs"]


def test_sources_of_a_text_go_with_it() -> None:
    url = {"url": "https://x", "title": "X", "start_index": 0, "end_index": 2}
    odd = {"type": "url_citation", "url_citation": {"url": 5}}
    found = events([{"content": "Hi"}, {"annotations": [{"type": "url_citation", "url_citation": url}, odd, 5]}])
    assert output(found)[0]["content"][0]["annotations"] == [{"type": "url_citation", **url}]
    [cited] = [one for one in found if one["type"] == "response.output_text.annotation.added"]
    assert (cited["annotation_index"], cited["annotation"]["url"]) == (0, "https://x")


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
        (None, "completed", None),
    ],
)
def test_the_finish_is_the_status(finish: str | None, status: str, reason: Json | None) -> None:
    found = events([{"content": "Hi"}], finish)
    response = found[-1]["response"]
    assert (response["status"], response["incomplete_details"]) == (status, reason)
    assert response["output"][0]["status"] == status
    assert (response["completed_at"] is None) is (status != "completed")


def test_a_finish_with_more_behind_it_was_none() -> None:
    stream = ResponseStream(facts())
    stream.render([chunk({"content": "Hi"}), chunk({}, "length")])
    more = [chunk({"content": " again"}), chunk({}, "stop"), chunk({"content": ""}, "length")]
    assert b" again" in stream.render(more)
    assert b"response.completed" in stream.finish(Ending(usage=USAGE))


def test_an_answer_that_says_nothing_is_an_empty_message() -> None:
    found = events([{"role": "assistant", "content": ""}])
    assert output(found)[0]["content"][0]["text"] == ""
    assert "output_text.delta" not in kinds(found)


def test_a_ping_is_a_comment() -> None:
    stream = ResponseStream(facts())
    assert stream.render([PING]) == b": ping\n\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [(UpstreamFailed("It broke."), "server_error"), (UpstreamRateLimited("Too many."), "rate_limit_exceeded")],
)
def test_a_failure_is_an_error_that_sdks_raise_at_and_one_last_event(error: Any, code: str) -> None:
    raw, _ = raw_of([{"content": "Hel"}, fragment(0, '{"a"', name="f", call_id="c")], None, Ending(error=error))
    found = events_of(raw)
    response = judged(found)
    assert found[-2]["error"] == {"message": error.message, "type": error.type, "param": None, "code": error.code}
    assert found[-2]["code"] == error.code
    assert response["error"] == {"code": code, "message": error.message}
    assert [one["status"] for one in response["output"]] == ["completed", "incomplete"]


def test_calls_that_wait_when_the_stream_breaks_are_not_called_complete() -> None:
    deltas = [fragment(0, '{"a"', name="f", call_id="c"), fragment(1, "{}", name="g", call_id="d")]
    raw, _ = raw_of(deltas, None, Ending(error=UpstreamFailed("It broke.")))
    assert [one["status"] for one in judged(events_of(raw))["output"]] == ["incomplete", "incomplete"]


def test_an_answer_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses_stream, "MAX_ANSWER_BYTES", 100)
    raw, _ = raw_of([{"content": "x" * 60}] * 5)
    response = judged(events_of(raw))
    assert response["error"]["message"] == "The provider's answer has no end."
    assert len(response["output"][0]["content"][0]["text"]) == 120


MESSAGES: dict[str, Json] = {
    "text": {"content": "Hello"},
    "nothing": {"content": ""},
    "reasoning": {"content": "So.", "reasoning_content": "Hm."},
    "signed": {
        "content": "So.",
        "reasoning_content": "Hm.",
        "thinking_blocks": [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "redacted_thinking", "data": "d"},
        ],
    },
    "refusal": {"content": None, "refusal": "No."},
    "sources": {
        "content": "Hi",
        "annotations": [{"url_citation": {"url": "https://x", "title": "X", "start_index": 0, "end_index": 2}}],
    },
    "calls": {
        "content": None,
        "tool_calls": [
            {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}},
            {"index": 1, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        ],
    },
}


@pytest.mark.parametrize("finish", ["stop", "length"])
@pytest.mark.parametrize("name", MESSAGES)
def test_a_whole_answer_and_a_stream_say_the_same(name: str, finish: str) -> None:
    raw, known = raw_of([MESSAGES[name]], finish)
    streamed = judged(events_of(raw))
    choice = {"index": 0, "message": MESSAGES[name], "finish_reason": finish}
    whole = orjson.loads(orjson.dumps(response_of(known, choice, dict(USAGE), "")))
    assert whole | {"completed_at": 0} == streamed | {"completed_at": 0}
