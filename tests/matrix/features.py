"""What clients ask for, in the words of each client wire, and how to see that a provider was told.

A feature that a wire has no words for is missing from its `ask`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.matrix.told import Told

Json = dict[str, Any]
HELLO = "Say hello"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
DATA_URL = f"data:image/png;base64,{PIXEL}"
URL = "https://images.example/cat.png"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"name": "weather", "description": "The weather of a place.", "parameters": SCHEMA}
TIME = {"name": "time", "description": "The time at a place.", "parameters": SCHEMA}


def chat_tools(*tools: Json) -> list[Json]:
    return [{"type": "function", "function": tool} for tool in tools]


def messages_tools(*tools: Json) -> list[Json]:
    return [
        {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]} for tool in tools
    ]


def responses_tools(*tools: Json) -> list[Json]:
    return [{"type": "function", "strict": False, **tool} for tool in tools]


@dataclass(frozen=True)
class Feature:
    """`fields`: what a refusal or `x-dropped-params` may call it; the first of them is what the docs call it."""

    name: str
    told: Callable[[Told], bool]
    fields: tuple[str, ...]
    ask: Mapping[str, Json] = field(default_factory=dict)


def everywhere(**body: Any) -> dict[str, Json]:
    """A field that all three wires call alike."""
    return {"chat": body, "messages": body, "responses": body}


def turn(*parts: Json) -> list[Json]:
    return [{"role": "user", "content": list(parts)}]


def _tools(told: Told) -> bool:
    return told.tools == ["weather", "time"]


_CALLS = [("weather", {"city": "Paris"}), ("time", {"city": "Rome"})]
_CHAT_CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": '{"city":"Rome"}'}},
]
_CHAT_ROUND = [
    {"role": "user", "content": HELLO},
    {"role": "assistant", "content": None, "tool_calls": _CHAT_CALLS},
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
]
_MESSAGES_ROUND = [
    {"role": "user", "content": HELLO},
    {
        "role": "assistant",
        "content": [
            {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Paris"}},
            {"type": "tool_use", "id": "call_2", "name": "time", "input": {"city": "Rome"}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"},
            {"type": "tool_result", "tool_use_id": "call_2", "content": "noon"},
        ],
    },
]
_RESPONSES_ROUND = [
    {"role": "user", "content": HELLO},
    {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":"Paris"}'},
    {"type": "function_call", "call_id": "call_2", "name": "time", "arguments": '{"city":"Rome"}'},
    {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
    {"type": "function_call_output", "call_id": "call_2", "output": "noon"},
]
_BOTH = {
    "chat": {"tools": chat_tools(WEATHER, TIME)},
    "messages": {"tools": messages_tools(WEATHER, TIME)},
    "responses": {"tools": responses_tools(WEATHER, TIME)},
}


def with_tools(**more: Json) -> dict[str, Json]:
    return {wire: _BOTH[wire] | more[wire] for wire in more}


FEATURES = [
    Feature("text", lambda told: told.turns == [("user", HELLO)], (), everywhere()),
    Feature(
        "system prompt",
        lambda told: told.system == "Be brief." and told.turns == [("user", HELLO)],
        ("system",),
        {
            "chat": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": HELLO}]},
            "messages": {"system": "Be brief."},
            "responses": {"instructions": "Be brief."},
        },
    ),
    Feature(
        "developer role",
        lambda told: told.system == "Be brief." and told.turns == [("user", HELLO)],
        ("developer",),
        {
            "chat": {"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": HELLO}]},
            "responses": {"input": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": HELLO}]},
        },
    ),
    Feature(
        "several turns",
        lambda told: told.turns == [("user", "One"), ("assistant", "Two"), ("user", "Three")],
        ("messages",),
        {
            wire: {
                name: [
                    {"role": "user", "content": "One"},
                    {"role": "assistant", "content": "Two"},
                    {"role": "user", "content": "Three"},
                ]
            }
            for wire, name in (("chat", "messages"), ("messages", "messages"), ("responses", "input"))
        },
    ),
    Feature(
        "image, as data",
        lambda told: told.images == ["data"] and ("user", "What is it?") in told.turns,
        ("messages", "input"),
        {
            "chat": {
                "messages": turn(
                    {"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": DATA_URL}}
                )
            },
            "messages": {
                "messages": turn(
                    {"type": "text", "text": "What is it?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                )
            },
            "responses": {
                "input": turn(
                    {"type": "input_text", "text": "What is it?"},
                    {"type": "input_image", "detail": "auto", "image_url": DATA_URL},
                )
            },
        },
    ),
    Feature(
        "image, by URL",
        lambda told: told.images == ["url"],
        ("messages", "input"),
        {
            "chat": {"messages": turn({"type": "image_url", "image_url": {"url": URL}})},
            "messages": {"messages": turn({"type": "image", "source": {"type": "url", "url": URL}})},
            "responses": {"input": turn({"type": "input_image", "detail": "auto", "image_url": URL})},
        },
    ),
    Feature("tools", _tools, ("tools",), _BOTH),
    Feature(
        "tool calls and results",
        lambda told: told.calls == _CALLS and told.results == ["sunny", "noon"] and _tools(told),
        ("messages", "input"),
        with_tools(
            chat={"messages": _CHAT_ROUND},
            messages={"messages": _MESSAGES_ROUND},
            responses={"input": _RESPONSES_ROUND},
        ),
    ),
    Feature(
        "a tool must be called",
        lambda told: told.choice == "any" and _tools(told),
        ("tool_choice",),
        with_tools(
            chat={"tool_choice": "required"},
            messages={"tool_choice": {"type": "any"}},
            responses={"tool_choice": "required"},
        ),
    ),
    Feature(
        "this tool must be called",
        lambda told: told.choice == "time" or (told.choice == "any" and told.tools == ["time"]),
        ("tool_choice",),
        with_tools(
            chat={"tool_choice": {"type": "function", "function": {"name": "time"}}},
            messages={"tool_choice": {"type": "tool", "name": "time"}},
            responses={"tool_choice": {"type": "function", "name": "time"}},
        ),
    ),
    Feature(
        "no tool may be called",
        lambda told: told.choice == "none" or told.tools == [],
        ("tool_choice",),
        with_tools(
            chat={"tool_choice": "none"}, messages={"tool_choice": {"type": "none"}}, responses={"tool_choice": "none"}
        ),
    ),
    Feature(
        "one tool call at a time",
        lambda told: told.parallel is False,
        ("parallel_tool_calls", "tool_choice"),
        with_tools(
            chat={"parallel_tool_calls": False},
            messages={"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            responses={"parallel_tool_calls": False},
        ),
    ),
    Feature(
        "JSON object",
        lambda told: told.format == "json",
        ("response_format", "text.format"),
        {
            "chat": {"response_format": {"type": "json_object"}},
            "responses": {"text": {"format": {"type": "json_object"}}, "input": "Say hello in JSON"},
        },
    ),
    Feature(
        "JSON schema",
        lambda told: told.format == "schema",
        ("response_format", "output_config", "text.format"),
        {
            "chat": {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "place", "schema": SCHEMA, "strict": True},
                }
            },
            "messages": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            "responses": {"text": {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA}}},
        },
    ),
    Feature("temperature", lambda told: told.temperature == 0.25, ("temperature",), everywhere(temperature=0.25)),
    Feature("top_p", lambda told: told.top_p == 0.5, ("top_p",), everywhere(top_p=0.5)),
    Feature("top_k", lambda told: told.top_k == 7, ("top_k",), {"messages": {"top_k": 7}}),
    Feature(
        "cap on the answer",
        lambda told: told.cap == 77,
        ("max_tokens",),
        {"chat": {"max_tokens": 77}, "messages": {"max_tokens": 77}, "responses": {"max_output_tokens": 77}},
    ),
    Feature(
        "stop sequences",
        lambda told: told.stop == ["END"],
        ("stop", "stop_sequences"),
        {"chat": {"stop": ["END"]}, "messages": {"stop_sequences": ["END"]}},
    ),
    Feature("seed", lambda told: told.seed == 42, ("seed",), {"chat": {"seed": 42}}),
    Feature(
        "penalties",
        lambda told: told.penalties == (0.5, 0.25),
        ("frequency_penalty", "presence_penalty"),
        {"chat": {"frequency_penalty": 0.5, "presence_penalty": 0.25}},
    ),
    Feature("several choices", lambda told: told.choices == 2, ("n",), {"chat": {"n": 2}}),
    Feature("log probabilities", lambda told: told.logprobs, ("logprobs",), {"chat": {"logprobs": True}}),
    Feature(
        "end user",
        lambda told: told.user == "user-7",
        ("user", "metadata"),
        {"chat": {"user": "user-7"}, "messages": {"metadata": {"user_id": "user-7"}}, "responses": {"user": "user-7"}},
    ),
    Feature(
        "service tier auto",
        lambda told: told.service_tier == "auto",
        ("service_tier",),
        everywhere(service_tier="auto"),
    ),
    Feature(
        "reasoning effort",
        lambda told: told.thinks,
        ("reasoning_effort", "thinking", "reasoning"),
        {
            "chat": {"reasoning_effort": "high", "max_tokens": 8000},
            "messages": {"thinking": {"type": "enabled", "budget_tokens": 4000}, "max_tokens": 8000},
            "responses": {"reasoning": {"effort": "high"}, "max_output_tokens": 8000},
        },
    ),
    Feature(
        "prompt caching marks",
        lambda told: told.cache_marks,
        ("cache_control",),
        {
            "chat": {
                "messages": turn({"type": "text", "text": HELLO, "cache_control": {"type": "ephemeral"}}),
            },
            "messages": {
                "messages": turn({"type": "text", "text": HELLO, "cache_control": {"type": "ephemeral"}}),
            },
        },
    ),
    Feature(
        "content of no other dialect",
        lambda told: told.documents == 1,
        ("messages",),
        {
            "messages": {
                "messages": turn(
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hello"}},
                    {"type": "text", "text": HELLO},
                )
            }
        },
    ),
]
