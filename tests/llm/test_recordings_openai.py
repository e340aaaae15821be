"""What OpenAI-compatible vendors send, from their bytes to what a client gets and pays. The bytes are in
tests/recordings/openai, and its README says where each format is published."""

from decimal import Decimal
from typing import Any

import orjson
import pytest

from llm.calls import Usage
from llm.engine.bookkeeping import usage_for_client
from llm.errors import (
    ByokRejected,
    ProviderError,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRejected,
)
from tests.llm.recorded import Recordings, bill, chunks, counted, deltas, settled
from tests.wires import anthropic_order, openai_chunks
from tests.wires.openai_chunks import Call, Said

FOLDER = Recordings("openai")
GDYNIA = Call("call_tideGdynia0000000000001", "get_tide", '{"port": "Gdynia"}')
GDANSK = Call("call_tideGdansk0000000000002", "get_tide", '{"port": "Gdańsk"}')
REFUSED = "I can't help with that."

# What each stream says, what of its usage is believed, and its bill in USD by `recorded.CARD`.
STREAMS: dict[str, tuple[Said, Usage, str]] = {
    "text.sse": (
        Said(text="Zażółć — 🦆.", finish="stop"),
        Usage(prompt_tokens=30, completion_tokens=21, reasoning_tokens=10),
        "0.000228",  # 30 x 2 + 21 x 8, per million
    ),
    "tools.sse": (
        Said(calls=[GDYNIA, GDANSK], finish="tool_calls"),
        Usage(prompt_tokens=80, completion_tokens=44),
        "0.000512",
    ),
    "refusal.sse": (
        Said(refusal=REFUSED, finish="stop"),
        Usage(prompt_tokens=20, completion_tokens=9),
        "0.000112",
    ),
    "azure.sse": (
        Said(text="Fog over the harbour.", finish="stop"),
        Usage(prompt_tokens=14, completion_tokens=6),
        "0.000076",
    ),
    "azure_filtered.sse": (
        Said(text="The pirates then", finish="content_filter"),
        Usage(prompt_tokens=17, completion_tokens=5),
        "0.000074",
    ),
    "groq.sse": (
        Said(text="Ahoy!", reasoning="Short.", finish="stop"),
        Usage(prompt_tokens=72, completion_tokens=18, cached_tokens=64, reasoning_tokens=9),
        "0.000192",  # 8 x 2 + 64 x 0.5 + 18 x 8
    ),
    "mistral.sse": (
        Said(
            text="One moment.",
            reasoning="Ask both ports.",
            calls=[
                Call("gdyTide01", "get_tide", '{"port": "Gdynia"}'),
                Call("gdaTide02", "get_tide", '{"port": "Gdańsk"}'),
            ],
            finish="tool_calls",
        ),
        Usage(prompt_tokens=88, completion_tokens=43, cached_tokens=64),
        "0.000424",
    ),
    "mistral_pieces.sse": (
        Said(calls=[Call("chatcmpl-tool-51c0ffee", "get_tide", '{"port": "Hel"}')], finish="tool_calls"),
        Usage(prompt_tokens=171, completion_tokens=14, cached_tokens=128),
        "0.000262",
    ),
    "deepseek.sse": (
        Said(text="High at noon.", reasoning="潮水", finish="stop"),
        Usage(prompt_tokens=200, completion_tokens=30, cached_tokens=192, reasoning_tokens=22),
        "0.000352",
    ),
    "openrouter.sse": (
        Said(text="They cry.", reasoning="Gulls cry.", finish="stop"),
        Usage(
            prompt_tokens=1300,
            completion_tokens=25,
            cached_tokens=1000,
            cache_write_5m_tokens=200,
            reasoning_tokens=12,
            reported_cost=Decimal("0.0031415"),
        ),
        "0.0014",  # 100 x 2 + 1000 x 0.5 + 200 x 2.5 + 25 x 8
    ),
    "xai.sse": (
        Said(text="Two knots.", reasoning="Count the log line.", finish="stop"),
        Usage(
            prompt_tokens=40,
            completion_tokens=124,
            cached_tokens=32,
            reasoning_tokens=120,
            reported_cost=Decimal("0.0002671"),
        ),
        "0.001024",  # 8 x 2 + 32 x 0.5 + (4 + 120) x 8
    ),
    "moonshot.sse": (
        Said(text="The sea.", reasoning="海", finish="stop"),
        Usage(prompt_tokens=39, completion_tokens=11, cached_tokens=24),
        "0.00013",
    ),
    "perplexity.sse": (
        Said(text="High at noon[1].", finish="stop"),
        Usage(prompt_tokens=10, completion_tokens=6, reported_cost=Decimal("0.00502")),
        "0.000068",
    ),
    "together.sse": (Said(text="Knots.", finish="stop"), Usage(prompt_tokens=36, completion_tokens=3), "0.000096"),
    "fireworks.sse": (
        Said(text="Slack water.", finish="stop"),
        Usage(prompt_tokens=50, completion_tokens=5, cached_tokens=48),
        "0.000068",
    ),
    "cerebras.sse": (
        Said(text="Full ahead.", reasoning="Quick.", finish="stop"),
        Usage(prompt_tokens=69, completion_tokens=15, cached_tokens=32, reasoning_tokens=8),
        "0.00021",
    ),
    "vllm.sse": (
        Said(text="Anchors", reasoning="Heave.", finish="stop"),
        Usage(prompt_tokens=73, completion_tokens=5),
        "0.000186",
    ),
    "ollama.sse": (
        Said(
            reasoning="Look it up.",
            calls=[Call("call_lbcharb1", "get_tide", '{"port":"Hel"}')],
            finish="tool_calls",
        ),
        Usage(prompt_tokens=169, completion_tokens=15),
        "0.000458",
    ),
}
WHOLE: dict[str, tuple[Said, Usage, str]] = {
    "chat.json": (
        Said(text="A lighthouse — latarnia morska — warns ships. 🚢", finish="stop"),
        Usage(
            prompt_tokens=1500, completion_tokens=90, cached_tokens=1024, cache_write_5m_tokens=256, reasoning_tokens=64
        ),
        "0.002312",  # 220 x 2 + 1024 x 0.5 + 256 x 2.5 + 90 x 8
    ),
    "logprobs.json": (Said(text="Tak 🙂", finish="stop"), Usage(prompt_tokens=12, completion_tokens=3), "0.000048"),
    "groq.json": STREAMS["groq.sse"],
    "mistral.json": (
        Said(text="Three masts each.", reasoning="Six masts on two ships.", finish="stop"),
        Usage(prompt_tokens=19, completion_tokens=42),
        "0.000374",
    ),
    "vllm.json": (Said(text="Anchors", finish="stop"), Usage(prompt_tokens=73, completion_tokens=2), "0.000162"),
    "xai.json": STREAMS["xai.sse"],
}


