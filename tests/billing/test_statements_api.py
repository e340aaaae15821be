"""Statements over HTTP, as JSON, CSV and a page: one document, own months only, inert wherever it is opened."""

import csv
import hashlib
import io
import json
import uuid
from datetime import date
from decimal import Decimal

import pytest
import time_machine
from django.test import Client

from billing.statements import closing, sheet
from tenants import audit
from tests import cast
from tests.billing.made import a_key, a_tenant, spend
from tests.billing.stated import AFTER, MONTH, a_month, a_request, line

pytestmark = pytest.mark.django_db

URL = "/api/v1/statements/2026-10"
ADMIN_URL = "/api/v1/admin/tenants/acme/statements/2026-10"


@pytest.fixture(autouse=True)
def november():
    with time_machine.travel(AFTER, tick=False):
        yield


@pytest.fixture
def acme():
    tenant = a_month()
    tenant.name = "Acme <b>& Co</b>"
    tenant.save()
    return tenant


@pytest.fixture
def api(acme):
    return Client(headers={"Authorization": f"Bearer {a_key(acme, scopes=['usage:read'])[1]}"})


@pytest.fixture
def staff(db):
    return Client(headers={"Authorization": f"Bearer {cast.make_staff()[1]}"})


def finalise(tenant, month=MONTH):
    return closing.finalise(tenant=tenant, month=month, actor=audit.system("test"), now=AFTER)


def test_a_month_is_a_draft_until_it_is_finalised_and_says_so(api, acme):
    draft = api.get(URL)
    assert (draft.status_code, draft.json()["status"], draft.json()["finalised_at"]) == (200, "draft", None)
    assert "X-Statement-SHA256" not in draft.headers
    statement = finalise(acme)
    final = api.get(URL)
    assert (final.json()["status"], final.json()["finalised_at"]) == ("final", "2026-11-03T12:00:00.000000+00:00")
    assert hashlib.sha256(final.content).hexdigest() == statement.sha256 == final.headers["X-Statement-SHA256"]
    assert final.json()["totals"] == draft.json()["totals"]


def test_the_list_has_every_month_and_totals_of_the_finalised(api, acme):
    finalise(acme)
    page = api.get("/api/v1/statements").json()
    assert (page["count"], page["next"], page["previous"]) == (3, None, None)
    assert [(row["month"], row["status"], row["billed_usd"]) for row in page["results"]] == [
        ("2026-11", "draft", None),
        ("2026-10", "final", "0.0186677424"),
        ("2026-09", "draft", None),
    ]
    assert page["results"][1]["cost_usd"] == "0.0370021002"
    assert api.get("/api/v1/statements?page_size=1&page=2").json()["results"][0]["month"] == "2026-10"


@pytest.mark.parametrize("month", ["2026-12", "2026-13", "2026-1", "9999-12", "0000-01", "x", "\uff12026-10"])
def test_what_is_no_month_or_has_not_begun_is_not_found(api, month):
    answer = api.get(f"/api/v1/statements/{month}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("", "application/json", "application/json"),
        ("", "*/*", "application/json"),
        ("", "text/csv", "text/csv; charset=utf-8"),
        ("", "text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("?format=csv", "application/json", "text/csv; charset=utf-8"),
        ("?format=html", "*/*", "text/html; charset=utf-8"),
        ("?format=json", "text/html", "application/json"),
    ],
)
def test_format_decides_and_without_it_accept(api, query, accept, kind):
    answer = api.get(URL + query, headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)


