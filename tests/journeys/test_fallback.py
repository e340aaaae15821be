"""When a provider fails before it said anything, the next one is asked: at most three, in order, paid for once."""

import json
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from billing.models import Hold
from llm.catalog import price_tasks
from llm.models import LLMModel, PriceTask
from tests import cast
from tests.fakes import Behaviour
from tests.journeys.world import PLATFORM_KEY, Customer, Json, World, eventually, frames_of, payloads_of, usd

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
DOWN = Behaviour(status=500)
# What a lost attempt cost: eight tokens of input, by our own estimate.
LOST = usd(8)


@pytest.fixture
def chain(world: World) -> list[LLMModel]:
    """`balanced` goes to c1, then c2, c3 and c4: two vendors in turn, so that the dialect changes on the way."""
    found = list(LLMModel.objects.filter(model_id__startswith="c").order_by("model_id"))
    if found:
        return found
    vendors = [world.vendors["openai"], world.vendors["anthropic"]] * 2
    models = [world.model(vendor.provider, f"c{n}") for n, vendor in enumerate(vendors, 1)]
    cast.make_rule(models[0], "balanced")
    for order, model in enumerate(models[1:]):
        cast.make_rule(model, "balanced", is_fallback=True, fallback_order=order)
    world.refresh()
    return models


def asked(world: World) -> list[str]:
    """The models that were really asked, in order."""
    requests = [*world.fake.requests, *world.other.requests]
    return [one.body["model"] for one in sorted(requests, key=lambda one: one.at)]


def script(world: World, **behaviours: Behaviour) -> None:
    for model, behaviour in behaviours.items():
        world.fake.script(model, behaviour)
        world.other.script(model, behaviour)


FAILURES = {
    "upstream_error": DOWN,
    "upstream_error reset": Behaviour(cut_after_bytes=0, cut_how="reset"),
    "upstream_error in band": Behaviour(in_band_error={"type": "overloaded_error", "message": "x"}),
    "upstream_error unknown model": Behaviour(status=404),
    "upstream_rate_limited": Behaviour(status=429, retry_after=60),
    "upstream_auth_failed": Behaviour(expected_key="another"),
    "upstream_invalid_response": Behaviour(bad_json=True),
    "upstream_invalid_response gzip": Behaviour(gzip=True),
    "upstream_timeout": Behaviour(delay_first_s=30),
}


@STREAMED
@pytest.mark.parametrize("failure", FAILURES)
def test_the_next_model_answers_and_the_tenant_pays_once(
    world: World, chain: list[LLMModel], customer: Customer, settings: Any, failure: str, stream: bool
) -> None:
    settings.UPSTREAM_FIRST_EVENT_TIMEOUT_S = 0.3
    settings.UPSTREAM_TOTAL_TIMEOUT_S = 0.3
    code = failure.split(maxsplit=1)[0]
    script(world, c1=FAILURES[failure])
    answer = customer.ask("balanced", stream=stream)
    assert answer.status_code == 200
    assert (answer.headers["x-was-fallback"], answer.headers["x-model-used"]) == ("true", "c2")
    assert answer.headers["x-provider-used"] == "fakethropic"
    assert asked(world) == ["c1", "c2"]
    row = customer.row()
    assert (row.status, row.model_name, row.provider_slug) == ("completed", "c2", "fakethropic")
    assert (row.was_fallback, row.fallback_reason) == (True, code)
    assert [(one["model"], one["code"]) for one in row.attempts] == [("c1", code), ("c2", "")]
    assert [one["status"] for one in row.attempts][1] == 200
    assert row.budget_usd == usd(8, 5) == customer.spent()
    billed_for_nothing = code not in ("upstream_rate_limited", "upstream_auth_failed")
    assert row.lost_cost_usd == (LOST if billed_for_nothing else 0)


@STREAMED
def test_no_failure_no_fallback(world: World, chain: list[LLMModel], customer: Customer, stream: bool) -> None:
    answer = customer.ask("balanced", stream=stream)
    assert (answer.headers["x-was-fallback"], answer.headers["x-model-used"]) == ("false", "c1")
    row = customer.row()
    assert (row.was_fallback, row.fallback_reason, row.lost_cost_usd) == (False, "", 0)
    assert asked(world) == ["c1"]


