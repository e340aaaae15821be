"""The same dirty upstreams behind the other client wires: their own order of events, the same text, calls and bill."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.recording import RecordedProvider
from tests.journeys.world import ASK, Customer, World
from tests.wires import anthropic_order, responses_order
from tests.wires.dirt import Dirt
from tests.wires.test_dirty_streams import MODELS, ROWS, TABLES, billed, provider

__all__ = ["provider"]
NAMES = ("add", "mul")
Said = tuple[str, tuple[tuple[str, Any], ...]]  # text, and the name and input of each call


class Messages:
    """`/v1/messages`."""

    path = "/v1/messages"
    body: Any = {
        "messages": ASK,
        "max_tokens": 100,
        "tools": [{"name": name, "input_schema": {"type": "object"}} for name in NAMES],
    }

    def said(self, raw: bytes) -> Said:
        message = anthropic_order.message_of(anthropic_order.events_of(raw))
        text = "".join(block["text"] for block in message["content"] if block["type"] == "text")
        return text, tuple((use["name"], use["input"]) for use in message["content"] if use["type"] == "tool_use")

    def broken(self, raw: bytes) -> str:
        events = anthropic_order.events_of(raw)
        anthropic_order.broken_off(events)
        deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
        return "".join(delta.get("text", "") for delta in deltas)


class Responses:
    """`/v1/responses`."""

    path = "/v1/responses"
    body: Any = {
        "input": "Say hello to the world",
        "tools": [{"type": "function", "name": name, "parameters": {"type": "object"}} for name in NAMES],
    }

    def said(self, raw: bytes) -> Said:
        response = responses_order.judged(responses_order.events_of(raw))
        assert response["status"] != "failed"
        output = response["output"]
        text = "".join(part["text"] for item in output if item["type"] == "message" for part in item["content"])
        calls = [item for item in output if item["type"] == "function_call"]
        return text, tuple((call["name"], _read(call["arguments"])) for call in calls)

    def broken(self, raw: bytes) -> str:
        events = responses_order.events_of(raw)
        assert responses_order.judged(events)["status"] == "failed"
        return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


# On the same dialect what is unknown passes through, and with it the event and the word that the order does not know.
PASSED = {
    "events: unknown events",
    "events: a stop reason nobody knows",
    "tools: input at the start",  # as SDKs take it
    "tools: two, mixed",  # an error: see below
}
WIRES: dict[str, Any] = {"messages": Messages(), "responses": Responses()}


def _read(arguments: str) -> Any:
    """Arguments as an object; those that were cut short as the text they are."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _rows() -> Iterator[tuple[str, str, str]]:
    for dialect, name in ROWS:
        for wire in WIRES:
            native = (wire, dialect) == ("messages", "anthropic")
            if not TABLES[dialect][name].stays and not (native and name in PASSED):
                yield wire, dialect, name


@pytest.mark.parametrize(("wire", "dialect", "name"), list(_rows()))
def test_a_dirty_stream_obeys_every_wire(
    world: World, customer: Customer, provider: RecordedProvider, wire: str, dialect: str, name: str
) -> None:
    dirt, spoken = TABLES[dialect][name], WIRES[wire]
    provider.play(dirt.recording)
    body = {"model": MODELS[dialect], "stream": True, **spoken.body}
    with customer.http as client:
        answer: httpx.Response = client.post(spoken.path, json=body)
    row = customer.row()
    assert (answer.status_code, row.error_code) == (dirt.status, dirt.code), answer.text[-300:]
    if dirt.status != 200:
        assert (row.status, row.budget_usd) == ("failed", 0)
    elif dirt.code:
        assert spoken.broken(answer.content) == dirt.text
        assert row.status == "partial"
        assert row.budget_usd > 0
    else:
        assert spoken.said(answer.content) == wanted(dirt)
        billed(row, dirt)
    assert customer.spent() == row.budget_usd


def wanted(dirt: Dirt) -> Said:
    return dirt.text, tuple((name, _read(arguments)) for name, arguments in dirt.calls)


def test_blocks_that_interleave_are_an_error_where_they_would_have_to_be_passed_through(
    world: World, customer: Customer, provider: RecordedProvider
) -> None:
    provider.play(TABLES["anthropic"]["tools: two, mixed"].recording)
    with customer.http as client:
        answer = client.post("/v1/messages", json={"model": MODELS["anthropic"], "stream": True, **Messages.body})
    anthropic_order.broken_off(anthropic_order.events_of(answer.content))
    assert customer.row().error_code == "upstream_invalid_response"
