"""The catalog as it is shipped: data files in ``data/``, read into frozen dataclasses and checked. Free of Django.

One TOML file per provider holds a ``[provider]`` table and its ``[[models]]``; ``differences.toml`` holds the known
differences from the public price feed. Whatever is wrong in a file raises `CatalogError` naming the file and the
field: bad data must not reach a bill.

Units: prices are USD per million units of the meter (tokens, or requests for the meter ``request``); windows and caps
are tokens.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from llm.catalog.table import CatalogError, Table

DATA = Path(__file__).parent / "data"
_DIFFERENCES = "differences.toml"

DIALECTS = ("openai", "anthropic", "google", "bedrock", "cohere", "sandbox")
AUTH_TYPES = ("api_key", "bearer", "oauth", "custom", "none")
TIERS = ("free", "starter", "professional", "enterprise")
METERS = (
    "input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning",
    "audio_input", "audio_output", "audio_cache_read", "image_input", "image_output", "image_cache_read",
    "video_input", "video_output", "citation", "request", "search",
)  # fmt: skip
# The shipped power levels and the dearest blended price (USD per million tokens) a model of each may have.
POWER_LEVEL_CAPS: Mapping[str, Decimal] = {
    "eco": Decimal("0.50"),
    "balanced": Decimal("5.00"),
    "precision": Decimal("100.00"),
}
RULES_PER_LEVEL = 2
RULE_PRIORITY = 100


@dataclass(frozen=True, slots=True)
class ShippedPrice:
    """One unit price, for the whole request once its prompt is strictly above `above` tokens (0: the base tier)."""

    meter: str
    usd_per_1m: Decimal
    above: int = 0


@dataclass(frozen=True, slots=True)
class ShippedProvider:
    """One vendor, or one local server, as it starts out in a new installation; staff own the row from then on."""

    slug: str
    name: str
    display_name: str
    description: str
    base_url: str
    dialect: str
    auth_type: str
    env_keys: tuple[str, ...]
    supports_streaming: bool
    supports_function_calling: bool
    supports_vision: bool
    is_active: bool
    is_byok_supported: bool
    is_system_provider: bool
    api_key_format: str
    documentation_url: str
    pricing_url: str
    status_page_url: str
    min_tier_required: str
    quirks: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """One model of one provider.

    `deprecation_date` is the vendor's last day; `is_deprecated` is set once that day had passed at authoring.
    """

    provider: str
    model_id: str
    name: str
    display_name: str
    description: str
    kind: str
    family: str
    context_window: int
    max_output_tokens: int
    supports_streaming: bool
    supports_function_calling: bool
    supports_vision: bool
    supports_json_mode: bool
    is_reasoning: bool
    speed_tier: str
    quality_tier: str
    size_category: str
    power_level: str
    power_level_priority: int
    min_tier_required: str
    is_deprecated: bool
    deprecation_date: date | None
    replacement_model: str | None
    quirks: Mapping[str, Any]
    prices: tuple[ShippedPrice, ...]

    @property
    def ref(self) -> str:
        """``provider/model_id``, the name a request may use to pin it."""
        return f"{self.provider}/{self.model_id}"

    @property
    def blended_usd_per_1m(self) -> Decimal:
        """(3 x input + output) / 4 of the base tier: the price power levels are capped by.

        An embedding model has no output.
        """
        base = {price.meter: price.usd_per_1m for price in self.prices if price.above == 0}
        return (3 * base.get("input", Decimal(0)) + base.get("output", Decimal(0))) / 4


@dataclass(frozen=True, slots=True)
class ShippedRule:
    """One routing rule of a new installation."""

    provider: str
    model_id: str
    power_level: str
    user_tier: str
    task_type: str = "general"
    priority: int = RULE_PRIORITY


@dataclass(frozen=True, slots=True)
class KnownDifference:
    """Why some models differ from the price feed in a field; both are patterns over what `check.Difference` names."""

    model: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything shipped. `checked_on` is the day its prices were last read from the feed."""

    providers: tuple[ShippedProvider, ...]
    models: tuple[ShippedModel, ...]
    known_differences: tuple[KnownDifference, ...]
    checked_on: date


