"""Adjustments that staff enter: signed, counted everywhere a request is, in the period that is open."""

import json
from datetime import date, timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing import adjustments, granting, key_usage, reconcile, reports, rollup
from billing.errors import BudgetExceeded
from billing.models import Adjustment, BudgetWindow, RolledDay, UsageRecord
from billing.posting import Hold
from billing.statements import closing
from tenants import audit
from tenants.errors import InvalidValue
from tenants.models import AuditEvent
from tests.billing.books import NOW, Books, a_ledger, assert_books_agree, forsake, usd
from tests.billing.made import an_id
from tests.conftest import Api

pytestmark = pytest.mark.django_db
GRACE = audit.Actor(kind="user", id="1", label="grace")


@pytest.fixture
def books() -> Books:
    return Books({"tenant": ("5", None), "key": (None, None), "config": (None, None)})


def enter(books: Books, billed: str, **more: Any) -> Adjustment:
    correction = adjustments.Correction(billed=usd(billed), reason="goodwill", **more)
    return adjustments.enter(tenant=books.tenant, correction=correction, actor=GRACE, now=NOW)


def spend(books: Books, amount: str, **more: Any) -> UsageRecord:
    ledger = a_ledger()
    hold = ledger.do(books.ask(amount, **more))
    ledger.do(books.settle(hold, amount))
    return UsageRecord.objects.get(pk=hold.request_id)


def test_an_adjustment_counts_in_the_tenants_windows_and_is_audited(books: Books) -> None:
    spend(books, "2")
    row = enter(books, "-0.5")
    assert (row.billed_usd, row.budget_usd, row.cost_total_usd, row.kind, row.author) == (
        usd("-0.5"), usd("-0.5"), 0, "staff", "grace",
    )  # fmt: skip
    assert row.billing_day == NOW.date()
    assert [books.window("tenant", period)[0] for period in ("day", "month")] == [usd("1.5")] * 2
    assert books.window("key")[0] == 2
    event = AuditEvent.objects.get(action="create", object_id=str(row.pk))
    assert (event.actor_label, event.reason, event.tenant_id) == ("grace", "goodwill", books.tenant.pk)
    assert_books_agree()


def test_one_of_a_request_counts_for_its_key_config_model_and_day(books: Books) -> None:
    yesterday = NOW - timedelta(days=1)
    request = spend(books, "2", now=yesterday)
    row = enter(books, "-2", cost=usd("-1.5"), request_id=request.pk)
    assert (row.key_id, row.config_id, row.model_name, row.billing_day) == (
        books.key.pk, books.config_id, "gpt-4o", yesterday.date(),
    )  # fmt: skip
    for kind in ("tenant", "key", "config"):
        assert books.window(kind) == (0, 0)
    day = yesterday.date()
    [line] = reports.summary(tenant_id=books.tenant.pk, start=day, end=day, group_by="model")
    assert (line["model"], line["requests"], line["billed_usd"], line["cost_usd"]) == (
        "openai/gpt-4o",
        1,
        0,
        usd("0.5"),
    )
    assert_books_agree()


PARTS = {"byok": (True, False), "power_level": ("eco", ""), "task_type": ("code", ""), "credential": (an_id(), None),
         "provider": ("openai", "openai"), "day": (NOW.date(), NOW.date())}  # fmt: skip


def by_staff(books: Books, request: UsageRecord, _hold: Hold) -> None:
    enter(books, "-0.75", request_id=request.pk, cost=usd("-0.75"))


def by_run(_books: Books, request: UsageRecord, _hold: Hold) -> None:
    run = adjustments.Run(id=an_id(), reason="x", author="x")
    share = adjustments.Share(
        request_id=request.pk, cost=usd("-0.75"), billed=usd("-0.75"), budget=usd("-0.75"), seen=0
    )
    assert adjustments.book(run=run, shares=[share], now=NOW) == 1


