"""Prices and their approval over the API, as two people: what each may, what is refused, what is answered."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from llm.models import LLMModel, PriceProposal, PriceVersion
from tenants.models import AuditEvent
from tests import cast
from tests.conftest import Api

PRICES = "admin/llm/models/openai/gpt-4o/prices"
QUEUE = "admin/llm/price-proposals"
DEARER = {"components": {"input": "3", "output": "10"}, "reason": "announced"}
EDITOR = ("llm.add_priceversion", "llm.view_priceversion", "llm.view_priceproposal")


@pytest.fixture
def model(db: None) -> LLMModel:
    return cast.make_model(cast.make_provider("openai"), "gpt-4o", input="2.50", output="10")


@pytest.fixture
def ada(db: None) -> Api:
    """May set prices, and approve none."""
    return Api(cast.make_staff("ada", superuser=False, permissions=EDITOR)[1])


@pytest.fixture
def bob(db: None) -> Api:
    """May set prices and approve them."""
    return Api(cast.make_staff("bob", superuser=False, permissions=(*EDITOR, "llm.approve_prices"))[1])


def in_force(model: LLMModel) -> Decimal | None:
    return PriceVersion.objects.get(model=model, status="active").base_price("input")


def test_a_price_by_who_may_not_approve_waits_for_who_may(model: LLMModel, ada: Api, bob: Api) -> None:
    status, version = ada.post(PRICES, DEARER)
    assert (status, version["status"], in_force(model)) == (201, "proposed", Decimal("2.5"))
    status, page = bob.get(f"{QUEUE}?state=pending")
    assert (status, page["count"]) == (200, 1)
    row = page["results"][0]
    assert (row["model"], row["proposer"], row["largest_percent"]) == ("openai/gpt-4o", "ada (staff)", "20.00")
    assert row["changes"] == [{"name": "input", "old": "2.5", "new": "3", "percent": "20"}]
    assert (row["impact"]["requests"], row["impact_usd"]) == (0, "0")
    status, row = bob.post(f"{QUEUE}/{row['id']}/approve", {"reason": "the vendor's list"})
    assert (status, row["state"], row["decider"], row["version"]["status"]) == (
        200, "approved", "bob (staff)", "active",
    )  # fmt: skip
    assert in_force(model) == 3
    event = AuditEvent.objects.get(object_type="llm.PriceProposal", action="approve")
    assert (event.reason, event.before["state"], event.after["state"]) == ("the vendor's list", "pending", "approved")


def test_a_price_by_who_may_approve_is_in_force_at_once(model: LLMModel, bob: Api) -> None:
    status, version = bob.post(PRICES, DEARER)
    assert (status, version["status"], in_force(model), PriceProposal.objects.count()) == (201, "active", 3, 0)


def test_the_one_who_proposed_may_not_decide_even_with_the_right_to(model: LLMModel, bob: Api, settings: Any) -> None:
    settings.PRICE_FOUR_EYES = "all"
    assert bob.post(PRICES, DEARER)[1]["status"] == "proposed"
    row = PriceProposal.objects.get()
    for verb in ("approve", "reject"):
        for path, ids in ((f"{QUEUE}/{row.pk}/{verb}", {}), (f"{QUEUE}/{verb}", {"ids": [str(row.pk)]})):
            status, answer = bob.post(path, {"reason": "mine", **ids})
            assert (status, answer["error"]["code"]) == (403, "second_person_required")
    row.refresh_from_db()
    assert (row.state, in_force(model)) == ("pending", Decimal("2.5"))


def test_several_are_decided_in_one_call_all_or_none(model: LLMModel, ada: Api, bob: Api) -> None:
    cast.make_model(model.provider, "mini", input="0.15", output="0.60")
    ada.post(PRICES, DEARER)
    ada.post("admin/llm/models/openai/mini/prices", {"components": {"input": "9", "output": "1"}, "confirm": True})
    ids = [str(pk) for pk in PriceProposal.objects.values_list("pk", flat=True)]
    status, answer = bob.post(f"{QUEUE}/approve", {"ids": ids, "reason": "all of it"})
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (409, "price_change_unconfirmed", "confirm")
    assert set(PriceProposal.objects.values_list("state", flat=True)) == {"pending"}
    later = (timezone.now() + timedelta(days=3)).isoformat()
    body = {"ids": ids, "reason": "all of it", "confirm": True, "effective_from": later}
    status, decided = bob.post(f"{QUEUE}/approve", body)
    assert (status, {row["version"]["status"] for row in decided}) == (200, {"approved"})
    assert in_force(model) == Decimal("2.5")
    assert bob.post(f"{QUEUE}/reject", {"ids": ids, "reason": "late"})[0] == 409


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": "x", "effective_from": "2020-01-01T00:00:00Z"}, "effective_from"),
        ({"reason": "x", "confirm": "yes"}, "confirm"),
        ({"reason": "x", "force": True}, "force"),
    ],
)
def test_a_decision_that_says_too_little_or_too_much_is_a_400(
    model: LLMModel, ada: Api, bob: Api, body: Any, param: str
) -> None:
    ada.post(PRICES, DEARER)
    status, answer = bob.post(f"{QUEUE}/{PriceProposal.objects.get().pk}/approve", body)
    assert (status, answer["error"]["param"], in_force(model)) == (400, param, Decimal("2.5"))


@pytest.mark.parametrize("ids", [None, [], ["x"], "x", [{}]])
def test_ids_that_are_none_are_a_400(model: LLMModel, bob: Api, ids: Any) -> None:
    body = {"reason": "x"} if ids is None else {"reason": "x", "ids": ids}
    status, answer = bob.post(f"{QUEUE}/reject", body)
    assert (status, answer["error"]["param"].partition(".")[0]) == (400, "ids")


def test_the_queue_is_filtered_searched_and_sorted(model: LLMModel, ada: Api, bob: Api) -> None:
    cast.make_model(cast.make_provider("xai"), "grok-4", input="3", output="15")
    ada.post(PRICES, DEARER)
    ada.post("admin/llm/models/xai/grok-4/prices", {"components": {"input": "2", "output": "15"}})
    for query, found in (
        ("ordering=largest_percent", ["xai/grok-4", "openai/gpt-4o"]),
        ("ordering=-largest_percent", ["openai/gpt-4o", "xai/grok-4"]),
        ("provider=xai", ["xai/grok-4"]),
        ("model=openai/gpt-4o", ["openai/gpt-4o"]),
        ("search=grok", ["xai/grok-4"]),
        ("state=approved", []),
        ("source=staff&is_informational=false", ["xai/grok-4", "openai/gpt-4o"]),
    ):
        status, page = bob.get(f"{QUEUE}?{query}")
        assert (status, [row["model"] for row in page["results"]]) == (200, found), query


def test_a_scheduled_rise_is_cancelled_before_it_comes(model: LLMModel, bob: Api) -> None:
    later = (timezone.now() + timedelta(days=30)).isoformat()
    assert bob.post(PRICES, DEARER | {"effective_from": later})[1]["status"] == "approved"
    status, version = bob.post(f"{PRICES}/2/cancel", {"reason": "taken back"})
    assert (status, version["status"]) == (200, "cancelled")
    assert PriceVersion.objects.get(number=1).effective_to is None
    assert bob.post(f"{PRICES}/1/cancel", {})[1]["error"]["code"] == "price_has_begun"
    assert bob.post(f"{PRICES}/7/cancel", {})[0] == 404


@pytest.mark.parametrize("four_eyes", ["", "all"])
def test_what_is_decided_is_cancelled_by_one_person_who_may_approve(
    model: LLMModel, ada: Api, bob: Api, settings: Any, four_eyes: str
) -> None:
    """One is enough with four eyes too: what is in force stays in force."""
    settings.PRICE_FOUR_EYES = four_eyes
    later = (timezone.now() + timedelta(days=30)).isoformat()
    ada.post(PRICES, DEARER | {"effective_from": later})
    assert bob.post(f"{QUEUE}/{PriceProposal.objects.get().pk}/approve", {"reason": "announced"})[0] == 200
    before = (list(PriceVersion.objects.order_by("number").values()), AuditEvent.objects.count())
    status, answer = ada.post(f"{PRICES}/2/cancel", {"reason": "mine"})
    assert (status, answer["error"]["code"]) == (403, "price_is_decided")
    assert (list(PriceVersion.objects.order_by("number").values()), AuditEvent.objects.count()) == before
    assert bob.post(f"{PRICES}/2/cancel", {"reason": "taken back"})[1]["status"] == "cancelled"
    assert in_force(model) == Decimal("2.5")


def test_a_draft_is_thrown_away_without_the_right_to_approve(model: LLMModel, ada: Api) -> None:
    number = ada.post(PRICES, DEARER | {"draft": True})[1]["number"]
    assert ada.post(f"{PRICES}/{number}/cancel", {})[1]["status"] == "cancelled"


def test_a_draft_more_than_five_times_off_asks_who_decides_alone(model: LLMModel, bob: Api) -> None:
    dearest = {"components": {"input": "25", "output": "100"}, "reason": "a new contract", "draft": True}
    draft = bob.post(PRICES, dearest)[1]
    path = f"{PRICES}/{draft['number']}/propose"
    for body in (None, {}, {"confirm": False}):
        status, answer = bob.post(path, body)
        assert (status, answer["error"]["code"], answer["error"]["param"]) == (
            409, "price_change_unconfirmed", "confirm",
        )  # fmt: skip
    assert bob.post(path, {"confirm": "perhaps"})[0] == 400
    assert in_force(model) == Decimal("2.5")
    status, finished = bob.post(path, {"confirm": True})
    assert (status, finished["status"], in_force(model)) == (200, "active", 25)


def test_a_draft_is_kept_proposed_and_decided(model: LLMModel, ada: Api, bob: Api) -> None:
    version = ada.post(PRICES, DEARER | {"draft": True})[1]
    assert (version["status"], in_force(model)) == ("draft", Decimal("2.5"))
    assert ada.post(f"{PRICES}/{version['id']}/propose")[1]["status"] == "proposed"
    row = PriceProposal.objects.get()
    assert bob.post(f"{QUEUE}/{row.pk}/reject", {"reason": "no"})[1]["version"]["status"] == "cancelled"
    own = bob.post(PRICES, DEARER | {"draft": True})[1]
    assert bob.post(f"{PRICES}/{own['id']}/propose")[1]["status"] == "active"


def test_the_first_price_of_a_new_model_needs_an_approver_too(model: LLMModel, bob: Api) -> None:
    add = ("llm.add_llmmodel", "llm.view_llmmodel", "llm.add_priceversion")
    eve = Api(cast.make_staff("eve", superuser=False, permissions=add)[1])
    body = {"provider": "openai", "model_id": "new", "cost_per_1m_input_tokens": "1", "cost_per_1m_output_tokens": "2"}
    status, made = eve.post("admin/llm/models", body)
    assert (status, made["price_version"]) == (201, None)
    row = PriceProposal.objects.get()
    assert bob.post(f"{QUEUE}/{row.pk}/approve", {"reason": "checked"})[1]["version"]["number"] == 1


def test_prices_of_service_tiers_are_stored_and_shown(model: LLMModel, bob: Api) -> None:
    parts = [{"meter": "input", "usd_per_1m": "2.5"}, {"meter": "output", "usd_per_1m": "10"},
             {"meter": "input", "usd_per_1m": "1.25", "service_tier": "batch"},
             {"meter": "output", "usd_per_1m": "5", "service_tier": "batch"}]  # fmt: skip
    status, version = bob.post(PRICES, {"components": parts})
    assert status == 201
    assert [one.get("service_tier", "standard") for one in version["components"]] == [
        "batch", "batch", "standard", "standard",
    ]  # fmt: skip
    parts[2]["service_tier"] = "warp"
    assert bob.post(PRICES, {"components": parts})[1]["error"]["param"] == "components"
