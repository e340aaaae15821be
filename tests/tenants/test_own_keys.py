"""Tenants manage their own keys to Tollgate: never with more rights than the calling key has."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tenants import auth
from tenants.models import ApiKey, AuditEvent, Tenant
from tests import cast
from tests.conftest import Api

MANAGER = ["manage", "completions"]


@pytest.fixture
def manager(acme: Tenant) -> Api:
    """A key that may manage and complete, with the models of one provider and one more."""
    models = ["openai/*", "anthropic/claude"]
    return Api(cast.make_key(acme, "manager", scopes=MANAGER, allowed_models=models)[1])


def test_a_key_is_made_shown_once_and_works(tenant: Api, acme: Tenant) -> None:
    ends = timezone.now() + timedelta(days=1)
    body = {"name": "batch", "scopes": ["completions"], "allowed_models": ["openai/*"], "expires_at": ends.isoformat()}
    status, made = tenant.post("keys", body)
    assert (status, made.keys()) == (201, {"id", "key"})
    caller = auth.load(made["key"], timezone.now())
    assert caller is not None
    assert (caller.tenant_id, caller.scopes, caller.allowed_models) == (acme.pk, {"completions"}, ("openai/*",))
    _, shown = tenant.get(f"keys/{made['id']}")
    assert (shown["name"], shown["budget_limit_daily"], shown["rate_limit_rpm"]) == ("batch", None, None)
    assert made["key"] not in str(tenant.get("keys"))
    assert AuditEvent.objects.get(action="create").object_id == made["id"]


def test_what_is_left_out_is_the_callers_own(acme: Tenant) -> None:
    ada = cast.make_member(acme)
    models = ["openai/*"]
    caller = Api(cast.make_key(acme, scopes=MANAGER, allowed_models=models, owner_id=ada.pk)[1])
    made = ApiKey.objects.get(pk=caller.post("keys", {"name": "new"})[1]["id"])
    assert (made.scopes, made.allowed_models, made.owner) == (["completions"], models, ada)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"scopes": ["usage:read"]}, "scopes"),
        ({"scopes": ["completions", "configs"]}, "scopes"),
        ({"scopes": ["root"]}, "scopes"),
        ({"allowed_models": None}, "allowed_models"),
        ({"allowed_models": ["anthropic/*"]}, "allowed_models"),
        ({"allowed_models": ["openai/gpt-4o", "claude"]}, "allowed_models"),
        ({"owner": "nobody"}, "owner"),
        ({"owner": "eve"}, "owner"),
        ({"owner": 4.5}, "owner"),
        ({"budget_limit_daily": "5"}, "budget_limit_daily"),
        ({"rate_limit_rpm": 5}, "rate_limit_rpm"),
        ({"max_concurrency": 5}, "max_concurrency"),
        ({"tenant": "globex"}, "tenant"),
        ({"name": ""}, "name"),
    ],
)
def test_rights_that_the_caller_lacks_and_limits_are_refused_by_name(
    manager: Api, globex: Tenant, body: dict[str, Any], param: str
) -> None:
    cast.make_member(globex, "eve")
    status, answer = manager.post("keys", {"name": "new"} | body)
    assert (status, answer["error"]["param"].partition(".")[0]) == (400, param)
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize("models", [["openai/gpt-4o"], ["openai/*", "anthropic/claude"], []])
def test_fewer_models_than_the_callers_are_fine(manager: Api, models: list[str]) -> None:
    _, made = manager.post("keys", {"name": "new", "allowed_models": models})
    assert ApiKey.objects.get(pk=made["id"]).allowed_models == models


def test_a_caller_with_none_of_the_usual_scopes_must_name_them(acme: Tenant) -> None:
    only = Api(cast.make_key(acme, scopes=["manage"])[1])
    assert only.post("keys", {"name": "new"})[1]["error"]["param"] == "scopes"
    assert only.post("keys", {"name": "new", "scopes": ["manage"]})[0] == 201


def test_a_rotation_makes_a_successor_and_the_old_key_ends_after_the_overlap(tenant: Api, acme: Tenant) -> None:
    old, _ = cast.make_key(acme, "old", allowed_models=["openai/*"])
    before = timezone.now()
    status, made = tenant.post(f"keys/{old.pk}/rotate", {"overlap_hours": 2})
    assert status == 201
    old.refresh_from_db()
    new = ApiKey.objects.get(pk=made["id"])
    assert (old.replaced_by, new.name, new.allowed_models) == (new, "old", ["openai/*"])
    assert timedelta() <= old.expires_at - before - timedelta(hours=2) < timedelta(minutes=1)
    assert auth.load(made["key"], timezone.now()) is not None
    assert {event.action for event in AuditEvent.objects.all()} == {"rotate", "create"}
    status, answer = tenant.post(f"keys/{old.pk}/rotate")
    assert (status, answer["error"]["code"]) == (409, "conflict")


@pytest.mark.parametrize("more", [{"scopes": ["usage:read"]}, {"scopes": ["completions"], "allowed_models": None}])
def test_a_key_that_may_do_more_is_not_rotated_since_its_secret_would_be_learnt(
    manager: Api, acme: Tenant, more: dict[str, Any]
) -> None:
    stronger, _ = cast.make_key(acme, "stronger", **more)
    status, answer = manager.post(f"keys/{stronger.pk}/rotate", {})
    assert (status, answer["error"]["code"]) == (403, "permission_denied")
    assert ApiKey.objects.count() == 2
    assert manager.delete(f"keys/{stronger.pk}") == (204, None)
    stronger.refresh_from_db()
    assert stronger.revoked_at is not None


def test_another_tenants_key_reads_like_a_missing_one(tenant: Api, stranger: Api, acme: Tenant) -> None:
    key, _ = cast.make_key(acme)
    missing = "00000000-0000-4000-8000-000000000000"
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
        assert stranger.call(method, f"keys/{key.pk}{path}") == stranger.call(method, f"keys/{missing}{path}")
        assert stranger.call(method, f"keys/{key.pk}{path}")[0] == 404
    assert str(key.pk) not in str(stranger.get("keys?page_size=1000"))


# --- owners -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["user name", "user id", "user id as text"])
def test_staff_set_a_keys_owner_by_user_name_or_id(staff: Api, acme: Tenant, by: str) -> None:
    ada = cast.make_member(acme)
    owner = {"user name": "ada", "user id": ada.pk, "user id as text": str(ada.pk)}[by]
    status, made = staff.post("admin/tenants/acme/keys", {"name": "k", "owner": owner})
    assert status == 201
    _, shown = staff.get(f"admin/tenants/acme/keys/{made['id']}")
    assert (shown["owner"], shown["user_id"]) == ("ada", str(ada.pk))
    assert auth.load(made["key"], timezone.now()).user_id == str(ada.pk)


def test_an_owner_who_is_no_member_is_refused(staff: Api, acme: Tenant, globex: Tenant) -> None:
    eve = cast.make_member(globex, "eve")
    for owner in ("eve", eve.pk, "nobody", ""):
        status, answer = staff.post("admin/tenants/acme/keys", {"name": "k", "owner": owner})
        assert (status, answer["error"]["param"]) == (400, "owner")


def test_staff_choose_among_the_members_when_they_issue_a_key_in_the_admin(acme: Tenant, globex: Tenant) -> None:
    ada, eve = cast.make_member(acme), cast.make_member(globex, "eve")
    grace, _ = cast.make_staff()
    browser = Client()
    browser.force_login(grace)
    page = f"/admin/tenants/tenant/{acme.pk}/issue-key/"
    form = browser.get(page).content.decode()
    assert ">ada<" in form
    assert ">eve<" not in form
    browser.post(page, {"name": "k", "scopes": ["completions"], "owner": ada.pk})
    assert ApiKey.objects.get(tenant=acme).owner == ada
    browser.post(page, {"name": "k", "scopes": ["completions"], "owner": eve.pk})
    assert ApiKey.objects.filter(tenant=acme).count() == 1
