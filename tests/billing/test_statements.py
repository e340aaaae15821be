"""A month on paper: exact to the last digit, the same bytes for ever, and closed for good once it is final."""

import json
import os
import subprocess
import sys
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections

from billing import periods, reconcile, rollup
from billing.alert_models import Alert
from billing.ledger import sweep
from billing.models import Adjustment, BudgetWindow, Hold, RolledDay, UsageRecord
from billing.statement_models import Finalised, Statement, StatementDocument
from billing.statements import closing
from billing.statements.document import sha256
from billing.tasks import reconcile_ledger
from llm.models import LLMConfig
from tenants import audit
from tenants.errors import NotFound
from tenants.models import ApiKey, AuditEvent
from tests import cast
from tests.billing.books import Books, a_ledger, forsake
from tests.billing.made import a_tenant, add, adjust, an_id, spend
from tests.billing.stated import AFTER, ALPHA, BETA, CONFIG, MONTH, a_month, a_request, line

pytestmark = pytest.mark.django_db

ACTOR = audit.system("test")
UNIT = Decimal("0.0000000001")


def draft(tenant, month=MONTH, now=AFTER):
    return json.loads(closing.document(tenant=tenant, month=month, now=now))


def finalise(tenant, month=MONTH, now=AFTER):
    return closing.finalise(tenant=tenant, month=month, actor=ACTOR, now=now)


def verified(statement):
    return [str(difference) for difference in closing.verify(statement)]


# --- what it says -----------------------------------------------------------------------------------------------------


def test_the_totals_are_usage_and_adjustments_to_the_last_digit():
    totals = draft(a_month())["totals"]
    assert totals == {
        "requests": 8,
        "prompt_tokens": 13009,
        "completion_tokens": 1000,
        "cached_tokens": 0,
        "total_tokens": 14009,
        "list_usd": "0.0380021002",
        "own_key_list_usd": "0.02",
        "markup_usd": "0.00170021",
        "own_key_fee_usd": "0.0002",
        "adjustments_list_usd": "-0.001",
        "adjustments_usd": "-0.0012345678",
        "cost_usd": "0.0370021002",
        "billed_usd": "0.0186677424",
        "own_price_list_usd": "0",
        "own_price_usd": "0",
        "prepaid_usd": "0",
        "due_usd": "0.0186677424",
    }


def test_a_model_at_two_prices_has_two_lines_each_with_its_quantity():
    gpt = next(row for row in draft(a_month())["models"] if row["model"] == "gpt-4o" and row["provider"] == "openai")
    assert [(one["meter"], one["quantity"], one["unit_price_usd"], one["amount_usd"]) for one in gpt["lines"]] == [
        ("cache_read", 7, "0.3", "0.0000021"),
        ("input", 2, "0.00005", "0.0000000001"),
        ("input", 1000, "2", "0.002"),
        ("input", 2000, "2.5", "0.005"),
        ("output", 0, "8", "0"),
        ("output", 1000, "10", "0.01"),
    ]
    assert gpt["lines"][0]["priced_as"] == "input"
    # Lines of 0.0170021001 and requests of 0.0170021002: each of two was rounded up by half a unit.
    assert (gpt["rounding_usd"], gpt["unitemised_usd"]) == ("0.0000000001", "0")
    assert (gpt["list_usd"], gpt["markup_usd"], gpt["billed_usd"]) == ("0.0170021002", "0.00170021", "0.0174677424")


def test_own_keys_and_requests_without_lines_stand_apart():
    claude = {row["own_key"]: row for row in draft(a_month())["models"] if row["provider"] == "anthropic"}
    assert (claude[True]["list_usd"], claude[True]["own_key_list_usd"]) == ("0.02", "0.02")
    assert (claude[True]["own_key_fee_usd"], claude[True]["billed_usd"]) == ("0.0002", "0.0002")
    assert (claude[False]["unitemised_usd"], claude[False]["billed_usd"], claude[False]["lines"]) == (
        "0.001",
        "0.001",
        [],
    )


