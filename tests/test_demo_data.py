"""`manage.py demo_data`: traffic that anybody may look at, in books that add up."""

import random
from datetime import datetime
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from billing import pricing, reconcile
from billing.models import BudgetWindow, Hold, RolledDay, UsageRecord
from llm.catalog.loader import load_catalog
from llm.engine import snapshot
from llm.models import ProviderCredential, ProviderHealthCheck
from tenants.models import ApiKey, AuditEvent, Tenant
from tollgate.demo_data import stage
from tollgate.demo_data.traffic import Traffic


@pytest.fixture
def catalog(transactional_db: None) -> None:
    """The shipped catalog. Committed: reconciliation wants a snapshot of its own."""
    load_catalog(now=timezone.now())


def run(**options: Any) -> str:
    said = StringIO()
    call_command("demo_data", stdout=said, **{"requests": 300, "days": 20, **options})
    return said.getvalue()


def made(seed: int, now: datetime) -> list[Any]:
    """What each of 50 requests was, without booking it."""
    traffic = Traffic(catalog=snapshot.build(), actors=stage.actors(now=now), now=now, days=20, rng=random.Random(seed))
    return [
        (
            one.ask.request_id,
            one.ask.now,
            one.ask.amount,
            one.target.model.reference,
            one.result.status,
            one.result.usage,
        )
        for one in traffic.exchanges(50)
    ]


def test_the_books_of_300_requests_add_up_to_the_last_digit(catalog: None) -> None:
    said = run()
    assert "300 of 300 requests" in said
    assert "/admin/usage/" in said
    assert UsageRecord.objects.count() == 300
    assert RolledDay.objects.count() > 10
    assert Hold.objects.count() == 0
    assert [str(one) for one in reconcile.check(now=timezone.now())] == []
    for row in UsageRecord.objects.exclude(price_lines=[]):
        lines = sum((Decimal(line["amount_usd"]) for line in row.price_lines), Decimal(0))
        assert pricing.rounded(lines) == row.cost_total_usd
        assert row.ttft_ms is not None
        assert row.ttft_ms <= row.latency_ms


def test_all_of_it_belongs_to_tenants_it_made_and_nobody_can_use_their_keys(catalog: None) -> None:
    run()
    tenants = Tenant.objects.all()
    assert all(tenant.slug.startswith("demo-") for tenant in tenants)
    assert set(UsageRecord.objects.values_list("tenant_id", flat=True)) <= {tenant.pk for tenant in tenants}
    assert set(ApiKey.objects.values_list("pk", flat=True)) >= set(UsageRecord.objects.values_list("key_id", flat=True))
    assert not ProviderCredential.objects.filter(is_active=True).exists()
    assert (
        AuditEvent.objects.filter(action="create", actor_label="demo_data", object_type="tenants.Tenant").count() == 7
    )
    near = Tenant.objects.get(slug="demo-pixelforge")
    spent = BudgetWindow.objects.filter(scope_id=near.pk, period="month").latest("starts_on").spent
    assert near.budget_limit_monthly is None or spent <= near.budget_limit_monthly


def test_the_same_seed_at_the_same_moment_gives_the_same_requests(catalog: None) -> None:
    now = timezone.now()
    assert made(7, now) == made(7, now)
    assert not {one[0] for one in made(7, now)} & {one[0] for one in made(8, now)}


def test_a_second_run_adds_to_the_first(catalog: None) -> None:
    run(requests=120)
    run(requests=120)
    assert UsageRecord.objects.count() == 240
    assert Tenant.objects.count() == 7
    assert [str(one) for one in reconcile.check(now=timezone.now())] == []


def test_probes_of_two_days_are_there_for_every_provider_that_was_asked(catalog: None) -> None:
    run()
    asked = set(UsageRecord.objects.values_list("provider_id", flat=True))
    assert asked <= set(ProviderHealthCheck.objects.values_list("provider_id", flat=True))
    newest = ProviderHealthCheck.objects.order_by("-id").values_list("checked_at", flat=True)
    assert list(newest) == sorted(newest, reverse=True)


def test_production_is_refused_unless_meant(catalog: None) -> None:
    with override_settings(PRODUCTION=True):
        with pytest.raises(CommandError, match="say --yes"):
            run()
        assert Tenant.objects.count() == 0
        run(requests=20, yes=True)
    assert UsageRecord.objects.count() == 20


def test_a_tenant_that_only_has_such_a_name_is_left_alone(catalog: None) -> None:
    own = Tenant.objects.create(slug="demo-lumen", name="Ours", budget_limit_daily=Decimal(5))
    with pytest.raises(CommandError, match="demo-lumen"):
        run()
    own.refresh_from_db()
    assert own.budget_limit_daily == 5
    assert Tenant.objects.count() == 1


def test_without_a_catalog_it_says_how_to_get_one(transactional_db: None) -> None:
    with pytest.raises(CommandError, match="bootstrap --no-demo"):
        run()
