"""A Responses request as a chat request, and what is refused by name. No server, no database."""

import time
import uuid
from typing import Any

import orjson
import pytest

from llm.errors import InvalidRequest
from llm.types import ChatRequest
from llm.wire import chat, responses
from llm.wire.chat_schema import UNBOUNDED
from llm.wire.request import Incoming
from llm.wire.responses_reasoning import sealed
from llm.wire.responses_schema import MOVED, UNSUPPORTED

Json = dict[str, Any]
HI: Json = {"role": "user", "content": "Hi"}
TOOL: Json = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
CALL: Json = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "c1",
    "name": "f",
    "arguments": "{}",
    "status": "completed",
}
SIGNED: Json = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}


def incoming() -> Incoming:
    return Incoming(id=uuid.uuid4(), headers={}, ip=None, received=time.perf_counter())


def parsed(input: Any = "Hi", **body: Any) -> ChatRequest:  # noqa: A002 - the API's name
    return responses.parse(orjson.dumps({"model": "m", "input": input, **body}), incoming())


def messages(*items: Json, **body: Any) -> list[Json]:
    return list(parsed(list(items), **body).body["messages"])


def refusal(input: Any = "Hi", **body: Any) -> InvalidRequest:  # noqa: A002
    with pytest.raises(InvalidRequest) as caught:
        parsed(input, **body)
    return caught.value


# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_string_is_what_the_user_says_and_instructions_come_first() -> None:
    found = parsed("Hi", instructions="Be brief.").body["messages"]
    assert found == [{"role": "system", "content": "Be brief."}, HI]


def test_every_way_to_write_a_message_is_taken() -> None:
    image = {"type": "input_image", "image_url": "https://x/y.png", "detail": "high"}
    assert messages(
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What"}, image]},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "A cat.", "annotations": [], "logprobs": []}],
        },
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {
            "role": "user",
            "content": [{"type": "input_file", "file_data": "data:application/pdf;base64,AA", "filename": "a"}],
        },
        {"role": "user", "content": [{"type": "input_text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
    ) == [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What"},
                {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "high"}},
            ],
        },
        {"role": "assistant", "content": "A cat."},
        {"role": "assistant", "refusal": "No.", "content": None},
        {
            "role": "user",
            "content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,AA", "filename": "a"}}],
        },
        {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
    ]


def test_calls_that_were_made_at_once_are_one_message() -> None:
    found = messages(
        HI,
        {"type": "message", "role": "assistant", "content": "Both."},
        CALL,
        CALL | {"call_id": "c2", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
        CALL | {"call_id": "c3"},
    )
    assert [one["role"] for one in found] == ["user", "assistant", "tool", "tool", "assistant"]
    assert found[1]["content"] == "Both."
    assert [(one["id"], one["function"]) for one in found[1]["tool_calls"]] == [
        ("c1", {"name": "f", "arguments": "{}"}),
        ("c2", {"name": "f", "arguments": '{"a":1}'}),
    ]
    assert found[3] == {"role": "tool", "tool_call_id": "c2", "content": "two"}
    assert found[4]["content"] is None


def test_what_a_provider_wants_back_with_a_call_goes_back() -> None:
    [message] = messages(CALL | {"extra_content": {"google": {"thought_signature": "s"}}})
    assert message["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "s"}}


def test_two_messages_of_the_assistant_in_a_row_stay_two() -> None:
    found = messages(HI, {"role": "assistant", "content": "One."}, {"role": "assistant", "content": "Two."})
    assert [one["content"] for one in found] == ["Hi", "One.", "Two."]


def test_reasoning_goes_back_with_its_signatures() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
    [message] = messages(item | {"encrypted_content": sealed([SIGNED])}, CALL)
    assert message["reasoning_content"] == "Hm."
    assert message["thinking_blocks"] == [SIGNED]
    assert message["tool_calls"][0]["id"] == "c1"


def test_reasoning_that_carries_nothing_leaves_no_message() -> None:
    assert messages(HI, {"type": "reasoning", "id": "rs_1", "summary": []}) == [HI]
    assert refusal([{"type": "reasoning", "summary": []}]).param == "input"


@pytest.mark.parametrize(
    "content", ["gAAAAABo", "!", "e30=", "W10=", sealed([{}])[:-8], "eyJ0aGlua2luZ19ibG9ja3MiOlsxXX0="]
)
def test_reasoning_of_another_gateway_is_refused(content: str) -> None:
    error = refusal([HI, {"type": "reasoning", "summary": [], "encrypted_content": content}])
    assert error.param == "input[1].encrypted_content"
    assert "Leave the reasoning item out" in error.message


# --- tools and settings -----------------------------------------------------------------------------------------------


def test_tools_and_choice_are_put_into_chats_words() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: A"}
    body = parsed(
        tools=[TOOL, {"type": "custom", "name": "c", "description": "d", "format": grammar}],
        tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "c"}, TOOL]},
        parallel_tool_calls=False,
    ).body
    assert body["tools"] == [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}},
        {
            "type": "custom",
            "custom": {
                "name": "c",
                "description": "d",
                "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: A"}},
            },
        },
    ]
    allowed = [{"type": "custom", "custom": {"name": "c"}}, {"type": "function", "function": {"name": "f"}}]
    assert body["tool_choice"] == {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": allowed}}
    assert body["parallel_tool_calls"] is False


def test_without_tools_nothing_is_said_of_them() -> None:
    body = parsed(tools=[], tool_choice="auto", parallel_tool_calls=True).body
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & body.keys()
    assert refusal(tool_choice="required").param == "tool_choice"
    assert refusal(tools=[TOOL], tool_choice={"type": "function", "name": "g"}).param == "tool_choice.name"


def test_settings_are_put_into_chats_words_and_the_rest_travels_as_it_is() -> None:
    request = parsed(
        text={
            "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
            "verbosity": "low",
        },
        reasoning={"effort": "low", "summary": "auto"},
        max_output_tokens=100,
        top_logprobs=2,
        temperature=0.5,
        safety_identifier="s",
        prompt_cache_key="k",
        vendor_knob=3,
        **dict.fromkeys(("instructions", "tools", "previous_response_id", "conversation", "metadata")),
        store=False,
        background=False,
    )
    assert {name: value for name, value in request.body.items() if name != "messages"} == {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        },
        "verbosity": "low",
        "reasoning_effort": "low",
        "max_completion_tokens": 100,
        "logprobs": True,
        "top_logprobs": 2,
        "temperature": 0.5,
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "vendor_knob": 3,
    }
    assert (request.route.max_tokens, request.route.needs) == (100, {"json"})


