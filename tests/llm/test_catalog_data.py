"""The shipped catalog: enough of it, true to the price feed, and refused loudly when a file is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from llm.catalog import check, feed, shipped
from llm.catalog.table import CatalogError
from llm.providers import registry
from llm.types import BUILT, DIALECTS

REPOSITORY = Path(__file__).parents[2]
LISTED_PROVIDERS = {
    "openai", "anthropic", "google", "mistral", "cohere", "groq", "deepseek", "xai", "together", "fireworks",
    "perplexity", "openrouter", "cerebras", "nvidia", "deepinfra", "alibaba", "moonshot", "zai", "minimax", "novita",
    "nebius", "huggingface", "azure-openai", "vertex-ai", "bedrock", "ollama", "vllm", "lm-studio", "litellm",
    "sandbox",
}  # fmt: skip
LOCAL_PROVIDERS = {"ollama", "vllm", "lm-studio", "litellm"}
Edit = Callable[[str, str, str], Path]


@pytest.fixture(scope="module")
def catalog() -> shipped.Catalog:
    return shipped.load()


def model_of(catalog: shipped.Catalog, ref: str) -> shipped.ShippedModel:
    return next(model for model in catalog.models if model.ref == ref)


def base_prices(model: shipped.ShippedModel) -> dict[str, Decimal]:
    return {price.meter: price.usd_per_1m for price in model.prices if price.above == 0}


@pytest.fixture
def edit(tmp_path: Path) -> Edit:
    """A copy of the data with one thing replaced in one file."""

    def change(file: str, old: str, new: str) -> Path:
        folder = tmp_path / "data"
        shutil.copytree(shipped.DATA, folder, dirs_exist_ok=True)
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
        return folder

    return change


def test_ships_every_listed_provider_and_only_the_local_ones_asleep(catalog: shipped.Catalog) -> None:
    assert {provider.slug for provider in catalog.providers} == LISTED_PROVIDERS
    assert {provider.slug for provider in catalog.providers if not provider.is_active} == LOCAL_PROVIDERS


def test_ships_enough_priced_models_in_service(catalog: shipped.Catalog) -> None:
    in_service = [model for model in catalog.models if not model.is_deprecated]
    assert sum(model.kind == "chat" for model in in_service) >= 160
    assert sum(model.kind == "embedding" for model in in_service) >= 12
    assert not {model.provider for model in catalog.models} & LOCAL_PROVIDERS


def test_no_model_is_free(catalog: shipped.Catalog) -> None:
    free = [model.ref for model in catalog.models if any(price.usd_per_1m == 0 for price in model.prices)]
    assert free == []


def test_gpt_4o_has_the_vendors_facts(catalog: shipped.Catalog) -> None:
    model = model_of(catalog, "openai/gpt-4o")
    assert base_prices(model) == {"input": Decimal("2.50"), "output": Decimal("10.00"), "cache_read": Decimal("1.25")}
    assert (model.context_window, model.max_output_tokens, model.power_level) == (128_000, 16_384, "balanced")
    assert (model.supports_vision, model.supports_function_calling, model.supports_json_mode) == (True, True, True)
    assert not model.is_deprecated


def test_models_their_vendors_retired_point_to_one_in_service(catalog: shipped.Catalog) -> None:
    turbo = model_of(catalog, "openai/gpt-4-turbo-preview")
    assert (turbo.is_deprecated, turbo.replacement_model) == (True, "openai/gpt-4.1")
    assert turbo.deprecation_date == date(2026, 3, 26)
    sonnet = model_of(catalog, "anthropic/claude-sonnet-4-20250514")
    assert (sonnet.is_deprecated, sonnet.replacement_model) == (True, "anthropic/claude-sonnet-4-6")
    assert base_prices(sonnet)["cache_write_1h"] == Decimal(6)


def test_deprecated_means_the_vendors_last_day_has_passed(catalog: shipped.Catalog) -> None:
    for model in catalog.models:
        passed = model.deprecation_date is not None and model.deprecation_date <= catalog.checked_on
        assert model.is_deprecated == passed, model.ref


def test_long_context_tiers_are_dearer_than_the_base(catalog: shipped.Catalog) -> None:
    model = model_of(catalog, "google/gemini-2.5-pro")
    tiers = {(price.meter, price.above): price.usd_per_1m for price in model.prices}
    assert (tiers["input", 0], tiers["input", 200_000]) == (Decimal("1.25"), Decimal("2.5"))
    assert (tiers["output", 0], tiers["output", 200_000]) == (Decimal(10), Decimal(15))


def test_every_power_level_fits_its_cap(catalog: shipped.Catalog) -> None:
    for model in catalog.models:
        assert model.blended_usd_per_1m <= shipped.POWER_LEVEL_CAPS[model.power_level], model.ref


@pytest.mark.parametrize("tier", shipped.TIERS)
@pytest.mark.parametrize("level", list(shipped.POWER_LEVEL_CAPS))
def test_every_tier_has_a_rule_of_its_own_at_every_power_level(catalog: shipped.Catalog, tier: str, level: str) -> None:
    """Of an OpenAI-compatible provider, for a model that the tier may use: feasible as soon as there is a key."""
    openai_like = {provider.slug: provider for provider in catalog.providers if provider.dialect == "openai"}
    rank = shipped.TIERS.index
    routes = [
        rule
        for rule in shipped.rules(catalog)
        if (rule.user_tier, rule.power_level, rule.task_type) == (tier, level, "general")
        and rule.provider in openai_like
        and rank(model_of(catalog, f"{rule.provider}/{rule.model_id}").min_tier_required) <= rank(tier)
        and rank(openai_like[rule.provider].min_tier_required) <= rank(tier)
    ]
    assert routes


def ruled(catalog: shipped.Catalog, provider: str, level: str) -> dict[str, list[str]]:
    """The models of a provider's rules at a power level, by tier."""
    found: dict[str, list[str]] = {}
    for rule in shipped.rules(catalog):
        if (rule.provider, rule.power_level) == (provider, level):
            assert (rule.task_type, rule.priority) == ("general", 100)
            found.setdefault(rule.user_tier, []).append(rule.model_id)
    return found