@pytest.mark.parametrize("group", ["days", "keys", "configs", "models"])
def test_each_grouping_adds_up_to_the_totals_in_every_column(group):
    document = draft(a_month())
    for column, total in document["totals"].items():
        assert sum(Decimal(row[column]) for row in document[group]) == Decimal(total), column


def test_keys_and_configs_are_named_as_they_were_last():
    document = draft(a_month())
    assert [(row["key_id"], row["name"], row["requests"]) for row in document["keys"]] == [
        (str(ALPHA), "alpha", 4),
        (str(BETA), "beta", 3),
        (None, "", 1),
    ]
    assert [(row["config_id"], row["name"]) for row in document["configs"]] == [(str(CONFIG), "main"), (None, "")]
    assert [row["day"] for row in document["days"]] == ["2026-10-01", "2026-10-02", "2026-10-31"]


def test_the_details_carry_every_line_by_day_key_config_and_model():
    document = draft(a_month())
    assert [(row["day"], row["key_id"], row["model"], row["requests"]) for row in document["details"]] == [
        ("2026-10-01", str(ALPHA), "gpt-4o", 1),
        ("2026-10-02", str(ALPHA), "gpt-4o", 1),
        ("2026-10-02", str(BETA), "claude-sonnet-4", 1),
        ("2026-10-02", str(BETA), "claude-sonnet-4", 1),
        ("2026-10-31", str(ALPHA), "gpt-4o", 2),
        ("2026-10-31", str(BETA), "gpt-4o", 1),
        ("2026-10-31", None, "gpt-4o", 1),
    ]
    amounts = [Decimal(one["amount_usd"]) for row in document["details"] for one in row["lines"]]
    rest = [Decimal(row[name]) for row in document["details"] for name in ("unitemised_usd", "rounding_usd")]
    assert sum(amounts) + sum(rest) == Decimal(document["totals"]["list_usd"])


def test_a_month_of_nothing_is_a_statement_of_nothing():
    document = draft(a_tenant())
    assert (document["totals"]["billed_usd"], document["models"], document["days"]) == ("0", [], [])


def test_a_month_that_has_not_begun_has_none():
    with pytest.raises(NotFound):
        draft(a_tenant(), month=date(2026, 12, 1))


def test_many_adjustments_that_say_the_same_are_one_line(monkeypatch):
    monkeypatch.setattr("billing.statements.figures.MOST_ADJUSTMENTS", 4)
    tenant = a_month()
    for _ in range(3):
        adjust(tenant, "0.1", day=MONTH)
    assert [(one["count"], one["billed_usd"]) for one in draft(tenant)["adjustments"]] == [
        (1, "0.1"), (1, "0.1"), (1, "0.1"), (1, "-0.0012345678"),
    ]  # fmt: skip
    adjust(tenant, "0.1", day=MONTH)
    grouped = draft(tenant)
    assert [(one["count"], one["billed_usd"], one["request_id"]) for one in grouped["adjustments"]] == [
        (4, "0.4", None),
        (1, "-0.0012345678", None),
    ]
    statement = finalise(tenant)
    assert verified(statement) == []


# --- the same bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "of_draft", "of_final"),
    [
        (
            "tollgate-statement/1",
            "72ca46f8deb2a721e79485cd08a9e0480a12adbcc11611d2d8e33ea9dc1d0313",
            "6f02828b21616f23bab1832238af10d16a4dbc1048c64e863e1858b2f101e23e",
        ),
        (
            "tollgate-statement/2",
            "4bf1052fb45d632a7aabadae3ca0beb5565a6a19db6171c3ab9798fbdf5d8496",
            "27a0fa59421f872aebb2c36bcdc75ec0bcc95b54652b1997d788763337388034",
        ),
    ],
)
@pytest.mark.parametrize("rolled", [False, True])
def test_the_bytes_are_the_same_on_every_machine_and_database(monkeypatch, form, of_draft, of_final, rolled):
    """The hashes were computed once: both databases, and every later version, must come to them, from rows as well as
    from roll-ups. A document of an earlier format stays what it was."""
    tenant = a_month(timezone="Europe/Zurich")
    if rolled:
        rollup.roll_up(now=AFTER)
    monkeypatch.setattr(closing, "Head", partial(closing.Head, format=form))
    text = closing.document(tenant=tenant, month=MONTH, now=AFTER)
    assert sha256(text) == of_draft
    statement = finalise(tenant)
    assert statement.sha256 == sha256(closing.text_of(statement)) == of_final
    monkeypatch.undo()
    assert verified(statement) == []


