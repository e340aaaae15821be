"""The guide's queries about the catalog, unchanged, on what ships; and its view of tenants' own keys."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from llm.catalog import loader
from llm.models import LLMModel, LLMRoutingRule
from tests import cast
from tests.guide.sql import ask
from tests.guide.text import queries

BALANCED, _, _, RULES, ACTIVE_RULES, ACTIVE_MODELS, OWN_KEYS, _ = queries()
SECRET = "sk-own-0123456789abcdef"


@pytest.fixture
def shipped(db):
    loader.load_catalog(now=datetime(2026, 11, 22, tzinfo=UTC))


def test_the_balanced_models_in_the_order_they_are_tried(shipped):
    rows = ask(BALANCED)
    assert {"model_name": "GPT-4o", "power_level": "balanced", "provider_name": "OpenAI"} in rows
    places = dict(LLMModel.objects.values_list("name", "power_level_priority"))
    assert len(rows) == LLMModel.objects.filter(power_level="balanced", is_active=True).count() > 20
    assert rows[0]["model_name"] in {name for name, place in places.items() if place == min(places.values())}


def test_the_rules_of_a_tier_at_every_power_level_with_what_ships(shipped):
    rows = ask(RULES)
    assert {(row["user_tier"], row["task_type"]) for row in rows} == {("professional", "general")}
    levels = [row["power_level"] for row in rows]
    assert levels == sorted(levels)
    assert set(levels) == {"eco", "balanced", "precision"}
    assert {
        "power_level": "eco",
        "user_tier": "professional",
        "task_type": "general",
        "priority": 100,
        "model_name": "GPT-4o mini",
        "provider_name": "OpenAI",
    } in rows


def test_a_rule_that_staff_switched_off_is_in_neither_list(shipped):
    rules = LLMRoutingRule.objects.filter(model__model_id="gpt-4o-mini", model__provider__slug="openai")
    assert rules.update(is_active=False) == 4
    assert "GPT-4o mini" not in {row["model_name"] for row in ask(RULES) if row["provider_name"] == "OpenAI"}
    assert len(ask(ACTIVE_RULES)) == LLMRoutingRule.objects.count() - 4


def test_rules_have_the_guides_columns(shipped):
    assert {
        "model_id", "power_level", "user_tier", "task_type", "priority", "weight", "min_tokens", "max_tokens",
        "requires_byok", "is_fallback", "is_active",
    } <= ask(ACTIVE_RULES)[0].keys()  # fmt: skip


def test_the_active_models(shipped):
    LLMModel.objects.filter(model_id="gpt-4o", provider__slug="openai").update(is_active=False)
    rows = ask(ACTIVE_MODELS)
    assert len(rows) == LLMModel.objects.count() - 1 > 300
    assert {"id", "provider_id", "model_id", "model_name", "power_level", "context_window"} <= rows[0].keys()


def test_a_members_own_keys_that_work_without_anything_of_the_secret(db):
    acme, openai = cast.make_tenant(), cast.make_provider("openai", name="OpenAI")
    ada = cast.make_member(acme)
    key = cast.make_credential(openai, SECRET, tenant=acme, user=ada, key_name="ours")
    cast.make_credential(openai, SECRET, tenant=acme, user=ada, is_validated=False)
    cast.make_credential(openai, SECRET, tenant=acme)
    cast.make_credential(openai, SECRET, user=ada)  # the platform's
    assert ask(OWN_KEYS) == []
    (row,) = ask(OWN_KEYS.replace("user-uuid", str(ada.pk)))
    assert {name: row[name] for name in ("user_id", "provider_name", "key_name", "key_prefix", "key_suffix")} == {
        "user_id": str(ada.pk),
        "provider_name": "OpenAI",
        "key_name": "ours",
        "key_prefix": key.prefix,
        "key_suffix": "cdef",
    }
    assert list(row) == [
        "id", "user_id", "tenant_id", "provider_id", "provider_name", "key_name", "key_prefix", "key_suffix",
        "is_active", "is_validated", "validation_error", "last_validated_at", "last_used_at", "created_at",
    ]  # fmt: skip
    shown = {str(value) for row in ask("SELECT * FROM user_api_keys") for value in row.values()}
    assert not shown & {SECRET, key.fingerprint, str(bytes(key.sealed))}
    assert len(ask("SELECT * FROM user_api_keys")) == 3  # a tenant's, whoever owns them; never the platform's


def test_the_view_can_be_taken_away_and_made_again(transactional_db):
    migration = MigrationLoader(connection).get_migration("llm", "0003_user_api_keys")
    (operation,) = migration.operations
    for step, there in ((operation.database_backwards, False), (operation.database_forwards, True)):
        with connection.schema_editor() as editor:
            step("llm", editor, None, None)
        with connection.cursor() as cursor:
            views = {table.name for table in connection.introspection.get_table_list(cursor) if table.type == "v"}
        assert ("user_api_keys" in views) == there
