"""Dirty upstreams: whatever a provider's stream looks like, what comes out obeys OpenAI's schema frame by frame, or is
the right error; what was delivered is billed, and nothing stays held."""

import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from billing.models import UsageRecord
from llm.engine import attempt
from llm.providers.sse import EVENT_CAP, SseDecoder
from tests.fakes.recording import RecordedProvider
from tests.journeys.world import ASK, Customer, World, usd
from tests.wires import dirt_whole, openai_chunks
from tests.wires.dirt import Dirt
from tests.wires.dirt_anthropic import TABLE as ANTHROPIC
from tests.wires.dirt_openai import TABLE as OPENAI

MODELS = {"openai": "recordai/m", "anthropic": "recordthropic/m"}
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("add", "mul")
]
TABLES: dict[str, dict[str, Dirt]] = {"openai": OPENAI, "anthropic": ANTHROPIC}
ROWS = [(dialect, name) for dialect, table in TABLES.items() for name in table]
WHOLE = [(dialect, name) for dialect, name in ROWS if not TABLES[dialect][name].code]


@pytest.fixture(scope="module")
def provider(stage: World) -> Iterator[RecordedProvider]:
    """One socket for both dialects: it plays what it is given."""
    played = RecordedProvider().start()
    for dialect, reference in MODELS.items():
        slug = reference.partition("/")[0]
        stage.model(stage.provider(slug, played, dialect), "m")  # type: ignore[arg-type]  # only its address is asked
    stage.refresh()
    yield played
    played.stop()


@pytest.mark.parametrize(("dialect", "name"), ROWS)
def test_a_dirty_stream_is_clean_or_the_right_error(
    world: World,
    customer: Customer,
    provider: RecordedProvider,
    dialect: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dirt = TABLES[dialect][name]
    provider.play(dirt.recording)
    monkeypatch.setattr(attempt, "AFTER_END_S", 0.3)
    started = time.monotonic()
    with customer.stream(MODELS[dialect], tools=TOOLS, stream_options={"include_usage": True}) as answer:
        raw = answer.read()
    took_s = time.monotonic() - started
    row = customer.row()
    assert (answer.status_code, row.error_code) == (dirt.status, dirt.code), raw[-300:]
    if dirt.status != 200:
        assert answer.json()["error"]["code"] == dirt.code
        assert (row.status, row.budget_usd, row.total_tokens) == ("failed", 0, 0)
    elif dirt.code:
        said = openai_chunks.broken(raw)
        assert said.error is not None
        assert (said.error["code"], said.choices[0].text) == (dirt.code, dirt.text)
        assert row.status == "partial"
        assert row.budget_usd >= usd(5, 1 if dirt.text else 0)
    else:
        came_out(openai_chunks.stream(raw, usage=True), dirt)
        billed(row, dirt)
    assert customer.spent() == row.budget_usd
    assert took_s < 3
    assert provider.sent < EVENT_CAP + 6_000_000  # what lies in socket buffers is the provider's to send


def came_out(answer: openai_chunks.Answer, dirt: Dirt) -> None:
    said = answer.said
    assert (said.text, said.reasoning, said.finish) == (dirt.text, dirt.reasoning, dirt.finish)
    assert tuple((call.name, call.arguments) for call in said.calls) == dirt.calls


def billed(row: UsageRecord, dirt: Dirt) -> None:
    assert row.status == "completed"
    assert row.is_estimated == (dirt.used is None)
    if dirt.used is not None:
        assert (row.prompt_tokens, row.completion_tokens) == dirt.used
        assert row.budget_usd == usd(*dirt.used)
    else:
        assert row.prompt_tokens >= 5
        assert row.completion_tokens >= 1
        assert row.budget_usd == usd(row.prompt_tokens, row.completion_tokens)


@pytest.mark.parametrize(("dialect", "name"), [row for row in WHOLE if not TABLES[row[0]][row[1]].stays])
def test_openai_python_adds_a_dirty_stream_up(
    world: World, customer: Customer, provider: RecordedProvider, dialect: str, name: str
) -> None:
    dirt = TABLES[dialect][name]
    provider.play(dirt.recording)
    with customer.openai.chat.completions.stream(model=MODELS[dialect], messages=ASK, tools=TOOLS) as stream:  # type: ignore[arg-type]
        try:
            [choice] = stream.get_final_completion().choices
        except openai.LengthFinishReasonError as cut:
            [choice] = cut.completion.choices
    assert (choice.message.content or "", choice.finish_reason) == (dirt.text, dirt.finish)
    calls = choice.message.tool_calls or []
    assert tuple((call.function.name, call.function.arguments) for call in calls) == dirt.calls


@pytest.mark.parametrize(
    ("dialect", "name"), [(dialect, name) for dialect, table in dirt_whole.TABLES.items() for name in table]
)
def test_a_dirty_answer_is_clean_or_the_right_error(
    world: World, customer: Customer, provider: RecordedProvider, dialect: str, name: str
) -> None:
    dirt = dirt_whole.TABLES[dialect][name]
    provider.play(dirt.recording)
    answer = customer.ask(MODELS[dialect], tools=TOOLS)
    row = customer.row()
    assert (answer.status_code, row.error_code) == (dirt.status, dirt.code), answer.text[:300]
    if dirt.code:
        assert answer.json()["error"]["code"] == dirt.code
        assert (row.status, row.budget_usd, row.total_tokens) == ("failed", 0, 0)
    else:
        came_out(openai_chunks.whole(answer.content), dirt)
        billed(row, dirt)
    assert customer.spent() == row.budget_usd


@pytest.mark.parametrize(("dialect", "name"), [row for row in ROWS if len(TABLES[row[0]][row[1]].body) < 10_000])
def test_a_dirty_stream_may_be_cut_into_reads_anywhere(dialect: str, name: str) -> None:
    wire = TABLES[dialect][name].body
    payloads = decoded(wire)
    assert decoded(*(wire[at : at + 1] for at in range(len(wire)))) == payloads
    for cut in range(1, len(wire)):
        assert decoded(wire[:cut], wire[cut:]) == payloads, cut


def decoded(*reads: bytes) -> list[bytes]:
    decoder = SseDecoder()
    return [payload for read in reads for payload in decoder.feed(read)] + decoder.close()