def frames(name: str) -> list[dict[str, Any]]:
    """The chunks of a recording as they were sent; those for everybody, with a choice."""
    found = [orjson.loads(payload) for payload in FOLDER.payloads(FOLDER.raw(name)) if payload != b"[DONE]"]
    return [one for one in found if one["choices"]]


def sent_on(name: str, **how: Any) -> list[dict[str, Any]]:
    """The chunks that a client gets."""
    return [orjson.loads(payload) for payload in openai_chunks.payloads(FOLDER.chatted(name, **how))[:-1]]


def test_every_recording_is_listed_and_tested() -> None:
    assert set(FOLDER.names(".sse")) == STREAMS.keys() | {"openrouter_broken.sse"}
    assert {name for name in FOLDER.names(".json") if "error" not in name} == WHOLE.keys()
    assert {name for name in FOLDER.names(".json") if "error" in name} == {name for name, *_ in ERRORS}
    readme = FOLDER.raw("README.md").decode()
    assert [name for name in FOLDER.names(".*") if name != "README.md" and f"`{name}`" not in readme] == []


# Streams


@pytest.mark.parametrize("name", FOLDER.names(".sse"))
def test_a_stream_may_be_cut_at_every_byte(name: str) -> None:
    raw = FOLDER.raw(name)
    payloads = FOLDER.payloads(raw)
    assert FOLDER.payloads(*(raw[at : at + 1] for at in range(len(raw)))) == payloads
    for at in range(1, len(raw)):
        assert FOLDER.payloads(raw[:at], raw[at:]) == payloads, at


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_says_and_costs_exactly_this(name: str) -> None:
    said, usage, usd = STREAMS[name]
    events, error = FOLDER.played(name)
    assert error is None
    assert counted(events[-1].usage) == usage
    assert bill(events[-1].usage) == Decimal(usd)
    answer = openai_chunks.stream(FOLDER.chatted(name), usage=True)
    assert answer.said == said
    assert answer.usage is not None
    assert Decimal(str(answer.usage["cost"])) == Decimal(usd)


@pytest.mark.parametrize("name", STREAMS)
def test_who_did_not_ask_for_usage_sees_none_of_it(name: str) -> None:
    raw = FOLDER.chatted(name, usage=False)
    assert openai_chunks.stream(raw).usage is None
    assert b"_tokens" not in raw


