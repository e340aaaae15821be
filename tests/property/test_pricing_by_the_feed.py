"""Our arithmetic against that of the public price feed: every price of every model it has, and random cards.

How many cases there were is printed (`pytest -rP`) and kept with the test (`record_property`); differences are 0.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from billing.pricing import PriceCard, Rate, Unpriced, price, rounded, whole_tiers
from llm.calls import Usage
from llm.catalog import feed

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SEED = int(os.environ.get("SEED", "6"))
CARDS = 2_000
# Prompt, completion, cached, written for 5 minutes, for an hour, reasoning, and media by meter: around every threshold
# that there is (128,000; 200,000; 256,000; 272,000), and nothing at all.
USAGES = [
    Usage(prompt_tokens=0, completion_tokens=0),
    Usage(prompt_tokens=1_000, completion_tokens=500, cached_tokens=800),
    Usage(prompt_tokens=128_001, completion_tokens=7, cached_tokens=1, cache_write_5m_tokens=11),
    Usage(prompt_tokens=200_000, completion_tokens=150, reasoning_tokens=99),
    Usage(prompt_tokens=200_001, completion_tokens=150, cached_tokens=3, cache_write_1h_tokens=5, reasoning_tokens=150),
    Usage(prompt_tokens=999_983, completion_tokens=65_537, cached_tokens=500_009, cache_write_5m_tokens=17),
]
MEDIA = [
    Usage(prompt_tokens=9_000, completion_tokens=400, media={"audio_input": 1_234, "audio_output": 99}),
    Usage(
        prompt_tokens=210_007, completion_tokens=401, cached_tokens=3_000,
        media={"audio_input": 77, "audio_cache_read": 1_001, "image_input": 1_300, "image_cache_read": 13},
    ),
    Usage(prompt_tokens=500, completion_tokens=1_700, media={"image_input": 258, "image_output": 1_290}),
    Usage(prompt_tokens=90_000, completion_tokens=10, media={"video_input": 80_000, "video_output": 3}),
]  # fmt: skip
_MEDIA_NAMES = {
    "audio_input": "input_audio_tokens", "audio_cache_read": "cache_audio_read_tokens",
    "image_input": "input_image_tokens", "image_cache_read": "cache_image_read_tokens",
    "video_input": "input_video_tokens", "audio_output": "output_audio_tokens",
    "image_output": "output_image_tokens", "video_output": "output_video_tokens",
}  # fmt: skip


def theirs(usage: Usage) -> Any:
    """The same in the feed's words, where the whole includes its parts and what was cached is among the audio."""
    from genai_prices import Usage as FeedUsage

    media = {name: usage.media.get(meter, 0) for meter, name in _MEDIA_NAMES.items()}
    for kind in ("audio", "image"):
        media[f"input_{kind}_tokens"] += media[f"cache_{kind}_read_tokens"]
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    return FeedUsage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=written,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        **media,
    )


def card_of(prices: Any) -> PriceCard:
    """A price set of the feed as our card, by the way of the feed's reader."""
    named: dict[int, dict[str, Rate]] = {}
    for each in feed._prices(prices):
        named.setdefault(each.above, {})[each.meter] = Rate(price=each.usd_per_1m)
    return PriceCard(version_id=uuid.uuid4(), number=1, effective_from=NOW, effective_to=None, tiers=whole_tiers(named))


def compared(prices: Any, usages: list[Usage]) -> Iterator[bool]:
    """Whether both say the same, for each usage; nothing for what ours cannot price and so refuses."""
    priced = card_of(prices)
    for usage in usages:
        try:
            ours = price(priced, usage.meters(), prompt_tokens=usage.prompt_tokens).total
        except Unpriced:
            continue
        yield ours == rounded(prices.calc_price(theirs(usage))["total_price"])


def told(record: Callable[[str, object], None], **counts: int) -> None:
    for name, count in counts.items():
        record(name, count)
    print(", ".join(f"{name}: {count:,}" for name, count in counts.items()))  # noqa: T201 - with -rP


def test_every_price_of_every_model_that_the_feed_has(record_property: Callable[[str, object], None]) -> None:
    from genai_prices.data_snapshot import get_snapshot

    models = sets = cases = refused = differences = 0
    for provider in get_snapshot().providers:
        for model in provider.models:
            models += 1
            listed = model.prices if isinstance(model.prices, list) else [model.prices]
            for one in listed:
                prices = getattr(one, "prices", one)
                sets += 1
                found = list(compared(prices, USAGES + MEDIA))
                cases, differences = cases + len(found), differences + found.count(False)
                refused += len(USAGES + MEDIA) - len(found)
    told(record_property, models=models, price_sets=sets, cases=cases, refused=refused, differences=differences)
    assert (models > 2_000, cases > 20_000, differences) == (True, True, 0)