@pytest.mark.parametrize("rolled", [False, True])
def test_a_renamed_tenant_key_or_zone_changes_no_finalised_statement(rolled):
    """Nor one that is deleted, nor what they ask afterwards."""
    books, ledger = Books(limits={"config": (None, None)}), a_ledger()
    tenant, renamed, deleted = books.tenant, books.key, cast.make_key(books.tenant, "deleted")[0]
    config = LLMConfig.objects.get(pk=books.config_id)

    def asks(key, moment):
        books.key = key
        names = {"key_name": key.name, "config_name": config.name, "created_at": moment}
        assert ledger.do(books.settle(ledger.do(books.ask("1", now=moment)), "0.5", now=moment, **names))

    for key in (renamed, deleted):
        asks(key, datetime(2026, 10, 31, 12, tzinfo=UTC))
    statement = finalise(tenant)
    text = closing.text_of(statement)
    tenant.slug, tenant.name, tenant.timezone = "new", "New name", "Asia/Tokyo"
    tenant.save()
    ApiKey.objects.filter(pk=deleted.pk).delete()
    renamed.name, config.name, books.timezone = "new name", "new config", tenant.timezone
    renamed.save()
    config.save()
    asks(renamed, AFTER)
    if rolled:
        rollup.roll_up(now=AFTER + timedelta(days=9))
    assert verified(statement) == []
    assert closing.document(tenant=tenant, month=MONTH, now=AFTER) == text
    october, november = json.loads(text), draft(tenant, month=date(2026, 11, 1))
    assert (october["tenant"]["slug"], october["timezone"]) == ("acme", "UTC")
    assert {row["name"] for row in october["keys"]} == {"test", "deleted"}
    assert (november["tenant"]["slug"], november["timezone"]) == ("new", "Asia/Tokyo")
    assert [row["name"] for row in november["keys"]] == ["new name"]
    for month, name in ((october, "main"), (november, "new config")):
        assert [row["name"] for row in month["configs"]] == [name]


@pytest.mark.parametrize("rolled", ["never", "before", "since"])
def test_verify_names_what_differs_in_the_rows_whatever_roll_ups_say(rolled):
    tenant = a_month()
    if rolled == "before":
        rollup.roll_up(now=AFTER)
    statement = finalise(tenant)
    if rolled == "since":
        rollup.roll_up(now=AFTER)
    assert verified(statement) == []
    second = UsageRecord.objects.filter(pk=uuid.UUID(int=2))
    second.update(billed_usd=Decimal("0.00825") + UNIT)
    assert verified(statement) == [
        "acme 2026-10: totals.billed_usd: stored 0.0186677424, recomputed 0.0186677425"
    ]  # fmt: skip
    second.update(billed_usd=Decimal("0.00825"), price_lines=[line("input", 1000, "2.5"), line("output", 501, "10")])
    assert verified(statement) == ["acme 2026-10: details[1].lines[1].amount_usd: stored 0.005, recomputed 0.00501"]
    second.delete()
    assert verified(statement) == ["acme 2026-10: totals.billed_usd: stored 0.0186677424, recomputed 0.0104177424"]


def test_verify_reads_the_roll_ups_of_pruned_days_and_the_rows_of_the_others():
    tenant = a_month()
    rollup.roll_up(now=AFTER)
    statement = finalise(tenant)
    RolledDay.objects.filter(pk=MONTH).update(pruned_at=AFTER)
    UsageRecord.objects.filter(billing_day=MONTH).delete()
    assert verified(statement) == []
    UsageRecord.objects.filter(pk=uuid.UUID(int=2)).delete()
    assert verified(statement) == ["acme 2026-10: totals.billed_usd: stored 0.0186677424, recomputed 0.0104177424"]


