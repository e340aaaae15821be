"""WIRE section 3, rule 6, in Anthropic's order: every frame of every stream is looked at, whatever the vendor made."""

import json
import time
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import pytest

from llm.engine import attempt
from tests.fakes import Behaviour
from tests.fakes.behaviour import DEFAULT_TEXT
from tests.journeys.test_messages_wire import CALLS, WEATHER
from tests.journeys.test_streams import COUNTS, DIRT, PLACEMENTS, POLISH
from tests.journeys.world import ASK, Customer, Json, Vendor, World, price_of, usd
from tests.wires.anthropic_order import broken_off, events_of, message_of


def streamed(customer: Customer, model: str, **body: Any) -> tuple[httpx.Response, bytes]:
    asked = {"model": model, "max_tokens": 100, "messages": ASK, "stream": True} | body
    with customer.http as client, client.stream("POST", "/v1/messages", json=asked) as answer:
        return answer, b"".join(answer.iter_raw())


def text_of(message: Json) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def test_the_headers_of_a_stream(customer: Customer, vendor: Vendor) -> None:
    answer, raw = streamed(customer, vendor.reference)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "x-cost-incurred" not in answer.headers
    assert answer.headers["request-id"] == answer.headers["x-request-id"] == str(customer.row().id)
    assert text_of(message_of(events_of(raw))) == DEFAULT_TEXT


def test_silence_is_filled_with_ping_events(
    customer: Customer, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "PING_S", 0.05)
    vendor.fake.script("m", Behaviour(text="one two", delay_first_s=0.2, delay_between_s=0.2))
    _, raw = streamed(customer, vendor.reference)
    kinds = [event["type"] for event in events_of(raw)]
    assert kinds[0] == "message_start"
    own = 1 if vendor.name == "anthropic" else 0  # the vendor sends one itself
    assert 2 <= kinds.count("ping") - own <= 4
    assert text_of(message_of(events_of(raw))) == "one two"


def test_the_first_words_are_passed_on_while_the_rest_is_still_to_come(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(text="one two", delay_between_s=0.5))
    asked = {"model": vendor.reference, "max_tokens": 100, "messages": ASK, "stream": True}
    started = time.monotonic()
    with customer.http as client, client.stream("POST", "/v1/messages", json=asked) as answer:
        pieces = answer.iter_raw()
        seen = b""
        while b"one" not in seen:
            seen += next(pieces)
        assert time.monotonic() - started < 0.4
        seen += b"".join(pieces)
    assert text_of(message_of(events_of(seen))) == "one two"


@pytest.mark.parametrize("dirt", DIRT)
def test_a_dirty_stream_comes_out_in_order(customer: Customer, vendor: Vendor, dirt: str) -> None:
    said = DIRT[dirt].to_json()
    if "chunks" not in said or isinstance(said["chunks"], int):
        said["text"] = POLISH
    vendor.fake.script("m", Behaviour(**said))
    _, raw = streamed(customer, vendor.reference)
    message = message_of(events_of(raw))
    assert text_of(message) == POLISH
    assert message["stop_reason"] == "end_turn"
    row = customer.row()
    assert (row.status, row.is_estimated) == ("completed", vendor.loses_usage(said))
    if not row.is_estimated:
        assert row.budget_usd == price_of(vendor.fake.bill()[0])
    assert Decimal(str(message["usage"]["cost"])) == row.budget_usd == customer.spent()


