"""Prepaid credit: given, drawn down by requests, corrected, expired; never overdrawn, and always adding up."""

import random
import threading
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from billing import granting, ledger, reconcile
from billing.credit_models import CreditEntry
from billing.errors import BudgetExceeded, CreditsExhausted
from billing.models import Adjustment, BudgetWindow, Hold, UsageRecord
from tenants import audit
from tenants.errors import InvalidValue
from tenants.models import AuditEvent
from tests.billing.books import Books, a_ledger, assert_books_agree, forsake, usd

pytestmark = pytest.mark.django_db
GRACE = audit.Actor(kind="user", id="1", label="grace")
HOUR = timedelta(hours=1)


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def now() -> datetime:
    return timezone.now()


def give(books: Books, amount: str, *, now: datetime, expires_at: datetime | None = None) -> CreditEntry:
    wish = granting.NewGrant(amount=usd(amount), reason="invoice 7", expires_at=expires_at)
    return granting.grant(tenant=books.tenant, wish=wish, actor=GRACE, now=now)


def seen(books: Books, now: datetime) -> granting.Picture:
    return granting.picture(tenant_id=books.tenant.pk, now=now)


def balance(books: Books, now: datetime) -> Decimal:
    return seen(books, now).account.balance


def left(books: Books, now: datetime) -> list[Decimal]:
    """What is left of each grant, in the order they were given."""
    return [grant.left for grant in seen(books, now).account.grants.values()]


def draw(books: Books, amount: str, *, now: datetime) -> None:
    process = a_ledger()
    hold = process.do(books.ask(amount, credit=amount, now=now))
    process.do(books.settle(hold, amount, now=now))


def test_a_request_holds_and_draws_what_it_is_billed_and_budgets_count_what_they_count(
    books: Books, now: datetime
) -> None:
    give(books, "10", now=now)
    process = a_ledger()
    hold = process.do(books.ask("3", credit="1", now=now))  # an own key: the cost is 3, the fee 1
    assert (seen(books, now).held, balance(books, now)) == (1, 10)
    assert books.window("tenant")[1] == 3
    process.do(books.settle(hold, "2", billed_usd=usd("0.25"), now=now))
    assert (seen(books, now).held, balance(books, now)) == (0, usd("9.75"))
    assert books.window("tenant") == (2, 0)
    assert UsageRecord.objects.get().is_prepaid
    assert_books_agree()


@pytest.mark.django_db(transaction=True)
def test_a_picture_is_of_one_moment_though_others_draw_and_give_while_it_is_taken(books: Books, now: datetime) -> None:
    give(books, "10", now=now)
    draw(books, "1", now=now)

    def meanwhile() -> None:
        draw(books, "2", now=now)
        give(books, "5", now=now)
        connection.close()

    others = threading.Thread(target=meanwhile)

    def between(execute: Any, sql: str, *rest: Any) -> Any:
        """The window is read; before the entries are, others commit."""
        if "billing_credit_entries" in sql and not others.ident:
            others.start()
            others.join()
        return execute(sql, *rest)

    with connection.execute_wrapper(between):
        account = seen(books, now).account
    assert others.ident
    assert (account.granted, account.drawn, account.balance) == (10, 1, 9)
    account = seen(books, now).account
    assert (account.granted, account.drawn, account.balance) == (15, 3, 12)


def test_what_the_balance_does_not_cover_is_refused_and_nothing_changes(books: Books, now: datetime) -> None:
    give(books, "1", now=now)
    process = a_ledger()
    process.do(books.ask("0.75", credit="0.75", now=now))
    before = list(BudgetWindow.objects.order_by("pk").values())
    with pytest.raises(CreditsExhausted) as refused:
        process.do(books.ask("0.5", credit="0.5", now=now))
    error = refused.value
    assert (error.status, error.type, error.code, error.param) == (
        429, "insufficient_quota", "insufficient_quota", "credits",
    )  # fmt: skip
    assert error.message == (
        "The prepaid credits of this tenant do not cover this request: balance $1, of which $0.75 is held for requests "
        "under way, this request may cost up to $0.5. Lower max_tokens, or ask the operator of this gateway for more "
        "credits."
    )
    assert list(BudgetWindow.objects.order_by("pk").values()) == before
    process.do(books.ask("0.25", credit="0.25", now=now))  # to the last digit
    assert Hold.objects.count() == 2
    assert_books_agree()


