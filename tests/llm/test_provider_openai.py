"""The OpenAI dialect: what is sent, and what is made of whole answers."""

from typing import Any

import orjson
import pytest

from llm.errors import InvalidRequest, UpstreamFailed, UpstreamInvalid, UpstreamRateLimited
from llm.providers.openai import ADAPTER
from tests.llm.test_provider_registry import KEY, a_call

A_CALL = a_call()
MESSAGES = [{"role": "user", "content": "Hi"}]


def sent(body: dict[str, Any], **how: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    upstream = ADAPTER.build(a_call({"model": "x", "messages": MESSAGES} | body, **how))
    return orjson.loads(upstream.body), upstream.dropped


# Requests


def test_a_plain_request_goes_out_byte_for_byte() -> None:
    upstream = ADAPTER.build(a_call(base_url="https://vendor.example/v1/"))
    assert upstream.url == "https://vendor.example/v1/chat/completions"
    assert upstream.headers == {
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": f"Bearer {KEY}",
    }
    assert upstream.body == b'{"model":"m-1","messages":[{"role":"user","content":"Hi"}],"max_tokens":1000}'
    assert upstream.dropped == ()


def test_a_stream_always_asks_for_usage_and_keeps_the_clients_other_options() -> None:
    body, _ = sent({"stream": True, "stream_options": {"include_usage": False, "x": 1}}, stream=True)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True, "x": 1})
    upstream = ADAPTER.build(a_call(stream=True))
    assert upstream.headers["accept"] == "text/event-stream"
    body, _ = sent({"stream_options": {"include_usage": True}}, stream=True, quirks={"supports_stream_usage": False})
    assert body["stream"] is True
    assert "stream_options" not in body
    body, _ = sent({"stream": True, "stream_options": {}})
    assert "stream" not in body
    assert "stream_options" not in body


@pytest.mark.parametrize("asked", [{}, {"max_tokens": 9}, {"max_completion_tokens": 9}, {"max_tokens": 10**6}])
def test_the_cap_that_was_reserved_is_the_cap_that_is_sent(asked: dict[str, Any]) -> None:
    body, _ = sent(asked, cap=77)
    assert body["max_tokens"] == 77
    assert "max_completion_tokens" not in body
    body, _ = sent(asked, cap=77, quirks={"token_cap_field": "max_completion_tokens"})
    assert body["max_completion_tokens"] == 77
    assert "max_tokens" not in body


def test_the_configs_temperature_is_used_only_where_the_request_has_none_and_the_model_takes_one() -> None:
    assert sent({}, temperature="0.7")[0]["temperature"] == 0.7
    assert sent({"temperature": None}, temperature="0.7")[0]["temperature"] == 0.7
    assert sent({"temperature": 0}, temperature="0.7")[0]["temperature"] == 0
    body, dropped = sent({}, temperature="0.7", quirks={"unsupported_params": ["temperature"]})
    assert "temperature" not in body
    assert dropped == ()


def test_parameters_the_model_refuses_are_taken_out_and_named() -> None:
    asked = {"temperature": 1, "top_p": None, "seed": 7}
    body, dropped = sent(asked, quirks={"unsupported_params": ["top_p", "temperature", "n"]})
    assert "temperature" not in body
    assert "top_p" not in body
    assert body["seed"] == 7
    assert dropped == ("temperature",)


def test_unknown_fields_pass_through_and_the_callers_body_stays_as_it_was() -> None:
    given = {"model": "x", "messages": [*MESSAGES], "top_k": 5, "vendor": {"deep": [1]}, "max_tokens": 3, "stop": None}
    before = orjson.dumps(given)
    body, dropped = sent(given, stream=True, temperature="0.5")
    assert (body["top_k"], body["vendor"], dropped) == (5, {"deep": [1]}, ())
    assert "stop" not in body
    assert orjson.dumps(given) == before


def test_dearer_service_tiers_than_the_card_prices_are_not_passed_on() -> None:
    assert sent({"service_tier": "priority"}) == (sent({})[0], ("service_tier",))
    assert sent({"service_tier": "default"})[0]["service_tier"] == "default"


def test_the_developer_role_becomes_system_unless_the_vendor_knows_it() -> None:
    messages = [{"role": "developer", "content": "Be brief"}, {"role": "user", "content": "Hi"}]
    body, _ = sent({"messages": messages})
    assert [one["role"] for one in body["messages"]] == ["system", "user"]
    assert messages[0]["role"] == "developer"
    body, _ = sent({"messages": messages}, quirks={"developer_role": True})
    assert body["messages"] == messages


@pytest.mark.parametrize(
    ("auth_type", "quirks", "headers"),
    [
        ("bearer", {}, {"authorization": f"Bearer {KEY}"}),
        ("api_key", {}, {"authorization": f"Bearer {KEY}"}),
        ("api_key", {"auth_header": "api-key"}, {"api-key": KEY}),
        ("custom", {"auth_header": "X-Vendor-Key"}, {"x-vendor-key": KEY}),
        ("custom", {}, {"authorization": f"Bearer {KEY}"}),
        ("oauth", {}, {"authorization": f"Bearer {KEY}"}),
        ("none", {}, {}),
    ],
)
def test_the_key_goes_where_the_vendor_wants_it(
    auth_type: str, quirks: dict[str, Any], headers: dict[str, str]
) -> None:
    call = a_call(auth_type=auth_type, quirks=quirks)
    credential = call.target.credential
    assert credential is not None
    assert ADAPTER.auth_headers(call.target.model.provider, credential.secret) == headers
    assert ADAPTER.auth_headers(call.target.model.provider, None) == {}


