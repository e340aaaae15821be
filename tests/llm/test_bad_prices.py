"""What bad prices get over the API: the status, code, param and words of each. What is refused changes nothing."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from llm.models import LLMModel, OverrideComponent, PriceComponent, PriceOverride, PriceProposal, PriceVersion
from tenants.models import AuditEvent
from tests import cast
from tests.conftest import Api

PRICES = "admin/llm/models/openai/gpt-4o/prices"
SETS = ("llm.add_priceversion", "llm.view_priceversion", "llm.approve_prices")
OWN = "admin/tenants/acme/prices"
SETS_OWN = ("llm.add_priceoverride", "llm.view_priceoverride", "llm.delete_priceoverride")
GOOD = {"input": "2.50", "output": "10"}


def part(meter: str, usd: Any, above: int = 0, tier: str = "standard") -> dict[str, Any]:
    return {"meter": meter, "usd_per_1m": usd, "above_tokens": above, "service_tier": tier}


def beside(*parts: dict[str, Any]) -> dict[str, Any]:
    """A good price with these beside it."""
    return {"components": [part("input", "2.50"), part("output", "10"), *parts]}


def at(**delta: float) -> str:
    return (timezone.now() + timedelta(**delta)).isoformat()


INVALID, UNCONFIRMED, SCHEDULED = (
    (400, "invalid_value"),
    (409, "price_change_unconfirmed"),
    (409, "price_change_scheduled"),
)
# What is sent, (status, code), the param and words of the message.
BAD: dict[str, tuple[dict[str, Any], tuple[int, str], str, str]] = {
    "negative": ({"components": GOOD | {"input": "-1"}}, INVALID, "components", "greater than or equal to 0"),
    "not a number": ({"components": GOOD | {"input": "NaN"}}, INVALID, "components", "valid number"),
    "infinite": ({"components": GOOD | {"input": "Infinity"}}, INVALID, "components", "valid number"),
    "words": ({"components": GOOD | {"input": "cheap"}}, INVALID, "components", "valid number"),
    "null": ({"components": GOOD | {"input": None}}, INVALID, "components", "null"),
    "too fine": ({"components": GOOD | {"input": "2.50000000001"}}, INVALID, "components", "10 decimal places"),
    "too large": ({"components": GOOD | {"input": "100000001"}}, INVALID, "components", "equal to 100000000"),
    "missing a meter": ({"components": {"input": "2.50"}}, INVALID, "components", "A price for output is missing"),
    "missing all": ({"components": {}}, INVALID, "components", "1 to 100 components"),
    "no components": ({}, INVALID, "components", "required"),
    "an unknown meter": ({"components": GOOD | {"vibes": "1"}}, INVALID, "components", "“vibes” is no meter"),
    "twice": (beside(part("input", "3")), INVALID, "components", "input is priced twice above 0 tokens"),
    "above a threshold alone": (
        beside(part("cache_read", "1", 200_000)), INVALID, "components", "above a threshold, but none below it",
    ),
    "below zero tokens": (beside(part("input", "1", -1)), INVALID, "components", "whole number from 0"),
    "an unknown service tier": (beside(part("input", "1", 0, "warp")), INVALID, "components", "service_tier is one of"),
    "a service tier without standard": (
        {"components": [part("input", "1", 0, "flex"), part("output", "4", 0, "flex")]},
        INVALID, "components", "A price for input is missing",
    ),
    "a dearer service tier with a gap": (
        beside(part("input", "5", 0, "priority")), INVALID, "components",
        "priority has no price for output, which standard has",
    ),
    "a dearer service tier with a gap above a threshold": (
        beside(part("input", "5", 200_000), part("input", "5", 0, "priority"), part("output", "20", 0, "priority")),
        INVALID, "components", "priority has no price for input above 200000 tokens",
    ),
    "past-dated": ({"components": GOOD, "effective_from": at(days=-1)}, INVALID, "effective_from", "past"),
    "of no date": ({"components": GOOD, "effective_from": "soon"}, INVALID, "effective_from", "wrong format"),
    "1,000 times": (
        {"components": GOOD | {"input": "2500"}}, UNCONFIRMED, "confirm",
        "input would go from $2.5 to $2500",
    ),
    "a thousandth": (
        {"components": GOOD | {"output": "0.01"}}, UNCONFIRMED, "confirm",
        "output would go from $10 to $0.01",
    ),
    "suddenly free": (
        {"components": GOOD | {"input": "0"}}, UNCONFIRMED, "confirm",
        "input would go from $2.5 to $0 per",
    ),
    "1,000 times above one token": (
        beside(part("input", "2500", 1), part("output", "10000", 1)), UNCONFIRMED, "confirm",
        "input above 1 prompt tokens would go from $2.5 to $2500",
    ),
    "1,000 times at a service tier": (
        beside(part("input", "2500", 0, "priority"), part("output", "10000", 0, "priority")), UNCONFIRMED, "confirm",
        "input (priority) would go from $2.5 to $2500",
    ),
    "almost free at a service tier": (
        beside(part("output", "0.01", 0, "flex")), UNCONFIRMED, "confirm",
        "output (flex) would go from $10 to $0.01",
    ),
    "another price for what fell back": (
        beside(part("cache_read", "0.25")), UNCONFIRMED, "confirm",
        "cache_read would go from $2.5 to $0.25",
    ),
    "a fee where there was none": (
        beside(part("request", "5000")), UNCONFIRMED, "confirm",
        "request would go from $0 to $5000",
    ),
    "overlapping a scheduled one": ({"components": GOOD}, SCHEDULED, "confirm", "scheduled"),
}  # fmt: skip


@pytest.fixture
def model(db: None) -> LLMModel:
    return cast.make_model(cast.make_provider("openai"), "gpt-4o", input="2.50", output="10")


@pytest.fixture
def bob(model: LLMModel) -> Api:
    return Api(cast.make_staff("bob", superuser=False, permissions=SETS)[1])


def written() -> tuple[Any, ...]:
    rows = PriceVersion.objects.order_by("number").values_list("number", "status", "effective_to")
    return list(rows), PriceComponent.objects.count(), PriceProposal.objects.count(), AuditEvent.objects.count()


@pytest.mark.parametrize("name", BAD)
def test_a_bad_price_is_refused_by_name_and_changes_nothing(bob: Api, name: str) -> None:
    body, (wanted, code), param, words = BAD[name]
    if name.startswith("overlapping"):
        assert bob.post(PRICES, {"components": GOOD | {"input": "3"}, "effective_from": at(days=30)})[0] == 201
    before = written()
    status, answer = bob.post(PRICES, body)
    error = answer["error"]
    assert (status, error["code"], error["param"].partition(".")[0]) == (wanted, code, param), error
    assert words in error["message"]
    assert written() == before


@pytest.mark.parametrize(
    "name", ["1,000 times", "1,000 times above one token", "suddenly free", "overlapping a scheduled one"]
)
def test_what_may_be_meant_is_taken_when_it_is_confirmed(bob: Api, name: str) -> None:
    if name.startswith("overlapping"):
        bob.post(PRICES, {"components": GOOD | {"input": "3"}, "effective_from": at(days=30)})
    status, version = bob.post(PRICES, BAD[name][0] | {"confirm": True})
    assert (status, version["status"]) == (201, "active")


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        ("cache_read", "cache_read would go from $0.25 to $2.5 per million"),
        ("input above 200000", "input above 200000 prompt tokens would go from $20 to $2.5 per million"),
        ("input (flex)", "input (flex) would go from $0.5 to $2.6 per million"),
        ("request", "request would go from $5000 to $0 per million"),
    ],
)
def test_what_a_price_leaves_out_is_compared_at_what_it_would_then_cost(bob: Api, left_out: str, words: str) -> None:
    parts = {
        "cache_read": part("cache_read", "0.25"),
        "input above 200000": part("input", "20", 200_000),
        "input (flex)": part("input", "0.5", 0, "flex"),
        "request": part("request", "5000"),
    }
    was = beside(*parts.values())
    assert bob.post(PRICES, was | {"confirm": True})[0] == 201
    becomes = beside(*(one for name, one in parts.items() if name != left_out))
    if "flex" in left_out:
        becomes["components"][0]["usd_per_1m"] = "2.6"  # exactly five times is none too many
    before = written()
    status, answer = bob.post(PRICES, becomes)
    assert (status, answer["error"]["code"]) == UNCONFIRMED
    assert words in answer["error"]["message"]
    assert written() == before
    assert bob.post(PRICES, becomes | {"confirm": True})[0] == 201


# What is sent of a tenant's own price, whose list price is $2.50, $10, $1.25 cached and $3 an image, with 20 % markup.
BAD_OWN: dict[str, tuple[dict[str, Any], tuple[int, str], str, str]] = {
    "negative": ({"components": GOOD | {"input": "-1"}}, INVALID, "components", "greater than or equal to 0"),
    "missing a meter": ({"components": {"input": "2"}}, INVALID, "components", "A price for output is missing"),
    "of a service tier": (beside(part("input", "2", 0, "flex")), INVALID, "components", "standard service alone"),
    "past-dated": ({"components": GOOD, "effective_from": at(days=-1)}, INVALID, "effective_from", "past"),
    "ended before it begins": ({"components": GOOD, "effective_to": at(days=-1)}, INVALID, "effective_to", "must end"),
    "1,000 times": (
        {"components": GOOD | {"input": "2500"}}, UNCONFIRMED, "confirm", "input would go from $3 to $2500",
    ),
    "more than five times with the markup": (
        {"components": GOOD | {"output": "2.3"}}, UNCONFIRMED, "confirm", "output would go from $12 to $2.3",
    ),
    "free": ({"components": {"input": "0", "output": "0"}}, UNCONFIRMED, "confirm", "input would go from $3 to $0"),
    "dear above one token": (
        beside(part("input", "2500", 1)), UNCONFIRMED, "confirm", "input above 1 prompt tokens would go from $3 to",
    ),
    "dropping a meter": (
        {"components": {"input": "14", "output": "10"}}, UNCONFIRMED, "confirm",
        "cache_read would go from $1.5 to $14",
    ),
    "a fee that the list price has at a hundredth": (
        beside(part("image", "0.03")), UNCONFIRMED, "confirm", "image would go from $3.6 to $0.03",
    ),
    "overlapping a scheduled one": ({"components": GOOD}, SCHEDULED, "effective_from", "End that one first"),
}  # fmt: skip


@pytest.fixture
def sales(model: LLMModel) -> Api:
    """Who may set tenants' own prices, for a tenant that pays the list price and 20 %."""
    cast.make_price(model, input="2.50", output="10", cache_read="1.25", image="3")
    cast.make_tenant("acme", markup_percent=Decimal(20))
    return Api(cast.make_staff("sales", superuser=False, permissions=SETS_OWN)[1])


