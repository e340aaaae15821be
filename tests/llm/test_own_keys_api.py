"""Tenants' own provider keys over the API: added, seen, changed, validated, rotated, removed."""

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from billing import rollup
from billing.models import UsageRecord
from llm.models import ProviderCredential
from tenants.ids import uuid7
from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.conftest import Api
from tests.fakes import Behaviour, FakeProvider

GOOD, NEW, BAD = "sk-own-0123456789wxyz", "sk-new-0123456789abcd", "sk-bad-0123456789wxyz"
KEYS = "llm/byok/keys"
DAY = timedelta(days=1)


@pytest.fixture
def vendor(db: None, fake: FakeProvider) -> Any:
    """A provider on a socket that takes every key but the bad one."""
    fake.revoke(BAD)
    return cast.make_provider("vendor", fake.base_url, api_key_format="^sk-")


def add(api: Api, secret: str = GOOD, **more: Any) -> Any:
    status, made = api.post(KEYS, {"provider": "vendor", "name": "mine", "api_key": secret} | more)
    assert status == 201, made
    return made


def stored() -> ProviderCredential:
    return ProviderCredential.objects.get()


# --- adding -----------------------------------------------------------------------------------------------------------


def test_a_key_is_added_validated_at_once_and_shown_without_its_secret(vendor: Any, acme: Tenant) -> None:
    ada = cast.make_member(acme)
    made = add(Api(cast.make_key(acme, owner_id=ada.pk)[1]), weight=7)
    row = stored()
    assert row.open().reveal() == GOOD
    assert made.pop("created_at")
    assert made.pop("last_validated_at")
    assert made == {
        "id": str(row.pk),
        "provider": "vendor",
        "provider_id": str(vendor.pk),
        "name": "mine",
        "weight": 7,
        "is_active": True,
        "masked": "sk-o…wxyz",
        "prefix": "sk-o",
        "suffix": "wxyz",
        "fingerprint": row.fingerprint,
        "is_validated": True,
        "validation_error": "",
        "last_used_at": None,
        "last_rotated_at": None,
        "rotation": {"previous_until": None},
        "user_id": str(ada.pk),
        "totals": {"requests": 0, "total_tokens": 0, "cost_usd": "0", "errors": 0},
    }
    assert (row.tenant, row.user) == (acme, ada)


def test_a_key_that_the_provider_refuses_is_kept_not_used_and_the_answer_says_why(vendor: Any, tenant: Api) -> None:
    made = add(tenant, BAD)
    assert made["is_validated"] is False
    assert made["validation_error"].startswith("It refused this key (HTTP 401).")


def test_a_key_of_a_provider_that_is_away_is_kept_until_it_can_be_asked(
    vendor: Any, tenant: Api, fake: FakeProvider
) -> None:
    fake.stop()
    made = add(tenant)
    assert (made["is_validated"], "could not be reached" in made["validation_error"]) == (False, True)
    fake.start()
    _, asked = tenant.post(f"{KEYS}/{made['id']}/validate")
    assert (asked["is_validated"], asked["validation_error"]) == (True, "")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"provider": "closed"}, "provider"),
        ({"provider": "off"}, "provider"),
        ({"provider": "nobody"}, "provider"),
        ({"api_key": "gsk-of-another-vendor"}, "api_key"),
        ({"api_key": "sk-two words"}, "api_key"),
        ({"api_key": " "}, "api_key"),
        ({"api_key": None}, "api_key"),
        ({"name": ""}, "name"),
        ({"key_name": "other"}, "key_name"),
        ({"weight": -1}, "weight"),
        ({"is_validated": True}, "is_validated"),
        ({"user_id": "1"}, "user_id"),
    ],
)
def test_a_wrong_key_is_a_400_that_names_the_field_and_nothing_is_stored(
    vendor: Any, tenant: Api, fake: FakeProvider, change: dict[str, Any], param: str
) -> None:
    cast.make_provider("closed", fake.base_url, is_byok_supported=False)
    cast.make_provider("off", fake.base_url, is_active=False)
    status, answer = tenant.post(KEYS, {"provider": "vendor", "name": "mine", "api_key": GOOD} | change)
    assert (status, answer["error"]["param"]) == (400, param)
    assert "0123456789" not in answer["error"]["message"]
    assert ProviderCredential.objects.count() == AuditEvent.objects.count() == len(fake.requests) == 0


