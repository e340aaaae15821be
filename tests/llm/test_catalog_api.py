"""What tenants see of the catalog, and their configs: lists, filters, own keys, one default, nobody else's rows."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from llm.models import LLMConfig, ProviderCredential
from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.admin.rows import window
from tests.conftest import Api
from tests.fakes import FakeProvider


@pytest.fixture
def catalog(db: None) -> None:
    openai = cast.make_provider("openai", base_url="http://10.1.2.3/v1", rate_limit_rpm=77)
    claude = cast.make_provider("anthropic", dialect="anthropic", name="Anthropic PBC", display_name="Claude")
    cast.make_model(openai, "gpt-4o", power_level="balanced", context_window=128_000)
    cast.make_model(openai, "gpt-4o-mini", input="0.15", output="0.60", power_level="eco", context_window=64_000)
    cast.make_model(openai, "gone", is_active=False)
    cast.make_model(claude, "claude-sonnet-4", input="3", output="15", power_level="precision")
    cast.make_model(cast.make_provider("off", is_active=False), "hidden")


def test_tenants_see_active_providers_without_their_address_or_limits(catalog: None, tenant: Api) -> None:
    status, page = tenant.get("llm/providers")
    assert (status, page["count"], [row["slug"] for row in page["results"]]) == (200, 2, ["anthropic", "openai"])
    openai = page["results"][1]
    assert (openai["model_count"], openai["supported_features"]["vision"]) == (2, True)
    assert not {"base_url", "rate_limit_rpm", "quirks", "env_keys", "platform_key"} & openai.keys()
    assert "10.1.2.3" not in str(page)
    assert tenant.get("llm/providers/openai")[1] == openai
    assert tenant.get("llm/providers/off")[0] == 404


def test_tenants_see_active_models_with_prices_and_not_who_set_them(catalog: None, tenant: Api) -> None:
    status, page = tenant.get("llm/models/?page_size=1000")
    assert (status, page["count"]) == (200, 3)
    assert [row["reference"] for row in page["results"]] == [
        "anthropic/claude-sonnet-4",
        "openai/gpt-4o",
        "openai/gpt-4o-mini",
    ]
    sonnet = page["results"][0]
    assert (sonnet["input_cost_per_1k"], sonnet["output_cost_per_1k"]) == ("0.003", "0.015")
    assert sonnet["price_version"].keys() == {"id", "number", "effective_from", "effective_to", "components"}
    assert tenant.get("llm/models/anthropic/claude-sonnet-4")[1] == sonnet
    assert tenant.get("llm/models/openai/gone")[0] == tenant.get("llm/models/off/hidden")[0] == 404


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("provider_name=openai", ["gpt-4o", "gpt-4o-mini"]),
        ("provider_name=Anthropic%20PBC", ["claude-sonnet-4"]),
        ("provider_name=Claude", ["claude-sonnet-4"]),
        ("provider=openai&power_level=eco", ["gpt-4o-mini"]),
        ("search=sonnet", ["claude-sonnet-4"]),
        ("min_context_window=128000&provider=openai", ["gpt-4o"]),
        ("ordering=-model_id", ["gpt-4o-mini", "gpt-4o", "claude-sonnet-4"]),
        ("provider_name=nobody", []),
        ("page_size=1&page=2", ["gpt-4o"]),
        ("ordering=provider__credentials__sealed", ["claude-sonnet-4", "gpt-4o", "gpt-4o-mini"]),
    ],
)
def test_models_are_filtered_searched_and_ordered(catalog: None, tenant: Api, query: str, found: list[str]) -> None:
    status, page = tenant.get(f"llm/models?{query}")
    assert (status, [row["model_id"] for row in page["results"]]) == (200, found)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("power_level=turbo", 400),
        ("is_active=maybe", 200),
        ("provider=%00", 400),
        ("search=%00", 400),
        ("min_context_window=NaN", 400),
        ("min_context_window=1e400", 400),
        ("page=0", 404),
        ("page=99999999999999999999999", 404),
        ("page=x", 404),
        ("page_size=-1", 200),
        ("ordering=%00", 200),
        ("model_id=%F0%9F", 200),
    ],
)
def test_bad_queries_never_break_a_list(catalog: None, tenant: Api, query: str, expected: int) -> None:
    assert tenant.get(f"llm/models?{query}")[0] == expected


def test_a_list_of_models_takes_the_same_few_queries_however_long(
    catalog: None, tenant: Api, django_assert_max_num_queries: Any
) -> None:
    tenant.get("llm/models")
    with django_assert_max_num_queries(4):  # count, models, prices, components
        assert tenant.get("llm/models")[1]["count"] == 3


def test_a_key_without_scopes_for_it_reads_the_catalog_but_no_configs(catalog: None, acme: Tenant) -> None:
    plain = Api(cast.make_key(acme, scopes=None)[1])
    assert plain.get("llm/providers")[0] == plain.get("llm/models")[0] == 200
    status, answer = plain.get("llm/configs")
    assert (status, answer["error"]["code"]) == (403, "insufficient_scope")


def test_a_config_is_made_with_defaults_and_references(catalog: None, tenant: Api, acme: Tenant) -> None:
    body = {
        "name": "main",
        "primary_model": "openai/gpt-4o",
        "fallback_model": "anthropic/claude-sonnet-4",
        "routing_rules": {"code": {"model_id": "anthropic/claude-sonnet-4"}},
    }
    status, made = tenant.post("llm/configs", body)
    assert (status, made["primary_model"], made["fallback_model"]) == (
        201,
        "openai/gpt-4o",
        "anthropic/claude-sonnet-4",
    )
    assert (made["temperature"], made["max_tokens"], made["use_platform_key"]) == (0.7, 4096, True)
    assert (made["budget_limit_daily"], made["allowed_models"], made["credential"]) == (None, None, None)
    assert "api_key" not in made
    assert tenant.get("llm/configs")[1]["results"] == [made]
    assert tenant.get(f"llm/configs/{made['id']}/")[1] == made
    event = AuditEvent.objects.get(action="create")
    assert (event.tenant_id, event.actor_label) == (acme.pk, "acme (test)")


def test_each_config_says_what_its_budgets_have_left_and_come_to(
    tenant: Api, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)  # 01:00 on the 22nd in Auckland: hour 1 of the day, 505 of the month
    monkeypatch.setattr(timezone, "now", lambda: now)
    Tenant.objects.update(timezone="Pacific/Auckland")
    tight = cast.make_config(acme, "a", budget_limit_daily=Decimal(3), budget_limit_monthly=Decimal(60))
    cast.make_config(acme, "b")
    window("config", tight.pk, "day", "2026-11-22", "0.5", held="0.25")
    window("config", tight.pk, "month", "2026-11-01", "50.5", held="0.25")
    status, page = tenant.get("llm/configs?ordering=name")
    assert (status, page["results"][0]["limits"]) == (200, [
        {"scope": "config", "period": "day", "limit": "3", "spent": "0.5", "held": "0.25", "left": "2.25",
         "resets_at": "2026-11-22T11:00:00Z", "expected": "12", "runs_out_at": "2026-11-21T17:00:00Z"},
        {"scope": "config", "period": "month", "limit": "60", "spent": "50.5", "held": "0.25", "left": "9.25",
         "resets_at": "2026-11-30T11:00:00Z", "expected": "72", "runs_out_at": "2026-11-25T11:00:00Z"},
    ])  # fmt: skip
    unlimited = page["results"][1]["limits"]
    assert [(one["limit"], one["spent"], one["left"], one["runs_out_at"]) for one in unlimited] == [
        (None, "0", None, None)
    ] * 2
    assert tenant.get(f"llm/configs/{tight.pk}")[1] == page["results"][0]
    changed = tenant.patch(f"llm/configs/{tight.pk}", {"budget_limit_daily": "9"})[1]["limits"][0]
    assert (changed["limit"], changed["left"], changed["runs_out_at"]) == ("9", "8.25", "2026-11-22T05:00:00Z")


def test_a_config_that_was_read_can_be_sent_back_though_its_budgets_went_on(tenant: Api, acme: Tenant) -> None:
    config = cast.make_config(acme, budget_limit_monthly=Decimal(60))
    read = tenant.get(f"llm/configs/{config.pk}")[1]
    today = timezone.now().date()
    window("config", config.pk, "month", today.replace(day=1), "1.5")
    status, changed = tenant.put(f"llm/configs/{config.pk}", read | {"temperature": 0.5})
    assert (status, changed["temperature"], changed["limits"][1]["spent"]) == (200, 0.5, "1.5")
    status, refused = tenant.put(f"llm/configs/{config.pk}", read | {"created_at": "2020-01-01T00:00:00Z"})
    assert (status, refused["error"]["param"]) == (400, "created_at")


def test_the_budgets_of_many_configs_are_looked_up_at_once(tenant: Api, acme: Tenant) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert tenant.get("llm/configs")[0] == 200
        return len(seen)

    cast.make_config(acme, "first")
    queries()  # the key's last use is noted
    with_one = queries()
    for number in range(5):
        cast.make_config(acme, f"config {number}", budget_limit_daily=Decimal(1))
    assert queries() == with_one


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"primary_model": "openai/gone"}, "primary_model"),
        ({"primary_model": "off/hidden"}, "primary_model"),
        ({"primary_model": []}, "primary_model"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "NaN"}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"budget_limit_daily": "-0.01"}, "budget_limit_daily"),
        ({"budget_limit_daily": "999999999999"}, "budget_limit_daily"),
        ({"allowed_models": "openai/*"}, "allowed_models"),
        ({"allowed_models": [1]}, "allowed_models.0"),
        ({"routing_rules": {"cooking": {"model_id": "openai/gpt-4o"}}}, "routing_rules"),
        ({"routing_rules": {"code": {"model_id": "openai/gone"}}}, "routing_rules"),
        ({"routing_rules": {"code": "openai/gpt-4o"}}, "routing_rules"),
        ({"routing_rules": []}, "routing_rules"),
        ({"tenant": "globex"}, "tenant"),
        ({"tier": "enterprise"}, "tier"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"api_key": 5}, "api_key"),
        ({"api_key": "sk-without-a-primary-model", "primary_model": None}, "api_key"),
        ({"api_key": "two words"}, "api_key"),
    ],
)
def test_a_wrong_config_is_a_400_that_names_the_field_and_nothing_is_made(
    catalog: None, tenant: Api, change: dict[str, Any], param: str
) -> None:
    status, answer = tenant.post("llm/configs", {"name": "main", "primary_model": "openai/gpt-4o"} | change)
    assert (status, answer["error"]["param"]) == (400, param)
    assert LLMConfig.objects.count() == ProviderCredential.objects.count() == AuditEvent.objects.count() == 0


def test_two_configs_of_one_name_are_a_409_but_two_tenants_may_share_one(
    catalog: None, tenant: Api, stranger: Api
) -> None:
    assert tenant.post("llm/configs", {"name": "main"})[0] == 201
    assert tenant.post("llm/configs", {"name": "main"})[0] == 409
    assert stranger.post("llm/configs", {"name": "main"})[0] == 201
    assert LLMConfig.objects.count() == 2


def test_there_is_one_default_config_at_a_time(catalog: None, tenant: Api, acme: Tenant) -> None:
    _, first = tenant.post("llm/configs", {"name": "first", "is_tenant_default": True})
    _, second = tenant.post("llm/configs", {"name": "second", "is_tenant_default": True})
    assert tenant.get("llm/configs?is_tenant_default=true")[1]["results"] == [second]
    tenant.patch(f"llm/configs/{first['id']}", {"is_tenant_default": True})
    assert [row.name for row in LLMConfig.objects.filter(is_tenant_default=True)] == ["first"]
    assert AuditEvent.objects.filter(action="update").count() == 3


def test_another_tenants_config_reads_like_a_missing_one(catalog: None, tenant: Api, stranger: Api) -> None:
    _, made = tenant.post("llm/configs", {"name": "main"})
    missing = "00000000-0000-4000-8000-000000000000"
    for call in (
        lambda pk: stranger.get(f"llm/configs/{pk}"),
        lambda pk: stranger.patch(f"llm/configs/{pk}", {"name": "mine"}),
        lambda pk: stranger.put(f"llm/configs/{pk}", {"name": "mine"}),
        lambda pk: stranger.delete(f"llm/configs/{pk}"),
    ):
        assert call(made["id"]) == call(missing) == call("x")
        assert call(made["id"])[0] == 404
    assert stranger.get("llm/configs?search=main")[1]["count"] == 0
    assert LLMConfig.objects.get().name == "main"


def test_an_own_key_is_kept_encrypted_validated_replaced_and_forgotten(
    tenant: Api, acme: Tenant, fake: FakeProvider
) -> None:
    fake.expected_key = "sk-own-0123456789wxyz"
    cast.make_model(cast.make_provider("vendor", fake.base_url), "m")
    body = {"name": "main", "primary_model": "vendor/m", "use_platform_key": False, "api_key": fake.expected_key}
    status, made = tenant.post("llm/configs", body)
    assert (status, made["credential"]["key"], made["credential"]["is_validated"]) == (201, "sk-o…wxyz", True)
    credential = ProviderCredential.objects.get()
    assert (credential.tenant, credential.provider.slug) == (acme, "vendor")
    assert credential.open().reveal() == fake.expected_key
    path = f"llm/configs/{made['id']}"
    _, changed = tenant.patch(path, {"api_key": "sk-bad-0123456789wxyz"})
    assert (changed["credential"]["id"], changed["credential"]["is_validated"]) == (str(credential.pk), False)
    assert "own-0123" not in str(tenant.get("llm/configs")) + str(list(AuditEvent.objects.values()))
    assert tenant.patch(path, {"max_tokens": 5})[1]["credential"]["id"] == str(credential.pk)
    assert tenant.patch(path, {"api_key": None})[1]["credential"] is None
    assert ProviderCredential.objects.count() == 0
    tenant.patch(path, {"api_key": fake.expected_key})
    assert tenant.delete(path) == (204, None)
    assert ProviderCredential.objects.count() == LLMConfig.objects.count() == 0


def test_a_provider_that_takes_no_own_keys_refuses_one(tenant: Api, acme: Tenant) -> None:
    cast.make_model(cast.make_provider("vendor", is_byok_supported=False), "m")
    body = {"name": "main", "primary_model": "vendor/m", "api_key": "sk-own-0123456789"}
    status, answer = tenant.post("llm/configs", body)
    assert (status, answer["error"]["param"]) == (400, "api_key")
    assert LLMConfig.objects.count() == ProviderCredential.objects.count() == 0
