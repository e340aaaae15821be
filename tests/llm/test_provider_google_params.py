"""Parameters of a chat request as Gemini's, JSON schemas among them; and what is dropped and said so."""

from typing import Any

import pytest

from llm.providers import google_schema
from tests.llm.test_provider_google_request import TOOL, both, config

FLASH = ["minimal", "low", "medium", "high"]


def test_every_parameter_that_gemini_has_a_name_for_is_translated() -> None:
    assert config(
        temperature=1.5, top_p=0.9, top_k=40, stop=["END", ""], seed=7, n=3, presence_penalty=0.5,
        frequency_penalty=-0.5, logprobs=True, top_logprobs=4,
    ) == {
        "temperature": 1.5, "topP": 0.9, "topK": 40, "stopSequences": ["END"], "seed": 7, "candidateCount": 3,
        "presencePenalty": 0.5, "frequencyPenalty": -0.5, "responseLogprobs": True, "logprobs": 4,
    }  # fmt: skip


def test_what_says_nothing_is_not_sent() -> None:
    assert config(n=1, presence_penalty=0, frequency_penalty=0.0, logprobs=False, stop=[], response_format=None) == {}
    assert config(stop="END") == {"stopSequences": ["END"]}


@pytest.mark.parametrize(("seed", "folded"), [(2**31, 0), (2**63 - 1, 2**31 - 1), (-1, 2**31 - 1)])
def test_a_seed_beyond_32_bits_is_folded_always_the_same(seed: int, folded: int) -> None:
    assert config(seed=seed) == {"seed": folded}


def test_what_has_no_place_is_dropped_and_said_so() -> None:
    part = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    image = {"type": "image_url", "image_url": {"url": "https://x.example/a.png", "detail": "high"}}
    body, dropped = both(
        [{"role": "user", "content": [part, image]}],
        tools=[{"type": "function", "function": TOOL["function"] | {"strict": True}}],  # type: ignore[operator]
        user="u", logit_bias={"1": 1}, parallel_tool_calls=False, store=False, verbosity="low",
        how={"quirks": {"unsupported_params": ["seed"]}}, seed=1,
    )  # fmt: skip
    assert dropped == (
        "cache_control", "detail", "logit_bias", "parallel_tool_calls", "seed", "strict", "user", "verbosity",
    )  # fmt: skip
    assert body["generationConfig"] == {"maxOutputTokens": 1000}
    assert both(parallel_tool_calls=True, stream=False)[1] == ()


def test_a_model_that_refuses_a_temperature_gets_none_from_the_config_either() -> None:
    how = {"temperature": "0.7", "quirks": {"unsupported_params": ["temperature"]}}
    assert both(how=how)[0]["generationConfig"] == {"maxOutputTokens": 1000}
    assert both(how=how, temperature=1)[1] == ("temperature",)
    assert config(how={"temperature": "0.7"}, temperature=0.2) == {"temperature": 0.2}


# Thinking


@pytest.mark.parametrize(
    ("effort", "levels", "level"),
    [("none", None, "low"), ("minimal", None, "low"), ("low", None, "low"), ("medium", None, "medium"),
     ("high", None, "high"), ("xhigh", None, "high"), ("max", None, "high"), ("none", FLASH, "minimal"),
     ("minimal", FLASH, "minimal"), ("medium", ["low", "high"], "high"), ("max", [*FLASH, "xhigh"], "xhigh")],
)  # fmt: skip
def test_effort_is_the_level_or_the_next_higher_that_the_model_has(effort: str, levels: Any, level: str) -> None:
    found = config(quirks={"thinking": "level", "thinking_levels": levels}, reasoning_effort=effort)
    assert found == {"thinkingConfig": {"thinkingLevel": level, "includeThoughts": effort != "none"}}


@pytest.mark.parametrize(
    ("effort", "span", "budget"),
    [("none", None, 0), ("none", [128, 32768], 128), ("minimal", None, 1024), ("low", None, 1024),
     ("medium", None, 8192), ("high", None, 24576), ("max", [128, 32768], 24576)],
)  # fmt: skip
def test_effort_is_a_budget_for_gemini_2_5(effort: str, span: Any, budget: int) -> None:
    found = config(quirks={"thinking": "budget", "thinking_budget": span}, reasoning_effort=effort)
    assert found == {"thinkingConfig": {"thinkingBudget": budget, "includeThoughts": effort != "none"}}


