"""A list by what is seldom used is the same list, looked up on the days that have something of it."""

import random
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

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


@pytest.mark.parametrize("few", [0, 5, 20, 2000])
@pytest.mark.parametrize(("size", "passed"), [(1, 0), (3, 0), (10, 0), (3, 20)])
def test_page_by_page_it_is_the_same_list(few: int, size: int, passed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rare, "FEW", few)
    monkeypatch.setattr(rare, "PASSED", passed)
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    tenants = [
        a_tenant(),
        a_tenant("globex", timezone="Pacific/Kiritimati"),
        a_tenant("umbrella", timezone="Etc/GMT+12"),
    ]
    for _ in range(120):
        tenant, accepted = dice.choice(tenants), NOW - timedelta(hours=dice.choice([0, 1, 30, 31, 55, 300, 1500, 1510]))
        spend(
            tenant.pk, day=accepted.astimezone(ZoneInfo(tenant.timezone)).date(), created_at=accepted,
            provider_slug=dice.choice(["openai", "xai"]), model_name=dice.choice(["gpt-4o", "o3", "o3"]),
            status=dice.choice(["completed", "failed"]),
        )  # fmt: skip
    rollup.roll_up(now=NOW)
    rollup.roll_up_months(now=NOW)
    spend(tenants[0].pk, provider_slug="xai", model_name="o3", created_at=NOW)  # the live tail
    until = TODAY - timedelta(days=2)
    for wanted, filters in (
        (Wanted(model="o3"), {"model_name": "o3"}),
        (Wanted(model="xai/o3", status="failed"), {"provider_slug": "xai", "model_name": "o3", "status": "failed"}),
        (Wanted(provider="openai", until=until), {"provider_slug": "openai", "billing_day__lte": until}),
        (Wanted(provider="nobody"), {"provider_slug": "nobody"}),
    ):
        for tenant_id in (None, tenants[1].pk):
            mine = UsageRecord.objects.filter(**filters)
            mine = mine if tenant_id is None else mine.filter(tenant_id=tenant_id)
            shown: list[UsageRecord] = []
            while True:
                page = rare.Page(rows=size + 1, before=shown[-1].pk if shown else None)
                found = reports.usage_rows(tenant_id=tenant_id, wanted=wanted, page=page).order_by("-pk")
                found = list(found.filter(pk__lt=page.before) if page.before else found)[: size + 1]
                shown += found[:size]
                if len(found) <= size:
                    break
            assert shown == list(mine.order_by("-pk")), (seed, wanted)


def test_the_last_request_of_a_days_list_is_found_whatever_the_time_zone_was() -> None:
    """A tenant that moves west has days twice: what it asked on the earlier one then is not lost."""
    acme, other = a_tenant(), a_tenant("globex")
    made = {}
    for hour, day in [(-14, 0), (-12, 0), (-9, -1), (-5, -1), (3, 0), (9, 0), (13, 0), (20, 1), (30, 1), (31, 0)]:
        moment = datetime.combine(TODAY, time(), tzinfo=UTC) + timedelta(hours=hour)
        row = spend(acme.pk, day=TODAY + timedelta(days=day), created_at=moment)
        made[row.pk] = row.billing_day
        spend(other.pk, day=TODAY + timedelta(days=day), created_at=moment)
    for ago in range(-4, 5):
        until = TODAY - timedelta(days=ago)
        found = reports.usage_rows(tenant_id=acme.pk, wanted=Wanted(until=until))
        assert {row.pk for row in found} == {pk for pk, day in made.items() if day <= until}
        last = rare.last_id(tenant_id=acme.pk, day=until)
        assert all(pk <= last for pk, day in made.items() if day <= until)
    assert rare.last_id(tenant_id=acme.pk, day=TODAY) == max(pk for pk, day in made.items() if day == TODAY)
    assert rare.last_id(tenant_id=acme.pk, day=TODAY - timedelta(days=1)) < rare.id_near(
        TODAY - timedelta(days=1), "lte"
    )
    for end, number in ((date.min, 0), (date.max, len(made))):
        assert reports.usage_rows(tenant_id=acme.pk, wanted=Wanted(until=end)).count() == number


def test_a_page_reads_no_more_days_than_fill_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rare, "PASSED", 3)
    acme = a_tenant()
    for ago in range(10, 90):
        spend(acme.pk, day=TODAY - timedelta(days=ago), created_at=NOW - timedelta(days=ago), model_name="o3")
    rollup.roll_up(now=NOW)
    rollup.roll_up_months(now=NOW)
    page = rare.Page(rows=4)
    found = reports.usage_rows(tenant_id=acme.pk, wanted=Wanted(model="o3"), page=page)
    assert 4 <= found.count() <= 10
    newest = found.order_by("-pk")[:3]
    assert [row.billing_day for row in newest] == [TODAY - timedelta(days=ago) for ago in (10, 11, 12)]
    before = list(newest)[-1].pk
    older = reports.usage_rows(tenant_id=acme.pk, wanted=Wanted(model="o3"), page=rare.Page(rows=4, before=before))
    assert [row.billing_day for row in older.order_by("-pk")[:3]] == [
        TODAY - timedelta(days=ago) for ago in (13, 14, 15)
    ]
    monkeypatch.setattr(rare, "PASSED", 4)  # every request is one: four fill the page
    assert not looked_up(reports.usage_rows(tenant_id=acme.pk, wanted=Wanted(model="o3"), page=page))


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
