"""WIRE section 3, rule by rule. Every frame of every stream is looked at, whatever the vendor made of it."""

import itertools
import json
import time
from collections import defaultdict
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from llm.engine import attempt
from tests.fakes import Behaviour
from tests.fakes.behaviour import DEFAULT_TEXT
from tests.journeys.world import ASK, Customer, Json, Vendor, World, frames_of, payloads_of, price_of, usd

TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("add", "mul")]
CALLS = [{"name": "add", "arguments": {"a": 1}, "id": "call_a"}, {"name": "mul", "arguments": {"b": 2}, "id": "call_b"}]
WITH_USAGE: Json = {"stream_options": {"include_usage": True}}
POLISH = "Zażółć gęślą 🦆 jaźń"


def streamed(customer: Customer, model: str, **body: Any) -> tuple[httpx.Response, bytes]:
    """The answer and all its bytes."""
    with customer.stream(model, **body) as answer:
        return answer, b"".join(answer.iter_raw())


def obeys(chunks: list[Json], *, choices: int = 1, usage: bool = False) -> None:
    """Rules 2, 3 and 4 of a whole stream."""
    if usage:
        *chunks, last = chunks
        assert last["choices"] == []
        assert set(last["usage"]) >= {"prompt_tokens", "completion_tokens", "total_tokens", "cost"}
        assert (last["id"], last["model"], last["created"]) == tuple(chunks[0][k] for k in ("id", "model", "created"))
    assert all(chunk.get("usage") is None and chunk["choices"] for chunk in chunks)
    for name, kind in (("id", str), ("model", str), ("created", int)):
        [only] = {chunk[name] for chunk in chunks}
        assert type(only) is kind
        assert only
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    said: dict[int, list[Json]] = defaultdict(list)
    for choice in itertools.chain.from_iterable(chunk["choices"] for chunk in chunks):
        assert type(choice["index"]) is int
        assert "finish_reason" in choice
        said[choice["index"]].append(choice)
    assert sorted(said) == list(range(choices))
    for own in said.values():
        assert [choice["delta"].get("role") for choice in own] == ["assistant"] + [None] * (len(own) - 1)
        finishes = [choice["finish_reason"] for choice in own]
        assert finishes[:-1] == [None] * (len(own) - 1)
        calls_obey([call for choice in own for call in choice["delta"].get("tool_calls", [])], finishes[-1])


def calls_obey(fragments: list[Json], finish: str) -> None:
    if not fragments:
        assert finish in ("stop", "length")
        return
    assert finish == "tool_calls"
    seen = set()
    for call in fragments:
        assert type(call["index"]) is int
        if call["index"] in seen:
            assert not {"id", "type"} & call.keys()
            assert "name" not in call["function"]
        else:
            assert call["index"] == len(seen)
            assert (bool(call["id"]), call["type"], bool(call["function"]["name"])) == (True, "function", True)
        seen.add(call["index"])


def text_of(chunks: list[Json], name: str = "content", index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get(name) or "" for choice in choices)


def arguments_of(chunks: list[Json]) -> dict[int, str]:
    found: dict[int, str] = defaultdict(str)
    for chunk in chunks:
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls", []):
                found[call["index"]] += call["function"].get("arguments", "")
    return dict(found)


# --- rule 1 -----------------------------------------------------------------------------------------------------------


def test_the_headers_of_a_stream(customer: Customer, vendor: Vendor) -> None:
    with (
        customer.http as client,
        client.stream(
            "POST",
            "/v1/chat/completions",
            json={"model": vendor.reference, "messages": ASK, "stream": True},
            headers={"accept-encoding": "gzip, br"},
        ) as answer,
    ):
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in answer.headers
    assert "x-cost-incurred" not in answer.headers
    assert answer.headers["x-request-id"] == str(customer.row().id)
    chunks = frames_of(raw)
    obeys(chunks)
    assert text_of(chunks) == DEFAULT_TEXT