def test_verify_finds_a_document_or_row_that_somebody_has_edited():
    statement = finalise(a_month())
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_statements SET requests = 9")
    statement.refresh_from_db()
    assert verified(statement) == ["acme 2026-10: its row's requests: stored 9, recomputed 8"]


# --- closed -----------------------------------------------------------------------------------------------------------


def test_finalising_writes_the_totals_and_an_audit_event_without_the_document():
    tenant = a_month()
    statement = finalise(tenant)
    assert (statement.requests, statement.cost_total_usd, statement.billed_usd) == (
        8, Decimal("0.0370021002"), Decimal("0.0186677424"),
    )  # fmt: skip
    event = AuditEvent.objects.get(action="finalise")
    assert (event.object_id, event.tenant_id, event.actor_label) == (str(statement.pk), tenant.pk, "test")
    assert event.after["sha256"] == statement.sha256
    assert "packed" not in event.after


def test_a_month_is_finalised_once():
    tenant = a_month()
    finalise(tenant)
    with pytest.raises(Finalised) as refused:
        finalise(tenant)
    assert refused.value.code == "statement_final"
    assert Statement.objects.count() == StatementDocument.objects.count() == 1


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "America/Havana"])
@pytest.mark.parametrize("month", ["2026-10", "2026-12", "2028-02"])
def test_a_month_can_be_final_when_it_is_over_everywhere_whatever_the_tenants_zone(zone, month):
    first = periods.parse(month)
    tenant, over = a_month(timezone=zone), datetime.combine(periods.following(first), time(12, 5), tzinfo=UTC)
    with pytest.raises(closing.PeriodOpen) as refused:
        finalise(tenant, month=first, now=over - timedelta(seconds=1))
    assert (refused.value.code, refused.value.message) == (
        "period_open",
        f"{month} is not over in every time zone. It can be finalised from {over:%Y-%m-%dT%H:%M:%SZ} on.",
    )
    assert Statement.objects.count() == 0
    assert finalise(tenant, month=first, now=over).month == first


def test_an_open_hold_of_the_month_keeps_it_open():
    tenant = a_month()
    held = {"owner": an_id(), "amount": Decimal(1), "windows": [], "facts": {}, "created_at": AFTER}
    Hold.objects.create(id=an_id(), tenant_id=an_id(), billing_day=MONTH, **held)  # another tenant's
    Hold.objects.create(id=an_id(), tenant_id=tenant.pk, billing_day=date(2026, 11, 1), **held)  # another month's
    mine = Hold.objects.create(id=an_id(), tenant_id=tenant.pk, billing_day=date(2026, 10, 31), **held)
    with pytest.raises(closing.PeriodOpen) as refused:
        finalise(tenant)
    assert refused.value.code == "holds_open"
    mine.delete()
    assert finalise(tenant)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.save(),
        lambda one: one.save(update_fields=["requests"]),
        lambda one: one.delete(),
        lambda one: Statement.objects.update(requests=0),
        lambda one: Statement.objects.filter(pk=one.pk).delete(),
        lambda one: Statement.objects.bulk_update([one], ["requests"]),
        lambda one: Statement(pk=one.pk).save(force_update=True),
        lambda one: one.document.save(),
        lambda one: one.document.delete(),
        lambda one: StatementDocument.objects.update(packed=b""),
        lambda one: StatementDocument.objects.all().delete(),
    ],
)
def test_a_shell_cannot_change_or_delete_it(change):
    statement = finalise(a_month())
    statement.requests = 0
    with pytest.raises(Finalised):
        change(statement)
    assert verified(Statement.objects.get()) == []


# --- what comes late --------------------------------------------------------------------------------------------------


def test_the_open_day_is_the_day_itself_or_the_first_of_the_next_open_month():
    tenant = a_month()
    day = date(2026, 10, 31)
    assert periods.open_day(tenant.pk, day) == day
    finalise(tenant)
    assert periods.open_day(tenant.pk, day) == date(2026, 11, 1)
    assert periods.open_day(tenant.pk, date(2026, 9, 30)) == date(2026, 9, 30)
    assert periods.open_day(a_tenant("initech").pk, day) == day
    finalise(tenant, month=date(2026, 11, 1), now=AFTER + timedelta(days=40))
    finalise(tenant, month=date(2026, 12, 1), now=AFTER + timedelta(days=70))
    assert periods.open_day(tenant.pk, day) == date(2027, 1, 1)


