"""What a tenant owes for real requests: its tier's markup, its own prices, its prepaid credit; edits live in 2 s."""

import time
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from billing import granting
from billing.models import BudgetWindow
from llm.catalog import overrides, prices
from llm.models import LLMModel, PriceOverride
from tenants import audit
from tenants.models import Tenant, TierTerms
from tests import cast
from tests.fakes import Behaviour
from tests.journeys.world import Customer, Json, World, eventually, usd

STAFF = audit.system("test")
LIVE_S = 2.3  # two seconds, and the test's own slack
MILLION = Decimal(1_000_000)


@pytest.fixture
def model(world: World) -> LLMModel:
    return world.vendors["openai"].model


def own_price(customer: Customer, model: LLMModel, **meters: str) -> PriceOverride:
    components = [prices.Component(meter, Decimal(price)) for meter, price in meters.items()]
    wish = overrides.NewOverride(components=components, reason="contract", confirm=True)
    return overrides.set_override(tenant=customer.tenant, model=model, wish=wish, actor=STAFF, now=timezone.now())


def grant(customer: Customer, amount: str) -> None:
    wish = granting.NewGrant(amount=Decimal(amount), reason="paid")
    granting.grant(tenant=customer.tenant, wish=wish, actor=STAFF, now=timezone.now())


def credit(customer: Customer) -> tuple[Decimal, Decimal]:
    """(balance, held)."""
    found = granting.picture(tenant_id=customer.tenant.pk, now=timezone.now())
    return found.account.balance, found.held


def read(customer: Customer, path: str) -> Json:
    with customer.http as client:
        found: Json = client.get(f"/api/v1/{path}").json()
    return found


# --- own prices -------------------------------------------------------------------------------------------------------


def test_a_tenants_own_price_is_what_it_owes_without_markup_and_the_cost_stays_the_list_price(
    world: World, model: LLMModel
) -> None:
    customer = world.customer(markup_percent=Decimal(50))
    price = own_price(customer, model, input="1", output="4")
    answer = customer.ask()
    row = customer.row()
    assert (row.cost_total_usd, row.billed_usd, row.budget_usd) == (usd(8, 5), Decimal(28) / MILLION, row.billed_usd)
    assert Decimal(answer.headers["x-cost-incurred"]) == row.billed_usd == customer.spent()
    assert row.terms["price_override"] == str(price.pk)
    assert [(line["meter"], line["quantity"], line["unit_price_usd"]) for line in row.terms["lines"]] == [
        ("input", 8, "1"), ("output", 5, "4"),
    ]  # fmt: skip
    assert [line["unit_price_usd"] for line in row.price_lines] == ["2", "8"]


def test_another_tenant_and_another_model_pay_the_list_price(world: World, model: LLMModel) -> None:
    own_price(world.customer(), model, input="1", output="4")
    other = world.customer()
    other.ask()
    assert (other.row().billed_usd, other.row().terms) == (usd(8, 5), {})
    elsewhere = world.customer()
    own_price(elsewhere, world.vendors["anthropic"].model, input="1", output="4")
    elsewhere.ask()
    assert elsewhere.row().billed_usd == usd(8, 5)


def test_an_own_key_pays_its_fee_of_the_list_price(world: World, model: LLMModel) -> None:
    customer = world.customer(byok_fee_percent=Decimal(10))
    cast.make_credential(model.provider, "sk-own-0123456789", customer.tenant)
    own_price(customer, model, input="1", output="4")
    customer.ask()
    row = customer.row()
    assert (row.billed_usd, row.budget_usd) == (usd(8, 5) / 10, usd(8, 5) * 11 / 10)
    assert row.terms == {"byok_fee_percent": "10"}


def test_a_hold_bounds_an_own_price_that_is_dearer_than_the_list(world: World, model: LLMModel) -> None:
    customer = world.customer()
    own_price(customer, model, input="200", output="800")
    answer = customer.ask(max_tokens=10)
    row = customer.row()
    assert answer.status_code == 200
    assert row.billed_usd == usd(8, 5) * 100
    assert not row.is_overrun
    # What the list price would have held is far below what this costs at most: the own price is what is held.
    Tenant.objects.filter(pk=customer.tenant.pk).update(
        budget_limit_daily=row.billed_usd + row.held_usd - Decimal("1e-9")
    )
    eventually(lambda: customer.ask(max_tokens=10).status_code == 429, within_s=LIVE_S)