def written_own() -> tuple[Any, ...]:
    rows = PriceOverride.objects.order_by("number").values_list("number", "effective_from", "effective_to")
    return list(rows), OverrideComponent.objects.count(), PriceProposal.objects.count(), AuditEvent.objects.count()


def own(body: dict[str, Any]) -> dict[str, Any]:
    return {"model": "openai/gpt-4o", "reason": "contract", **body}


@pytest.mark.parametrize("four_eyes", ["", "all"])
@pytest.mark.parametrize("name", BAD_OWN)
def test_a_bad_own_price_is_refused_by_name_and_changes_nothing(
    sales: Api, name: str, four_eyes: str, settings: Any
) -> None:
    body, (wanted, code), param, words = BAD_OWN[name]
    if name.startswith("overlapping"):
        assert sales.post(OWN, own({"components": GOOD, "effective_from": at(days=30)}))[0] == 201
    settings.PRICE_FOUR_EYES = four_eyes
    before = written_own()
    status, answer = sales.post(OWN, own(body))
    error = answer["error"]
    assert (status, error["code"], error["param"].partition(".")[0]) == (wanted, code, param), error
    assert words in error["message"]
    assert written_own() == before
    if code == UNCONFIRMED[1]:
        assert sales.post(OWN, own(body) | {"confirm": True})[0] == (202 if four_eyes else 201)


