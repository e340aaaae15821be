"""Bedrock's answers, whole, streamed and refused, as chat completions and errors."""

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
)
from llm.providers.bedrock import ADAPTER
from llm.providers.failures import UpstreamModelMissing
from llm.providers.usage import from_openai
from tests.fakes.bedrock_wire import event, exception
from tests.llm.test_provider_registry import CREATED, REQUEST_ID, a_call

RECORDINGS = Path(__file__).parent.parent / "recordings" / "bedrock"
CALL = a_call(dialect="bedrock")
STREAM = a_call(dialect="bedrock", stream=True)
SHAPED = {
    "prompt_tokens": 1512,
    "completion_tokens": 61,
    "total_tokens": 1573,
    "prompt_tokens_details": {
        "cached_tokens": 1000,
        "cache_creation_tokens": 500,
        "cache_creation_token_details": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 300},
    },
    "completion_tokens_details": {"reasoning_tokens": 0},
}
THINKING = [
    {"type": "thinking", "thinking": "Six times seven.", "signature": "EqoBCkgIARABGAIiQL8="},
    {"type": "redacted_thinking", "data": "cmVkYWN0ZWQ="},
]


def recorded(name: str) -> bytes:
    return (RECORDINGS / name).read_bytes()


def read(raw: bytes, *, size: int = 1 << 20) -> list[StreamEvent]:
    """The events of a stream that arrives in pieces of that size."""
    decoder, reader = ADAPTER.decoder(), ADAPTER.reader(STREAM)
    found = []
    for at in range(0, len(raw), size):
        for payload in decoder.feed(raw[at : at + size]):
            found += reader.read(payload)
    assert decoder.close() == []
    return found


def deltas(events: list[StreamEvent]) -> list[dict[str, Any]]:
    return [one.chunk["choices"][0]["delta"] for one in events if one.chunk is not None]


