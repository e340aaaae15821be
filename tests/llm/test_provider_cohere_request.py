"""Chat completion requests as requests of Cohere's Chat API v2: exact bodies, what is dropped and what is refused."""

from typing import Any

import orjson
import pytest

from llm.errors import InvalidRequest
from llm.fields import Secret
from llm.providers.cohere import ADAPTER
from tests.llm.test_provider_registry import KEY, NOW, a_call

HELLO = [{"role": "user", "content": "Hi"}]
ADD = {
    "name": "add",
    "description": "Adds.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
}
MUL = {"name": "mul", "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": ADD}, {"type": "function", "function": MUL}]


def built(body: dict[str, Any] | None = None, **call: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    found = {"model": "x", "messages": HELLO} | (body or {})
    upstream = ADAPTER.build(a_call(found, dialect="cohere", **call))
    return orjson.loads(upstream.body), upstream.dropped


def refused(body: dict[str, Any], **call: Any) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        built(body, **call)
    return caught.value.param


def sent(*messages: dict[str, Any], **call: Any) -> Any:
    return built({"messages": list(messages)}, **call)[0]["messages"]


def test_where_a_request_goes_and_with_which_key() -> None:
    call = a_call(dialect="cohere", base_url="https://api.cohere.com/v2", auth_type="api_key", stream=True)
    upstream = ADAPTER.build(call)
    assert upstream.url == "https://api.cohere.com/v2/chat"
    assert upstream.headers["authorization"] == f"Bearer {KEY}"
    assert upstream.headers["accept"] == "text/event-stream"
    asked = ADAPTER.models_request(call.target.model.provider, Secret(KEY), now=NOW)
    assert (asked.url, asked.headers) == ("https://api.cohere.com/v1/models", {"authorization": f"Bearer {KEY}"})


def test_everything_that_has_another_name_there() -> None:
    body = {
        "max_completion_tokens": 50, "temperature": 0.2, "top_p": 0.9, "top_k": 40, "stop": ["END", "STOP"], "seed": 7,
        "frequency_penalty": 0.5, "presence_penalty": 0, "logprobs": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    assert built(body, stream=True) == (
        {
            "model": "m-1", "max_tokens": 1000, "messages": HELLO, "temperature": 0.2, "p": 0.9, "k": 40,
            "stop_sequences": ["END", "STOP"], "seed": 7, "frequency_penalty": 0.5, "logprobs": True, "stream": True,
        },
        (),
    )  # fmt: skip


def test_the_configs_temperature_stands_in_for_none() -> None:
    assert built(temperature="0.7")[0]["temperature"] == 0.7
    assert built({"temperature": 0.1}, temperature="0.7")[0]["temperature"] == 0.1
    assert "temperature" not in built(temperature="0.7", quirks={"unsupported_params": ["temperature"]})[0]


def test_values_beyond_its_limits_are_clamped() -> None:
    body, dropped = built({"top_p": 1, "top_k": 1000, "presence_penalty": 1.5, "stop": "END"})
    assert (body["p"], body["k"], body["presence_penalty"], body["stop_sequences"]) == (0.99, 500, 1, ["END"])
    assert built({"top_p": 0})[0]["p"] == 0.01
    assert dropped == ()


def test_what_has_no_place_is_dropped_and_named() -> None:
    body = {"user": "ada", "logit_bias": {"1": 5}, "top_logprobs": 3, "presence_penalty": -1, "seed": -1,
            "vendor_knob": 1, "store": False, "parallel_tool_calls": False, "tools": TOOLS}  # fmt: skip
    found, dropped = built(body)
    assert dropped == (
        "logit_bias", "parallel_tool_calls", "presence_penalty", "seed", "top_logprobs", "user", "vendor_knob",
    )  # fmt: skip
    assert found.keys() == {"model", "messages", "max_tokens", "tools"}
    assert built({"seed": 7}, quirks={"unsupported_params": ["seed"]})[1] == ("seed",)


def test_its_own_fields_pass_through() -> None:
    own = {"documents": ["a"], "citation_options": {"mode": "off"}, "safety_mode": "STRICT"}
    found, dropped = built(own)
    assert found.items() >= own.items()
    assert dropped == ()


@pytest.mark.parametrize(
    ("body", "param"),
    [({"n": 2}, "n"), ({"functions": [{"name": "f"}]}, "functions"), ({"function_call": "auto"}, "function_call"),
     ({"stop": ["a", "b", "c", "d", "e", "f"]}, "stop"), ({"reasoning_effort": "huge"}, "reasoning_effort"),
     ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
     ({"tool_choice": {"type": "function", "function": {"name": "sub"}}, "tools": TOOLS}, "tool_choice"),
     ({"tools": TOOLS, "response_format": {"type": "json_object"}}, "response_format"),
     ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
     ({"messages": []}, "messages"), ({"messages": [{"role": "user", "content": " "}]}, "messages"),
     ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
     ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
     ({"messages": [{"role": "tool", "tool_call_id": "a", "content": [{"type": "image_url"}]}]},
      "messages[0].content[0]"),
     ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
     ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages")],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_said_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    assert refused(body) == param


# Messages


def test_system_and_developer_messages_come_first_and_together() -> None:
    assert sent(
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "In French."}]},
    ) == [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "In French."}]},
        {"role": "user", "content": "Hi"},
    ]
    assert sent({"role": "system", "content": "Be brief."}) == [{"role": "user", "content": "Be brief."}]


