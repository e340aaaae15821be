"""What each quirk of the openai dialect does to a request, and what the shipped vendors' quirks make of one."""

from typing import Any

import orjson
import pytest

from llm.catalog import shipped
from llm.providers.openai import ADAPTER
from tests.llm.test_provider_registry import a_call

HELLO = [{"role": "user", "content": "Hi"}]
PLAIN: dict[str, Any] = {"model": "m-1", "messages": HELLO, "max_tokens": 1000}
CACHE = {"cache_control": {"type": "ephemeral"}}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def sent(body: dict[str, Any], quirks: dict[str, Any], **how: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    given = {"model": "x", "messages": HELLO} | body
    before = orjson.dumps(given)
    upstream = ADAPTER.build(a_call(given, quirks=quirks, **how))
    assert orjson.dumps(given) == before  # it is shared between attempts
    return orjson.loads(upstream.body), upstream.dropped


# Parameters


def test_renamed_params() -> None:
    assert sent({"seed": 7}, {"renamed_params": {"seed": "random_seed"}}) == (PLAIN | {"random_seed": 7}, ())
    assert sent({}, {"renamed_params": {"seed": "random_seed"}}) == (PLAIN, ())


def test_extra_params_unless_the_client_sends_its_own() -> None:
    quirks = {"extra_params": {"reasoning_format": "parsed"}}
    assert sent({}, quirks) == (PLAIN | {"reasoning_format": "parsed"}, ())
    assert sent({"reasoning_format": "raw"}, quirks) == (PLAIN | {"reasoning_format": "raw"}, ())


@pytest.mark.parametrize(("asked", "said"), [(0, 0.01), (0.5, 0.5), (1.7, 1)])
def test_temperature_range(asked: float, said: float) -> None:
    quirks = {"temperature_range": [0.01, 1]}
    assert sent({"temperature": asked}, quirks) == (PLAIN | {"temperature": said}, ())
    assert sent({}, quirks, temperature=str(asked)) == (PLAIN | {"temperature": said}, ())
    assert sent({}, quirks) == (PLAIN, ())


@pytest.mark.parametrize(
    ("choice", "expected", "dropped"),
    [
        ("auto", {"tools": [TOOL], "tool_choice": "auto"}, ()),
        (None, {"tools": [TOOL]}, ()),
        ("required", {"tools": [TOOL]}, ("tool_choice",)),
        ({"type": "function", "function": {"name": "f"}}, {"tools": [TOOL]}, ("tool_choice",)),
        ("none", {}, ()),
    ],
)
def test_forced_tool_choice(choice: Any, expected: dict[str, Any], dropped: tuple[str, ...]) -> None:
    found = sent({"tools": [TOOL], "tool_choice": choice}, {"forced_tool_choice": False})
    assert found == (PLAIN | expected, dropped)
    kept = {"tools": [TOOL]} | ({} if choice is None else {"tool_choice": choice})
    assert sent({"tools": [TOOL], "tool_choice": choice}, {}) == (PLAIN | kept, ())


# Reasoning


@pytest.mark.parametrize(
    ("style", "effort", "said"),
    [
        (None, "high", {"reasoning_effort": "high"}),
        ("reasoning_effort", "none", {"reasoning_effort": "none"}),
        ("reasoning", "low", {"reasoning": {"effort": "low"}}),
        ("enable_thinking", "none", {"enable_thinking": False}),
        ("enable_thinking", "low", {"enable_thinking": True, "thinking_budget": 200}),
        ("enable_thinking", "high", {"enable_thinking": True}),
        ("thinking", "none", {"thinking": {"type": "disabled"}}),
        ("thinking", "high", {"thinking": {"type": "enabled"}}),
        ("thinking_effort", "none", {"thinking": {"type": "disabled"}}),
        ("thinking_effort", "low", {"thinking": {"type": "enabled"}, "reasoning_effort": "low"}),
    ],
)
def test_reasoning_request(style: str | None, effort: str, said: dict[str, Any]) -> None:
    quirks = {} if style is None else {"reasoning_request": style}
    assert sent({"reasoning_effort": effort}, quirks) == (PLAIN | said, ())
    assert sent({}, quirks) == (PLAIN, ())


@pytest.mark.parametrize(
    ("style", "own"),
    [("reasoning", {"reasoning": {"max_tokens": 9}}), ("thinking", {"thinking": {"type": "disabled"}}),
     ("enable_thinking", {"enable_thinking": False}),
     ("enable_thinking", {"enable_thinking": True, "thinking_budget": 5})],
)  # fmt: skip
def test_the_clients_own_words_to_the_vendor_win(style: str, own: dict[str, Any]) -> None:
    assert sent({"reasoning_effort": "low"} | own, {"reasoning_request": style}) == (PLAIN | own, ())


def test_reasoning_efforts() -> None:
    quirks = {"reasoning_efforts": {"none": "", "medium": "high"}}
    assert sent({"reasoning_effort": "medium"}, quirks) == (PLAIN | {"reasoning_effort": "high"}, ())
    assert sent({"reasoning_effort": "max"}, quirks) == (PLAIN | {"reasoning_effort": "max"}, ())
    assert sent({"reasoning_effort": "none"}, quirks) == (PLAIN, ("reasoning_effort",))
    quirks["reasoning_request"] = "thinking"  # type: ignore[assignment]
    assert sent({"reasoning_effort": "none"}, quirks) == (PLAIN, ("reasoning_effort",))


# Messages

THOUGHTFUL = {
    "role": "assistant",
    "content": "Three.",
    "reasoning_content": "Hm.",
    "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}],
    "thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}],
}
BARE = {"role": "assistant", "content": "Three."}


@pytest.mark.parametrize(
    ("taken", "kept", "dropped"),
    [
        ([], {}, ("reasoning_content", "reasoning_details", "thinking_blocks")),
        (["reasoning_content"], {"reasoning_content": "Hm."}, ("reasoning_details", "thinking_blocks")),
        (
            ["reasoning", "reasoning_details"],
            {"reasoning": "Hm.", "reasoning_details": THOUGHTFUL["reasoning_details"]},
            ("thinking_blocks",),
        ),
        (
            ["reasoning_content", "thinking_blocks"],
            {"reasoning_content": "Hm.", "thinking_blocks": THOUGHTFUL["thinking_blocks"]},
            ("reasoning_details",),
        ),
    ],
    ids=["OpenAI", "DeepSeek", "OpenRouter", "LiteLLM"],
)
def test_assistant_fields(taken: list[str], kept: dict[str, Any], dropped: tuple[str, ...]) -> None:
    body, gone = sent({"messages": [*HELLO, THOUGHTFUL, *HELLO]}, {"assistant_fields": taken})
    assert body["messages"] == [*HELLO, BARE | kept, *HELLO]
    assert gone == dropped


def test_thinking_blocks_alone_go_back_as_the_text_that_the_vendor_takes() -> None:
    said = BARE | {"thinking_blocks": THOUGHTFUL["thinking_blocks"]}
    body, _ = sent({"messages": [said]}, {"assistant_fields": ["reasoning_content"]})
    assert body["messages"] == [BARE | {"reasoning_content": "Hm."}]


def test_empty_extras_are_taken_out_without_a_word() -> None:
    said = BARE | {"reasoning_content": None, "citations": [], "reasoning": ""}
    assert sent({"messages": [said]}, {}) == (PLAIN | {"messages": [BARE]}, ())
    cited = BARE | {"citations": ["https://a.example"]}
    assert sent({"messages": [cited]}, {}) == (PLAIN | {"messages": [BARE]}, ("citations",))


def test_cache_control() -> None:
    part = {"type": "text", "text": "Long."}
    tool = TOOL | CACHE
    inner = {"type": "function", "function": TOOL["function"] | CACHE}
    messages = [{"role": "system", "content": [part | CACHE, part]}, {"role": "user", "content": "Hi"} | CACHE]
    body = {"messages": messages, "tools": [tool, inner, TOOL]}
    assert sent(body, {"cache_control": True}) == (PLAIN | body, ())
    bare = {"messages": [{"role": "system", "content": [part, part]}, *HELLO], "tools": [TOOL, TOOL, TOOL]}
    assert sent(body, {}) == (PLAIN | bare, ("cache_control",))


def test_message_names() -> None:
    named = [{"role": "user", "content": "Hi", "name": "ada"}]
    assert sent({"messages": named}, {"message_names": False}) == (PLAIN, ("name",))
    assert sent({"messages": named}, {}) == (PLAIN | {"messages": named}, ())


# The vendors as they are shipped

CATALOG = shipped.load()
GO = {"role": "user", "content": [{"type": "text", "text": "Go"}]}
GO_CACHED = {"role": "user", "content": [{"type": "text", "text": "Go"} | CACHE]}
THOUGHT = BARE | {"reasoning_content": "Hm."}
EVERYTHING: dict[str, Any] = {
    "messages": [*HELLO, THOUGHT, GO_CACHED],
    "temperature": 1.5, "seed": 7, "logit_bias": {"1": 2}, "presence_penalty": 1, "user": "ada", "stop": ["END"],
    "reasoning_effort": "medium",
}  # fmt: skip
KEPT = {"logit_bias": {"1": 2}, "presence_penalty": 1, "user": "ada", "stop": ["END"], "seed": 7, "temperature": 1.5}
TAKEN_OUT = ("cache_control", "reasoning_content")
SHIPPED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "openai/gpt-5.4": (
        {"messages": [*HELLO, BARE, GO], "seed": 7, "user": "ada", "stop": ["END"], "reasoning_effort": "medium",
         "max_completion_tokens": 1000},
        (*TAKEN_OUT, "logit_bias", "presence_penalty", "temperature"),
    ),
    "azure-openai/gpt-5.4": (
        {"messages": [*HELLO, BARE, GO], "seed": 7, "user": "ada", "stop": ["END"], "reasoning_effort": "medium",
         "max_completion_tokens": 1000},
        (*TAKEN_OUT, "logit_bias", "presence_penalty", "temperature"),
    ),
    "mistral/mistral-large-4": (
        {"messages": [*HELLO, BARE, GO], "temperature": 1.5, "random_seed": 7, "presence_penalty": 1, "stop": ["END"],
         "reasoning_effort": "medium", "max_tokens": 1000},
        (*TAKEN_OUT, "logit_bias", "user"),
    ),
    "groq/qwen/qwen3.8-27b": (
        {"messages": [*HELLO, BARE | {"reasoning": "Hm."}, GO], "temperature": 1.5, "seed": 7, "presence_penalty": 1,
         "user": "ada", "stop": ["END"], "reasoning_effort": "medium", "max_completion_tokens": 1000,
         "reasoning_format": "parsed"},
        ("cache_control", "logit_bias"),
    ),
    "cerebras/gpt-oss-120b": (
        {"messages": [*HELLO, BARE | {"reasoning": "Hm."}, GO], "temperature": 1.5, "seed": 7, "user": "ada",
         "stop": ["END"], "reasoning_effort": "medium", "max_completion_tokens": 1000},
        ("cache_control", "logit_bias", "presence_penalty"),
    ),
    "deepseek/deepseek-v4-pro": (
        {**KEPT, "messages": [*HELLO, THOUGHT, GO], "thinking": {"type": "enabled"}, "reasoning_effort": "medium",
         "max_tokens": 1000},
        ("cache_control",),
    ),
    "moonshot/kimi-k3": (
        {"messages": [*HELLO, THOUGHT, GO], "seed": 7, "logit_bias": {"1": 2}, "user": "ada", "stop": ["END"],
         "reasoning_effort": "high", "max_completion_tokens": 1000},
        ("cache_control", "presence_penalty", "temperature"),
    ),
    "moonshot/kimi-k2.6": (
        {"messages": [*HELLO, THOUGHT, GO], "seed": 7, "logit_bias": {"1": 2}, "user": "ada", "stop": ["END"],
         "thinking": {"type": "enabled"}, "max_completion_tokens": 1000},
        ("cache_control", "presence_penalty", "temperature"),
    ),
    "zai/glm-4.7": (
        {"messages": [*HELLO, THOUGHT, GO], "temperature": 1, "seed": 7, "user": "ada", "stop": ["END"],
         "thinking": {"type": "enabled"}, "max_tokens": 1000},
        ("cache_control", "logit_bias", "presence_penalty"),
    ),
    "zai/glm-5.2": (
        {"messages": [*HELLO, THOUGHT, GO], "temperature": 1, "seed": 7, "user": "ada", "stop": ["END"],
         "thinking": {"type": "enabled"}, "reasoning_effort": "medium", "max_tokens": 1000},
        ("cache_control", "logit_bias", "presence_penalty"),
    ),
    "alibaba/qwen3.8-max": (
        {**KEPT, "messages": [*HELLO, BARE, GO_CACHED], "enable_thinking": True, "thinking_budget": 500,
         "max_tokens": 1000},
        ("reasoning_content",),
    ),
    "openrouter/anthropic/claude-sonnet-4.6": (
        {**KEPT, "messages": [*HELLO, BARE | {"reasoning": "Hm."}, GO_CACHED], "reasoning": {"effort": "medium"},
         "max_tokens": 1000},
        (),
    ),
    "perplexity/sonar-reasoning-pro": (
        {"messages": [*HELLO, BARE, GO], "temperature": 1.5, "presence_penalty": 1, "stop": ["END"],
         "reasoning_effort": "medium", "max_tokens": 1000},
        (*TAKEN_OUT, "logit_bias", "seed", "user"),
    ),
    "minimax/MiniMax-M3": (
        {"messages": [*HELLO, BARE, GO], "temperature": 1, "seed": 7, "user": "ada", "stop": ["END"],
         "max_tokens": 1000},
        (*TAKEN_OUT, "logit_bias", "presence_penalty", "reasoning_effort"),
    ),
    "xai/grok-4.5": (
        {"messages": [*HELLO, BARE, GO], "temperature": 1.5, "seed": 7, "logit_bias": {"1": 2}, "user": "ada",
         "reasoning_effort": "medium", "max_tokens": 1000},
        (*TAKEN_OUT, "presence_penalty", "stop"),
    ),
    "together/openai/gpt-oss-120b": (
        {**KEPT, "messages": [*HELLO, BARE, GO], "reasoning_effort": "medium", "max_tokens": 1000},
        TAKEN_OUT,
    ),
}  # fmt: skip


