"""A list by what is seldom used is the same list, looked up on the days that have something of it."""

import random
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import EmptyResultSet
from django.db.models import QuerySet

from billing import rare, reports, rollup
from billing.models import RolledDay, UsageRecord
from billing.reports import Wanted
from billing.rollup_models import OpenDay
from tests.billing.made import NOW, TODAY, a_tenant, an_id, spend

pytestmark = pytest.mark.django_db


def looked_up(rows: QuerySet[Any]) -> bool:
    """Whether the list names its ids."""
    try:
        return '"llm_usage_logs"."id" IN' in str(rows.query)
    except EmptyResultSet:  # of none
        return True


def test_what_is_rare_is_the_same_list_whatever_is_rolled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    tenants, config, ids = [a_tenant(), a_tenant("globex")], an_id(), [an_id(), an_id()]
    for _ in range(100):
        ago = dice.choice([0, 0, 1, 2, 4, 9, 30, 50, 80])
        spend(
            dice.choice(tenants).pk, day=TODAY - timedelta(days=ago), provider_slug=dice.choice(["openai", "xai"]),
            model_name=dice.choice(["gpt-4o", "o3"]), model_id=dice.choice(ids), config_id=dice.choice([config, None]),
            status=dice.choice(["completed", "failed"]), created_at=NOW - timedelta(days=ago),
        )  # fmt: skip
    asked: list[tuple[Wanted, dict[str, Any]]] = [
        (Wanted(model="o3"), {"model_name": "o3"}),
        (Wanted(model="xai/o3", status="failed"), {"provider_slug": "xai", "model_name": "o3", "status": "failed"}),
        (Wanted(model=str(ids[0])), {"model_id": ids[0]}),
        (Wanted(provider="xai", since=TODAY - timedelta(days=9)), {"provider_slug": "xai",
                                                                  "billing_day__gte": TODAY - timedelta(days=9)}),
        (Wanted(config_id=config, model="o3"), {"config_id": config, "model_name": "o3"}),
        (Wanted(config_id=config), {"config_id": config}),
        (Wanted(model="nobody/ever"), {"model_name": "ever"}),
    ]  # fmt: skip

    def same(*, by_id: bool) -> None:
        for wanted, filters in asked:
            for tenant_id in (None, *(tenant.pk for tenant in tenants)):
                found = reports.usage_rows(tenant_id=tenant_id, wanted=wanted)
                mine = UsageRecord.objects.filter(**filters)
                mine = mine if tenant_id is None else mine.filter(tenant_id=tenant_id)
                assert list(found.order_by("-pk")) == list(mine.order_by("-pk")), (seed, wanted)
                assert looked_up(found) == by_id, (seed, wanted)

    same(by_id=False)  # nothing is rolled up
    rollup.roll_up(now=NOW)
    same(by_id=True)
    rollup.roll_up_months(now=NOW)
    spend(tenants[0].pk, provider_slug="xai", model_name="o3", config_id=config, created_at=NOW)  # the live tail
    same(by_id=True)
    RolledDay.objects.filter(pk=TODAY - timedelta(days=4)).delete()
    OpenDay.objects.all().delete()
    same(by_id=True)
    monkeypatch.setattr(rare, "FEW", -1)  # all is common
    same(by_id=False)


def test_a_common_model_is_known_from_its_months_alone(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    acme = a_tenant()
    for _ in range(4):
        spend(acme.pk, day=TODAY - timedelta(days=50), created_at=NOW - timedelta(days=50))
    rollup.roll_up(now=NOW)
    rollup.roll_up_months(now=NOW)
    monkeypatch.setattr(rare, "FEW", 3)
    with django_assert_num_queries(4):  # whether any day is rolled up, months, marks, and how many in each month
        rows = reports.usage_rows(tenant_id=acme.pk, wanted=Wanted(provider="openai"))
    assert not looked_up(rows)