def test_without_a_grant_only_what_costs_the_tenant_nothing_is_admitted(books: Books, now: datetime) -> None:
    with pytest.raises(CreditsExhausted):
        a_ledger().do(books.ask("0.0000000001", credit="0.0000000001", now=now))
    a_ledger().do(books.ask("5", credit="0", now=now))  # an own key without a fee
    assert_books_agree()


def test_a_budget_still_refuses_what_credit_would_cover(now: datetime) -> None:
    books = Books({"tenant": ("1", None)})
    give(books, "10", now=now)
    with pytest.raises(BudgetExceeded) as refused:
        a_ledger().do(books.ask("2", credit="2", now=now))
    assert refused.value.param == "tenant.day"
    assert seen(books, now).held == 0


def test_a_dearer_fallback_holds_more_credit_or_is_refused(books: Books, now: datetime) -> None:
    give(books, "5", now=now)
    process = a_ledger()
    hold = process.do(books.ask("4", credit="0.5", now=now))  # an own key first
    with pytest.raises(CreditsExhausted):
        process.do(books.extend(hold, "6", credit="6", now=now))
    assert seen(books, now).held == usd("0.5")
    hold = process.do(books.extend(hold, "4", credit="3", now=now))  # budgets hold enough already
    assert (hold.amount, hold.credit, Hold.objects.get().credit) == (4, 3, 3)
    process.do(books.settle(hold, "2.5", now=now))
    assert (seen(books, now).held, balance(books, now)) == (0, usd("2.5"))
    assert_books_agree()


def test_a_void_gives_the_credit_back(books: Books, now: datetime) -> None:
    give(books, "1", now=now)
    process = a_ledger()
    process.do(books.void(process.do(books.ask("1", credit="1", now=now)), now=now))
    assert (seen(books, now).held, balance(books, now)) == (0, 1)
    assert_books_agree()


def test_a_request_whose_process_died_draws_its_whole_hold_until_the_true_figure_comes(
    books: Books, now: datetime
) -> None:
    give(books, "5", now=now)
    process = a_ledger()
    hold = process.do(books.ask("2", credit="2", now=now, is_prepaid=True))
    forsake(process)
    assert ledger.sweep(now=now) == 1
    assert (seen(books, now).held, balance(books, now)) == (0, 3)
    assert process.do(books.settle(hold, "0.5", now=now)) is False
    late = Adjustment.objects.get()
    assert (late.billed_usd, late.is_prepaid, balance(books, now)) == (usd("-1.5"), True, usd("4.5"))
    assert_books_agree()


def test_a_call_booked_afterwards_draws_too_and_may_overdraw(books: Books, now: datetime) -> None:
    give(books, "1", now=now)
    ask = books.ask("0", credit="0", now=now)
    usage = {**books.facts(ask.request_id, usd("3"), now), "status": "completed", "status_code": 200}
    ledger.record(request=ask, usage={**usage, "billing_day": ask.billing_day})
    assert balance(books, now) == -2
    with pytest.raises(CreditsExhausted):
        a_ledger().do(books.ask("0.01", credit="0.01", now=now))
    give(books, "3", now=now)  # pays the debt first
    assert (left(books, now), balance(books, now)) == ([0, 1], 1)
    assert_books_agree()


# --- grants -----------------------------------------------------------------------------------------------------------


