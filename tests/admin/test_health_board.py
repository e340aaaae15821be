"""The health board: probes and real traffic of each provider, its last error in words, and probes at a click."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from llm.models import LLMProvider, ProviderHealthCheck
from tenants.models import Tenant
from tests import cast
from tests.admin import rows
from tests.fakes import FakeProvider


def probed(provider: LLMProvider, status: str, *, hours_ago: float, error: str = "") -> None:
    ProviderHealthCheck.objects.create(
        provider=provider, status=status, error=error, response_time_ms=120, status_code=200,
        checked_at=timezone.now() - timedelta(hours=hours_ago),
    )  # fmt: skip


@pytest.fixture
def openai(acme: Tenant) -> LLMProvider:
    """Two good probes, one bad, one long ago; two requests, one of which failed after a lost attempt."""
    provider = cast.make_provider("openai")
    for hours in (0.1, 0.2):
        probed(provider, "healthy", hours_ago=hours)
    probed(provider, "down", hours_ago=5.2, error=rows.HOSTILE)
    probed(provider, "down", hours_ago=25, error="Too long ago.")
    at = timezone.now() - timedelta(hours=2)
    attempts = [{"provider": "openai", "status": 502}, {"provider": "openai", "status": 504}]
    rows.usage(acme, created_at=at, latency_ms=450, ttft_ms=70)
    rows.usage(acme, created_at=at, latency_ms=450, ttft_ms=None, status="failed", status_code=504, attempts=attempts)
    rows.usage(acme, created_at=at - timedelta(hours=25))
    return provider


def board(client: Client) -> str:
    answer = client.get(reverse("admin:health"))
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_provider_is_shown_with_its_probes_its_traffic_and_its_last_error(
    browser: Client, openai: LLMProvider
) -> None:
    text = board(browser)
    assert 'aria-label="3 probes: 2 healthy, 1 down"' in text
    assert text.count("tg-mark-down") == 1
    assert text.count("tg-mark-none") >= 45
    assert "5 h ago:</b> &lt;script&gt;" in text
    assert rows.HOSTILE not in text
    assert "Too long ago." not in text
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r'<td class="tg-num">(.*?)</td>', text)]
    assert cells == ["2", "1 (50.0 %)", "1", "450 ms", "62 ms", "2 h ago"]


def test_its_numbers_lead_to_as_many_requests(browser: Client, openai: LLMProvider) -> None:
    links = re.findall(r'<td class="tg-num"><a href="([^"]+)">(\d+)', board(browser))
    assert [number for _, number in links][:2] == ["2", "1"]
    for url, number in links[:2]:
        listed = browser.get(url.replace("&amp;", "&")).context["cl"].result_list
        assert len(listed) == int(number), url


def test_it_opens_in_few_queries_however_many_providers_there_are(
    browser: Client, openai: LLMProvider, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    for number in range(12):
        probed(cast.make_provider(f"vendor-{number}"), "healthy", hours_ago=number)
    board(browser)
    with django_assert_max_num_queries(6):  # session, user, requests, lost attempts, probes, providers
        board(browser)


def test_providers_without_probes_or_requests_are_listed_apart(browser: Client, openai: LLMProvider) -> None:
    cast.make_provider("silent")
    cast.make_provider("off", is_active=False)
    text = board(browser)
    assert "1 active without probes or requests" in text
    assert ">Silent<" in text
    assert ">Off<" not in text


def test_probe_now_asks_the_provider_and_says_what_came_back(browser: Client, fake: FakeProvider, db: None) -> None:
    provider = cast.make_provider("vendor", fake.base_url)
    cast.make_credential(provider)
    answer = browser.post(reverse("admin:health_probe"), {"provider": str(provider.pk)}, follow=True)
    assert answer.redirect_chain == [(reverse("admin:health"), 302)]
    assert "Vendor is healthy." in answer.content.decode()
    provider.refresh_from_db()
    assert provider.health_status == "healthy"
    assert provider.health_checks.count() == 1


def test_probing_all_is_left_to_the_worker(browser: Client, openai: LLMProvider) -> None:
    answer = browser.post(reverse("admin:health_probe"), follow=True)
    assert "The worker has been asked to probe every active provider." in answer.content.decode()


@pytest.mark.parametrize("provider", ["", "x", "00000000-0000-0000-0000-000000000007"])
def test_a_provider_that_is_none_is_not_found(browser: Client, provider: str) -> None:
    assert browser.post(reverse("admin:health_probe"), {"provider": provider}).status_code == 404


def test_looking_asks_for_one_permission_figures_for_another_and_probing_for_a_third(
    client: Client, nobody: Client, openai: LLMProvider
) -> None:
    assert nobody.get(reverse("admin:health")).status_code == 403
    assert nobody.post(reverse("admin:health_probe"), {"provider": str(openai.pk)}).status_code == 403
    viewer = User.objects.create_user("vera", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_llmprovider"))
    client.force_login(viewer)
    text = board(client)
    assert "Openai" in text
    assert "Lost attempts" not in text
    assert "Probe now" not in text
    before = ProviderHealthCheck.objects.count()
    assert client.post(reverse("admin:health_probe"), {"provider": str(openai.pk)}).status_code == 403
    assert client.get(reverse("admin:health_probe")).status_code == 403
    assert ProviderHealthCheck.objects.count() == before