def quirks_of(reference: str) -> dict[str, Any]:
    """As the snapshot puts them together: the model's own stand in for the provider's of the same name."""
    slug = reference.split("/", maxsplit=1)[0]
    [provider] = [one for one in CATALOG.providers if one.slug == slug]
    [model] = [one for one in CATALOG.models if one.ref == reference]
    return {**provider.quirks, **model.quirks}


@pytest.mark.parametrize("reference", SHIPPED)
def test_one_request_as_each_shipped_vendor_gets_it(reference: str) -> None:
    body, dropped = SHIPPED[reference]
    found, gone = sent(EVERYTHING, quirks_of(reference))
    assert found == {"model": "m-1"} | body
    assert tuple(sorted(gone)) == tuple(sorted(dropped))


@pytest.mark.parametrize(
    ("reference", "asked"),
    [("openai/gpt-4o", True), ("openrouter/openai/gpt-4o", True), ("mistral/mistral-large-2512", False),
     ("perplexity/sonar", False), ("zai/glm-4.7", False)],
)  # fmt: skip
def test_who_is_asked_for_the_usage_of_a_stream(reference: str, asked: bool) -> None:
    body, _ = sent({}, quirks_of(reference), stream=True)
    assert body["stream"] is True
    assert ("stream_options" in body) == asked


