"""Who gets in: one answer for every kind of bad key, scopes, staff keys, and how long a change takes to be seen."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tenants import auth
from tenants.errors import Unavailable
from tenants.models import Tenant
from tests import cast
from tests.conftest import Api

WRONG = "tg_live_" + "A" * 38


def test_missing_malformed_unknown_revoked_and_expired_keys_get_the_same_answer(acme: Tenant) -> None:
    now = timezone.now()
    revoked, revoked_secret = cast.make_key(acme)
    auth.ApiKey.objects.filter(pk=revoked.pk).update(revoked_at=now)
    _, expired_secret = cast.make_key(acme, expires_at=now - timedelta(seconds=1))
    answers = [
        Api(secret).get("llm/models") for secret in (None, "", "x", "x" * 5000, WRONG, revoked_secret, expired_secret)
    ]
    assert {status for status, _ in answers} == {401}
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer {}"},
        {"Authorization": "bearer {}"},
        {"x-api-key": "{}"},
    ],
)
def test_a_key_travels_as_bearer_or_as_x_api_key(acme: Tenant, headers: dict[str, str]) -> None:
    _, secret = cast.make_key(acme)
    client = Client(headers={name: value.format(secret) for name, value in headers.items()})
    assert client.get("/api/v1/llm/models").status_code == 200


def test_a_401_says_how_to_authenticate_and_that_retrying_is_no_use(db: None) -> None:
    answer = Client().get("/api/v1/llm/models")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (401, "false")
    assert answer.headers["x-request-id"]


def test_a_staff_key_dies_with_its_owners_right_to_be_staff(db: None) -> None:
    user, secret = cast.make_staff()
    assert Api(secret).get("admin/tenants")[0] == 200
    user.is_staff = False
    user.save()
    auth.CALLERS.clear()
    assert Api(secret).get("admin/tenants")[0] == 401


def test_a_change_is_seen_within_a_second(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    clock: list[float] = [1000.0]
    monkeypatch.setattr(auth.time, "monotonic", lambda: clock[0])
    key, secret = cast.make_key(acme)
    api = Api(secret)
    assert api.get("llm/models")[0] == 200
    auth.ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())
    clock[0] += 0.99
    assert api.get("llm/models")[0] == 200
    clock[0] += 0.02
    assert api.get("llm/models")[0] == 401


def test_a_key_is_marked_as_used_once_a_minute(acme: Tenant, django_assert_num_queries: Any) -> None:
    key, secret = cast.make_key(acme)
    now = timezone.now()
    auth.load(secret, now)
    key.refresh_from_db()
    assert key.last_used_at == now
    with django_assert_num_queries(1):
        auth.load(secret, now + timedelta(seconds=30))


def test_a_caller_carries_what_the_data_path_needs(acme: Tenant) -> None:
    user = cast.make_member(acme)
    key, secret = cast.make_key(acme, owner_id=user.pk, allowed_models=["openai/*"], rate_limit_rpm=5)
    caller = auth.load(secret, timezone.now())
    assert caller is not None
    assert (caller.key_id, caller.tenant_slug, caller.tier) == (key.pk, "acme", "professional")
    assert (caller.user_id, caller.allowed_models, caller.rate_limit_rpm) == (str(user.pk), ("openai/*",), 5)


async def test_all_waits_of_one_request_share_one_patience() -> None:
    """Two answers of the database that are each nearly too late must not make a client wait twice."""
    never = threading.Event()
    slow = auth.Cache(lambda _: never.wait(0.5))
    assert auth.patience_s() == auth.PATIENCE_S
    await slow.get("key")
    left_s = auth.patience_s()
    assert auth.LEAST_PATIENCE_S <= left_s <= auth.PATIENCE_S - 0.5
    await slow.get("key")  # known by now: no wait
    assert auth.patience_s() == pytest.approx(left_s, abs=0.01)
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await slow.get("tenant")
    assert time.monotonic() - began < 0.5
    assert auth.patience_s() == auth.LEAST_PATIENCE_S


async def test_a_request_that_follows_on_the_same_connection_has_all_of_its_patience() -> None:
    auth._waited_s.set(5.0)  # what the context of the request before it may say
    assert auth.patience_s() == auth.LEAST_PATIENCE_S
    assert await auth.known("no key at all") is None
    assert auth.patience_s() > auth.PATIENCE_S / 2
