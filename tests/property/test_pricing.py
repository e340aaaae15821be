"""Prices against exact fractions, and against what the public price feed works out for the same usage."""

import math
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import (
    CACHE_WRITES,
    FALLBACK,
    Bounds,
    PriceCard,
    Rate,
    Tier,
    Unpriced,
    price,
    whole_tiers,
    worst_case,
)
from llm.calls import Usage
from llm.catalog import feed

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
UNIT = Fraction(1, 10**10)
INPUT = ("input", "cache_read", "cache_write_5m", "cache_write_1h")
OUTPUT = ("output", "reasoning")


def card(*tiers: tuple[int, dict[str, str]], quantity: int = 1) -> PriceCard:
    """Tiers as (threshold, USD by meter for `quantity` units), any order."""
    named = {
        above: {meter: Rate(price=Decimal(usd), quantity=quantity) for meter, usd in rates.items()}
        for above, rates in tiers
    }
    return card_of(named)


def card_of(named: dict[int, dict[str, Rate]]) -> PriceCard:
    return PriceCard(version_id=uuid.uuid4(), number=1, effective_from=NOW, effective_to=None, tiers=whole_tiers(named))


def half_up(amount: Fraction) -> Fraction:
    """To 1e-10 USD, by arithmetic on whole numbers."""
    return math.floor(amount / UNIT + Fraction(1, 2)) * UNIT


# --- the examples that the issue gives --------------------------------------------------------------------------------

PLAIN = card((0, {"input": "0.0000025", "output": "0.00001"}))
CACHED = card((0, {"input": "0.0000025", "output": "0.00001", "cache_read": "0.00000125"}))
CLAUDE = card(
    (0, {"input": "0.000003", "output": "0.000015", "cache_read": "0.0000003", "cache_write_5m": "0.00000375"})
)
TIERED = card(
    (0, {"input": "0.00000125", "output": "0.00001"}), (200_000, {"input": "0.0000025", "output": "0.000015"})
)
THINKING = card((0, {"input": "0.0000003", "output": "0.0000025", "reasoning": "0.0000035"}))


@pytest.mark.parametrize(
    ("priced", "usage", "total"),
    [
        (PLAIN, Usage(prompt_tokens=1000, completion_tokens=500), "0.0075"),
        (CACHED, Usage(prompt_tokens=1000, completion_tokens=500, cached_tokens=800), "0.0065"),
        (PLAIN, Usage(prompt_tokens=1000, completion_tokens=500, cached_tokens=800), "0.0075"),
        (CLAUDE, Usage(prompt_tokens=12307, completion_tokens=550, cache_write_5m_tokens=12304), "0.054399"),
        (TIERED, Usage(prompt_tokens=200_000, completion_tokens=150), "0.2515"),
        (TIERED, Usage(prompt_tokens=200_001, completion_tokens=150), "0.5022525"),
        (THINKING, Usage(prompt_tokens=17, completion_tokens=1578, reasoning_tokens=952), "0.0049021"),
    ],
)
def test_the_worked_examples(priced: PriceCard, usage: Usage, total: str) -> None:
    found = price(priced, usage.meters(), prompt_tokens=usage.prompt_tokens)
    assert found.total == Decimal(total)
    assert found.input + found.output == found.total


def test_a_cached_token_without_a_price_of_its_own_is_shown_as_priced_like_input() -> None:
    found = price(PLAIN, {"cache_read": 800, "input": 200}, prompt_tokens=1000)
    assert [(line.meter, line.priced_as, line.amount) for line in found.lines] == [
        ("cache_read", "input", Decimal("0.002")),
        ("input", "input", Decimal("0.0005")),
    ]


def test_a_meter_without_a_price_and_without_a_fallback_is_refused_never_free() -> None:
    with pytest.raises(Unpriced, match="image"):
        price(PLAIN, {"image": 1}, prompt_tokens=0)


def test_an_explicit_zero_is_zero() -> None:
    free = card((0, {"input": "0", "output": "0"}))
    assert price(free, {"input": 10**6, "output": 10**6}, prompt_tokens=10**6).total == 0


def test_half_of_the_last_digit_is_rounded_up_once_not_meter_by_meter() -> None:
    halves = card((0, {"input": "0.0000000001", "output": "0.0000000001"}), quantity=2)
    assert price(halves, {"input": 1}, prompt_tokens=1).total == Decimal("0.0000000001")
    both = price(halves, {"input": 1, "output": 1}, prompt_tokens=1)
    assert (both.total, both.input, both.output) == (Decimal("0.0000000001"), Decimal("0.0000000001"), 0)


def test_a_tier_prices_what_it_names_and_for_the_rest_the_tier_below_goes_on() -> None:
    three = card((0, {"input": "1", "output": "1"}), (100, {"input": "2"}), (200, {"output": "3"}))
    totals = [price(three, {"input": tokens, "output": 1}, prompt_tokens=tokens).total for tokens in (100, 200, 201)]
    assert totals == [101, 401, 405]


# --- properties -------------------------------------------------------------------------------------------------------

usd = st.decimals(min_value=0, max_value=1000, places=10, allow_nan=False, allow_infinity=False)
rates = st.builds(Rate, price=usd, quantity=st.sampled_from([1, 2, 3, 7, 14, 1000, 1_000_000]))