def test_rules_name_the_two_first_models_of_a_level_that_the_tier_may_use_in_order(catalog: shipped.Catalog) -> None:
    assert ruled(catalog, "openai", "eco") == {tier: ["gpt-6-luna", "gpt-4o-mini"] for tier in shipped.TIERS}
    dear = ["gpt-5.6-sol", "gpt-5.5"]  # gpt-5.5 is for starters and above
    assert ruled(catalog, "openai", "precision") == {
        "free": ["gpt-5.6-sol", "gpt-5.4"], "starter": dear, "professional": dear, "enterprise": dear,
    }  # fmt: skip


def test_a_provider_above_a_tier_has_no_rule_for_it(catalog: shipped.Catalog) -> None:
    reserved = [replace(one, min_tier_required="professional") for one in catalog.providers if one.slug == "openai"]
    assert set(ruled(replace(catalog, providers=tuple(reserved)), "openai", "eco")) == {"professional", "enterprise"}


def test_rules_pass_over_deprecated_models_embeddings_and_sleeping_providers(catalog: shipped.Catalog) -> None:
    ruled = {f"{rule.provider}/{rule.model_id}" for rule in shipped.rules(catalog)}
    assert all(not model_of(catalog, ref).is_deprecated and model_of(catalog, ref).kind == "chat" for ref in ruled)
    asleep = replace(catalog, providers=tuple(replace(provider, is_active=False) for provider in catalog.providers))
    assert shipped.rules(asleep) == ()


def test_nothing_differs_from_the_feed_without_a_reason(catalog: shipped.Catalog) -> None:
    differences = check.compare(catalog, lambda provider, model: feed.lookup(provider, model, on=catalog.checked_on))
    assert check.unexplained(differences) == []
    # A reason nobody needs any more would hide the next real difference.
    used = {difference.reason for difference in differences}
    assert [known for known in catalog.known_differences if known.reason not in used] == []


def test_a_changed_price_is_a_difference_that_names_both_sides(catalog: shipped.Catalog) -> None:
    ours = model_of(catalog, "openai/gpt-4o")
    prices = (feed.FeedPrice("input", Decimal("3.00")), feed.FeedPrice("output", Decimal(10)))
    theirs = feed.FeedModel("openai", "gpt-4o", 128_000, prices)
    differences = check.compare(replace(catalog, models=(ours,)), lambda provider, model: theirs)
    assert differences == [
        check.Difference("openai/gpt-4o", "price.cache_read", "1.25", None),
        check.Difference("openai/gpt-4o", "price.input", "2.5", "3"),
    ]


