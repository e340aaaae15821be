"""Importing a provider's own list of models: what is made of it, what is copied, and what nobody believes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from llm.catalog import model_import, prices
from llm.catalog.model_import import Wish
from llm.models import LLMModel, LLMProvider, PriceProposal, PriceVersion
from tenants import audit
from tenants.errors import Conflict
from tenants.models import AuditEvent
from tests import cast
from tests.conftest import Api
from tests.fakes import Behaviour, FakeProvider

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ACTOR = audit.system("test")
PATH = "admin/llm/providers/vendor/import-models"
LIST, INFO = "/v1/models", "/v1/model/info"
NOTHING: dict[str, Any] = {"created": [], "known": [], "skipped": [], "priced": [], "unpriced": []}


@pytest.fixture
def vendor(db: None, fake: FakeProvider) -> LLMProvider:
    provider = cast.make_provider("vendor", fake.base_url)
    cast.make_credential(provider, key_name="main")
    return provider


def lists(fake: FakeProvider, *entries: Any) -> None:
    """The vendor's list from now on; a string stands for a model with that id and nothing more."""
    named = [{"id": one, "object": "model"} if isinstance(one, str) else one for one in entries]
    fake.script(LIST, Behaviour(listing={"object": "list", "data": named}))


def behind(fake: FakeProvider, *deployments: tuple[str, str, dict[str, Any]]) -> None:
    """What LiteLLM says at /model/info: the name in its list, the model it calls, and its facts."""
    data = [
        {"model_name": name, "litellm_params": {"model": model}, "model_info": info}
        for name, model, info in deployments
    ]
    fake.script(INFO, Behaviour(listing={"data": data}))


def bring(provider: LLMProvider, **options: Any) -> model_import.Report:
    return model_import.import_models(provider=provider, wish=Wish(**options), actor=ACTOR, now=NOW)


def made(model_id: str) -> LLMModel:
    return LLMModel.objects.get(provider__slug="vendor", model_id=model_id)


def price_of(model_id: str) -> dict[str, Decimal] | None:
    version = prices.version_at(made(model_id), NOW)
    return None if version is None else {one.meter: one.usd_per_1m for one in prices.components_of(version)}


def test_what_the_catalog_knows_comes_with_its_facts_and_its_price_and_the_rest_unpriced(
    staff: Api, vendor: LLMProvider, fake: FakeProvider
) -> None:
    openai = cast.make_provider("openai")
    cast.make_model(
        openai, "gpt-4o", cached="1.25", family="gpt-4o", description="Omni.", speed_tier="fast",
        min_tier_required="starter", quirks={"token_cap_field": "max_completion_tokens"},
    )  # fmt: skip
    lists(fake, "gpt-4o", "openai/gpt-4o", "house-model", "house-embedder")
    status, answer = staff.post(PATH, {})
    assert status == 200
    assert answer["created"] == ["gpt-4o", "openai/gpt-4o", "house-model", "house-embedder"]
    assert answer["priced"] == [
        {"model_id": "gpt-4o", "copied_from": "openai/gpt-4o"},
        {"model_id": "openai/gpt-4o", "copied_from": "openai/gpt-4o"},
    ]
    assert answer["unpriced"][0] == {"model_id": "house-model", "why": "The catalog has no price of house-model."}
    assert answer["message"] == (
        "4 made, 0 there already, 0 skipped. Prices that wait for a second person: 2; until then calls are refused. "
        "Without a price: 2; calls of those are refused (model_unpriced) until you set one, in the admin under Models "
        "or by POST /api/v1/admin/llm/models/vendor/<model_id>/prices."
    )
    for model_id in ("gpt-4o", "openai/gpt-4o"):
        row = made(model_id)
        assert (row.family, row.description, row.speed_tier, row.min_tier_required) == (
            "gpt-4o", "Omni.", "fast", "starter",
        )  # fmt: skip
        assert (row.context_window, row.max_output_tokens, row.supports_vision) == (128_000, 16_384, True)
        assert row.quirks == {"token_cap_field": "max_completion_tokens"}
        version = row.price_versions.get()
        assert (version.source, version.author, version.status) == ("import", "grace (staff)", "proposed")
        assert version.reason == "copied from openai/gpt-4o when the list of models was imported"
        costs = {one.meter: one.usd_per_1m for one in prices.components_of(version)}
        assert costs == {"input": Decimal("2.5"), "output": Decimal(10), "cache_read": Decimal("1.25")}
    assert (made("house-model").kind, made("house-embedder").kind) == ("chat", "embedding")
    assert price_of("house-model") is None
    events = AuditEvent.objects.filter(action="create", object_type="llm.LLMModel", reason__startswith="from the prov")
    assert {event.object_label for event in events} == {
        "vendor/gpt-4o", "vendor/openai/gpt-4o", "vendor/house-model", "vendor/house-embedder",
    }  # fmt: skip
    assert len(events) == 4


