"""Providers, keys, models, prices and rules: what staff do all day, each change with its audit row."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from llm.catalog import prices
from llm.models import LLMModel, LLMProvider, LLMRoutingRule, PriceProposal, ProviderCredential
from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.billing.made import spend
from tests.fakes import FakeProvider

CANARY = "sk-canary-0123456789abcdefghij"


def fields_of(client: Client, url: str) -> dict[str, Any]:
    """The form on a page as a browser would send it back."""
    answer = client.get(url)
    assert answer.status_code == 200, url
    context = answer.context
    forms = [context["adminform"].form] if "adminform" in context else [context["form"]]
    values: dict[str, Any] = {}
    for inline in context.get("inline_admin_formsets") or []:
        forms += [inline.formset.management_form, *inline.formset.initial_forms]
    if "more" in context:
        forms += [context["more"].management_form, *context["more"].forms]
    for form in forms:
        for field in form:
            value = field.value()
            if isinstance(value, bool):
                values |= {field.html_name: "on"} if value else {}
            elif value is not None:
                values[field.html_name] = value
    return values


def post(client: Client, url: str, **changes: Any) -> Any:
    """Change some fields of the form on a page and send it."""
    return client.post(url, {**fields_of(client, url), **changes})


def new_key(name: str, secret: str, prefix: str = "credentials") -> dict[str, str]:
    return {f"{prefix}-TOTAL_FORMS": "1", f"{prefix}-0-key_name": name, f"{prefix}-0-api_key": secret,
            f"{prefix}-0-weight": "100", f"{prefix}-0-is_active": "on"}  # fmt: skip


def test_a_provider_is_added_with_its_key_and_both_are_audited(browser: Client) -> None:
    answer = post(
        browser, reverse("admin:llm_llmprovider_add"), slug="acme-llm", base_url="http://127.0.0.1:9/v1",
        change_reason="a new vendor", **new_key("main", CANARY),
    )  # fmt: skip
    assert answer.status_code == 302
    provider = LLMProvider.objects.get(slug="acme-llm")
    assert (provider.name, provider.display_name) == ("acme-llm", "acme-llm")
    credential = provider.credentials.get()
    assert credential.open().reveal() == CANARY
    events = {event.object_type: event for event in AuditEvent.objects.all()}
    assert events["llm.LLMProvider"].reason == "a new vendor"
    assert events["llm.LLMProvider"].actor_label == "grace"
    assert events["llm.LLMProvider"].ip == "127.0.0.1"
    assert events["llm.LLMProvider"].after["slug"] == "acme-llm"
    assert events["llm.ProviderCredential"].action == "create"
    assert CANARY not in str(AuditEvent.objects.values_list())


def test_a_key_is_never_in_the_html(browser: Client, gpt: LLMModel) -> None:
    credential = cast.make_credential(gpt.provider, CANARY)
    pages = [
        reverse("admin:llm_llmprovider_change", args=(gpt.provider.pk,)),
        reverse("admin:llm_llmprovider_history", args=(gpt.provider.pk,)),
        reverse("admin:llm_llmprovider_changelist"),
        reverse("admin:llm_providercredential_changelist"),
        reverse("admin:llm_providercredential_change", args=(credential.pk,)),
        reverse("admin:llm_providercredential_delete", args=(credential.pk,)),
    ]
    sealed = bytes(credential.sealed)
    for url in pages:
        html = browser.get(url).content
        assert CANARY.encode() not in html, url
        assert sealed.hex().encode() not in html, url
    assert b"sk-c" in browser.get(pages[0]).content  # its first characters are shown


def test_a_refused_form_does_not_show_the_key_again(browser: Client) -> None:
    answer = post(
        browser, reverse("admin:llm_llmprovider_add"), slug="Not A Slug", base_url="x", **new_key("main", CANARY)
    )
    assert answer.status_code == 200
    assert CANARY not in answer.content.decode()
    assert not ProviderCredential.objects.exists()


def test_a_key_of_another_shape_than_the_provider_says_is_refused_in_words(browser: Client, gpt: LLMModel) -> None:
    LLMProvider.objects.update(api_key_format=r"^sk-ant-")
    url = reverse("admin:llm_llmprovider_change", args=(gpt.provider.pk,))
    answer = post(browser, url, **new_key("main", CANARY))
    assert "does not look like a key of Openai" in answer.content.decode()
    assert not ProviderCredential.objects.exists()


def test_a_key_is_replaced_reweighted_and_removed_on_its_provider_s_page(browser: Client, gpt: LLMModel) -> None:
    credential = cast.make_credential(gpt.provider, "sk-old-0123456789abcdef")
    url = reverse("admin:llm_llmprovider_change", args=(gpt.provider.pk,))
    post(browser, url, **{"credentials-0-api_key": CANARY, "credentials-0-weight": "7"})
    credential.refresh_from_db()
    assert credential.open().reveal() == CANARY
    assert credential.weight == 7
    post(browser, url, **{"credentials-0-DELETE": "on"})
    assert not ProviderCredential.objects.exists()
    actions = list(AuditEvent.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["replace", "update", "delete"]


def test_a_second_key_of_the_same_name_is_refused_in_words(browser: Client, gpt: LLMModel) -> None:
    cast.make_credential(gpt.provider, key_name="main")
    url = reverse("admin:llm_llmprovider_change", args=(gpt.provider.pk,))
    second = {f"credentials-1-{name}": value for name, value in
              {"key_name": "main", "api_key": CANARY, "weight": "100", "is_active": "on"}.items()}  # fmt: skip
    answer = post(browser, url, **second, **{"credentials-TOTAL_FORMS": "2"})
    assert answer.status_code == 200
    assert "has this name" in answer.content.decode()
    assert gpt.provider.credentials.count() == 1


def test_the_test_button_says_in_words_what_the_provider_answered(
    browser: Client, gpt: LLMModel, fake: FakeProvider
) -> None:
    LLMProvider.objects.update(base_url=fake.base_url)
    cast.make_credential(gpt.provider)
    url = reverse("admin:llm_llmprovider_test", args=(gpt.provider.pk,))
    assert browser.get(url).status_code == 405
    page = browser.post(url, follow=True).content.decode()
    assert "Openai is healthy. It answered 200" in page
    gpt.provider.refresh_from_db()
    assert gpt.provider.health_status == "healthy"


def test_a_model_that_was_billed_is_not_deleted(browser: Client, acme: Tenant, gpt: LLMModel) -> None:
    spend(acme.pk, "1", day=timezone.now().date(), model_id=gpt.pk)
    unused = cast.make_model(gpt.provider, "unused", input=None)
    url = reverse("admin:llm_llmmodel_delete", args=(gpt.pk,))
    for answer in (browser.get(url, follow=True), browser.post(url, {"post": "yes"}, follow=True)):
        assert "it off instead: set is_active to false" in answer.content.decode()
    bulk = {"action": "delete_selected", "_selected_action": [str(gpt.pk), str(unused.pk)], "post": "yes"}
    browser.post(reverse("admin:llm_llmmodel_changelist"), bulk)
    assert LLMModel.objects.count() == 2
    browser.post(reverse("admin:llm_llmmodel_delete", args=(unused.pk,)), {"post": "yes"})
    assert LLMModel.objects.get() == gpt


def test_a_system_provider_is_not_deleted(browser: Client) -> None:
    sandbox = cast.make_sandbox()
    url = reverse("admin:llm_llmprovider_delete", args=(sandbox.pk,))
    assert browser.post(url, {"post": "yes"}).status_code == 403
    bulk = {"action": "delete_selected", "_selected_action": [str(sandbox.pk)], "post": "yes"}
    browser.post(reverse("admin:llm_llmprovider_changelist"), bulk)
    assert LLMProvider.objects.filter(pk=sandbox.pk).exists()


def test_providers_are_disabled_in_bulk_with_an_audit_row_each(browser: Client) -> None:
    chosen = [cast.make_provider("one"), cast.make_provider("two")]
    bulk = {"action": "disable", "_selected_action": [str(row.pk) for row in chosen]}
    browser.post(reverse("admin:llm_llmprovider_changelist"), bulk)
    assert not LLMProvider.objects.filter(is_active=True).exists()
    events = AuditEvent.objects.filter(action="deactivate")
    assert [(event.before, event.after) for event in events] == [({"is_active": True}, {"is_active": False})] * 2


def test_a_model_is_added_with_its_first_price(browser: Client) -> None:
    provider = cast.make_provider("acme-llm")
    answer = post(
        browser, reverse("admin:llm_llmmodel_add"), provider=str(provider.pk), model_id="large", input_usd="3",
        output_usd="15", cached_usd="0.3",
    )  # fmt: skip
    assert answer.status_code == 302
    model = LLMModel.objects.get(model_id="large")
    assert (model.name, model.display_name) == ("large", "large")
    assert model.input_cost_per_1k == Decimal("0.003")
    assert model.output_cost_per_1k == Decimal("0.015")


def test_a_first_price_without_output_is_refused_before_anything_is_saved(browser: Client) -> None:
    provider = cast.make_provider("acme-llm")
    answer = post(
        browser, reverse("admin:llm_llmmodel_add"), provider=str(provider.pk), model_id="large", input_usd="3"
    )
    assert "A price for output is missing" in answer.content.decode()
    assert not LLMModel.objects.exists()


def test_the_change_price_page_sets_a_new_version_with_a_tier(browser: Client, gpt: LLMModel) -> None:
    url = reverse("admin:llm_llmmodel_change_price", args=(gpt.pk,))
    more = {"more-0-meter": "input", "more-0-usd_per_1m": "4", "more-0-above_tokens": "200000"}
    answer = post(browser, url, input_usd="3", output_usd="12", reason="list price", **more)
    assert answer.status_code == 302
    version = prices.version_at(LLMModel.objects.get(pk=gpt.pk))
    assert version is not None
    assert sorted((one.meter, one.usd_per_1m, one.above_tokens) for one in prices.components_of(version)) == [
        ("input", 3, 0), ("input", 4, 200_000), ("output", 12, 0),
    ]  # fmt: skip
    assert (version.reason, version.author, version.source) == ("list price", "grace", "staff")
    page = browser.get(reverse("admin:llm_llmmodel_change", args=(gpt.pk,))).content.decode()
    assert "Input tokens: $4.00 per 1M above 200,000 prompt tokens" in page
    history = browser.get(reverse("admin:llm_llmmodel_history", args=(gpt.pk,))).content.decode()
    assert "list price" in history


def test_a_price_more_than_five_times_off_asks_for_confirmation(browser: Client, gpt: LLMModel) -> None:
    url = reverse("admin:llm_llmmodel_change_price", args=(gpt.pk,))
    answer = post(browser, url, input_usd="25", output_usd="10", reason="typo")
    assert "more than 5x" in answer.content.decode()
    assert gpt.price_versions.count() == 1
    assert post(browser, url, input_usd="25", output_usd="10", reason="meant", confirm="on").status_code == 302
    assert gpt.price_versions.count() == 2


def test_a_price_in_the_past_is_refused(browser: Client, gpt: LLMModel) -> None:
    url = reverse("admin:llm_llmmodel_change_price", args=(gpt.pk,))
    yesterday = f"{timezone.now() - timedelta(days=1):%Y-%m-%dT%H:%M}"
    answer = post(browser, url, reason="late", effective_from=yesterday)
    assert "cannot begin in the past" in answer.content.decode()
    assert gpt.price_versions.count() == 1


def test_prices_change_by_percent_in_bulk_all_or_none_once_a_second_person_agrees(
    browser: Client, gpt: LLMModel
) -> None:
    mini = cast.make_model(gpt.provider, "gpt-4o-mini", input="0.15", output="0.60")
    url = reverse("admin:llm_llmmodel_changelist")
    bulk = {"action": "change_prices_selected", "_selected_action": [str(gpt.pk), str(mini.pk)]}
    page = browser.post(url, bulk).content.decode()
    assert "openai/gpt-4o-mini" in page
    assert browser.post(url, {**bulk, "_apply": "1", "percent": "900", "reason": "no"}).status_code == 200
    assert [model.price_versions.count() for model in (gpt, mini)] == [1, 1]
    assert browser.post(url, {**bulk, "_apply": "1", "percent": "10", "reason": "surcharge"}).status_code == 302
    waiting = list(PriceProposal.objects.order_by("model__model_id"))
    assert [row.version.base_price("input") for row in waiting] == [Decimal("2.75"), Decimal("0.165")]
    assert len({row.batch for row in waiting}) == 1
    now = [prices.version_at(LLMModel.objects.get(pk=model.pk)) for model in (gpt, mini)]
    assert [version and version.base_price("input") for version in now] == [Decimal("2.5"), Decimal("0.15")]
    own = {"action": "approve_selected", "_selected_action": [str(row.pk) for row in waiting], "_apply": "1"}
    queue = reverse("admin:llm_priceproposal_changelist")
    assert "a second person decides" in browser.post(queue, {**own, "reason": "mine"}).content.decode()
    browser.force_login(cast.make_staff("hedy")[0])
    assert browser.post(queue, {**own, "reason": "agreed"}).status_code == 302
    now = [prices.version_at(LLMModel.objects.get(pk=model.pk)) for model in (gpt, mini)]
    assert [version and version.base_price("input") for version in now] == [Decimal("2.75"), Decimal("0.165")]


def test_a_model_is_deprecated_with_a_replacement_and_restored(browser: Client, gpt: LLMModel) -> None:
    successor = cast.make_model(gpt.provider, "gpt-5")
    answer = post(browser, reverse("admin:llm_llmmodel_deprecate", args=(gpt.pk,)), replacement=str(successor.pk))
    assert answer.status_code == 302
    gpt.refresh_from_db()
    assert (gpt.is_deprecated, gpt.replacement_model, gpt.deprecation_date) == (True, successor, None)
    event = AuditEvent.objects.get(action="deprecate")
    assert event.after["replacement_model_id"] == str(successor.pk)
    page = browser.get(reverse("admin:llm_llmmodel_changelist")).content.decode()
    assert re.search(r"deprecated.*openai/gpt-5", page, re.DOTALL)
    post(browser, reverse("admin:llm_llmmodel_restore", args=(gpt.pk,)))
    gpt.refresh_from_db()
    assert (gpt.is_deprecated, gpt.replacement_model) == (False, None)


def test_models_are_deprecated_in_bulk(browser: Client, gpt: LLMModel) -> None:
    successor = cast.make_model(gpt.provider, "gpt-5")
    old = cast.make_model(gpt.provider, "gpt-4")
    bulk = {"action": "deprecate_selected", "_selected_action": [str(gpt.pk), str(old.pk)], "_apply": "1"}
    url = reverse("admin:llm_llmmodel_changelist")
    assert browser.post(url, {**bulk, "replacement": str(successor.pk)}).status_code == 302
    assert set(LLMModel.objects.filter(is_deprecated=True)) == {gpt, old}


def test_a_model_cannot_replace_itself(browser: Client, gpt: LLMModel) -> None:
    answer = post(browser, reverse("admin:llm_llmmodel_deprecate", args=(gpt.pk,)), replacement=str(gpt.pk))
    assert "cannot replace itself" in answer.content.decode()
    gpt.refresh_from_db()
    assert not gpt.is_deprecated


def test_a_rule_says_who_it_would_catch(browser: Client, gpt: LLMModel, acme: Any, globex: Any) -> None:
    cast.make_credential(gpt.provider)
    LLMModel.objects.filter(pk=gpt.pk).update(min_tier_required="starter")
    rule = cast.make_rule(gpt, min_tokens=1000)
    page = browser.get(reverse("admin:llm_llmroutingrule_change", args=(rule.pk,))).content.decode()
    assert "1 active: 0 starter, 1 professional, 0 enterprise. The model is not for free." in page
    assert "From 1,000 estimated tokens on." in page
    assert "$4.375 per 1M, (3 x input + output) / 4: within the $5.00 of balanced." in page
    assert "never reached" not in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model__is_active": False}, "is off: activate the model"),
        ({"power_level": "eco"}, "is dearer than eco allows"),
        ({"min_tokens": 200_000}, "the context window ends at 128,000"),
        ({"requires_byok": True}, "no tenant has a validated one"),
        ({"power_level": "precision", "is_fallback": True}, "precision allows no fallback"),
    ],
)
def test_a_rule_that_is_never_reached_says_why(
    browser: Client, gpt: LLMModel, change: dict[str, Any], words: str
) -> None:
    cast.make_credential(gpt.provider)
    if "model__is_active" in change:
        LLMModel.objects.update(is_active=change.pop("model__is_active"))
    rule = cast.make_rule(gpt, **change)
    page = browser.get(reverse("admin:llm_llmroutingrule_change", args=(rule.pk,))).content.decode()
    assert "never reached" in page
    assert words in page


def test_a_rule_is_added_and_audited(browser: Client, gpt: LLMModel) -> None:
    answer = post(browser, reverse("admin:llm_llmroutingrule_add"), power_level="balanced", model=str(gpt.pk))
    assert answer.status_code == 302
    rule = LLMRoutingRule.objects.get()
    assert AuditEvent.objects.get(object_type="llm.LLMRoutingRule").object_id == str(rule.pk)


def test_the_simulator_says_what_would_be_chosen(browser: Client, gpt: LLMModel, acme: Any) -> None:
    cast.make_credential(gpt.provider)
    cast.make_rule(gpt)
    url = reverse("admin:llm_llmroutingrule_simulate")
    page = browser.get(url, {"tenant": str(acme.pk), "power_level": "balanced", "estimated_input_tokens": 1000})
    assert "What would be chosen" in page.content.decode()
    assert "openai/gpt-4o" in page.content.decode()
