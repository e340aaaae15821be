"""Rows the admin shows but never writes, with hostile strings where tenants and providers supply them."""

import itertools
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from billing.alert_models import Alert, AlertDelivery, AlertSubscription
from billing.credit_models import CreditEntry
from billing.models import Adjustment, BudgetWindow, DailyUsage, Hold, UsageRecord
from billing.statement_models import Statement
from billing.statements import closing
from llm.catalog import corrections, prices
from llm.models import CorrectionRun, LLMModel, PriceOverride, PriceProposal, PriceTask, RouteRefusal
from tenants import audit
from tenants.ids import uuid7, uuid7_of
from tenants.models import Tenant

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOSTILE = "<script>alert('tollgate')</script>"
_COUNTED = itertools.count(1)


def trace(model: str = "openai/gpt-4o") -> dict[str, Any]:
    return {
        "requested": HOSTILE,
        "chosen": model,
        "key_source": "platform",
        "reason": "the first rule of balanced",
        "power_level": "balanced",
        "task_type": "code",
        "task_confidence": 0.8,
        "candidates": [{"model": model, "score": 0.91, "parts": {"priority": 100, HOSTILE: HOSTILE}}],
        "rejections": [{"model": "xai/grok-4", "code": "provider_down", "detail": HOSTILE}],
        "fallbacks": ["anthropic/claude-sonnet-4"],
        "notes": [HOSTILE],
    }


def usage(tenant: Tenant, model: LLMModel | None = None, **values: Any) -> UsageRecord:
    """A request of 1,000 input and 200 output tokens at $2.50 and $10: $0.0045."""
    lines = [
        {"meter": "input", "priced_as": "input", "quantity": 1000, "unit_price_usd": "2.5", "amount_usd": "0.0025",
         "unit_quantity": 1_000_000},
        {"meter": "output", "priced_as": "output", "quantity": 200, "unit_price_usd": "10", "amount_usd": "0.002",
         "unit_quantity": 1_000_000},
    ]  # fmt: skip
    fields: dict[str, Any] = {
        "tenant_id": tenant.pk, "key_id": uuid.uuid4(), "key_name": HOSTILE, "provider_slug": "openai",
        "model_name": "gpt-4o", "power_level": "balanced", "prompt_tokens": 1000, "completion_tokens": 200,
        "total_tokens": 1200, "price_lines": lines, "cost_input_usd": Decimal("0.0025"),
        "cost_output_usd": Decimal("0.002"), "cost_total_usd": Decimal("0.0045"), "billed_usd": Decimal("0.00495"),
        "budget_usd": Decimal("0.00495"), "latency_ms": 812, "ttft_ms": 210, "status": "completed", "status_code": 200,
        "error_message": HOSTILE, "decision": trace(), "user_agent": HOSTILE, "end_user": HOSTILE,
        "session_id": HOSTILE,
        "attempts": [{"provider": "openai", "model": "gpt-4o", "key_source": "platform", "status": 200, "code": "",
                      "latency_ms": 812}],
        "billing_day": NOW.date(), "created_at": NOW,
    }  # fmt: skip
    if model is not None:
        fields |= {"model_id": model.pk, "provider_id": model.provider_id}
    fields |= values
    # As the ledger has it: the id is of the moment of acceptance.
    moment = round(fields["created_at"].timestamp() * 1000)
    return UsageRecord.objects.create(**{"id": uuid7_of(moment, next(_COUNTED)), **fields})


def refusal(tenant: Tenant) -> RouteRefusal:
    return RouteRefusal.objects.create(
        tenant_id=tenant.pk, model=HOSTILE, status_code=503, code="provider_down", message=HOSTILE, decision=trace(),
        created_at=NOW,
    )  # fmt: skip


