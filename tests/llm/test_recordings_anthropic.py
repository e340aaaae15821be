"""What Anthropic sends, from its bytes to what a client gets and pays. The bytes are in tests/recordings/anthropic, and
its README says where each format is published."""

from decimal import Decimal
from typing import Any

import orjson
import pytest

from llm.calls import Usage
from llm.errors import (
    ByokRejected,
    ProviderError,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRejected,
)
from llm.providers.usage import from_openai
from tests.llm.recorded import WINDOW, Recordings, bill, counted, deltas
from tests.llm.test_provider_registry import CREATED
from tests.wires import anthropic_order, openai_chunks
from tests.wires.openai_chunks import Call, Said

FOLDER = Recordings("anthropic")
BROKEN = ["overloaded_first.sse", "overloaded_later.sse"]
SIGNED = {"type": "thinking", "thinking": "", "signature": "EqQBCkYIBxgCharbour=="}
REDACTED = {"type": "redacted_thinking", "data": "EmwKAhgBEgyharbourredacted=="}

# What each stream says, what of its usage is believed, and its bill in USD by `recorded.CARD`.
STREAMS: dict[str, tuple[Said, Usage, str]] = {
    "text.sse": (
        Said(text="Żuraw — a crane. 🏗️", finish="stop"),
        Usage(prompt_tokens=1044, completion_tokens=14, cached_tokens=1024),
        "0.000664",  # 20 x 2 + 1024 x 0.5 + 14 x 8, per million
    ),
    "tools.sse": (
        Said(
            text="Both ports.",
            calls=[
                Call("toolu_01HarbourTide000000002", "get_tide", '{"port": "Gdańsk"}'),
                Call("toolu_01HarbourTime000000003", "get_time", "{}"),
            ],
            finish="tool_calls",
        ),
        Usage(prompt_tokens=1300, completion_tokens=66, cache_write_5m_tokens=200, cache_write_1h_tokens=700),
        "0.004628",  # 400 x 2 + 200 x 2.5 + 700 x 4 + 66 x 8
    ),
    "eager_tool.sse": (
        Said(
            calls=[Call("toolu_01HarbourLog0000000004", "write_log", '{"text":"Wind rises, \\"hard\\" from the no')],
            finish="length",
        ),
        Usage(prompt_tokens=50, completion_tokens=16),
        "0.000228",
    ),
    "thinking.sse": (
        Said(text="Seven.", reasoning="Seven seas, one ship.", finish="stop"),
        Usage(prompt_tokens=30, completion_tokens=41, reasoning_tokens=33),
        "0.000388",
    ),
    "search.sse": (
        Said(text="High at noon.", finish="stop"),
        Usage(prompt_tokens=9500, completion_tokens=80),  # the prompt grew by what was found
        "0.01964",
    ),
}


def events_of(raw: bytes) -> list[bytes]:
    return raw.removesuffix(b"\n\n").split(b"\n\n")


def test_every_recording_is_listed_and_tested() -> None:
    assert set(FOLDER.names(".sse")) == {*STREAMS, *BROKEN}
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


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_costs_exactly_this_translated_or_not(name: str, native: bool) -> None:
    _, usage, usd = STREAMS[name]
    events, error = FOLDER.played(name, native=native)
    assert error is None
    assert counted(events[-1].usage) == usage
    assert bill(events[-1].usage) == Decimal(usd)


@pytest.mark.parametrize("name", STREAMS)
def test_a_chat_client_gets_exactly_this(name: str) -> None:
    said, _, usd = STREAMS[name]
    answer = openai_chunks.stream(FOLDER.chatted(name), usage=True)
    assert answer.said == said
    assert answer.created == CREATED
    assert answer.usage is not None
    assert Decimal(str(answer.usage["cost"])) == Decimal(usd)
    assert openai_chunks.stream(FOLDER.chatted(name, usage=False)).usage is None


