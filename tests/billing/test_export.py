"""Usage as CSV: the same rows as the list, all of them, own ones only, and nothing that a spreadsheet would run."""

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client

from billing.api import exports
from tenants.auth import CALLERS
from tests import cast
from tests.billing.made import a_key, a_tenant, spend
from tests.billing.stated import line

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/api/v1/llm/usage/export"


@pytest.fixture(autouse=True)
def _no_cached_callers() -> Any:
    CALLERS.clear()
    yield
    CALLERS.clear()


@pytest.fixture
def acme() -> Any:
    return a_tenant("acme")


@pytest.fixture
def bearer(acme: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {a_key(acme, scopes=['usage:read'])[1]}"}


def read(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))


def test_it_has_what_the_list_has_row_by_row(acme: Any, bearer: dict[str, str]) -> None:
    lines = [line("input", 1000, "2.5"), line("output", 500, "10")]
    spend(acme.pk, "0.0075", price_lines=lines, ttft_ms=None, created_at=datetime(2026, 11, 22, 9, tzinfo=UTC),
          end_user='=HYPERLINK("http://evil.invalid")', user_agent="two\nlines, and a comma")  # fmt: skip
    spend(acme.pk, "0.0000001200", used_byok=True, status="failed", status_code=502)
    spend(a_tenant("globex").pk, "9")
    client = Client(headers=bearer)
    listed = client.get("/api/v1/llm/usage").json()["results"]
    found = read(client.get(URL))
    assert len(found) == len(listed) == 2
    for row, there in zip(found, listed, strict=True):
        assert row.keys() == there.keys() - {"model"}
        for name, text in row.items():
            value = there[name]
            if isinstance(value, (list, dict)):
                assert json.loads(text) == value
            elif name == "end_user" and value:
                assert text == f"'{value}"
            else:
                assert text == ("" if value is None else str(value).lower() if isinstance(value, bool) else str(value))


def test_filters_are_those_of_the_list_and_a_bad_one_is_said(acme: Any, bearer: dict[str, str]) -> None:
    spend(acme.pk, "1", model_name="gpt-4o-mini")
    spend(acme.pk, "2", status="failed", status_code=502)
    client = Client(headers=bearer)
    assert [row["cost_total_usd"] for row in read(client.get(URL, {"model": "gpt-4o-mini"}))] == ["1"]
    assert [row["cost_total_usd"] for row in read(client.get(URL, {"status": "failed"}))] == ["2"]
    refused = client.get(URL, {"status": "nonsense"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "status")


def test_more_than_a_page_comes_whole_and_is_read_a_page_at_a_time_also_behind_asgi(
    acme: Any, bearer: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PAGE", 3)
    ids = [str(spend(acme.pk, "1").pk) for _ in range(7)]
    assert [row["request_id"] for row in read(Client(headers=bearer).get(URL))] == ids[::-1]

    async def streamed() -> list[bytes]:
        answer = await AsyncClient().get(URL, headers=bearer)
        return [chunk async for chunk in answer.streaming_content]

    chunks = async_to_sync(streamed)()
    assert [len(list(csv.reader(io.StringIO(chunk.decode())))) for chunk in chunks] == [1, 3, 3, 1]


def test_staff_have_all_tenants_or_one_and_what_was_lost(acme: Any) -> None:
    other = a_tenant("globex")
    spend(acme.pk, "1", lost_cost_usd=Decimal("0.25"))
    spend(other.pk, "2")
    client = Client(headers={"Authorization": f"Bearer {cast.make_staff('vera')[1]}"})
    everything = read(client.get("/api/v1/admin/usage/export"))
    assert [(row["tenant_id"], row["lost_cost_usd"]) for row in everything] == [
        (str(other.pk), "0"), (str(acme.pk), "0.25"),
    ]  # fmt: skip
    assert [row["cost_total_usd"] for row in read(client.get("/api/v1/admin/usage/export", {"tenant": "acme"}))] == [
        "1"
    ]