def test_a_second_import_makes_nothing_and_what_staff_changed_stays(
    staff: Api, vendor: LLMProvider, fake: FakeProvider
) -> None:
    cast.make_model(cast.make_provider("openai"), "gpt-4o")
    lists(fake, "gpt-4o", "house-model")
    staff.post(PATH, {})
    LLMModel.objects.filter(provider=vendor).update(context_window=1_000, is_active=False)
    PriceVersion._base_manager.all().delete()
    before = list(LLMModel.objects.order_by("pk").values()), AuditEvent.objects.count()
    lists(fake, {"id": "gpt-4o", "context_length": 5}, "house-model")
    status, answer = staff.post(PATH, {"activate": True})
    assert status == 200
    assert answer == NOTHING | {
        "dry_run": False, "known": ["gpt-4o", "house-model"],
        "message": "0 made, 2 there already, 0 skipped.",
    }  # fmt: skip
    assert (list(LLMModel.objects.order_by("pk").values()), AuditEvent.objects.count()) == before
    lists(fake, "gpt-4o")  # what a list no longer has is not deleted
    staff.post(PATH, {})
    assert LLMModel.objects.filter(provider=vendor).count() == 2


def test_a_dry_run_says_the_same_and_changes_nothing(staff: Api, vendor: LLMProvider, fake: FakeProvider) -> None:
    lists(fake, "a", "b")
    _, rehearsed = staff.post(PATH, {"dry_run": True})
    assert (LLMModel.objects.count(), AuditEvent.objects.count()) == (0, 0)
    _, done = staff.post(PATH, {"activate": False})
    assert {name: rehearsed[name] for name in NOTHING} == {name: done[name] for name in NOTHING}
    assert list(LLMModel.objects.values_list("model_id", "is_active")) == [("a", False), ("b", False)]


def test_a_price_is_never_guessed_where_the_catalog_has_two(vendor: LLMProvider, fake: FakeProvider) -> None:
    cast.make_model(cast.make_provider("groq"), "openai/gpt-oss-120b", input="0.15", output="0.60")
    cast.make_model(cast.make_provider("together"), "openai/gpt-oss-120b", input="0.20", output="0.60", family="oss")
    cast.make_model(cast.make_provider("azure-openai"), "gpt-4o")
    cast.make_model(cast.make_provider("openai"), "gpt-4o")
    lists(fake, "openai/gpt-oss-120b", "together_ai/openai/gpt-oss-120b", "gpt-4o", "azure/gpt-4o", "fanciful/gpt-4o")
    report = bring(vendor)
    assert {one.model_id: one.price.source or one.price.why_not for one in report.created} == {
        "openai/gpt-oss-120b": "Its price differs: see groq/openai/gpt-oss-120b and together/openai/gpt-oss-120b.",
        "together_ai/openai/gpt-oss-120b": "together/openai/gpt-oss-120b",
        "gpt-4o": "azure-openai/gpt-4o",
        "azure/gpt-4o": "azure-openai/gpt-4o",
        "fanciful/gpt-4o": "The catalog has no price of fanciful/gpt-4o.",
    }
    assert price_of("together_ai/openai/gpt-oss-120b") == {"input": Decimal("0.2"), "output": Decimal("0.6")}
    assert price_of("openai/gpt-oss-120b") is None
    assert made("openai/gpt-oss-120b").context_window == 128_000


def test_a_tiered_price_is_copied_whole(vendor: LLMProvider, fake: FakeProvider) -> None:
    model = cast.make_model(cast.make_provider("google"), "gemini-2.5-pro", input="1.25", output="10")
    version = cast.make_price(model, cast.LONG_AGO + timedelta(days=1), input="1.25", output="10")
    tier = version.components.create(meter="input", unit_price_usd=Decimal("2.50"), above_tokens=200_000)
    lists(fake, "gemini/gemini-2.5-pro")
    bring(vendor)
    copied = prices.components_of(made("gemini/gemini-2.5-pro").price_versions.get())
    assert set(copied) == set(prices.components_of(version))
    assert prices.Component("input", Decimal("2.5"), tier.above_tokens) in copied


