"""Our cost against theirs: exact differences by model and day, and every unreadable invoice named by its line."""

from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from billing import drift, invoices
from billing.drift import Tolerance
from billing.invoices import Columns
from billing.models import Adjustment, RolledDay, UsageRecord
from tenants.errors import InvalidValue
from tests.billing.made import a_tenant, spend

MONTH = date(2026, 10, 1)


def at(day, hour=12):
    return datetime(2026, 10, day, hour, tzinfo=UTC)


@pytest.fixture
def used(db):
    tenant = a_tenant()
    spend(tenant.pk, "1.00", created_at=at(1), reported_cost_usd=Decimal("1.005"))
    spend(tenant.pk, "2.00", created_at=at(1), reported_cost_usd=Decimal("2.5"))
    spend(tenant.pk, "4.00", created_at=at(2))  # said nothing
    spend(tenant.pk, "8.00", created_at=at(2), used_byok=True, reported_cost_usd=Decimal(8))
    spend(tenant.pk, "16.00", created_at=at(31, 23), model_name="o3")
    spend(tenant.pk, "32.00", created_at=datetime(2026, 11, 1, tzinfo=UTC))
    spend(tenant.pk, "64.00", created_at=at(1), provider_slug="xai", reported_cost_usd=Decimal(64))
    return tenant


def rows(report):
    return [(row.model, row.day and row.day.day, row.ours, row.theirs, row.beyond) for row in report.rows]


def test_reported_costs_are_compared_where_there_are_some(used):
    report = drift.reported(month=MONTH, provider="openai", tolerance=Tolerance())
    assert rows(report) == [
        ("openai/gpt-4o", 1, Decimal("3.00"), Decimal("3.505"), True),
        ("openai/gpt-4o", 2, Decimal("8.00"), Decimal(8), False),
    ]
    assert (report.rows[0].difference, report.rows[0].percent) == (Decimal("-0.505"), Decimal("-14.41"))
    assert (report.total.requests, report.total.ours, report.total.theirs) == (3, Decimal(11), Decimal("11.505"))
    assert report.beyond == 2
    assert len(drift.reported(month=MONTH, provider=None, tolerance=Tolerance()).rows) == 3


def test_an_invoice_is_compared_with_the_platforms_keys_by_utc_day(used):
    invoice = {
        ("gpt-4o", date(2026, 10, 1)): Decimal("3.00"),
        ("gpt-4o", date(2026, 10, 2)): Decimal("4.03"),
        ("gpt-5", date(2026, 10, 2)): Decimal("0.5"),
    }
    report = drift.invoiced(month=MONTH, provider="openai", invoice=invoice, tolerance=Tolerance())
    assert rows(report) == [
        ("gpt-4o", 1, Decimal(3), Decimal(3), False),
        ("gpt-4o", 2, Decimal(4), Decimal("4.03"), False),  # 0.74 %
        ("gpt-5", 2, Decimal(0), Decimal("0.5"), True),
        ("o3", 31, Decimal(16), Decimal(0), True),
    ]
    assert report.rows[3].percent is None


def test_an_invoice_without_days_is_compared_by_model(used):
    report = drift.invoiced(
        month=MONTH, provider="openai", invoice={("gpt-4o", None): Decimal(7)}, tolerance=Tolerance()
    )
    assert rows(report) == [
        ("gpt-4o", None, Decimal(7), Decimal(7), False),
        ("o3", None, Decimal(16), Decimal(0), True),
    ]


def test_a_late_figure_counts_on_its_requests_day(used):
    row = spend(used.pk, "10", created_at=at(3), status="expired")
    Adjustment.objects.create(
        tenant=used, kind="system", request_id=row.pk, provider_slug="openai", model_name="gpt-4o",
        cost_total_usd=Decimal("-9.5"), reason="x", author="ledger", billing_day=date(2026, 11, 1), created_at=at(31),
    )  # fmt: skip
    invoice = {("gpt-4o", date(2026, 10, 3)): Decimal("0.5")}
    report = drift.invoiced(month=MONTH, provider="openai", invoice=invoice, tolerance=Tolerance())
    assert ("gpt-4o", 3, Decimal("0.5"), Decimal("0.5"), False) in rows(report)