@pytest.mark.parametrize("name", STREAMS)
def test_a_client_of_the_messages_api_gets_the_same(name: str) -> None:
    said, usage, usd = STREAMS[name]
    message = anthropic_order.message_of(anthropic_order.events_of(FOLDER.messaged(name)))
    parts: dict[str, str] = {"thinking": "", "text": ""}
    for block in message["content"]:
        if block["type"] in parts:
            parts[block["type"]] += block[block["type"]]
    assert parts == {"thinking": said.reasoning, "text": said.text or said.refusal}
    called = [(block["id"], block["input"]) for block in message["content"] if block["type"] == "tool_use"]
    assert called == [(call.id, orjson.loads(call.arguments)) for call in said.calls]
    counts = message["usage"]
    assert (counts["input_tokens"], counts["cache_read_input_tokens"], counts["output_tokens"]) == (
        usage.prompt_tokens - usage.cached_tokens - usage.cache_write_5m_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
    )
    assert Decimal(str(counts["cost"])) == Decimal(usd)


def test_openais_own_streams_are_sent_on_byte_for_byte() -> None:
    for name in ("tools.sse", "refusal.sse"):
        raw = FOLDER.raw(name)
        assert FOLDER.chatted(name, usage=False) == raw[: raw.rindex(b"data: {")] + b"data: [DONE]\n\n"
    events, _ = FOLDER.played("text.sse")
    assert [event.raw is not None for event in events] == [True] * 5 + [False]  # [DONE] is nobody's chunk
    assert [event.output_bytes for event in events] == [0, 10, 10, 0, 0, 0]
    assert [chunk.get("obfuscation") for chunk in chunks(events)] == ["k3VbQ", "m", "Zp0Rq81", ""]
    assert sent_on("text.sse", usage=False) == frames("text.sse")


def test_azures_filter_results_stay_where_they_are_and_its_empty_names_do_not() -> None:
    _, text, finish, usage = sent_on("azure.sse")
    assert text["choices"][0]["content_filter_results"]["hate"] == {"filtered": False, "severity": "safe"}
    assert finish["choices"][0]["content_filter_results"] == {}
    assert usage["id"] == "chatcmpl-DqAz9LkE"
    *_, checked, filtered, _ = sent_on("azure_filtered.sse")
    for one in (checked, filtered):
        assert (one["id"], one["model"]) == ("chatcmpl-DqAzF4mQ", "gpt-4.1-2025-04-14")
    assert filtered["choices"][0]["content_filter_results"]["violence"] == {"filtered": True, "severity": "medium"}
    assert filtered["choices"][0]["content_filter_offsets"]["end_offset"] == 71


def test_reasoning_has_the_one_name_and_keeps_the_vendors() -> None:
    events, _ = FOLDER.played("openrouter.sse")
    assert [delta.get("reasoning_content") for delta in deltas(events)][:3] == ["Gulls ", "cry.", None]
    assert deltas(events)[2]["reasoning_details"][0]["signature"] == "aGFyYm91cg=="
    assert chunks(events)[4]["choices"][0]["native_finish_reason"] == "end_turn"
    assert deltas(FOLDER.played("groq.sse")[0])[1] == {
        "reasoning": "Short.",
        "channel": "analysis",
        "reasoning_content": "Short.",
    }


def test_what_a_vendor_adds_travels_on() -> None:
    assert sent_on("perplexity.sse")[0]["search_results"][0]["title"] == "Tide tables"
    assert {one["object"] for one in sent_on("perplexity.sse")} == {"chat.completion.chunk"}
    assert sent_on("cerebras.sse")[3]["time_info"]["queue_time"] == 0.000073161
    assert sent_on("vllm.sse")[3]["choices"][0]["stop_reason"] == 151645
    last = sent_on("together.sse")[2]["choices"][0]
    assert (last["finish_reason"], last["seed"], last["delta"]["token_id"]) == ("stop", 9137220641105511, 128009)


def test_a_vendors_own_cost_is_never_taken_for_ours() -> None:
    for name, ours in (("openrouter.sse", 0.0014), ("perplexity.sse", 0.000068)):
        usage = FOLDER.played(name)[0][-1].usage
        assert usage is not None
        assert usage["cost"] not in (None, ours)
        assert orjson.loads(orjson.dumps(settled(usage)))["cost"] == ours
        assert "cost" not in usage_for_client(usage, counted(usage), None)  # the database was away: it is not known


