"""A key with budgets and what a journey asks of the ledger, for the tests of the ledger itself."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from billing import reconcile
from billing.ledger import Ledger
from billing.models import BudgetWindow, Hold, LedgerLease
from billing.posting import Extend, Reserve, Settle, Void
from billing.posting import Hold as Held
from llm.engine.runtime import CONFIG_LIMITS
from tenants.ids import uuid7
from tests import cast

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def a_ledger() -> Ledger:
    """One process's ledger."""
    return Ledger({"config": CONFIG_LIMITS})


def usd(text: str | int | Decimal) -> Decimal:
    return Decimal(text)


@dataclass
class Books:
    """A tenant with a key and perhaps a config; `ask` and friends make operations on them."""

    limits: dict[str, Any] = field(default_factory=dict)  # "tenant" | "key" | "config" -> (daily, monthly)
    timezone: str = "UTC"
    slug: str = "acme"

    def __post_init__(self) -> None:
        self.tenant = cast.make_tenant(self.slug, timezone=self.timezone, **self._limits("tenant"))
        self.key, _ = cast.make_key(self.tenant)
        for name, value in self._limits("key").items():
            setattr(self.key, name, value)
        self.key.save()
        config = cast.make_config(self.tenant, **self._limits("config")) if "config" in self.limits else None
        self.config_id = None if config is None else config.pk

    def _limits(self, kind: str) -> dict[str, Any]:
        daily, monthly = self.limits.get(kind, (None, None))
        return {
            "budget_limit_daily": None if daily is None else usd(daily),
            "budget_limit_monthly": None if monthly is None else usd(monthly),
        }

    def ask(
        self, amount: str | Decimal, *, now: datetime = NOW, credit: str | Decimal | None = None, **facts: Any
    ) -> Reserve:
        """`credit`: what it holds of prepaid credit, where the tenant pays in advance."""
        request_id = uuid7()
        return Reserve(
            request_id=request_id,
            tenant_id=self.tenant.pk,
            key_id=self.key.pk,
            config_id=self.config_id,
            timezone=self.timezone,
            amount=usd(amount),
            facts=self.facts(request_id, usd(amount), now, **facts),
            now=now,
            credit=None if credit is None else usd(credit),
        )

    def facts(self, request_id: uuid.UUID, amount: Decimal, now: datetime = NOW, **facts: Any) -> dict[str, Any]:
        """The usage row at `amount`."""
        money = dict.fromkeys(("cost_output_usd", "cost_total_usd", "billed_usd", "budget_usd", "held_usd"), amount)
        return {
            "id": request_id,
            "tenant_id": self.tenant.pk,
            "key_id": self.key.pk,
            "config_id": self.config_id,
            "provider_slug": "openai",
            "model_name": "gpt-4o",
            "created_at": now,
            **money,
            **facts,
        }

    def settle(self, hold: Held, amount: str | Decimal, *, now: datetime = NOW, **facts: Any) -> Settle:
        row = self.facts(
            hold.request_id,
            usd(amount),
            now,
            held_usd=hold.amount,
            billing_day=hold.billing_day,
            is_prepaid=hold.credit is not None,
        )
        return Settle(hold=hold, usage={**row, "status": "completed", "status_code": 200, **facts}, now=now)

    def extend(
        self, hold: Held, amount: str | Decimal, *, now: datetime = NOW, credit: str | Decimal | None = None
    ) -> Extend:
        facts = self.facts(hold.request_id, usd(amount), now)
        more = None if credit is None else usd(credit)
        return Extend(hold=hold, amount=usd(amount), facts=facts, now=now, credit=more)

    @staticmethod
    def void(hold: Held, *, now: datetime = NOW) -> Void:
        return Void(hold=hold, now=now)

    def window(self, kind: str = "tenant", period: str = "day") -> tuple[Decimal, Decimal]:
        """(spent, held) of all days or months of a scope together."""
        rows = BudgetWindow.objects.filter(scope_kind=kind, period=period, scope_id=self._id(kind))
        found = list(rows.values_list("spent", "held"))
        return sum((spent for spent, _ in found), usd(0)), sum((held for _, held in found), usd(0))

    def _id(self, kind: str) -> Any:
        return {"tenant": self.tenant.pk, "key": self.key.pk, "config": self.config_id}[kind]


def forsake(ledger: Ledger) -> None:
    """Its process has been silent for longer than a lease."""
    LedgerLease.objects.filter(pk=ledger.owner).update(renewed_at=datetime.now(UTC) - timedelta(seconds=16))


def holds() -> int:
    return Hold.objects.count()


def assert_books_agree() -> None:
    """What `reconcile --check` says, also inside the transaction of a test, which has its one snapshot anyway."""
    if connection.in_atomic_block:
        found = [
            *reconcile._spent(),
            *reconcile._held(),
            *reconcile._credits(),
            *reconcile._settled_and_held(),
        ]
    else:
        found = reconcile.check(now=datetime.now(UTC))
    assert [str(difference) for difference in found] == []
