"""Usage by provider key: roll-ups and live rows agree to the last digit, and old roll-ups are made anew."""

from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from billing import reconcile, reports, rollup
from billing.models import DailyUsage, RolledDay, UsageRecord
from billing.rollup_models import OpenDay
from tests.billing.made import LONG_AGO, NOW, TODAY, a_tenant, adjust, an_id, spend

OURS, OTHER = an_id(), an_id()


def fill(tenant: Any) -> Any:
    """Two provider keys and none, on a closed day and today, and an adjustment."""
    for day in (LONG_AGO, TODAY):
        spend(tenant.pk, "0.1", day=day, credential_id=OURS, used_byok=True)
        spend(tenant.pk, "0.02", day=day, credential_id=OURS, used_byok=True, status_code=500)
        spend(tenant.pk, "0.003", day=day, credential_id=OTHER)
        spend(tenant.pk, "0.0004", day=day)
        adjust(tenant, "-0.00005", day=day)
    return tenant


@pytest.fixture
def acme(db: None) -> Any:
    return fill(a_tenant())


def by_credential(tenant: Any) -> dict[Any, tuple[int, Decimal]]:
    rows = reports.summary(tenant_id=tenant.pk, start=LONG_AGO, end=TODAY, group_by="credential")
    return {row["credential"]: (row["requests"], row["cost_usd"]) for row in rows}


EXPECTED = {OURS: (4, Decimal("0.24")), OTHER: (2, Decimal("0.006")), None: (2, Decimal("0.0007"))}


def test_a_summary_by_provider_key_is_the_same_rolled_up_or_not(acme: Any) -> None:
    assert by_credential(acme) == EXPECTED
    rollup.roll_up(now=NOW)
    assert set(DailyUsage.objects.values_list("credential_id", flat=True)) == {OURS, OTHER, None}
    assert by_credential(acme) == EXPECTED
    OpenDay.objects.all().delete()  # without its mark an open day is read from its requests
    assert by_credential(acme) == EXPECTED


def test_reconciliation_proves_the_roll_ups_by_provider_key(transactional_db: None) -> None:
    fill(a_tenant())
    rollup.roll_up(now=NOW)
    assert reconcile.check(now=NOW) == []
    DailyUsage.objects.filter(billing_day=LONG_AGO, credential_id=OURS).update(credential_id=an_id())
    assert f"credential_id={OURS}" in str([str(one) for one in reconcile.check(now=NOW)])


@pytest.mark.parametrize("marks", ["none", "one", "with a gap", "all but the last"])
def test_a_keys_totals_are_exact_whichever_days_are_rolled_up(acme: Any, marks: str) -> None:
    between = LONG_AGO + (TODAY - LONG_AGO) / 2
    spend(acme.pk, "0.7", day=between, credential_id=OURS, used_byok=True)
    days = {"none": [], "one": [between], "with a gap": [LONG_AGO], "all but the last": [LONG_AGO, between]}[marks]
    for day in days:
        rollup.roll_up_day(day=day, now=NOW)
    if marks == "with a gap":
        RolledDay.objects.create(billing_day=TODAY - (TODAY - between) / 2, rolled_at=NOW)
    totals = reports.of_credentials([OURS, OTHER, an_id()])
    ours = totals[OURS]
    assert (ours.requests, ours.errors, ours.total_tokens, ours.cost_total_usd) == (5, 2, 600, Decimal("0.94"))
    assert totals[OTHER].requests == 2
    assert len(totals) == 3


@pytest.mark.django_db(transaction=True)
def test_the_migration_has_old_days_rolled_up_anew() -> None:
    tenant = a_tenant()
    spend(tenant.pk, "0.1", day=LONG_AGO, credential_id=OURS)
    rollup.roll_up_day(day=LONG_AGO, now=NOW)
    DailyUsage.objects.update(credential_id=None)  # as it was before the column
    migration = import_module("billing.migrations.0002_usage_by_credential").Migration
    with connection.cursor() as cursor:
        cursor.execute(migration.operations[-1].sql)
    assert by_credential(tenant) == {OURS: (1, Decimal("0.1"))}
    rollup.roll_up(now=NOW)
    assert DailyUsage.objects.get().credential_id == OURS
    assert by_credential(tenant) == {OURS: (1, Decimal("0.1"))}
    assert reconcile.check(now=NOW) == []


def test_the_newest_use_and_the_live_tail_are_found_by_the_index(acme: Any) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
    newest = UsageRecord.objects.filter(credential_id=OURS).order_by("-billing_day", "-id").values("created_at")[:1]
    tail = UsageRecord.objects.filter(credential_id__in=[OURS], billing_day__gt=LONG_AGO)
    for query in (newest, tail):
        assert "usage_of_credential" in query.explain()
    assert timezone.is_aware(newest[0]["created_at"])