def test_an_unknown_format_is_named_and_errors_are_json_whatever_is_asked_for(api):
    refused = api.get(f"{URL}?format=pdf")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "format")
    missing = api.get("/api/v1/statements/2026-12?format=csv", headers={"accept": "text/csv"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


def sheet_of(api, url=URL):
    content = b"".join(api.get(f"{url}?format=csv").streaming_content).decode()
    return list(csv.DictReader(io.StringIO(content)))


def test_both_columns_of_the_csv_add_up_to_the_statement(api):
    rows, totals = sheet_of(api), api.get(URL).json()["totals"]
    assert sum(Decimal(row["list_usd"]) for row in rows) == Decimal(totals["cost_usd"])
    assert sum(Decimal(row["billed_usd"]) for row in rows) == Decimal(totals["billed_usd"])
    assert sum(int(row["requests"] or 0) for row in rows) == totals["requests"]
    assert [row["kind"] for row in rows] == [
        "usage", "usage", "markup", "usage", "usage", "markup", "unitemised", "usage", "own_key_fee",
        "usage", "rounding", "usage", "usage", "usage", "markup", "usage", "adjustment",
    ]  # fmt: skip
    assert rows[0] | {"key_id": ""} == {
        "kind": "usage", "day": "2026-10-01", "key_id": "", "key_name": "alpha", "config_id": "",
        "config_name": "", "provider": "openai", "model": "gpt-4o", "own_key": "no", "requests": "1", "meter": "input",
        "quantity": "1000", "unit_price_usd": "2.5", "unit_quantity": "1000000", "list_usd": "0.0025",
        "billed_usd": "0.0025", "request_id": "", "note": "", "prepaid_usd": "0",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", '=HYPERLINK("http://x")', "\uff1d1"]
)
def test_names_are_inert_in_a_spreadsheet(acme, api, name):
    config = {"config_id": uuid.UUID(int=9), "config_name": name, "model_name": name, "key_name": name}
    a_request(acme, 30, date(2026, 10, 5), [line("input", 1, "1")], "0.000001", **config, key_id=uuid.UUID(int=8))
    row = next(row for row in sheet_of(api) if row["day"] == "2026-10-05")
    for column in ("key_name", "config_name", "model"):
        assert row[column] == f"'{name}"
    assert sheet.inert("gpt-4o") == "gpt-4o"


def test_the_page_needs_nothing_from_anywhere_and_escapes_every_name(acme, api):
    hostile = "<script>alert(1)</script>"
    a_request(acme, 31, date(2026, 10, 5), [line(hostile, 1, "1")], "0.000001", model_name=hostile, key_name=hostile)
    page = api.get(f"{URL}?format=html")
    text = page.content.decode()
    assert hostile not in text
    assert "Acme &lt;b&gt;&amp; Co&lt;/b&gt;" in text
    assert "Draft: the month is not finalised" in text
    for loads in ("http://", "https://", "src=", "url(", "@import", "<link", "<script"):
        assert loads not in text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    for rule in ("size: A4", "break-inside: avoid", "table-header-group", "color-scheme: light"):
        assert rule in text


def test_the_page_shows_prices_quantities_and_how_the_bill_comes_about(acme, api):
    finalise(acme)
    text = api.get(f"{URL}?format=html").content.decode()
    for words in (
        "$0.0186677424", "$2.50 per 1,000,000", "$2.00 per 1,000,000", "2,000", "-$0.02", "$0.00170021", "$0.0002",
        "-$0.0012345678", "Cached input tokens, at the price of input tokens", "Charged without price lines",
        "Rounding of each request", "with your own key", "without a key", "SHA-256",
    ):  # fmt: skip
        assert words in text, words
    assert "Draft" not in text


def test_another_tenant_sees_its_own_month(acme):
    other = a_tenant("initech")
    spend(other.pk, "1", day=MONTH)
    client = Client(headers={"Authorization": f"Bearer {a_key(other)[1]}"})
    text = client.get(URL).content.decode()
    assert json.loads(text)["totals"]["billed_usd"] == "1"
    assert "acme" not in text.lower()


def test_staff_finalise_over_the_api_once_and_never_too_early(acme, staff):
    early = staff.post("/api/v1/admin/tenants/acme/statements/2026-11/finalise")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "period_open")
    assert staff.post("/api/v1/admin/tenants/acme/statements/9999-12/finalise").status_code == 404
    done = staff.post(f"{ADMIN_URL}/finalise")
    assert (done.status_code, done.json()["billed_usd"], done.json()["tenant"]) == (201, "0.0186677424", "acme")
    assert done.json()["finalised_by"] == "grace (staff)"
    again = staff.post(f"{ADMIN_URL}/finalise")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "statement_final")
    assert staff.get(ADMIN_URL).headers["X-Statement-SHA256"] == done.json()["sha256"]


def test_staff_list_and_filter_statements(acme, staff, django_assert_max_num_queries):
    finalise(acme)
    finalise(acme, month=date(2026, 9, 1))
    with django_assert_max_num_queries(7):  # four are the key's
        page = staff.get("/api/v1/admin/statements").json()
    assert [row["month"] for row in page["results"]] == ["2026-10", "2026-09"]
    assert staff.get("/api/v1/admin/statements?month=2026-09").json()["count"] == 1
    assert staff.get("/api/v1/admin/statements?tenant=globex").json()["count"] == 0
    assert staff.get("/api/v1/admin/statements?month=x").json()["error"]["param"] == "month"
