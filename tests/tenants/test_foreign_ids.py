"""No id, name, filter, ordering, cursor or nested object reaches another tenant's row, and tenants write no limits."""

import json
import uuid
from typing import Any

import pytest
from django.db.models import Model

from billing.models import UsageRecord
from llm.models import LLMConfig, LLMModel, PriceComponent, PriceVersion, ProviderCredential
from tenants.ids import uuid7
from tenants.models import ApiKey, Tenant
from tests.tenants.crowd import Door

MISSING = str(uuid.UUID(int=7))


def everything(*models: type[Model]) -> str:
    """All rows of these tables, but for when a key was last used."""
    rows = [list(model._default_manager.order_by("pk").values()) for model in models]
    for row in (row for table in rows for row in table):
        row.pop("last_used_at", None)
    return str(rows)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("llm/usage", "key={globex.key.pk}"),
        ("llm/usage", "config={globex.config.pk}"),
        ("llm/configs", "name={globex.config.name}"),
        ("llm/configs", "search={globex.config.name}"),
        ("llm/configs", "search=canary-globex"),
        ("llm/requests/{globex.refusal.pk}", ""),
        ("llm/requests/{globex.usage.pk}", ""),
        ("llm/configs/{globex.config.pk}", ""),
        ("alerts/subscriptions/{globex.subscription.pk}", ""),
        ("alerts/subscriptions", "search=canary-globex"),
    ],
)
def test_anothers_id_or_name_answers_word_for_word_like_one_that_does_not_exist(
    door: Door, path: str, query: str
) -> None:
    missing = MISSING if "pk" in path + query else "nothing-is-called-this"
    found = door.ask("GET", f"api/v1/{path}?{query}".format(globex=door.crowd.globex), "tenant A")
    placeholder = [part for part in (path + query).replace("}", "{").split("{") if part.startswith("globex")]
    blank = f"api/v1/{path}?{query}"
    for name in placeholder:
        blank = blank.replace(f"{{{name}}}", missing)
    absent = door.ask("GET", blank.replace("canary-globex", missing), "tenant A")
    assert (found.status_code, found.content) == (absent.status_code, absent.content)
    assert "globex" not in found.content.decode()


@pytest.mark.parametrize(
    "name", ["tenant", "tenant_id", "tenant__slug", "tenant__id", "user", "key__tenant", "id", "pk"]
)
def test_a_filter_that_a_list_does_not_have_changes_nothing(door: Door, name: str) -> None:
    lists = ("llm/configs", "llm/usage", "llm/usage/summary", "llm/models", "llm/providers", "alerts")
    for path in (*lists, "alerts/subscriptions"):
        plain = door.ask("GET", f"api/v1/{path}", "tenant A")
        asked = door.ask("GET", f"api/v1/{path}?{name}={door.crowd.globex.tenant.pk}", "tenant A")
        assert (asked.status_code, asked.content) == (200, plain.content)


@pytest.mark.parametrize(
    "field",
    [
        "tenant__name", "-tenant__slug", "credential__sealed", "primary_model__provider__credentials__sealed",
        "tenant__keys__digest", "budget_limit_daily", "id;drop table", "?",
    ],
)  # fmt: skip
def test_ordering_by_anything_but_what_is_offered_changes_nothing(door: Door, field: str) -> None:
    for name in ("b", "a", "c"):
        LLMConfig.objects.create(tenant=door.crowd.acme.tenant, name=name)
    for path in ("llm/configs", "llm/models", "llm/providers", "llm/usage"):
        plain = door.ask("GET", f"api/v1/{path}", "tenant A")
        assert door.ask("GET", f"api/v1/{path}?ordering={field}", "tenant A").content == plain.content


