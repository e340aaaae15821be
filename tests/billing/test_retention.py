"""Usage is deleted only once it is rolled up, reconciled and final; then nothing that is asked of it is lost."""

import json
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction

from billing import adjustments, periods, posting, reconcile, reports, retention, rollup, rows, tasks
from billing.ledger import sweep
from billing.models import Adjustment, DailyUsage, Hold, RolledDay, UsageRecord
from billing.rollup_models import DailyCharge
from billing.statement_models import Statement
from billing.statements import closing
from tenants import audit
from tenants.errors import InvalidValue
from tenants.models import AuditEvent
from tests.billing.books import Books, a_ledger, forsake
from tests.billing.made import a_tenant, add, an_id, spend
from tests.billing.stated import AFTER, ALPHA, MONTH, a_month, a_request, line

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2027, 1, 20, 12, tzinfo=UTC)  # October is over, rolled up and older than 60 days
KEEP = 60
OCTOBER = {date(2026, 10, 1): 1, date(2026, 10, 2): 4, date(2026, 10, 31): 4}  # rows by day, Globex's one included
ACTOR = audit.system("test")
UNIT = Decimal("0.0000000001")


def prune(**options):
    """{day: rows deleted, or why it was kept}"""
    found = retention.prune(now=NOW, keep_days=KEEP, rest=lambda _seconds: None, **options)
    return {one.day: one.kept or one.rows for one in found}


def finalise(month):
    for tenant in closing.open_tenants(month=month):
        closing.finalise(tenant=tenant, month=month, actor=ACTOR, now=NOW)


@pytest.fixture
def acme():
    """Acme's October (and Globex's), with the last day of September; rolled up and final."""
    tenant = a_month(timezone="Europe/Zurich")
    rollup.roll_up(now=NOW)
    rollup.roll_up_months(now=NOW)
    finalise(date(2026, 9, 1))
    finalise(MONTH)
    return tenant


def agree():
    return [str(one) for one in reconcile.check(now=NOW)]


def rolled():
    return [list(model.objects.order_by("pk").values()) for model in (DailyUsage, DailyCharge)]


def everything(tenant):
    return {
        group: reports.summary_and_total(tenant_id=one, start=date(2026, 9, 2), end=NOW.date(), group_by=group)
        for group in reports.GROUPS
        for one in (None, tenant.pk)
    }


def test_what_is_asked_of_a_pruned_month_is_answered_as_before(acme):
    said, statements = everything(acme), list(Statement.objects.all())
    text = closing.document(tenant=acme, month=MONTH, now=NOW)
    waiting = "2026-11 is not finalised for acme."
    assert prune(dry_run=True) == {date(2026, 9, 30): 1, **OCTOBER, date(2026, 11, 1): waiting}
    assert (UsageRecord.objects.count(), RolledDay.objects.filter(pruned_at__isnull=False).count()) == (11, 0)

    assert list(prune().values()) == [1, 1, 4, 4, waiting]

    assert list(UsageRecord.objects.values_list("billing_day", flat=True)) == [date(2026, 11, 1)]
    assert everything(acme) == said
    assert closing.document(tenant=acme, month=MONTH, now=NOW) == text
    # What did Acme pay in that October, by model and unit price?
    lines = [(model["model"], one["unit_price_usd"], one["quantity"]) for model in json.loads(text)["models"]
             for one in model["lines"] if one["meter"] == "output"]  # fmt: skip
    assert lines == [("gpt-4o", "8", 0), ("gpt-4o", "10", 1000)]
    for statement in statements:
        assert closing.verify(statement) == []
    assert agree() == []
    event = AuditEvent.objects.get(action="prune", object_id="2026-10-31")
    assert (event.actor_label, event.after) == ("usage prune", {"pruned_at": "2027-01-20 12:00:00+00:00"})
    # Nothing brings it back, and nothing that is rolled up again loses it.
    before = rolled()
    call_command("roll_up", "--to", "2026-10-31", stdout=StringIO())
    assert rollup.roll_up_day(day=MONTH, now=NOW) == 1
    assert rolled() == before
    assert list(prune()) == [date(2026, 11, 1)]
    assert agree() == []


