"""Tenants and keys over the staff API: shown once, revoked, suspended; limits that could not hold are refused."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from tenants import auth, keys
from tenants.errors import Conflict
from tenants.models import ApiKey, AuditEvent, Tenant
from tests import cast
from tests.conftest import Api


def test_a_tenant_is_made_with_defaults(staff: Api) -> None:
    status, made = staff.post("admin/tenants", {"slug": "hooli"})
    assert status == 201
    assert (made["name"], made["tier"], made["timezone"]) == ("hooli", "free", "UTC")
    assert (made["markup_percent"], made["sandbox_enabled"], made["is_active"]) == ("0", False, True)
    assert (made["budget_limit_daily"], made["budget_limit_monthly"]) == (None, None)
    assert staff.get("admin/tenants/hooli/")[1] == staff.get(f"admin/tenants/{made['id']}")[1] == made
    assert AuditEvent.objects.get().after["slug"] == "hooli"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"slug": "a b"}, "slug"),
        ({"slug": None}, "slug"),
        ({"tier": "platinum"}, "tier"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"budget_limit_daily": "-1"}, "budget_limit_daily"),
        ({"budget_limit_daily": "NaN"}, "budget_limit_daily"),
        ({"budget_limit_monthly": "1e30"}, "budget_limit_monthly"),
        ({"budget_limit_monthly": False}, "budget_limit_monthly"),
        ({"markup_percent": "-1"}, "markup_percent"),
        ({"markup_percent": "99999"}, "markup_percent"),
        ({"sandbox_enabled": "on"}, "sandbox_enabled"),
        ({"budget": "1"}, "budget"),
    ],
)
def test_a_wrong_tenant_is_a_400_that_names_the_field(staff: Api, change: dict[str, Any], param: str) -> None:
    status, answer = staff.post("admin/tenants", {"slug": "hooli"} | change)
    assert (status, answer["error"]["param"]) == (400, param)
    assert Tenant.objects.count() == 0


def test_a_tenant_is_changed_and_a_taken_slug_is_a_409(staff: Api, acme: Tenant, globex: Tenant) -> None:
    status, read = staff.patch("admin/tenants/acme", {"budget_limit_daily": 0, "markup_percent": "12.5"})
    assert (status, read["budget_limit_daily"], read["markup_percent"]) == (200, "0", "12.5")
    assert staff.patch("admin/tenants/acme", {"slug": "globex"})[0] == 409
    acme.refresh_from_db()
    assert (acme.slug, acme.budget_limit_daily) == ("acme", Decimal(0))
    assert staff.delete("admin/tenants/acme")[0] == 405
    assert staff.get("admin/tenants?tier=free&search=glob")[1]["count"] == 1


def test_a_key_is_shown_once_works_and_is_revoked(staff: Api, acme: Tenant) -> None:
    status, made = staff.post("admin/tenants/acme/keys", {"name": "batch"})
    assert (status, made.keys()) == (201, {"id", "key"})
    assert Api(made["key"]).get("llm/models")[0] == 200
    _, listed = staff.get("admin/tenants/acme/keys/")
    row = listed["results"][0]
    assert (row["scopes"], row["key"]) == (["completions", "usage:read"], f"{made['key'][:12]}…{made['key'][-4:]}")
    assert made["key"] not in str(listed) + str(list(AuditEvent.objects.values())) + str(list(ApiKey.objects.values()))
    assert staff.delete(f"admin/tenants/acme/keys/{made['id']}") == (204, None)
    auth.CALLERS.clear()
    assert Api(made["key"]).get("llm/models")[0] == 401
    assert staff.delete(f"admin/tenants/acme/keys/{made['id']}")[0] == 204
    assert [event.action for event in AuditEvent.objects.order_by("id")] == ["create", "revoke"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"name": None}, "name"),
        ({"scopes": ["root"]}, "scopes.0"),
        ({"scopes": "manage"}, "scopes"),
        ({"budget_limit_daily": "-1"}, "budget_limit_daily"),
        ({"rate_limit_rpm": -1}, "rate_limit_rpm"),
        ({"rate_limit_tpm": 10**20}, "rate_limit_tpm"),
        ({"allowed_models": "all"}, "allowed_models"),
        ({"allowed_models": [None]}, "allowed_models.0"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": 5}, "expires_at"),
        ({"tenant": "globex"}, "tenant"),
    ],
)
def test_a_wrong_key_is_a_400_that_names_the_field(
    staff: Api, acme: Tenant, change: dict[str, Any], param: str
) -> None:
    before = ApiKey.objects.count()
    status, answer = staff.post("admin/tenants/acme/keys", {"name": "batch"} | change)
    assert (status, answer["error"]["param"]) == (400, param)
    assert ApiKey.objects.count() == before


def test_a_key_is_reached_only_through_its_own_tenant(staff: Api, acme: Tenant, globex: Tenant) -> None:
    key, secret = cast.make_key(acme)
    missing = staff.get("admin/tenants/globex/keys/00000000-0000-4000-8000-000000000000")
    assert staff.get(f"admin/tenants/globex/keys/{key.pk}") == missing
    assert staff.delete(f"admin/tenants/globex/keys/{key.pk}")[0] == missing[0] == 404
    assert Api(secret).get("llm/models")[0] == 200
    assert staff.get("admin/tenants/nobody/keys")[0] == 404


def test_a_suspended_tenant_is_refused_until_it_is_resumed(staff: Api, acme: Tenant) -> None:
    api = Api(cast.make_key(acme)[1])
    status, read = staff.post("admin/tenants/acme/suspend", {"reason": "unpaid"})
    assert (status, read["is_active"]) == (200, False)
    auth.CALLERS.clear()
    status, answer = api.get("llm/models")
    assert (status, answer["error"]["code"]) == (403, "tenant_suspended")
    assert staff.post("admin/tenants/acme/resume/")[1]["is_active"] is True
    auth.CALLERS.clear()
    assert api.get("llm/models")[0] == 200
    assert list(AuditEvent.objects.order_by("id").values_list("action", "reason")) == [
        ("suspend", "unpaid"),
        ("resume", ""),
    ]


def test_suspending_takes_the_permission_to_change_tenants(db: None, acme: Tenant) -> None:
    support = Api(cast.make_staff("support", superuser=False, permissions=("tenants.add_tenant",))[1])
    assert support.post("admin/tenants/acme/suspend")[0] == 403
    assert Tenant.objects.get().is_active is True


def test_a_key_has_the_right_shape_and_only_its_digest_is_stored(acme: Tenant) -> None:
    key, secret = cast.make_key(acme)
    assert (len(secret), secret[:8], keys.well_formed(secret)) == (46, "tg_live_", True)
    assert not keys.well_formed(secret[:-1] + ("A" if secret[-1] != "A" else "B"))
    assert secret not in str(vars(key))
    assert ApiKey.objects.get(digest=keys.digests(secret)[0][1]) == key


def test_a_rotated_key_goes_on_for_its_overlap(acme: Tenant) -> None:
    now = timezone.now()
    key, secret = cast.make_key(acme, budget_limit_daily=Decimal(5), allowed_models=["openai/*"])
    successor, new_secret = keys.rotate(key=key, overlap=timedelta(hours=1), now=now)
    assert (successor.budget_limit_daily, successor.allowed_models) == (Decimal(5), ["openai/*"])
    for moment, works in ((now, True), (now + timedelta(minutes=59), True), (now + timedelta(hours=1), False)):
        assert (auth.load(secret, moment) is not None) is works
        assert auth.load(new_secret, moment) is not None
    with pytest.raises(Conflict):
        keys.rotate(key=key, overlap=timedelta(0), now=now)