def test_an_own_price_is_compared_with_the_own_price_before_it(sales: Api) -> None:
    dear = {"components": {"input": "100", "output": "100"}}
    assert sales.post(OWN, own(dear) | {"confirm": True})[0] == 201
    assert sales.post(OWN, own({"components": {"input": "80", "output": "300"}}))[0] == 201
    status, answer = sales.post(OWN, own({"components": {"input": "2.5", "output": "100"}}))
    assert (status, answer["error"]["code"]) == UNCONFIRMED
    assert "input would go from $80 to $2.5" in answer["error"]["message"]


def test_ending_an_own_price_asks_where_the_tenant_pays_five_times_more_or_less(sales: Api) -> None:
    near = sales.post(OWN, own({"components": {"input": "2", "output": "8"}}))[1]
    assert sales.delete(f"{OWN}/{near['id']}")[0] == 204
    far = sales.post(OWN, own({"components": {"input": "0.1", "output": "8"}, "confirm": True}))[1]
    before = written_own()
    for query in ("", "?confirm=false"):
        status, answer = sales.delete(f"{OWN}/{far['id']}{query}")
        assert (status, answer["error"]["code"]) == UNCONFIRMED
        assert "input would go from $0.1 to $3 per million" in answer["error"]["message"]
    assert sales.delete(f"{OWN}/{far['id']}?confirm=perhaps")[0] == 400
    assert written_own() == before
    assert sales.delete(f"{OWN}/{far['id']}?confirm=true")[0] == 204
    assert sales.delete(f"{OWN}/{far['id']}")[0] == 204  # ended already: nothing changes, nothing is asked