def random_card(rng: Random) -> Any:
    """A price set such as the feed could have: what it names needs the wholes of which it is a part."""
    from genai_prices.types import ModelPrice, Tier, TieredPrices

    def usd() -> Any:
        base = Decimal(rng.randrange(10**9)) / 10 ** rng.choice((5, 7, 9))
        if rng.random() < 0.6:
            return base
        starts = sorted(rng.sample(range(1, 400_000), rng.randint(1, 3)))
        return TieredPrices(base=base, tiers=[Tier(start=at, price=base * rng.randint(0, 9) / 4) for at in starts])

    names = {"input", "output"} | {one for one in ("cache_read", "cache_write") if rng.random() < 0.6}
    if "cache_write" in names and rng.random() < 0.5:
        names.add("cache_write_1h")
    for kind in ("audio", "image"):
        if "cache_write" not in names and rng.random() < 0.6:  # the feed would want the price of written audio too
            names.add(f"input_{kind}")
            if "cache_read" in names:
                names.add(f"cache_{kind}_read")
    names |= {"input_video"} if names.isdisjoint({"cache_read", "cache_write"}) and rng.random() < 0.4 else set()
    names |= {rng.choice(("output_audio", "output_image", "output_reasoning"))} if rng.random() < 0.6 else set()
    return ModelPrice(**{f"{name}_mtok": usd() for name in sorted(names)})


def random_usage(rng: Random) -> Usage:
    prompt, completion = rng.randrange(500_000), rng.randrange(40_000)
    cached, written = rng.randint(0, prompt // 2), rng.randint(0, prompt // 8)
    fresh = (prompt - cached - 2 * written) // 4
    media = {meter: rng.randint(0, fresh) for meter in ("audio_input", "image_input")}
    media |= {meter: rng.randint(0, cached // 2) for meter in ("audio_cache_read", "image_cache_read")}
    media["audio_output"] = rng.randint(0, completion // 3)
    return Usage(
        prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached, cache_write_5m_tokens=written,
        cache_write_1h_tokens=written, reasoning_tokens=rng.randint(0, completion // 2),
        media={} if rng.random() < 0.4 else media,
    )  # fmt: skip


def test_random_cards(record_property: Callable[[str, object], None]) -> None:
    print(f"SEED={SEED}")  # noqa: T201 - to be played again
    rng = Random(SEED)
    cases = differences = 0
    for _ in range(CARDS):
        found = list(compared(random_card(rng), [random_usage(rng), *rng.sample(USAGES, 2), rng.choice(MEDIA)]))
        cases, differences = cases + len(found), differences + found.count(False)
    told(record_property, cards=CARDS, cases=cases, differences=differences)
    assert (cases, differences) == (4 * CARDS, 0)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        *(("openai", name) for name in ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5")),
        *(("anthropic", name) for name in ("claude-sonnet-4-5", "claude-haiku-4-5")),
        *(("google", name) for name in ("gemini-2.5-pro", "gemini-2.5-flash")),
        *(("groq", "llama-3.3-70b-versatile"), ("xai", "grok-4")),
        *(("deepseek", "deepseek-chat"), ("mistral", "mistral-large-latest")),
    ],
)
def test_a_shipped_model_is_found_by_our_own_name_at_the_price_of_the_day(provider: str, model: str) -> None:
    from genai_prices.data_snapshot import get_snapshot

    day = datetime(2026, 7, 1, 12, tzinfo=UTC)  # noon: no off-peak discount, which our one row cannot say
    found = feed.lookup(provider, model, on=day.date())
    assert found is not None
    named: dict[int, dict[str, Rate]] = {}
    for each in found.prices:
        named.setdefault(each.above, {})[each.meter] = Rate(price=each.usd_per_1m)
    priced = PriceCard(
        version_id=uuid.uuid4(), number=1, effective_from=NOW, effective_to=None, tiers=whole_tiers(named)
    )
    for usage in USAGES:
        name = feed._feed_names(provider, model)[1]
        said = get_snapshot().calc(theirs(usage), name, feed._FEED_PROVIDERS[provider], None, day)
        ours = price(priced, usage.meters(), prompt_tokens=usage.prompt_tokens)
        assert ours.total == rounded(said.total_price)
