"""Tools, sampling, thinking and formats of a chat request as Anthropic's: exact bodies, and what cannot be said."""

from typing import Any

import pytest

from llm.errors import InvalidRequest
from tests.llm.test_provider_anthropic_request import CALL, HI, SENT_TOOL, TOOL, both, sent, text

ADAPTIVE = {"unsupported_params": ["temperature", "top_p", "top_k"]}

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