def test_an_own_price_that_ends_asks_what_it_gives_way_to_and_cancelling_one_asks_what_goes_on(sales: Api) -> None:
    for_a_week = own({"components": {"input": "0.1", "output": "8"}, "effective_to": at(days=7)})
    assert sales.post(OWN, for_a_week)[1]["error"]["code"] == "price_change_unconfirmed"
    assert sales.post(OWN, for_a_week | {"confirm": True})[0] == 201
    # The same again until later: no change now, but back to the list price then.
    status, answer = sales.post(OWN, for_a_week | {"effective_to": at(days=9)})
    assert (status, answer["error"]["code"]) == UNCONFIRMED
    assert "from $0.1 to $3" in answer["error"]["message"]
    # One that would have ended it is cancelled: it ends all the same, and the list price comes.
    next_one = sales.post(OWN, own({"components": {"input": "0.2", "output": "8"}, "effective_from": at(days=2)}))[1]
    assert sales.delete(f"{OWN}/{next_one['id']}")[1]["error"]["code"] == "price_change_unconfirmed"
    assert sales.delete(f"{OWN}/{next_one['id']}?confirm=true")[0] == 204
    # One before which and after which the list price counts changes nothing by going.
    alone = own({"components": {"input": "0.1", "output": "8"}, "effective_from": at(days=30), "confirm": True})
    assert sales.delete(f"{OWN}/{sales.post(OWN, alone)[1]['id']}")[0] == 204


def test_an_explicit_zero_confirmed_is_free_and_nothing_else_is(bob: Api, model: LLMModel) -> None:
    assert bob.post(PRICES, {"components": {"input": "0", "output": "0"}, "confirm": True})[0] == 201
    assert model.price_versions.get(status="active").base_price("input") == 0
