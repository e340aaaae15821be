"""The sandbox answers by itself, always the same, and counts what it says."""

import re
from typing import Any

import orjson
import pytest

from llm.calls import StreamEvent
from llm.errors import InvalidRequest
from llm.providers import sandbox
from llm.providers.schema_example import smallest
from tests.llm.test_provider_registry import CREATED, REQUEST_ID, a_call

ASK = {"role": "user", "content": "How are you today?"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
                "required": ["days", "city"],
            },
        },
    }
    for name in ("weather", "news")
]


def ask(**body: Any) -> Any:
    how = {key: body.pop(key) for key in ("cap", "context_window") if key in body}
    return a_call({"model": "echo", "messages": [ASK]} | body, dialect="sandbox", auth_type="none", **how)


def joined(events: list[StreamEvent], index: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {"content": "", "finish_reason": None}
    for event in events:
        for choice in event.chunk["choices"] if event.chunk else []:
            if choice["index"] == index:
                found["content"] += choice["delta"].get("content") or ""
                found["finish_reason"] = choice["finish_reason"] or found["finish_reason"]
                if choice["delta"].get("tool_calls"):
                    found["tool_calls"] = choice["delta"]["tool_calls"]
    return found


def test_it_repeats_the_last_user_message_and_counts_words() -> None:
    completed = sandbox.respond(ask())
    assert completed.body == {
        "id": f"chatcmpl-{REQUEST_ID}",
        "object": "chat.completion",
        "created": CREATED,
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Thank you for your message. You said: How are you today?",
                    "refusal": None,
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 8,
            "completion_tokens": 11,
            "total_tokens": 19,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }
    assert completed.usage == completed.body["usage"]
    assert sandbox.respond(ask()) == completed


@pytest.mark.parametrize(
    "body",
    [
        {}, {"cap": 3}, {"n": 3}, {"stop": "You"}, {"stop": ["zz", "message"]}, {"n": 2, "cap": 1},
        {"messages": [{"role": "user", "content": "two\n\nlines  and   spaces "}]}, {"messages": []},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]},
        {"response_format": {"type": "json_object"}},
        {"tools": TOOLS, "tool_choice": "required"}, {"tools": TOOLS, "tool_choice": "required", "cap": 1, "n": 2},
    ],
    ids=str,
)  # fmt: skip
def test_streamed_and_whole_say_and_cost_the_same(body: dict[str, Any]) -> None:
    whole, events = sandbox.respond(ask(**body)), sandbox.stream(ask(**body))
    for choice in whole.body["choices"]:
        streamed = joined(events, choice["index"])
        assert streamed["content"] == (choice["message"]["content"] or "")
        assert streamed["finish_reason"] == choice["finish_reason"]
        calls = [{"index": 0} | call for call in choice["message"].get("tool_calls", [])]
        assert streamed.get("tool_calls", []) == calls
    assert events[-1] == StreamEvent(done=True, usage=whole.usage)
    assert sum(event.output_bytes > 0 for event in events) >= (1 if joined(events)["content"] else 0)
    assert not events[0].good
    assert whole.usage is not None
    n, cap = body.get("n", 1), body.get("cap", 1000)
    assert 0 <= whole.usage["completion_tokens"] <= n * cap


def test_the_cap_cuts_words_and_says_length() -> None:
    completed = sandbox.respond(ask(cap=3))
    assert completed.body["choices"][0]["message"]["content"] == "Thank you for"
    assert completed.body["choices"][0]["finish_reason"] == "length"
    assert completed.usage is not None
    assert completed.usage["completion_tokens"] == 3


def test_choices_are_counted_each() -> None:
    completed = sandbox.respond(ask(n=3))
    assert [choice["index"] for choice in completed.body["choices"]] == [0, 1, 2]
    assert completed.usage is not None
    assert completed.usage["completion_tokens"] == 33