def test_what_a_proxy_calls_behind_a_name_decides_and_its_own_prices_are_not_believed(
    vendor: LLMProvider, fake: FakeProvider
) -> None:
    LLMProvider.objects.filter(pk=vendor.pk).update(quirks={"model_info": "/model/info"})
    vendor.refresh_from_db()
    cast.make_model(cast.make_provider("openai"), "gpt-4o")
    cheap = {"input_cost_per_token": 1e-9, "output_cost_per_token": 1e-9}
    facts = {"max_input_tokens": 8_000, "max_tokens": 1_000, "mode": "chat", "supports_function_calling": True}
    lists(fake, "fast", "gpt-4o", "balanced-pool", "mixed-pool", "pic", "house")
    behind(
        fake,
        ("fast", "openai/gpt-4o", {"max_input_tokens": 128_000, "max_output_tokens": 4_096, "mode": "chat"} | cheap),
        ("gpt-4o", "ollama/llama3", facts | cheap),  # called like ours, and another model
        ("balanced-pool", "openai/gpt-4o", {"mode": "chat"}),
        ("balanced-pool", "openai/gpt-4o", {"mode": "chat"}),
        ("mixed-pool", "openai/gpt-4o", {"mode": "chat"}),
        ("mixed-pool", "ollama/llama3", {"mode": "chat"}),
        ("pic", "openai/dall-e-3", {"mode": "image_generation"}),
        ("house", "hosted_vllm/house", facts | cheap),
    )
    report = bring(vendor)
    assert {one.model_id: one.price.source or one.price.why_not for one in report.created} == {
        "fast": "openai/gpt-4o",
        "gpt-4o": "The catalog has no price of ollama/llama3.",
        "balanced-pool": "openai/gpt-4o",
        "mixed-pool": "The catalog has no price of ollama/llama3.",
        "house": "The catalog has no price of hosted_vllm/house.",
    }
    assert [(one.model_id, one.unusable) for one in report.skipped] == [
        ("pic", "It is for image_generation; served are chat and embeddings.")
    ]
    fast, house = made("fast"), made("house")
    assert (fast.display_name, fast.context_window, fast.max_output_tokens) == ("fast", 128_000, 4_096)
    assert (house.context_window, house.max_output_tokens, house.supports_function_calling) == (8_000, 1_000, True)
    assert price_of("fast") == {"input": Decimal("2.5"), "output": Decimal(10)}
    assert price_of("gpt-4o") is price_of("house") is None


@pytest.mark.parametrize(
    "info", [Behaviour(status=403), Behaviour(listing={"data": 7}), Behaviour(bad_json=True, listing={"data": []})]
)
def test_a_proxy_that_keeps_its_facts_to_itself_is_imported_by_its_list(
    vendor: LLMProvider, fake: FakeProvider, info: Behaviour
) -> None:
    LLMProvider.objects.filter(pk=vendor.pk).update(quirks={"model_info": "/model/info"})
    vendor.refresh_from_db()
    lists(fake, {"id": "m", "max_model_len": 32_768, "mode": "embedding"})
    fake.script(INFO, info)
    assert [one.model_id for one in bring(vendor).created] == ["m"]
    assert (made("m").context_window, made("m").kind) == (32_768, "embedding")


def test_who_may_not_set_prices_imports_models_without(staff: Api, vendor: LLMProvider, fake: FakeProvider) -> None:
    cast.make_model(cast.make_provider("openai"), "gpt-4o")
    editor = Api(cast.make_staff("ed", superuser=False, permissions=("llm.add_llmmodel",))[1])
    lists(fake, "gpt-4o")
    status, answer = editor.post(PATH, {})
    assert (status, answer["created"], answer["priced"]) == (200, ["gpt-4o"], [])
    assert answer["unpriced"] == [{"model_id": "gpt-4o", "why": "Prices are set by those who may."}]
    assert price_of("gpt-4o") is None


def test_with_four_eyes_a_copied_price_waits_for_the_second_pair(
    staff: Api, vendor: LLMProvider, fake: FakeProvider, settings: Any
) -> None:
    settings.PRICE_FOUR_EYES = "all"
    cast.make_model(cast.make_provider("openai"), "gpt-4o")
    lists(fake, "gpt-4o")
    _, answer = staff.post(PATH, {})
    assert "Prices that wait for a second person: 1;" in answer["message"]
    assert made("gpt-4o").price_versions.get().status == "proposed"
    assert price_of("gpt-4o") is None


