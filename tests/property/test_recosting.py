"""Traffic re-costed at the price it was billed with comes to what was billed, whatever the price and the traffic."""

import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from billing import money, pricing
from billing.pricing import PriceCard, Rate, Tier
from llm.catalog import recosting, repricing

NOW = datetime(2026, 11, 22, tzinfo=UTC)
METERS = ("input", "output", "cache_read", "cache_write_5m", "reasoning", "request")
amounts = st.decimals(0, 1000, places=10, allow_nan=False)
counts = st.dictionaries(st.sampled_from(METERS[:-1]), st.integers(0, 10**7), min_size=1)


@st.composite
def cards(draw: Any) -> PriceCard:
    """Input and output at least, perhaps more, perhaps dearer above a threshold."""
    named = {"input", "output", *draw(st.sets(st.sampled_from(METERS)))}
    base = {meter: Rate(price=draw(amounts)) for meter in named}
    tiers = [Tier(above=0, rates=base)]
    if draw(st.booleans()):
        tiers.insert(0, Tier(above=200_000, rates={meter: Rate(price=rate.price * 2) for meter, rate in base.items()}))
    return PriceCard(version_id=uuid.uuid4(), number=1, effective_from=NOW, effective_to=None, tiers=tuple(tiers))


@settings(max_examples=300, deadline=None)
@given(cards(), st.lists(st.tuples(st.sampled_from(["a", "b"]), counts, st.integers(0, 400_000)), max_size=8))
def test_at_its_own_price_nothing_changes(card: PriceCard, traffic: list[tuple[str, dict[str, int], int]]) -> None:
    billed = [(tenant, prompt, pricing.price(card, meters, prompt_tokens=prompt)) for tenant, meters, prompt in traffic]
    # As the database gives the lines back.
    rows = [
        (tenant, prompt, json.loads(json.dumps([line.as_json() for line in cost.lines])), cost.total)
        for tenant, prompt, cost in billed
    ]
    found = recosting.recost(rows, card, since=NOW, until=NOW)
    assert (found.total.requests, found.change, found.unchanged) == (len(traffic), Decimal(0), 0)
    assert found.total.old == sum((cost.total for _, _, cost in billed), Decimal(0))
    assert sum((one.new for one in found.tenants.values()), Decimal(0)) == found.total.new


percents = st.integers(0, 400_0000).map(lambda tens: Decimal(tens).scaleb(-4))


@settings(max_examples=300, deadline=None)
@given(cards(), cards(), counts, st.integers(0, 400_000), percents, st.booleans())
def test_a_correction_comes_to_the_right_price_by_the_requests_own_terms_and_then_to_nothing(
    wrong: PriceCard, right: PriceCard, meters: dict[str, int], prompt: int, percent: Decimal, byok: bool
) -> None:
    def charged(card: PriceCard) -> money.Charge:
        cost = pricing.price(card, meters, prompt_tokens=prompt).total
        return money.charge(cost, byok=byok, markup=percent / 100, byok_fee=percent / 100)

    lines = [line.as_json() for line in pricing.price(wrong, meters, prompt_tokens=prompt).lines]
    was, becomes = charged(wrong), charged(right)
    request = repricing.Billed(
        prompt_tokens=prompt,
        lines=json.loads(json.dumps(lines)),
        terms=json.loads(json.dumps(was.terms)),
        byok=byok,
        figures=repricing.Figures(cost=was.cost, billed=was.billed, budget=was.budget),
    )
    found = repricing.difference(right, request, repricing.NOTHING)
    assert isinstance(found, repricing.Figures)
    assert request.figures + found == repricing.Figures(cost=becomes.cost, billed=becomes.billed, budget=becomes.budget)
    assert repricing.difference(right, request, found) == repricing.NOTHING
    back = repricing.difference(wrong, request, found)
    assert isinstance(back, repricing.Figures)
    assert found + back == repricing.NOTHING