def test_a_day_is_kept_until_all_is_proven(acme):
    first, last = date(2026, 10, 1), date(2026, 10, 31)
    adrift = UsageRecord.objects.filter(pk=uuid.UUID(int=1))
    charge = DailyCharge.objects.get(billing_day=date(2026, 10, 2), model_name="gpt-4o", tenant_id=acme.pk)
    DailyCharge.objects.filter(pk=charge.pk).update(lines=[["input", "input", "2.5", 1_000_000, 1001, "standard"]])
    add(adrift.all(), "billed_usd", UNIT)
    hold = Hold.objects.create(id=an_id(), owner=an_id(), tenant_id=acme.pk, amount=Decimal(1), windows=[],
                               billing_day=last, facts={}, created_at=NOW)  # fmt: skip
    kept = prune()
    assert kept[first].startswith("It does not add up: roll-up 2026-10-01 of billed_usd")
    assert kept[date(2026, 10, 2)].startswith(
        "It does not add up: charges 2026-10-02 of input as input at list price 2.5"
    )
    assert kept[last] == "Requests of it still hold money."
    assert UsageRecord.objects.filter(billing_day__month=10).count() == 9
    assert DailyCharge.objects.filter(billing_day__month=10).exists()

    hold.delete()
    add(adrift.all(), "billed_usd", -UNIT)
    DailyCharge.objects.filter(pk=charge.pk).update(lines=charge.lines)
    RolledDay.objects.filter(pk=first).delete()
    with connection.cursor() as cursor:  # a statement that is not what the roll-ups say
        cursor.execute("UPDATE billing_statements SET requests = 9 WHERE tenant_slug = 'acme' AND month = %s", [MONTH])
    kept = prune()
    assert kept[first] == "It is not rolled up yet."
    assert "acme 2026-10: its row's requests: stored 9, recomputed 8" in kept[last]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_statements SET requests = 8 WHERE tenant_slug = 'acme' AND month = %s", [MONTH])
    rollup.roll_up(now=NOW)
    assert {day: rows for day, rows in prune().items() if day.month == 10} == OCTOBER


def test_what_comes_between_proof_and_mark_keeps_the_day(acme, monkeypatch):
    why_kept = retention.why_kept

    def meanwhile(*, day, **options):
        found = why_kept(day=day, **options)
        if day == MONTH:
            spend(acme.pk, "1", day=day)  # without the ledger, which would take the mark away
        return found

    monkeypatch.setattr(retention, "why_kept", meanwhile)
    assert prune()[MONTH] == "Something was booked on it in this very moment."
    assert not RolledDay.objects.get(pk=MONTH).pruned_at


def test_killed_between_batches_it_loses_nothing_and_is_finished_by_the_next_run(acme, monkeypatch):
    for number in range(40, 52):
        a_request(acme, number, date(2026, 12, 1), [line("input", 1, "1")], "0.000001")
    said = everything(acme)
    monkeypatch.setattr(retention, "_BATCH", 2)

    def die(_seconds):
        if UsageRecord.objects.filter(billing_day=date(2026, 10, 31)).count() == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(retention.prune(now=NOW, keep_days=KEEP, rest=die))
    left = UsageRecord.objects.filter(billing_day=date(2026, 10, 31))
    assert left.count() == 2
    assert everything(acme) == said
    assert agree() == []
    assert all(closing.verify(statement) == [] for statement in Statement.objects.all())
    assert prune()[date(2026, 10, 31)] == 2
    assert left.count() == 0
    assert (everything(acme), agree()) == (said, [])


