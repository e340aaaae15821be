"""Staff see what is left alone and why, and can end it; every reset is audited."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from llm.models import LLMBreaker, LLMModel
from llm.router import LLMRouter, LLMRoutingEngine
from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.conftest import Api


@pytest.fixture
def gpt(db: None) -> LLMModel:
    provider = cast.make_provider()
    cast.make_credential(provider)
    return cast.make_model(provider)


@pytest.fixture
def browser(db: None, client: Client) -> Client:
    client.force_login(cast.make_staff()[0])
    return client


def test_the_list_says_what_is_open_why_and_until_when(staff: Api, gpt: LLMModel) -> None:
    row = cast.make_breaker(gpt)
    cast.make_breaker(gpt, "provider", seconds=-5)
    cast.make_breaker(gpt, "limit", state="closed")
    status, body = staff.get("admin/llm/breakers?ordering=kind")
    assert status == 200
    assert [(one["kind"], one["state"]) for one in body["results"]] == [
        ("limit", "closed"), ("model", "open"), ("provider", "half_open"),
    ]  # fmt: skip
    found = body["results"][1]
    assert (found["id"], found["what"], found["failures"]) == (str(row.pk), "openai/gpt-4o", 3)
    assert (found["reason"], found["until"]) == ("it failed 3 times in a row", f"{row.until:%Y-%m-%dT%H:%M:%S.%fZ}")
    for state, kind in (("closed", "limit"), ("open", "model"), ("half_open", "provider")):
        assert [one["kind"] for one in staff.get(f"admin/llm/breakers?state={state}")[1]["results"]] == [kind]


def test_a_reset_closes_it_and_is_audited(staff: Api, gpt: LLMModel) -> None:
    row = cast.make_breaker(gpt)
    status, body = staff.post(f"admin/llm/breakers/{row.pk}/reset")
    assert (status, body["state"], body["failures"]) == (200, "closed", 0)
    row.refresh_from_db()
    assert (row.state, row.openings, row.reason) == ("closed", 0, "it failed 3 times in a row")
    event = AuditEvent.objects.get(action="reset")
    assert (event.object_type, event.object_id) == ("llm.LLMBreaker", str(row.pk))
    assert (event.before["state"], event.after["state"]) == ("open", "closed")


def test_the_admin_lists_it_and_its_action_resets_it(browser: Client, gpt: LLMModel) -> None:
    row, url = cast.make_breaker(gpt), reverse("admin:llm_llmbreaker_changelist")
    page = browser.get(url).content.decode()
    assert "openai/gpt-4o" in page
    assert "it failed 3 times in a row" in page
    page = browser.post(url, {"action": "reset", "_selected_action": [str(row.pk)]}, follow=True).content.decode()
    assert "1 reset. Every process follows within a second." in page
    assert LLMBreaker.objects.get().state == "closed"
    assert AuditEvent.objects.get(action="reset").actor_kind == "user"


def test_whoever_may_only_look_sees_no_reset(client: Client, gpt: LLMModel) -> None:
    row, url = cast.make_breaker(gpt), reverse("admin:llm_llmbreaker_changelist")
    client.force_login(cast.make_staff("viewer", superuser=False, permissions=("llm.view_llmprovider",))[0])
    assert "openai/gpt-4o" in client.get(url).content.decode()
    client.post(url, {"action": "reset", "_selected_action": [str(row.pk)]})
    assert LLMBreaker.objects.get().state == "open"


def test_the_providers_page_says_so(browser: Client, gpt: LLMModel) -> None:
    url = reverse("admin:llm_llmprovider_change", args=(gpt.provider.pk,))
    cast.make_breaker(cast.make_model(cast.make_provider("openai-2")))
    assert "none open" in browser.get(url).content.decode()
    row = cast.make_breaker(gpt)
    page = browser.get(url).content.decode()
    assert f"{reverse('admin:llm_llmbreaker_changelist')}{row.pk}/change/" in page
    assert f"left alone until {row.until:%Y-%m-%d %H:%M:%S} UTC" in page


# --- the same state for explain and the Python interface --------------------------------------------------------------


def test_explain_sees_what_the_store_says(tenant: Api, gpt: LLMModel) -> None:
    ask = {"model": "openai/gpt-4o"}
    assert tenant.post("llm/routing/explain", ask)[1]["chosen"]["model"] == "openai/gpt-4o"
    row = cast.make_breaker(gpt)
    status, body = tenant.post("llm/routing/explain", ask)
    assert (status, body["chosen"]) == (200, None)
    [rejection] = body["rejections"]
    assert (rejection["code"], rejection["detail"]) == (
        "provider_down",
        f"the breaker of openai/gpt-4o is open until {row.until:%Y-%m-%d %H:%M:%S} UTC: it failed 3 times in a row",
    )
    assert (body["error"]["status"], body["error"]["code"]) == (503, "no_provider_available")
    LLMBreaker.objects.update(until=timezone.now() - timedelta(seconds=1))  # half-open: the next request may try
    assert tenant.post("llm/routing/explain", ask)[1]["chosen"]["model"] == "openai/gpt-4o"


def test_a_platform_keys_name_is_no_tenants_business(tenant: Api, gpt: LLMModel) -> None:
    key = gpt.provider.credentials.get()
    for kind, name in (("credential", "openai"), ("limit", "openai/gpt-4o")):
        LLMBreaker.objects.all().delete()
        cast.make_breaker(gpt, kind, key=f"{kind}:{name}#{key.pk.int:x}", what=f"{name} with the key “{key.key_name}”")
        body = tenant.post("llm/routing/explain", {"model": "openai/gpt-4o"})[1]
        assert [one["code"] for one in body["rejections"]] == ["provider_down"]
        assert body["error"]["status"] == (503 if kind == "credential" else 429)
        assert key.key_name not in str(body)
        assert key.pk.hex not in str(body)


@pytest.mark.parametrize("kind", ["provider", "model"])
def test_the_python_interface_sees_it_too(acme: Tenant, gpt: LLMModel, kind: str) -> None:
    cast.make_power_levels()
    other = cast.make_model(gpt.provider if kind == "model" else cast.make_provider("xai", auth_type="none"), "other")
    cast.make_rule(gpt, "balanced", priority=1)
    cast.make_rule(other, "balanced", priority=2)
    cast.make_config(acme, is_tenant_default=True, primary_model=gpt, fallback_model=other)
    engine: Any = LLMRoutingEngine()
    assert engine.select_model(acme.pk, "professional")[0] == gpt
    cast.make_breaker(gpt, kind)
    assert engine.select_model(acme.pk, "professional")[0] == other
    assert [one.code for one in engine.last_rejections] == ["provider_down"]
    assert LLMRouter().select_model(acme.pk) == other