def test_a_true_figure_that_comes_after_the_month_is_final_lands_in_the_next_open_one():
    books, ledger = Books(limits={"config": (None, None)}), a_ledger()
    last_second = datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC)
    hold = ledger.do(books.ask("1", now=last_second))
    forsake(ledger)
    assert sweep(now=AFTER) == 1
    statement = finalise(books.tenant)
    assert statement.billed_usd == 1
    a_ledger().do(books.settle(hold, "0.25", now=last_second))
    (late,) = Adjustment.objects.all()
    assert (late.billing_day, late.billed_usd, late.kind) == (date(2026, 11, 1), Decimal("-0.75"), "system")
    assert verified(statement) == []
    for kind in ("tenant", "key", "config"):
        spent = dict(
            BudgetWindow.objects.filter(scope_kind=kind, period="month").values_list("starts_on", "spent")
        )  # fmt: skip
        assert spent[MONTH] == 1, kind
        assert spent[date(2026, 11, 1)] == Decimal("-0.75"), kind
    assert draft(books.tenant, month=date(2026, 11, 1))["totals"]["billed_usd"] == "-0.75"


def test_a_figure_that_comes_while_the_month_is_being_finalised_is_done_again(monkeypatch):
    books, ledger = Books(), a_ledger()
    last_second = datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC)
    hold = ledger.do(books.ask("1", now=last_second))
    forsake(ledger)
    sweep(now=AFTER)
    late = a_ledger()
    asked = iter([hold.billing_day])  # before the lock it was open
    real = periods.open_day
    finalise(books.tenant)
    monkeypatch.setattr(periods, "open_day", lambda tenant, day: next(asked, None) or real(tenant, day))
    with pytest.raises(OperationalError):
        late.do(books.settle(hold, "0.25", now=last_second))
    assert Adjustment.objects.count() == 0
    late.do(books.settle(hold, "0.25", now=last_second))
    assert Adjustment.objects.get().billing_day == date(2026, 11, 1)


def test_while_the_month_is_open_the_true_figure_stays_in_it():
    books, ledger = Books(), a_ledger()
    last_second = datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC)
    hold = ledger.do(books.ask("1", now=last_second))
    forsake(ledger)
    sweep(now=AFTER)
    a_ledger().do(books.settle(hold, "0.25", now=last_second))
    assert Adjustment.objects.get().billing_day == date(2026, 10, 31)
    assert finalise(books.tenant).billed_usd == Decimal("0.25")


# --- the books --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("column", ["requests", "cost_total_usd", "billed_usd"])
def test_reconcile_holds_each_column_of_a_statement_to_the_ledger(column):
    finalise(a_month())
    assert reconcile.check(now=AFTER) == []
    with connection.cursor() as cursor:
        step = 1 if column == "requests" or connection.vendor == "sqlite" else UNIT
        cursor.execute(
            {
                "requests": "UPDATE billing_statements SET requests = requests + %s",
                "cost_total_usd": "UPDATE billing_statements SET cost_total_usd = cost_total_usd + %s",
                "billed_usd": "UPDATE billing_statements SET billed_usd = billed_usd + %s",
            }[column],
            [step],
        )
    (difference,) = reconcile.check(now=AFTER)
    assert difference.figure == "statement 2026-10"
    assert difference.where.startswith(column)
    assert difference.found - difference.expected == (1 if column == "requests" else UNIT)