def answer(*content: dict[str, Any], stop: str = "end_turn", **changes: Any) -> bytes:
    body: dict[str, Any] = {"output": {"message": {"role": "assistant", "content": list(content)}}, "stopReason": stop}
    return orjson.dumps(body | {"usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}} | changes)


# Whole answers


def test_an_answer_is_a_completion_with_thinking_text_tools_and_usage() -> None:
    completed = ADAPTER.parse_response(recorded("answer.json"), CALL)
    assert completed.body.pop("id").startswith("chatcmpl-")
    assert completed.usage == SHAPED
    assert completed.body == {
        "object": "chat.completion",
        "created": CREATED,
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "I add.",
                    "refusal": None,
                    "reasoning_content": "Six times seven.",
                    "thinking_blocks": THINKING,
                    "tool_calls": [
                        {
                            "id": "tooluse_A1b2C3d4E5f6G7h8I9j0Kw",
                            "type": "function",
                            "function": {"name": "add", "arguments": '{"a":[1,"é"]}'},
                        },
                        {
                            "id": "tooluse_Z9y8X7w6V5u4T3s2R1q0Po",
                            "type": "function",
                            "function": {"name": "now", "arguments": "{}"},
                        },
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": SHAPED,
    }


def test_what_is_billed_is_what_aws_bills() -> None:
    usage = from_openai(ADAPTER.parse_response(recorded("answer.json"), CALL).usage, context_window=200_000)
    assert usage == Usage(
        prompt_tokens=1512,
        completion_tokens=61,
        cached_tokens=1000,
        cache_write_5m_tokens=200,
        cache_write_1h_tokens=300,
    )
    assert usage.meters() == {
        "input": 12, "cache_read": 1000, "cache_write_5m": 200, "cache_write_1h": 300, "output": 61,
    }  # fmt: skip
    said = {"inputTokens": 5, "outputTokens": 7, "cacheWriteInputTokens": 3, "cacheReadInputTokens": 2}
    plain = from_openai(ADAPTER.parse_response(answer(usage=said), CALL).usage, context_window=200_000)
    assert plain is not None
    assert plain.meters() == {"input": 5, "cache_read": 2, "cache_write_5m": 3, "output": 7}


@pytest.mark.parametrize(
    "usage", [None, [], {}, {"outputTokens": 3}, {"inputTokens": -1, "outputTokens": 1}, {"inputTokens": "8"}]
)
def test_usage_that_is_none_is_none_and_never_zero(usage: Any) -> None:
    completed = ADAPTER.parse_response(answer({"text": "x"}, usage=usage), CALL)
    assert completed.usage is None
    assert "usage" not in completed.body


@pytest.mark.parametrize(
    ("stop", "finish"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("tool_use", "stop"),
     ("model_context_window_exceeded", "length"), ("content_filtered", "content_filter"),
     ("guardrail_intervened", "content_filter")],
)  # fmt: skip
def test_stop_reasons(stop: str, finish: str) -> None:
    completed = ADAPTER.parse_response(answer({"text": "x"}, stop=stop), CALL)
    assert completed.body["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize("stop", ["malformed_model_output", "malformed_tool_use"])
def test_an_answer_the_model_got_wrong_is_a_failure(stop: str) -> None:
    with pytest.raises(UpstreamFailed):
        ADAPTER.parse_response(answer({"text": "x"}, stop=stop), CALL)
    with pytest.raises(UpstreamFailed):
        read(event("messageStop", {"stopReason": stop}))


def test_the_tool_that_stands_in_for_a_schema_is_the_text() -> None:
    use = {"toolUse": {"toolUseId": "t", "name": "tollgate_structured_answer", "input": {"n": 1}}}
    [choice] = ADAPTER.parse_response(answer(use, stop="tool_use"), CALL).body["choices"]
    assert choice["message"] == {"role": "assistant", "content": '{"n":1}', "refusal": None}
    assert choice["finish_reason"] == "stop"
    start = {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t", "name": "tollgate_structured_answer"}}}
    delta = {"contentBlockIndex": 0, "delta": {"toolUse": {"input": '{"n":1}'}}}
    raw = event("contentBlockStart", start) + event("contentBlockDelta", delta)
    found = read(
        raw + event("contentBlockStop", {"contentBlockIndex": 0}) + event("messageStop", {"stopReason": "tool_use"})
    )
    assert deltas(found) == [{"content": '{"n":1}'}, {}]
    assert found[-1].chunk is not None
    assert found[-1].chunk["choices"][0]["finish_reason"] == "stop"


def test_cited_text_is_text_and_what_servers_do_is_passed_over() -> None:
    cited = {"citationsContent": {"content": [{"text": "It "}, {"text": "is."}], "citations": [{}]}}
    server = {"toolUse": {"toolUseId": "t", "name": "nova_grounding", "input": {}, "type": "server_tool_use"}}
    [choice] = ADAPTER.parse_response(answer(server, cited, {"guardContent": {}}), CALL).body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "It is.", "refusal": None}
    unsigned = {"reasoningContent": {"reasoningText": {"text": "Hm."}}}
    [choice] = ADAPTER.parse_response(answer(unsigned, {"text": "x"}), CALL).body["choices"]
    assert (choice["message"]["reasoning_content"], "thinking_blocks" in choice["message"]) == ("Hm.", False)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"{}", b'{"message":"overloaded"}', b'{"output":[]}', b'{"output":{"message":{}}}',
     answer() [:-20], orjson.dumps({"output": {"message": {"content": ["x"]}}}), answer({"text": 5}),
     answer({"toolUse": "x"}), answer({"reasoningContent": {"reasoningText": 1}})],
)  # fmt: skip
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        ADAPTER.parse_response(body, CALL)


# Streams


def test_a_stream_of_text() -> None:
    found = read(recorded("text.bin"))
    assert deltas(found) == [{"role": "assistant", "content": ""}, {"content": "Hé"}, {"content": " you 🦆"}, {}]
    assert [one.good for one in found] == [False, True, True, True, False]
    assert [one.output_bytes for one in found] == [0, 3, 9, 0, 0]
    assert (found[-1].done, found[-2].done) == (True, False)
    assert found[-1].usage is not None
    assert (found[-1].usage["prompt_tokens"], found[-1].usage["completion_tokens"]) == (8, 4)
    assert found[1].chunk == {
        "id": f"chatcmpl-{REQUEST_ID}",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": "m-1",
        "choices": [{"index": 0, "delta": {"content": "Hé"}, "finish_reason": None}],
    }


def test_a_stream_with_two_tool_calls_and_the_whole_bill() -> None:
    found = read(recorded("tools.bin"))
    first, second = "tooluse_A1b2C3d4E5f6G7h8I9j0Kw", "tooluse_Z9y8X7w6V5u4T3s2R1q0Po"
    assert deltas(found)[1:] == [
        {"content": "I add."},
        {"tool_calls": [{"index": 0, "id": first, "type": "function", "function": {"name": "add", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
        {"tool_calls": [{"index": 1, "id": second, "type": "function", "function": {"name": "now", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert found[-2].chunk is not None
    assert found[-2].chunk["choices"][0]["finish_reason"] == "tool_calls"
    assert found[-1].usage == SHAPED


def test_a_stream_of_reasoning_with_what_proves_it() -> None:
    found = read(recorded("thinking.bin"))
    assert deltas(found)[1:] == [
        {"reasoning_content": "Six times"},
        {"reasoning_content": " seven."},
        {"thinking_blocks": [THINKING[0] | {"thinking": ""}]},
        {"thinking_blocks": [THINKING[1]]},
        {"content": "42"},
        {},
    ]
    assert found[-2].chunk is not None
    assert found[-2].chunk["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("name", ["text.bin", "tools.bin", "thinking.bin"])
def test_however_a_stream_is_cut_into_reads_it_says_the_same(name: str) -> None:
    raw = recorded(name)
    whole = read(raw)
    for size in (1, 2, 3, 5, 13, 64, 257):
        assert read(raw, size=size) == whole


@pytest.mark.parametrize("name", ["text.bin", "tools.bin", "thinking.bin"])
def test_a_stream_that_ends_at_any_byte_gives_a_beginning_of_it_or_an_error(name: str) -> None:
    raw = recorded(name)
    whole = read(raw)
    boundaries = []  # between two messages nothing is left over: there the transport tells that it is too early
    for end in range(len(raw)):
        decoder, reader = ADAPTER.decoder(), ADAPTER.reader(STREAM)
        found = [one for payload in decoder.feed(raw[:end]) for one in reader.read(payload)]
        assert found == whole[: len(found)]
        assert not any(one.done for one in found)
        try:
            assert decoder.close() == []
            boundaries.append(end)
        except UpstreamInvalid as error:
            assert error.message == "The provider's stream ended within an event."  # noqa: PT017 - or it is a boundary
    assert len(boundaries) == raw.count(b":message-type")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("throttlingException", UpstreamRateLimited), ("serviceUnavailableException", UpstreamFailed),
        ("internalServerException", UpstreamFailed), ("modelStreamErrorException", UpstreamFailed),
        ("validationException", UpstreamRejected), ("modelTimeoutException", UpstreamFailed),
        ("accessDeniedException", UpstreamAuthFailed), ("resourceNotFoundException", UpstreamModelMissing),
        ("somethingNewException", UpstreamFailed),
    ],
)  # fmt: skip
def test_an_exception_in_a_stream_is_the_error_it_names(name: str, error: type[ProviderError]) -> None:
    with pytest.raises(error) as caught:
        read(exception(name, {"message": "Words of AWS about arn:aws:bedrock:us-east-1:123456789012:x/y"}))
    assert "123456789012" not in caught.value.message
    assert ("Words of AWS" in caught.value.message) == (error is UpstreamRejected)
    with pytest.raises(error):
        read(exception(name, {}))


def test_an_exception_after_words_and_an_error_before_any() -> None:
    decoder, reader = ADAPTER.decoder(), ADAPTER.reader(STREAM)
    start, words, raised = decoder.feed(recorded("throttled.bin"))
    assert deltas(reader.read(start) + reader.read(words))[-1] == {"content": "Hé"}
    with pytest.raises(UpstreamRateLimited):
        reader.read(raised)
    with pytest.raises(UpstreamFailed):
        read(recorded("error.bin"))


def test_an_error_under_200_is_an_error() -> None:
    with pytest.raises(UpstreamRateLimited):
        ADAPTER.parse_response(b'{"__type":"com.amazon.coral#ThrottlingException","message":"x"}', CALL)


@pytest.mark.parametrize(
    "payload",
    [b"", b"[DONE]", b"[]", b"{}", b'{"a":{},"b":{}}', b'{"contentBlockDelta":[]}', b'{"contentBlockDelta":{}}',
     b'{"contentBlockDelta":{"delta":{"text":5}}}', b'{"contentBlockDelta":{"delta":{"reasoningContent":5}}}',
     b'{"contentBlockDelta":{"delta":{"toolUse":[]}}}', b'{":broken":"It broke."}', b'{":exception":5}',
     b'{"messageStop":null}'],
)  # fmt: skip
def test_what_is_no_event_is_refused(payload: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        ADAPTER.reader(STREAM).read(payload)


def test_events_nobody_knows_say_nothing() -> None:
    assert read(event("somethingNew", {"x": 1})) == []
    assert read(event("contentBlockDelta", {"delta": {"citation": {"title": "x"}}})) == []
    assert read(event("contentBlockStart", {"contentBlockIndex": 0, "start": {"image": {"format": "png"}}})) == []


# Errors


@pytest.mark.parametrize(
    ("status", "name", "error"),
    [
        (403, "AccessDeniedException", UpstreamAuthFailed),
        (403, "UnrecognizedClientException", UpstreamAuthFailed),
        (400, "ExpiredTokenException", UpstreamAuthFailed),
        (403, "InvalidSignatureException:http://internal.amazon.com/coral/", UpstreamAuthFailed),
        (429, "ThrottlingException", UpstreamRateLimited),
        (400, "ThrottlingException", UpstreamRateLimited),
        (400, "ServiceQuotaExceededException", UpstreamRateLimited),
        (429, "ModelNotReadyException", UpstreamRateLimited),
        (400, "ValidationException", UpstreamRejected),
        (404, "ResourceNotFoundException", UpstreamModelMissing),
        (408, "ModelTimeoutException", UpstreamFailed),
        (424, "ModelErrorException", UpstreamFailed),
        (500, "InternalServerException", UpstreamFailed),
        (503, "ServiceUnavailableException", UpstreamFailed),
        (503, "", UpstreamFailed),
        (418, "TeapotException", UpstreamInvalid),
    ],
)
def test_errors_are_what_aws_names_them(status: int, name: str, error: type[ProviderError]) -> None:
    body = orjson.dumps({"message": "Secret words about AKIAIOSFODNN7EXAMPLE"})
    found = ADAPTER.parse_error(status, {"x-amzn-errortype": name}, body, byok=False)
    assert type(found) is error
    assert "AKIA" not in found.message
    assert ("Secret words" in found.message) == (error is UpstreamRejected)


def test_the_name_may_stand_in_the_body_and_the_message_be_capital() -> None:
    named = b'{"__type":"com.amazon.coral.service#ThrottlingException","message":"x"}'
    assert type(ADAPTER.parse_error(400, {}, named, byok=False)) is UpstreamRateLimited
    capital = ADAPTER.parse_error(
        400, {"x-amzn-errortype": "ValidationException"}, b'{"Message":"Too long."}', byok=False
    )
    assert capital.message == "The provider rejected the request: Too long."
    assert type(ADAPTER.parse_error(400, {}, b"<html>", byok=False)) is UpstreamRejected


def test_a_tenants_own_refused_key_is_told_so() -> None:
    headers = {"x-amzn-errortype": "UnrecognizedClientException"}
    found = ADAPTER.parse_error(403, headers, b'{"message":"The security token is invalid."}', byok=True)
    assert type(found) is ByokRejected
    assert "security token" not in found.message
