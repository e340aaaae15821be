"""Random histories of the ledger against a model of it in plain Python: nothing is overspent, lost or counted twice.

Several processes, keys of one tenant, two days, random limits that change. After every step the database says what the
model says. `--hypothesis-seed=N` runs a history again.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from billing.errors import AlreadySettled, BudgetExceeded
from billing.ledger import sweep
from billing.models import Adjustment, BudgetWindow, Hold, LedgerLease, UsageRecord
from tenants.models import ApiKey, Tenant
from tests.billing.books import NOW, Books, a_ledger, assert_books_agree, forsake

CENTS = Decimal("0.01")
PROCESSES = 3
amounts = st.integers(0, 300).map(lambda cents: cents * CENTS)
limits = st.none() | st.integers(0, 1000).map(lambda cents: cents * CENTS)
days = st.sampled_from([NOW, NOW + timedelta(days=9)])  # another month
processes = st.integers(0, PROCESSES - 1)


class LedgerMachine(RuleBasedStateMachine):
    held = Bundle("held")  # requests whose journey goes on; the ledger may have swept them meanwhile
    over = Bundle("over")  # and those that have said how they ended

    def __init__(self) -> None:
        super().__init__()
        self._undo = transaction.atomic()
        self._undo.__enter__()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self._undo.__exit__(None, None, None)

    @initialize(tenant_day=limits, tenant_month=limits, key_day=limits)
    def begin(self, tenant_day: Any, tenant_month: Any, key_day: Any) -> None:
        self.books = Books({"tenant": (tenant_day, tenant_month), "key": (key_day, None), "config": (None, None)})
        self.ledgers = [a_ledger() for _ in range(PROCESSES)]
        self.limits = {("tenant", "day"): tenant_day, ("tenant", "month"): tenant_month, ("key", "day"): key_day}
        self.open: dict[Any, tuple[Decimal, int, Any]] = {}  # request -> (held, process, day)
        self.swept: dict[Any, tuple[Decimal, Any]] = {}  # request -> (posted, day)
        self.spent: dict[Any, Decimal] = defaultdict(Decimal)  # day -> USD
        self.rows = self.adjustments = 0

    # --- what the model says ------------------------------------------------------------------------------------------

    def taken(self, day: Any, period: str) -> tuple[Decimal, Decimal]:
        """(spent, held) in the day or the month of `day`: every scope here sees all requests."""
        same = (lambda other: other == day) if period == "day" else (lambda other: other.month == day.month)
        spent = sum((amount for other, amount in self.spent.items() if same(other)), Decimal(0))
        return spent, sum((amount for amount, _, other in self.open.values() if same(other)), Decimal(0))

    def fits(self, day: Any, amount: Decimal) -> bool:
        return all(
            limit is None or (limit > 0 and sum(self.taken(day, period)) + amount <= limit)
            for (_, period), limit in self.limits.items()
        )

    # --- what happens -------------------------------------------------------------------------------------------------

    @rule(target=held, amount=amounts, now=days, process=processes)
    def reserve(self, amount: Decimal, now: Any, process: int) -> Any:
        fits = self.fits(now.date(), amount)
        with admitted_if(fits):
            hold = self.ledgers[process].do(self.books.ask(amount, now=now))
            self.open[hold.request_id] = (amount, process, hold.billing_day)
            return hold, process
        return multiple()

    @rule(target=held, work=consumes(held), amount=amounts)
    def extend(self, work: Any, amount: Decimal) -> Any:
        hold, process = work
        if amount < hold.amount:
            return work
        if hold.request_id not in self.open:
            with pytest.raises((AlreadySettled, BudgetExceeded)):
                self.ledgers[process].do(self.books.extend(hold, amount))
            return work
        with admitted_if(self.fits(hold.billing_day, amount - hold.amount)):
            hold = self.ledgers[process].do(self.books.extend(hold, amount))
            self.open[hold.request_id] = (amount, process, hold.billing_day)
        return hold, process

    @rule(target=over, work=consumes(held), amount=amounts)
    def settle(self, work: Any, amount: Decimal) -> Any:
        hold, process = work
        was_open = self.open.pop(hold.request_id, None)
        settlement = self.books.settle(hold, amount)
        assert self.ledgers[process].do(settlement) is (was_open is not None)
        if was_open is not None:
            self.spent[hold.billing_day] += amount
            self.rows += 1
        else:
            posted, day = self.swept.pop(hold.request_id)
            self.spent[day] += amount - posted
            self.adjustments += 1
        return settlement, process

    @rule(work=over, other=processes)
    def settle_again(self, work: Any, other: int) -> None:
        assert self.ledgers[other].do(work[0]) is False

    @rule(work=consumes(held))
    def void(self, work: Any) -> None:
        hold, process = work
        was_open = self.open.pop(hold.request_id, None)
        assert self.ledgers[process].do(self.books.void(hold)) is (was_open is not None)

    @rule(process=processes)
    def a_process_falls_silent_and_is_swept(self, process: int) -> None:
        gone = [request for request, (_, owner, _) in self.open.items() if owner == process]
        forsake(self.ledgers[process])
        assert sweep(now=NOW, ledger=self.ledgers[process - 1]) == len(gone)
        for request in gone:
            amount, _, day = self.open.pop(request)
            self.swept[request] = (amount, day)
            self.spent[day] += amount
            self.rows += 1
        LedgerLease.objects.filter(pk=self.ledgers[process].owner).delete()
        self.ledgers[process].tick()

    @rule(amount=st.integers(-200, 200).map(lambda cents: cents * CENTS), now=days)
    def staff_adjust(self, amount: Decimal, now: Any) -> None:
        day = now.date()
        for kind in ("tenant", "key", "config"):
            for window in BudgetWindow.objects.filter(scope_kind=kind):
                if window.starts_on == (day if window.period == "day" else day.replace(day=1)):
                    BudgetWindow.objects.filter(pk=window.pk).update(spent=window.spent + amount)
        if not BudgetWindow.objects.filter(starts_on=day, period="day").exists():
            return
        Adjustment.objects.create(
            tenant=self.books.tenant, kind="staff", key_id=self.books.key.pk, config_id=self.books.config_id,
            budget_usd=amount, reason="test", author="test", billing_day=day, created_at=now,
        )  # fmt: skip
        self.spent[day] += amount
        self.adjustments += 1

    @rule(kind=st.sampled_from([("tenant", "day"), ("tenant", "month"), ("key", "day")]), limit=limits)
    def change_a_limit(self, kind: Any, limit: Any) -> None:
        model = Tenant if kind[0] == "tenant" else ApiKey
        model.objects.update(**{"budget_limit_daily" if kind[1] == "day" else "budget_limit_monthly": limit})
        self.limits[kind] = limit

    # --- what must always hold ----------------------------------------------------------------------------------------

    @invariant()
    def the_books_say_what_the_model_says(self) -> None:
        if not hasattr(self, "books"):
            return
        for window in BudgetWindow.objects.all():
            days = [day for day in {NOW.date(), (NOW + timedelta(days=9)).date()} if _in(window, day)]
            for day in days:
                assert (window.spent, window.held) == self.taken(day, window.period), window.pk
        assert set(Hold.objects.values_list("pk", "amount")) == {(pk, held) for pk, (held, _, _) in self.open.items()}
        assert (UsageRecord.objects.count(), Adjustment.objects.count()) == (self.rows, self.adjustments)
        assert_books_agree()


def _in(window: BudgetWindow, day: Any) -> bool:
    return bool(window.starts_on == (day if window.period == "day" else day.replace(day=1)))


@contextmanager
def admitted_if(fits: bool) -> Iterator[None]:
    """The block's reserve must be admitted, or must raise BudgetExceeded, which ends the block."""
    try:
        yield
        assert fits, "admitted beyond a limit"
    except BudgetExceeded as error:
        if fits:
            raise AssertionError("refused though there was room") from error


@pytest.mark.django_db
def test_any_history_keeps_the_books() -> None:
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
