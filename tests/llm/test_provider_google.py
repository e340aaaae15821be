"""Gemini's whole answers and its errors, as chat completions; recorded bytes as they are on the wire."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from llm.calls import Usage
from llm.errors import (
    ByokRejected,
    ProviderError,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRejected,
)
from llm.providers.google import ADAPTER
from llm.providers.usage import from_openai
from tests.llm.test_provider_registry import CREATED, REQUEST_ID, a_call

RECORDED = Path(__file__).parent.parent / "recordings" / "google"
CALL = a_call(dialect="google")
COUNTED = {"promptTokenCount": 10, "candidatesTokenCount": 7, "totalTokenCount": 17}
MADE_ID = f"call_{REQUEST_ID.replace('-', '')[-20:]}_0_"


def recorded(name: str) -> bytes:
    return (RECORDED / name).read_bytes()


def response(*parts: dict[str, Any], finish: str | None = "STOP", **changes: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": COUNTED, "modelVersion": "g-x", "responseId": "r1"} | changes


def said(*parts: dict[str, Any], finish: str | None = "STOP", **changes: Any) -> dict[str, Any]:
    found = ADAPTER.parse_response(orjson.dumps(response(*parts, finish=finish, **changes)), CALL).body["choices"]
    assert len(found) == 1
    return dict(found[0])


# Whole answers


def test_a_recorded_answer_with_thoughts_text_and_parallel_tools() -> None:
    completed = ADAPTER.parse_response(recorded("generate.json"), CALL)
    shaped = {
        "prompt_tokens": 82,  # results of tools are beside the prompt
        "completion_tokens": 104,  # thoughts are beside the candidates
        "total_tokens": 186,
        "prompt_tokens_details": {"cached_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 64},
    }
    assert completed.usage == shaped
    assert completed.body == {
        "id": "2GnxaK-PDbKa-8YP4Jq5yA8",
        "object": "chat.completion",
        "created": CREATED,
        "model": "gemini-3-flash-preview",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Let me see.",
                    "refusal": None,
                    "reasoning_content": "I should look it up.",
                    "tool_calls": [
                        {
                            "id": "8f2k1q0z",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city":"Łódź","days":2}'},
                            "extra_content": {"google": {"thought_signature": "EpwCCpkCAXLI2nw="}},
                        },
                        {
                            "id": "9x1m7c3b",
                            "type": "function",
                            "function": {"name": "get_time", "arguments": "{}"},
                        },
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": shaped,
    }
    assert from_openai(completed.usage, context_window=1000) == Usage(
        prompt_tokens=82, completion_tokens=104, cached_tokens=30, reasoning_tokens=64
    )


def test_a_recorded_refusal_of_the_prompt_is_an_answer_that_says_so() -> None:
    completed = ADAPTER.parse_response(recorded("blocked.json"), CALL)
    [choice] = completed.body["choices"]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": "The provider's filter stopped this prompt (prohibited content).",
    }
    assert from_openai(completed.usage, context_window=1000) == Usage(prompt_tokens=9, completion_tokens=0)


@pytest.mark.parametrize(
    ("finish", "shown"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter"),
     ("BLOCKLIST", "content_filter"), ("PROHIBITED_CONTENT", "content_filter"), ("SPII", "content_filter"),
     ("LANGUAGE", "content_filter"), ("MODEL_ARMOR", "content_filter"), ("CONTINUATION", "length"), ("OTHER", "stop"),
     ("FINISH_REASON_UNSPECIFIED", "stop"), ("SOMETHING_NEW", "stop"), (None, "stop")],
)  # fmt: skip
def test_finish_reasons(finish: str | None, shown: str) -> None:
    assert said({"text": "x"}, finish=finish)["finish_reason"] == shown


@pytest.mark.parametrize("finish", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MISSING_THOUGHT_SIGNATURE"])
def test_a_call_that_the_model_could_not_write_is_no_answer(finish: str) -> None:
    with pytest.raises(UpstreamInvalid, match="cannot be read"):
        said(finish=finish)


def test_an_answer_of_nothing_is_one_only_if_there_is_a_reason() -> None:
    assert said(finish="STOP")["message"]["content"] == ""
    assert said(finish="MAX_TOKENS")["finish_reason"] == "length"  # it thought until its cap
    assert said(finish="SAFETY")["finish_reason"] == "content_filter"
    for finish in ("OTHER", "SOMETHING_NEW", None):
        with pytest.raises(UpstreamInvalid):
            said(finish=finish)


def test_tool_calls_without_ids_get_their_own_and_cut_ones_say_so() -> None:
    calls = [{"functionCall": {"name": "f", "args": {"a": 1}}}, {"functionCall": {"name": "f"}}]
    found = said(*calls, finish="MAX_TOKENS")
    assert [call["id"] for call in found["message"]["tool_calls"]] == [f"{MADE_ID}0", f"{MADE_ID}1"]
    assert [call["function"]["arguments"] for call in found["message"]["tool_calls"]] == ['{"a":1}', "{}"]
    assert (found["message"]["content"], found["finish_reason"]) == (None, "length")


def test_the_signature_of_a_text_is_kept_on_the_message() -> None:
    found = said({"text": "Hi", "thoughtSignature": "sig"}, {"executableCode": {"code": "1"}})
    assert found["message"]["content"] == "Hi"
    assert found["message"]["extra_content"] == {"google": {"thought_signature": "sig"}}


def test_several_candidates_and_their_log_probabilities() -> None:
    one = {"token": "Hé", "tokenId": 5, "logProbability": -0.5}
    result = {"chosenCandidates": [one], "topCandidates": [{"candidates": [one, {"token": "x", "logProbability": -2}]}]}
    candidates = [
        {"content": {"parts": [{"text": "Hé"}]}, "finishReason": "STOP", "logprobsResult": result},
        {"content": {"parts": [{"text": "B"}]}, "finishReason": "STOP", "index": 1},
    ]
    shown = ADAPTER.parse_response(orjson.dumps(response(candidates=candidates)), CALL).body["choices"]
    assert [(choice["index"], choice["message"]["content"]) for choice in shown] == [(0, "Hé"), (1, "B")]
    token = {"token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169]}
    tops = [token, {"token": "x", "logprob": -2, "bytes": [120]}]
    assert shown[0]["logprobs"] == {"content": [token | {"top_logprobs": tops}], "refusal": None}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"{}", b'{"candidates":[]}', b'{"candidates":[1]}', b'{"candidates":{}}',
     b'{"candidates":[{"content":{"parts":1}}]}', b'{"candidates":[{"content":{"parts":[1]}}]}',
     b'{"candidates":[{"content":{"parts":[{"text":5}]}}]}', b'{"candidates":[{"content":{"parts":[]}}]}',
     b'{"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}',
     b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":[]}}]}}]}',
     b'{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":5}]}'],
)  # fmt: skip
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        ADAPTER.parse_response(body, CALL)


# Usage


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"promptTokenCount": 10, "candidatesTokenCount": 7, "totalTokenCount": 17}, (10, 7, 0, 0)),
        ({"promptTokenCount": 10, "candidatesTokenCount": 7}, (10, 7, 0, 0)),
        ({"promptTokenCount": 10, "candidatesTokenCount": 7, "thoughtsTokenCount": 5, "totalTokenCount": 22},
         (10, 12, 0, 5)),
        ({"promptTokenCount": 10, "candidatesTokenCount": 12, "thoughtsTokenCount": 5, "totalTokenCount": 22},
         (10, 12, 0, 5)),  # inside, as the total says
        ({"promptTokenCount": 10, "totalTokenCount": 17}, (10, 7, 0, 0)),  # what the total leaves
        ({"promptTokenCount": 10, "thoughtsTokenCount": 5, "totalTokenCount": 22}, (10, 12, 0, 5)),
        ({"promptTokenCount": 10, "candidatesTokenCount": 0, "totalTokenCount": 10}, (10, 0, 0, 0)),  # explicit
        ({"promptTokenCount": 10, "candidatesTokenCount": 7, "cachedContentTokenCount": 4}, (10, 7, 4, 0)),
        ({"promptTokenCount": 10, "candidatesTokenCount": 7, "toolUsePromptTokenCount": 3}, (13, 7, 0, 0)),
    ],
)  # fmt: skip
def test_counts_become_the_exact_bill(counts: dict[str, int], usage: tuple[int, ...]) -> None:
    raw = ADAPTER.parse_response(orjson.dumps(response({"text": "x"}, usageMetadata=counts)), CALL).usage
    found = from_openai(raw, context_window=1000, completion_estimate=99)
    assert found is not None
    shown = (found.prompt_tokens, found.completion_tokens, found.cached_tokens, found.reasoning_tokens)
    assert (shown, found.estimated) == (usage, False)


@pytest.mark.parametrize(
    "counts",
    [None, {}, 5, {"candidatesTokenCount": 7}, {"promptTokenCount": -1, "candidatesTokenCount": 7},
     {"promptTokenCount": 10, "candidatesTokenCount": "7"}, {"promptTokenCount": 10, "candidatesTokenCount": True},
     {"promptTokenCount": 1.5, "candidatesTokenCount": 7}, {"trafficType": "ON_DEMAND"}],
)  # fmt: skip
def test_counts_beyond_belief_are_no_usage(counts: Any) -> None:
    completed = ADAPTER.parse_response(orjson.dumps(response({"text": "x"}, usageMetadata=counts)), CALL)
    assert completed.usage is None
    assert "usage" not in completed.body


def test_words_that_nobody_counted_are_estimated_never_free() -> None:
    counts = {"promptTokenCount": 10, "totalTokenCount": 10}
    raw = ADAPTER.parse_response(
        orjson.dumps(response({"text": "four words are here"}, usageMetadata=counts)), CALL
    ).usage
    assert from_openai(raw, context_window=1000, completion_estimate=5) == Usage(
        prompt_tokens=10, completion_tokens=5, estimated=True
    )


# Errors


def refusal(name: str, status: int, *, byok: bool = False) -> ProviderError:
    return ADAPTER.parse_error(status, {}, recorded(name), byok=byok)


def test_a_key_that_is_refused_with_a_400_is_a_refused_key() -> None:
    assert type(refusal("error_key.json", 400)) is UpstreamAuthFailed
    own = refusal("error_key.json", 400, byok=True)
    assert isinstance(own, ByokRejected)
    assert own.invalid
    assert "API key" not in own.message


def test_a_quota_says_how_long_to_wait_in_its_body_alone_or_in_a_list() -> None:
    found = refusal("error_quota_array.json", 429)
    assert (type(found), found.retry_after) == (UpstreamRateLimited, 22.431)
    longer = ADAPTER.parse_error(429, {"retry-after": "40"}, recorded("error_quota_array.json"), byok=False)
    assert longer.retry_after == 40.0
    busy = b'{"error":{"code":503,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"2s"}]}}'
    failed = ADAPTER.parse_error(503, {}, busy, byok=False)
    assert (type(failed), failed.retry_after) == (UpstreamFailed, 2.0)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"[1]", b'{"error":{"details":5}}', b'{"error":{"details":[1,{"@type":5}]}}',
     b'{"error":{"details":[{"@type":"google.rpc.RetryInfo","retryDelay":"-1s"}]}}'],
)  # fmt: skip
def test_a_wait_that_is_none_is_not_invented(body: bytes) -> None:
    assert ADAPTER.parse_error(429, {}, body, byok=False).retry_after is None


def test_another_400_is_the_clients_with_its_words_cleaned() -> None:
    body = b'[{"error":{"code":400,"message":"Unknown name \\"x\\": see https://ai.google.dev","status":"INVALID_ARGUMENT"}}]'
    found = ADAPTER.parse_error(400, {}, body, byok=False)
    assert isinstance(found, UpstreamRejected)
    assert found.message == 'The provider rejected the request: Unknown name "x": see [removed]'


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}, UpstreamFailed),
        ({"code": 429, "status": "RESOURCE_EXHAUSTED"}, UpstreamRateLimited),
        ({"status": "RESOURCE_EXHAUSTED"}, UpstreamRateLimited),
        ({"code": 400, "message": "Bad", "status": "INVALID_ARGUMENT"}, UpstreamRejected),
        ({"code": 400, "details": [{"reason": "API_KEY_INVALID"}]}, UpstreamAuthFailed),
        ({"code": 403, "status": "PERMISSION_DENIED"}, UpstreamAuthFailed),
    ],
)
def test_errors_under_200_alone_and_in_a_list(error: dict[str, Any], kind: type[Exception]) -> None:
    for body in (orjson.dumps({"error": error}), orjson.dumps([{"error": error}])):
        with pytest.raises(kind):
            ADAPTER.parse_response(body, CALL)