@pytest.mark.parametrize("dirt", DIRT)
def test_tools_of_a_dirty_stream_come_out_in_order(customer: Customer, vendor: Vendor, dirt: str) -> None:
    said = {name: value for name, value in DIRT[dirt].to_json().items() if name != "chunks"}
    vendor.fake.script("m", Behaviour(**said, reasoning="Hm hm.", text="Let me see.", tool_calls=CALLS))
    _, raw = streamed(customer, vendor.reference, tools=[WEATHER])
    message = message_of(events_of(raw))
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block["input"] for block in message["content"][2:]] == [{"city": "Paris"}, {"city": "Rome"}]
    assert message["stop_reason"] == "tool_use"


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_usage_costs_the_same_wherever_it_comes(customer: Customer, vendor: Vendor, placement: Any) -> None:
    vendor.fake.script("m", Behaviour(usage_placement=placement, usage=COUNTS))
    _, raw = streamed(customer, vendor.reference)
    plain = customer.ask(vendor.reference, path="/v1/messages", max_tokens=400)
    cached = vendor.cached(4_000)
    expected = usd(5_000, 321, cached)
    assert [row.budget_usd for row in customer.rows()] == [expected] * 2
    shown = message_of(events_of(raw))["usage"]
    for usage in (shown, plain.json()["usage"]):
        counts = (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"])
        assert counts == (5_000 - cached, cached, 321)
        assert Decimal(str(usage["cost"])) == expected


def test_usage_that_never_comes_is_estimated_and_never_zero(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(usage="none"))
    _, raw = streamed(customer, vendor.reference)
    events = events_of(raw)
    assert events[0]["message"]["usage"]["input_tokens"] == 8
    usage = message_of(events)["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["cost"]) == (8, 8, 0.00008)
    assert customer.row().is_estimated
    plain = customer.ask(vendor.reference, path="/v1/messages", max_tokens=100).json()["usage"]
    assert (plain["input_tokens"], plain["output_tokens"], plain["cost"]) == (8, 8, 0.00008)


@pytest.mark.parametrize(
    "claimed", [{"completion_tokens": -5}, {"prompt_tokens": "many"}, {"completion_tokens": 10**9}], ids=json.dumps
)
def test_usage_beyond_belief_reaches_no_client(customer: Customer, vendor: Vendor, claimed: Json) -> None:
    vendor.fake.script("m", Behaviour(usage=claimed))
    _, raw = streamed(customer, vendor.reference)
    usage = message_of(events_of(raw))["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (8, 8)
    assert customer.row().is_estimated


@pytest.mark.parametrize(
    ("said", "told"),
    [("length", "max_tokens"), ("content_filter", "refusal"), ("stop", "end_turn"), ("odd", "end_turn")],
)
def test_a_finish_in_openais_words_is_said_in_anthropics(
    world: World, customer: Customer, said: str, told: str
) -> None:
    world.fake.script("m", Behaviour(finish_reason=said))
    _, raw = streamed(customer, "fakeai/m")
    assert message_of(events_of(raw))["stop_reason"] == told
    plain = customer.ask("fakeai/m", path="/v1/messages", max_tokens=100).json()
    assert (plain["stop_reason"], plain["stop_sequence"]) == (told, None)


def test_an_answer_cut_by_its_cap_says_max_tokens(customer: Customer, vendor: Vendor) -> None:
    _, raw = streamed(customer, vendor.reference, max_tokens=2)
    message = message_of(events_of(raw))
    assert (text_of(message), message["stop_reason"]) == ("Hello from", "max_tokens")
    assert customer.row().budget_usd == usd(8, 2)


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
    assert (answer.status_code, answer.headers["x-should-retry"]) == (502, "true")
    body = json.loads(raw)
    assert (body["type"], body["error"]["type"]) == ("error", "api_error")
    assert body["request_id"] == answer.headers["request-id"]
    assert customer.row().status == "failed"
    assert customer.spent() == 0


def test_an_error_after_content_is_an_error_event_and_the_end(customer: Customer, vendor: Vendor) -> None:
    boom = {"type": "overloaded_error", "message": "secret words"}
    vendor.fake.script("m", Behaviour(in_band_error=boom, in_band_error_after=2))
    answer, raw = streamed(customer, vendor.reference)
    assert answer.status_code == 200
    error = broken_off(events_of(raw))
    assert error == {"type": "api_error", "message": "The provider reported an error instead of an answer."}
    row = customer.row()
    assert (row.status, row.error_code) == ("partial", "upstream_error")
    assert (row.prompt_tokens, row.completion_tokens) == (8, 3)
    assert row.budget_usd == usd(8, 3) == customer.spent()


def test_the_sdk_raises_on_an_error_inside_a_stream(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(in_band_error={"type": "server_error", "message": "x"}, in_band_error_after=2))
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        customer.anthropic.messages.stream(model=vendor.reference, max_tokens=100, messages=ASK) as stream,
    ):
        stream.get_final_message()
    assert caught.value.body["error"]["type"] == "api_error"


def test_a_provider_that_falls_silent_ends_the_stream_with_an_error(
    customer: Customer, vendor: Vendor, settings: Any
) -> None:
    settings.UPSTREAM_IDLE_TIMEOUT_S = 0.15
    vendor.fake.script("m", Behaviour(delay_between_s=30))
    _, raw = streamed(customer, vendor.reference)
    assert broken_off(events_of(raw))["type"] == "timeout_error"
    assert vendor.fake.cancelled_within(1)
    assert customer.row().status == "partial"


def test_events_of_a_vendor_that_speaks_it_are_sent_on_byte_for_byte(world: World, customer: Customer) -> None:
    world.other.script("m", Behaviour(extra_fields={"vendor_note": {"a": [1, 2.50]}}))
    _, raw = streamed(customer, "fakethropic/m")
    deltas = [line for line in raw.split(b"\n") if b"content_block_delta" in line and line.startswith(b"data")]
    assert len(deltas) == 5
    assert all(line.endswith(b'"vendor_note":{"a":[1,2.5]}}') for line in deltas)
    assert raw.count(b"vendor_note") == 8  # start, block start, five deltas, block stop; the last two are ours


def test_a_client_that_leaves_pays_for_what_it_had(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(delay_between_s=30))
    asked = {"model": vendor.reference, "max_tokens": 100, "messages": ASK, "stream": True}
    with customer.http as client, client.stream("POST", "/v1/messages", json=asked) as answer:
        pieces = answer.iter_raw()
        seen = b""
        while b"Hello" not in seen:
            seen += next(pieces)
    assert vendor.fake.cancelled_within(1, since=time.monotonic() - 0.1)
    row = customer.row()
    assert (row.status, row.status_code) == ("cancelled", 499)
    assert row.budget_usd == usd(8, 2) == customer.spent()  # "Hello": 5 bytes
