"""What one key has used, an API key or a provider key of one's own: the same rolled up or not, and nobody else's."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from billing import rollup
from llm.models import ProviderCredential
from tenants.auth import CALLERS
from tests.billing.made import a_key, a_tenant, adjust, an_id, spend
from tests.cast import make_credential, make_provider, make_staff

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_cached_callers() -> Any:
    CALLERS.clear()
    yield
    CALLERS.clear()


@pytest.fixture
def made() -> dict[str, Any]:
    """A key with two requests long ago and two today, an own provider key behind one of each; and what is not its."""
    tenant = a_tenant("acme")
    key, secret = a_key(tenant, name="reader", scopes=["usage:read"])
    own: ProviderCredential = make_credential(make_provider(), tenant=tenant)
    now = timezone.now()
    for day, moment in ((now.date() - timedelta(days=9), now - timedelta(days=9)), (now.date(), now)):
        mine = {"day": day, "created_at": moment, "key_id": key.pk}
        spend(tenant.pk, "0.25", **mine, power_level="eco", latency_ms=100)
        spend(tenant.pk, "0.75", **mine, provider_slug="anthropic", model_name="claude", used_byok=True,
              credential_id=own.pk, latency_ms=301, status_code=500)  # fmt: skip
        adjust(tenant, "-0.05", day=day, key_id=key.pk, provider_slug="openai", model_name="gpt-4o")
        spend(tenant.pk, "9", day=day, created_at=moment, key_id=an_id(), credential_id=an_id())
        spend(a_tenant(f"globex-{day}").pk, "99", day=day, created_at=moment, key_id=key.pk, credential_id=own.pk)
    return {"tenant": tenant, "key": key, "secret": secret, "own": own, "today": now.date()}


def ask(secret: str, path: str, status: int = 200, **query: Any) -> Any:
    answer = Client(headers={"Authorization": f"Bearer {secret}"}).get(f"/api/v1/{path}", query)
    assert answer.status_code == status, answer.content
    return answer.json()


def test_a_keys_figures_are_exact_rolled_up_or_not(made: dict[str, Any]) -> None:
    path = f"keys/{made['key'].pk}/usage"
    live = ask(made["secret"], path)
    assert live["total"] == {
        "requests": 4, "prompt_tokens": 400, "completion_tokens": 80, "total_tokens": 480, "cost_usd": "1.9",
        "billed_usd": "1.9", "avg_cost_usd": "0.475", "avg_latency_ms": 201, "byok_requests": 2, "errors": 2,
        "byok_share": "0.5",
    }  # fmt: skip
    said = [(row["provider"], row["requests"], row["cost_usd"], row["byok_share"]) for row in live["by_provider"]]
    assert said == [("anthropic", 2, "1.5", "1"), ("openai", 2, "0.4", "0")]
    assert [(row["model"], row["avg_latency_ms"]) for row in live["by_model"]] == [
        ("anthropic/claude", 301), ("openai/gpt-4o", 100),
    ]  # fmt: skip
    # What an adjustment says nothing of stands with the rest that says nothing.
    assert [(row["power_level"], row["requests"], row["cost_usd"]) for row in live["by_power_level"]] == [
        ("", 2, "1.4"), ("eco", 2, "0.5"),
    ]  # fmt: skip
    assert [(row["day"], row["cost_usd"]) for row in live["by_day"]] == [
        (str(made["today"] - timedelta(days=9)), "0.95"), (str(made["today"]), "0.95"),
    ]  # fmt: skip
    rollup.roll_up(now=timezone.now())
    assert ask(made["secret"], path) == live
    _, staff = make_staff()
    assert ask(staff, f"admin/tenants/acme/{path}") == live
    assert ask(made["secret"], path, **{"from": str(made["today"])})["total"]["cost_usd"] == "0.95"


def test_an_own_provider_keys_figures_are_its_requests_alone(made: dict[str, Any]) -> None:
    for _ in range(2):
        found = ask(made["secret"], f"llm/byok/keys/{made['own'].pk}/usage")
        assert (found["total"]["requests"], found["total"]["cost_usd"], found["total"]["byok_share"]) == (2, "1.5", "1")
        assert [(row["model"], row["requests"]) for row in found["by_model"]] == [("anthropic/claude", 2)]
        rollup.roll_up(now=timezone.now())


def test_another_tenants_key_reads_like_a_missing_one(made: dict[str, Any]) -> None:
    _, foreign = a_key(a_tenant("globex"), scopes=["usage:read"])
    for path in (f"keys/{made['key'].pk}/usage", f"llm/byok/keys/{made['own'].pk}/usage"):
        missing = path.replace(str(made["key"].pk), str(an_id())).replace(str(made["own"].pk), str(an_id()))
        assert ask(foreign, path, 404) == ask(foreign, missing, 404)
    _, staff = make_staff()
    ask(staff, f"admin/tenants/globex/keys/{made['key'].pk}/usage", 404)
    assert ask(made["secret"], f"keys/{made['key'].pk}/usage", 400, **{"from": "2026-11-09", "to": "2026-11-08"})


def test_the_admins_key_page_shows_it_to_those_who_may_read_usage(made: dict[str, Any]) -> None:
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    page = browser.get(f"/admin/tenants/apikey/{made['key'].pk}/change/").content.decode()
    assert "What it has used" in page
    assert "anthropic/claude" in page
    assert Decimal("1.9") == Decimal(page.split("<tfoot>")[1].split("<td>")[4].split("<")[0].strip().strip("$"))


def test_the_admins_key_page_shows_averages_for_reading_at_a_glance(made: dict[str, Any]) -> None:
    tenant = made["tenant"]
    key, _ = a_key(tenant, name="thirds")
    for usd in ("0.1", "0.1", "0.2"):
        spend(tenant.pk, usd, day=made["today"], key_id=key.pk)
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    page = browser.get(f"/admin/tenants/apikey/{key.pk}/change/").content.decode()
    assert "<td>$0.1333</td>" in page
    assert "0.1333333333" not in page
