"""Tenants' own provider keys in the admin: seen beside the platform's, validated, rotated, switched off, never read."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from llm.models import ProviderCredential
from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.fakes import FakeProvider

OWN, NEW = "sk-own-0123456789wxyz", "sk-new-0123456789abcd"
LIST = "/admin/llm/providercredential/"


@pytest.fixture
def own(fake: FakeProvider, acme: Tenant) -> ProviderCredential:
    return cast.make_credential(cast.make_provider("vendor", fake.base_url), OWN, acme, key_name="ours")


def act(browser: Client, name: str, *keys: ProviderCredential) -> str:
    chosen = {"action": name, "_selected_action": [str(key.pk) for key in keys]}
    return browser.post(LIST, chosen, follow=True).content.decode()


def rotate(browser: Client, key: ProviderCredential, secret: str) -> str:
    page = reverse("admin:llm_providercredential_rotate", args=(key.pk,))
    assert secret not in browser.get(page).content.decode()
    return browser.post(page, {"api_key": secret, "overlap": "24"}, follow=True).content.decode()


def test_own_keys_are_listed_beside_the_platforms_and_found_by_tenant_provider_and_state(
    browser: Client, own: ProviderCredential, globex: Tenant
) -> None:
    cast.make_credential(own.provider, key_name="the platform's")
    cast.make_credential(own.provider, tenant=globex, key_name="theirs", is_validated=False)
    everything = {"ours", "the platform&#x27;s", "theirs"}
    for query, found in (
        ({}, everything),
        ({"tenant": str(own.tenant_id)}, {"ours"}),
        ({"is_validated__exact": "0"}, {"theirs"}),
        ({"tenant__isempty": "1"}, {"the platform&#x27;s"}),
        ({"q": "globex"}, {"theirs"}),
    ):
        page = browser.get(LIST, query).content.decode()
        assert {name for name in everything if f">{name}<" in page} == found
        assert OWN not in page


def test_keys_are_validated_on_demand(browser: Client, own: ProviderCredential, fake: FakeProvider) -> None:
    ProviderCredential.objects.update(is_validated=False)
    assert "accepted." in act(browser, "validate_selected", own)
    own.refresh_from_db()
    assert own.is_validated is True
    fake.revoke(OWN)
    assert "It refused this key (HTTP 401)." in act(browser, "validate_selected", own)
    own.refresh_from_db()
    assert own.is_validated is False
    event = AuditEvent.objects.get(action="invalidate")
    assert (event.actor_kind, event.actor_label) == ("user", "grace")


def test_keys_are_switched_off_together_and_audited(browser: Client, own: ProviderCredential) -> None:
    other = cast.make_credential(own.provider)
    assert "2 deactivated." in act(browser, "deactivate_selected", own, other)
    assert ProviderCredential.objects.filter(is_active=True).count() == 0
    assert AuditEvent.objects.filter(action="deactivate").count() == 2


def test_an_own_key_is_rotated_once_its_provider_accepts_the_new_secret(
    browser: Client, own: ProviderCredential, fake: FakeProvider
) -> None:
    fake.revoke(NEW)
    assert "It refused this key (HTTP 401)." in rotate(browser, own, NEW)
    own.refresh_from_db()
    assert own.open().reveal() == OWN
    fake.reinstate(NEW)
    page = rotate(browser, own, NEW)
    assert "is rotated" in page
    assert NEW not in page
    own.refresh_from_db()
    assert (own.open().reveal(), own.open_previous().reveal()) == (NEW, OWN)
    assert NEW not in str(list(AuditEvent.objects.values()))


def test_a_platform_key_is_replaced_on_its_providers_page_instead(
    browser: Client, own: ProviderCredential, fake: FakeProvider
) -> None:
    platform = cast.make_credential(own.provider)
    change = reverse("admin:llm_providercredential_change", args=(platform.pk,))
    assert "/rotate/" not in browser.get(change).content.decode()
    assert "/rotate/" in browser.get(change.replace(str(platform.pk), str(own.pk))).content.decode()
    assert "replaced on its provider" in rotate(browser, platform, NEW)
    assert fake.requests == []


def test_the_page_of_a_key_never_holds_its_secrets(browser: Client, own: ProviderCredential, nobody: Client) -> None:
    rotate(browser, own, NEW)
    for name in ("change", "history", "delete", "rotate"):
        url = reverse(f"admin:llm_providercredential_{name}", args=(own.pk,))
        page = browser.get(url).content.decode()
        assert OWN not in page
        assert NEW not in page
        assert nobody.get(url).status_code == 403


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"is_validated": True}, "accepted"),
        ({"is_validated": True, "validation_error": "It answered HTTP 500."}, "It answered HTTP 500."),
        ({"is_validated": False, "validation_error": "It refused."}, "refused"),
        ({"is_validated": False}, "not tested"),
        ({"is_active": False}, ">off<"),
    ],
)
def test_the_state_of_a_key_is_said_in_words(
    browser: Client, own: ProviderCredential, state: dict[str, Any], words: str
) -> None:
    ProviderCredential.objects.update(**state)
    assert words in browser.get(LIST).content.decode()
