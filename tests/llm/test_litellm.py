"""A LiteLLM proxy in the environment: on with both variables, off without, its models imported at bootstrap."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from llm.catalog import loader, prices, probes
from llm.models import LLMModel, LLMProvider
from llm.providers import failures
from tenants.models import AuditEvent
from tests.conftest import Api
from tests.fakes import Behaviour, FakeProvider

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
MASTER = "sk-master-canary-0123456789"
Environment = Callable[..., None]
# What LiteLLM without a database answers to a key that is not its master key.
NO_DATABASE = {"error": {"message": "No connected db.", "type": "no_db_connection", "param": None, "code": "400"}}


@pytest.fixture
def environment(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Set the two variables as a process would find them; empty takes one away."""

    def change(url: str = "", key: str = "") -> None:
        settings.LITELLM_PROXY_URL, settings.LITELLM_MASTER_KEY = url, key
        monkeypatch.setenv("LITELLM_MASTER_KEY", key)

    return change


@pytest.fixture
def proxy(fake: FakeProvider) -> Iterator[FakeProvider]:
    """A LiteLLM of two models, as it answers: its list has ids, `/model/info` has the rest."""
    fake.expected_key = MASTER
    fake.script("/v1/models", Behaviour(listing={"object": "list", "data": [{"id": "gpt-4o"}, {"id": "house"}]}))
    calls = {"gpt-4o": "openai/gpt-4o", "house": "hosted_vllm/house"}
    info = {"max_input_tokens": 8_000, "max_tokens": 2_000, "input_cost_per_token": 1e-9, "mode": "chat"}
    entries = [
        {"model_name": name, "litellm_params": {"model": model}, "model_info": info if name == "house" else {}}
        for name, model in calls.items()
    ]
    fake.script("/v1/model/info", Behaviour(listing={"data": entries}))
    return fake


def row() -> LLMProvider:
    return LLMProvider.objects.get(shipped__slug="litellm")


def reasons() -> list[str]:
    events = AuditEvent.objects.filter(object_type="llm.LLMProvider", object_id=str(row().pk), action="update")
    return list(events.order_by("id").values_list("reason", flat=True))


def bootstrapped(tmp_path: Path, settings: Any) -> dict[str, str]:
    settings.TOLLGATE_DATA_DIR = tmp_path
    said = StringIO()
    call_command("bootstrap", "--json", stdout=said)
    made: dict[str, str] = json.loads(said.getvalue())
    return made


def test_both_variables_switch_it_on_and_their_absence_off_with_words_in_its_history(environment: Environment) -> None:
    loader.load_catalog(now=NOW)
    assert (row().is_active, row().base_url) == (False, "http://127.0.0.1:4000/v1")
    environment("http://proxy:4000/", MASTER)
    loader.follow_litellm(now=NOW)
    loader.follow_litellm(now=NOW)
    assert (row().is_active, row().base_url, row().auth_type) == (True, "http://proxy:4000", "bearer")
    environment()
    loader.follow_litellm(now=NOW)
    assert (row().is_active, row().base_url) == (False, "http://127.0.0.1:4000/v1")
    assert reasons() == [
        "LITELLM_PROXY_URL and LITELLM_MASTER_KEY are set",
        "LITELLM_PROXY_URL and LITELLM_MASTER_KEY, which switched it on, are no longer set",
    ]
    assert loader.load_catalog(now=NOW).changed == 0
    assert MASTER not in str(list(AuditEvent.objects.values()))


def test_what_staff_changed_of_it_stays_with_and_without_the_variables(environment: Environment) -> None:
    environment("http://proxy:4000", MASTER)
    loader.load_catalog(now=NOW)
    LLMProvider.objects.filter(pk=row().pk).update(is_active=False, base_url="http://ours:1/v1")
    for url, key in (("http://proxy:4000", MASTER), ("", ""), ("http://other:4000", MASTER)):
        environment(url, key)
        loader.follow_litellm(now=NOW)
        loader.load_catalog(now=NOW)
        assert (row().is_active, row().base_url) == (False, "http://ours:1/v1")
    assert reasons() == []


def test_staff_who_switched_it_on_themselves_keep_it_on(environment: Environment) -> None:
    loader.load_catalog(now=NOW)
    LLMProvider.objects.filter(pk=row().pk).update(is_active=True)
    environment()
    loader.follow_litellm(now=NOW)
    assert row().is_active


