"""Every meter on its way from a provider's usage to the bill, over real sockets; and that a hold covers it."""

from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from billing.models import UsageRecord
from llm.catalog import overrides
from llm.catalog.prices import Component
from llm.models import LLMModel
from tenants.audit import system
from tests import cast
from tests.fakes import Behaviour
from tests.journeys.world import ASK, Customer, Json, Vendor, World

MILLION = 1_000_000
# USD per million of each meter.
PRICES = {
    "input": 2, "output": 8, "audio_input": 50, "audio_cache_read": 20, "image_input": 6, "audio_output": 90,
    "request": 7_000, "search": 5_000, "citation": 3, "image": 1_000,
}  # fmt: skip
AUDIO = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def metered(world: World, vendor: Vendor, *meters: str) -> str:
    """A model that prices input, output and these; its reference."""
    name = "-".join(meters).replace("_", ".")
    if not LLMModel.objects.filter(provider=vendor.provider, model_id=name).exists():
        model = cast.make_model(vendor.provider, name, input=None, supports_vision=True)
        cast.make_price(model, **{meter: str(PRICES[meter]) for meter in ("input", "output", *meters)})
        world.refresh()
    return f"{vendor.provider.slug}/{name}"


def counted(row: UsageRecord) -> dict[str, int]:
    return {line["meter"]: line["quantity"] for line in row.price_lines}


def by_hand(counts: dict[str, int], priced: tuple[str, ...]) -> Decimal:
    """Of meters without a price of their own, the price of input or output."""
    named = {"input", "output", *priced}
    amounts = [
        count * PRICES[meter if meter in named else "output" if meter.endswith("output") else "input"]
        for meter, count in counts.items()
    ]
    return Decimal(sum(amounts)) / MILLION


def user(*parts: Json) -> list[Json]:
    return [{"role": "user", "content": [{"type": "text", "text": "What is that?"}, *parts]}]


OPENAI_AUDIO = {
    "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 5, "cached_tokens_details": {"audio_tokens": 2}},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 2},
}
GOOGLE_AUDIO = {
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 4}, {"modality": "AUDIO", "tokenCount": 5}],
    "cachedContentTokenCount": 3,
    "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 2}, {"modality": "TEXT", "tokenCount": 1}],
    "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 2}],
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("priced", [("audio_input", "audio_cache_read", "audio_output"), ("image_input",)], ids=str)
@pytest.mark.parametrize("vendor", ["openai", "google"], indirect=True)
def test_audio_is_counted_apart_and_billed_at_its_own_price_or_as_text(
    world: World, vendor: Vendor, customer: Customer, priced: tuple[str, ...], stream: bool
) -> None:
    reference = metered(world, vendor, *priced)
    usage: Json = dict(OPENAI_AUDIO if vendor.name == "openai" else GOOGLE_AUDIO)
    vendor.fake.script(reference.split("/", 1)[1], Behaviour(prompt_tokens=9, completion_tokens=5, usage=usage))
    sent = user(AUDIO if vendor.name == "openai" else IMAGE)  # Gemini's dialect is asked about images only
    assert customer.ask(reference, messages=sent, stream=stream, max_tokens=50).status_code == 200
    row = customer.row()
    counts = {
        "input": 3, "cache_read": 1, "audio_input": 3, "audio_cache_read": 2, "output": 3, "audio_output": 2,
    }  # fmt: skip
    assert counted(row) == counts
    assert row.cost_total_usd == row.budget_usd == customer.spent() == by_hand(counts, priced)
    assert (row.prompt_tokens, row.completion_tokens, row.cached_tokens, row.is_estimated) == (9, 5, 3, False)
    assert not row.is_overrun


