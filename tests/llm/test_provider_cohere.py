"""Cohere's answers, whole and streamed, as chat completions. The bytes are in tests/recordings/cohere."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from llm.calls import StreamEvent, Usage
from llm.errors import (
    ByokRejected,
    ProviderError,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from llm.providers.cohere import ADAPTER
from llm.providers.usage import from_openai
from tests.llm.test_provider_registry import CREATED, a_call

RECORDINGS = Path(__file__).parents[1] / "recordings" / "cohere"
CALL = a_call(dialect="cohere", base_url="https://api.cohere.com/v2")
WEATHER = "get_weather_nsz5zm3w56q3"


def recorded(name: str) -> bytes:
    return (RECORDINGS / name).read_bytes()


def whole(name: str) -> dict[str, Any]:
    [choice] = ADAPTER.parse_response(recorded(name), CALL).body["choices"]
    return dict(choice)


def changed(**changes: Any) -> bytes:
    return orjson.dumps(orjson.loads(recorded("chat.json")) | changes)


def streamed(raw: bytes, *, reads: int = 1 << 20) -> list[StreamEvent]:
    decoder, reader = ADAPTER.decoder(), ADAPTER.reader(CALL)
    payloads = [one for at in range(0, len(raw), reads) for one in decoder.feed(raw[at : at + reads])]
    return [event for payload in [*payloads, *decoder.close()] for event in reader.read(payload)]


def deltas(events: list[StreamEvent]) -> list[dict[str, Any]]:
    return [event.chunk["choices"][0]["delta"] for event in events if event.chunk is not None]


# Whole answers


def test_a_chat_answer_is_a_completion() -> None:
    completed = ADAPTER.parse_response(recorded("chat.json"), CALL)
    assert isinstance(completed.body.pop("created"), int)
    usage = {"prompt_tokens": 5, "completion_tokens": 418, "total_tokens": 423}
    assert completed.usage == usage
    assert completed.body == {
        "id": "c14c80c3-18eb-4519-9460-6c92edd8cfb4",
        "object": "chat.completion",
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "LLMs are language models.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": usage,
    }


def test_what_is_billed_is_billed_not_what_was_counted_or_cached() -> None:
    completed = ADAPTER.parse_response(recorded("tools.json"), CALL)
    assert from_openai(completed.usage, context_window=128_000) == Usage(prompt_tokens=17, completion_tokens=19)


@pytest.mark.parametrize(
    ("usage", "prompt"),
    [
        ({"billed_units": {"input_tokens": 5.0, "output_tokens": 7.0}}, 5),  # floats, by the schema
        ({"billed_units": {"input_tokens": 0, "output_tokens": 7}, "tokens": {"input_tokens": 9}}, 0),
        ({"billed_units": {}, "tokens": {"input_tokens": 9, "output_tokens": 7}}, 9),
        ({"tokens": {"input_tokens": 9, "output_tokens": 7}}, 9),
    ],
)  # fmt: skip
def test_counts(usage: dict[str, Any], prompt: int) -> None:
    found = ADAPTER.parse_response(changed(usage=usage), CALL).usage
    assert found == {"prompt_tokens": prompt, "completion_tokens": 7, "total_tokens": prompt + 7}
    assert type(found["prompt_tokens"]) is int


@pytest.mark.parametrize(
    "usage",
    [None, [], {}, {"billed_units": {"input_tokens": -1, "output_tokens": 7}},
     {"billed_units": {"input_tokens": 1.5, "output_tokens": 7}}, {"billed_units": {"input_tokens": 5}},
     {"billed_units": {"input_tokens": True, "output_tokens": 7}}],
    ids=str,
)  # fmt: skip
def test_counts_that_are_none_are_not_shown(usage: Any) -> None:
    completed = ADAPTER.parse_response(changed(usage=usage), CALL)
    assert completed.usage is None
    assert "usage" not in completed.body


def test_a_plan_and_tool_calls() -> None:
    choice = whole("tools.json")
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "I will look up both cities.",
        "tool_calls": [
            {
                "id": WEATHER,
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"location":"Toronto"}'},
            },
            {"id": "get_time_p5n1k2r8", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
        ],
    }


def test_thinking_is_reasoning_content() -> None:
    message = whole("reasoning.json")["message"]
    assert (message["reasoning_content"], message["content"]) == ("Two sisters, and Alice.", "Three.")


def test_log_probabilities_and_citations_are_kept() -> None:
    items = [
        {"text": "Hé", "token_ids": [1], "logprobs": [-0.5]},
        {"text": " you", "token_ids": [2, 3], "logprobs": [-1, -0.25]},
    ]
    cited = [{"start": 0, "end": 2, "text": "Hé", "sources": []}]
    message = {"role": "assistant", "content": [{"type": "text", "text": "Hé you"}], "citations": cited}
    [choice] = ADAPTER.parse_response(changed(message=message, logprobs=items), CALL).body["choices"]
    assert choice["logprobs"]["content"] == [
        {"token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169], "top_logprobs": []},
        {"token": " you", "logprob": -1.25, "bytes": [32, 121, 111, 117], "top_logprobs": []},
    ]
    assert choice["message"]["citations"] == cited


@pytest.mark.parametrize(
    ("said", "finish"),
    [("COMPLETE", "stop"), ("STOP_SEQUENCE", "stop"), ("MAX_TOKENS", "length"), ("TOOL_CALL", "stop"), (None, "stop")],
)
def test_finish_reasons(said: str | None, finish: str) -> None:
    [choice] = ADAPTER.parse_response(changed(finish_reason=said), CALL).body["choices"]
    assert choice["finish_reason"] == finish


@pytest.mark.parametrize(("said", "error"), [("ERROR", UpstreamFailed), ("TIMEOUT", UpstreamTimeout)])
def test_an_answer_that_was_broken_off_is_none(said: str, error: type[ProviderError]) -> None:
    with pytest.raises(error):
        ADAPTER.parse_response(changed(finish_reason=said), CALL)
    with pytest.raises(error):
        streamed(b'data: {"type":"message-end","delta":{"finish_reason":"%s"}}\n\n' % said.encode())


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"{}", b'{"message":[]}', b'{"message":{"content":"x"}}',
     b'{"message":{"content":[1]}}',
     b'{"message":{"content":[{"type":"text","text":5}]}}', b'{"message":{"tool_calls":{"a":1}}}',
     b'{"message":{"tool_calls":[{"id":"a"}]}}', b'{"message":{},"logprobs":[{"text":"x","logprobs":["no"]}]}'],
)  # fmt: skip
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        ADAPTER.parse_response(body, CALL)


def test_an_error_under_200_is_an_error() -> None:
    with pytest.raises(UpstreamFailed) as caught:
        ADAPTER.parse_response(b'{"message":"no healthy upstream at 10.1.2.3"}', CALL)
    assert "10.1.2.3" not in caught.value.message


# Streams


@pytest.mark.parametrize("reads", [1 << 20, 1, 7])
def test_a_stream_of_text(reads: int) -> None:
    events = streamed(recorded("text.sse"), reads=reads)
    assert deltas(events) == [{"role": "assistant", "content": ""}, {"content": "Zażół"}, {"content": "ć"}, {}]
    assert {event.chunk["id"] for event in events if event.chunk} == {"a8fc192e-4bb8-4e15-ae1f-a174e8b02ae8"}
    assert {(event.chunk["model"], event.chunk["created"]) for event in events if event.chunk} == {("m-1", CREATED)}
    assert [event.good for event in events] == [False, True, True, True, False]
    assert [event.output_bytes for event in events] == [0, 8, 2, 0, 0]
    assert events[-2].chunk is not None
    assert events[-2].chunk["choices"][0]["finish_reason"] == "length"
    assert [event.done for event in events] == [False] * 4 + [True]
    usage = {"prompt_tokens": 17, "completion_tokens": 2, "total_tokens": 19}
    assert [event.usage for event in events] == [None] * 3 + [usage, usage]


def test_a_stream_of_a_plan_and_two_calls() -> None:
    events = streamed(recorded("tools.sse"))
    function, other = {"name": "get_weather", "arguments": ""}, {"name": "get_time", "arguments": ""}
    assert deltas(events) == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "I will"},
        {"reasoning_content": " look."},
        {"tool_calls": [{"index": 0, "id": WEATHER, "type": "function", "function": function}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{\n    "'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": 'location": "Łódź"}'}}]},
        {"tool_calls": [{"index": 1, "id": "get_time_p5n1k2r8", "type": "function", "function": other}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]  # fmt: skip
    assert events[-2].chunk is not None
    assert events[-2].chunk["choices"][0]["finish_reason"] == "tool_calls"
    assert events[-1].usage == {"prompt_tokens": 17, "completion_tokens": 19, "total_tokens": 36}


def test_a_stream_of_thinking_text_and_a_citation() -> None:
    found = deltas(streamed(recorded("reasoning.sse")))
    assert found[1:3] == [{"reasoning_content": "Hm."}, {"content": "gym memberships"}]
    assert found[3]["citations"][0]["text"] == "gym memberships"


def test_log_probabilities_of_a_stream() -> None:
    event = {
        "type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "a"}}},
        "logprobs": {"text": "a", "token_ids": [7], "logprobs": [-0.1]},
    }  # fmt: skip
    [found] = streamed(b"data: " + orjson.dumps(event) + b"\n\n")
    assert found.chunk is not None
    assert found.chunk["choices"][0]["logprobs"]["content"][0]["logprob"] == -0.1


def test_a_generation_that_fails_midway_is_an_error_after_what_came() -> None:
    decoder, reader = ADAPTER.decoder(), ADAPTER.reader(CALL)
    *good, last = decoder.feed(recorded("broken.sse"))
    assert deltas([event for payload in good for event in reader.read(payload)])[-1] == {"content": "Half"}
    with pytest.raises(UpstreamFailed) as caught:
        reader.read(last)
    assert "10.0.0.7" not in caught.value.message


@pytest.mark.parametrize(
    "payload",
    [b"{", b"[]", b'{"type":"content-delta"}', b'{"type":"message-end"}',
     b'{"type":"content-delta","delta":{"message":{"content":{"text":5}}}}',
     b'{"type":"tool-call-delta","delta":{"message":{"tool_calls":{"function":{"arguments":"x"}}}}}',
     b'{"type":"tool-call-start","delta":{"message":{"tool_calls":[]}}}'],
)  # fmt: skip
def test_what_is_no_event_is_refused(payload: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        ADAPTER.reader(CALL).read(payload)


@pytest.mark.parametrize(
    "payload", [b'{"type":"debug","prompt":"x"}', b'{"type":"later-invention"}', b'{"type":"content-end"}']
)
def test_events_that_say_nothing_to_a_client_are_passed_over(payload: bytes) -> None:
    assert ADAPTER.reader(CALL).read(payload) == []


# Errors


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, UpstreamRejected), (401, UpstreamAuthFailed), (402, UpstreamAuthFailed), (403, UpstreamAuthFailed),
     (422, UpstreamRejected), (429, UpstreamRateLimited), (498, UpstreamRejected), (499, UpstreamFailed),
     (500, UpstreamFailed), (501, UpstreamFailed), (503, UpstreamFailed), (504, UpstreamFailed), (404, UpstreamFailed)],
)  # fmt: skip
def test_errors_by_status(status: int, error: type[ProviderError]) -> None:
    body = b'{"id":"5f1c","message":"invalid request: see https://inside.cohere.com"}'
    found = ADAPTER.parse_error(status, {"retry-after": "7"}, body, byok=False)
    assert type(found) is error or status == 404
    assert "inside" not in found.message
    assert ("invalid request" in found.message) == (status in (400, 422))
    assert found.retryable == (status in (429, 499, 500, 501, 503, 504))
    assert found.retry_after == (7 if found.retryable else None)


def test_a_tenants_own_key_that_is_refused_is_the_tenants_to_mend() -> None:
    found = ADAPTER.parse_error(401, {}, b'{"message":"invalid api token"}', byok=True)
    assert isinstance(found, ByokRejected)
    assert "api token" not in found.message
