"""Tenants' own prices with PRICE_FOUR_EYES=all: they wait in the queue of proposals, and a second person decides."""

from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from llm.engine import tenant_state
from llm.models import LLMModel, PriceOverride, PriceProposal, PriceVersion
from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.conftest import Api

PRICES, QUEUE = "admin/tenants/acme/prices", "admin/llm/price-proposals"
RIGHTS = (
    *("llm.add_priceoverride", "llm.view_priceoverride", "llm.delete_priceoverride"),
    *("llm.view_priceproposal", "llm.approve_prices"),
)
CONTRACT = {"model": "openai/gpt-4o", "components": {"input": "2", "output": "8"}, "reason": "contract 12"}
CHECKED = {"reason": "checked"}


@pytest.fixture(autouse=True)
def four_eyes(settings: Any) -> None:
    settings.PRICE_FOUR_EYES = "all"


@pytest.fixture
def gpt(db: None) -> LLMModel:
    return cast.make_model(cast.make_provider("openai"), "gpt-4o", input="2.50", output="10")


@pytest.fixture
def ada(gpt: LLMModel, acme: Tenant) -> Api:
    return Api(cast.make_staff("ada", superuser=False, permissions=RIGHTS)[1])


@pytest.fixture
def bob(gpt: LLMModel) -> Api:
    return Api(cast.make_staff("bob", superuser=False, permissions=RIGHTS)[1])


def in_force(tenant: Tenant, model: LLMModel) -> Decimal | None:
    card = tenant_state.load(tenant.pk).own_card(model.pk, timezone.now())
    return None if card is None else card.tiers[-1].rates["input"].of(1_000_000)


def waiting(ada: Api, **change: Any) -> dict[str, Any]:
    status, row = ada.post(PRICES, CONTRACT | change)
    assert status == 202, row
    return row


def test_it_waits_in_the_queue_and_holds_once_a_second_person_approves(
    ada: Api, bob: Api, acme: Tenant, gpt: LLMModel
) -> None:
    row = waiting(ada)
    assert (row["state"], row["tenant"], row["version"], row["impact"]) == ("pending", "acme", None, None)
    assert row["wanted"]["components"] == [
        {"meter": "input", "usd_per_1m": "2", "above_tokens": 0},
        {"meter": "output", "usd_per_1m": "8", "above_tokens": 0},
    ]
    assert [(one["name"], one["old"], one["new"], one["percent"]) for one in row["changes"]] == [
        ("input", "2.5", "2", "-20"), ("output", "10", "8", "-20"),
    ]  # fmt: skip
    assert (in_force(acme, gpt), PriceOverride.objects.count(), PriceVersion.objects.count()) == (None, 0, 1)
    assert bob.get(f"{QUEUE}?tenant=acme")[1]["results"] == [row]
    assert bob.get(f"{QUEUE}?tenant=globex")[1]["count"] == 0
    for verb in ("approve", "reject"):
        status, answer = ada.post(f"{QUEUE}/{row['id']}/{verb}", CHECKED)
        assert (status, answer["error"]["code"]) == (403, "second_person_required")
    assert in_force(acme, gpt) is None
    status, decided = bob.post(f"{QUEUE}/{row['id']}/approve", CHECKED)
    assert (status, decided["state"], decided["decider"]) == (200, "approved", "bob (staff)")
    price = PriceOverride.objects.get()
    assert (in_force(acme, gpt), price.author, price.reason) == (2, "ada (staff), bob (staff)", "contract 12")
    assert bob.post(f"{QUEUE}/{row['id']}/approve", CHECKED)[1]["error"]["code"] == "price_proposal_decided"
    events = AuditEvent.objects.order_by("pk").values_list("action", "object_type", "actor_label")
    assert list(events) == [
        ("propose", "llm.PriceProposal", "ada (staff)"), ("create", "llm.PriceOverride", "bob (staff)"),
        ("approve", "llm.PriceProposal", "bob (staff)"),
    ]  # fmt: skip