@pytest.mark.parametrize("name", STREAMS)
def test_a_client_of_the_messages_api_gets_the_very_bytes_but_for_the_bill(name: str) -> None:
    sent, got = events_of(FOLDER.raw(name)), events_of(FOLDER.messaged(name))
    assert got[:-2] == sent[:-2]
    theirs, ours = (orjson.loads(one[-2].split(b"data: ")[1]) for one in (sent, got))
    assert ours.pop("usage").items() >= (theirs.pop("usage") | {"cost": float(STREAMS[name][2])}).items()
    assert ours == theirs
    assert got[-1] == b'event: message_stop\ndata: {"type":"message_stop"}'
    message = anthropic_order.message_of(anthropic_order.events_of(FOLDER.messaged(name)))
    assert message["id"].startswith("msg_01Harbour")


def test_the_same_bytes_hold_for_every_kind_of_block() -> None:
    message = anthropic_order.message_of(anthropic_order.events_of(FOLDER.messaged("thinking.sse")))
    assert message["content"] == [
        {"type": "thinking", "thinking": "Seven seas, one ship.", "signature": "EqQBCkYIBxgCharbour=="},
        REDACTED,
        {"type": "text", "text": "Seven."},
    ]
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")
    found = anthropic_order.message_of(anthropic_order.events_of(FOLDER.messaged("search.sse")))
    kinds = [block["type"] for block in found["content"]]
    assert kinds == ["server_tool_use", "web_search_tool_result", "text"]
    assert found["content"][2]["citations"][0]["cited_text"] == "High water 12:00"
    assert found["usage"]["server_tool_use"] == {"web_search_requests": 1, "web_fetch_requests": 0}


def test_thinking_keeps_its_signature_for_a_chat_client() -> None:
    events, _ = FOLDER.played("thinking.sse")
    assert deltas(events) == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Seven seas"},
        {"reasoning_content": ", one ship."},
        {"thinking_blocks": [SIGNED]},
        {"thinking_blocks": [REDACTED]},
        {"content": "Seven."},
        {},
    ]
    assert [event.output_bytes for event in events] == [0, 10, 11, 0, 0, 6, 0, 0]


def test_a_call_without_arguments_gets_an_empty_object() -> None:
    events, _ = FOLDER.played("tools.sse")
    arguments = [delta["tool_calls"][0]["function"]["arguments"] for delta in deltas(events) if "tool_calls" in delta]
    assert arguments == ["", '{"port": "Gd', 'ańsk"}', "", "{}"]


@pytest.mark.parametrize("native", [False, True])
def test_overload_before_anything_may_fall_back(native: bool) -> None:
    events, error = FOLDER.played("overloaded_first.sse", native=native)
    assert events == []
    assert type(error) is UpstreamFailed
    assert error.fallback


@pytest.mark.parametrize("native", [False, True])
def test_overload_in_the_midst_is_an_error_after_the_words_and_they_are_charged(native: bool) -> None:
    events, error = FOLDER.played("overloaded_later.sse", native=native)
    assert type(error) is UpstreamFailed
    assert sum(event.output_bytes for event in events) == len("Half a sail")
    assert from_openai(events[-1].usage, context_window=WINDOW, completion_estimate=3) == Usage(
        prompt_tokens=25, completion_tokens=3, estimated=True
    )


def test_what_broke_off_ends_in_one_error_on_both_wires() -> None:
    answer = openai_chunks.broken(FOLDER.chatted("overloaded_later.sse"))
    assert (answer.said.text, (answer.error or {})["code"]) == ("Half a sail", "upstream_error")
    raw = FOLDER.messaged("overloaded_later.sse")
    assert events_of(raw)[:-1] == events_of(FOLDER.raw("overloaded_later.sse"))[:-1]
    assert anthropic_order.broken_off(anthropic_order.events_of(raw))["type"] == "api_error"
    assert b"req_011" not in raw  # their request is none of the client's


# Whole answers


