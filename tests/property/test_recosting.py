"""Traffic re-costed at the price it was billed with comes to what was billed, whatever the price and the traffic."""

import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from billing import pricing
from billing.pricing import PriceCard, Rate, Tier
from llm.catalog import recosting

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
