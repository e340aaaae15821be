"""Prices against exact fractions. What the public price feed works out for the same usage: test_pricing_by_the_feed."""

import math
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import (
    CACHE_WRITES,
    FALLBACK,
    IF_PRICED,
    MEDIA_INPUT,
    OUTPUT_METERS,
    Bounds,
    PriceCard,
    Rate,
    Tier,
    Unpriced,
    lacking,
    price,
    services,
    whole_tiers,
    worst_case,
)
from llm.calls import Usage

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
UNIT = Fraction(1, 10**10)
INPUT = ("input", "cache_read", "cache_write_5m", "cache_write_1h", *MEDIA_INPUT)
Named = dict[int, dict[str, Rate]]  # by threshold and meter


def card(*tiers: tuple[int, dict[str, str]], quantity: int = 1) -> PriceCard:
    """Tiers as (threshold, USD by meter for `quantity` units), any order."""
    named = {
        above: {meter: Rate(price=Decimal(usd), quantity=quantity) for meter, usd in rates.items()}
        for above, rates in tiers
    }
    return card_of(named)


def card_of(named: Named, others: dict[str, Named] | None = None) -> PriceCard:
    return PriceCard(
        version_id=uuid.uuid4(), number=1, effective_from=NOW, effective_to=None,
        tiers=whole_tiers(named), services=services(named, others or {}),
    )  # fmt: skip


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


OPTIONAL = ["cache_read", "cache_write_5m", "cache_write_1h", "reasoning", "request", *sorted(IF_PRICED)]
OPTIONAL += [*sorted(MEDIA_INPUT), "audio_output", "image_output", "video_output"]


@dataclass
class Book:
    """A card, and what was named to make it, by service tier."""

    card: PriceCard
    named: dict[str, Named]


@st.composite
def books(draw: st.DrawFn) -> Book:
    base = {"input": draw(rates), "output": draw(rates)}
    base |= draw(st.dictionaries(st.sampled_from(OPTIONAL), rates, max_size=6))
    named = {0: base}
    for above in draw(st.lists(st.integers(1, 1000), max_size=3, unique=True)):
        named[above] = draw(st.dictionaries(st.sampled_from(sorted(base)), rates, min_size=1, max_size=3))
    one = st.dictionaries(st.sampled_from(sorted(base)), rates, min_size=1, max_size=4)
    others = {
        tier: {0: draw(one), **draw(st.dictionaries(st.integers(1, 1000), one, max_size=2))}
        for tier in ("flex", "batch", "priority")
        if draw(st.booleans())
    }
    if "priority" in others and draw(st.booleans()):  # whole, so that it is offered
        others["priority"] = {above: {meter: draw(rates) for meter in meters} for above, meters in named.items()}
    return Book(card_of(named, others), {"standard": named, **others})


@st.composite
def usages(draw: st.DrawFn, most_prompt: int = 2000, most_completion: int = 2000, media: bool = True) -> Usage:
    prompt, completion = draw(st.integers(0, most_prompt)), draw(st.integers(0, most_completion))
    cached = draw(st.integers(0, prompt))
    short = draw(st.integers(0, prompt - cached))
    long = draw(st.integers(0, prompt - cached - short))
    reasoning = draw(st.integers(0, completion))
    left = {"input": prompt - cached - short - long, "cache_read": cached, "output": completion - reasoning}
    parts: dict[str, int] = {}
    for meter in draw(st.sets(st.sampled_from(MEDIA_PARTS), max_size=4)) if media else ():
        whole = meter.partition("_")[2]
        parts[meter] = draw(st.integers(0, left[whole]))
        left[whole] -= parts[meter]
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        reasoning_tokens=reasoning,
        media=parts,
    )


MEDIA_PARTS = [*sorted(MEDIA_INPUT), "audio_output", "image_output", "video_output"]


def exactly(book: Book, usage: Usage, service: str) -> Fraction:
    """The price by the rules as one would write them on paper, not rounded."""
    own, standard = book.named[service], book.named["standard"]
    lists = [standard, own] if service in ("flex", "batch") else [own]

    def rate_of(meter: str) -> Rate | None:
        """What is named at the highest threshold that is passed; at the same one, the service tier's own word."""
        said = [
            ((above, place), named[above][meter])
            for place, named in enumerate(lists)
            for above in named
            if meter in named[above] and (above == 0 or usage.prompt_tokens > above)
        ]
        return max(said, key=lambda one: one[0])[1] if said else None

    amount = Fraction(0)
    for meter, count in [*usage.meters().items(), *([("request", 1)] if rate_of("request") else [])]:
        rate = next(found for one in (meter, *FALLBACK.get(meter, ())) if (found := rate_of(one)))
        amount += Fraction(rate.price) * count / rate.quantity
    return amount