def load(folder: Path = DATA) -> Catalog:
    """Read and check every data file. Raises `CatalogError` naming the file and the field that is wrong."""
    providers: list[ShippedProvider] = []
    models: list[ShippedModel] = []
    for path in sorted(folder.glob("*.toml")):
        if path.name == _DIFFERENCES:
            continue
        root = Table(path.name, "", _read(path))
        provider = _provider(root.table("provider"))
        if path.stem != provider.slug:
            raise CatalogError(path.name, "provider.slug", f"must be the name of the file, {path.stem!r}")
        providers.append(provider)
        models.extend(_model(entry, provider.slug) for entry in root.tables("models"))
        root.done()
    _check_references(models)
    known_differences, checked_on = _known_differences(folder / _DIFFERENCES)
    return Catalog(tuple(providers), tuple(models), known_differences, checked_on)


def load_provider(slug: str, folder: Path = DATA) -> ShippedProvider:
    """One provider alone, without its models. Raises `CatalogError`."""
    file = f"{slug}.toml"
    return _provider(Table(file, "", _read(folder / file)).table("provider"))


def rules(catalog: Catalog) -> tuple[ShippedRule, ...]:
    """The routing rules of a new installation: for each tier, provider in service and power level, the two models that
    come first among those the tier may use.

    First is the lowest `power_level_priority`, then the model id. Deprecated models and embeddings get none.
    """
    floors = {provider.slug: provider.min_tier_required for provider in catalog.providers if provider.is_active}
    groups: dict[tuple[str, str, str], list[ShippedModel]] = {}
    for model in catalog.models:
        if model.provider in floors and model.kind == "chat" and not model.is_deprecated:
            lowest = max(TIERS.index(model.min_tier_required), TIERS.index(floors[model.provider]))
            for tier in TIERS[lowest:]:
                groups.setdefault((model.provider, model.power_level, tier), []).append(model)
    return tuple(
        ShippedRule(provider, model.model_id, level, tier)
        for (provider, level, tier), group in groups.items()
        for model in sorted(group, key=lambda one: (one.power_level_priority, one.model_id))[:RULES_PER_LEVEL]
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CatalogError(path.name, "", "is missing") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogError(path.name, "", f"is not TOML: {error}") from error


def _provider(table: Table) -> ShippedProvider:
    provider = ShippedProvider(
        slug=table.text("slug"),
        name=table.text("name"),
        display_name=table.text("display_name"),
        description=table.text("description"),
        base_url=table.text("base_url"),
        dialect=table.choice("dialect", DIALECTS),
        auth_type=table.choice("auth_type", AUTH_TYPES),
        env_keys=table.texts("env_keys"),
        supports_streaming=table.flag("supports_streaming"),
        supports_function_calling=table.flag("supports_function_calling"),
        supports_vision=table.flag("supports_vision"),
        is_active=table.flag("is_active"),
        is_byok_supported=table.flag("is_byok_supported"),
        is_system_provider=table.flag("is_system_provider"),
        api_key_format=table.text("api_key_format", blank=True),
        documentation_url=table.text("documentation_url", blank=True),
        pricing_url=table.text("pricing_url", blank=True),
        status_page_url=table.text("status_page_url", blank=True),
        min_tier_required=table.choice("min_tier_required", TIERS),
        quirks=table.mapping("quirks"),
    )
    try:
        re.compile(provider.api_key_format)
    except re.error as error:
        raise table.error("api_key_format", f"is not a regular expression: {error}") from error
    table.done()
    return provider


def _model(table: Table, provider: str) -> ShippedModel:
    model = ShippedModel(
        provider=provider,
        model_id=table.text("model_id"),
        name=table.text("name"),
        display_name=table.text("display_name"),
        description=table.text("description"),
        kind=table.choice("kind", ("chat", "embedding")),
        family=table.text("family"),
        context_window=table.number("context_window", at_least=1),
        max_output_tokens=table.number("max_output_tokens"),
        supports_streaming=table.flag("supports_streaming"),
        supports_function_calling=table.flag("supports_function_calling"),
        supports_vision=table.flag("supports_vision"),
        supports_json_mode=table.flag("supports_json_mode"),
        is_reasoning=table.flag("is_reasoning"),
        speed_tier=table.choice("speed_tier", ("fast", "standard", "slow")),
        quality_tier=table.choice("quality_tier", ("best", "good", "basic")),
        size_category=table.choice("size_category", ("tiny", "small", "medium", "large", "xl")),
        power_level=table.choice("power_level", tuple(POWER_LEVEL_CAPS)),
        power_level_priority=table.number("power_level_priority"),
        min_tier_required=table.choice("min_tier_required", TIERS),
        is_deprecated=table.flag("is_deprecated"),
        deprecation_date=table.day("deprecation_date"),
        replacement_model=table.optional_text("replacement_model"),
        quirks=table.mapping("quirks"),
        prices=tuple(_price(entry) for entry in table.tables("prices")),
    )
    _check_model(table, model)
    table.done()
    return model


def _price(table: Table) -> ShippedPrice:
    price = ShippedPrice(table.choice("meter", METERS), table.usd("usd_per_1m"), table.number("above"))
    table.done()
    return price


def _check_model(table: Table, model: ShippedModel) -> None:
    """What one model must satisfy by itself: unambiguous prices for what it bills, and a power level it can afford."""
    keys = [(price.meter, price.above) for price in model.prices]
    if len(keys) != len(set(keys)):
        raise table.error("prices", "has two prices for one meter and tier")
    base = {price.meter for price in model.prices if price.above == 0}
    missing = ({"input", "output"} if model.kind == "chat" else {"input"}) - base
    if missing:
        raise table.error("prices", f"lacks a base price for {', '.join(sorted(missing))}")
    if {price.meter for price in model.prices} - base:
        raise table.error("prices", "has a tier of a meter without a base price")
    if model.kind == "chat" and model.max_output_tokens < 1:
        raise table.error("max_output_tokens", "must be at least 1 for a chat model")
    cap = POWER_LEVEL_CAPS[model.power_level]
    if model.blended_usd_per_1m > cap:
        problem = f"{model.power_level} takes at most {cap} USD per 1M, this is {model.blended_usd_per_1m}"
        raise table.error("power_level", problem)


def _check_references(models: Iterable[ShippedModel]) -> None:
    """Model names are unique, and a replacement is a shipped model that is itself in service."""
    by_ref: dict[str, ShippedModel] = {}
    for model in models:
        if model.ref in by_ref:
            raise CatalogError(f"{model.provider}.toml", model.model_id, "is there twice")
        by_ref[model.ref] = model
    for model in by_ref.values():
        if model.replacement_model is None:
            continue
        replacement = by_ref.get(model.replacement_model)
        if replacement is None or replacement.is_deprecated:
            problem = f"{model.replacement_model!r} is not a shipped model in service"
            raise CatalogError(f"{model.provider}.toml", f"{model.model_id}.replacement_model", problem)


def _known_differences(path: Path) -> tuple[tuple[KnownDifference, ...], date]:
    root = Table(path.name, "", _read(path))
    entries = []
    for table in root.tables("differences"):
        entries.append(KnownDifference(table.text("model"), table.text("field"), table.text("reason")))
        table.done()
    checked_on = root.day("checked_on")
    if checked_on is None:
        raise root.error("checked_on", "is missing")
    root.done()
    return tuple(entries), checked_on