def test_text_that_is_no_unicode_is_the_clients_fault() -> None:
    with pytest.raises(InvalidRequest):
        sent({"messages": [{"role": "user", "content": "\ud800"}]})


# Whole answers


def answered(**changes: Any) -> bytes:
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "m-1-2025",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
    return orjson.dumps({key: value for key, value in (body | changes).items() if value != "absent"})


def choice(message: dict[str, Any], finish: Any = "stop") -> list[dict[str, Any]]:
    return [{"index": 0, "message": message, "finish_reason": finish}]


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def test_an_answer_in_order_passes_unchanged() -> None:
    raw = answered(system_fingerprint="fp", vendor={"x": 1})
    completed = ADAPTER.parse_response(raw, A_CALL)
    assert completed.body == orjson.loads(raw)
    assert completed.usage == {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}


def test_what_is_missing_is_filled() -> None:
    raw = answered(id="absent", created="absent", object="absent", choices=[{"message": {"content": "Hello"}}])
    body = ADAPTER.parse_response(raw, A_CALL).body
    assert body["id"].startswith("chatcmpl-")
    assert body["id"] == ADAPTER.parse_response(raw, A_CALL).body["id"]
    assert isinstance(body["created"], int)
    assert body["created"] > 1_700_000_000
    assert body["object"] == "chat.completion"
    assert body["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    ]
    assert ADAPTER.parse_response(answered(created=1700000000.5), A_CALL).body["created"] == 1_700_000_000


@pytest.mark.parametrize(
    ("said", "calls", "finish"),
    [
        ("stop", False, "stop"),
        (None, False, "stop"),
        ("length", False, "length"),
        ("tool_calls", False, "stop"),
        ("stop", True, "tool_calls"),
        (None, True, "tool_calls"),
        ("tool_calls", True, "tool_calls"),
        ("length", True, "length"),
        ("content_filter", True, "content_filter"),
        ("eos", False, "stop"),
        ("max_tokens", False, "length"),
        ("model_length", False, "length"),
        ("STOP", False, "stop"),
        ("function_call", False, "function_call"),
        ("something_new", False, "stop"),
        ("", True, "tool_calls"),
    ],
)
def test_every_finish_comes_out_in_openais_words(said: str | None, calls: bool, finish: str) -> None:
    message = {"role": "assistant", "content": None} | ({"tool_calls": [CALL]} if calls else {})
    body = ADAPTER.parse_response(answered(choices=choice(message, said)), A_CALL).body
    assert body["choices"][0]["finish_reason"] == finish


def test_vendors_ways_with_content_reasoning_and_arguments_come_out_as_one() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm. "}, {"type": "text", "text": "So."}]},
        {"type": "text", "text": "Hel"},
        {"type": "text", "text": "lo"},
    ]
    body = ADAPTER.parse_response(answered(choices=choice({"content": parts})), A_CALL).body
    assert body["choices"][0]["message"] == {
        "role": "assistant", "content": "Hello", "reasoning_content": "Hm. So."
    }  # fmt: skip
    body = ADAPTER.parse_response(answered(choices=choice({"content": "x", "reasoning": "Hm."})), A_CALL).body
    assert body["choices"][0]["message"]["reasoning_content"] == "Hm."
    loose = {"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}
    body = ADAPTER.parse_response(answered(choices=choice({"tool_calls": [loose]})), A_CALL).body
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
    }
    body = ADAPTER.parse_response(answered(choices=choice({"content": "x", "tool_calls": []})), A_CALL).body
    assert "tool_calls" not in body["choices"][0]["message"]


@pytest.mark.parametrize(
    ("changes", "usage"),
    [
        ({"usage": "absent"}, None),
        ({"usage": None}, None),
        ({"usage": []}, None),
        ({"usage": {}}, None),
        ({"usage": "absent", "x_groq": {"usage": {"prompt_tokens": 9}}}, {"prompt_tokens": 9}),
    ],
)
def test_usage_is_taken_from_where_it_is(changes: dict[str, Any], usage: Any) -> None:
    assert ADAPTER.parse_response(answered(**changes), A_CALL).usage == usage


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"null", b"[]", b'"text"', b"{}", b"{", answered(choices=[]), answered(choices=None),
        answered(choices={}), answered(choices=[None]), answered(choices=[{}]), answered(choices=[{"message": "Hi"}]),
        answered(choices=choice({"content": 5})), answered(choices=choice({"tool_calls": {"a": 1}})),
        answered(choices=choice({"tool_calls": [1]})),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        ADAPTER.parse_response(body, A_CALL)


def test_errors_under_200_are_errors() -> None:
    with pytest.raises(UpstreamRateLimited):
        ADAPTER.parse_response(b'{"error": {"code": 429, "message": "slow down"}}', A_CALL)
    with pytest.raises(UpstreamFailed):
        ADAPTER.parse_response(answered(choices=[{"error": {"code": 502}, "message": {"content": ""}}]), A_CALL)
    with pytest.raises(UpstreamFailed):
        ADAPTER.parse_response(answered(choices=choice({"content": "x"}, "error")), A_CALL)
    assert ADAPTER.parse_response(answered(error=None), A_CALL).body["choices"]