@STREAMED
def test_three_attempts_are_the_most(world: World, chain: list[LLMModel], customer: Customer, stream: bool) -> None:
    script(world, c1=DOWN, c2=DOWN, c3=DOWN)
    answer = customer.ask("balanced", stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert asked(world) == ["c1", "c2", "c3"]
    row = customer.row()
    assert [one["model"] for one in row.attempts] == ["c1", "c2", "c3"]
    assert (row.status, row.budget_usd, row.billed_usd, row.lost_cost_usd) == ("failed", 0, 0, 3 * LOST)
    assert customer.spent() == 0


@pytest.mark.parametrize(("waits", "shown"), [((30, 7, 60), "7"), ((7, None, 30), "7"), ((None, None, None), None)])
def test_if_all_limit_requests_the_shortest_wait_is_told(
    world: World, chain: list[LLMModel], customer: Customer, waits: tuple[Any, ...], shown: str | None
) -> None:
    script(world, **{f"c{n}": Behaviour(status=429, retry_after=wait) for n, wait in enumerate(waits, 1)})
    answer = customer.ask("balanced")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "upstream_rate_limited")
    assert (answer.headers["x-should-retry"], answer.headers.get("retry-after")) == ("true", shown)
    assert customer.row().lost_cost_usd == 0


@STREAMED
@pytest.mark.parametrize("status", [400, 422])
def test_what_the_provider_rejects_nobody_else_is_asked(
    world: World, chain: list[LLMModel], customer: Customer, status: int, stream: bool
) -> None:
    script(world, c1=Behaviour(status=status))
    answer = customer.ask("balanced", stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "upstream_rejected")
    assert asked(world) == ["c1"]
    assert customer.spent() == 0


@pytest.mark.parametrize(
    "breaks",
    [
        Behaviour(in_band_error={"type": "server_error", "message": "x"}, in_band_error_after=1),
        Behaviour(delay_between_s=30),
    ],
    ids=["error", "silence"],
)
def test_after_the_first_word_there_is_no_fallback(
    world: World, chain: list[LLMModel], customer: Customer, settings: Any, breaks: Behaviour
) -> None:
    settings.UPSTREAM_IDLE_TIMEOUT_S = 0.2
    script(world, c1=breaks)
    answer = customer.ask("balanced", stream=True)
    assert (answer.status_code, answer.headers["x-was-fallback"]) == (200, "false")
    assert "error" in json.loads(payloads_of(answer.content)[-1])
    assert asked(world) == ["c1"]
    row = customer.row()
    assert (row.status, row.was_fallback, len(row.attempts)) == ("partial", False, 1)
    assert row.budget_usd == usd(8, 2) == customer.spent()
    assert row.lost_cost_usd == 0


def test_a_role_alone_is_not_a_word(world: World, chain: list[LLMModel], customer: Customer) -> None:
    """The provider opens its stream politely and fails then: nothing was promised, another one answers."""
    script(world, c1=Behaviour(cut_after_bytes=520))
    answer = customer.ask("balanced", stream=True)
    assert (answer.status_code, answer.headers["x-model-used"]) == (200, "c2")
    assert world.fake.bill()[0].completion_tokens == 0
    assert len(frames_of(answer.content)) == 7


def test_a_power_level_without_fallback_has_none(world: World, customer: Customer, chain: list[LLMModel]) -> None:
    cast.make_rule(chain[0], "precision")
    cast.make_rule(chain[1], "precision", is_fallback=True)
    world.refresh()
    script(world, c1=DOWN)
    assert customer.ask("precision").status_code == 502
    assert asked(world) == ["c1"]


def test_a_pinned_model_is_no_other(world: World, chain: list[LLMModel], customer: Customer) -> None:
    script(world, c1=DOWN)
    answer = customer.ask("fakeai/c1")
    assert (answer.status_code, asked(world)) == (502, ["c1"])


def test_unless_its_tenant_lets_others_step_in(world: World, chain: list[LLMModel]) -> None:
    script(world, c1=DOWN)
    lenient = world.customer(allow_model_fallback=True)
    answer = lenient.ask("fakeai/c1")
    assert (answer.status_code, answer.headers["x-model-used"]) == (200, "c2")


def test_a_configs_fallback_model_steps_in(world: World, chain: list[LLMModel], customer: Customer) -> None:
    cast.make_config(customer.tenant, "shop", primary_model=chain[2], fallback_model=chain[3])
    script(world, c3=DOWN, c2=DOWN)
    answer = customer.ask("config/shop")
    assert answer.status_code == 200
    assert asked(world)[0] == "c3"
    assert answer.headers["x-was-fallback"] == "true"
    assert customer.row().config_name == "shop"