def test_images_go_as_urls_with_their_detail() -> None:
    pixel = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}
    remote = {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}
    text = {"type": "text", "text": "What is this?"}
    assert sent({"role": "user", "content": [text, pixel, remote]}) == [
        {"role": "user", "content": [text, pixel, remote]}
    ]


def test_tool_calls_and_their_results() -> None:
    call = {"id": "add_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    empty = {"id": "mul_1", "type": "function", "function": {"name": "mul", "arguments": ""}}
    result = {"role": "tool", "tool_call_id": "add_1", "content": [{"type": "text", "text": "3"}]}
    said = {"role": "assistant", "content": None, "tool_calls": [call, empty], "reasoning_content": "I will add."}
    assert sent(*HELLO, said, result, is_reasoning=False) == [
        *HELLO,
        {
            "role": "assistant",
            "tool_plan": "I will add.",
            "tool_calls": [call, {**empty, "function": {"name": "mul", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "add_1", "content": "3"},
    ]
    reasoned = sent(*HELLO, said, result)[1]
    assert reasoned["content"] == [{"type": "thinking", "thinking": "I will add."}]
    assert "tool_plan" not in reasoned


def test_reasoning_goes_back_to_models_that_reason_and_is_named_where_it_has_no_place() -> None:
    said = {
        "role": "assistant",
        "content": "Three.",
        "thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}],
    }
    messages = [*HELLO, said, *HELLO]
    assert built({"messages": messages})[0]["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "text", "text": "Three."},
    ]
    body, dropped = built({"messages": messages}, is_reasoning=False)
    assert body["messages"][1] == {"role": "assistant", "content": "Three."}
    assert dropped == ("reasoning_content",)


# Tools


def allowed(mode: str) -> dict[str, Any]:
    listed = [{"type": "function", "function": {"name": "add"}}]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": listed}}


@pytest.mark.parametrize(
    ("choice", "names", "said"),
    [
        (None, ["add", "mul"], None),
        ("auto", ["add", "mul"], None),
        ("none", ["add", "mul"], "NONE"),
        ("required", ["add", "mul"], "REQUIRED"),
        ({"type": "function", "function": {"name": "mul"}}, ["mul"], "REQUIRED"),
        (allowed("auto"), ["add"], None),
        (allowed("required"), ["add"], "REQUIRED"),
    ],
)  # fmt: skip
def test_tool_choices(choice: Any, names: list[str], said: str | None) -> None:
    body, dropped = built({"tools": TOOLS, "tool_choice": choice})
    assert [tool["function"]["name"] for tool in body["tools"]] == names
    assert body.get("tool_choice") == said
    assert dropped == ()


def test_a_model_that_knows_no_tool_choice() -> None:
    old = {"forced_tool_choice": False}
    body, dropped = built({"tools": TOOLS, "tool_choice": "required"}, quirks=old)
    assert "tool_choice" not in body
    assert dropped == ("tool_choice",)
    body, dropped = built({"tools": TOOLS, "tool_choice": "none"}, quirks=old)
    assert "tools" not in body
    assert dropped == ()


def test_tools_are_strict_together_or_not_at_all() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "additionalProperties": False}
    strict = {"type": "function", "function": ADD | {"strict": True, "parameters": schema}}
    body, dropped = built({"tools": [strict]})
    assert body["strict_tools"] is True
    assert body["tools"][0]["function"] == {
        "name": "add",
        "description": "Adds.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer", "description": "{minimum: 1}"}},
        },
    }
    assert dropped == ()
    body, dropped = built({"tools": [strict, TOOLS[1]]})
    assert "strict_tools" not in body
    assert body["tools"][0]["function"]["parameters"] == schema
    assert dropped == ("strict",)