@pytest.mark.parametrize(
    ("url", "key", "why"),
    [
        ("http://proxy:4000", "", "LITELLM_PROXY_URL is set and LITELLM_MASTER_KEY is not"),
        ("", MASTER, "LITELLM_MASTER_KEY is set and LITELLM_PROXY_URL is not"),
        ("proxy:4000", MASTER, "LITELLM_PROXY_URL is not an http or https URL"),
        ("http://user:hunter2@proxy:4000", MASTER, "LITELLM_PROXY_URL: No user name, password"),
        ("http://proxy:4000/?key=hunter2", MASTER, "LITELLM_PROXY_URL: No user name, password, query"),
    ],
)
def test_one_without_the_other_or_a_wrong_url_is_a_warning_and_no_proxy(
    environment: Environment, caplog: pytest.LogCaptureFixture, url: str, key: str, why: str
) -> None:
    environment(url, key)
    loader.follow_litellm(now=NOW)
    loader.load_catalog(now=NOW)
    assert not row().is_active
    assert why in caplog.text
    assert "hunter2" not in caplog.text
    assert MASTER not in caplog.text


def test_bootstrap_imports_its_models_once_and_prices_only_what_the_catalog_knows(
    environment: Environment, proxy: FakeProvider, tmp_path: Path, settings: Any
) -> None:
    environment(proxy.base_url, MASTER)
    bootstrapped(tmp_path, settings)
    rows = {one.model_id: one for one in LLMModel.objects.filter(provider=row())}
    assert set(rows) == {"gpt-4o", "house"}
    assert all(one.is_active for one in rows.values())
    version, twin = prices.version_at(rows["gpt-4o"]), LLMModel.objects.get(provider__slug="openai", model_id="gpt-4o")
    assert version is not None
    assert (version.source, version.author) == ("import", "bootstrap")
    assert set(prices.components_of(version)) == set(prices.components_of(twin.price_versions.get()))
    assert prices.version_at(rows["house"]) is None
    assert (rows["house"].context_window, rows["house"].max_output_tokens) == (8_000, 2_000)
    events = AuditEvent.objects.count()
    LLMModel.objects.filter(pk=rows["house"].pk).update(display_name="Ours")
    bootstrapped(tmp_path, settings)
    assert AuditEvent.objects.count() == events
    assert LLMModel.objects.get(pk=rows["house"].pk).display_name == "Ours"
    assert MASTER not in str([list(model.objects.values()) for model in (LLMProvider, LLMModel, AuditEvent)])


def test_a_proxy_that_is_down_or_refuses_us_is_a_warning_and_bootstrap_goes_on(
    environment: Environment, proxy: FakeProvider, tmp_path: Path, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    environment(proxy.base_url, "sk-wrong-canary-0123456789")
    assert bootstrapped(tmp_path, settings)["tenant_api_key"]
    proxy.stop()
    assert bootstrapped(tmp_path, settings)["tenant_api_key"]
    said = caplog.text
    assert "It refused the key from the environment: LITELLM_MASTER_KEY (HTTP 401)." in said
    assert "It could not be reached in time." in said
    assert "The next bootstrap tries again." in said
    assert "canary" not in said
    assert not LLMModel.objects.filter(provider=row()).exists()


def test_a_proxy_that_staff_switched_off_is_not_asked(
    environment: Environment, proxy: FakeProvider, tmp_path: Path, settings: Any
) -> None:
    environment(proxy.base_url, MASTER)
    loader.load_catalog(now=NOW)
    LLMProvider.objects.filter(pk=row().pk).update(is_active=False)
    bootstrapped(tmp_path, settings)
    assert proxy.requests == []


def test_its_health_says_in_words_what_is_wrong(staff: Api, environment: Environment, proxy: FakeProvider) -> None:
    environment(proxy.base_url, MASTER)
    loader.load_catalog(now=NOW)
    assert staff.post("admin/llm/providers/litellm/test")[1]["status"] == "healthy"
    assert [one.path for one in proxy.requests] == ["/v1/models"]  # the cheapest true call
    proxy.once("/v1/models", Behaviour(status=400, error_body=NO_DATABASE))
    _, refused = staff.post("admin/llm/providers/litellm/test")
    assert (refused["status"], refused["status_code"]) == ("degraded", 400)
    assert refused["message"].startswith("It refused the key from the environment: LITELLM_MASTER_KEY (HTTP 400).")
    proxy.stop()
    assert staff.post("admin/llm/providers/litellm/test")[1]["status"] == "degraded"
    assert staff.post("admin/llm/providers/litellm/test")[1]["status"] == "down"
    assert staff.get("admin/llm/providers/litellm/health")[1]["error"] == probes.UNREACHABLE


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, NO_DATABASE, "upstream_auth_failed"),
        (400, {"error": {"message": "no_db_connection", "type": "invalid_request_error"}}, "upstream_rejected"),
        (422, NO_DATABASE, "upstream_rejected"),
    ],
)
def test_a_proxy_without_a_database_refuses_a_key_with_a_400(status: int, body: Any, code: str) -> None:
    raw = json.dumps(body).encode()
    assert failures.by_status(status, {}, raw, byok=False).code == code
    if code == "upstream_auth_failed":
        assert failures.by_status(status, {}, raw, byok=True).code == "byok_rejected"