def test_key_name_is_accepted_for_name_and_a_name_is_taken_once_per_tenant_and_provider(
    vendor: Any, tenant: Api, stranger: Api
) -> None:
    body = {"provider": str(vendor.pk), "key_name": "mine", "api_key": GOOD}
    assert tenant.post(KEYS, body)[0] == 201
    status, answer = tenant.post(KEYS, body)
    assert (status, answer["error"]["code"]) == (409, "conflict")
    assert stranger.post(KEYS, body)[0] == 201


# --- seeing -----------------------------------------------------------------------------------------------------------


def test_the_list_is_filtered_and_shows_only_ones_own(vendor: Any, tenant: Api, stranger: Api) -> None:
    first, second = add(tenant), add(tenant, BAD, name="second")
    cast.make_credential(vendor)
    assert stranger.get(KEYS)[1]["results"] == []
    for query, found in (
        ("", [first, second]),
        ("?is_validated=true", [first]),
        ("?provider=vendor&name=second", [second]),
        (f"?provider={uuid.uuid4()}", []),
        ("?search=seco", [second]),
    ):
        assert tenant.get(f"{KEYS}{query}")[1]["results"] == found


def test_anothers_key_reads_like_a_missing_one_everywhere(vendor: Any, tenant: Api, stranger: Api) -> None:
    made = add(tenant)
    before = ProviderCredential.objects.values().get()
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("PUT", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/validate", None),
        ("POST", "/rotate", {"api_key": NEW}),
    ):
        theirs = stranger.call(method, f"{KEYS}/{made['id']}{path}", body)
        assert theirs == stranger.call(method, f"{KEYS}/{uuid.uuid4()}{path}", body)
        assert theirs[0] == 404
    assert ProviderCredential.objects.values().get() == before


def used(tenant: Tenant, credential_id: Any, day: datetime, **values: Any) -> UsageRecord:
    fields = {
        "id": uuid7(), "tenant_id": tenant.pk, "credential_id": credential_id, "used_byok": True, "status": "completed",
        "status_code": 200, "total_tokens": 13, "cost_total_usd": Decimal("0.25"), "billing_day": day.date(),
        "created_at": day,
    }  # fmt: skip
    return UsageRecord.objects.create(**fields | values)


def test_totals_are_roll_ups_plus_what_is_not_rolled_up_yet_and_the_last_use_is_the_newest_request(
    vendor: Any, tenant: Api, acme: Tenant
) -> None:
    made = add(tenant)
    now = timezone.now()
    for days in (9, 8, 5):
        used(acme, made["id"], now - days * DAY, status_code=500 if days == 8 else 200)
    for days in (9, 8):
        rollup.roll_up_day(day=(now - days * DAY).date(), now=now)
    used(acme, uuid.uuid4(), now)
    newest = used(acme, made["id"], now)
    _, shown = tenant.get(f"{KEYS}/{made['id']}")
    assert shown["totals"] == {"requests": 4, "total_tokens": 52, "cost_usd": "1", "errors": 1}
    assert datetime.fromisoformat(shown["last_used_at"]) == newest.created_at.astimezone(UTC)


def test_the_list_asks_the_database_as_often_for_many_keys_as_for_one(
    vendor: Any, tenant: Api, django_assert_num_queries: Any
) -> None:
    add(tenant)
    tenant.get(KEYS)
    # The page and its count, the marks, the requests and their adjustments; no day is rolled up.
    with django_assert_num_queries(5):
        tenant.get(KEYS)
    for number in range(5):
        add(tenant, name=f"key {number}")
    with django_assert_num_queries(5):
        assert tenant.get(KEYS)[1]["count"] == 6


# --- changing ---------------------------------------------------------------------------------------------------------


def test_name_weight_and_activity_can_be_changed_by_patch_and_by_put(vendor: Any, tenant: Api) -> None:
    made = add(tenant)
    path = f"{KEYS}/{made['id']}"
    _, patched = tenant.patch(path, {"name": "ours", "is_active": False})
    assert patched == made | {"name": "ours", "is_active": False}
    _, put = tenant.put(path, patched | {"weight": 3, "is_active": True})
    assert put == made | {"name": "ours", "weight": 3}
    assert [event.after for event in AuditEvent.objects.filter(action="update").order_by("id")] == [
        {"key_name": "ours", "is_active": False},
        {"weight": 3, "is_active": True},
    ]