def window(kind: str, scope_id: uuid.UUID, period: str, starts_on: Any, spent: str, held: str = "0") -> BudgetWindow:
    return BudgetWindow.objects.create(
        id=f"{kind}:{scope_id}:{period}:{starts_on}", scope_kind=kind, scope_id=scope_id, period=period,
        starts_on=starts_on, spent=Decimal(spent), held=Decimal(held),
    )  # fmt: skip


def hold(tenant: Tenant) -> Hold:
    return Hold.objects.create(
        id=uuid7(), owner=uuid.uuid4(), tenant_id=tenant.pk, amount=Decimal("0.5"), windows=[], facts={},
        billing_day=NOW.date(), created_at=NOW,
    )  # fmt: skip


def daily(tenant: Tenant) -> DailyUsage:
    return DailyUsage.objects.create(billing_day=NOW.date(), tenant_id=tenant.pk, provider_slug="openai", requests=3)


def adjustment(tenant: Tenant) -> Adjustment:
    return Adjustment.objects.create(
        tenant=tenant, kind="staff", budget_usd=Decimal("-1.5"), reason=HOSTILE, author="grace", billing_day=NOW.date(),
        created_at=NOW,
    )  # fmt: skip


def statement(tenant: Tenant) -> Statement:
    """Its September, finalised."""
    return closing.finalise(tenant=tenant, month=date(2026, 9, 1), actor=audit.system(HOSTILE), now=NOW)


def credit(tenant: Tenant) -> CreditEntry:
    return CreditEntry.objects.create(
        tenant=tenant, number=1, kind="grant", amount=Decimal(5), source="purchase", reason=HOSTILE, author="grace",
        spent_then=Decimal(0), created_at=NOW,
    )  # fmt: skip


def own_price(tenant: Tenant, model: LLMModel) -> PriceOverride:
    row = PriceOverride.objects.create(
        tenant=tenant, model=model, number=1, effective_from=NOW, recorded_at=NOW, reason=HOSTILE, author="grace"
    )
    row.components.create(meter="input", unit_price_usd=Decimal("1.5"))
    return row


def alert(tenant: Tenant) -> Alert:
    """Told to two, of whom one has not been reached."""
    row = Alert.objects.create(
        key=f"test:{uuid7()}", event="budget.threshold", tenant=tenant, title=HOSTILE, data={HOSTILE: HOSTILE},
        percent=80, created_at=NOW,
    )  # fmt: skip
    for status in ("delivered", "pending"):
        hook = AlertSubscription.objects.create(
            tenant=tenant, kind="webhook", target=f"https://hooks.example.com/{HOSTILE}", events=["budget.threshold"],
            created_by=HOSTILE,
        )  # fmt: skip
        AlertDelivery.objects.create(
            alert=row, subscription=hook, status=status, last_error=HOSTILE, created_at=NOW, next_try_at=NOW
        )
    return row


def proposal(model: LLMModel) -> PriceProposal:
    """A price that waits, by a person of a hostile name."""
    components = prices.flat(input_usd=Decimal(3), output_usd=Decimal(10), cached_usd=None)
    change = prices.PriceChange(components=components, second_person=True, reason=HOSTILE)
    actor = audit.Actor(kind="user", label=HOSTILE)
    return prices.set_price(model=model, change=change, actor=actor, now=NOW).proposal


def correction(model: LLMModel, **wish: Any) -> CorrectionRun:
    """A run that waits for a second person, at $1.25 and $5 instead of $2.50 and $10."""
    components = prices.flat(input_usd=Decimal("1.25"), output_usd=Decimal(5), cached_usd=None)
    given = {"components": components, "reason": HOSTILE, "since": NOW - timedelta(days=1)} | wish
    actor, now = audit.Actor(kind="user", label=HOSTILE), NOW + timedelta(seconds=1)
    return corrections.propose(model=model, wish=corrections.Wish(**given), actor=actor, now=now)


def price_task(model: LLMModel) -> PriceTask:
    return PriceTask.objects.create(kind="stale", model=model, note=HOSTILE, opened_at=NOW, seen_at=NOW)