def correct(tenant, row, usd, **fields):
    Adjustment.objects.create(
        tenant=tenant, kind="staff", request_id=row.pk, provider_slug=row.provider_slug, model_name=row.model_name,
        cost_total_usd=Decimal(usd), reason="x", author="x", billing_day=MONTH, created_at=at(31), **fields,
    )  # fmt: skip


@pytest.mark.parametrize("provider", [None, "openai"])
def test_a_corrected_price_is_no_drift_from_what_the_answer_said(db, provider):
    tenant = a_tenant()
    wrong = spend(tenant.pk, "10", created_at=at(5), reported_cost_usd=Decimal(1))
    silent = spend(tenant.pk, "10", created_at=at(5))
    correct(tenant, silent, "-9")  # the provider said nothing of this one
    report = drift.reported(month=MONTH, provider=provider, tolerance=Tolerance())
    assert rows(report) == [("openai/gpt-4o", 5, Decimal(10), Decimal(1), True)]
    correct(tenant, wrong, "-8.5", billed_usd=Decimal(-9))
    correct(tenant, wrong, "-0.5")
    report = drift.reported(month=MONTH, provider=provider, tolerance=Tolerance())
    assert rows(report) == [("openai/gpt-4o", 5, Decimal(1), Decimal(1), False)]
    assert (report.total.requests, report.beyond, report.missing) == (1, 0, [])


@pytest.mark.parametrize(
    ("zone_of", "pruned", "of"), [("west", "2026-09-30", "2026-10-01"), ("east", "2026-11-01", "2026-10-31")]
)
def test_requests_whose_billing_day_is_pruned_in_the_next_month_are_said_to_be_missing(
    used, tmp_path, zone_of, pruned, of
):
    hour = {"west": at(1, 3), "east": at(31, 20)}[zone_of]
    day = date.fromisoformat(pruned)
    spend(used.pk, "7", day=day, created_at=hour, reported_cost_usd=Decimal(7))
    file = tmp_path / "invoice.csv"
    file.write_text("model,cost\ngpt-4o,14\no3,16\n")
    words = ("--provider", "openai", "--invoice", str(file), "--month", "2026-10")
    assert run(*words)[::2] == (0, "")
    RolledDay.objects.create(billing_day=day, rolled_at=at(31), pruned_at=at(31))
    UsageRecord.objects.filter(billing_day=day).delete()
    said = (
        f"Incomplete: usage of {pruned} has been pruned, so requests of {of} (UTC) that were of that day in their "
        "tenant's time zone are missing from ours.\n"
    )
    assert run(*words)[::2] == (1, f"{said}2 lines differ by more than the tolerance.\n")
    assert run("--month", "2026-10", "--provider", "xai")[::2] == (0, said)
    assert run("--month", "2026-12", "--provider", "xai")[::2] == (0, "")


@pytest.mark.parametrize(
    ("ours", "theirs", "beyond"),
    [
        ("100", "101", False), ("100", "102", True), ("0", "0.01", False), ("0", "0.0100000001", True),
        ("0", "0", False), ("-1", "-1", False), ("5", "-5", True),
    ],
)  # fmt: skip
def test_beyond_is_more_than_the_percentage_and_more_than_the_amount(ours, theirs, beyond):
    assert Tolerance().beyond(Decimal(ours), Decimal(theirs)) is beyond


# --- reading ----------------------------------------------------------------------------------------------------------


def read(text, **columns):
    return invoices.read(text.encode(), month=MONTH, columns=Columns(**columns))


def test_usual_columns_are_found_amounts_and_days_in_any_usual_form():
    found = read(
        "\ufeffDate;Model;Cost\n"
        '2026-10-01;gpt-4o;"$1,234.50"\n'
        "2026-10-01T23:30:00-02:00;gpt-4o;1e-7\n"  # October 2nd in UTC
        "1790899200;gpt-4o;(0.25)\n"  # 2026-10-02 in seconds
        "2026-11-01;gpt-4o;99\n"
        ";;\n"
        "2026-10-01;gpt-4o;0.5\n"
    )
    assert found == {
        ("gpt-4o", date(2026, 10, 1)): Decimal("1235.0"),
        ("gpt-4o", date(2026, 10, 2)): Decimal("-0.2499999"),
    }