def test_other_platform_keys_of_the_same_model_step_in(world: World, chain: list[LLMModel], customer: Customer) -> None:
    provider = chain[0].provider
    second = cast.make_credential(provider, "sk-second-9876543210")
    good = second.pk
    world.refresh()
    script(world, c1=Behaviour(expected_key="sk-second-9876543210"))
    try:
        for _ in range(8):
            answer = customer.ask("fakeai/c1")
            assert answer.status_code == 200
    finally:
        second.delete()
        world.refresh()
    rows = customer.rows()
    assert {row.credential_id for row in rows} == {good}
    assert {len(row.attempts) for row in rows} == {1, 2}
    assert all(row.was_fallback == (len(row.attempts) == 2) for row in rows)


# --- money ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def dear(world: World) -> str:
    """A config: c1, and ten times dearer and ten times cheaper models behind it."""
    known = {model.model_id: model for model in LLMModel.objects.filter(model_id__in=["x-dear", "x-cheap", "x-first"])}
    if not known:
        provider = world.vendors["openai"].provider
        known = {
            "x-first": world.model(provider, "x-first"),
            "x-dear": world.model(provider, "x-dear", input="20.00", output="80.00"),
            "x-cheap": world.model(provider, "x-cheap", input="0.20", output="0.80", cached="0.05"),
        }
        cast.make_rule(known["x-first"], "eco")
        cast.make_rule(known["x-dear"], "eco", is_fallback=True, fallback_order=0)
        cast.make_rule(known["x-cheap"], "eco", is_fallback=True, fallback_order=1)
        from llm.models import PowerLevelPolicy  # the cap would keep the dear one out

        PowerLevelPolicy.objects.filter(power_level="eco").update(max_price_per_1m_usd=Decimal(100))
        world.refresh()
    return "eco"


def worst(input_usd: str, output_usd: str, max_tokens: int = 100) -> Decimal:
    """The hold: every byte and 64 a message as input, the whole cap as output."""
    return ((22 + 64) * Decimal(input_usd) + max_tokens * Decimal(output_usd)) / 1_000_000


def test_a_dearer_fallback_raises_the_hold_first(world: World, dear: str, customer: Customer) -> None:
    world.fake.script("x-first", DOWN)
    world.fake.script("x-dear", Behaviour(delay_between_s=0.3, text="one two"))
    with customer.stream(dear, max_tokens=100) as answer:
        [hold] = Hold.objects.filter(tenant_id=customer.tenant.pk)
        assert hold.amount == worst("20", "80") == Decimal("0.00972")
        assert hold.facts["model_name"] == "x-dear"
        frames_of(b"".join(answer.iter_raw()))
    row = customer.row()
    assert (row.model_name, row.held_usd, row.is_overrun) == ("x-dear", worst("20", "80"), False)
    assert row.budget_usd == usd(8, 2) * 10 == customer.spent()
    assert row.lost_cost_usd == LOST


@STREAMED
def test_a_dearer_fallback_that_no_budget_has_room_for_is_skipped(world: World, dear: str, stream: bool) -> None:
    poor = world.customer(budget_limit_daily=worst("2", "8"))
    world.fake.script("x-first", DOWN)
    answer = poor.ask(dear, max_tokens=100, stream=stream)
    assert (answer.status_code, answer.headers["x-model-used"]) == (200, "x-cheap")
    assert asked(world) == ["x-first", "x-cheap"]
    row = poor.row()
    [skipped] = row.decision["rejections"]
    assert (skipped["model"], skipped["code"]) == ("fakeai/x-dear", "budget")
    assert [one["model"] for one in row.attempts] == ["x-first", "x-cheap"]
    assert row.held_usd == worst("2", "8")  # the first one's hold is enough for a cheaper one
    assert row.budget_usd == usd(8, 5) / 10 == poor.spent()


def test_if_no_fallback_fits_the_failure_stands(world: World, dear: str) -> None:
    poor = world.customer(budget_limit_daily=worst("2", "8"), allow_model_fallback=False)
    cast.make_config(
        poor.tenant, "two", primary_model=LLMModel.objects.get(model_id="x-first"),
        fallback_model=LLMModel.objects.get(model_id="x-dear"), allowed_models=["fakeai/x-first", "fakeai/x-dear"],
    )  # fmt: skip
    world.fake.script("x-first", Behaviour(status=503))
    answer = poor.ask("config/two", max_tokens=100)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert asked(world) == ["x-first"]
    row = poor.row()
    assert "budget" in {one["code"] for one in row.decision["rejections"]}
    assert (row.status, row.budget_usd) == ("failed", 0)