def test_silence_is_filled_with_pings_after_the_first_event_only(
    customer: Customer, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "PING_S", 0.05)
    vendor.fake.script("m", Behaviour(text="one two", delay_first_s=0.2, delay_between_s=0.2))
    _, raw = streamed(customer, vendor.reference)
    blocks = raw.split(b"\n\n")
    assert blocks[0].startswith(b"data: ")
    assert 2 <= blocks.count(b": ping") <= 4
    chunks = frames_of(raw)
    obeys(chunks)
    assert text_of(chunks) == "one two"


def test_the_first_words_are_passed_on_while_the_rest_is_still_to_come(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(text="one two", delay_between_s=0.5))
    started = time.monotonic()
    with customer.stream(vendor.reference) as answer:
        pieces = answer.iter_raw()
        seen = b""
        while b"one" not in seen:
            seen += next(pieces)
        assert time.monotonic() - started < 0.4
        rest = b"".join(pieces)
    assert time.monotonic() - started >= 0.5
    obeys(frames_of(seen + rest))


# --- rule 2 -----------------------------------------------------------------------------------------------------------


def test_the_provider_is_always_asked_for_usage_and_the_client_gets_it_only_if_it_asked(
    world: World, customer: Customer
) -> None:
    _, unasked = streamed(customer, "fakeai/m")
    _, declined = streamed(customer, "fakeai/m", stream_options={"include_usage": False})
    _, asked = streamed(customer, "fakeai/m", **WITH_USAGE)
    sent = [request.body["stream_options"] for request in world.fake.requests]
    assert sent == [{"include_usage": True}] * 3
    for raw in (unasked, declined):
        assert b'"cost"' not in raw
        assert b'"prompt_tokens"' not in raw
        obeys(frames_of(raw))
    obeys(frames_of(asked), usage=True)
    assert [row.budget_usd for row in customer.rows()] == [usd(8, 5)] * 3


def test_usage_comes_right_before_done_even_where_the_provider_gives_none(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(usage="none"))
    _, raw = streamed(customer, vendor.reference, **WITH_USAGE)
    chunks = frames_of(raw)
    obeys(chunks, usage=True)
    assert chunks[-1]["usage"] == {"prompt_tokens": 8, "completion_tokens": 8, "total_tokens": 16, "cost": 0.00008}
    assert customer.row().is_estimated


# --- rules 3 and 4 ----------------------------------------------------------------------------------------------------


def test_every_choice_has_its_own_role_and_finish(customer: Customer, world: World) -> None:
    _, raw = streamed(customer, "fakeai/m", n=3, **WITH_USAGE)
    chunks = frames_of(raw)
    obeys(chunks, choices=3, usage=True)
    assert [text_of(chunks, index=index) for index in range(3)] == [DEFAULT_TEXT] * 3
    assert customer.row().budget_usd == usd(8, 15) == price_of(world.fake.bill()[0])


@pytest.mark.parametrize(
    "odd",
    [
        Behaviour(),
        Behaviour(omit_tool_index=True),
        Behaviour(role_every_chunk=True, id_changes=True, missing_finish_keys=True),
        Behaviour(finish_reason="omit"),
        Behaviour(split_at=(7,)),
    ],
    ids=["honest", "no index", "chatty", "no finish", "split"],
)
def test_tool_calls_come_out_clean(customer: Customer, vendor: Vendor, odd: Behaviour) -> None:
    script = Behaviour(**{**odd.to_json(), "tool_calls": CALLS})
    vendor.fake.script("m", script)
    _, raw = streamed(customer, vendor.reference, tools=TOOLS)
    chunks = frames_of(raw)
    obeys(chunks)
    assert {index: json.loads(said) for index, said in arguments_of(chunks).items()} == {0: {"a": 1}, 1: {"b": 2}}
    assert customer.row().budget_usd == price_of(vendor.fake.bill()[0])


