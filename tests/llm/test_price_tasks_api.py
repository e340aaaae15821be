"""The price queue and the price policy over the API: who takes, notes, closes and confirms; what is left behind."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from llm.catalog import price_tasks
from llm.models import LLMModel, PricePolicy, PriceTask
from tenants.models import AuditEvent
from tests import cast
from tests.conftest import Api

QUEUE, POLICY = "admin/llm/price-tasks", "admin/llm/price-policy"
LOOKS_AFTER = ("llm.view_pricetask", "llm.change_pricetask", "llm.view_pricepolicy", "llm.change_pricepolicy")


@pytest.fixture
def model(db: None) -> LLMModel:
    return cast.make_model(cast.make_provider("openai"), "gpt-4o", input="2.50", output="10")


@pytest.fixture
def ada(db: None) -> Api:
    """Looks after prices, and approves none."""
    return Api(cast.make_staff("ada", superuser=False, permissions=LOOKS_AFTER)[1])


@pytest.fixture
def bob(db: None) -> Api:
    return Api(cast.make_staff("bob", superuser=False, permissions=(*LOOKS_AFTER, "llm.approve_prices"))[1])


@pytest.fixture
def task(model: LLMModel) -> PriceTask:
    """The price of long ago, found stale by the job."""
    assert price_tasks.refresh(now=timezone.now()) == 1
    return PriceTask.objects.get()


def events(kind: str) -> list[tuple[str, Any, Any]]:
    rows = AuditEvent.objects.filter(object_type=kind, actor_kind="key").order_by("id")
    return [(row.actor_label, row.before, row.after) for row in rows]


def test_a_task_is_taken_noted_given_on_and_closed(task: PriceTask, ada: Api, bob: Api) -> None:
    [row] = ada.get(f"{QUEUE}?state=open&assignee=nobody")[1]["results"]
    assert (row["model"], row["kind"], row["assignee"], row["requests"]) == ("openai/gpt-4o", "stale", None, 0)
    one = f"{QUEUE}/{task.pk}"
    status, taken = ada.patch(one, {"assignee": "me", "note": "asked the vendor"})
    assert (status, taken["assignee"], taken["state"], taken["note"]) == (
        200, "ada", "in_progress", "asked the vendor",
    )  # fmt: skip
    assert [ada.get(f"{QUEUE}?assignee={who}")[1]["count"] for who in ("me", "nobody", "ada", "bob")] == [1, 0, 1, 0]
    assert ada.patch(one, {"assignee": "bob", "state": "open"})[1]["assignee"] == "bob"
    assert bob.patch(one, {"state": "done"})[1]["state"] == "done"
    assert bob.get(one)[1]["state"] == "done"
    written = events("llm.PriceTask")
    assert [who for who, _, _ in written] == ["ada (staff)", "ada (staff)", "bob (staff)"]
    assert (written[0][1]["state"], written[0][2]["state"]) == ("open", "in_progress")


def test_what_is_done_by_hand_and_still_so_comes_again_and_the_old_one_stays_closed(task: PriceTask, ada: Api) -> None:
    ada.patch(f"{QUEUE}/{task.pk}", {"state": "done"})
    price_tasks.refresh(now=timezone.now())
    assert PriceTask.objects.exclude(state="done").count() == 1
    status, answer = ada.patch(f"{QUEUE}/{task.pk}", {"state": "open"})
    assert (status, answer["error"]["code"]) == (409, "price_task_superseded")
    ignored = PriceTask.objects.exclude(state="done").get()
    ada.patch(f"{QUEUE}/{ignored.pk}", {"state": "ignored"})
    assert price_tasks.refresh(now=timezone.now()) == 0


def test_who_approves_prices_confirms_that_one_is_still_right(task: PriceTask, ada: Api, bob: Api) -> None:
    assert ada.post(f"{QUEUE}/{task.pk}/confirm")[0] == 403
    assert PriceTask.objects.get().state == "open"
    assert bob.post(f"{QUEUE}/{task.pk}/confirm")[1]["state"] == "done"
    assert price_tasks.refresh(now=timezone.now()) == 0
    cast.make_model(cast.make_provider("xai"), "grok", input=None)
    unpriced = PriceTask.objects.create(
        kind="unpriced", model=LLMModel.objects.get(model_id="grok"), opened_at=timezone.now(), seen_at=timezone.now()
    )
    assert bob.post(f"{QUEUE}/{unpriced.pk}/confirm")[0] == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"assignee": "nobody-known"}, "assignee"), ({"assignee": 7}, "assignee"), ({"state": "gone"}, "state"),
        ({"note": 1}, "note"), ({"kind": "stale"}, "kind"), ({"model": "x"}, "model"),
    ],
)  # fmt: skip
def test_a_change_that_is_none_is_a_400_and_changes_nothing(task: PriceTask, ada: Api, body: Any, param: str) -> None:
    status, answer = ada.patch(f"{QUEUE}/{task.pk}", body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert (PriceTask.objects.get().updated_at, events("llm.PriceTask")) == (task.updated_at, [])


def test_the_band_is_set_by_who_may_approve_prices_and_nobody_else(ada: Api, bob: Api) -> None:
    assert ada.get(POLICY)[1] == {
        "auto_approve_up_percent": None, "auto_approve_down_percent": None, "stale_after_days": 30, "task_owner": None,
        "updated_at": None,
    }  # fmt: skip
    assert ada.patch(POLICY, {"auto_approve_up_percent": "5"})[0] == 403
    assert PricePolicy.objects.count() == 0
    status, policy = bob.patch(POLICY, {"auto_approve_up_percent": "5", "auto_approve_down_percent": "12.5"})
    assert (status, policy["auto_approve_up_percent"], policy["auto_approve_down_percent"]) == (200, "5", "12.5")
    assert bob.patch(POLICY, {"auto_approve_up_percent": None})[1]["auto_approve_up_percent"] is None
    assert ada.get(POLICY)[1]["auto_approve_down_percent"] == "12.5"
    assert [who for who, _, _ in events("llm.PricePolicy")] == ["bob (staff)"] * 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"auto_approve_up_percent": "401"}, "auto_approve_up_percent"),
        ({"auto_approve_up_percent": "-1"}, "auto_approve_up_percent"),
        ({"auto_approve_up_percent": "NaN"}, "auto_approve_up_percent"),
        ({"auto_approve_down_percent": "0.005"}, "auto_approve_down_percent"),
        ({"stale_after_days": 0}, "stale_after_days"),
        ({"stale_after_days": None}, "stale_after_days"),
        ({"task_owner": "nobody-called-so"}, "task_owner"),
        ({"task_owner": 7}, "task_owner"),
        ({"band": 1}, "band"),
    ],
)
def test_a_policy_that_is_none_is_a_400(bob: Api, body: Any, param: str) -> None:
    status, answer = bob.patch(POLICY, body)
    assert (status, answer["error"]["param"], PricePolicy.objects.count()) == (400, param, 0)


def test_who_looks_after_new_tasks_is_named_in_the_policy(model: LLMModel, bob: Api) -> None:
    assert bob.patch(POLICY, {"task_owner": "me"})[1]["task_owner"] == "bob"
    price_tasks.refresh(now=timezone.now())
    assert bob.get(f"{QUEUE}?assignee=me")[1]["results"][0]["state"] == "open"
    assert bob.patch(POLICY, {"task_owner": None})[1]["task_owner"] is None


def test_a_price_is_stale_after_as_many_days_as_the_policy_says(model: LLMModel, bob: Api) -> None:
    model.price_versions.update(confirmed_at=timezone.now() - timedelta(days=10))
    assert price_tasks.refresh(now=timezone.now()) == 0
    bob.patch(POLICY, {"stale_after_days": 9})
    assert price_tasks.refresh(now=timezone.now()) == 1