def test_a_stream_that_openrouter_breaks_off_is_an_error_after_its_words() -> None:
    events, error = FOLDER.played("openrouter_broken.sse")
    assert deltas(events) == [{"role": "assistant", "content": "Half a tide"}]
    assert type(error) is UpstreamFailed
    answer = openai_chunks.broken(FOLDER.chatted("openrouter_broken.sse"))
    assert answer.said.text == "Half a tide"
    assert answer.error is not None
    assert answer.error["code"] == "upstream_error"
    assert anthropic_order.broken_off(anthropic_order.events_of(FOLDER.messaged("openrouter_broken.sse"))) == {
        "type": "api_error",
        "message": "The provider reported an error instead of an answer.",
    }


# Whole answers


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer_says_and_costs_exactly_this(name: str) -> None:
    said, usage, usd = WHOLE[name]
    completed = FOLDER.whole(name)
    assert counted(completed.usage) == usage
    assert bill(completed.usage) == Decimal(usd)
    answer = openai_chunks.whole(FOLDER.chat_body(name))
    assert answer.said == said
    assert answer.usage is not None
    assert Decimal(str(answer.usage["cost"])) == Decimal(usd)


@pytest.mark.parametrize("name", ["chat.json", "logprobs.json"])
def test_openais_own_answer_is_kept_whole(name: str) -> None:
    sent = orjson.loads(FOLDER.raw(name))
    assert FOLDER.whole(name).body == sent
    shown = orjson.loads(FOLDER.chat_body(name))
    assert shown == sent | {"usage": sent["usage"] | {"cost": float(WHOLE[name][2])}}


def test_what_differs_in_a_whole_answer_is_put_right() -> None:
    assert FOLDER.whole("mistral.json").body["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Three masts each.",
        "reasoning_content": "Six masts on two ships.",
    }
    vllm = FOLDER.whole("vllm.json").body["choices"][0]
    assert "tool_calls" not in vllm["message"]
    assert vllm["stop_reason"] == " aweigh"
    groq = FOLDER.whole("groq.json").body
    assert "service_tier" not in groq  # "on_demand" is none of OpenAI's
    assert groq["x_groq"] == {"id": "req_01kharbour0000000000000002", "seed": 1045}


# Errors

ERRORS: list[tuple[str, type[ProviderError], str, str | None]] = [
    (
        "error_400.json",
        UpstreamRejected,
        (
            "The provider rejected the request: Unsupported value: 'temperature' does not support 0.2 with this model. "
            "Only the default (1) value is supported."
        ),
        "temperature",
    ),
    ("error_401.json", UpstreamAuthFailed, "The provider refused the gateway's key. The operator has been told.", None),
    ("error_429.json", UpstreamRateLimited, "The provider is limiting requests. Try again later.", None),
    (
        "azure_error_400.json",
        UpstreamRejected,
        (
            "The provider rejected the request: The response was filtered due to the prompt triggering Azure OpenAI's "
            "content management policy. Please modify your prompt and retry. To learn more about our content filtering "
            "policies please read our documentation: [removed]"
        ),
        "prompt",
    ),
    (
        "deepseek_error_402.json",
        UpstreamAuthFailed,
        "The provider refused the gateway's key. The operator has been told.",
        None,
    ),
    (
        "mistral_error_422.json",
        UpstreamRejected,
        (
            "The provider rejected the request: store: Extra inputs are not permitted; temperature: Input should be "
            "less than or equal to 1.5"
        ),
        None,
    ),
    (
        "vllm_error_400.json",
        UpstreamRejected,
        (
            "The provider rejected the request: This model's maximum context length is 4096 tokens. However, you "
            "requested 5000 tokens. Please reduce the length of the messages."
        ),
        None,
    ),
]


def status_in(name: str) -> int:
    return int(name.removesuffix(".json").rsplit("_", maxsplit=1)[1])


@pytest.mark.parametrize(("name", "kind", "message", "param"), ERRORS)
def test_an_error_body_is_this_error(name: str, kind: type[ProviderError], message: str, param: str | None) -> None:
    error = FOLDER.adapter.parse_error(status_in(name), {}, FOLDER.raw(name), byok=False)
    assert (type(error), error.message, error.param) == (kind, message, param)


@pytest.mark.parametrize(("name", "invalid"), [("error_401.json", True), ("deepseek_error_402.json", False)])
def test_an_own_key_without_credit_is_still_a_good_key(name: str, invalid: bool) -> None:
    error = FOLDER.adapter.parse_error(status_in(name), {}, FOLDER.raw(name), byok=True)
    assert isinstance(error, ByokRejected)
    assert error.invalid == invalid


def test_the_longest_wait_that_openai_names_is_kept() -> None:
    headers = {"retry-after-ms": "1400", "retry-after": "2", "x-ratelimit-reset-tokens": "1.4s"}
    error = FOLDER.adapter.parse_error(429, headers, FOLDER.raw("error_429.json"), byok=False)
    assert error.retry_after == 2.0