def test_what_expires_first_is_drawn_first(books: Books, now: datetime) -> None:
    give(books, "10", now=now)
    give(books, "5", now=now, expires_at=now + 2 * HOUR)
    give(books, "3", now=now, expires_at=now + HOUR)
    draw(books, "4", now=now)
    assert left(books, now) == [10, 4, 0]


def test_what_was_drawn_before_a_grant_is_not_drawn_from_it(books: Books, now: datetime) -> None:
    give(books, "10", now=now)
    draw(books, "4", now=now)
    give(books, "5", now=now, expires_at=now + HOUR)
    assert left(books, now) == [6, 5]
    assert left(books, now + HOUR) == [6, 0]


def test_a_grant_expires_at_its_moment_though_nothing_runs_then(books: Books, now: datetime) -> None:
    give(books, "10", now=now - 2 * HOUR)
    give(books, "5", now=now - 2 * HOUR, expires_at=now - HOUR)  # an hour ago, as the ledger's clock has it
    assert CreditEntry.objects.count() == 2
    assert balance(books, now - 2 * HOUR) == 15
    assert balance(books, now) == 10
    with pytest.raises(CreditsExhausted) as refused:
        a_ledger().do(books.ask("11", credit="11", now=now))
    assert "balance $10," in refused.value.message


def test_the_first_request_after_an_expiry_writes_it_off_once(books: Books, now: datetime) -> None:
    give(books, "10", now=now - 2 * HOUR)
    give(books, "5", now=now - 2 * HOUR, expires_at=now - HOUR)
    draw(books, "4", now=now)
    draw(books, "1", now=now)
    gone = CreditEntry.objects.get(kind="expiry")
    assert (gone.amount, gone.spent_then, gone.grant, gone.author) == (
        -5, 0, CreditEntry.objects.get(amount=5), "ledger",
    )  # fmt: skip
    assert (left(books, now), balance(books, now)) == ([5, 0], 5)
    window = BudgetWindow.objects.get(scope_kind="credit")
    assert (window.granted, window.spent, window.expires_at) == (10, 5, None)
    assert_books_agree()


def test_what_is_held_when_a_grant_expires_stays_for_the_request_it_was_promised_to(
    books: Books, now: datetime
) -> None:
    process = a_ledger()
    grant = give(books, "5", now=now, expires_at=now + HOUR)
    hold = process.do(books.ask("2", credit="2", now=now))
    CreditEntry.objects.filter(pk=grant.pk).update(created_at=now - 2 * HOUR, expires_at=now - HOUR)  # time passes
    BudgetWindow.objects.filter(scope_kind="credit").update(expires_at=now - HOUR)
    assert (seen(books, now).account.balance, seen(books, now).held) == (2, 2)
    with pytest.raises(CreditsExhausted):
        process.do(books.ask("0.01", credit="0.01", now=now))
    assert process.do(books.settle(hold, "1.5", now=now)) is True
    assert balance(books, now) == usd("0.5")
    assert_books_agree()


def test_a_correction_takes_from_its_own_grant_and_what_was_drawn_of_that_from_the_others(
    books: Books, now: datetime
) -> None:
    wrong, _ = give(books, "10", now=now, expires_at=now + HOUR), give(books, "20", now=now)
    draw(books, "4", now=now)

    def correct(amount: str) -> CreditEntry:
        return granting.correct(entry=wrong, amount=usd(amount), reason="typed twice", actor=GRACE, now=now)

    correct("-3")
    assert left(books, now) == [3, 20]
    correct("-7")
    assert (left(books, now), balance(books, now)) == ([0, 16], 16)
    with pytest.raises(InvalidValue):
        correct("-0.01")  # it gave nothing any more
    correct("1")
    assert left(books, now) == [1, 16]
    assert [(event.action, event.actor_label, event.reason) for event in AuditEvent.objects.order_by("pk")][:3] == [
        ("grant", "grace", "invoice 7"), ("grant", "grace", "invoice 7"), ("correct", "grace", "typed twice"),
    ]  # fmt: skip
    assert_books_agree()


