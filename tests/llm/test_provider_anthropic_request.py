"""The messages of a chat request as Anthropic's: exact bodies, and what cannot be said."""

from typing import Any

import orjson
import pytest

from llm.errors import InvalidRequest
from llm.providers.anthropic import ADAPTER
from tests.llm.test_provider_registry import KEY, a_call

HI = {"role": "user", "content": "Hi"}
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "Does f",
        "parameters": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    },
}
SENT_TOOL = {
    "name": "f",
    "description": "Does f",
    "input_schema": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": "b"}'}}
PNG = "data:image/png;base64,iVBORw0KGgo="


def sent(messages: list[Any] | None = None, **body: Any) -> dict[str, Any]:
    return both(messages, **body)[0]


def both(messages: list[Any] | None = None, *, how: dict[str, Any] | None = None, **body: Any) -> Any:
    given = {"model": "x", "messages": [HI] if messages is None else messages} | body
    before = orjson.dumps(given)
    upstream = ADAPTER.build(a_call(given, dialect="anthropic", **(how or {})))
    assert orjson.dumps(given) == before
    return orjson.loads(upstream.body), upstream.dropped


def turns(*messages: Any) -> Any:
    return sent(list(messages))["messages"]


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def test_a_plain_request_goes_out_exactly_so() -> None:
    upstream = ADAPTER.build(
        a_call(dialect="anthropic", auth_type="api_key", base_url="https://api.anthropic.com/v1/", temperature="0.7")
    )
    assert upstream.url == "https://api.anthropic.com/v1/messages"
    assert upstream.headers == {
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "x-api-key": KEY,
        "anthropic-version": "2023-06-01",
    }
    assert orjson.loads(upstream.body) == {
        "model": "m-1",
        "max_tokens": 1000,
        "temperature": 0.7,
        "messages": [{"role": "user", "content": [text("Hi")]}],
    }


@pytest.mark.parametrize("auth_type", ["bearer", "oauth"])
def test_a_bearer_provider_gets_a_bearer_token(auth_type: str) -> None:
    headers = ADAPTER.build(a_call(dialect="anthropic", auth_type=auth_type)).headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert "x-api-key" not in headers


def test_a_stream_is_asked_for_as_a_stream() -> None:
    upstream = ADAPTER.build(a_call(dialect="anthropic", stream=True))
    assert orjson.loads(upstream.body)["stream"] is True
    assert upstream.headers["accept"] == "text/event-stream"


# Messages


def test_system_and_developer_messages_are_the_system_prompt_in_order() -> None:
    body = sent(
        [
            {"role": "system", "content": "One"},
            HI,
            {"role": "developer", "content": [text("Two") | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        ]
    )
    assert body["system"] == [text("One"), text("Two") | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    assert body["messages"] == [{"role": "user", "content": [text("Hi")]}]


def test_instructions_alone_are_what_is_answered() -> None:
    body = sent([{"role": "system", "content": "Say hi"}])
    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": [text("Say hi")]}]


def test_a_tool_round_becomes_tool_use_and_one_turn_of_results() -> None:
    assert turns(
        HI,
        {"role": "assistant", "content": None, "tool_calls": [CALL, CALL | {"id": "functions.f:1"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "one"},
        {"role": "tool", "tool_call_id": "functions.f:1", "content": [text("two")]},
        {"role": "user", "content": "And?"},
    ) == [
        {"role": "user", "content": [text("Hi")]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": "b"}},
                {"type": "tool_use", "id": "functions_f_1", "name": "f", "input": {"a": "b"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": [text("one")]},
                {"type": "tool_result", "tool_use_id": "functions_f_1", "content": [text("two")]},
                text("And?"),
            ],
        },
    ]


def test_results_come_first_in_their_turn_even_if_the_user_spoke_before() -> None:
    found = turns(
        HI,
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "user", "content": "wait"},
        {"role": "tool", "tool_call_id": "call_1", "content": ""},
    )
    assert found[-1]["content"] == [{"type": "tool_result", "tool_use_id": "call_1"}, text("wait")]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [("", {}), (None, {}), ('{"a":1}', {"a": 1}), ("{broken", {"arguments": "{broken"}), ("[1]", {"arguments": "[1]"}),
     ({"a": 1}, {"a": 1})],
)  # fmt: skip
def test_arguments_are_an_object_and_broken_ones_do_not_end_the_chat(arguments: Any, given: dict[str, Any]) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    found = turns(
        HI, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "1", "content": "x"}
    )
    assert found[1]["content"][0]["input"] == given


def test_calls_without_tools_get_their_tools_defined_and_none_may_be_called() -> None:
    body = sent(
        [
            HI,
            {"role": "assistant", "tool_calls": [CALL, CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "x"},
        ]
    )
    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]
    assert body["tool_choice"] == {"type": "none"}


def test_messages_of_one_side_become_one_turn_and_empty_ones_none() -> None:
    assert turns(
        {"role": "assistant", "content": "Welcome"},
        HI,
        {"role": "user", "content": ""},
        {"role": "user", "content": [text("there"), text(" ")]},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": "So "},
    ) == [
        {"role": "user", "content": [text(".")]},
        {"role": "assistant", "content": [text("Welcome")]},
        {"role": "user", "content": [text("Hi"), text("there")]},
        {"role": "assistant", "content": [text("So")]},
    ]


def test_thinking_is_taken_back_with_its_signature_and_only_with_it() -> None:
    signed = {"type": "thinking", "thinking": "Hm", "signature": "sig"}
    redacted = {"type": "redacted_thinking", "data": "enc"}
    message = {
        "role": "assistant",
        "content": "Yes",
        "reasoning_content": "Hm",
        "thinking_blocks": [signed, redacted, {"type": "thinking", "thinking": "no signature"}, "junk"],
    }
    assert turns(HI, message, HI)[1]["content"] == [signed, redacted, text("Yes")]


def test_images_and_files_become_sources() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}, "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_url", "image_url": "data:image/jpg;base64,AA=="},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
    ]
    assert turns({"role": "user", "content": parts})[0]["content"] == [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
            "cache_control": {"type": "ephemeral"},
        },
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AA=="}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
    ]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([HI, {"role": "user", "content": [text("x"), {"type": "input_audio", "input_audio": {}}]}],
         "messages[1].content[1]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/a.png"}}]}],
         "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA"}}]}],
         "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}], "messages[0].content[0]"),
        ([HI, {"role": "system", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}],
         "messages[1].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "function", "name": "f", "content": "x"}], "messages[0].role"),
        ([HI, {"role": "tool", "content": "x"}], "messages[1]"),
        ([HI, {"role": "assistant", "tool_calls": [{"id": "1"}]}], "messages[1].tool_calls[0]"),
        ([HI, {"role": "assistant", "function_call": {"name": "f"}}], "messages[1].function_call"),
        (["Hi"], "messages[0]"),
        ([{"role": "user", "content": " "}], "messages"),
        ([], "messages"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_by_name(messages: list[Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sent(messages)
    assert caught.value.param == param
