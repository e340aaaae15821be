"""A staff key acts as its owner, so it is nobody else's: never given another owner, rotated by its owner alone.

Else whoever may edit keys could be the second person who decides on their own price.
"""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from llm.models import PriceProposal
from tenants import auth, keys
from tenants.errors import PermissionDenied
from tenants.models import ApiKey, AuditEvent, Membership, Tenant
from tests import cast
from tests.admin.test_catalog import fields_of
from tests.admin.test_tenants import secret_on
from tests.conftest import Api

MAY_EDIT_KEYS = ("tenants.view_apikey", "tenants.change_apikey")
MAY_PROPOSE = ("llm.view_priceversion", "llm.add_priceversion")


def page(name: str, key: ApiKey) -> str:
    return reverse(f"admin:tenants_apikey_{name}", args=(key.pk,))


@pytest.fixture
def bobs(db: None) -> ApiKey:
    """The staff key of a superuser."""
    user, _ = cast.make_staff("bob")
    return ApiKey.objects.get(owner=user)


@pytest.fixture
def mallory(db: None) -> User:
    """She may edit keys, and propose prices."""
    return cast.make_staff("mallory", superuser=False, permissions=(*MAY_EDIT_KEYS, *MAY_PROPOSE))[0]


@pytest.fixture
def hers(mallory: User) -> Client:
    """Her browser."""
    client = Client()
    client.force_login(mallory)
    return client


def test_a_staff_key_is_rotated_by_its_owner(hers: Client, mallory: User) -> None:
    key = ApiKey.objects.get(owner=mallory)
    assert page("rotate", key) in hers.get(page("change", key)).content.decode()
    secret = secret_on(hers.post(page("rotate", key), {"overlap": "0"}).content.decode())
    successor = auth.load(secret, timezone.now())
    assert successor is not None
    assert (successor.is_staff, successor.owner) == (True, mallory)


@pytest.mark.parametrize("superuser", [False, True])
def test_nobody_else_rotates_a_staff_key_and_learns_its_secret(mallory: User, bobs: ApiKey, superuser: bool) -> None:
    User.objects.filter(pk=mallory.pk).update(is_superuser=superuser)
    client = Client()
    client.force_login(mallory)
    answer = client.post(page("rotate", bobs), {"overlap": "24"})
    assert (answer.status_code, b"tg_live_" in answer.content) == (403, False)
    bobs.refresh_from_db()
    assert (bobs.replaced_by, ApiKey.objects.count(), AuditEvent.objects.count()) == (None, 2, 0)
    shown = client.get(page("change", bobs)).content.decode()
    assert page("rotate", bobs) not in shown
    assert page("revoke", bobs) in shown


def test_a_staff_key_is_not_rotated_for_nobody(bobs: ApiKey) -> None:
    with pytest.raises(PermissionDenied, match="Only its owner") as refused:
        keys.rotate(key=bobs, overlap=timedelta(0), now=timezone.now())
    assert refused.value.code == "not_your_staff_key"
    ApiKey.objects.filter(pk=bobs.pk).update(owner=None)  # what deleting the user does
    with pytest.raises(PermissionDenied):
        keys.rotate(key=bobs, overlap=timedelta(0), now=timezone.now())


def test_a_staff_key_never_gets_another_owner(hers: Client, mallory: User, bobs: ApiKey) -> None:
    own = ApiKey.objects.get(owner=mallory)
    form: dict[str, Any] = fields_of(hers, page("change", own))
    assert "owner" not in form
    assert hers.post(page("change", own), form | {"name": "deploys", "owner": str(bobs.owner_id)}).status_code == 302
    own.refresh_from_db()
    assert (own.name, own.owner) == ("deploys", mallory)


def test_nobody_else_edits_a_staff_key(hers: Client, mallory: User, bobs: ApiKey) -> None:
    before = ApiKey.objects.values().get(pk=bobs.pk)
    form = {"name": "mine", "owner": str(mallory.pk), "scopes": "[]", "allowed_models": "", "max_concurrency": "1"}
    assert hers.post(page("change", bobs), form).status_code == 403
    assert ApiKey.objects.values().get(pk=bobs.pk) == before


def test_whoever_may_edit_keys_revokes_a_staff_key(hers: Client, nobody: Client, bobs: ApiKey) -> None:
    assert nobody.post(page("revoke", bobs), {"reason": "x"}).status_code == 403
    bobs.refresh_from_db()
    assert bobs.revoked_at is None
    hers.post(page("revoke", bobs), {"reason": "leaked"})
    bobs.refresh_from_db()
    assert bobs.revoked_at is not None
    assert AuditEvent.objects.get(action="revoke").reason == "leaked"


def test_the_one_who_proposed_a_price_cannot_be_the_second_person_through_a_key(
    mallory: User, hers: Client, bobs: ApiKey
) -> None:
    cast.make_model(cast.make_provider("openai"), "gpt-4o", input="2.50", output="10")
    key, secret = keys.issue(tenant=None, spec=keys.KeySpec(name="mine", owner_id=mallory.pk))
    price = {"components": {"input": "3", "output": "10"}, "reason": "x"}
    assert Api(secret).post("admin/llm/models/openai/gpt-4o/prices", price)[1]["status"] == "proposed"
    hers.post(page("change", key), fields_of(hers, page("change", key)) | {"owner": str(bobs.owner_id)})
    auth.CALLERS.clear()
    proposal = PriceProposal.objects.get()
    status, _ = Api(secret).post(f"admin/llm/price-proposals/{proposal.pk}/approve", {"reason": "mine"})
    proposal.refresh_from_db()
    assert (status, proposal.state) == (403, "pending")


def test_a_staff_key_loses_what_its_owner_loses(db: None) -> None:
    user, secret = cast.make_staff("ada", superuser=False, permissions=("tenants.view_tenant",))
    assert Api(secret).get("admin/tenants")[0] == 200
    user.user_permissions.clear()
    auth.CALLERS.clear()
    assert Api(secret).get("admin/tenants")[0] == 403
    for lost in ({"is_staff": False}, {"is_staff": True, "is_active": False}):
        User.objects.filter(pk=user.pk).update(**lost)
        auth.CALLERS.clear()
        assert Api(secret).get("admin/tenants")[0] == 401, lost


def test_a_tenants_key_of_a_superuser_is_no_staff_key(tenant: Api, acme: Tenant, bobs: ApiKey) -> None:
    """A tenant may add anybody as a member and make keys for them: those act for the tenant alone."""
    assert bobs.owner is not None
    Membership.objects.create(tenant=acme, user=bobs.owner)
    status, made = tenant.post("keys", {"name": "his", "owner": "bob", "scopes": ["manage"]})
    assert status == 201
    assert Api(made["key"]).get("admin/tenants")[0] == 403
    assert tenant.post(f"keys/{bobs.pk}/rotate", {})[0] == 404