def test_the_price_is_that_of_the_reserve(world: World, model: LLMModel) -> None:
    customer = world.customer()
    world.fake.script("m", Behaviour(delay_between_s=0.4))
    with customer.stream() as answer:
        own_price(customer, model, input="1", output="4")  # while it is under way
        answer.read()
    assert (customer.row().billed_usd, customer.row().terms) == (usd(8, 5), {})
    world.fake.script("m", Behaviour())
    eventually(lambda: customer.ask() and customer.rows()[-1].terms, within_s=LIVE_S, what="the new price")


# --- terms of tiers ---------------------------------------------------------------------------------------------------


def test_a_change_of_a_tiers_markup_is_live_in_two_seconds(world: World) -> None:
    customer = world.customer(tier="starter")
    customer.ask()
    TierTerms.objects.update_or_create(tier="starter", defaults={"markup_percent": Decimal(25)})
    try:
        since = time.monotonic()
        wanted = usd(8, 5) * Decimal("1.25")
        eventually(
            lambda: Decimal(customer.ask().headers["x-cost-incurred"]) == wanted, within_s=LIVE_S, what="the markup"
        )
        assert time.monotonic() - since < LIVE_S
        assert customer.rows()[-1].terms == {"markup_percent": "25"}
    finally:
        TierTerms.objects.filter(tier="starter").update(markup_percent=Decimal(0))


# --- prepaid ----------------------------------------------------------------------------------------------------------


def test_a_prepaid_tenant_draws_what_it_is_billed_and_is_refused_when_it_is_gone(world: World) -> None:
    customer = world.customer(prepaid=True, markup_percent=Decimal(50))
    refused = customer.ask(max_tokens=10)
    error = refused.json()["error"]
    assert (refused.status_code, error["type"], error["code"], error["param"]) == (
        429, "insufficient_quota", "insufficient_quota", "credits",
    )  # fmt: skip
    assert error["message"].startswith(
        "The prepaid credits of this tenant do not cover this request: balance $0, of which $0 is held"
    )
    assert "ask the operator of this gateway for more credits" in error["message"]
    customer.untouched()
    grant(customer, "0.01")
    billed = usd(8, 5) * 3 / 2
    assert customer.ask(max_tokens=10).status_code == 200
    assert customer.row().is_prepaid
    assert credit(customer) == (Decimal("0.01") - billed, 0)
    seen = read(customer, "llm/credits")
    assert (Decimal(seen["balance"]), Decimal(seen["drawn"]), seen["held"], seen["granted"]) == (
        Decimal("0.01") - billed, billed, "0", "0.01",
    )  # fmt: skip


