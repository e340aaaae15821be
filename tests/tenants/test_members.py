"""Members: added by name, given roles, removed; there is always an owner, and nobody learns who else is known here."""

import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from tenants import audit, members
from tenants.errors import Conflict
from tenants.models import AuditEvent, Membership, Tenant
from tests import cast
from tests.conftest import Api


def member(user: User) -> Membership:
    return Membership.objects.get(user=user)


def test_somebody_new_is_made_without_a_password_and_listed(tenant: Api, acme: Tenant) -> None:
    cast.make_member(acme, "ada")
    status, made = tenant.post("members", {"username": "bob", "email": "bob@acme.example", "role": "admin"})
    bob = User.objects.get(username="bob")
    assert (status, made["username"], made["email"], made["role"]) == (201, "bob", "bob@acme.example", "admin")
    assert (made["user_id"], bob.has_usable_password(), bob.is_staff) == (str(bob.pk), False, False)
    _, listed = tenant.get("members")
    assert [(one["username"], one["role"]) for one in listed["results"]] == [("ada", "owner"), ("bob", "admin")]
    assert tenant.get("members?search=bob")[1]["results"] == [made]
    assert tenant.get(f"members/{made['id']}") == (200, made)
    assert AuditEvent.objects.filter(action="create").count() == 2  # the user and the membership


def test_a_user_there_is_joins_by_name_and_stays_as_they_are(tenant: Api, globex: Tenant) -> None:
    eve = cast.make_member(globex, "eve")
    status, made = tenant.post("members", {"username": "eve"})
    assert (status, made["user_id"], made["role"]) == (201, str(eve.pk), "developer")
    assert User.objects.get(username="eve").email == ""
    status, answer = tenant.post("members", {"username": "eve"})
    assert (status, answer["error"]["code"]) == (409, "conflict")


def test_nobody_learns_the_address_behind_a_user_name(tenant: Api, globex: Tenant) -> None:
    eve = cast.make_member(globex, "eve")
    User.objects.filter(pk=eve.pk).update(email="eve@globex.example")
    for email in ({}, {"email": "guess@globex.example"}):
        status, answer = tenant.post("members", {"username": "eve"} | email)
        assert (status, answer["error"]["param"]) == (400, "email")
        assert "globex" not in answer["error"]["message"]
    assert Membership.objects.filter(user=eve).count() == 1
    assert tenant.post("members", {"username": "eve", "email": "EVE@globex.example"})[0] == 201


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "username"),
        ({"username": ""}, "username"),
        ({"username": "two words"}, "username"),
        ({"username": 5}, "username"),
        ({"username": "x" * 151}, "username"),
        ({"username": "bob", "email": "no address"}, "email"),
        ({"username": "bob", "role": "king"}, "role"),
        ({"username": "bob", "is_staff": True}, "is_staff"),
        ({"username": "bob", "password": "x"}, "password"),
    ],
)
def test_a_wrong_member_is_a_400_that_names_the_field_and_nobody_is_made(
    tenant: Api, body: dict[str, Any], param: str
) -> None:
    status, answer = tenant.post("members", body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert User.objects.count() == Membership.objects.count() == 0


def test_a_role_is_changed_and_a_membership_ended(tenant: Api, acme: Tenant) -> None:
    cast.make_member(acme, "ada")
    bob = cast.make_member(acme, "bob", role="viewer")
    path = f"members/{member(bob).pk}"
    assert tenant.patch(path, {"role": "owner"})[1]["role"] == "owner"
    assert tenant.patch(path, {"role": "viewer", "username": "x"})[1]["error"]["param"] == "username"
    assert tenant.delete(path) == (204, None)
    assert User.objects.filter(username="bob").exists()
    assert [event.action for event in AuditEvent.objects.order_by("id")] == ["update", "delete"]


def test_the_last_owner_is_neither_removed_nor_demoted(tenant: Api, acme: Tenant) -> None:
    ada, bob = cast.make_member(acme, "ada"), cast.make_member(acme, "bob", role="admin")
    path = f"members/{member(ada).pk}"
    for answer in (tenant.delete(path), tenant.patch(path, {"role": "admin"})):
        assert (answer[0], answer[1]["error"]["code"]) == (409, "conflict")
    assert tenant.patch(path, {"role": "owner"})[0] == 200
    assert member(ada).role == "owner"
    tenant.patch(f"members/{member(bob).pk}", {"role": "owner"})
    assert tenant.delete(path)[0] == 204


def test_another_tenants_member_reads_like_a_missing_one(tenant: Api, stranger: Api, acme: Tenant) -> None:
    ada = cast.make_member(acme, "ada")
    missing = "00000000-0000-4000-8000-000000000000"
    for method, body in (("GET", None), ("PATCH", {"role": "viewer"}), ("DELETE", None)):
        theirs = stranger.call(method, f"members/{member(ada).pk}", body)
        assert theirs == stranger.call(method, f"members/{missing}", body) == stranger.call(method, "members/x", body)
        assert theirs[0] == 404
    assert stranger.get("members")[1]["results"] == []
    assert member(ada).role == "owner"


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_leave_at_the_same_time_leave_one_behind() -> None:
    acme = cast.make_tenant()
    rows = [member(cast.make_member(acme, name)) for name in ("ada", "bob")]
    outcomes: list[str] = []

    def leave(row: Membership) -> None:
        try:
            members.remove(membership=row, actor=audit.system("test"), now=timezone.now())
            outcomes.append("left")
        except Conflict:
            outcomes.append("stays")
        finally:
            connection.close()

    threads = [threading.Thread(target=leave, args=(row,)) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["left", "stays"]
    assert Membership.objects.filter(tenant=acme, role="owner").count() == 1