def test_one_person_does_not_put_several_prices_in_force_by_an_import(
    staff: Api, vendor: LLMProvider, fake: FakeProvider
) -> None:
    """DESIGN 7: what is proposed in bulk needs a second person. The models are made all the same."""
    openai = cast.make_provider("openai")
    names = [f"m{number}" for number in range(3)]
    for name in names:
        cast.make_model(openai, name)
    lists(fake, *names)
    words = "Prices that wait for a second person: 3; until then calls are refused."
    assert words in staff.post(PATH, {"dry_run": True})[1]["message"]
    assert words in staff.post(PATH, {})[1]["message"]
    assert [made(name).is_active for name in names] == [True] * 3
    assert {price_of(name) is None for name in names} == {True}
    proposals = PriceProposal.objects.all()
    assert len({row.batch for row in proposals}) == 1
    decided = {"ids": [str(row.pk) for row in proposals], "reason": "as OpenAI's"}
    status, answer = staff.post("admin/llm/price-proposals/approve", decided)
    assert (status, answer["error"]["code"]) == (403, "second_person_required")
    bob = Api(cast.make_staff("bob")[1])
    assert bob.post("admin/llm/price-proposals/approve", decided)[0] == 200
    assert set(PriceVersion.objects.filter(model__provider=vendor).values_list("status", flat=True)) == {"active"}


def test_a_single_price_of_an_import_is_decided_by_who_may_approve(
    staff: Api, vendor: LLMProvider, fake: FakeProvider
) -> None:
    cast.make_model(cast.make_provider("openai"), "gpt-4o")
    lists(fake, "gpt-4o", "house-model")
    assert "second person" not in staff.post(PATH, {})[1]["message"]
    assert made("gpt-4o").price_versions.get().status == "active"
    lists(fake, "gpt-4o", "openai/gpt-4o")  # another import is another change
    staff.post(PATH, {})
    assert made("openai/gpt-4o").price_versions.get().status == "active"


def test_what_the_system_imports_is_in_force_at_once(vendor: LLMProvider, fake: FakeProvider) -> None:
    """The list of the proxy that the operator put in the environment, at `bootstrap`."""
    openai = cast.make_provider("openai")
    for name in ("a", "b"):
        cast.make_model(openai, name)
    lists(fake, "a", "b")
    assert not bring(vendor).waits
    assert [price_of(name) is None for name in ("a", "b")] == [False, False]


def test_anthropics_list_is_read_whole(db: None, fake: FakeProvider) -> None:
    provider = cast.make_provider("vendor", fake.base_url, "anthropic")
    cast.make_credential(provider)
    entry = {"type": "model", "id": "claude-9", "display_name": "Claude 9", "created_at": "2026-11-01T00:00:00Z"}
    fake.script(LIST, Behaviour(listing={"data": [entry], "has_more": False, "first_id": "claude-9"}))
    assert [one.model_id for one in bring(provider).created] == ["claude-9"]
    assert made("claude-9").display_name == "Claude 9"
    assert fake.requests[-1].headers["anthropic-version"] == "2023-06-01"


# --- lists that are not to be trusted ---------------------------------------------------------------------------------


def test_hostile_ids_are_skipped_each_with_its_reason_and_the_good_ones_made(
    staff: Api, vendor: LLMProvider, fake: FakeProvider
) -> None:
    lists(
        fake, "good", "a\x00b", "a\nb", "x" * 201, "\u202eevil", " padded", "", "groq/*", 7, None, [], {"id": 5},
        {"name": "no id"}, "good", {"id": "<script>alert(1)</script>"},
        {"id": "odd", "context_length": -5, "max_tokens": True},
        {"id": "huge", "context_length": 10**15, "max_output_tokens": "9"},
    )  # fmt: skip
    status, answer = staff.post(PATH, {})
    assert status == 200
    assert answer["created"] == ["good", "<script>alert(1)</script>", "odd", "huge"]
    invisible = "Its id has control or invisible characters, or blanks around it."
    assert [(one["model_id"], one["why"]) for one in answer["skipped"]] == [
        ("a\\x00b", invisible),
        ("a\\nb", invisible),
        ("x" * 80, "Its id is longer than 200 characters."),
        ("\\u202eevil", invisible),
        (" padded", invisible),
        ("(entry 7)", "It has no id."),
        ("groq/*", "It is a pattern, not a model. Add the models behind it by hand."),
        *[(f"(entry {number})", "It has no id.") for number in (9, 10, 11, 12, 13)],
    ]
    assert {row.context_window for row in LLMModel.objects.filter(model_id__in=["odd", "huge"])} == {128_000}


