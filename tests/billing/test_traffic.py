"""What the health board says of real requests: per provider, by the moment they were accepted."""

from datetime import timedelta
from typing import Any

import pytest

from billing import traffic
from tests.billing.made import NOW, a_tenant, spend

pytestmark = pytest.mark.django_db


def attempt(provider: str, status: int) -> dict[str, Any]:
    return {"provider": provider, "model": "m", "key_source": "platform", "status": status, "code": "", "latency_ms": 1}


def test_requests_errors_times_and_lost_attempts_of_each_provider() -> None:
    acme, at = a_tenant(), NOW - timedelta(hours=1)
    spend(acme.pk, created_at=at, latency_ms=420, ttft_ms=60, attempts=[attempt("openai", 200)])
    spend(acme.pk, created_at=at, latency_ms=480, ttft_ms=None, status="cancelled", status_code=499)
    spend(
        acme.pk,
        created_at=at,
        provider_slug="anthropic",
        attempts=[attempt("openai", 502), attempt("openai", 504), attempt("anthropic", 200)],
    )
    last = spend(
        acme.pk,
        created_at=NOW,
        status="failed",
        status_code=502,
        attempts=[attempt("groq", 429), attempt("openai", 502)],
    )
    spend(acme.pk, created_at=NOW - timedelta(hours=25))
    found = traffic.by_provider(since=NOW - timedelta(hours=24), until=NOW)
    openai, anthropic, groq = (found[slug] for slug in ("openai", "anthropic", "groq"))
    assert (openai.requests, openai.errors, openai.lost_attempts, openai.last_error_at) == (3, 2, 2, last.created_at)
    assert openai.times.latency == {"400-500": 2, "250-300": 1}
    assert openai.times.ttft == {"50-75": 1, "100-150": 1}
    assert (anthropic.requests, anthropic.errors, anthropic.lost_attempts, anthropic.last_error_at) == (1, 0, 0, None)
    assert (groq.requests, groq.lost_attempts) == (0, 1)
