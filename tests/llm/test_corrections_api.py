"""Correction runs over the API, as two people and as the tenant: proposed, approved, read, and refused."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing.models import Adjustment, UsageRecord
from llm.models import CorrectionRun, LLMModel
from tenants.models import Tenant
from tests import cast
from tests.billing.books import assert_books_agree
from tests.billing.made import spend
from tests.conftest import Api

RUNS = "admin/llm/corrections"
EDITOR = ("llm.add_correctionrun", "llm.view_correctionrun")


@pytest.fixture
def model(db: None) -> LLMModel:
    return cast.make_model(cast.make_provider("openai"), "gpt-4o", input="25", output="100")


@pytest.fixture
def ada(db: None) -> Api:
    """May propose, and approve none."""
    return Api(cast.make_staff("ada", superuser=False, permissions=EDITOR)[1])


@pytest.fixture
def bob(db: None) -> Api:
    """May propose and approve."""
    return Api(cast.make_staff("bob", superuser=False, permissions=(*EDITOR, "llm.approve_prices"))[1])


def billed(tenant: Tenant, model: LLMModel) -> UsageRecord:
    """1,000 input tokens at $25."""
    at = timezone.now() - timedelta(hours=1)
    line = {"meter": "input", "priced_as": "input", "quantity": 1000, "unit_price_usd": "25", "amount_usd": "0.025",
            "unit_quantity": 1_000_000}  # fmt: skip
    version = model.price_versions.get()
    row: UsageRecord = spend(
        tenant.pk, "0.025", day=at.date(), model_id=model.pk, prompt_tokens=1000, price_lines=[line], created_at=at,
        price_version_id=version.pk,
    )  # fmt: skip
    return row


def wish(**more: Any) -> dict[str, Any]:
    since = (timezone.now() - timedelta(days=1)).isoformat()
    price = {"input": "2.50", "output": "10"}
    return {"model": "openai/gpt-4o", "components": price, "reason": "per thousand", "from": since} | more


def test_two_people_correct_and_the_tenant_reads_why(
    model: LLMModel, ada: Api, bob: Api, acme: Tenant, tenant: Api, stranger: Api
) -> None:
    request = billed(acme, model)
    status, refused = ada.post(RUNS, wish())
    assert (status, refused["error"]["code"], refused["error"]["param"]) == (409, "price_change_unconfirmed", "confirm")
    status, run = ada.post(RUNS, wish(confirm=True))
    assert (status, run["state"], run["requests"], run["affected"], run["left_alone"]) == (201, "pending", 1, 1, 0)
    assert (run["model"], run["proposer"], run["billed_usd"], run["reason"]) == (
        "openai/gpt-4o", "ada (staff)", "-0.0225", "per thousand",
    )  # fmt: skip
    assert run["components"] == [
        {"meter": "input", "usd_per_1m": "2.5", "above_tokens": 0},
        {"meter": "output", "usd_per_1m": "10", "above_tokens": 0},
    ]
    share = {"requests": 1, "adjusted_requests": 0} | dict.fromkeys(("cost_usd", "billed_usd", "budget_usd"), "-0.0225")
    assert run["tenants"] == [{"tenant": "acme", "tenant_id": str(acme.pk), **share}]
    one = f"{RUNS}/{run['id']}"
    assert bob.get(one) == (200, run)
    [listed] = bob.get(f"{RUNS}?state=pending&model=openai/gpt-4o")[1]["results"]
    assert listed == {name: value for name, value in run.items() if name != "tenants"}
    assert bob.get(f"{RUNS}?state=booked")[1]["count"] == 0
    for verb in ("approve", "reject"):
        assert ada.post(f"{one}/{verb}", {"reason": "mine"})[0] == 403
    assert bob.post(f"{one}/approve", {})[0] == 400
    status, done = bob.post(f"{one}/approve", {"reason": "the vendor's list"})
    assert (status, done["state"], done["booked"], done["decider"], done["decision_reason"]) == (
        200, "booked", 1, "bob (staff)", "the vendor's list",
    )  # fmt: skip
    [row] = tenant.get("llm/adjustments")[1]["results"]
    assert (row["request_id"], row["billed_usd"], row["reason"]) == (str(request.pk), "-0.0225", "per thousand")
    assert tenant.get(f"llm/requests/{request.pk}")[1]["adjustments"] == [row]
    assert {"author", "correction_id"}.isdisjoint(row)
    assert stranger.get(f"llm/requests/{request.pk}")[0] == 404
    assert Adjustment.objects.get().correction_id == CorrectionRun.objects.get().pk
    assert_books_agree()
    for verb in ("approve", "reject", "cancel", "work-out"):
        status, refused = bob.post(f"{one}/{verb}", {"reason": "again"} if verb != "work-out" else None)
        assert (status, refused["error"]["code"]) == (409, "correction_decided")


def test_one_person_is_not_enough_and_a_changed_ledger_is_looked_at_again(
    model: LLMModel, bob: Api, staff: Api, acme: Tenant
) -> None:
    request = billed(acme, model)
    version = str(model.price_versions.get().pk)
    run = bob.post(RUNS, wish(confirm=True, price_version_id=version))[1]
    assert (run["price_version_id"], run["price_version_number"]) == (version, 1)
    one = f"{RUNS}/{run['id']}"
    for verb in ("approve", "reject"):
        status, refused = bob.post(f"{one}/{verb}", {"reason": "mine"})
        assert (status, refused["error"]["code"]) == (403, "second_person_required")
    adjusted = {"billed_usd": "-0.01", "request_id": str(request.pk), "reason": "goodwill"}
    assert staff.post("admin/tenants/acme/adjustments", adjusted)[0] == 201
    status, refused = staff.post(f"{one}/approve", {"reason": "fine"})
    assert (status, refused["error"]["code"]) == (409, "correction_base_changed")
    status, run = bob.post(f"{one}/work-out")
    assert (status, run["state"], run["adjusted"], run["billed_usd"], run["cost_usd"]) == (
        200, "pending", 1, "-0.0125", "-0.0225",
    )  # fmt: skip
    assert staff.post(f"{one}/approve", {"reason": "fine"})[1]["state"] == "booked"
    other = bob.post(RUNS, wish(confirm=True))[1]
    assert (other["affected"], bob.post(f"{RUNS}/{other['id']}/cancel", {})[1]["state"]) == (0, "cancelled")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"components": {"input": "-1", "output": "10"}}, 400, "components"),
        ({"components": {"input": "1"}}, 400, "components"),
        ({"from": None}, 400, "from"),
        ({"to": "2999-01-01T00:00:00Z"}, 400, "to"),
        ({"model": "openai/none"}, 400, "model"),
        ({"reason": ""}, 400, "reason"),
        ({"since": "2026-01-01T00:00:00Z"}, 400, "since"),
        ({"price_version_id": "00000000-0000-0000-0000-000000000007"}, 404, None),
    ],
)
def test_what_makes_no_sense_is_refused(
    model: LLMModel, ada: Api, body: dict[str, Any], status: int, param: str | None
) -> None:
    answer, refused = ada.post(RUNS, wish(confirm=True) | body)
    assert (answer, refused["error"].get("param")) == (status, param)
    assert CorrectionRun.objects.count() == 0