def test_nothing_lands_on_a_pruned_day(acme):
    prune()
    # Neither a correction of that day (of a tenant that had nothing in the month),
    quiet = a_tenant("quiet")
    correction = adjustments.Correction(billed=Decimal("-0.5"), reason="goodwill", day=date(2026, 10, 2))
    for tenant in (acme, quiet):
        row = adjustments.enter(tenant=tenant, correction=correction, actor=ACTOR, now=NOW)
        assert row.billing_day == date(2026, 11, 1)
    assert periods.open_day(quiet.pk, MONTH) == date(2026, 11, 1)
    # nor one of a request that is gone,
    about = adjustments.Correction(billed=Decimal(-1), reason="x", request_id=uuid.UUID(int=1))
    with pytest.raises(InvalidValue, match="pruned, correct it without request_id"):
        adjustments.enter(tenant=acme, correction=about, actor=ACTOR, now=NOW)
    # nor a row that came in the very moment: it is done again, and finds the month closed.
    with pytest.raises(OperationalError, match="pruned in this very moment"), transaction.atomic():
        posting.reopen(rows.cursor_of(), MONTH, NOW)
    assert RolledDay.objects.get(pk=MONTH).pruned_at == NOW
    assert Adjustment.objects.filter(billing_day__lt=date(2026, 11, 1)).count() == 1
    assert agree() == []


def test_a_true_figure_whose_request_is_pruned_is_dropped_and_said_loudly(caplog):
    books, ledger = Books(), a_ledger()
    moment = datetime(2026, 10, 5, 12, tzinfo=UTC)
    hold = ledger.do(books.ask("1", now=moment))
    forsake(ledger)
    sweep(now=AFTER)
    rollup.roll_up(now=NOW)
    finalise(MONTH)
    assert prune() == {date(2026, 10, 5): 1}
    a_ledger().do(books.settle(hold, "0.25", now=moment))
    assert f"Request {hold.request_id} was settled without a hold" in caplog.text
    assert (UsageRecord.objects.count(), Adjustment.objects.count(), agree()) == (0, 0, [])


def test_the_proof_still_finds_a_changed_roll_up_of_a_pruned_day(acme):
    prune()
    kept = DailyCharge.objects.get(billing_day=MONTH)
    daily = DailyUsage.objects.get(billing_day=MONTH)
    assert kept.key_id == daily.key_id == ALPHA
    add(DailyCharge.objects.filter(pk=kept.pk), "budget_usd", UNIT)
    assert {one.figure for one in reconcile.check(now=NOW)} == {"spent", "roll-up 2026-10-01"}
    add(DailyCharge.objects.filter(pk=kept.pk), "budget_usd", -UNIT)
    add(DailyUsage.objects.filter(pk=daily.pk), "cost_total_usd", UNIT)
    figures = {"roll-up 2026-10-01", "slices 2026-10-01", "roll-up 2026-10"}
    assert {one.figure for one in reconcile.check(now=NOW)} == figures
    add(DailyUsage.objects.filter(pk=daily.pk), "cost_total_usd", -UNIT)
    DailyCharge.objects.filter(pk=kept.pk).update(lines=[])
    (statement,) = Statement.objects.filter(month=MONTH, tenant=acme)
    assert [one.where for one in closing.verify(statement)] == ["details[0].lines[0]"]


def test_the_command_and_the_task_do_it_if_told_to(acme, settings):
    def run(*words):
        said = StringIO()
        try:
            call_command("usage", "prune", *words, stdout=said)
        except SystemExit as ended:
            return ended.code, said.getvalue()
        return 0, said.getvalue()

    with pytest.raises(CommandError, match="kept for ever"):
        run()
    with pytest.raises(CommandError, match="at least 35 days"):
        run("--days", "34")
    assert tasks.prune_usage() == {}
    assert UsageRecord.objects.count() == 11
    # The real clock decides here how many days are old enough.
    limit = datetime.now(UTC).date() - timedelta(days=35)
    old = {day: rows for day, rows in {date(2026, 9, 30): 1, **OCTOBER}.items() if day < limit}
    code, said = run("--days", "35", "--dry-run")
    for day, number in old.items():
        assert f"{day}: {number} rows to delete" in said
    assert f"{sum(old.values())} rows to delete; {code} days kept." in said
    settings.USAGE_RETENTION_DAYS = 35
    assert tasks.prune_usage() == {day.isoformat(): rows for day, rows in old.items()}
    assert UsageRecord.objects.count() == 11 - sum(old.values())
