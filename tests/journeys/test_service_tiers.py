"""Service tiers over real sockets: what the provider is asked for, what is held and billed, what the client is told."""

import json
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from billing.models import UsageRecord
from llm.catalog import overrides, prices
from llm.models import LLMModel, PriceComponent
from tests import cast
from tests.fakes import Behaviour
from tests.journeys.test_what_is_owed import STAFF, read
from tests.journeys.world import ASK, Customer, Json, Vendor, World, frames_of

# USD per million tokens.
PRICES = {"standard": (2, 8), "flex": (1, 4), "priority": (5, 20)}
# Where a provider is told, and where it says what it used: (name in the request, word) and the behaviour that says it.
FIELDS = {"openai": "service_tier", "anthropic": "service_tier", "bedrock": "serviceTier", "google": "serviceTier"}
DEFAULTS = {"openai": "default", "anthropic": "standard_only", "bedrock": {"type": "default"}, "google": "standard"}
SPEAKING = tuple(FIELDS)


def says(dialect: str, word: str) -> Behaviour:
    """A provider that says which tier it used."""
    if dialect == "openai":
        return Behaviour(extra_fields={"service_tier": word})
    if dialect == "bedrock":
        return Behaviour(extra_fields={"serviceTier": {"type": word}})
    return Behaviour(usage={FIELDS[dialect]: word})


def tiered(world: World, vendor: Vendor, name: str = "t", *tiers: str) -> str:
    """A model with prices for the service tiers (flex and priority, if none is named); its reference."""
    reference = f"{vendor.provider.slug}/{name}"
    if not LLMModel.objects.filter(provider=vendor.provider, model_id=name).exists():
        version = cast.make_price(cast.make_model(vendor.provider, name, input=None), input="2", output="8")
        PriceComponent.objects.bulk_create(
            PriceComponent(version=version, meter=meter, unit_price_usd=Decimal(usd), service_tier=tier)
            for tier in tiers or ("flex", "priority")
            for meter, usd in zip(("input", "output"), PRICES[tier], strict=True)
        )
        world.refresh()
    return reference


def cost(row: UsageRecord, tier: str) -> Decimal:
    dollars = [Decimal(one) for one in PRICES[tier]]
    return (row.prompt_tokens * dollars[0] + row.completion_tokens * dollars[1]) / 1_000_000


def tiers_of(row: UsageRecord) -> set[str]:
    return {line.get("service_tier", "standard") for line in row.price_lines}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("used", ["priority", "default", "flex", ""])
@pytest.mark.parametrize("vendor", SPEAKING, indirect=True)
def test_the_tier_that_was_used_is_billed_and_the_dearest_held(
    world: World, vendor: Vendor, customer: Customer, used: str, stream: bool
) -> None:
    """Asked for priority: served so or as standard. Another word is none that it can be: then it is the dearest."""
    reference = tiered(world, vendor)
    vendor.fake.script("t", says(vendor.name, used) if used else Behaviour())
    body: Json = {"service_tier": "priority", "max_tokens": 100}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = customer.ask(reference, **body)
    assert answer.status_code == 200
    row, tier = customer.row(), "standard" if used == "default" else "priority"
    assert (row.cost_total_usd, row.budget_usd, tiers_of(row)) == (cost(row, tier), cost(row, tier), {tier})
    assert customer.spent() == row.budget_usd
    assert row.held_usd > 100 * Decimal(20) / 1_000_000  # of the answer alone
    told = frames_of(answer.content)[-1] if stream else answer.json()
    assert told["service_tier"] == {"standard": "default"}.get(tier, tier)
    assert Decimal(str(told["usage"]["cost"])) == row.budget_usd
    asked = vendor.fake.requests[-1].body[FIELDS[vendor.name]]
    assert asked == {"anthropic": "auto", "bedrock": {"type": "priority"}}.get(vendor.name, "priority")


@pytest.mark.parametrize("vendor", SPEAKING, indirect=True)
def test_who_asks_for_nothing_gets_standard_whatever_the_account_is_set_to(
    world: World, vendor: Vendor, customer: Customer
) -> None:
    vendor.fake.script("t", says(vendor.name, "priority"))
    customer.ask(tiered(world, vendor))
    row = customer.row()
    assert (row.cost_total_usd, tiers_of(row)) == (cost(row, "standard"), {"standard"})
    assert vendor.fake.requests[-1].body[FIELDS[vendor.name]] == DEFAULTS[vendor.name]
    assert not row.is_overrun


@pytest.mark.parametrize(("used", "billed"), [("flex", "flex"), ("priority", "priority"), ("", "standard")])
def test_with_auto_the_provider_chooses_and_the_dearest_is_held(
    world: World, customer: Customer, used: str, billed: str
) -> None:
    vendor = world.vendors["openai"]
    vendor.fake.script("t", says("openai", used) if used else Behaviour())
    customer.ask(tiered(world, vendor), service_tier="auto", max_tokens=100)
    row = customer.row()
    assert (row.cost_total_usd, tiers_of(row)) == (cost(row, billed), {billed})
    assert row.held_usd > 100 * Decimal(20) / 1_000_000
    assert vendor.fake.requests[-1].body["service_tier"] == "auto"


def test_flex_is_held_as_standard_since_it_may_come_to_that(world: World, customer: Customer) -> None:
    vendor = world.vendors["openai"]
    reference = tiered(world, vendor)
    vendor.fake.script("t", says("openai", "flex"))
    customer.ask(reference, service_tier="flex", max_tokens=100)
    customer.ask(reference, service_tier="default", max_tokens=100)
    flex, standard = customer.rows()
    assert (flex.held_usd, flex.cost_total_usd) == (standard.held_usd, cost(flex, "flex"))
    assert standard.cost_total_usd == cost(standard, "standard") == 2 * flex.cost_total_usd