def test_every_shipped_quirk_of_the_dialect_is_known() -> None:
    from llm.providers import openai, openai_completions, openai_embeddings

    told = "".join(str(module.__doc__) for module in (openai, openai_completions, openai_embeddings))
    elsewhere = {"model_info", "first_event_timeout_s"}  # of the model list, of the engine
    dialects = {one.slug: one.dialect for one in CATALOG.providers}
    of_models = {name for one in CATALOG.models if dialects[one.provider] == "openai" for name in one.quirks}
    of_providers = {name for one in CATALOG.providers if one.dialect == "openai" for name in one.quirks}
    assert {name for name in of_models | of_providers if name not in told} - elsewhere == set()


def test_azure_is_catalog_data_alone() -> None:
    [azure] = [one for one in CATALOG.providers if one.slug == "azure-openai"]
    assert azure.base_url == "https://{resource}.openai.azure.com/openai/v1"
    call = a_call(
        auth_type=azure.auth_type, quirks=dict(azure.quirks), base_url=azure.base_url.replace("{resource}", "acme")
    )
    upstream = ADAPTER.build(call)
    assert upstream.url == "https://acme.openai.azure.com/openai/v1/chat/completions"
    assert upstream.headers["api-key"].startswith("sk-")
    assert "authorization" not in upstream.headers
    assert orjson.loads(upstream.body) == {"model": "m-1", "messages": HELLO, "max_completion_tokens": 1000}