@pytest.mark.parametrize(("body", "words"), [({"api_key": NEW}, "/rotate"), ({"provider": "other"}, "Add another key")])
def test_a_secret_is_not_changed_by_patch_and_a_provider_not_at_all(
    vendor: Any, tenant: Api, body: dict[str, Any], words: str
) -> None:
    cast.make_provider("other")
    made = add(tenant)
    for call in (tenant.patch, tenant.put):
        status, answer = call(f"{KEYS}/{made['id']}", {"name": "mine"} | body)
        assert (status, answer["error"]["param"]) == (400, next(iter(body)))
        assert words in answer["error"]["message"]
    assert stored().open().reveal() == GOOD


def test_a_key_is_removed_and_the_config_that_used_it_stays(vendor: Any, tenant: Api, acme: Tenant) -> None:
    made = add(tenant)
    config = cast.make_config(acme, credential=stored())
    assert tenant.delete(f"{KEYS}/{made['id']}") == (204, None)
    config.refresh_from_db()
    assert config.credential is None
    assert AuditEvent.objects.get(action="delete").object_id == made["id"]


# --- rotating ---------------------------------------------------------------------------------------------------------


def test_a_rotation_keeps_id_totals_and_configs_and_the_secret_before_it_for_a_day(
    vendor: Any, tenant: Api, acme: Tenant
) -> None:
    made = add(tenant)
    config = cast.make_config(acme, credential=stored())
    status, rotated = tenant.post(f"{KEYS}/{made['id']}/rotate", {"api_key": NEW})
    row = stored()
    assert (status, rotated["id"], rotated["masked"]) == (200, made["id"], "sk-n…abcd")
    assert (rotated["is_validated"], rotated["totals"]) == (True, made["totals"])
    assert rotated["fingerprint"] != made["fingerprint"]
    assert row.open().reveal() == NEW
    assert row.open_previous().reveal() == GOOD
    assert row.previous_until == row.last_rotated_at + DAY
    assert datetime.fromisoformat(rotated["rotation"]["previous_until"]) == row.previous_until
    assert config.credential_id == row.pk


def test_without_overlap_the_secret_before_is_gone_at_once(vendor: Any, tenant: Api) -> None:
    made = add(tenant)
    _, rotated = tenant.post(f"{KEYS}/{made['id']}/rotate", {"api_key": NEW, "overlap_hours": 0})
    assert rotated["rotation"] == {"previous_until": None}
    assert stored().previous_sealed is None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"api_key": BAD}, 400, "key_refused"),
        ({"api_key": GOOD}, 400, "invalid_value"),  # the one in use
        ({"api_key": "no-such-format-0123456789"}, 400, "invalid_value"),
        ({}, 400, "invalid_value"),
        ({"api_key": NEW, "overlap_hours": 169}, 400, "invalid_value"),
        ({"api_key": NEW, "overlap_hours": -1}, 400, "invalid_value"),
    ],
)
def test_a_rotation_to_what_is_refused_changes_nothing(
    vendor: Any, tenant: Api, body: dict[str, Any], status: int, code: str
) -> None:
    made = add(tenant)
    answer = tenant.post(f"{KEYS}/{made['id']}/rotate", body)
    assert (answer[0], answer[1]["error"]["code"]) == (status, code)
    assert tenant.get(f"{KEYS}/{made['id']}")[1] == made
    assert stored().open().reveal() == GOOD


@pytest.mark.parametrize("trouble", ["500", "429", "away"])
def test_a_rotation_that_nobody_can_confirm_is_a_503_to_try_again_and_changes_nothing(
    vendor: Any, tenant: Api, fake: FakeProvider, trouble: str
) -> None:
    made = add(tenant)
    if trouble == "away":
        fake.stop()
    else:
        fake.script("/v1/models", Behaviour(status=int(trouble)))
    status, answer = tenant.post(f"{KEYS}/{made['id']}/rotate", {"api_key": NEW})
    assert (status, answer["error"]["code"]) == (503, "provider_unreachable")
    assert tenant.get(f"{KEYS}/{made['id']}")[1] == made
    assert stored().open().reveal() == GOOD


def test_a_provider_that_takes_no_own_keys_any_more_takes_no_rotation(vendor: Any, tenant: Api) -> None:
    made = add(tenant)
    vendor.is_byok_supported = False
    vendor.save()
    status, answer = tenant.post(f"{KEYS}/{made['id']}/rotate", {"api_key": NEW})
    assert (status, answer["error"]["param"]) == (400, "provider")