def test_the_other_wires_say_so_in_their_own_shapes(world: World) -> None:
    customer = world.customer(prepaid=True)
    body: dict[str, Any] = {"model": "fakeai/m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
    with customer.http as client:
        answer = client.post("/v1/messages", json=body)
        assert (answer.status_code, answer.json()["type"]) == (429, "error")
        assert "prepaid credits" in answer.json()["error"]["message"]
        answer = client.post("/v1/responses", json={"model": "fakeai/m", "input": "hi", "max_output_tokens": 16})
        assert (answer.status_code, answer.json()["error"]["param"]) == (429, "credits")


def test_an_own_key_draws_its_fee_only(world: World, model: LLMModel) -> None:
    customer = world.customer(prepaid=True, byok_fee_percent=Decimal(10))
    cast.make_credential(model.provider, "sk-own-0123456789", customer.tenant)
    assert customer.ask(max_tokens=10).status_code == 429
    grant(customer, "0.0001")
    assert customer.ask(max_tokens=10).status_code == 200
    row = customer.row()
    assert credit(customer) == (Decimal("0.0001") - usd(8, 5) / 10, 0)
    assert row.budget_usd == customer.spent() == usd(8, 5) * 11 / 10


def test_an_own_key_without_a_fee_needs_no_credit(world: World, model: LLMModel) -> None:
    customer = world.customer(prepaid=True)
    cast.make_credential(model.provider, "sk-own-0123456789", customer.tenant)
    assert customer.ask().status_code == 200
    assert credit(customer) == (0, 0)


def test_a_fallback_from_an_own_key_to_the_platforms_holds_more_credit_or_is_skipped(world: World) -> None:
    provider, other = world.provider("first", world.fake), world.provider("second", world.other)
    for number, one in enumerate((provider, other)):
        model = world.model(one, f"fb{number}")
        cast.make_rule(model, "balanced", priority=number, is_fallback=bool(number))
    world.refresh()
    world.fake.script("fb0", Behaviour(status=500))
    poor, rich = world.customer(prepaid=True), world.customer(prepaid=True)
    for customer in (poor, rich):
        cast.make_credential(provider, "sk-own-0123456789", customer.tenant)
    grant(rich, "1")
    assert rich.ask("balanced").status_code == 200
    row = rich.row()
    assert (row.model_name, row.used_byok, row.was_fallback) == ("fb1", False, True)
    assert credit(rich) == (1 - usd(8, 5), 0)
    world.forgive()
    assert poor.ask("balanced").status_code >= 500  # what the own key met: there is no credit for the other
    assert poor.row().billed_usd == 0
    assert credit(poor) == (0, 0)


def test_switching_a_tenant_to_prepaid_and_back_is_live_in_two_seconds(world: World) -> None:
    customer = world.customer()
    assert customer.ask().status_code == 200
    for prepaid, wanted in ((True, 429), (False, 200)):
        Tenant.objects.filter(pk=customer.tenant.pk).update(prepaid=prepaid)
        eventually(lambda wanted=wanted: customer.ask().status_code == wanted, within_s=LIVE_S, what=f"{wanted}")
    assert not any(row.is_prepaid for row in customer.rows())
    assert BudgetWindow.objects.get(scope_kind="credit", scope_id=customer.tenant.pk).spent == 0


# --- a wrong price found later ----------------------------------------------------------------------------------------


def test_a_tenant_blocked_by_a_wrong_price_is_free_the_moment_a_second_person_approves(
    world: World, model: LLMModel
) -> None:
    world.model(model.provider, "mispriced")
    world.refresh()
    customer = world.customer(markup_percent=Decimal(25))

    def ask() -> int:
        return customer.ask("fakeai/mispriced", max_tokens=10).status_code

    assert ask() == 200
    row = customer.row()
    # Room for one more, had it cost half of what it did.
    Tenant.objects.filter(pk=customer.tenant.pk).update(budget_limit_daily=row.held_usd + row.budget_usd / 2)
    assert ask() == 429
    body = {"model": "fakeai/mispriced", "components": {"input": "0.2", "output": "0.8", "cache_read": "0.05"},
            "confirm": True, "reason": "ten times too dear", "from": "2026-01-01T00:00:00Z"}  # fmt: skip
    ada, bob = ({"Authorization": f"Bearer {cast.make_staff(name)[1]}"} for name in ("ada-corrects", "bob-approves"))
    with customer.http as client:
        run = client.post("/api/v1/admin/llm/corrections", json=body, headers=ada).json()
        approve, reason = f"/api/v1/admin/llm/corrections/{run['id']}/approve", {"reason": "seen"}
        refused = client.post(approve, json=reason, headers=ada)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "second_person_required")
        assert ask() == 429
        done = client.post(approve, json=reason, headers=bob)
        assert (done.status_code, done.json()["state"], done.json()["booked"]) == (200, "booked", 1)
        right = usd(8, 5) / 10 * Decimal("1.25")
        assert customer.spent() == right == row.billed_usd + Decimal(run["billed_usd"])
        assert ask() == 200
        [adjustment] = client.get(f"/api/v1/llm/requests/{row.pk}").json()["adjustments"]
        assert (adjustment["billed_usd"], adjustment["reason"]) == (run["billed_usd"], "ten times too dear")