def test_the_finish_is_tool_calls_whatever_the_provider_said(customer: Customer, vendor: Vendor) -> None:
    word = {"openai": "stop", "cohere": "COMPLETE"}.get(vendor.name, "end_turn")
    vendor.fake.script("m", Behaviour(tool_calls=CALLS, finish_reason=word))
    _, raw = streamed(customer, vendor.reference, tools=TOOLS)
    obeys(frames_of(raw))
    plain = customer.ask(vendor.reference, tools=TOOLS).json()
    assert plain["choices"][0]["finish_reason"] == "tool_calls"


def test_an_answer_cut_by_its_cap_says_length(customer: Customer, vendor: Vendor) -> None:
    _, raw = streamed(customer, vendor.reference, max_tokens=2)
    chunks = frames_of(raw)
    obeys(chunks)
    assert (text_of(chunks), chunks[-1]["choices"][0]["finish_reason"]) == ("Hello from", "length")
    assert customer.row().budget_usd == usd(8, 2)


# --- rule 5 -----------------------------------------------------------------------------------------------------------

PLACEMENTS = ["own_chunk", "last_content", "both", "cumulative"]
COUNTS = {"prompt_tokens": 5_000, "cached_tokens": 4_000, "completion_tokens": 321, "reasoning_tokens": 21}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_usage_costs_the_same_wherever_it_comes_and_as_without_a_stream(
    customer: Customer, vendor: Vendor, placement: Any
) -> None:
    vendor.fake.script("m", Behaviour(usage_placement=placement, usage=COUNTS))
    _, raw = streamed(customer, vendor.reference, **WITH_USAGE)
    plain = customer.ask(vendor.reference)
    chunks = frames_of(raw)
    obeys(chunks, usage=True)
    expected = usd(5_000, 321, vendor.cached(4_000))
    assert expected == Decimal("0.012568" if vendor.name == "cohere" else "0.006568")
    assert [row.budget_usd for row in customer.rows()] == [expected] * 2
    assert [price_of(entry) for entry in vendor.fake.bill()] == [expected] * 2
    assert not any(row.is_estimated for row in customer.rows())
    shown = chunks[-1]["usage"]
    assert shown == plain.json()["usage"]
    assert (shown["prompt_tokens"], shown["completion_tokens"]) == (5_000, 321)
    assert Decimal(str(shown["cost"])) == expected == Decimal(plain.headers["x-cost-incurred"])


@pytest.mark.parametrize("tools", [False, True], ids=["text", "tools"])
def test_usage_that_never_comes_is_estimated_alike_streamed_and_not(
    customer: Customer, vendor: Vendor, tools: bool
) -> None:
    script = {"tool_calls": CALLS} if tools else {"text": POLISH, "reasoning": "Hm hm."}
    vendor.fake.script("m", Behaviour(usage_placement="never", **script))
    more = {"tools": TOOLS} if tools else {}
    customer.ask(vendor.reference, **more)
    streamed(customer, vendor.reference, **more)
    plain, stream = customer.rows()
    produced = len(b'{"a":1}{"b":2}') if tools else len(f"{POLISH}Hm hm.".encode())
    for row in (plain, stream):
        assert row.completion_tokens == -(-produced // 4)
        assert (row.is_estimated, row.status) == (True, "completed")
        assert row.prompt_tokens >= 8
    assert plain.budget_usd == stream.budget_usd == usd(plain.prompt_tokens, plain.completion_tokens)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "claimed",
    [
        {"completion_tokens": -5},
        {"prompt_tokens": "many"},
        {"completion_tokens": 10**9},
        {"prompt_tokens": 1.5},
        {"completion_tokens": True},
    ],
    ids=json.dumps,
)
def test_usage_beyond_belief_is_estimated_and_flagged(
    customer: Customer, vendor: Vendor, claimed: Json, stream: bool
) -> None:
    vendor.fake.script("m", Behaviour(usage=claimed))
    answer = customer.ask(vendor.reference, stream=stream)
    assert answer.status_code == 200
    row = customer.row()
    assert (row.is_estimated, row.prompt_tokens, row.completion_tokens) == (True, 8, 8)
    assert row.budget_usd == usd(8, 8)


