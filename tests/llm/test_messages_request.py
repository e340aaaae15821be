"""Messages API bodies as chat bodies: what goes over, what is kept aside, what is refused and by which name."""

import time
import uuid
from typing import Any

import orjson
import pytest

from llm.errors import InvalidRequest
from llm.types import ChatRequest
from llm.wire import messages
from llm.wire.request import Incoming

HI = {"role": "user", "content": "Hi"}
TOOL = {"name": "f", "description": "Does f", "input_schema": {"type": "object", "properties": {}}}
CACHE = {"type": "ephemeral", "ttl": "1h"}
USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": "ü"}}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
HIDDEN = {"type": "redacted_thinking", "data": "x"}
Json = dict[str, Any]


def parsed(body: Json | None = None, headers: dict[bytes, bytes] | None = None) -> ChatRequest:
    raw = orjson.dumps({"model": "m", "max_tokens": 100, "messages": [HI]} | (body or {}))
    incoming = Incoming(id=uuid.uuid4(), headers=headers or {}, ip=None, received=time.perf_counter())
    return messages.parse(raw, incoming)


def chat(*turns: Json) -> list[Json]:
    return list(parsed({"messages": list(turns)}).body["messages"])


def user(*blocks: Json) -> Json:
    return {"role": "user", "content": list(blocks)}


def text(words: str, **more: Any) -> Json:
    return {"type": "text", "text": words} | more


def refused(body: Json) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parsed(body)
    return caught.value


# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_plain_body_is_a_plain_chat() -> None:
    request = parsed({"system": "Be brief.", "stream": True})
    assert request.body == {
        "max_tokens": 100,
        "stream": True,
        "messages": [{"role": "system", "content": "Be brief."}, HI],
    }
    assert (request.stream, request.route.model, request.route.max_tokens) == (True, "m", 100)
    assert request.route.needs == {"streaming"}
    assert request.native is not None
    assert (request.native.dialect, request.native.only, request.beyond) == ("anthropic", None, {})


def test_cache_marks_stay_on_what_they_mark() -> None:
    request = parsed(
        {
            "system": [text("Long.", cache_control=CACHE)],
            "messages": [user(text("Hi", cache_control=CACHE))],
            "tools": [TOOL | {"cache_control": CACHE}],
        }
    )
    marked = [{"type": "text", "text": "Long.", "cache_control": CACHE}]
    assert request.body["messages"][0] == {"role": "system", "content": marked}
    assert request.body["messages"][1]["content"][0]["cache_control"] == CACHE
    assert request.body["tools"][0]["cache_control"] == CACHE
    assert request.cache_writes


def test_tool_results_come_first_and_their_images_after() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}}
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA=="}}
    turn = user(
        text("And?"),
        {"type": "tool_result", "tool_use_id": "t1", "content": [image], "is_error": True},
        {"type": "tool_result", "tool_use_id": "t2", "content": "fine", "cache_control": CACHE},
        {"type": "tool_result", "tool_use_id": "t3"},
    )
    assert chat(turn) == [
        {"role": "tool", "tool_call_id": "t1", "content": "The result is in the next message.", "is_error": True},
        {"role": "tool", "tool_call_id": "t2", "content": "fine", "cache_control": CACHE},
        {"role": "tool", "tool_call_id": "t3", "content": ""},
        user(text("What the tool call t1 returned besides text:"), part, text("And?")),
    ]


def test_an_assistants_turn_keeps_its_thoughts_signed_and_hidden() -> None:
    said = {"role": "assistant", "content": [THOUGHT, HIDDEN, text("Let me see."), USE]}
    assert chat(HI, said)[1] == {
        "role": "assistant",
        "content": [text("Let me see.")],
        "reasoning_content": "Hm.",
        "thinking_blocks": [THOUGHT, HIDDEN],
        "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":"ü"}'}}],
    }


def test_a_vendors_mark_on_its_tool_call_goes_back_to_it() -> None:
    mark = {"google": {"thought_signature": "s"}}
    assert (
        chat(HI, {"role": "assistant", "content": [USE | {"extra_content": mark}]})[1]["tool_calls"][0]["extra_content"]
        == mark
    )


@pytest.mark.parametrize(
    ("body", "only"),
    [
        ({"messages": [user(text("x"), {"type": "document", "source": {}})]}, "messages[0].content[1]"),
        ({"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]}, "messages[0].content[0]"),
        ({"messages": [HI, {"role": "assistant", "content": [{"type": "new"}]}]}, "messages[1].content[0]"),
        (
            {"messages": [user({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "new"}]})]},
            "messages[0].content[0].content[0]",
        ),
        ({"tools": [TOOL, {"type": "bash_20250124", "name": "bash"}]}, "tools[1]"),
    ],
)
def test_what_only_anthropic_can_express_is_named_and_unbounded(body: Json, only: str) -> None:
    request = parsed(body)
    assert request.native is not None
    assert request.native.only == only
    assert not request.size.bounded
    assert request.size.bound(200_000, "anthropic") == 200_000


def test_what_the_chat_has_no_place_for_counts_towards_the_bound() -> None:
    plain, more = parsed().size, parsed({"thing": "x" * 1_000, "messages": [user(text("Hi", citations=["y" * 500]))]})
    assert more.size.text_bytes - plain.text_bytes > 1_500
    examples = parsed({"tools": [TOOL | {"input_examples": ["z" * 700]}]}).size
    assert examples.text_bytes - parsed({"tools": [TOOL]}).size.text_bytes > 700


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "f"}, {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
    ],
)
def test_the_choice_among_tools(choice: Json, expected: Json) -> None:
    body = parsed({"tools": [TOOL], "tool_choice": choice}).body
    assert {name: body[name] for name in ("tool_choice", "parallel_tool_calls") if name in body} == expected
    assert not {"tool_choice", "parallel_tool_calls"} & parsed({"tool_choice": choice}).body.keys()


