"""`catalog load`: all of it once, nothing the second time, and never over what staff changed."""

import dataclasses
import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command

from llm.catalog import loader, prices, shipped
from llm.models import LLMModel, LLMProvider, LLMRoutingRule, PowerLevelPolicy, PriceVersion
from tenants.models import AuditEvent
from tests import cast

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=9)


def provider(**changes: object) -> shipped.ShippedProvider:
    facts = dict(  # noqa: C408  # reads like the dataclass
        slug="openai", name="OpenAI", display_name="OpenAI", description="", base_url="https://api.openai.com/v1",
        dialect="openai", auth_type="api_key", env_keys=("OPENAI_API_KEY",), supports_streaming=True,
        supports_function_calling=True, supports_vision=True, is_active=True, is_byok_supported=True,
        is_system_provider=True, api_key_format="", documentation_url="", pricing_url="", status_page_url="",
        min_tier_required="free", quirks={},
    )  # fmt: skip
    return shipped.ShippedProvider(**facts | changes)  # type: ignore[arg-type]


def model(model_id: str = "gpt-4o", **changes: object) -> shipped.ShippedModel:
    facts = dict(  # noqa: C408  # reads like the dataclass
        provider="openai", model_id=model_id, name=model_id, display_name=model_id, description="", kind="chat",
        family=model_id, context_window=128_000, max_output_tokens=16_384, supports_streaming=True,
        supports_function_calling=True, supports_vision=True, supports_json_mode=True, is_reasoning=False,
        speed_tier="fast", quality_tier="good", size_category="large", power_level="balanced",
        power_level_priority=10, min_tier_required="free", is_deprecated=False, deprecation_date=None,
        replacement_model=None, quirks={},
        prices=(shipped.ShippedPrice("input", Decimal("2.5")), shipped.ShippedPrice("output", Decimal(10))),
    )  # fmt: skip
    return shipped.ShippedModel(**facts | changes)  # type: ignore[arg-type]


def catalog(*models: shipped.ShippedModel, **changes: object) -> shipped.Catalog:
    return shipped.Catalog((provider(**changes),), models or (model(),), (), date(2026, 11, 22))


def load(wanted: shipped.Catalog, now: datetime = NOW) -> dict[str, int]:
    return {what: count for what, count in loader.load_catalog(now=now, catalog=wanted).counts.items() if count}


def test_the_shipped_catalog_loads_whole_and_a_second_load_changes_nothing(db: None) -> None:
    first = loader.load_catalog(now=NOW)
    assert first.counts["providers created"] == LLMProvider.objects.count() >= 25
    assert LLMModel.objects.filter(kind="chat").count() >= 150
    assert LLMModel.objects.filter(kind="embedding").count() >= 10
    assert PriceVersion.objects.count() == LLMModel.objects.count()
    assert LLMRoutingRule.objects.filter(shipped=True).count() == first.counts["rules created"] > 0
    assert PowerLevelPolicy.objects.get(pk="eco").max_price_per_1m_usd == Decimal("0.5")
    assert LLMModel.objects.get(provider__slug="openai", model_id="gpt-4o").current_price is not None
    events = AuditEvent.objects.count()
    assert loader.load_catalog(now=LATER).changed == 0
    assert AuditEvent.objects.count() == events == first.changed


def test_a_second_load_takes_a_handful_of_queries(db: None, django_assert_max_num_queries: object) -> None:
    wanted = shipped.load()
    loader.load_catalog(now=NOW, catalog=wanted)
    with django_assert_max_num_queries(20):  # type: ignore[operator]
        loader.load_catalog(now=LATER, catalog=wanted)


def test_what_staff_changed_stays_and_the_rest_follows_the_catalog(db: None) -> None:
    load(catalog())
    LLMModel.objects.update(display_name="Our favourite")
    LLMProvider.objects.update(is_active=False)
    wanted = catalog(model(display_name="GPT-4 omni", context_window=256_000), is_active=True, description="New.")
    assert load(wanted, LATER) == {"providers updated": 1, "models updated": 1}
    row = LLMModel.objects.get()
    assert (row.display_name, row.context_window) == ("Our favourite", 256_000)
    assert (LLMProvider.objects.get().is_active, LLMProvider.objects.get().description) == (False, "New.")
    assert load(wanted, LATER) == {}


def test_a_row_that_staff_made_themselves_is_theirs(db: None) -> None:
    ours = cast.make_provider("openai", base_url="http://proxy/v1")
    cast.make_model(ours, "gpt-4o", input="1", output="2", context_window=1000)
    assert load(catalog()) == {"power levels created": 3}
    assert (LLMProvider.objects.get().base_url, LLMModel.objects.get().context_window) == ("http://proxy/v1", 1000)
    assert PriceVersion.objects.get().base_price("input") == 1


def test_a_renamed_row_is_still_the_same_row(db: None) -> None:
    load(catalog())
    LLMProvider.objects.update(slug="openai-eu")
    LLMModel.objects.update(model_id="gpt-4o-2024")
    assert load(catalog(), LATER) == {}
    assert (LLMProvider.objects.count(), LLMModel.objects.count()) == (1, 1)