def test_more_cached_tokens_than_tokens_is_beyond_belief(customer: Customer, world: World) -> None:
    # OpenAI counts cached tokens inside the prompt's; Anthropic counts them beside.
    world.fake.script("m", Behaviour(usage={"prompt_tokens": 3, "cached_tokens": 4}))
    customer.ask("fakeai/m")
    row = customer.row()
    assert (row.is_estimated, row.prompt_tokens, row.completion_tokens) == (True, 8, 8)


def test_an_explicit_zero_is_zero(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(usage={"prompt_tokens": 7, "completion_tokens": 0}))
    customer.ask(vendor.reference)
    row = customer.row()
    assert (row.is_estimated, row.prompt_tokens, row.completion_tokens) == (False, 7, 0)
    assert row.budget_usd == usd(7)


# --- rule 6 -----------------------------------------------------------------------------------------------------------

DIRT = {
    "crlf": Behaviour(crlf=True),
    "comments": Behaviour(comments=True),
    "several data lines": Behaviour(multi_data=True),
    "all three": Behaviour(crlf=True, comments=True, multi_data=True),
    "byte by byte": Behaviour(split_at=(1,)),
    "odd splits": Behaviour(split_at=(3, 7, 50), crlf=True),
    "no final blank line": Behaviour(no_final_blank=True),
    "no DONE": Behaviour(no_done=True),
    "no DONE and no blank line": Behaviour(no_done=True, no_final_blank=True),
    "DONE twice": Behaviour(double_done=True),
    "no finish keys": Behaviour(missing_finish_keys=True),
    "no finish at all": Behaviour(finish_reason="omit"),
    "a role every time": Behaviour(role_every_chunk=True),
    "another id every time": Behaviour(id_changes=True),
    "empty pieces": Behaviour(chunks=("Zażół", "ć gęślą", "", " 🦆 ", "jaźń")),
    "by the character": Behaviour(chunks=100),
    "a big line": Behaviour(giant_line_bytes=1_000_000),
    "everything": Behaviour(
        crlf=True, comments=True, multi_data=True, split_at=(2, 5), no_done=True, no_final_blank=True,
        missing_finish_keys=True, role_every_chunk=True, id_changes=True, usage_placement="both",
    ),
}  # fmt: skip


@pytest.mark.parametrize("dirt", DIRT)
def test_a_dirty_stream_comes_out_clean(customer: Customer, vendor: Vendor, dirt: str) -> None:
    said = DIRT[dirt].to_json()
    if "chunks" not in said or isinstance(said["chunks"], int):
        said["text"] = POLISH
    vendor.fake.script("m", Behaviour(**said))
    _, raw = streamed(customer, vendor.reference, **WITH_USAGE)
    chunks = frames_of(raw)
    obeys(chunks, usage=True)
    assert text_of(chunks) == POLISH
    row = customer.row()
    assert (row.status, row.is_estimated) == ("completed", vendor.loses_usage(said))
    if not row.is_estimated:
        assert row.budget_usd == price_of(vendor.fake.bill()[0])
    assert customer.spent() == row.budget_usd