def test_a_rejected_one_never_holds(ada: Api, bob: Api, acme: Tenant, gpt: LLMModel) -> None:
    assert bob.post(f"{QUEUE}/{waiting(ada)['id']}/reject", CHECKED)[1]["state"] == "rejected"
    assert (in_force(acme, gpt), PriceOverride.objects.count()) == (None, 0)


def test_ending_one_waits_too(ada: Api, bob: Api, acme: Tenant, gpt: LLMModel) -> None:
    bob.post(f"{QUEUE}/{waiting(ada)['id']}/approve", CHECKED)
    price = PriceOverride.objects.get()
    for verb, left in (("reject", 2), ("approve", None)):
        status, row = ada.delete(f"{PRICES}/{price.pk}")
        assert (status, row["wanted"]["ends"], row["wanted"]["components"]) == (202, str(price.pk), [])
        assert [(one["old"], one["new"]) for one in row["changes"]] == [("2", "2.5"), ("8", "10")]
        assert ada.post(f"{QUEUE}/{row['id']}/{verb}", CHECKED)[0] == 403
        dated = CHECKED | {"effective_from": "2999-01-01T00:00:00Z"}
        assert verb == "reject" or bob.post(f"{QUEUE}/{row['id']}/approve", dated)[0] == 400
        assert in_force(acme, gpt) == 2
        assert bob.post(f"{QUEUE}/{row['id']}/{verb}", CHECKED)[0] == 200
        assert in_force(acme, gpt) == left
    assert ada.delete(f"{PRICES}/{price.pk}")[0] == 204  # it has ended: nothing is left to decide


def test_more_than_five_times_is_asked_of_both(ada: Api, bob: Api, acme: Tenant, gpt: LLMModel) -> None:
    free = {"components": {"input": "0", "output": "0"}}
    assert ada.post(PRICES, CONTRACT | free)[1]["error"]["code"] == "price_change_unconfirmed"
    row = waiting(ada, **free, confirm=True)
    status, answer = bob.post(f"{QUEUE}/{row['id']}/approve", CHECKED)
    assert (status, answer["error"]["code"]) == (409, "price_change_unconfirmed")
    assert in_force(acme, gpt) is None
    assert bob.post(f"{QUEUE}/{row['id']}/approve", CHECKED | {"confirm": True})[0] == 200
    assert in_force(acme, gpt) == 0


def test_what_the_tenant_pays_has_changed_since_is_said(ada: Api, bob: Api, acme: Tenant, gpt: LLMModel) -> None:
    row = waiting(ada)
    cast.make_price(gpt, timezone.now(), input="3", output="10")
    status, answer = bob.post(f"{QUEUE}/{row['id']}/approve", CHECKED)
    assert (status, answer["error"]["code"], in_force(acme, gpt)) == (409, "price_base_changed", None)
    assert bob.post(f"{QUEUE}/{row['id']}/approve", CHECKED | {"confirm": True})[0] == 200
    assert in_force(acme, gpt) == 2


def test_a_newer_one_of_the_same_tenant_overtakes_and_no_other(
    ada: Api, bob: Api, acme: Tenant, globex: Tenant, gpt: LLMModel
) -> None:
    older = waiting(ada)
    assert ada.post("admin/tenants/globex/prices", CONTRACT)[0] == 202
    listed = {"components": {"input": "3", "output": "10"}, "reason": "announced"}
    root = Api(cast.make_staff("root")[1])
    assert root.post("admin/llm/models/openai/gpt-4o/prices", listed)[1]["status"] == "proposed"
    newer = waiting(ada, components={"input": "2.2", "output": "8"})
    states = {str(row.pk): row.state for row in PriceProposal.objects.all()}
    assert sorted(states.values()) == ["pending", "pending", "pending", "superseded"]
    assert (states[older["id"]], states[newer["id"]]) == ("superseded", "pending")
    with pytest.raises(IntegrityError), transaction.atomic():
        PriceProposal.objects.filter(pk=older["id"]).update(state="pending", decided_at=None)
    with pytest.raises(IntegrityError), transaction.atomic():
        PriceProposal.objects.filter(pk=newer["id"]).update(wanted=None)


