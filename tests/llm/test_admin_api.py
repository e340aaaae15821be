"""The catalog over the staff API: the guide's requests, lifecycle, prices, and what is refused."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from billing import rollup
from billing.models import UsageRecord
from llm.models import LLMModel, LLMProvider, PriceVersion, ProviderCredential, ProviderHealthCheck
from tenants.errors import Conflict
from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.billing.made import spend
from tests.conftest import Api
from tests.fakes import FakeProvider

GUIDE = {
    "provider_name": "Anthropic",
    "provider_slug": "anthropic",
    "display_name": "Anthropic",
    "base_url": "https://api.anthropic.com/v1",
    "auth_type": "api_key",
    "supports_streaming": True,
    "supports_function_calling": True,
    "is_byok_supported": True,
    "min_tier_required": "starter",
}
MODEL = {
    "provider": "openai",
    "model_id": "gpt-4o",
    "cost_per_1m_input_tokens": "2.50",
    "cost_per_1m_output_tokens": "10",
    "cost_per_1m_cached_tokens": "1.25",
}


def test_the_guides_provider_is_created_on_an_empty_catalog_and_found_by_its_number(staff: Api) -> None:
    status, made = staff.post("admin/llm/providers", GUIDE)
    assert status == 201
    assert (made["slug"], made["name"], made["dialect"]) == ("anthropic", "Anthropic", "anthropic")
    assert made["supported_features"] == {"streaming": True, "function_calling": True, "vision": False}
    assert (made["number"], made["model_count"], made["health_status"]) == (1, 0, "unknown")
    status, listed = staff.get("admin/llm/providers")
    assert (status, listed["count"], listed["next"], listed["results"]) == (200, 1, None, [made])
    status, health = staff.get("admin/llm/providers/1/health")
    assert (status, health["provider"], health["status"], health["checks"]) == (200, "anthropic", "unknown", [])
    event = AuditEvent.objects.get(object_type="llm.LLMProvider")
    assert (event.action, event.actor_label, event.after["slug"]) == ("create", "grace (staff)", "anthropic")


def test_a_provider_needs_only_a_slug_and_a_base_url(staff: Api) -> None:
    status, made = staff.post("admin/llm/providers/", {"slug": "local", "base_url": "http://10.0.0.7:8000/v1/"})
    assert status == 201
    assert (made["name"], made["display_name"], made["dialect"]) == ("local", "local", "openai")
    assert made["base_url"] == "http://10.0.0.7:8000/v1"


def test_features_are_written_as_an_object_and_must_agree_with_the_flags(staff: Api) -> None:
    body = {"slug": "x", "base_url": "http://x/v1", "supported_features": {"vision": True, "streaming": False}}
    _, made = staff.post("admin/llm/providers", body)
    assert (made["supports_vision"], made["supports_streaming"]) == (True, False)
    status, answer = staff.patch(
        "admin/llm/providers/x", {"supports_vision": True, "supported_features": {"vision": False}}
    )
    assert (status, answer["error"]["param"]) == (400, "supports_vision")
    assert LLMProvider.objects.get(slug="x").supports_vision is True


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"nmae": "x"}, "nmae"),
        ({"number": 7}, "number"),
        ({"health_status": "healthy"}, "health_status"),
        ({"base_url": "ftp://x"}, "base_url"),
        ({"base_url": "https://user:pass@x/v1"}, "base_url"),
        ({"base_url": "https://[::1/v1"}, "base_url"),
        ({"base_url": 5}, "base_url"),
        ({"slug": "Not A Slug"}, "slug"),
        ({"slug": "12"}, "slug"),
        ({"slug": ["x"]}, "slug"),
        ({"is_active": "yes"}, "is_active"),
        ({"is_active": 1}, "is_active"),
        ({"is_active": None}, "is_active"),
        ({"rate_limit_rpm": -1}, "rate_limit_rpm"),
        ({"rate_limit_rpm": 2**31}, "rate_limit_rpm"),
        ({"rate_limit_rpm": 10**400}, "rate_limit_rpm"),
        ({"rate_limit_rpm": "5"}, "rate_limit_rpm"),
        ({"rate_limit_rpm": 1.5}, "rate_limit_rpm"),
        ({"dialect": "klingon"}, "dialect"),
        ({"dialect": {}}, "dialect"),
        ({"api_key_format": "("}, "api_key_format"),
        ({"quirks": []}, "quirks"),
        ({"env_keys": ["SECRET_KEY"]}, "env_keys"),
        ({"supported_features": {"flying": True}}, "supported_features.flying"),
        ({"supported_features": None}, "supported_features"),
        ({"name": "x" * 101}, "name"),
        ({"name": 5}, "name"),
        ({"documentation_url": "javascript:alert(1)"}, "documentation_url"),
    ],
)
def test_a_wrong_field_is_a_400_that_names_it_and_nothing_is_made(
    staff: Api, change: dict[str, Any], param: str
) -> None:
    status, answer = staff.post("admin/llm/providers", {"slug": "x", "base_url": "http://x/v1"} | change)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "invalid_value", param)
    assert LLMProvider.objects.count() == AuditEvent.objects.count() == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[",
        b"nonsense",
        b'{"slug": NaN}',
        b'{"slug": "a", "slug": "b"}',
        b'{"slug": "a\\u0000b"}',
        b'{"slug": "\\ud800"}',
        b'{"quirks": ' + b"[" * 200 + b"]" * 200 + b"}",
        b"[" * 100_000,
        b'{"rate_limit_rpm": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
    ],
    ids=["open", "list", "word", "nan", "twice", "nul", "surrogate", "deep", "abyss", "digits", "bytes"],
)
def test_a_body_that_is_no_sound_json_is_a_400(staff: Api, raw: bytes) -> None:
    status, answer = staff.call("POST", "admin/llm/providers", raw=raw)
    assert (status, answer["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("raw", [b"[]", b'"x"', b"5", b"null"])
def test_a_body_that_is_no_object_is_a_400(staff: Api, raw: bytes) -> None:
    status, answer = staff.call("POST", "admin/llm/providers", raw=raw)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


def test_a_provider_read_can_be_changed_and_put_back(staff: Api) -> None:
    _, made = staff.post("admin/llm/providers", GUIDE)
    status, again = staff.put("admin/llm/providers/anthropic", made | {"description": "Claude's home."})
    assert (status, again["description"]) == (200, "Claude's home.")
    event = AuditEvent.objects.get(action="update")
    assert (event.before, event.after) == ({"description": ""}, {"description": "Claude's home."})


def test_a_duplicate_slug_is_a_409_and_changes_nothing(staff: Api) -> None:
    staff.post("admin/llm/providers", GUIDE)
    status, answer = staff.post("admin/llm/providers", GUIDE | {"display_name": "Another"})
    assert (status, answer["error"]["code"]) == (409, "conflict")
    assert LLMProvider.objects.get().display_name == "Anthropic"


def test_a_system_provider_is_never_deleted_and_another_is_unless_it_has_models(staff: Api) -> None:
    cast.make_provider("shipped", is_system_provider=True)
    cast.make_model(cast.make_provider("used"))
    cast.make_provider("idle")
    status, answer = staff.delete("admin/llm/providers/shipped")
    assert (status, answer["error"]["code"]) == (403, "system_provider")
    assert staff.delete("admin/llm/providers/used")[0] == 409
    assert staff.delete("admin/llm/providers/idle") == (204, None)
    assert set(LLMProvider.objects.values_list("slug", flat=True)) == {"shipped", "used"}
    assert AuditEvent.objects.filter(action="delete").count() == 1


@pytest.mark.parametrize("path", ["nobody", "00000000-0000-0000-0000-000000000000", "999", "9" * 30, "%00", "%F0%9F"])
def test_a_provider_that_does_not_exist_is_a_404(staff: Api, path: str) -> None:
    for suffix in ("", "/", "/health"):
        status, answer = staff.get(f"admin/llm/providers/{path}{suffix}")
        assert (status, answer["error"]["code"]) == (404, "not_found")


def test_a_platform_key_goes_in_is_validated_and_never_comes_out(staff: Api, fake: FakeProvider) -> None:
    fake.expected_key = "sk-right-0123456789abcd"
    cast.make_provider("vendor", fake.base_url, api_key_format=r"^sk-[a-z0-9-]+$")
    path = "admin/llm/providers/vendor/credentials"
    status, made = staff.post(path, {"name": "main", "api_key": fake.expected_key, "weight": 50})
    assert (status, made["key"], made["is_validated"], made["weight"]) == (201, "sk-r…abcd", True, 50)
    status, wrong = staff.post(path, {"name": "other", "api_key": "sk-wrong-0123456789abcd"})
    assert (status, wrong["is_validated"]) == (201, False)
    assert wrong["validation_error"].startswith("It refused this key (HTTP 401).")
    status, answer = staff.post(path, {"name": "third", "api_key": "pk-0123456789"})
    assert (status, answer["error"]["param"]) == (400, "api_key")
    assert staff.post(path, {"name": "main", "api_key": "sk-again-0123456789"})[0] == 409
    assert ProviderCredential.objects.count() == 2
    assert "right-0123" not in str(staff.get(path)) + str(list(AuditEvent.objects.values()))
    assert staff.get("admin/llm/providers/vendor")[1]["platform_key"] == "2 stored"
    assert staff.delete(f"{path}/{wrong['id']}") == (204, None)
    assert ProviderCredential.objects.get().open().reveal() == "sk-right-0123456789abcd"


def test_a_test_says_in_words_what_is_wrong(staff: Api, fake: FakeProvider) -> None:
    fake.expected_key = "sk-right-0123456789"
    provider = cast.make_provider("vendor", fake.base_url)
    cast.make_credential(provider, "sk-wrong-0123456789", key_name="main")
    status, result = staff.post("admin/llm/providers/vendor/test")
    assert (status, result["ok"], result["status"], result["status_code"]) == (200, False, "degraded", 401)
    assert result["message"].startswith("It refused the stored key “main” (HTTP 401).")
    assert fake.base_url not in str(result)
    assert "wrong" not in str(result)
    fake.expected_key = "sk-wrong-0123456789"
    _, result = staff.post("admin/llm/providers/vendor/test")
    assert (result["ok"], result["status"]) == (True, "healthy")
    assert staff.get("admin/llm/providers/vendor/health")[1]["status"] == "healthy"


def test_a_provider_is_down_at_the_second_failure_in_a_row_and_stays_active(staff: Api) -> None:
    provider = cast.make_provider("vendor", is_system_provider=True)
    assert staff.post("admin/llm/providers/vendor/test")[1]["status"] == "degraded"
    assert staff.post("admin/llm/providers/vendor/test")[1]["status"] == "down"
    provider.refresh_from_db()
    assert (provider.health_status, provider.is_active) == ("down", True)
    assert ProviderHealthCheck.objects.count() == 2


def test_without_a_platform_key_a_refusal_says_that_the_key_is_missing(staff: Api, fake: FakeProvider) -> None:
    fake.expected_key = "sk-right-0123456789"
    cast.make_provider("vendor", fake.base_url)
    _, result = staff.post("admin/llm/providers/vendor/test")
    assert (result["status"], result["status_code"]) == ("unknown", 401)
    assert result["message"].startswith("It answers, but there is no platform key")


def test_the_key_in_the_environment_is_used_shown_by_name_and_never_stored(
    staff: Api, fake: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.expected_key = "sk-env-0123456789"
    monkeypatch.setenv("VENDOR_API_KEY", fake.expected_key)
    monkeypatch.setenv("SECRET_KEY", "sk-env-0123456789")
    cast.make_provider("vendor", fake.base_url, env_keys=["VENDOR_API_KEY"])
    cast.make_provider("thief", fake.base_url, env_keys=["SECRET_KEY"])
    assert staff.post("admin/llm/providers/vendor/test")[1]["status"] == "healthy"
    assert staff.get("admin/llm/providers/vendor")[1]["platform_key"] == "from the environment: VENDOR_API_KEY"
    assert staff.get("admin/llm/providers/thief")[1]["platform_key"] == ""
    assert staff.post("admin/llm/providers/thief/test")[1]["status"] == "unknown"
    assert ProviderCredential.objects.count() == 0


def test_a_model_is_created_with_its_first_price(staff: Api) -> None:
    cast.make_provider("openai")
    status, made = staff.post("admin/llm/models", MODEL | {"capabilities": {"vision": True}})
    assert status == 201
    assert (made["provider"], made["name"], made["display_name"]) == ("openai", "gpt-4o", "gpt-4o")
    assert made["reference"] == "openai/gpt-4o"
    assert made["capabilities"] == {"streaming": True, "function_calling": False, "vision": True, "json_mode": False}
    assert (made["input_cost_per_1k"], made["output_cost_per_1k"]) == ("0.0025", "0.01")
    assert made["cost_per_1m_cached_tokens"] == "1.25"
    version = made["price_version"]
    assert (version["number"], version["status"], version["source"]) == (1, "active", "staff")
    assert {one["meter"]: one["usd_per_1m"] for one in version["components"]} == {
        "input": "2.5",
        "output": "10",
        "cache_read": "1.25",
    }
    event = AuditEvent.objects.get(object_type="llm.PriceVersion")
    assert (event.after["input"], event.after["output"]) == ("2.5", "10")


def test_a_model_is_found_by_reference_uuid_and_number_with_and_without_a_slash(staff: Api) -> None:
    model = cast.make_model(cast.make_provider("together"), "meta-llama/Llama-4")
    for path in (model.pk, model.number, "together/meta-llama/Llama-4", "together%2Fmeta-llama%2FLlama-4"):
        for slash in ("", "/"):
            status, found = staff.get(f"admin/llm/models/{path}{slash}")
            assert (status, found["id"]) == (200, str(model.pk))


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"provider": "nobody"}, "provider"),
        ({"provider": None}, "provider"),
        ({"provider": {}}, "provider"),
        ({"model_id": ""}, "model_id"),
        ({"model_id": 5}, "model_id"),
        ({"context_window": 0}, "context_window"),
        ({"context_window": 10**12}, "context_window"),
        ({"cost_per_1m_input_tokens": "-1"}, "cost_per_1m_input_tokens"),
        ({"cost_per_1m_input_tokens": "NaN"}, "cost_per_1m_input_tokens"),
        ({"cost_per_1m_input_tokens": "Infinity"}, "cost_per_1m_input_tokens"),
        ({"cost_per_1m_input_tokens": "1e400"}, "cost_per_1m_input_tokens"),
        ({"cost_per_1m_input_tokens": "0.00000000001"}, "cost_per_1m_input_tokens"),
        ({"cost_per_1m_input_tokens": 10**30}, "cost_per_1m_input_tokens"),
        ({"cost_per_1m_input_tokens": True}, "cost_per_1m_input_tokens"),
        ({"cost_per_1m_input_tokens": []}, "cost_per_1m_input_tokens"),
        ({"cost_per_1m_input_tokens": None}, "cost_per_1m_input_tokens"),
        ({"cost_per_1m_output_tokens": None}, "cost_per_1m_output_tokens"),
        ({"power_level": "turbo"}, "power_level"),
        ({"power_level_priority": 2**40}, "power_level_priority"),
        ({"deprecation_date": "soon"}, "deprecation_date"),
        ({"replacement_model": "openai/nothing"}, "replacement_model"),
        ({"input_cost_per_1k": "5"}, "input_cost_per_1k"),
        ({"quirks": "x"}, "quirks"),
    ],
)
def test_a_wrong_model_is_a_400_that_names_the_field_and_nothing_is_made(
    staff: Api, change: dict[str, Any], param: str
) -> None:
    cast.make_provider("openai")
    status, answer = staff.post("admin/llm/models", MODEL | change)
    assert (status, answer["error"]["param"]) == (400, param)
    assert LLMModel.objects.count() == PriceVersion.objects.count() == AuditEvent.objects.count() == 0


def test_a_duplicate_model_is_a_409(staff: Api) -> None:
    cast.make_model(cast.make_provider("openai"), "gpt-4o")
    assert staff.post("admin/llm/models", MODEL)[0] == 409
    assert (LLMModel.objects.count(), PriceVersion.objects.count()) == (1, 1)


def test_a_price_is_changed_with_a_date_and_a_reason_and_the_history_stays(staff: Api) -> None:
    model = cast.make_model(cast.make_provider("openai"), "gpt-4o", input="2.50", output="10")
    path = "admin/llm/models/openai/gpt-4o/prices"
    body = {
        "components": [{"meter": "input", "usd_per_1m": "2"}, {"meter": "output", "usd_per_1m": "8"}],
        "reason": "vendor's cut",
    }
    status, version = staff.post(path, body)
    assert (status, version["number"], version["reason"]) == (201, 2, "vendor's cut")
    assert version["author"] == "grace (staff)"
    _, read = staff.get("admin/llm/models/openai/gpt-4o")
    assert (read["cost_per_1m_input_tokens"], read["price_version"]["number"]) == ("2", 2)
    status, history = staff.get(path)
    assert [row["number"] for row in history["results"]] == [2, 1]
    assert history["results"][1]["effective_to"] == version["effective_from"]
    assert model.price_versions.count() == 2


def test_a_price_more_than_five_times_off_is_a_409_until_it_is_confirmed(staff: Api) -> None:
    model = cast.make_model(cast.make_provider("openai"), "gpt-4o", input="2.50", output="10")
    body = {"components": {"input": "2.50", "output": "50.01"}}
    status, answer = staff.post("admin/llm/models/openai/gpt-4o/prices", body)
    assert (status, answer["error"]["code"]) == (409, "price_change_unconfirmed")
    assert model.price_versions.count() == 1
    assert staff.post("admin/llm/models/openai/gpt-4o/prices/", body | {"confirm": True})[0] == 201


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "components"),
        ({"components": []}, "components"),
        ({"components": [5]}, "components"),
        ({"components": {"input": "-1", "output": "1"}}, "components"),
        ({"components": {"input": "1", "output": "1", "petrol": "1"}}, "components"),
        ({"components": {"input": "1"}}, "components"),
        ({"components": [{"meter": "input", "usd_per_1m": "1", "above": 5}]}, "components"),
        ({"components": {"input": "2.5", "output": "10"}, "effective_from": "2020-01-01T00:00:00Z"}, "effective_from"),
        ({"components": {"input": "2.5", "output": "10"}, "effective_from": "never"}, "effective_from"),
        ({"components": {"input": "2.5", "output": "10"}, "confirm": "yes"}, "confirm"),
        ({"components": {"input": "2.5", "output": "10"}, "reasons": "x"}, "reasons"),
    ],
)
def test_a_wrong_price_is_a_400_and_leaves_the_price(staff: Api, body: dict[str, Any], param: str) -> None:
    model = cast.make_model(cast.make_provider("openai"), "gpt-4o")
    status, answer = staff.post("admin/llm/models/openai/gpt-4o/prices", body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert model.price_versions.get().effective_to is None


def test_costs_are_not_changed_by_patching_the_model(staff: Api) -> None:
    model = cast.make_model(cast.make_provider("openai"), "gpt-4o", input="2.50")
    status, answer = staff.patch("admin/llm/models/openai/gpt-4o", {"cost_per_1m_input_tokens": "1"})
    assert (status, answer["error"]["param"]) == (400, "cost_per_1m_input_tokens")
    assert staff.patch("admin/llm/models/openai/gpt-4o", {"cost_per_1m_input_tokens": "2.5"})[0] == 200
    assert model.price_versions.count() == 1


@pytest.mark.parametrize("kept", ["requests", "roll-ups", "requests under a name it had"])
def test_a_model_that_was_billed_is_switched_off_not_deleted(staff: Api, kept: str) -> None:
    model, unused = (cast.make_model(cast.make_provider(slug)) for slug in ("openai", "azure-openai"))
    row = spend(cast.make_tenant().pk, "1", day=timezone.now().date(), model_id=model.pk)
    if kept == "roll-ups":
        rollup.roll_up(now=timezone.now() + timedelta(days=9))
        UsageRecord.objects.filter(pk=row.pk).delete()
    if kept.endswith("it had"):
        LLMModel.objects.filter(pk=model.pk).update(model_id="gpt-4o-2024")
        model.refresh_from_db()
    path = f"admin/llm/models/{model.reference}"
    status, answer = staff.delete(path)
    assert (status, answer["error"]["code"]) == (409, "model_was_billed")
    assert "set is_active to false" in answer["error"]["message"]
    with pytest.raises(Conflict):
        LLMModel.objects.all().delete()
    assert (LLMModel.objects.count(), PriceVersion.objects.count()) == (2, 2)
    assert not AuditEvent.objects.filter(action="delete").exists()
    assert staff.patch(path, {"is_active": False})[0] == 200
    assert staff.delete(f"admin/llm/models/{unused.reference}") == (204, None)


def test_a_model_is_deprecated_in_favour_of_another(staff: Api) -> None:
    openai = cast.make_provider("openai")
    old, _ = cast.make_model(openai, "gpt-4"), cast.make_model(openai, "gpt-4o")
    status, read = staff.post("admin/llm/models/openai/gpt-4/deprecate", {"replacement": "openai/gpt-4o"})
    assert status == 200
    assert (read["is_deprecated"], read["deprecation_date"], read["replacement_model"]) == (True, None, "openai/gpt-4o")
    for body, param in (
        ({"replacement": "openai/gpt-4o"}, "replacement"),
        ({"replacement": "openai/gpt-4"}, "replacement"),
        ({"replacement": "openai/gone"}, "replacement"),
        ({"replacement": "openai/gpt-4", "sunset_date": "soon"}, "sunset_date"),
    ):
        status, answer = staff.post("admin/llm/models/openai/gpt-4o/deprecate", body)
        assert (status, answer["error"]["param"]) == (400, param)
    assert LLMModel.objects.get(model_id="gpt-4o").is_deprecated is False
    event = AuditEvent.objects.get(action="deprecate")
    assert (event.object_id, event.before["is_deprecated"]) == (str(old.pk), False)


def test_models_by_power_come_in_the_order_they_are_tried(staff: Api) -> None:
    openai = cast.make_provider("openai")
    cast.make_model(openai, "second", power_level="eco", power_level_priority=20)
    cast.make_model(openai, "first", power_level="eco", power_level_priority=10)
    cast.make_model(openai, "off", power_level="eco", is_active=False)
    cast.make_model(openai, "other", power_level="precision")
    status, page = staff.get("admin/llm/models/by-power/eco")
    assert (status, [row["model_id"] for row in page["results"]]) == (200, ["first", "second"])
    assert staff.get("admin/llm/models/by-power/turbo")[0] == 404


def test_rules_are_made_changed_and_deleted(staff: Api) -> None:
    model = cast.make_model(cast.make_provider("openai"), "gpt-4o")
    body = {"model_id": str(model.pk), "power_level": "balanced", "user_tier": "free", "task_type": "general"}
    status, rule = staff.post("admin/llm/routing-rules", body)
    assert (status, rule["model"], rule["priority"], rule["weight"]) == (201, "openai/gpt-4o", 100, 100)
    status, rule = staff.patch(f"admin/llm/routing-rules/{rule['id']}", {"task_type": None, "max_tokens": 5})
    assert (status, rule["task_type"], rule["max_tokens"]) == (200, None, 5)
    status, answer = staff.patch(f"admin/llm/routing-rules/{rule['id']}", {"min_tokens": 6})
    assert (status, answer["error"]["param"]) == (400, "max_tokens")
    assert staff.get("admin/llm/routing-rules?model=openai/gpt-4o&user_tier=free")[1]["count"] == 1
    assert staff.get("admin/llm/routing-rules?user_tier=enterprise")[1]["count"] == 0
    assert staff.delete(f"admin/llm/routing-rules/{rule['id']}/") == (204, None)
    assert [event.action for event in AuditEvent.objects.order_by("id")] == ["create", "update", "delete"]
    assert staff.get("admin/llm/routing-rules/x")[0] == 404


def test_power_levels_are_rows_that_staff_edit(staff: Api) -> None:
    cast.make_power_levels()
    _, page = staff.get("admin/llm/power-levels")
    assert [(row["power_level"], row["max_price_per_1m_usd"]) for row in page["results"]] == [
        ("eco", "0.5"),
        ("balanced", "5"),
        ("precision", "100"),
    ]
    status, row = staff.patch("admin/llm/power-levels/eco", {"max_price_per_1m_usd": "0.75"})
    assert (status, row["max_price_per_1m_usd"]) == (200, "0.75")
    status, answer = staff.patch("admin/llm/power-levels/eco", {"max_price_per_1m_usd": "-1"})
    assert (status, answer["error"]["param"]) == (400, "max_price_per_1m_usd")
    assert staff.get("admin/llm/power-levels/turbo")[0] == 404


def test_admin_paths_want_a_staff_key(acme: Tenant, tenant: Api, staff: Api) -> None:
    for path in ("providers", "models", "routing-rules", "power-levels", "models/by-power/eco", "providers/1/health"):
        status, answer = Api(None).get(f"admin/llm/{path}")
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        assert tenant.get(f"admin/llm/{path}")[0] == 403
    assert tenant.post("admin/llm/providers", GUIDE)[0] == 403
    assert staff.get("llm/models")[0] == 403
    assert LLMProvider.objects.count() == 0


def test_staff_may_do_over_the_api_what_they_may_do_in_the_admin(db: None) -> None:
    viewer = Api(cast.make_staff("viewer", superuser=False, permissions=("llm.view_llmprovider",))[1])
    editor = Api(cast.make_staff("editor", superuser=False, permissions=("llm.add_llmmodel",))[1])
    cast.make_provider("openai")
    assert viewer.get("admin/llm/providers")[0] == 200
    assert viewer.post("admin/llm/providers", GUIDE)[0] == 403
    assert viewer.post("admin/llm/providers/openai/test")[0] == 403
    assert editor.post("admin/llm/models", MODEL)[0] == 403
    assert LLMModel.objects.count() == 0
    assert editor.post("admin/llm/models", {"provider": "openai", "model_id": "gpt-4o"})[0] == 201
    price = {"components": {"input": "1", "output": "1"}}
    assert editor.post("admin/llm/models/openai/gpt-4o/prices", price)[0] == 403
    assert PriceVersion.objects.count() == 0


def test_options_and_unknown_methods_are_json(staff: Api) -> None:
    for method in ("OPTIONS", "DELETE", "TRACE"):
        status, answer = staff.call(method, "admin/llm/providers")
        assert (status, answer["error"]["code"]) == (405, "method_not_allowed")


def test_a_form_is_a_415(staff: Api) -> None:
    answer = staff._client.post("/api/v1/admin/llm/providers", {"slug": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_unpriced_models_say_so(staff: Api) -> None:
    cast.make_model(cast.make_provider("openai"), "free?", input=None)
    _, read = staff.get("admin/llm/models/openai/free%3F")
    assert (read["price_version"], read["input_cost_per_1k"], read["cost_per_1m_input_tokens"]) == (None, None, None)


def test_decimals_survive_both_ways_exactly(staff: Api) -> None:
    cast.make_provider("openai")
    body = MODEL | {"cost_per_1m_input_tokens": "0.0000000001", "cost_per_1m_output_tokens": 0.1}
    _, made = staff.post("admin/llm/models", body)
    model = LLMModel.objects.get()
    assert made["cost_per_1m_input_tokens"] == "0.0000000001"
    assert model.current_price.base_price("output") == Decimal("0.1")