@given(books(), usages())
def test_any_price_is_the_exact_fraction_rounded_half_up_once(book: Book, usage: Usage) -> None:
    for service in ("standard", *book.card.services):
        found = price(book.card, usage.meters(), prompt_tokens=usage.prompt_tokens, service_tier=service)
        assert Fraction(found.total) == half_up(exactly(book, usage, service))
        assert found.input + found.output == found.total
        assert sum(line.count for line in found.lines if line.meter in INPUT) == usage.prompt_tokens
        assert sum(line.count for line in found.lines if line.meter in OUTPUT_METERS) == usage.completion_tokens
        assert {line.as_json().get("service_tier", "standard") for line in found.lines} <= {service}


@given(books(), usages())
def test_a_service_tier_is_offered_whole_or_not_at_all(book: Book, usage: Usage) -> None:
    """What flex and batch leave out is standard's; priority is offered where it can price all that standard can."""
    standard, offered = book.named["standard"], book.card.services.keys()
    assert {"flex", "batch"} & book.named.keys() <= offered <= book.named.keys() - {"standard"}
    for service in {"flex", "batch", "priority"} - offered:
        with pytest.raises(Unpriced, match=service):
            price(book.card, usage.meters(), prompt_tokens=usage.prompt_tokens, service_tier=service)
    if "priority" in book.named:
        assert ("priority" in offered) == (lacking(standard, book.named["priority"]) is None)
    bare = card_of(standard, {"flex": {}})
    one, other = (
        price(bare, usage.meters(), prompt_tokens=usage.prompt_tokens, service_tier=service).total
        for service in ("standard", "flex")
    )
    assert one == other


@pytest.mark.parametrize(
    ("standard", "priority", "missing"),
    [
        ({0: ["input", "output"]}, {0: ["input", "output"]}, None),
        ({0: ["input", "output", "cache_read"]}, {0: ["input", "output"]}, None),  # cached input costs as input does
        ({0: ["input", "output"]}, {0: ["input"]}, ("output", 0)),
        ({0: ["input", "output", "request"]}, {0: ["input", "output"]}, ("request", 0)),  # nothing stands in for a fee
        ({0: ["input", "output"], 9: ["input"]}, {0: ["input", "output"]}, ("input", 9)),
        ({0: ["input", "output"], 9: ["input"]}, {0: ["input", "output"], 9: ["input"]}, None),
        ({0: ["input", "output", "cache_read"], 9: ["cache_read"]}, {0: ["input", "output"]}, ("input", 9)),
    ],
)
def test_what_priority_may_leave_out(
    standard: dict[int, list[str]], priority: dict[int, list[str]], missing: tuple[str, int] | None
) -> None:
    assert lacking(standard, priority) == missing


@given(st.data(), books(), st.integers(0, 2000), st.integers(0, 2000), st.booleans(), st.booleans())
def test_no_usage_within_the_bounds_costs_more_than_the_worst_case(
    data: st.DataObject, book: Book, most_in: int, most_out: int, cache_writes: bool, media: bool
) -> None:
    usage = data.draw(usages(most_in, most_out, media))
    if not cache_writes and usage.meters().keys() & CACHE_WRITES:
        return
    beside = {meter: data.draw(st.integers(0, 5)) for meter in sorted(IF_PRICED & book.card.tiers[-1].rates.keys())}
    bounds = Bounds(input=most_in, output=most_out, cache_writes=cache_writes, media=media, beside=beside)
    counts, offered = {**usage.meters(), **beside}, ("standard", *book.card.services)
    worst = worst_case(book.card, bounds, offered)
    assert worst == max(worst_case(book.card, bounds, [one]) for one in offered)
    for service in offered:
        assert price(book.card, counts, prompt_tokens=usage.prompt_tokens, service_tier=service).total <= worst


@given(books().map(lambda book: book.card))
def test_where_the_dearest_is_used_up_the_worst_case_is_the_price(priced: PriceCard) -> None:
    """So that k requests of k are admitted: a hold is not padded."""
    flat = PriceCard(version_id=priced.version_id, number=1, effective_from=NOW, effective_to=None, tiers=(
        Tier(above=0, rates={meter: priced.tiers[-1].rates[meter] for meter in ("input", "output")}),
    ))  # fmt: skip
    worst = worst_case(flat, Bounds(input=1234, output=777))
    assert worst == price(flat, {"input": 1234, "output": 777}, prompt_tokens=1234).total