def test_columns_and_models_are_mapped_as_told():
    text = "when\twhat\tpaid\n2026-10-01\tgpt-4o-2024-08-06\t1\n2026-10-01\tgpt-4o\t2\n"
    found = read(text, day="when", model="what", cost="paid", aliases={"gpt-4o-2024-08-06": "gpt-4o"})
    assert found == {("gpt-4o", date(2026, 10, 1)): Decimal(3)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Say which column holds the model. The invoice has: nothing."),
        ("a,b\n1,2\n", "Say which column holds the model. The invoice has: a, b."),
        ("model,cost\ngpt-4o\n", "Line 2 of the invoice has only 1 cells."),
        (
            "model,cost\ngpt-4o,1\ngpt-4o,much\n",
            "Line 3 of the invoice, column “cost”: “much” is not an amount in USD.",
        ),
        ("model,cost\ngpt-4o,NaN\n", "Line 2 of the invoice, column “cost”: “NaN” is not an amount in USD."),
        ("model,cost\ngpt-4o,1e30\n", "Line 2 of the invoice, column “cost”: “1e30” is not an amount in USD."),
        (
            "date,model,cost\n31.10.2026,gpt-4o,1\n",
            "Line 2 of the invoice: “31.10.2026” is not a day such as 2026-11-22.",
        ),
    ],
)
def test_an_invoice_that_cannot_be_read_is_refused_by_its_line(text, said):
    with pytest.raises(InvalidValue) as refused:
        read(text)
    assert refused.value.message == said


@pytest.mark.parametrize(
    ("delimiter", "text", "usd"),
    [
        (",", "0.05", "0.05"), (",", "1.234", "1.234"), (",", "1,234.56", "1234.56"), (",", "1.234,56", "1234.56"),
        (",", "0,05", "0.05"), (",", "0,123", "0.123"), (",", "12,5", "12.5"), (",", "1234,567", "1234.567"),
        (",", "1,234,567", "1234567"), (",", "-1,234.5", "-1234.5"), (",", "($1,234.50)", "-1234.5"), (",", "", "0"),
        (",", "1 234.5", "1234.5"), (",", "1\u202f234,5", "1234.5"), (",", "1’234.50", "1234.5"), (",", ".5", "0.5"),
        (",", "- $5.", "-5"), (",", "1.5E-3", "0.0015"), (",", "1.e2", "100"),
        (";", "0,05", "0.05"), (";", "1,234", "1.234"), (";", "1.234,56", "1234.56"), (";", "1,234.56", "1234.56"),
        (";", "1.234.567", "1234567"), (";", "0.05", "0.05"), (";", "0.123", "0.123"), (";", "1234.567", "1234.567"),
        ("\t", "1.234", "1.234"), ("\t", "0,05", "0.05"),
    ],
)  # fmt: skip
def test_an_amount_with_one_meaning_is_read_whatever_its_decimal_mark(delimiter, text, usd):
    assert read(f'model{delimiter}cost\ngpt-4o{delimiter}"{text}"\n') == {("gpt-4o", None): Decimal(usd)}


AMBIGUOUS = "can be 1234 or 1.234. Write 1234 or 1234.00, or else 1.2340."