@pytest.mark.parametrize(
    ("body", "effort", "beyond"),
    [
        ({}, None, {}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1_024}},
            "low",
            {"thinking": {"type": "enabled", "budget_tokens": 1_024}},
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 4_096}},
            "medium",
            {"thinking": {"type": "enabled", "budget_tokens": 4_096}},
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 30_000}},
            "high",
            {"thinking": {"type": "enabled", "budget_tokens": 30_000}},
        ),
        ({"thinking": {"type": "adaptive"}}, "medium", {"thinking": {"type": "adaptive"}}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "xhigh", {}),
        ({"output_config": {"effort": "low"}}, "low", {}),
        ({"thinking": {"type": "disabled"}}, None, {"thinking": {"type": "disabled"}}),
        ({"thinking": {"type": "of_tomorrow"}}, None, {"thinking": {"type": "of_tomorrow"}}),
        ({"output_config": {"new": 1}}, None, {"output_config": {"new": 1}}),
        (
            {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}},
            None,
            {"output_config": {"effort": "low"}, "thinking": {"type": "disabled"}},
        ),
    ],
)
def test_thinking_and_effort_are_one_effort(body: Json, effort: str | None, beyond: Json) -> None:
    request = parsed(body)
    assert request.body.get("reasoning_effort") == effort
    assert request.beyond == beyond


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}, True),
        ({"type": "object", "properties": {"a": {}}, "required": [], "additionalProperties": False}, False),
        ({"type": "object", "properties": {}}, False),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "array", "items": {"type": "object"}}},
                "required": ["a"],
                "additionalProperties": False,
            },
            False,
        ),
    ],
)
def test_a_schema_is_strict_where_openai_takes_it_so(schema: Json, strict: bool) -> None:
    request = parsed({"output_config": {"format": {"type": "json_schema", "schema": schema}}, "tools": [
        {"name": "f", "input_schema": schema, "strict": True}
    ]})  # fmt: skip
    wanted = request.body["response_format"]["json_schema"]
    assert (wanted["schema"], wanted.get("strict", False)) == (schema, strict)
    assert request.body["tools"][0]["function"].get("strict", False) is strict
    assert request.route.needs == {"json", "tools"}
    older = parsed({"output_format": {"type": "json_schema", "schema": schema}})
    assert older.body["response_format"] == request.body["response_format"]
    assert older.beyond == {}


def test_routing_wishes_leave_both_bodies_and_the_header_wins() -> None:
    request = parsed({"power_level": "eco", "config": "main"}, {b"x-power-level": b"precision"})
    assert (request.route.power_level, request.route.config) == ("precision", "main")
    assert request.native is not None
    assert not {"power_level", "config"} & (request.body.keys() | request.native.body.keys() | request.beyond.keys())


def test_betas_go_where_the_native_adapter_finds_them() -> None:
    request = parsed(headers={b"anthropic-beta": b"a-1, b-2"})
    assert request.native is not None
    assert request.native.body["anthropic_beta"] == ["a-1", "b-2"]
    assert "anthropic_beta" not in request.beyond


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [user({"text": "x"})]}, "messages[0].content[0].type"),
        ({"messages": [user({"type": "image", "source": {"type": "base64", "media_type": "image/tiff"}})]},
         "messages[0].content[0].source.media_type"),
        ({"messages": [user({"type": "image", "source": {"type": "url", "url": "ftp://x"}})]},
         "messages[0].content[0].source.url"),
        ({"messages": [user({"type": "tool_result"})]}, "messages[0].content[0].tool_use_id"),
        ({"messages": [user({"type": "tool_result", "tool_use_id": "t", "content": [text("x") | {"text": 1}]})]},
         "messages[0].content[0].content[0].text"),
        ({"messages": [{"role": "assistant", "content": [USE | {"input": "x"}]}]}, "messages[0].content[0].input"),
        ({"messages": [{"role": "assistant", "content": [{"type": "thinking"}]}]}, "messages[0].content[0].thinking"),
        ({"system": [{"type": "image", "source": {"type": "url", "url": "https://x"}}]}, "system"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 2}, "top_p"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1_000}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "minimal"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"metadata": {"user_id": 5}}, "metadata.user_id"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"model": None}, "model"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(body: Json, param: str) -> None:
    error = refused(body)
    assert (error.param, error.code) == (param, "invalid_value")
    assert f"`{param}`" in error.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "code_execution_20260521", "name": "code_execution"}]}, "tools[0].type"),
        ({"mcp_servers": [{"url": "https://x"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"speed": "fast"}, "speed"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management.edits[0]"),
        ({"fallbacks": ["x"]}, "fallbacks"),
        ({"n": 2}, "n"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"seed": 1}, "seed"),
    ],
)
def test_what_is_not_metered_or_another_apis_is_refused_clearly(body: Json, param: str) -> None:
    error = refused(body)
    assert (error.param, error.code) == (param, "unsupported_parameter")


def test_max_tokens_is_required_but_for_counting() -> None:
    incoming = Incoming(id=uuid.uuid4(), headers={}, ip=None, received=time.perf_counter())
    raw = orjson.dumps({"model": "m", "messages": [HI]})
    with pytest.raises(InvalidRequest) as caught:
        messages.parse(raw, incoming)
    assert caught.value.param == "max_tokens"
    assert messages.parse_count(raw, incoming).size.estimate == parsed().size.estimate