def test_the_prompt_is_words_images_and_messages_within_the_window() -> None:
    parts = [{"type": "text", "text": "what is this"}, {"type": "image_url", "image_url": {"url": "https://x/y"}}]
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": parts}]
    usage = sandbox.respond(ask(messages=messages)).usage
    assert usage is not None
    assert usage["prompt_tokens"] == 2 * 4 + 2 + 3 + 85
    usage = sandbox.respond(ask(messages=messages, context_window=50)).usage
    assert usage is not None
    assert usage["prompt_tokens"] == 50


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("required", "weather"),
        ({"type": "function", "function": {"name": "news"}}, "news"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOLS[1]]}}, "news"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOLS[1]]}}, None),
        ("auto", None),
        ("none", None),
        (None, None),
    ],
)
def test_a_forced_tool_is_called_with_the_least_arguments(choice: Any, called: str | None) -> None:
    found = sandbox.respond(ask(tools=TOOLS, tool_choice=choice)).body["choices"][0]
    if called is None:
        assert "tool_calls" not in found["message"]
        assert found["finish_reason"] == "stop"
        return
    (call,) = found["message"]["tool_calls"]
    assert re.fullmatch(r"call_[0-9a-f]+", call.pop("id"))
    assert call == {"type": "function", "function": {"name": called, "arguments": '{"days":1,"city":""}'}}
    assert (found["message"]["content"], found["finish_reason"]) == (None, "tool_calls")


def test_a_tool_that_is_not_there_cannot_be_forced() -> None:
    for body in ({"tool_choice": "required"}, {"tools": TOOLS, "tool_choice": {"function": {"name": "zz"}}}):
        with pytest.raises(InvalidRequest) as caught:
            sandbox.respond(ask(**body))
        assert caught.value.param == "tool_choice"


def test_json_is_json() -> None:
    def content(said: dict[str, Any]) -> Any:
        return orjson.loads(sandbox.respond(ask(response_format=said)).body["choices"][0]["message"]["content"])

    assert content({"type": "json_object"}) == {"answer": "How are you today?"}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert content({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}) == {"n": 0}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, ""),
        ({"type": "string", "minLength": 3}, "xxx"),
        ({"type": "string", "format": "date"}, "2025-01-01"),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "integer", "exclusiveMinimum": 3, "multipleOf": 5}, 5),
        ({"type": "number", "maximum": -0.5}, -0.5),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"type": "boolean"}, False),
        ({"type": "null"}, None),
        ({"type": ["null", "string"]}, ""),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 7}, 7),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        ({"type": "array", "items": {"type": "integer"}}, []),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [0, 0]),
        ({"properties": {"a": {"type": "integer"}}, "required": ["a", "b"]}, {"a": 0, "b": None}),
        ({"allOf": [{"type": "object", "required": ["a"], "properties": {"a": {"const": 1}}}, {"required": ["a"]}]},
         {"a": 1}),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "required": ["x"],
                                               "properties": {"x": {"$ref": "#/$defs/B"}}},
                                         "B": {"enum": [9]}}}, {"x": 9}),
        ({"type": "object"}, {}),
        ({}, None), (True, None), ("x", None),
    ],
)  # fmt: skip
def test_the_smallest_value_of_a_schema(schema: Any, value: Any) -> None:
    assert smallest(schema) == value


def test_a_schema_without_end_ends() -> None:
    endless = {"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#"}}}
    assert orjson.dumps(smallest(endless)).count(b"next") < 40
    text = {"type": "string", "minLength": 10**9}
    wide: dict[str, Any] = {"type": "array", "minItems": 10**9, "items": text}
    for _ in range(30):
        wide = {"type": "array", "minItems": 300, "items": wide}
    assert len(orjson.dumps(smallest(wide))) < 100_000
    double: dict[str, Any] = {"type": "object", "required": ["a", "b"]}
    double["properties"] = {"a": {"$ref": "#"}, "b": {"$ref": "#"}}
    assert len(orjson.dumps(smallest(double))) < 500_000
    large = {"required": [str(at) for at in range(9)], "properties": {}, "$defs": {"A": {"const": "x" * 30_000}}}
    large["properties"] = {name: {"$ref": "#/$defs/A"} for name in large["required"]}
    assert len(orjson.dumps(smallest(large))) < 70_000
    assert smallest({"type": "integer", "minimum": 1e308, "multipleOf": 1e-308}) == 0


def test_a_long_answer_streams_in_bounded_events() -> None:
    words = {"role": "user", "content": "word " * 50_000}
    events = sandbox.stream(ask(messages=[words], n=4, cap=16_000))
    assert len(events) < 4200
    text = joined(events, 3)["content"]
    assert len(text.split()) == 16_000
    assert text == sandbox.respond(ask(messages=[words], n=4, cap=16_000)).body["choices"][3]["message"]["content"]