# Answers


def test_response_formats() -> None:
    name = {"type": "string", "maxLength": 3, "format": "email", "description": "Name"}
    schema = {
        "type": "object",
        "title": "T",
        "properties": {"n": name, "title": {"const": "x"}},
        "required": ["n"],
        "additionalProperties": False,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    }  # fmt: skip
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}}
    assert built({"response_format": wanted})[0]["response_format"] == {
        "type": "json_object",
        "json_schema": {
            "type": "object",
            "title": "T",
            "properties": {
                "n": {"type": "string", "description": 'Name\n\n{maxLength: 3, format: "email"}'},
                "title": {"const": "x"},
            },
            "required": ["n"],
        },
    }
    assert built({"response_format": {"type": "json_object"}})[0]["response_format"] == {"type": "json_object"}
    assert "response_format" not in built({"response_format": {"type": "text"}})[0]


def test_a_format_beside_tools_that_may_not_be_called() -> None:
    body, _ = built({"tools": TOOLS, "tool_choice": "none", "response_format": {"type": "json_object"}})
    assert body["response_format"] == {"type": "json_object"}
    assert not {"tools", "tool_choice"} & body.keys()


@pytest.mark.parametrize(
    ("asked", "thinking"),
    [
        ({}, None),
        ({"reasoning_effort": "none"}, {"type": "disabled"}),
        ({"reasoning_effort": "low"}, {"type": "enabled", "token_budget": 200}),
        ({"reasoning_effort": "medium"}, {"type": "enabled", "token_budget": 500}),
        ({"reasoning_effort": "high"}, {"type": "enabled"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 300}}, {"type": "enabled", "token_budget": 300}),
        ({"thinking": {"type": "enabled", "token_budget": 300}}, {"type": "enabled", "token_budget": 300}),
        ({"thinking": {"type": "adaptive"}}, {"type": "enabled"}),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, {"type": "disabled"}),
    ],
)
def test_reasoning_is_asked_for_as_thinking(asked: dict[str, Any], thinking: dict[str, Any] | None) -> None:
    body, dropped = built(asked)
    assert body.get("thinking") == thinking
    assert dropped == ()


def test_a_model_that_does_not_reason_is_not_asked_to() -> None:
    assert built({"reasoning_effort": "high"}, is_reasoning=False)[1] == ("reasoning_effort",)
    assert built({"reasoning_effort": "none"}, is_reasoning=False)[1] == ()
    assert built({"thinking": {"type": "enabled"}}, is_reasoning=False)[1] == ("thinking",)
