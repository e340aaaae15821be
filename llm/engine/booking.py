"""The money of one journey: what is held, for which target, and its one settlement."""

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from billing.errors import BudgetExceeded, CreditsExhausted
from billing.ledger import Extend, Hold, Ledger, Reserve, Settle
from billing.money import Charge
from llm.calls import Call, Usage
from llm.engine import bookkeeping, metrics
from llm.engine.attempt import Progress
from llm.engine.bookkeeping import NOTHING_USED, Attempt, Result, Status
from llm.types import ChatRequest, Credential, Decision, Rejection, Target, TenantState
from tenants.auth import Caller
from tenants.errors import TollgateError

logger = logging.getLogger(__name__)


class Booking:
    """The money of one journey: what is held, for which target, and its one settlement."""

    def __init__(
        self, ledger: Ledger, caller: Caller, request: ChatRequest, tenant: TenantState, decision: Decision
    ) -> None:
        self.ledger = ledger
        self.caller = caller
        self.request = request
        self.tenant = tenant
        self.decision = decision
        self.target = decision.targets[0]
        self.progress = Progress()
        self.attempts: list[Attempt] = []
        self.promised = False  # the client has its status line
        self.service_tier = ""  # the one that is billed, once that is known
        self._hold: Hold | None = None
        self._facts: dict[str, Any] = {}
        self._settled = False

    def call(self) -> Call:
        request, config, native = self.request, self.decision.config, self.request.native
        dialect = self.target.model.provider.dialect
        speaks = native is not None and native.dialect == dialect
        return Call(
            target=self.target,
            body={**request.body, **request.beyond} if request.beyond and dialect != "openai" else request.body,
            dropped=tuple(request.beyond) if dialect == "openai" else (),
            stream=request.stream,
            request_id=str(request.id),
            now=datetime.now(UTC),
            temperature=None if config is None else config.temperature,
            kind=request.route.kind,
            native=native.body if native is not None and speaks else None,
        )

    async def reserve(self) -> None:
        """Hold the first target's worst case; where no budget has room for it, that of a cheaper one.

        Raises BudgetExceeded with the decision, which names each refused target.
        """
        refusal: BudgetExceeded | None = None
        refused_at: dict[str, Decimal] = {}  # what did not fit: of budgets, of prepaid credit
        for target in self.decision.targets:
            worst = self._worst(target)
            if any(getattr(worst, of) >= amount for of, amount in refused_at.items()):
                self._reject(target, "It would cost at least as much as one that the budget refused.")
                continue
            try:
                self._hold = await self.ledger.reserve(self._reservation(target, worst))
                self.target = target
                return
            except BudgetExceeded as error:
                refusal = refusal or error
                of = "billed" if isinstance(error, CreditsExhausted) else "budget"
                refused_at[of] = getattr(worst, of)
                self._reject(target, error.message)
        assert refusal is not None
        refusal.decision = replace(self.decision, targets=())
        raise refusal

    async def move_to(self, target: Target) -> bool:
        """Take the next target, raising the hold if it is dearer. False if a budget has no room: it is skipped."""
        hold = self._hold
        assert hold is not None
        worst = self._worst(target)
        facts = self._opening(target, worst)
        # Dearer for budgets or for prepaid credit: an own key before it may hold much of one and little of the other.
        amount = max(worst.budget, hold.amount)
        credit = None if hold.credit is None else max(worst.billed, hold.credit)
        if amount > hold.amount or credit != hold.credit:
            facts["held_usd"] = amount
            extend = Extend(hold=hold, amount=amount, credit=credit, facts=facts, now=self.request.now)
            try:
                self._hold = await self.ledger.extend(extend)
            except BudgetExceeded as error:
                self._reject(target, error.message)
                return False
        else:
            facts["held_usd"] = hold.amount
        self.target, self._facts = target, facts
        return True

    def use(self, credential: Credential) -> None:
        """Go on with another secret of the same key: same model, price and hold, and no fallback."""
        replaced = replace(self.target, credential=credential)
        targets = [replaced if one is self.target else one for one in self.decision.targets]
        self.decision = replace(self.decision, targets=tuple(targets))
        self.target = replaced

    async def settle_done(self) -> tuple[dict[str, Any], Decimal | None]:
        """Settle a complete answer: its usage for the client, and its cost (None if the database was away)."""
        progress = self.progress
        usage = bookkeeping.usage_of(progress.usage, self.target, self.request, progress.produced_bytes)
        result = Result(status=Status.COMPLETED, status_code=200, usage=usage)
        cost = await self._settle(result)
        return bookkeeping.usage_for_client(progress.usage, usage, cost), cost

    async def settle_failed(self, error: TollgateError) -> None:
        """Settle a failure: nothing if nothing was produced, else what was."""
        usage = NOTHING_USED
        status = Status.FAILED
        if self.promised:
            usage, status = self._so_far(), Status.PARTIAL
        await self._settle(
            Result(
                status=status,
                status_code=error.status if status == Status.FAILED else 200,
                usage=usage,
                error_code=error.code,
                error_message=error.message,
            )
        )

    async def settle_gone(self) -> None:
        """Settle for a client that left: what the provider reported, else the input and the output received."""
        usage = self._so_far() if self.progress.sent or self.progress.first_at is not None else NOTHING_USED
        await self._settle(Result(status=Status.CANCELLED, status_code=499, usage=usage, error_code="client_gone"))

    def let_go(self) -> None:
        """If no settlement was worked out (a bug of ours), leave the hold to the sweeper: nothing is held for ever."""
        if self._hold is not None and not self._settled:
            self._settled = True
            self.ledger.disown(self._hold)

    def _so_far(self) -> Usage:
        progress = self.progress
        return bookkeeping.usage_of(progress.usage, self.target, self.request, progress.produced_bytes)

    async def _settle(self, result: Result) -> Decimal | None:
        hold = self._hold
        if hold is None or self._settled:
            return None
        received = self.request.received
        result.latency_ms = round((time.perf_counter() - received) * 1000)
        if self.progress.first_at is not None:
            result.ttft_ms = round((self.progress.first_at - received) * 1000)
        result.attempts = self.attempts
        result.service_tier = self.progress.service_tier
        row, charged = bookkeeping.closing_row(
            self._facts,
            target=self.target,
            tenant=self.tenant,
            decision=self.decision,
            result=result,
            day=hold.billing_day,
        )
        self._settled = True
        self.service_tier = bookkeeping.service_tier_of(row)
        metrics.settled(row)  # before the commit: what a client has been told is counted, whatever dies next
        if row["is_overrun"]:
            logger.warning("Request %s cost more than was held: the provider went beyond its cap", self.request.id)
        committed = await self.ledger.settle(Settle(hold=hold, usage=row, now=self.request.now))
        return charged.budget if committed else None

    def _worst(self, target: Target) -> Charge:
        return bookkeeping.worst_case(target, self.request, self.tenant)

    def _opening(self, target: Target, worst: Charge) -> dict[str, Any]:
        facts = bookkeeping.opening_facts(self.request, self.caller, self.decision, target, worst)
        if self.tenant.prepaid:
            facts["is_prepaid"] = True
        return facts

    def _reservation(self, target: Target, worst: Charge) -> Reserve:
        caller, request = self.caller, self.request
        assert caller.tenant_id is not None
        self._facts = self._opening(target, worst)
        return Reserve(
            request_id=request.id,
            tenant_id=caller.tenant_id,
            key_id=caller.key_id,
            config_id=None if self.decision.config is None else self.decision.config.id,
            timezone=caller.timezone,
            amount=self._facts["held_usd"],
            facts=self._facts,
            now=request.now,
            credit=worst.billed if self.tenant.prepaid else None,
        )

    def _reject(self, target: Target, detail: str) -> None:
        rejection = Rejection(model=target.model.reference, code="budget", detail=detail)
        self.decision = replace(self.decision, rejections=(*self.decision.rejections, rejection))
