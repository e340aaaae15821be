"""A chat request as Anthropic's: exact bodies, and what cannot be said."""

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
ADAPTIVE = {"unsupported_params": ["temperature", "top_p", "top_k"]}
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


# Tools


@pytest.mark.parametrize(
    ("asked", "choice"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"type": "tool", "name": "f"}),
        ({"parallel_tool_calls": True}, None),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"tool_choice": "required", "parallel_tool_calls": False}, {"type": "any", "disable_parallel_tool_use": True}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
    ],
)
def test_tools_and_choices(asked: dict[str, Any], choice: dict[str, Any] | None) -> None:
    body = sent(tools=[TOOL], **asked)
    assert body["tools"] == [SENT_TOOL]
    assert body.get("tool_choice") == choice


def test_tools_without_a_schema_with_cache_and_strict() -> None:
    bare = {"type": "function", "function": {"name": "g"}, "cache_control": {"type": "ephemeral"}}
    strict = {"type": "function", "function": TOOL["function"] | {"name": "h", "strict": True}}  # type: ignore[operator]
    body = sent(tools=[bare, strict])
    assert body["tools"][0] == {
        "name": "g",
        "input_schema": {"type": "object", "properties": {}},
        "cache_control": {"type": "ephemeral"},
    }
    assert body["tools"][1]["strict"] is True
    assert body["tools"][1]["input_schema"]["additionalProperties"] is False
    assert "tools" not in sent(tools=[])
    assert "tool_choice" not in sent(tools=[], tool_choice="auto")