@pytest.mark.parametrize(
    ("delimiter", "texts", "said"),
    [
        (",", ["1,234"], f"“1,234” {AMBIGUOUS}"),
        (",", ["2.5", "$1,234"], f"“$1,234” {AMBIGUOUS}"),
        ("\t", ["1,234"], f"“1,234” {AMBIGUOUS}"),
        (";", ["1.234"], "“1.234” can be 1234 or 1,234. Write 1234 or 1234,00, or else 1,2340."),
        (",", ["0,05", "0.05"], "“0.05” has a decimal point, line 2 has a decimal comma. Write all amounts alike."),
        (";", ["1,234.5", "1,2"], "“1,2” has a decimal comma, line 2 has a decimal point. Write all amounts alike."),
        (";", ["1.234.567", "0.5"], "“0.5” has a decimal point, line 2 has a decimal comma. Write all amounts alike."),
        *((",", [text], f"“{text}” is not an amount in USD.") for text in (
            "1,23,456", "1,234,56", "1.234.56", "1,234 567", "12,34.5", "1,2345.6", "1_000", "5 EUR", "--5", ".", "e5",
            "1,234.5,6", "Infinity", "\uff11",
        )),
    ],
)  # fmt: skip
def test_an_amount_that_can_be_two_is_refused_and_what_to_write_is_said(delimiter, texts, said):
    lines = "".join(f'gpt-4o{delimiter}"{text}"\n' for text in texts)
    with pytest.raises(InvalidValue) as refused:
        read(f"model{delimiter}cost\n{lines}")
    assert refused.value.message == f"Line {len(texts) + 1} of the invoice, column “cost”: {said}"


@pytest.mark.parametrize("total", ["Total", "TOTAL (USD)", "Grand total:", "Subtotal", "Sub-Total of all", "sum", ""])
def test_a_line_that_sums_others_up_is_held_to_them_and_left_out(total):
    lines = "2026-10-01,gpt-4o,10\n2026-11-01,gpt-4o,2.5\n"
    found = read(f"date,model,cost\n{lines},{total},12.50\n2026-10-02,o3,1\n,{total},1\n,Total,13.5\n,{total},0\n")
    assert found == {("gpt-4o", date(2026, 10, 1)): Decimal(10), ("o3", date(2026, 10, 2)): Decimal(1)}
    with pytest.raises(InvalidValue) as refused:
        read(f"date,model,cost\n{lines}2026-10-01,{total},12.52\n")
    assert refused.value.message == (
        f"Line 4 of the invoice has {f'“{total}”' if total else 'no model'} and 12.52, but the lines before it come to "
        "12.5. Take it out, or name the model that it is of."
    )
    if total:
        assert read(f"model,cost\n{total},7\n", aliases={total: "total-1"}) == {("total-1", None): Decimal(7)}


def test_a_model_that_only_begins_alike_is_a_model():
    assert set(read("model,cost\nsummarizer,1\ntotality,1\nsubtle,1\n")) == {
        ("summarizer", None), ("totality", None), ("subtle", None),
    }  # fmt: skip


@pytest.mark.parametrize("content", [b"\xff\xfe", b"model,cost\n\xe4,1\n"])
def test_what_is_no_text_is_refused(content):
    with pytest.raises(InvalidValue, match="UTF-8"):
        invoices.read(content, month=MONTH, columns=Columns())


# --- the command ------------------------------------------------------------------------------------------------------


def run(*words):
    out, err = StringIO(), StringIO()
    try:
        call_command("drift", *words, stdout=out, stderr=err)
    except SystemExit as ended:
        return ended.code, out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def test_the_command_exits_1_beyond_the_tolerance(used, tmp_path):
    file = tmp_path / "invoice.csv"
    file.write_text("date,model,cost\n2026-10-01,gpt-4o,3\n2026-10-02,gpt-4o-0806,4.03\n2026-10-31,o3,16\n")
    words = ("--provider", "openai", "--invoice", str(file), "--month", "2026-10", "--alias", "gpt-4o-0806=gpt-4o")
    code, said, _ = run(*words)
    assert (code, "BEYOND" in said) == (0, False)
    code, said, err = run(*words, "--tolerance", "0.5")
    assert (code, said.count("BEYOND"), err) == (1, 1, "1 lines differ by more than the tolerance.\n")
    assert run("--month", "2026-10", "--provider", "xai")[0] == 0
    assert run("--month", "2026-10")[0] == 1


@pytest.mark.parametrize(
    "words",
    [("--invoice", "x.csv"), ("--invoice", "/nowhere.csv", "--provider", "x"), ("--month", "x"), ("--alias", "x")],
)
def test_the_command_refuses_what_it_cannot_use(db, words):
    with pytest.raises(CommandError):
        run(*words)