def test_it_holds_from_the_moment_that_the_approver_says_else_the_wished_one(
    ada: Api, bob: Api, acme: Tenant, globex: Tenant, gpt: LLMModel
) -> None:
    row = waiting(ada, effective_to="2998-01-01T00:00:00Z")
    path = f"{QUEUE}/{row['id']}/approve"
    assert bob.post(path, CHECKED | {"effective_from": "2020-01-01T00:00:00Z"})[0] == 400
    late = CHECKED | {"effective_from": "2999-01-01T00:00:00Z"}
    assert bob.post(path, late)[1]["error"]["param"] == "effective_to"
    assert bob.post(path, CHECKED | {"effective_from": "2997-01-01T00:00:00Z"})[0] == 200
    assert (PriceOverride.objects.get().effective_from.year, in_force(acme, gpt)) == (2997, None)
    dated = CONTRACT | {"effective_from": "2990-01-01T00:00:00Z"}
    other = ada.post("admin/tenants/globex/prices", dated)[1]
    assert bob.post(f"{QUEUE}/{other['id']}/approve", CHECKED)[0] == 200
    assert PriceOverride.objects.get(tenant=globex).effective_from.year == 2990


def test_in_the_admin_it_is_set_seen_approved_and_ended(client: Client, acme: Tenant, gpt: LLMModel) -> None:
    browser = Client()
    browser.force_login(cast.make_staff("dora")[0])
    form = {"model": str(gpt.pk), "input_usd": "0.1", "output_usd": "8", "reason": "contract 12",
            "effective_to": "2998-01-01T00:00"}  # fmt: skip
    set_price = reverse("admin:tenants_tenant_set_price", args=(acme.pk,))
    asked = browser.post(set_price, form).content.decode()
    assert "more than 5x. Switch on “confirm” below if it is meant." in asked
    said = browser.post(set_price, {**form, "confirm": "on"}, follow=True).content.decode()
    assert "It waits for a second person: see Price proposals." in said
    row = PriceProposal.objects.get()
    client.force_login(cast.make_staff("carl")[0])
    for url in (
        reverse("admin:llm_priceproposal_changelist"),
        reverse("admin:llm_priceproposal_change", args=(row.pk,)),
    ):
        assert "own price of acme" in client.get(url).content.decode()
    page = client.get(reverse("admin:llm_priceproposal_change", args=(row.pk,))).content.decode()
    for words in ("Input tokens: $0.10 per 1M", "until 2998-01-01 00:00:00 UTC", "contract 12", "not re-costed"):
        assert words in page
    approve = reverse("admin:llm_priceproposal_approve_one", args=(row.pk,))
    assert "a second person decides" in browser.post(approve, {**CHECKED, "confirm": "on"}).content.decode()
    assert client.post(approve, {**CHECKED, "confirm": "on"}).status_code == 302
    assert in_force(acme, gpt) == Decimal("0.1")
    end = reverse("admin:llm_priceoverride_end", args=(PriceOverride.objects.get().pk,))
    assert "Switch on “confirm” below" in browser.post(end, {"reason": "over"}).content.decode()
    said = browser.post(end, {"reason": "over", "confirm": "on"}, follow=True).content.decode()
    assert "It waits for a second person" in said
    ending = PriceProposal.objects.get(state="pending")
    page = client.get(reverse("admin:llm_priceproposal_change", args=(ending.pk,))).content.decode()
    assert "The list price and its markup count again." in page
    approve = reverse("admin:llm_priceproposal_approve_one", args=(ending.pk,))
    assert client.post(approve, {**CHECKED, "confirm": "on"}).status_code == 302
    assert in_force(acme, gpt) is None
