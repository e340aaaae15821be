"""Rows for the tests of reports, roll-ups and reconciliation. `spend` does in one transaction what the ledger does."""

import itertools
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from django.db import connection, transaction

from billing import windows
from billing.models import Adjustment, BudgetWindow, UsageRecord
from tenants import keys
from tenants.ids import uuid7_of
from tenants.models import Tenant

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TODAY = NOW.date()
_COUNTED = itertools.count(1)
LONG_AGO = TODAY - timedelta(days=10)  # closed


def a_tenant(slug="acme", **fields):
    return Tenant.objects.create(slug=slug, name=slug.title(), **fields)


def a_key(tenant, **fields):
    return keys.issue(tenant=tenant, spec=keys.KeySpec(**{"name": "test", **fields}))


def add(rows, column, amount):
    """Add USD to a column of each row. Not with F(): on SQLite that would add unscaled dollars."""
    for row in rows.select_for_update() if connection.in_atomic_block else rows:
        rows.filter(pk=row.pk).update(**{column: getattr(row, column) + amount})


def _book(row):
    """Count a row's budget_usd in the windows of its tenant, key and config."""
    for kind, scope_id in (("tenant", row.tenant_id), ("key", row.key_id), ("config", row.config_id)):
        if scope_id is None:
            continue
        for window in windows.windows_of(windows.Scope(kind, scope_id), row.billing_day):
            BudgetWindow.objects.get_or_create(
                pk=window.key,
                defaults={
                    "scope_kind": kind,
                    "scope_id": scope_id,
                    "period": window.period,
                    "starts_on": window.starts_on,
                },
            )
            add(BudgetWindow.objects.filter(pk=window.key), "spent", row.budget_usd)


def spend(tenant_id, usd="0.01", *, day: date = TODAY, **fields):
    """One usage row costing `usd` on all three columns unless given, counted in the windows."""
    amount = Decimal(usd)
    created_at = datetime.combine(day, datetime.min.time(), tzinfo=UTC) + timedelta(hours=9)
    moment = fields.get("created_at", created_at)
    values = {
        "id": uuid7_of(round(moment.timestamp() * 1000), next(_COUNTED)),  # in order of time, and of being made
        "provider_slug": "openai",
        "model_name": "gpt-4o",
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "cost_total_usd": amount,
        "billed_usd": amount,
        "budget_usd": amount,
        "latency_ms": 300,
        "ttft_ms": 120,
        "status": "completed",
        "status_code": 200,
        "created_at": created_at,
        **fields,
    }
    with transaction.atomic():
        row = UsageRecord.objects.create(tenant_id=tenant_id, billing_day=day, **values)
        _book(row)
    return row


def adjust(tenant, usd, *, day: date = TODAY, **fields):
    amount = Decimal(usd)
    with transaction.atomic():
        row = Adjustment.objects.create(
            tenant=tenant,
            kind="staff",
            **{"cost_total_usd": amount, "billed_usd": amount, "budget_usd": amount, **fields},
            reason="test",
            author="test",
            billing_day=day,
            created_at=NOW,
        )
        _book(row)
    return row


def an_id():
    return uuid.uuid4()