def test_a_cursor_from_anothers_list_shows_only_ones_own_rows(door: Door) -> None:
    for house in (door.crowd.acme, door.crowd.globex):
        UsageRecord.objects.create(
            id=uuid7(), tenant_id=house.tenant.pk, status="completed", status_code=200,
            billing_day=house.usage.billing_day, created_at=house.usage.created_at,
        )  # fmt: skip
    theirs = door.ask("GET", "api/v1/llm/usage?page_size=1", "tenant B").json()["next"]
    mine = door.ask("GET", theirs.removeprefix("http://testserver/"), "tenant A")
    assert mine.status_code == 200
    assert {row["tenant_id"] for row in mine.json()["results"]} <= {str(door.crowd.acme.tenant.pk)}
    assert str(door.crowd.globex.tenant.pk) not in mine.content.decode()


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tenant", "{globex.tenant.pk}"),
        ("tenant", "globex"),
        ("tenant_id", "{globex.tenant.pk}"),
        ("id", "{globex.config.pk}"),
        ("credential", "{globex.credential.pk}"),
        ("credential_id", "{globex.credential.pk}"),
        ("key", "{globex.key.pk}"),
        ("primary_model", "{globex.credential.pk}"),
        ("primary_model", "off/hidden"),
        ("fallback_model", "off/hidden"),
        ("routing_rules", {"code": {"model_id": "off/hidden"}}),
    ],
)
def test_a_config_takes_no_row_of_another_and_the_refusal_is_that_of_a_missing_one(
    door: Door, method: str, field: str, value: Any
) -> None:
    crowd = door.crowd
    before = everything(LLMConfig, ProviderCredential, Tenant, ApiKey)
    path = "api/v1/llm/configs" if method == "POST" else f"api/v1/llm/configs/{crowd.acme.config.pk}"
    filled = value.format(globex=crowd.globex) if isinstance(value, str) else value
    absent = {"code": {"model_id": MISSING}} if isinstance(value, dict) else MISSING
    found = door.ask(method, path, "tenant A", {"name": "mine", field: filled}, keep=True)
    missing = door.ask(method, path, "tenant A", {"name": "mine", field: absent}, keep=True)
    assert (found.status_code, found.content) == (missing.status_code, missing.content)
    assert found.status_code == 400
    assert found.json()["error"]["param"] == field
    assert everything(LLMConfig, ProviderCredential, Tenant, ApiKey) == before


@pytest.mark.parametrize(
    "field",
    [
        "tier", "markup_percent", "byok_fee_percent", "is_active", "sandbox_enabled", "rate_limit_rpm",
        "rate_limit_tpm", "max_concurrency", "scopes", "min_tier_required", "cost_per_1m_input_tokens", "price_version",
        "tenant.tier", "credential",
    ],
)  # fmt: skip
def test_no_body_of_a_tenant_writes_a_tier_a_price_or_a_limit_of_its_key(door: Door, field: str) -> None:
    tables = (Tenant, ApiKey, PriceVersion, PriceComponent, LLMModel, LLMConfig)
    before = everything(*tables)
    for method, path in (("POST", "llm/configs"), ("PATCH", f"llm/configs/{door.crowd.acme.config.pk}")):
        answer = door.ask(method, f"api/v1/{path}", "tenant A", {"name": "mine", field: "enterprise"}, keep=True)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    answer = door.ask("POST", "api/v1/llm/routing/explain", "tenant A", {field: "enterprise"}, keep=True)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    assert everything(*tables) == before


def test_a_config_of_another_tenant_cannot_be_named_in_explain(door: Door) -> None:
    theirs, nobodys = door.crowd.globex.config.name, "canary-gl0bex-llmconfig-name"
    for body in ({"config": "{}"}, {"model": "config/{}"}):
        answers = []
        for name in (theirs, nobodys):
            asked = json.loads(json.dumps(body).replace("{}", name))
            answer = door.ask("POST", "api/v1/llm/routing/explain", "tenant A", asked)
            answers.append((answer.status_code, answer.content.decode().replace(name, "NAME")))
        assert answers[0] == answers[1]
        assert answers[0][0] in {400, 404}


def test_two_tenants_configs_of_one_name_do_not_touch_each_other(door: Door) -> None:
    body = {"name": "same", "primary_model": "openai/gpt-4o", "api_key": "sk-own-0123456789abcdef"}
    made = [door.ask("POST", "api/v1/llm/configs", who, body, keep=True) for who in ("tenant A", "tenant B")]
    assert [answer.status_code for answer in made] == [201, 201]
    gone = door.ask("DELETE", f"api/v1/llm/configs/{made[0].json()['id']}", "tenant A", keep=True)
    assert gone.status_code == 204
    left = LLMConfig.objects.get(name="same")
    assert (left.tenant, left.credential.tenant) == (door.crowd.globex.tenant, door.crowd.globex.tenant)