def test_a_shipped_price_that_changed_is_a_new_version_from_then_on(db: None) -> None:
    load(catalog())
    dearer = (shipped.ShippedPrice("input", Decimal(20)), shipped.ShippedPrice("output", Decimal(80)))
    assert load(catalog(model(prices=dearer)), LATER) == {"prices created": 1}
    row = LLMModel.objects.get()
    before, after = prices.version_at(row, LATER - timedelta(seconds=1)), prices.version_at(row, LATER)
    assert before is not None
    assert after is not None
    assert (before.base_price("input"), after.base_price("input")) == (Decimal("2.5"), Decimal(20))
    assert (after.number, after.source, after.author) == (2, "catalog", "catalog load")


def test_a_price_that_staff_set_is_never_touched(db: None) -> None:
    load(catalog())
    cast.make_price(LLMModel.objects.get(), since=NOW + timedelta(days=1), input="3", output="9")
    cheaper = (shipped.ShippedPrice("input", Decimal(1)), shipped.ShippedPrice("output", Decimal(4)))
    assert load(catalog(model(prices=cheaper)), LATER) == {}
    assert PriceVersion.objects.count() == 2


def test_rules_come_with_new_models_only_so_a_deleted_rule_stays_deleted(db: None) -> None:
    assert load(catalog())["rules created"] == 4  # one for each tier
    LLMRoutingRule.objects.all().delete()
    assert load(catalog(), LATER) == {}
    assert load(catalog(model(), model("gpt-5")), LATER)["rules created"] == 4
    assert {rule.model.model_id for rule in LLMRoutingRule.objects.all()} == {"gpt-5"}


def rule_for_all(**changes: object) -> LLMRoutingRule:
    """As an earlier version shipped it: one rule for every tier."""
    LLMRoutingRule.objects.all().delete()
    row = LLMModel.objects.get()
    return LLMRoutingRule.objects.create(
        **{"model": row, "power_level": "balanced", "task_type": "general", "shipped": True} | changes
    )


def test_a_shipped_rule_for_all_tiers_gives_way_to_one_for_each(db: None) -> None:
    load(catalog())
    old = rule_for_all()
    assert load(catalog(), LATER) == {"rules created": 4, "rules retired": 1}
    rules = LLMRoutingRule.objects.all()
    assert {(rule.user_tier, rule.power_level, rule.priority, rule.shipped) for rule in rules} == {
        (tier, "balanced", 100, True) for tier in shipped.TIERS
    }
    event = AuditEvent.objects.get(object_id=str(old.pk))
    assert (event.action, event.before["user_tier"], event.actor_label) == ("delete", "all", "catalog load")
    assert load(catalog(), LATER) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"priority": 1},
        {"weight": 5},
        {"task_type": "code"},
        {"task_type": None},
        {"min_tokens": 0},
        {"max_tokens": 9000},
        {"requires_byok": True},
        {"is_fallback": True},
        {"is_active": False},
        {"shipped": False},
        {"power_level": "eco"},
    ],
    ids=str,
)
def test_a_rule_for_all_tiers_that_staff_changed_or_made_stays_the_only_one(
    db: None, change: dict[str, object]
) -> None:
    load(catalog())
    kept = rule_for_all(**change)
    assert load(catalog(), LATER) == {}
    assert LLMRoutingRule.objects.get() == kept


def test_power_levels_that_staff_edited_stay(db: None) -> None:
    load(catalog())
    PowerLevelPolicy.objects.filter(pk="eco").update(max_latency_ms=1)
    load(catalog(), LATER)
    assert PowerLevelPolicy.objects.get(pk="eco").max_latency_ms == 1


def test_a_replacement_is_linked_and_follows_the_catalog_unless_staff_chose_another(db: None) -> None:
    gone = model("gpt-4", is_deprecated=True, deprecation_date=date(2026, 1, 1), replacement_model="openai/gpt-4o")
    load(catalog(gone, model("gpt-4o"), model("gpt-5")))
    row = LLMModel.objects.get(model_id="gpt-4")
    assert (str(row.replacement_model), row.deprecation_date) == ("openai/gpt-4o", date(2026, 1, 1))
    newer = dataclasses.replace(gone, replacement_model="openai/gpt-5")
    load(catalog(newer, model("gpt-4o"), model("gpt-5")), LATER)
    row.refresh_from_db()
    assert str(row.replacement_model) == "openai/gpt-5"
    LLMModel.objects.filter(pk=row.pk).update(replacement_model=None)
    assert load(catalog(gone, model("gpt-4o"), model("gpt-5")), LATER) == {}
    row.refresh_from_db()
    assert row.replacement_model is None


def test_the_command_says_what_it_did(db: None) -> None:
    said = io.StringIO()
    call_command("catalog", "load", stdout=said)
    call_command("catalog", "load", stdout=said)
    first, second = said.getvalue().splitlines()
    assert "providers created" in first
    assert second == "Catalog: up to date, nothing changed."


def test_the_shipped_catalog_agrees_with_the_price_feed_or_says_why_not() -> None:
    said = io.StringIO()
    call_command("catalog", "check", stdout=said)
    assert "0 not explained" in said.getvalue()