@pytest.mark.parametrize(
    ("amount", "hours", "param"),
    [("0", None, "amount"), ("-1", None, "amount"), ("1", -1, "expires_at"), ("900000001", None, "amount")],
)
def test_a_grant_that_makes_no_sense_is_refused(
    books: Books, now: datetime, amount: str, hours: int | None, param: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        give(books, amount, now=now, expires_at=None if hours is None else now + hours * HOUR)
    assert refused.value.param == param
    assert (CreditEntry.objects.count(), AuditEvent.objects.count()) == (0, 0)


def test_the_database_refuses_two_entries_of_one_number_and_a_grant_of_nothing(books: Books, now: datetime) -> None:
    entry = give(books, "1", now=now)
    for values in ({"number": 1}, {"number": 2, "amount": usd("0")}, {"number": 2, "kind": "expiry"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            CreditEntry.objects.create(
                **{"tenant": books.tenant, "kind": "grant", "amount": usd("1"), "reason": "x", "author": "x",
                   "spent_then": usd("0"), "created_at": now, **values}
            )  # fmt: skip
    assert list(CreditEntry.objects.all()) == [entry]


@pytest.mark.django_db(transaction=True)
def test_reconcile_names_what_does_not_add_up(books: Books, now: datetime) -> None:
    give(books, "10", now=now)
    draw(books, "4", now=now)
    assert reconcile.check(now=now) == []
    row = BudgetWindow.objects.get(scope_kind="credit")
    BudgetWindow.objects.filter(pk=row.pk).update(spent=usd("3.9999999999"), granted=usd("11"), held=usd("1"))
    where = f"the prepaid credit of tenant {books.tenant.pk}"
    assert [str(one) for one in reconcile.check(now=now)] == [
        f"held of {row.pk}: expected 0, found 1",
        f"drawn of {where}: expected 4, found 3.9999999999",
        f"granted of {where}: expected 10, found 11",
    ]


# --- any history ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_any_history_of_grants_draws_corrections_and_expiries_adds_up_grant_by_grant(
    books: Books, now: datetime, seed: int
) -> None:
    """Against a model that moves every cent at once. Times are in the past: the ledger's own clock finds them due."""
    dice = random.Random(seed)
    moment = now - timedelta(days=30)
    model: list[list[Decimal | datetime | None]] = []  # [left, expires_at] in order of entry

    def order() -> list[list]:
        live = [grant for grant in model if grant[0] > 0]
        return sorted(live, key=lambda grant: grant[1] or datetime.max.replace(tzinfo=now.tzinfo))

    for _ in range(40):
        moment += timedelta(hours=dice.randrange(1, 12))
        for grant in model:
            if grant[1] is not None and grant[1] <= moment:
                grant[0] = Decimal(0)
        if dice.random() < 0.4:
            amount, lasts = Decimal(dice.randrange(1, 2000)) / 100, dice.choice([None, None, 5, 30, 90])
            expires_at = None if lasts is None else moment + timedelta(hours=lasts)
            give(books, str(amount), now=moment, expires_at=expires_at)
            model.append([amount, expires_at])
        else:
            amount = Decimal(dice.randrange(1, 800)) / 100
            if amount > sum(grant[0] for grant in model):
                continue
            granting.expire(tenant_id=books.tenant.pk, now=moment)  # as the ledger does, at this moment
            with transaction.atomic():
                row = BudgetWindow.objects.select_for_update().get(scope_kind="credit")
                row.spent += amount
                row.save()
            UsageRecord.objects.create(
                tenant_id=books.tenant.pk, billed_usd=amount, is_prepaid=True, status="completed", status_code=200,
                billing_day=moment.date(), created_at=moment,
            )  # fmt: skip
            for grant in order():
                taken = min(grant[0], amount)
                grant[0] -= taken
                amount -= taken
        assert left(books, moment) == [grant[0] for grant in model]
        assert balance(books, moment) == sum(grant[0] for grant in model)
    assert list(reconcile._credits()) == []