def test_a_whole_message_is_a_chat_completion() -> None:
    completed = FOLDER.whole("message.json")
    assert counted(completed.usage) == Usage(
        prompt_tokens=2820,
        completion_tokens=95,
        cached_tokens=2000,
        cache_write_5m_tokens=300,
        cache_write_1h_tokens=400,
        reasoning_tokens=40,
    )
    assert bill(completed.usage) == Decimal("0.00435")  # 120 x 2 + 2000 x 0.5 + 300 x 2.5 + 400 x 4 + 95 x 8
    assert openai_chunks.whole(FOLDER.chat_body("message.json")).said == Said(
        text="I look it up. High at noon.",
        reasoning="The user wants tides — for Gdańsk.",
        calls=[Call("toolu_01HarbourTide000000001", "get_tide", '{"port":"Gdańsk","days":2}')],
        finish="tool_calls",
    )
    [choice] = completed.body["choices"]
    assert choice["message"]["thinking_blocks"] == orjson.loads(FOLDER.raw("message.json"))["content"][:2]


def test_a_stop_sequence_is_a_stop() -> None:
    completed = FOLDER.whole("stop_sequence.json")
    assert counted(completed.usage) == Usage(prompt_tokens=16, completion_tokens=7)
    assert bill(completed.usage) == Decimal("0.000088")
    assert openai_chunks.whole(FOLDER.chat_body("stop_sequence.json")).said == Said(text="One, two, ", finish="stop")


@pytest.mark.parametrize(("name", "cost"), [("message.json", 0.00435), ("stop_sequence.json", 0.000088)])
def test_a_client_of_the_messages_api_gets_the_message_as_it_is_but_for_the_bill(name: str, cost: float) -> None:
    sent: dict[str, Any] = orjson.loads(FOLDER.raw(name))
    assert FOLDER.message_body(name) == sent | {"usage": sent["usage"] | {"cost": cost}}


# Errors

LIMITED = "The provider is limiting requests. Try again later."
REFUSED = "The provider refused the gateway's key. The operator has been told."
ERRORS: list[tuple[str, type[ProviderError], str]] = [
    (
        "error_400.json",
        UpstreamRejected,
        "The provider rejected the request: messages.0.content.0.text.text: Field required",
    ),
    ("error_400_credit.json", UpstreamAuthFailed, REFUSED),
    ("error_401.json", UpstreamAuthFailed, REFUSED),
    ("error_403.json", UpstreamAuthFailed, REFUSED),
    ("error_413.json", UpstreamRejected, "The provider rejected the request: Request exceeds the maximum size"),
    ("error_429.json", UpstreamRateLimited, LIMITED),
    ("error_529.json", UpstreamFailed, "The provider failed with status 529."),
]


@pytest.mark.parametrize(("name", "kind", "message"), ERRORS)
def test_an_error_body_is_this_error(name: str, kind: type[ProviderError], message: str) -> None:
    error = FOLDER.adapter.parse_error(int(name[6:9]), {"request-id": "req_1"}, FOLDER.raw(name), byok=False)
    assert (type(error), error.message, error.retry_after) == (kind, message, None)


@pytest.mark.parametrize(
    ("name", "invalid"), [("error_400_credit.json", False), ("error_401.json", True), ("error_403.json", True)]
)
def test_an_own_key_is_named_as_such_and_one_without_credit_is_still_good(name: str, invalid: bool) -> None:
    error = FOLDER.adapter.parse_error(int(name[6:9]), {}, FOLDER.raw(name), byok=True)
    assert isinstance(error, ByokRejected)
    assert error.invalid == invalid
    assert "anthropic" not in error.message.lower()


def test_who_quotes_the_words_of_empty_credit_has_credit() -> None:
    body = FOLDER.raw("error_400_credit.json").replace(b'"Your credit', b'"messages.0: Your credit')
    assert type(FOLDER.adapter.parse_error(400, {}, body, byok=False)) is UpstreamRejected


def test_a_rate_limits_headers_say_how_long() -> None:
    lines = FOLDER.raw("error_429.headers").decode().splitlines()
    headers = dict(line.split(": ", maxsplit=1) for line in lines)
    error = FOLDER.adapter.parse_error(429, headers, FOLDER.raw("error_429.json"), byok=False)
    assert isinstance(error, UpstreamRateLimited)
    assert error.retry_after == 17.0
    assert "harb" not in error.message