@st.composite
def cards(draw: st.DrawFn) -> PriceCard:
    optional = st.sampled_from(["cache_read", "cache_write_5m", "cache_write_1h", "reasoning", "request"])
    base = {"input": draw(rates), "output": draw(rates), **draw(st.dictionaries(optional, rates, max_size=5))}
    named = {0: base}
    for above in draw(st.lists(st.integers(1, 1000), max_size=3, unique=True)):
        named[above] = draw(st.dictionaries(st.sampled_from(sorted(base)), rates, min_size=1, max_size=3))
    return card_of(named)


@st.composite
def usages(draw: st.DrawFn, most_prompt: int = 2000, most_completion: int = 2000) -> Usage:
    prompt, completion = draw(st.integers(0, most_prompt)), draw(st.integers(0, most_completion))
    cached = draw(st.integers(0, prompt))
    short = draw(st.integers(0, prompt - cached))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=draw(st.integers(0, prompt - cached - short)),
        reasoning_tokens=draw(st.integers(0, completion)),
    )


def exactly(priced: PriceCard, usage: Usage) -> Fraction:
    """The price by the rules as one would write them on paper, not rounded."""
    (tier,) = [
        tier
        for tier in priced.tiers
        if tier.above == max((each.above for each in priced.tiers if usage.prompt_tokens > each.above), default=0)
    ]
    amount = Fraction(0)
    for meter, count in [*usage.meters().items(), *([("request", 1)] if "request" in tier.rates else [])]:
        rate = next(tier.rates[one] for one in (meter, *FALLBACK.get(meter, ())) if one in tier.rates)
        amount += Fraction(rate.price) * count / rate.quantity
    return amount


@given(cards(), usages())
def test_any_price_is_the_exact_fraction_rounded_half_up_once(priced: PriceCard, usage: Usage) -> None:
    found = price(priced, usage.meters(), prompt_tokens=usage.prompt_tokens)
    assert Fraction(found.total) == half_up(exactly(priced, usage))
    assert found.input + found.output == found.total
    assert sum(line.count for line in found.lines if line.meter in INPUT) == usage.prompt_tokens
    assert sum(line.count for line in found.lines if line.meter in OUTPUT) == usage.completion_tokens


@given(st.data(), cards(), st.integers(0, 2000), st.integers(0, 2000), st.booleans())
def test_no_usage_within_the_bounds_costs_more_than_the_worst_case(
    data: st.DataObject, priced: PriceCard, most_in: int, most_out: int, cache_writes: bool
) -> None:
    usage = data.draw(usages(most_in, most_out))
    if not cache_writes and usage.meters().keys() & CACHE_WRITES:
        return
    worst = worst_case(priced, Bounds(input=most_in, output=most_out, cache_writes=cache_writes))
    assert price(priced, usage.meters(), prompt_tokens=usage.prompt_tokens).total <= worst


@given(cards())
def test_where_the_dearest_is_used_up_the_worst_case_is_the_price(priced: PriceCard) -> None:
    """So that k requests of k are admitted: a hold is not padded."""
    flat = PriceCard(version_id=priced.version_id, number=1, effective_from=NOW, effective_to=None, tiers=(
        Tier(above=0, rates={meter: priced.tiers[-1].rates[meter] for meter in ("input", "output")}),
    ))  # fmt: skip
    worst = worst_case(flat, Bounds(input=1234, output=777))
    assert worst == price(flat, {"input": 1234, "output": 777}, prompt_tokens=1234).total


# --- against the feed's own arithmetic --------------------------------------------------------------------------------

SHIPPED = [
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-4.1"),
    ("openai", "gpt-5"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-haiku-4-5"),
    ("google", "gemini-2.5-pro"),
    ("google", "gemini-2.5-flash"),
    ("groq", "llama-3.3-70b-versatile"),
    ("xai", "grok-4"),
    ("deepseek", "deepseek-chat"),
    ("mistral", "mistral-large-latest"),
]
COUNTS = [
    (1000, 500, 0, 0),
    (1000, 500, 800, 0),
    (200_000, 150, 0, 0),
    (200_001, 150, 1, 0),
    (300_000, 4096, 200_000, 7),
]


@pytest.mark.parametrize(("provider", "model"), SHIPPED)
def test_shipped_models_cost_what_the_feed_works_out(provider: str, model: str) -> None:
    from genai_prices import Usage as FeedUsage
    from genai_prices.data_snapshot import get_snapshot

    found = feed.lookup(provider, model, on=date(2026, 7, 1))
    assert found is not None
    named: dict[int, dict[str, Rate]] = {}
    for each in found.prices:
        named.setdefault(each.above, {})[each.meter] = Rate(price=each.usd_per_1m)
    priced = card_of(named)
    for prompt, completion, cached, written in COUNTS:
        usage = Usage(
            prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached, cache_write_5m_tokens=written
        )
        theirs = get_snapshot().calc(
            FeedUsage(
                input_tokens=prompt, output_tokens=completion, cache_read_tokens=cached, cache_write_tokens=written
            ),
            feed._feed_names(provider, model)[1],
            feed._FEED_PROVIDERS[provider],
            None,
            datetime(2026, 7, 1, 12, tzinfo=UTC),  # noon: no off-peak discount, which our one row cannot say
        )
        ours = price(priced, usage.meters(), prompt_tokens=prompt)
        assert abs(ours.total - theirs.total_price) <= Decimal("0.0000000001"), (prompt, completion, cached, written)