def test_a_text_is_not_held_at_the_price_of_audio_and_audio_is(world: World, customer: Customer) -> None:
    vendor = world.vendors["openai"]
    reference = metered(world, vendor, "audio_input")
    customer.ask(reference, max_tokens=10)
    customer.ask(reference, messages=user(AUDIO), max_tokens=10)
    text, audio = customer.rows()
    assert text.held_usd < Decimal(128_000 * 2) / MILLION < Decimal(128_000 * 50) / MILLION <= audio.held_usd


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_requests_searches_citations_and_images_are_billed_where_they_have_a_price(
    world: World, customer: Customer, stream: bool
) -> None:
    """As Perplexity counts them. The same answer of a model that charges for none of them costs its tokens."""
    vendor = world.vendors["openai"]
    fees = ("request", "search", "citation", "image")
    usage = {"num_search_queries": 4, "citation_tokens": 11}
    for reference in (metered(world, vendor, *fees), metered(world, vendor, "image_input")):
        vendor.fake.script(reference.split("/", 1)[1], Behaviour(prompt_tokens=9, completion_tokens=5, usage=usage))
        customer.ask(reference, messages=user(IMAGE), stream=stream, max_tokens=50)
    charged, plain = customer.rows()
    counts = {"input": 9, "output": 5, "search": 4, "citation": 11, "image": 1, "request": 1}
    assert (counted(charged), charged.cost_total_usd) == (counts, by_hand(counts, fees))
    assert (counted(plain), plain.cost_total_usd) == ({"input": 9, "output": 5}, by_hand({"input": 9, "output": 5}, ()))
    assert charged.held_usd >= Decimal(30 * 5_000 + 7_000 + 1_000 + 128_000 * 3) / MILLION
    assert not charged.is_overrun


def test_a_hold_bounds_the_list_price_where_an_own_price_lacks_a_fee(world: World, customer: Customer) -> None:
    """Searches are not in it, so a request that has made some is billed at list price and markup."""
    vendor = world.vendors["openai"]
    reference = metered(world, vendor, "search")
    model = LLMModel.objects.get(provider=vendor.provider, model_id="search")
    wish = overrides.NewOverride(
        components=[Component("input", Decimal(1)), Component("output", Decimal(1))], reason="", confirm=True
    )
    overrides.set_override(tenant=customer.tenant, model=model, wish=wish, actor=system("test"), now=timezone.now())
    usage = {"num_search_queries": 30}
    vendor.fake.script("search", Behaviour(prompt_tokens=9, completion_tokens=5, usage=usage))
    customer.ask(reference, max_tokens=50)
    row = customer.row()
    assert row.billed_usd == by_hand({"input": 9, "output": 5, "search": 30}, ("search",))
    assert row.held_usd >= row.billed_usd
    assert not row.is_overrun


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens_details": {"audio_tokens": 10}},  # of 9
        {"prompt_tokens_details": {"audio_tokens": 5, "image_tokens": 5}},
        {"prompt_tokens_details": {"audio_tokens": -1, "text_tokens": 1}},
        {"completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 3}},  # of 5
        {"num_search_queries": -2},
        {"num_search_queries": 1_000_000},
        {"citation_tokens": 10**9},
    ],
    ids=str,
)
def test_counts_beyond_belief_are_estimated_and_flagged_never_billed(
    world: World, customer: Customer, usage: Any
) -> None:
    vendor = world.vendors["openai"]
    reference = metered(world, vendor, "search", "citation")
    vendor.fake.script("search-citation", Behaviour(prompt_tokens=9, completion_tokens=5, usage=usage))
    assert customer.ask(reference).status_code == 200
    row = customer.row()
    assert (row.is_estimated, set(counted(row))) == (True, {"input", "output"})


def test_the_same_answer_costs_the_same_streamed_and_not_through_every_wire(
    world: World, vendor: Vendor, customer: Customer
) -> None:
    """With cached and reasoned tokens, wherever the stream has its usage."""
    ways: list[tuple[str, Json]] = [
        ("/v1/chat/completions", {"messages": ASK}),
        ("/v1/messages", {"messages": ASK, "max_tokens": 60}),
        ("/v1/responses", {"input": ASK[0]["content"]}),
    ]
    usage = {"cached_tokens": 3, "reasoning_tokens": 2}
    for placement in ("own_chunk", "last_content", "both"):
        vendor.fake.script(
            "m", Behaviour(prompt_tokens=20, completion_tokens=9, usage=usage, usage_placement=placement)  # type: ignore[arg-type]
        )  # fmt: skip
        for path, body in ways:
            for stream in (False, True):
                with customer.http as client:
                    asked = {"model": vendor.reference, "stream": stream, **body}
                    assert client.post(path, json=asked).status_code == 200
    rows = customer.rows()
    assert len(rows) == 18
    assert len({(row.cost_total_usd, row.budget_usd, str(sorted(counted(row).items()))) for row in rows}) == 1
    assert not any(row.is_estimated for row in rows)