@pytest.mark.django_db(transaction=True)
def test_what_lands_in_a_closed_month_all_the_same_is_found():
    tenant = a_month()
    finalise(tenant)
    spend(tenant.pk, "0.5", day=MONTH)
    assert {one.figure for one in reconcile.check(now=AFTER)} == {"statement 2026-10"}
    assert len(reconcile.check(now=AFTER)) == 3
    said = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("reconcile", "--check", stdout=said, stderr=StringIO())
    assert ended.value.code == 1
    wrong = f"requests (tenant_id={tenant.pk}): expected 9, found 8"
    assert f"statement 2026-10 of {wrong}\n" in said.getvalue()
    assert len(reconcile_ledger()) == 3
    assert f"statement 2026-10 of {wrong}" in Alert.objects.get(event="reconcile.failed").data["first"]


# --- the command ------------------------------------------------------------------------------------------------------


def run(*words):
    out, err = StringIO(), StringIO()
    try:
        call_command("statements", *words, stdout=out, stderr=err)
    except SystemExit as ended:
        return ended.code, out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def test_the_command_finalises_every_tenant_of_the_month_and_verifies_them():
    a_month()
    a_tenant("quiet")
    code, said, _ = run("finalise", "--month", "2026-10")
    assert (code, said.count("SHA-256")) == (0, 2)  # Acme's and Globex's; the quiet one has nothing
    assert run("verify")[:2] == (0, "2 statements recompute byte by byte.\n")
    add(UsageRecord.objects.filter(pk=uuid.UUID(int=22)), "cost_total_usd", UNIT)
    code, said, wrong = run("verify", "--month", "2026-10")
    assert (code, wrong.splitlines()) == (1, [
        "1 of 2: acme 2026-10, 8 requests", "2 of 2: globex 2026-10, 1 requests",
        "1 of 2 statements are not what the ledger says.",
    ])  # fmt: skip
    assert said == "globex 2026-10: totals.cost_usd: stored 0.0075, recomputed 0.0075000001\n"
    assert run("verify", "--month", "2026-10", "--tenant", "acme")[0] == 0
    assert run("verify", "--month", "2026-09")[:2] == (0, "0 statements recompute byte by byte.\n")


def test_the_command_names_whom_it_cannot_finalise_and_goes_on():
    acme = a_month()
    held = {"owner": an_id(), "amount": Decimal(1), "windows": [], "facts": {}, "created_at": AFTER}
    Hold.objects.create(id=an_id(), tenant_id=acme.pk, billing_day=MONTH, **held)
    code, said, refused = run("finalise", "--month", "2026-10")
    assert (code, "globex 2026-10" in said, refused.startswith("acme: 1 requests")) == (1, True, True)
    assert list(Statement.objects.values_list("tenant_slug", flat=True)) == ["globex"]


@pytest.mark.parametrize("words", [("verify", "--month", "2026-13"), ("finalise",), ("verify", "--tenant", "nobody")])
def test_the_command_refuses_what_it_cannot_understand(words):
    with pytest.raises(CommandError):
        run(*words)


@pytest.mark.django_db(transaction=True)
def test_another_process_recomputes_the_same_bytes():
    statement = finalise(a_month())
    database = connection.settings_dict["NAME"]
    url = f"sqlite:///{database}" if connection.vendor == "sqlite" else _postgres_url()
    assert "memory" not in str(database)  # another process could not see it
    connections.close_all()
    root = Path(__file__).resolve().parents[2]
    for seed in ("1", "2"):  # the order of sets must not matter
        done = subprocess.run(
            [sys.executable, "manage.py", "statements", "verify"],
            cwd=root,
            env={**os.environ, "DATABASE_URL": url, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "1 statements recompute byte by byte.\n"), done.stderr
    assert verified(statement) == []


def _postgres_url():
    from urllib.parse import quote

    at = connection.settings_dict
    return f"postgresql://{at['USER']}:{quote(at['PASSWORD'])}@/{at['NAME']}?host={quote(at['HOST'])}" + (
        f"&port={at['PORT']}" if at["PORT"] else ""
    )


def test_a_month_costs_as_many_queries_with_a_hundred_requests_as_with_one(django_assert_max_num_queries):
    tenant = a_month()
    for number in range(100):
        a_request(tenant, 100 + number, date(2026, 10, 1 + number % 31), [line("input", 5, "1")], "0.000005")
    with django_assert_max_num_queries(5):
        draft(tenant)
