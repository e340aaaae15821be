"""What the public price feed says about a model today.

This is the one module that imports ``genai_prices``, and it does so inside functions: the package is several
megabytes of Python literals plus pydantic, costs a second and a hundred megabytes to load (measured), and must never be
loaded in a web process. Commands and Celery tasks call `lookup`; nothing on the data path does.

Units: USD per million units of the meter (tokens, or requests for the meter ``request``), exact decimals, never floats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

# Our provider slug -> the feed's. A provider that is not here has no first-hand prices in the feed (see
# data/differences.toml).
_FEED_PROVIDERS: Mapping[str, str] = {
    "anthropic": "anthropic",
    "azure-openai": "azure",
    "bedrock": "aws",
    "cerebras": "cerebras",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "google": "google",
    "groq": "groq",
    "minimax": "minimax",
    "mistral": "mistral",
    "moonshot": "moonshotai",
    "novita": "novita",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together",
    "vertex-ai": "google",
    "xai": "x-ai",
    "zai": "zai",
}

# The feed's price keys -> our meters. Hosted tools (web and file search, per page, per hour) are left out on purpose:
# the gateway refuses what it cannot bound, so it never bills them. Searches count where a model searches unasked. A
# plain cache write is the five-minute one: the feed prices the one-hour write separately.
_METERS: Mapping[str, str] = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "cache_audio_read_mtok": "audio_cache_read",
    "input_image_mtok": "image_input",
    "output_image_mtok": "image_output",
    "cache_image_read_mtok": "image_cache_read",
    "input_video_mtok": "video_input",
    "output_video_mtok": "video_output",
    "output_citation_mtok": "citation",
    "requests_kcount": "request",
}
_PER_THOUSAND = frozenset({"requests_kcount", "web_searches_kcount"})
_SEARCHES = {"web_searches_kcount": "search"}
_SEARCH_UNASKED = frozenset({"perplexity"})


@dataclass(frozen=True, slots=True)
class FeedPrice:
    """One unit price, for the whole request once its prompt is strictly above `above` tokens (0: the base tier)."""

    meter: str
    usd_per_1m: Decimal
    above: int = 0


@dataclass(frozen=True, slots=True)
class FeedModel:
    """What the feed knows of one model.

    `context_window` is in tokens, None where the feed does not say; `prices` may be empty (free). `is_exact`: the feed
    has this very id; otherwise one of which this is a dated or otherwise longer name.
    """

    provider: str
    model_id: str
    context_window: int | None
    prices: tuple[FeedPrice, ...]
    is_exact: bool = False


def version() -> str:
    """Which feed this is, such as `genai-prices 0.2.3`. It carries no date of its own."""
    return f"genai-prices {metadata.version('genai-prices')}"


def lookup(provider_slug: str, model_id: str, *, on: date | None = None) -> FeedModel | None:
    """The feed's entry for one of our models, with the prices in force on a UTC day (today unless told).

    None where the feed has no such provider or model: an unknown model is unknown, never free. Where a price depends
    on the time of day (off-peak discounts) the dearest of that day is given, because one row must cover every hour
    and a hold must never be too small.
    """
    from genai_prices.data_snapshot import get_snapshot  # lazily: see the module's docstring

    feed_provider, feed_model = _feed_names(provider_slug, model_id)
    if feed_provider is None:
        return None
    try:
        _, info = get_snapshot().find_provider_model(feed_model, None, feed_provider, None)
    except LookupError:
        return None
    day = on if on is not None else datetime.now(tz=UTC).date()
    dearest: dict[tuple[str, int], Decimal] = {}
    for instant in _instants(info, day):
        for price in _prices(info.get_prices(instant), searches=provider_slug in _SEARCH_UNASKED):
            key = (price.meter, price.above)
            dearest[key] = max(price.usd_per_1m, dearest.get(key, price.usd_per_1m))
    prices = tuple(FeedPrice(meter, usd, above) for (meter, above), usd in sorted(dearest.items()))
    return FeedModel(provider_slug, model_id, info.context_window, prices, is_exact=info.id == feed_model)


def _feed_names(provider_slug: str, model_id: str) -> tuple[str | None, str]:
    """The feed's provider and model name for ours.

    The Hugging Face router pins the serving provider by a suffix (``org/model:novita``); the feed keeps one provider
    per such suffix.
    """
    if provider_slug == "huggingface":
        model, _, served_by = model_id.rpartition(":")
        return (f"huggingface_{served_by}", model) if model else (None, model_id)
    return _FEED_PROVIDERS.get(provider_slug), model_id


def _instants(info: ModelInfo, day: date) -> Iterator[datetime]:
    """Instants of a UTC day that together see every price in force on it: midnight, and each edge of a daily window."""
    from genai_prices.types import TimeOfDateConstraint  # lazily: see the module's docstring

    edges = {time(0, 0, tzinfo=UTC)}
    for conditional in info.prices if isinstance(info.prices, list) else []:
        if isinstance(conditional.constraint, TimeOfDateConstraint):
            edges |= {conditional.constraint.start_time, conditional.constraint.end_time}
    for edge in edges:
        yield datetime.combine(day, edge.replace(tzinfo=edge.tzinfo or UTC))


def _prices(price: ModelPrice, *, searches: bool = False) -> Iterator[FeedPrice]:
    """One price set of the feed in our meters; every tier reprices the whole request, in the feed as with us."""
    from genai_prices.types import TieredPrices  # lazily: see the module's docstring

    for key, value in vars(price).items():
        meter = _METERS.get(key) or (_SEARCHES.get(key) if searches else None)
        if meter is None or value is None:
            continue
        scale = 1000 if key in _PER_THOUSAND else 1
        if isinstance(value, TieredPrices):
            yield FeedPrice(meter, value.base * scale)
            for tier in value.tiers:
                yield FeedPrice(meter, tier.price * scale, tier.start)
        elif isinstance(value, Decimal):
            yield FeedPrice(meter, value * scale)