def test_the_sdk_reads_a_dirty_stream(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(**DIRT["everything"].to_json() | {"text": POLISH}))
    chunks = list(customer.openai.chat.completions.create(model=vendor.reference, messages=ASK, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == POLISH


def test_vendor_fields_pass_through_a_stream(customer: Customer, world: World) -> None:
    world.fake.script("m", Behaviour(extra_fields={"vendor_note": {"a": [1]}}))
    _, raw = streamed(customer, "fakeai/m")
    assert all(chunk["vendor_note"] == {"a": [1]} for chunk in frames_of(raw)[:-1])


def test_reasoning_is_streamed_as_reasoning_content(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(reasoning="let me think", text="Done."))
    _, raw = streamed(customer, vendor.reference)
    chunks = frames_of(raw)
    obeys(chunks)
    assert (text_of(chunks, "reasoning_content"), text_of(chunks)) == ("let me think", "Done.")


@pytest.mark.parametrize(
    "broken",
    [
        Behaviour(empty_stream=True),
        Behaviour(giant_line_bytes=20_000_000),
        Behaviour(gzip=True, giant_line_bytes=1_000_000),
        Behaviour(bad_json=True),
        Behaviour(in_band_error={"type": "server_error", "message": "boom"}),
    ],
    ids=["empty", "20 MB", "gzip bomb", "bad JSON", "in band"],
)
def test_a_stream_that_fails_before_content_is_a_true_status(
    customer: Customer, vendor: Vendor, broken: Behaviour
) -> None:
    vendor.fake.script("m", broken)
    answer, raw = streamed(customer, vendor.reference)
    assert answer.status_code == 502
    assert json.loads(raw)["error"]["code"] in ("upstream_error", "upstream_invalid_response")
    assert answer.headers["x-should-retry"] == "true"
    assert customer.row().status == "failed"
    assert customer.spent() == 0


def test_an_error_in_band_after_content_ends_the_stream_and_is_charged_for_what_came(
    customer: Customer, vendor: Vendor
) -> None:
    boom = {"type": "overloaded_error", "message": "secret words"}
    vendor.fake.script("m", Behaviour(in_band_error=boom, in_band_error_after=2))
    answer, raw = streamed(customer, vendor.reference, **WITH_USAGE)
    assert answer.status_code == 200
    *chunks, error = [json.loads(payload) for payload in payloads_of(raw)]
    assert error == {
        "error": {
            "message": "The provider reported an error instead of an answer.",
            "type": "api_error",
            "param": None,
            "code": "upstream_error",
        }
    }
    assert text_of(chunks) == "Hello from"
    assert not any(choice["finish_reason"] for chunk in chunks for choice in chunk["choices"])
    row = customer.row()
    assert (row.status, row.status_code, row.error_code, row.is_estimated) == ("partial", 200, "upstream_error", True)
    assert (row.prompt_tokens, row.completion_tokens) == (8, 3)  # ten bytes are three tokens of four bytes
    assert row.budget_usd == usd(8, 3) == customer.spent()
    assert len(vendor.fake.requests) == 1


def test_the_sdk_raises_on_an_error_inside_a_stream(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(in_band_error={"type": "server_error", "message": "x"}, in_band_error_after=2))
    stream = customer.openai.chat.completions.create(model=vendor.reference, messages=ASK, stream=True)
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "upstream_error"


def test_a_provider_that_falls_silent_mid_stream_ends_it_with_an_error(
    customer: Customer, vendor: Vendor, settings: Any
) -> None:
    settings.UPSTREAM_IDLE_TIMEOUT_S = 0.15
    vendor.fake.script("m", Behaviour(delay_between_s=30))
    _, raw = streamed(customer, vendor.reference)
    assert json.loads(payloads_of(raw)[-1])["error"]["code"] == "upstream_timeout"
    assert vendor.fake.cancelled_within(1)
    row = customer.row()
    assert (row.status, row.budget_usd) == ("partial", usd(8, 2))  # "Hello" is five bytes


def test_a_stream_has_a_longest_time(customer: Customer, vendor: Vendor, settings: Any) -> None:
    settings.UPSTREAM_TOTAL_TIMEOUT_S = 0.3
    vendor.fake.script("m", Behaviour(text="a " * 50, delay_between_s=0.1))
    _, raw = streamed(customer, vendor.reference)
    assert json.loads(payloads_of(raw)[-1])["error"]["code"] == "upstream_timeout"
    assert vendor.fake.cancelled_within(1)
    assert customer.row().status == "partial"