@pytest.mark.parametrize(
    "answer",
    [
        {"data": {"id": "m"}}, {"models": ["m"]}, {}, 5, "text", None, {"data": "m"}, {"error": {"message": "no"}},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_list_is_refused_whole(staff: Api, vendor: LLMProvider, fake: FakeProvider, answer: Any) -> None:
    fake.script(LIST, Behaviour(listing=b"null" if answer is None else answer))
    status, said = staff.post(PATH, {})
    assert (status, said["error"]["code"]) == (409, "model_list_unavailable")
    assert said["error"]["message"] == (
        "The list of models of Vendor could not be read. Its answer is no list of models. Is the base URL right?"
    )
    assert LLMModel.objects.count() == 0


def test_a_bare_list_is_one_too(vendor: LLMProvider, fake: FakeProvider) -> None:
    fake.script(LIST, Behaviour(listing=[{"id": "m", "type": "language"}, {"id": "r", "type": "rerank"}]))
    report = bring(vendor)
    assert ([one.model_id for one in report.created], [one.model_id for one in report.skipped]) == (["m"], ["r"])


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (Behaviour(listing=[{"id": f"m{n}"} for n in range(10_000)]), "It lists 10,000 models, and 5,000 "),
        (Behaviour(giant_line_bytes=17 * 1024 * 1024), "Its answer is larger or slower than is accepted."),
        (Behaviour(gzip=True), "Its answer is no list of models."),
        (Behaviour(bad_json=True), "Its answer is no list of models."),
        (Behaviour(listing=b'{"data": ' + b"[" * 100_000), "Its answer is no list of models."),
        (Behaviour(listing=b'{"data": [{"id": "\\ud800"}]}'), "Its answer is no list of models."),
        (Behaviour(cut_after_bytes=60), "It could not be reached in time."),
        (Behaviour(status=500), "It answered HTTP 500."),
        (Behaviour(status=404), "There is no list of models at its base URL (HTTP 404)."),
        (Behaviour(status=302), "It redirects elsewhere (HTTP 302)."),
        (Behaviour(expected_key="sk-another"), "It refused the stored key “main” (HTTP 401)."),
    ],
    ids=["ten thousand", "giant", "gzip", "half", "deep", "surrogate", "cut", "500", "404", "redirect", "key"],
)  # fmt: skip
def test_a_list_that_cannot_be_read_is_said_in_words_without_host_or_key(
    staff: Api, vendor: LLMProvider, fake: FakeProvider, behaviour: Behaviour, why: str
) -> None:
    fake.script(LIST, behaviour)
    status, said = staff.post(PATH, {})
    assert (status, said["error"]["code"]) == (409, "model_list_unavailable")
    assert said["error"]["message"].startswith(f"The list of models of Vendor could not be read. {why}")
    assert "sk-" not in str(said)
    assert str(fake.port) not in str(said)
    assert LLMModel.objects.count() == 0


def test_a_thousand_models_are_made_and_numbered(vendor: LLMProvider, fake: FakeProvider) -> None:
    cast.make_model(cast.make_provider("openai"), "other")
    lists(fake, *[f"m{number}" for number in range(1_000)])
    assert len(bring(vendor).created) == 1_000
    assert list(LLMModel.objects.order_by("number").values_list("number", flat=True)) == list(range(1, 1_002))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dialect": "sandbox"}, "Lists of the dialects openai, anthropic and google are read."),
        ({"base_url": "https://{resource}.example/v1"}, "Its base URL still has a placeholder in braces."),
        ({"base_url": cast.UNREACHABLE}, "It could not be reached in time."),
    ],
)
def test_a_provider_without_a_list_says_what_to_do(vendor: LLMProvider, changes: dict[str, str], why: str) -> None:
    LLMProvider.objects.filter(pk=vendor.pk).update(**changes)
    vendor.refresh_from_db()
    with pytest.raises(Conflict, match=why):
        bring(vendor)


def test_without_a_key_a_list_that_wants_one_says_so(db: None, fake: FakeProvider) -> None:
    fake.expected_key = "sk-right-0123456789"
    with pytest.raises(Conflict, match="There is no platform key to ask with"):
        bring(cast.make_provider("vendor", fake.base_url))


@pytest.mark.parametrize(
    ("body", "param"), [({"dry_run": 1}, "dry_run"), ({"activate": "yes"}, "activate"), ({"force": True}, "force")]
)
def test_a_wrong_field_is_a_400_that_names_it(
    staff: Api, vendor: LLMProvider, body: dict[str, Any], param: str
) -> None:
    status, answer = staff.post(PATH, body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert LLMModel.objects.count() == 0