def test_a_first_choice_too_dear_for_the_budget_gives_way_to_a_cheaper_one(world: World, dear: str) -> None:
    poor = world.customer(budget_limit_daily=worst("0.2", "0.8"))
    answer = poor.ask(dear, max_tokens=100)
    assert (answer.status_code, answer.headers["x-model-used"]) == (200, "x-cheap")
    assert answer.headers["x-was-fallback"] == "true"
    row = poor.row()
    assert (row.was_fallback, row.fallback_reason, len(row.attempts)) == (True, "budget", 1)
    assert {one["code"] for one in row.decision["rejections"]} == {"budget"}
    assert asked(world) == ["x-cheap"]


def test_a_model_passed_over_for_want_of_a_price_joins_the_price_queue(world: World) -> None:
    for name, price in (("y-bare", None), ("y-priced", "2")):
        world.model(world.vendors["openai"].provider, name, input=price, family="y-family")
    world.refresh()
    customer = world.customer()
    for _ in range(2):
        assert customer.ask("y-family").headers["x-model-used"] == "y-priced"
    price_tasks.refresh(now=timezone.now())
    task = PriceTask.objects.get(kind="unpriced")
    assert (task.model.reference, task.requests) == ("fakeai/y-bare", 2)


def test_a_limit_that_even_the_cheapest_passes_is_a_429(world: World, dear: str) -> None:
    poor = world.customer(budget_limit_daily=worst("0.2", "0.8") - Decimal("0.0000000001"))
    assert poor.ask(dear, max_tokens=100).json()["error"]["code"] == "insufficient_quota"
    poor.untouched()
    assert asked(world) == []


# --- own keys ---------------------------------------------------------------------------------------------------------


@STREAMED
@pytest.mark.parametrize("refusal", [Behaviour(status=401), Behaviour(status=403)], ids=["401", "403"])
def test_an_own_key_that_is_refused_never_becomes_the_platforms(
    world: World, chain: list[LLMModel], customer: Customer, refusal: Behaviour, stream: bool
) -> None:
    cast.make_credential(chain[0].provider, "sk-own-abcdefghijkl", customer.tenant)
    script(world, c1=refusal)
    answer = customer.ask("balanced", stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "byok_rejected")
    assert asked(world) == ["c1"]
    assert PLATFORM_KEY not in str([one.headers for one in world.fake.requests])
    assert customer.spent() == 0


def test_what_an_own_key_lost_is_not_the_platforms_cost(
    world: World, chain: list[LLMModel], customer: Customer
) -> None:
    cast.make_credential(chain[0].provider, "sk-own-abcdefghijkl", customer.tenant)
    script(world, c1=DOWN)
    assert customer.ask("balanced").status_code == 200
    row = customer.row()
    assert (row.model_name, row.used_byok) == ("c2", False)
    assert [one["key_source"] for one in row.attempts] == ["byok", "platform"]
    assert row.lost_cost_usd == 0
    assert row.budget_usd == row.billed_usd == usd(8, 5)


def test_a_markup_is_the_tenants_and_a_lost_attempt_is_not(world: World, chain: list[LLMModel]) -> None:
    marked = world.customer(markup_percent=Decimal(50))
    script(world, c1=DOWN)
    answer = marked.ask("balanced")
    row = marked.row()
    assert (row.cost_total_usd, row.billed_usd, row.budget_usd) == (usd(8, 5), usd(8, 5) * 3 / 2, usd(8, 5) * 3 / 2)
    assert row.lost_cost_usd == LOST
    assert Decimal(answer.headers["x-cost-incurred"]) == row.budget_usd


def test_the_story_can_be_read_afterwards(world: World, chain: list[LLMModel], customer: Customer) -> None:
    script(world, c1=DOWN)
    request_id = customer.ask("balanced").headers["x-request-id"]
    with customer.http as client:
        story: Json = eventually(lambda: client.get(f"/api/v1/llm/requests/{request_id}").json())
    assert [(one["model"], one["status"], one["code"]) for one in story["attempts"]] == [
        ("c1", 502, "upstream_error"),
        ("c2", 200, ""),
    ]
    assert story["was_fallback"] is True
    assert story["decision"]["chosen"] is not None