def test_a_request_is_as_large_as_the_same_chat() -> None:
    same = orjson.dumps({"model": "m", "messages": [{"role": "system", "content": "Be brief."}, HI]})
    ours, chats = parsed("Hi", instructions="Be brief."), chat.parse(same, incoming())
    assert ours.size == chats.size
    assert ours.body == chats.body
    assert (ours.route.text, ours.route.needs, ours.route.model) == ("Hi", frozenset(), "m")


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_chat_refuses_because_it_cannot_be_bounded_is_refused_here_too() -> None:
    for name in {*UNBOUNDED, *UNSUPPORTED, *MOVED}:
        error = refusal(**{name: True})
        assert (error.code, error.param) == ("unsupported_parameter", name)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": []}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [HI] * 10_001}, "input"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": ["user"], "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [HI, {"role": "user", "content": [{"type": "input_text"}]}]}, "input[1].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "image_url"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": {}}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "file:///etc"}]}]},
         "input[0].content[0].image_url"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]},
         "input[0].content[0].file_id"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x"}]}]},
         "input[0].content[0].file_url"),
        ({"input": [{"type": []}]}, "input[0].type"),
        ({"input": [CALL | {"arguments": {}}]}, "input[0].arguments"),
        ({"input": [CALL | {"call_id": ""}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"input": [{"type": "reasoning", "summary": [{"type": "summary_text"}]}]}, "input[0].summary[0].text"),
        ({"instructions": 5}, "instructions"),
        ({"max_output_tokens": 15}, "max_output_tokens"),
        ({"max_output_tokens": 16.5}, "max_output_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"n": 2}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"store": 1}, "store"),
        ({"background": 0}, "background"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"include": ["everything"]}, "include[0]"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"reasoning": {"effort": 5}}, "reasoning.effort"),
        ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"tools": {}}, "tools"),
        ({"tools": [TOOL] * 513}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name"),
        ({"tools": [TOOL | {"parameters": "x"}]}, "tools[0].parameters"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tool_choice": "any", "tools": [TOOL]}, "tool_choice"),
        ({"tool_choice": {"type": "web_search"}, "tools": [TOOL]}, "tool_choice.type"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}, "tools": [TOOL]}, "tool_choice.tools"),
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(body: Json, param: str) -> None:
    assert refusal(**body).param == param


def test_a_body_without_input_is_told_so() -> None:
    with pytest.raises(InvalidRequest) as caught:
        responses.parse(b'{"model": "m"}', incoming())
    assert caught.value.param == "input"
