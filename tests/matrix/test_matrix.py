"""Client wire x provider dialect x feature, streamed and not: each passes, is dropped by name, or is a clear 400."""

from dataclasses import dataclass
from typing import Any

import pytest

from llm.types import DIALECTS as BUILT
from tests.fakes import Behaviour
from tests.journeys.world import Customer, World, price_of
from tests.matrix import page, table, told, wires
from tests.matrix.features import FEATURES, Feature


@dataclass(frozen=True)
class Cell:
    wire: str
    dialect: str
    feature: Feature
    stream: bool

    def __str__(self) -> str:
        how = "streamed" if self.stream else "whole"
        return f"{self.wire}-{self.dialect}-{self.feature.name.replace(' ', '-')}-{how}"


CELLS = [
    Cell(wire, dialect, feature, stream)
    for wire in table.WIRES
    for dialect in table.DIALECTS
    for feature in FEATURES
    if wire in feature.ask
    for stream in (False, True)
]


def test_the_table_has_every_dialect_that_is_built() -> None:
    assert set(table.DIALECTS) == BUILT - {"sandbox"}


def test_the_page_in_the_docs_is_the_table() -> None:
    assert page.PAGE.read_text() == page.page(), "run python -m tests.matrix.page"


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_what_a_client_asks_for_reaches_the_provider_or_is_said_not_to(
    world: World, customer: Customer, models: dict[str, str], cell: Cell
) -> None:
    wire, dialect, feature = cell.wire, cell.dialect, cell.feature
    body = wires.request(wire, models[dialect], dict(feature.ask[wire]), stream=cell.stream)
    with customer.http as client:
        answer = client.post(wires.PATHS[wire], json=body)
    asked = world.fake.requests
    if answer.status_code == 400:
        error = answer.json()["error"]
        found = table.REFUSED
        assert asked == []
        if wire == "messages":  # Anthropic's envelope has no `param`: the message says it
            assert any(name in error["message"] for name in feature.fields), error
        else:
            assert error["param"].startswith(feature.fields), error
        assert customer.spent() == 0
    else:
        assert answer.status_code == 200, answer.text
        [sent] = asked
        dropped = [name.strip() for name in answer.headers.get("x-dropped-params", "").split(",")]
        seen = told.read(dialect, sent.path, sent.body)
        said = any(name.startswith(feature.fields) for name in dropped)
        assert said or dropped == [""]
        found = (table.IN_PART if said else table.PASSES) if feature.told(seen) else table.DROPPED
        assert said or found == table.PASSES, (dropped, seen)
        [entry] = world.fake.bill()
        assert customer.spent() == price_of(entry)
    assert found == table.expected(wire, dialect, feature.name)


ANSWERS: dict[str, tuple[Behaviour, dict[str, Any]]] = {
    "text": (Behaviour(text="Hello to you"), {"text": "Hello to you"}),
    "reasoning": (Behaviour(text="Hello", reasoning="They greet."), {"text": "Hello", "reasoning": "They greet."}),
    "a tool call": (
        Behaviour(text="", tool_calls=[{"name": "weather", "arguments": '{"city": "Paris"}'}]),
        {"calls": [("weather", {"city": "Paris"})], "finish": "tools"},
    ),
    "text and parallel tool calls": (
        Behaviour(
            text="Let me see",
            tool_calls=[
                {"name": "weather", "arguments": '{"city": "Paris"}'},
                {"name": "time", "arguments": '{"city": "Rome"}'},
            ],
        ),
        {
            "text": "Let me see",
            "calls": [("weather", {"city": "Paris"}), ("time", {"city": "Rome"})],
            "finish": "tools",
        },
    ),
    "cached tokens": (
        Behaviour(text="Hello", usage={"prompt_tokens": 120, "cached_tokens": 100}),
        {"text": "Hello", "prompt": 120, "cached": 100},
    ),
    "the cap is reached": (Behaviour(text="one two three four", bill_whole_cap=True), {"finish": "length"}),
}
TOOLS = {wire: dict(next(one for one in FEATURES if one.name == "tools").ask[wire]) for wire in table.WIRES}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("dialect", table.DIALECTS)
@pytest.mark.parametrize("wire", table.WIRES)
def test_what_a_provider_answers_reaches_the_client_at_the_same_price_streamed_or_not(
    world: World, customer: Customer, models: dict[str, str], wire: str, dialect: str, answer: str
) -> None:
    behaviour, wanted = ANSWERS[answer]
    if dialect == "cohere" and "cached" in wanted:
        wanted = wanted | {"cached": 0}  # it bills no cached tokens apart
    world.fake.script("m", behaviour)
    tools = TOOLS[wire] if behaviour.tool_calls else {}
    found = {}
    for stream in (False, True):
        with customer.http as client:
            sent = client.post(wires.PATHS[wire], json=wires.request(wire, models[dialect], tools, stream=stream))
        assert sent.status_code == 200, sent.text
        found[stream] = wires.read(wire, sent.text, stream=stream)
    one, other = world.fake.bill()
    assert found[False] == found[True]
    assert price_of(one) == price_of(other)
    assert [row.budget_usd for row in customer.rows()] == [price_of(one)] * 2
    said = found[True]
    assert {name: getattr(said, name) for name in wanted} == wanted
    assert (said.prompt, said.completion, said.cost) == (
        one.prompt_tokens,
        one.completion_tokens,
        float(price_of(one)),
    )