def by_late_figure(books: Books, _request: UsageRecord, hold: Hold) -> None:
    # What the provider said at last is of another level: the money is taken from where it was booked.
    a_ledger().do(books.settle(hold, "0.25", power_level="precision"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("correct", [by_staff, by_run, by_late_figure])
def test_one_of_a_request_counts_in_every_part_that_its_request_counts_in(books: Books, correct: Any) -> None:
    """By key source, level, task and provider key, live and rolled up, and in the statement."""
    said = {"used_byok": True, "power_level": "eco", "task_type": "code", "credential_id": PARTS["credential"][0]}
    ledger = a_ledger()
    hold = ledger.do(books.ask("1", **said))
    forsake(ledger)
    a_ledger().tick()
    spend(books, "0.1")
    enter(books, "-0.1", cost=usd("-0.1"))  # of no request: it says nothing
    correct(books, UsageRecord.objects.get(pk=hold.request_id), hold)
    later, day = NOW + timedelta(days=9), NOW.date()
    for rolled in (False, True):
        if rolled:
            rollup.roll_up(now=later)
        for part, (its, others) in PARTS.items():
            found = reports.summary(tenant_id=books.tenant.pk, start=day, end=day, group_by=part)
            money: dict[Any, Any] = {}
            for row in found:
                money[row[part]] = money.get(row[part], 0) + row["billed_usd"]
            if part == "provider":
                assert money == {"openai": usd("0.35"), "": usd("-0.1")}
            elif its == others:
                assert money == {its: usd("0.25")}
            else:
                assert money == {its: usd("0.25"), others: 0}
        assert reports.of_credentials([said["credential_id"]])[said["credential_id"]].billed_usd == usd("0.25")
        usage = key_usage.of_key(
            tenant_id=books.tenant.pk, column="credential_id", key=said["credential_id"], start=day, end=day
        )
        assert usage["total"]["billed_usd"] == usd("0.25")
        document = json.loads(closing.document(tenant=books.tenant, month=day.replace(day=1), now=later))
        assert [(one["provider"], one["own_key"], one["billed_usd"]) for one in document["models"]] == [
            ("", False, "-0.1"), ("openai", False, "0.1"), ("openai", True, "0.25"),
        ]  # fmt: skip
        assert reconcile.check(now=later) == []
    Adjustment.objects.filter(used_byok=True).update(power_level="")
    assert {one.figure for one in reconcile.check(now=later)} == {f"roll-up {day}"}


def test_a_tenant_that_was_blocked_is_free_at_once(books: Books) -> None:
    spend(books, "5")
    with pytest.raises(BudgetExceeded):
        a_ledger().do(books.ask("1"))
    enter(books, "-1")
    a_ledger().do(books.ask("1"))
    assert_books_agree()


def test_budgets_may_be_corrected_otherwise_than_the_bill(books: Books) -> None:
    spend(books, "3")
    row = enter(books, "-1", budget=usd("0"))
    assert (row.billed_usd, row.budget_usd, books.window()[0]) == (-1, 0, 3)


def test_a_day_that_was_rolled_up_is_rolled_up_again(books: Books) -> None:
    old = NOW.date() - timedelta(days=10)
    now = timezone.now()
    spend(books, "2", now=NOW - timedelta(days=10))
    rollup.roll_up_day(day=old, now=now)
    assert RolledDay.objects.filter(pk=old).exists()
    enter(books, "-0.75", day=old)
    assert not RolledDay.objects.filter(pk=old).exists()
    rollup.roll_up_day(day=old, now=now)
    [line] = reports.summary(tenant_id=books.tenant.pk, start=old, end=old, group_by="day")
    assert line["billed_usd"] == usd("1.25")
    assert list(reconcile._rolled_days(now)) == []
    assert_books_agree()


def test_a_prepaid_tenants_adjustment_goes_to_its_credit(books: Books) -> None:
    now = timezone.now()
    granting.grant(tenant=books.tenant, wish=granting.NewGrant(amount=usd("4"), reason="x"), actor=GRACE, now=now)
    request = spend(books, "3", credit="3")
    row = enter(books, "-1", request_id=request.pk)  # paid from credit, whatever the tenant is now
    assert row.is_prepaid
    assert not enter(books, "-1").is_prepaid  # the tenant pays later
    books.tenant.prepaid = True
    books.tenant.save()
    assert enter(books, "-0.5").is_prepaid
    window = BudgetWindow.objects.get(scope_kind="credit")
    assert (window.granted, window.spent) == (4, usd("1.5"))
    assert granting.picture(tenant_id=books.tenant.pk, now=now).account.balance == usd("2.5")
    assert_books_agree()


def test_a_closed_periods_goes_into_the_next_open_one(books: Books) -> None:
    october = NOW - timedelta(days=32)
    ledger = a_ledger()
    hold = ledger.do(books.ask("2", now=october))
    forsake(ledger)
    a_ledger().tick()
    assert UsageRecord.objects.get().status == "expired"
    closing.finalise(tenant=books.tenant, month=date(2026, 10, 1), actor=GRACE, now=NOW)
    row = enter(books, "-1", day=date(2026, 10, 20))
    assert row.billing_day == date(2026, 11, 1)
    # So does the true figure of the request that was swept in October and ends only now.
    ledger.do(books.settle(hold, "0.5", now=october))
    late = Adjustment.objects.get(kind="system")
    assert (late.billing_day, late.budget_usd) == (date(2026, 11, 1), usd("-1.5"))
    months = BudgetWindow.objects.filter(scope_kind="tenant", period="month").order_by("starts_on")
    assert list(months.values_list("starts_on", "spent")) == [
        (date(2026, 10, 1), 2), (date(2026, 11, 1), usd("-2.5")),
    ]  # fmt: skip
    assert_books_agree()


def test_a_late_figure_of_a_closed_month_comes_back_to_the_credit_it_was_paid_from(books: Books) -> None:
    october, now = NOW - timedelta(days=32), timezone.now()
    granting.grant(tenant=books.tenant, wish=granting.NewGrant(amount=usd("5"), reason="x"), actor=GRACE, now=now)
    ledger = a_ledger()
    hold = ledger.do(books.ask("2", now=october, credit="2"))
    forsake(ledger)
    a_ledger().tick()
    closing.finalise(tenant=books.tenant, month=date(2026, 10, 1), actor=GRACE, now=NOW)
    ledger.do(books.settle(hold, "0.5", now=october))
    late = Adjustment.objects.get(kind="system")
    assert (late.billing_day, late.is_prepaid) == (date(2026, 11, 1), True)
    assert granting.picture(tenant_id=books.tenant.pk, now=now).account.balance == usd("4.5")
    assert_books_agree()


def test_what_makes_no_sense_is_refused_and_nothing_changes(books: Books) -> None:
    stranger = Books(slug="globex")
    theirs = spend(stranger, "1")
    before = list(BudgetWindow.objects.order_by("pk").values())
    for values, param in (
        ({"billed": "0"}, "billed_usd"),
        ({"billed": "900000001"}, "billed_usd"),
        ({"billed": "1", "request_id": theirs.pk}, "request_id"),
        ({"billed": "1", "day": NOW.date() + timedelta(days=1)}, "billing_day"),
    ):
        with pytest.raises(InvalidValue) as refused:
            enter(books, **values)
        assert refused.value.param == param
    assert Adjustment.objects.count() == 0
    assert list(BudgetWindow.objects.order_by("pk").values()) == before


def test_staff_enter_one_over_the_api_and_the_tenant_reads_it(staff: Api, tenant: Api, stranger: Api) -> None:
    status, made = staff.post(
        "admin/tenants/acme/adjustments", {"billed_usd": "-2.5", "reason": "An outage on Sunday."}
    )
    assert (status, made["billed_usd"], made["budget_usd"], made["author"]) == (201, "-2.5", "-2.5", "grace (staff)")
    _, own = tenant.get("llm/adjustments")
    [row] = own["results"]
    assert (row["id"], row["billed_usd"], row["reason"]) == (made["id"], "-2.5", "An outage on Sunday.")
    assert "author" not in row
    assert stranger.get("llm/adjustments")[1]["results"] == []
    assert staff.get("admin/tenants/acme/adjustments")[1]["results"] == [made]
    status, refused = staff.post("admin/tenants/acme/adjustments", {"billed_usd": "0", "reason": "x"})
    assert (status, refused["error"]["param"]) == (400, "billed_usd")
    assert staff.post("admin/tenants/acme/adjustments", {"billed_usd": "1"})[0] == 400