@pytest.mark.parametrize(
    ("dialect", "name", "asked", "why"),
    [
        ("openai", "m", "priority", "no price for the service tier priority, only for standard"),
        ("openai", "half", "priority", "only for standard, flex"),
        ("anthropic", "t", "flex", "cannot be asked for the service tier flex, only for standard, priority"),
        ("cohere", "t", "flex", "cannot be asked for the service tier flex, only for standard"),
    ],
)
def test_a_model_without_the_tier_is_a_400_that_says_what_there_is(
    world: World, customer: Customer, dialect: str, name: str, asked: str, why: str
) -> None:
    vendor = world.vendors[dialect]
    reference = vendor.reference if name == "m" else tiered(world, vendor, name, *({"half": ["flex"]}.get(name, [])))
    for path in ("/v1/chat/completions", "/api/v1/llm/chat/completions", "/v1/responses"):
        body = {"input": "hi"} if path == "/v1/responses" else {"messages": ASK}
        with customer.http as client:
            answer = client.post(path, json={"model": reference, "service_tier": asked, **body})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", "service_tier")
        assert why in error["message"]
    customer.untouched()
    assert vendor.fake.requests == []


def test_only_candidates_with_the_tier_are_chosen(world: World, customer: Customer) -> None:
    """`m` and `t` are the same family; only `t` has a price for flex."""
    vendor = world.vendors["openai"]
    cast.make_model(vendor.provider, "a-plain", family="twins", input="1", output="1")
    tiered(world, vendor)
    LLMModel.objects.filter(provider=vendor.provider, model_id="t").update(family="twins")
    world.refresh()
    answer = customer.ask("twins", service_tier="flex")
    assert (answer.status_code, answer.headers["x-model-used"]) == (200, "t")
    assert {"model": "fakeai/a-plain", "code": "service_tier"}.items() <= customer.row().decision["rejections"][
        0
    ].items()
    assert customer.ask("twins").headers["x-model-used"] in ("a-plain", "t")


@pytest.mark.parametrize("asked", ["batch", "warp", "ultrafast"])
def test_what_cannot_be_asked_for_is_a_400(world: World, customer: Customer, asked: str) -> None:
    for path, body in (
        ("/v1/chat/completions", {"messages": ASK}),
        ("/v1/responses", {"input": "hi"}),
        ("/v1/messages", {"messages": ASK, "max_tokens": 9}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/embeddings", {"input": "hi"}),
    ):
        with customer.http as client:
            answer = client.post(path, json={"model": "fakeai/m", "service_tier": asked, **body})
        assert (answer.status_code, "service_tier" in answer.text) == (400, True)
    customer.untouched()


def test_an_own_price_is_of_standard_and_other_tiers_cost_list_price_and_markup(world: World) -> None:
    vendor, customer = world.vendors["openai"], world.customer(markup_percent=Decimal(50))
    reference = tiered(world, vendor)
    model = LLMModel.objects.get(provider=vendor.provider, model_id="t")
    components = [prices.Component("input", Decimal(1)), prices.Component("output", Decimal(1))]
    wish = overrides.NewOverride(components=components, reason="contract", confirm=True)
    overrides.set_override(tenant=customer.tenant, model=model, wish=wish, actor=STAFF, now=timezone.now())
    for used in ("default", "priority"):
        vendor.fake.script("t", says("openai", used))
        customer.ask(reference, service_tier="priority")
    standard, priority = customer.rows()
    assert standard.billed_usd == Decimal(standard.prompt_tokens + standard.completion_tokens) / 1_000_000
    assert priority.billed_usd == cost(priority, "priority") * Decimal("1.5")
    assert (priority.terms, standard.held_usd >= priority.billed_usd) == ({"markup_percent": "50"}, True)


def test_the_sdks_take_the_answers_and_statement_and_row_say_the_tier(world: World, customer: Customer) -> None:
    openai, anthropic = world.vendors["openai"], world.vendors["anthropic"]
    reference, claude = tiered(world, openai), tiered(world, anthropic)
    openai.fake.script("t", says("openai", "flex"))
    anthropic.fake.script("t", says("anthropic", "priority"))
    sdk = customer.openai
    said = sdk.chat.completions.create(model=reference, messages=ASK, service_tier="flex")  # type: ignore[call-overload]
    assert said.service_tier == "flex"
    response = sdk.responses.create(model=reference, input="hi", service_tier="flex")
    assert response.service_tier == "flex"
    events = list(sdk.responses.create(model=reference, input="hi", service_tier="flex", stream=True))
    assert [one.response.service_tier for one in (events[0], events[-1])] == ["flex", "flex"]
    for model in (claude, reference):
        message: Any = customer.anthropic.messages.create(
            model=model,
            max_tokens=50,
            messages=ASK,
            service_tier="auto",  # type: ignore[arg-type]
        )
        assert message.usage.service_tier == ("priority" if model == claude else None)
    assert [sorted(tiers_of(row)) for row in customer.rows()] == [["flex"]] * 3 + [["priority"], ["flex"]]
    shown = read(customer, f"llm/requests/{customer.rows()[0].pk}")
    assert {line["service_tier"] for line in shown["price_lines"]} == {"flex"}
    statement = read(customer, f"statements/{customer.rows()[0].billing_day:%Y-%m}")
    lines = {row["model"] + row["provider"]: row["lines"] for row in statement["models"]}
    assert {line["service_tier"] for line in lines["tfakeai"]} == {"flex"}
    assert json.dumps(statement).count('"service_tier": "priority"') == 4  # input and output, of model and detail
