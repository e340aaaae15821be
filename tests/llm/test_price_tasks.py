"""The price queue: what puts a model in it, what takes it out, whose it is, and who is told."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.alert_models import Alert
from llm.catalog import price_tasks
from llm.models import LLMModel, PricePolicy, PriceTask, PriceVersion, RouteRefusal
from tenants.models import Tenant
from tests import cast
from tests.billing.made import spend

NOW = timezone.now()


@pytest.fixture
def bare(db: None) -> LLMModel:
    """openai/bare, which is offered and has no price."""
    return cast.make_model(cast.make_provider("openai"), "bare", input=None)


def passed_over(model: LLMModel) -> dict[str, Any]:
    return {"rejections": [{"model": model.reference, "code": "unpriced", "detail": "it has no price now"}]}


def refuse(tenant: Tenant, model: LLMModel, at: Any = NOW) -> RouteRefusal:
    return RouteRefusal.objects.create(
        tenant_id=tenant.pk, model=model.reference, status_code=503, code="model_unpriced",
        decision=passed_over(model), created_at=at,
    )  # fmt: skip


def test_a_model_without_a_price_stays_with_its_owner_when_the_refusals_are_trimmed(
    acme: Tenant, bare: LLMModel
) -> None:
    refuse(acme, bare)
    refuse(acme, bare)
    assert price_tasks.refresh(now=NOW) == 1
    ada, _ = cast.make_staff("ada")
    PriceTask.objects.update(assignee=ada, state="in_progress", note="asked the vendor")
    RouteRefusal.objects.all().delete()  # what a flood of refusals of another kind does (llm/engine/refusals.py)
    later = NOW + timedelta(days=40)
    assert price_tasks.refresh(now=later) == 1
    task = PriceTask.objects.get()
    assert (task.state, task.assignee, task.note, task.requests) == ("in_progress", ada, "asked the vendor", 2)
    assert task.seen_at == later
    cast.make_price(bare, input="1", output="2")
    PriceVersion.objects.update(confirmed_at=later)
    assert price_tasks.refresh(now=timezone.now()) == 0
    task.refresh_from_db()
    assert (task.state, task.assignee) == ("done", ada)


@pytest.mark.parametrize("gone", ["model", "provider"])
def test_a_model_that_is_no_longer_offered_leaves_and_does_not_come_back(
    acme: Tenant, bare: LLMModel, gone: str
) -> None:
    refuse(acme, bare)
    assert price_tasks.refresh(now=NOW) == 1
    row: Any = bare if gone == "model" else bare.provider
    row.is_active = False
    row.save()
    assert [price_tasks.refresh(now=NOW), price_tasks.refresh(now=NOW)] == [0, 0]
    assert PriceTask.objects.get().state == "done"


def test_a_model_passed_over_while_another_answered_is_queued(
    acme: Tenant, bare: LLMModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    spend(acme.pk, created_at=NOW - timedelta(days=31), decision=passed_over(bare))
    assert price_tasks.refresh(now=NOW) == 0
    spend(acme.pk, created_at=NOW - timedelta(days=2), decision=passed_over(bare))
    spend(acme.pk, created_at=NOW - timedelta(days=1), decision=passed_over(bare))
    refuse(acme, bare)
    assert price_tasks.refresh(now=NOW) == 1
    assert PriceTask.objects.get().requests == 3
    PriceTask.objects.all().delete()
    RouteRefusal.objects.all().delete()
    spend(acme.pk, created_at=NOW)
    monkeypatch.setattr(price_tasks, "NEWEST", 1)
    assert price_tasks.refresh(now=NOW) == 0  # it is none of the newest requests


def test_traffic_is_read_only_while_a_model_lacks_a_price(acme: Tenant, bare: LLMModel) -> None:
    spend(acme.pk, created_at=NOW, decision=passed_over(bare))
    with CaptureQueriesContext(connection) as while_it_lacks_one:
        assert price_tasks.refresh(now=NOW) == 1
    cast.make_price(bare, input="1", output="2")
    PriceVersion.objects.update(confirmed_at=NOW)
    with CaptureQueriesContext(connection) as afterwards:
        assert price_tasks.refresh(now=timezone.now()) == 0
    reads = [sum("llm_usage_logs" in one["sql"] for one in seen) for seen in (while_it_lacks_one, afterwards)]
    assert reads == [1, 0]


def test_new_tasks_are_the_owners_of_the_policy_while_they_are_staff(acme: Tenant, bare: LLMModel) -> None:
    ada, _ = cast.make_staff("ada")
    PricePolicy.objects.create(task_owner=ada)
    refuse(acme, bare)
    price_tasks.refresh(now=NOW)
    task = PriceTask.objects.get()
    assert (task.assignee, task.state) == (ada, "open")
    assert Alert.objects.get().data["owner"] == "ada"
    task.delete()
    User.objects.filter(pk=ada.pk).update(is_active=False)
    price_tasks.refresh(now=NOW)
    assert PriceTask.objects.get().assignee is None


def test_what_joins_is_told_once_and_together(acme: Tenant, bare: LLMModel) -> None:
    for number in range(3):
        cast.make_model(bare.provider, f"old-{number}")
    refuse(acme, bare)
    assert [price_tasks.refresh(now=NOW), price_tasks.refresh(now=NOW)] == [4, 4]
    unpriced, stale = Alert.objects.order_by("created_at", "id")
    assert (unpriced.event, unpriced.tenant, unpriced.title) == (
        "price.task", None, "1 model joined the price queue: used but unpriced",
    )  # fmt: skip
    assert unpriced.data == {"kind": "unpriced", "tasks": 1, "models": ["openai/bare"], "owner": None}
    assert stale.title == "3 models joined the price queue: stale price"
    assert (stale.data["tasks"], sorted(stale.data["models"])) == (3, ["openai/old-0", "openai/old-1", "openai/old-2"])
    another = cast.make_model(bare.provider, "another", input=None)
    refuse(acme, another)
    price_tasks.refresh(now=NOW)
    assert Alert.objects.order_by("-id")[0].data["models"] == ["openai/another"]