def test_allowed_tools_leaves_only_those() -> None:
    g = {"type": "function", "function": {"name": "g"}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}
    body = sent(tools=[TOOL, g], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert [tool["name"] for tool in body["tools"]] == ["g"]
    assert body["tool_choice"] == {"type": "any"}


def test_a_model_that_refuses_forced_calls_is_asked_to_choose_and_it_is_said() -> None:
    body, dropped = both(tools=[TOOL], tool_choice="required", how={"quirks": {"forced_tool_choice": False}})
    assert body["tool_choice"] == {"type": "auto"}
    assert dropped == ("tool_choice",)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"n": 2}, "n"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0]"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "zz"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
    ],
)
def test_parameters_that_cannot_be_expressed_are_refused_by_name(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sent(**asked)
    assert caught.value.param == param


# Sampling, stops, thinking


@pytest.mark.parametrize(
    ("asked", "config", "expected", "dropped"),
    [
        ({"temperature": 0.5}, None, {"temperature": 0.5}, ()),
        ({"temperature": 1.7}, None, {"temperature": 1.0}, ()),
        ({"temperature": 0}, "0.7", {"temperature": 0}, ()),
        ({"top_p": 0.9}, "0.7", {"top_p": 0.9}, ()),
        ({"temperature": 1, "top_p": 0.9}, None, {"top_p": 0.9}, ()),
        ({"temperature": 0.5, "top_p": 1}, None, {"temperature": 0.5}, ()),
        ({"temperature": 0.5, "top_p": 0.9}, None, {"temperature": 0.5}, ("top_p",)),
        ({"top_k": 5}, None, {"top_k": 5}, ()),
    ],
)
def test_one_of_temperature_and_top_p(
    asked: dict[str, Any], config: str | None, expected: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    body, said = both(how={"temperature": config}, **asked)
    assert {key: body[key] for key in ("temperature", "top_p", "top_k") if key in body} == expected
    assert said == dropped


def test_models_that_refuse_sampling_get_none() -> None:
    body, dropped = both(temperature=0.2, top_k=3, how={"quirks": ADAPTIVE, "temperature": "0.7"})
    assert body.keys() == {"model", "max_tokens", "messages"}
    assert dropped == ("temperature", "top_k")


def test_stops_users_and_what_has_no_place() -> None:
    body, dropped = both(
        stop=["END", "\n"], user="u-1", seed=1, logprobs=False, frequency_penalty=0, presence_penalty=0.5,
        logit_bias={},
        store=False, metadata={"a": "b"}, service_tier="auto", speed="fast", n=1, vendor=1, max_completion_tokens=5,
        stream_options={"include_usage": True},
    )  # fmt: skip
    assert body["stop_sequences"] == ["END"]
    assert body["metadata"] == {"user_id": "u-1"}
    assert body["max_tokens"] == 1000
    assert dropped == ("logit_bias", "metadata", "presence_penalty", "seed", "service_tier", "speed", "stop", "vendor")
    assert body.keys() == {"model", "max_tokens", "messages", "stop_sequences", "metadata"}
    assert sent(stop="END")["stop_sequences"] == ["END"]


@pytest.mark.parametrize(
    ("effort", "cap", "budget"),
    [("minimal", 16_000, 1600), ("low", 16_000, 3200), ("medium", 16_000, 8000), ("high", 16_000, 12_800),
     ("max", 16_000, 15_200), ("high", 100_000, 32_000), ("low", 2000, 1024), ("high", 1100, 1024),
     ("max", 1025, 1024)],
)  # fmt: skip
def test_effort_is_a_budget_below_the_cap(effort: str, cap: int, budget: int) -> None:
    body, dropped = both(reasoning_effort=effort, temperature=0.5, top_p=0.5, top_k=1, how={"cap": cap})
    assert body["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert budget < body["max_tokens"] == cap
    assert dropped == ("temperature", "top_k", "top_p")
    assert "temperature" not in body


@pytest.mark.parametrize(
    ("asked", "how"),
    [
        ({"reasoning_effort": "high"}, {"cap": 1024}),
        ({"reasoning_effort": "high", "tools": [TOOL], "tool_choice": "required"}, {"cap": 9000}),
        ({"reasoning_effort": "high"}, {"cap": 9000, "is_reasoning": False}),
    ],
)
def test_where_it_cannot_think_the_effort_is_dropped(asked: dict[str, Any], how: dict[str, Any]) -> None:
    body, dropped = both(how=how, **asked)
    assert "thinking" not in body
    assert dropped == ("reasoning_effort",)


def test_a_tool_round_that_began_without_thinking_goes_on_without() -> None:
    used: list[Any] = [HI, {"role": "assistant", "tool_calls": [CALL]},
                       {"role": "tool", "tool_call_id": "call_1", "content": "x"}]  # fmt: skip
    _, dropped = both(used, tools=[TOOL], reasoning_effort="low", how={"cap": 9000})
    assert dropped == ("reasoning_effort",)
    used[1]["thinking_blocks"] = [{"type": "thinking", "thinking": "Hm", "signature": "s"}]
    body, dropped = both(used, tools=[TOOL], reasoning_effort="low", how={"cap": 9000})
    assert (body["thinking"]["budget_tokens"], dropped) == (1800, ())


@pytest.mark.parametrize(
    ("effort", "sends"), [("none", "low"), ("minimal", "low"), ("low", "low"), ("high", "high"), ("max", "max")]
)
def test_adaptive_models_take_the_effort_itself(effort: str, sends: str) -> None:
    body = sent(reasoning_effort=effort, how={"quirks": ADAPTIVE})
    assert body["output_config"] == {"effort": sends}
    thinking = None if effort == "none" else {"type": "adaptive", "display": "summarized"}
    assert body.get("thinking") == thinking


def test_anthropics_own_thinking_is_taken_and_cut_to_fit() -> None:
    body = sent(thinking={"type": "enabled", "budget_tokens": 50_000}, how={"cap": 4000})
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 3999}
    assert sent(thinking={"type": "disabled"})["thinking"] == {"type": "disabled"}
    assert "thinking" not in sent(reasoning_effort="none")


# Structured answers

SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 1, "description": "How many"},
        "at": {"type": "string", "format": "date-time"},
        "who": {"$ref": "#/$defs/Who"},
        "any": {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]},
        "list": {"type": "array", "items": {"type": "object"}, "minItems": 2},
    },
    "required": ["n"],
    "$defs": {"Who": {"type": "object", "properties": {"name": {"type": "string"}}}},
    "$schema": "https://json-schema.org/draft/2020-12/schema",
}
STRICT = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "description": "How many\n\n{minimum: 1}"},
        "at": {"type": "string", "format": "date-time"},
        "who": {"$ref": "#/$defs/Who"},
        "any": {"anyOf": [{"type": "string", "description": "{maxLength: 3}"}, {"type": "null"}]},
        "list": {
            "type": "array",
            "items": {"type": "object", "properties": {}, "additionalProperties": False},
            "description": "{minItems: 2}",
        },
    },
    "required": ["n"],
    "$defs": {"Who": {"type": "object", "properties": {"name": {"type": "string"}}, "additionalProperties": False}},
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}


def test_a_json_schema_is_a_structured_output() -> None:
    body = sent(response_format=FORMAT)
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": STRICT}}
    body = sent(response_format=FORMAT, reasoning_effort="low", how={"quirks": ADAPTIVE})
    assert body["output_config"]["effort"] == "low"
    assert body["output_config"]["format"]["schema"] == STRICT


def test_models_without_structured_outputs_answer_through_a_tool() -> None:
    body = sent(response_format=FORMAT, how={"quirks": {"structured_outputs": "tool"}})
    assert body["tools"] == [
        {"name": "tollgate_structured_answer", "description": "Gives the final answer.", "input_schema": SCHEMA}
    ]
    assert body["tool_choice"] == {"type": "tool", "name": "tollgate_structured_answer"}
    body = sent(response_format=FORMAT, tools=[TOOL], how={"quirks": {"structured_outputs": "tool"}})
    assert [tool["name"] for tool in body["tools"]] == ["f", "tollgate_structured_answer"]
    assert body["tool_choice"] == {"type": "any"}


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    body = sent(response_format={"type": "json_object"})
    assert body["system"] == [
        text("Answer with one valid JSON object and nothing else: no explanation, no code fence.")
    ]
    assert "system" not in sent(response_format={"type": "text"})