def test_the_feed_does_not_know_what_it_does_not_know() -> None:
    assert feed.lookup("openai", "no-such-model") is None
    assert feed.lookup("nobody", "gpt-4o") is None


def test_the_feed_gives_the_price_of_the_day() -> None:
    before, after = (feed.lookup("openai", "o3", on=day) for day in (date(2025, 6, 9), date(2025, 6, 10)))
    assert before is not None
    assert after is not None
    assert feed.FeedPrice("input", Decimal(10)) in before.prices
    assert feed.FeedPrice("input", Decimal(2)) in after.prices


def test_a_price_that_depends_on_the_hour_is_given_at_its_dearest() -> None:
    model = feed.lookup("deepseek", "deepseek-v4-pro", on=date(2026, 11, 22))
    assert model is not None
    assert feed.FeedPrice("input", Decimal("1.32")) in model.prices


def test_reading_the_catalog_loads_neither_the_feed_nor_django() -> None:
    heavy = "any(name in sys.modules for name in ('genai_prices', 'django'))"
    program = f"import sys; from llm.catalog import check, feed, shipped; shipped.load(); sys.exit({heavy})"
    assert subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False).returncode == 0


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('usd_per_1m = "0.25"', "usd_per_1m = 0.25", "models[echo].prices[0].usd_per_1m must be str, not float"),
        ('usd_per_1m = "0.25"', 'usd_per_1m = "cheap"', "prices[0].usd_per_1m is 'cheap', not a decimal"),
        ('usd_per_1m = "0.25"', 'usd_per_1m = "-1"', "prices[0].usd_per_1m is '-1', not an amount of zero or more"),
        ('usd_per_1m = "0.50"', 'usd_per_1m = "9.00"', "models[echo].power_level eco takes at most 0.50 USD per 1M"),
        ('meter = "output"', 'meter = "input"', "models[echo].prices has two prices for one meter and tier"),
        ('meter = "output"', 'meter = "cache_read"', "models[echo].prices lacks a base price for output"),
        ("context_window = 128000", "context_window = true", "models[echo].context_window must be a whole number"),
        ("context_window = 128000", "contxt_window = 128000", "models[echo].context_window is missing"),
        ("is_deprecated = false", "is_deprecated = false\ncolour = 1", "models[echo].colour is not a known field"),
        ('family = "', 'replacement_model = "openai/none"\nfamily = "', "echo.replacement_model 'openai/none' is not"),
        ('dialect = "sandbox"', 'dialect = "klingon"', "provider.dialect is 'klingon', not one of openai"),
        ('slug = "sandbox"', 'slug = "sandpit"', "provider.slug must be the name of the file"),
        ("api_key_format = ''", "api_key_format = '('", "provider.api_key_format is not a regular expression"),
        ("[provider]", "[provider", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_field(edit: Edit, old: str, new: str, complaint: str) -> None:
    with pytest.raises(CatalogError) as refusal:
        shipped.load(edit("sandbox.toml", old, new))
    assert str(refusal.value).startswith("sandbox.toml: ")
    assert complaint in str(refusal.value)


def test_a_folder_without_the_known_differences_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"differences\.toml: is missing"):
        shipped.load(tmp_path)


def test_a_known_difference_needs_a_reason(edit: Edit) -> None:
    reason = "The built-in provider exists nowhere else; its price is ours."
    folder = edit("differences.toml", reason, "")
    with pytest.raises(CatalogError, match=r"differences\.toml: differences\[0\]\.reason must not be empty"):
        shipped.load(folder)


def test_every_shipped_model_of_a_built_dialect_has_an_adapter_for_its_kind(catalog: shipped.Catalog) -> None:
    dialects = {provider.slug: provider.dialect for provider in catalog.providers}
    kinds = {(dialects[model.provider], model.kind) for model in catalog.models if dialects[model.provider] in DIALECTS}
    assert {("cohere", "chat"), ("cohere", "embedding"), ("openai", "embedding")} < kinds <= BUILT
    for dialect, kind in BUILT:
        assert registry.adapter(dialect, kind)
