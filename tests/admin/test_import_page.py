"""Import models: the page shows what would be made, and makes what was seen."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from llm.models import LLMModel, LLMProvider
from tests import cast
from tests.admin.rows import HOSTILE
from tests.fakes import Behaviour, FakeProvider


@pytest.fixture
def vendor(gpt: LLMModel, fake: FakeProvider) -> LLMProvider:
    provider = cast.make_provider("vendor", fake.base_url)
    cast.make_credential(provider)
    lists(fake, "gpt-4o", "house-model", HOSTILE, "pic/*")
    return provider


def lists(fake: FakeProvider, *names: str) -> None:
    fake.script("/v1/models", Behaviour(listing={"data": [{"id": name} for name in names]}))


def address(provider: LLMProvider) -> str:
    return reverse("admin:llm_llmprovider_import_models", args=(provider.pk,))


def seen(page: Any) -> str:
    return dict(page.context["hidden"])["seen"]


def test_the_review_shows_what_would_be_made_and_makes_nothing(browser: Client, vendor: LLMProvider) -> None:
    change = reverse("admin:llm_llmprovider_change", args=(vendor.pk,))
    assert address(vendor) in browser.get(change).content.decode()
    page = browser.get(address(vendor))
    html = page.content.decode()
    for words in (
        "3 to make, 0 there already, 1 skipped.", "copied from openai/gpt-4o", "$2.50", "$10.00",
        "128,000", "The catalog has no price of house-model.", "pic/*", "It is a pattern, not a model.",
    ):  # fmt: skip
        assert words in html, words
    assert HOSTILE not in html
    assert LLMModel.objects.count() == 1


@pytest.mark.parametrize("activate", [True, False])
def test_what_was_reviewed_is_made_as_wished(browser: Client, vendor: LLMProvider, activate: bool) -> None:
    page = browser.get(address(vendor))
    wish = {"activate": "on"} if activate else {}
    answer = browser.post(address(vendor), {"seen": seen(page)} | wish, follow=True)
    assert "3 made, 0 there already, 1 skipped. Without a price: 2;" in answer.content.decode()
    made = LLMModel.objects.filter(provider=vendor)
    assert set(made.values_list("model_id", "is_active")) == {
        ("gpt-4o", activate), ("house-model", activate), (HOSTILE, activate),
    }  # fmt: skip
    assert made.get(model_id="gpt-4o").price_versions.get().author == "grace"


def test_several_prices_wait_for_a_second_person_and_the_page_says_so_before(
    browser: Client, vendor: LLMProvider, fake: FakeProvider, gpt: LLMModel
) -> None:
    cast.make_model(gpt.provider, "gpt-4o-mini")
    lists(fake, "gpt-4o", "gpt-4o-mini")
    page = browser.get(address(vendor))
    words = "Prices that wait for a second person: 2; until then calls are refused."
    assert words in page.content.decode()
    answer = browser.post(address(vendor), {"seen": seen(page), "activate": "on"}, follow=True)
    assert words in answer.content.decode()
    made = LLMModel.objects.filter(provider=vendor, is_active=True)
    assert list(made.values_list("price_versions__status", flat=True)) == ["proposed"] * 2


def test_a_list_that_changed_meanwhile_is_shown_again(browser: Client, vendor: LLMProvider, fake: FakeProvider) -> None:
    page = browser.get(address(vendor))
    lists(fake, "gpt-4o", "newcomer")
    again = browser.post(address(vendor), {"seen": seen(page), "activate": "on"})
    assert "The list has changed since you saw it. Nothing was made" in again.content.decode()
    assert "newcomer" in again.content.decode()
    assert not LLMModel.objects.filter(provider=vendor).exists()
    browser.post(address(vendor), {"seen": seen(again), "activate": "on"})
    assert LLMModel.objects.filter(provider=vendor, model_id="newcomer").exists()


def test_a_list_that_cannot_be_read_is_said_on_the_provider_s_page(
    browser: Client, vendor: LLMProvider, fake: FakeProvider
) -> None:
    fake.stop()
    page = browser.get(address(vendor), follow=True)
    assert page.redirect_chain[-1][0] == reverse("admin:llm_llmprovider_change", args=(vendor.pk,))
    assert "could not be read. It could not be reached in time." in page.content.decode()


def test_the_review_takes_few_queries_however_long_the_list(
    browser: Client, vendor: LLMProvider, fake: FakeProvider, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    lists(fake, *[f"m{number}" for number in range(900)])
    browser.get(reverse("admin:index"))
    with django_assert_max_num_queries(10):
        page = browser.get(address(vendor))
    assert "the first 300 shown" in page.content.decode()


def test_it_takes_the_permission_to_add_models_and_the_one_to_price_for_prices(vendor: LLMProvider) -> None:
    norma = User.objects.create_user("norma", is_staff=True)
    client = Client()
    client.force_login(norma)
    norma.user_permissions.add(Permission.objects.get(codename="change_llmprovider"))
    change = reverse("admin:llm_llmprovider_change", args=(vendor.pk,))
    assert address(vendor) not in client.get(change).content.decode()
    assert client.get(address(vendor)).status_code == client.post(address(vendor)).status_code == 403
    norma.user_permissions.add(Permission.objects.get(codename="add_llmmodel"))
    page = client.get(address(vendor))
    client.post(address(vendor), {"seen": seen(page), "activate": "on"})
    made = LLMModel.objects.get(provider=vendor, model_id="gpt-4o")
    assert not made.price_versions.exists()