@pytest.mark.parametrize(
    ("own", "style", "sent"),
    [
        ({"type": "enabled", "budget_tokens": 2000}, "budget", {"thinkingBudget": 2000, "includeThoughts": True}),
        ({"type": "enabled", "budget_tokens": 2000}, "level", {"thinkingLevel": "medium", "includeThoughts": True}),
        ({"type": "enabled", "budget_tokens": 20000}, "level", {"thinkingLevel": "high", "includeThoughts": True}),
        ({"type": "adaptive"}, "level", {"includeThoughts": True}),
        ({"type": "disabled"}, "level", {"thinkingLevel": "low", "includeThoughts": False}),
        ({"type": "disabled"}, "budget", {"thinkingBudget": 0, "includeThoughts": False}),
    ],
)
def test_anthropics_thinking_is_understood(own: dict[str, Any], style: str, sent: dict[str, Any]) -> None:
    assert config(quirks={"thinking": style}, thinking=own) == {"thinkingConfig": sent}


def test_a_model_that_does_not_think_is_not_told_to() -> None:
    for style in ({"is_reasoning": False}, {"quirks": {"thinking": "none"}}):
        body, dropped = both(how=style, reasoning_effort="high")
        assert (body["generationConfig"], dropped) == ({"maxOutputTokens": 1000}, ("reasoning_effort",))
        assert both(how=style, reasoning_effort="none")[1] == ()


# JSON


def test_json_mode_and_a_schema() -> None:
    assert config(response_format={"type": "json_object"}) == {"responseMimeType": "application/json"}
    assert config(response_format={"type": "text"}) == {}
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    assert config(response_format=wanted) == {"responseMimeType": "application/json", "responseJsonSchema": schema}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "string"}, {"type": "string"}),
        ({"type": "string", "minLength": 2, "pattern": "^a"},
         {"type": "string", "description": "{minLength: 2, pattern: ^a}"}),
        ({"type": "string", "description": "A name", "default": "x"},
         {"type": "string", "description": "A name\n\n{default: x}"}),
        ({"const": "a"}, {"enum": ["a"]}),
        ({"const": None}, {"description": "{const: null}"}),
        ({"enum": ["a", 1]}, {"enum": ["a", 1]}),
        ({"type": "boolean", "enum": [True]}, {"type": "boolean", "description": "{enum: [true]}"}),
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"oneOf": [{"type": "string"}, {"const": 1}]}, {"anyOf": [{"type": "string"}, {"enum": [1]}]}),
        ({"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n", "description": "x"}}}},
          "$ref": "#/$defs/n"},
         {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}}),
        ({"definitions": {"a": {"type": "string"}}, "properties": {"x": {"$ref": "#/definitions/a"}}},
         {"$defs": {"a": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/a"}}}),
        ({"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"required": ["b"]}],
          "properties": {"b": {"type": "integer", "exclusiveMinimum": 0}}},
         {"properties": {"a": {"type": "string"},
                         "b": {"type": "integer", "description": "{exclusiveMinimum: 0}"}}, "required": ["a", "b"]}),
        ({"allOf": [{"$ref": "#/$defs/a"}], "description": "One"},
         {"anyOf": [{"$ref": "#/$defs/a"}], "description": "One"}),
        ({"type": "array", "items": {"type": "number", "multipleOf": 2}, "prefixItems": [{"const": 1}], "minItems": 1},
         {"type": "array", "items": {"type": "number", "description": "{multipleOf: 2}"},
          "prefixItems": [{"enum": [1]}], "minItems": 1}),
        ({"type": "object", "additionalProperties": {"type": "string", "maxLength": 3}},
         {"type": "object", "additionalProperties": {"type": "string", "description": "{maxLength: 3}"}}),
    ],
)  # fmt: skip
def test_a_schema_is_put_into_the_keywords_that_gemini_knows(given: dict[str, Any], sent: dict[str, Any]) -> None:
    assert google_schema.cleaned(given) == sent


def test_a_schema_without_end_is_cut() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for number in range(2000):
        deep = {"items": deep} if number % 2 else {"allOf": [deep]}
    found, depth = google_schema.cleaned(deep), 0
    while "items" in found:
        found, depth = found["items"], depth + 1
    assert (found, depth) == ({}, 65)
