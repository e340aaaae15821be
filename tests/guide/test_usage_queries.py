"""The guide's queries about usage, unchanged, on requests that went through the gateway; the API says the same.

On SQLite, whose clock is called otherwise and whose money is an integer of 1e-10 USD, they run with the one change that
docs/troubleshooting.md names.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from billing import reports
from billing.models import UsageRecord
from llm.router import LLMRoutingEngine
from tenants.fields import UNIT
from tests import cast
from tests.conftest import Api
from tests.fakes import Behaviour
from tests.guide.sql import ask, stored, usd
from tests.guide.text import queries
from tests.journeys.world import Customer, World
from tests.journeys.world import usd as price

_, USER, TOP, _, _, _, _, BY_MODEL = queries()

DEAR, CHEAP = price(1000, 50, 400), price(100, 10)  # what one request of each kind costs


@dataclass
class Books:
    """Four requests: three of `user-uuid` (one with an own key), one of somebody else."""

    world: World
    customer: Customer

    @property
    def latency_ms(self) -> Decimal:
        """The average of `user-uuid`'s requests."""
        latencies = UsageRecord.objects.filter(user_id="user-uuid").values_list("latency_ms", flat=True)
        return Decimal(sum(latencies)) / len(latencies)


@pytest.fixture(scope="module")
def books(stage: World) -> Iterator[Books]:
    stage.fake.script("m", Behaviour(usage={"prompt_tokens": 1000, "cached_tokens": 400, "completion_tokens": 50}))
    stage.other.script("m", Behaviour(usage={"prompt_tokens": 100, "cached_tokens": 0, "completion_tokens": 10}))
    customer = stage.customer()
    cast.make_credential(stage.vendors["anthropic"].provider, "sk-own-0123456789", tenant=customer.tenant)
    for model, user in itertools.chain(
        [("fakeai/m", "user-uuid")] * 2, [("fakethropic/m", "user-uuid"), ("fakethropic/m", "somebody")]
    ):
        assert customer.ask(model, user=user).status_code == 200
    stage.quiet()
    stage.customer().ask("fakeai/m", power_level="eco").raise_for_status()  # another tenant's
    stage.quiet()
    return Books(stage, customer)


def test_one_users_last_month(books: Books) -> None:
    (row,) = ask(USER)
    assert Decimal(row.pop("avg_latency")) == pytest.approx(books.latency_ms)
    assert row | {"total_cost": usd(row["total_cost"])} == {
        "user_id": "user-uuid",
        "total_requests": 3,
        "total_tokens": 2 * 1050 + 110,
        "total_cost": 2 * DEAR + CHEAP,
        "byok_requests": 1,
    }


def test_the_dearest_models_of_the_last_week(books: Books) -> None:
    rows = ask(TOP)
    assert list(rows[0]) == ["model_name", "provider_name", "request_count", "total_cost", "avg_cost_per_request"]
    assert [(*list(row.values())[:3], usd(row["total_cost"]), usd(row["avg_cost_per_request"])) for row in rows] == [
        ("m", name, count, count * cost, cost) for name, count, cost in (("Fakeai", 3, DEAR), ("Fakethropic", 2, CHEAP))
    ]


def test_what_each_model_cost_in_the_last_week(books: Books) -> None:
    vendors = books.world.vendors
    assert [(row["model_id"], usd(row["total_cost"])) for row in ask(BY_MODEL)] == [
        (stored(vendors["openai"].model.pk), 3 * DEAR),
        (stored(vendors["anthropic"].model.pk), 2 * CHEAP),
    ]


def test_the_python_stats_are_the_users_row(books: Books) -> None:
    stats = LLMRoutingEngine().get_user_usage_stats("user-uuid")
    assert {name: stats[name] for name in ("total_requests", "total_tokens", "total_cost_usd", "byok_requests")} == {
        "total_requests": 3,
        "total_tokens": 2 * 1050 + 110,
        "total_cost_usd": 2 * DEAR + CHEAP,
        "byok_requests": 1,
    }
    assert stats["avg_latency_ms"] == rounded(books.latency_ms)
    assert [(row["model"], row["requests"], row["cost_usd"]) for row in stats["by_model"]] == [
        ("fakeai/m", 2, 2 * DEAR),
        ("fakethropic/m", 1, CHEAP),
    ]


def test_the_apis_top_models_are_the_querys(books: Books) -> None:
    status, answer = Api(cast.make_staff("top")[1]).get("admin/usage/top-models")
    assert status == 200
    assert [(row["provider"], row["requests"], Decimal(row["cost_usd"])) for row in answer["results"]] == [
        ("fakeai", 3, 3 * DEAR),
        ("fakethropic", 2, 2 * CHEAP),
    ]


# What a summary is grouped by, as SQL.
COLUMNS = {
    "day": "billing_day",
    "month": "substr(CAST(billing_day AS text), 1, 7)",
    "model": "provider_slug || '/' || model_name",
    "provider": "provider_slug",
    "key": "key_id",
    "config": "config_id",
    "user": "user_id",
    "power_level": "power_level",
    "task_type": "task_type",
    "byok": "used_byok",
}
GROUPED = """
SELECT {column} AS "group", COUNT(*) AS requests, SUM(prompt_tokens) AS prompt_tokens,
       SUM(completion_tokens) AS completion_tokens, SUM(total_tokens) AS total_tokens,
       SUM(cost_total_usd) AS cost_usd, SUM(billed_usd) AS billed_usd, SUM(latency_ms) AS latency,
       SUM(CASE WHEN used_byok THEN 1 ELSE 0 END) AS byok_requests,
       SUM(CASE WHEN status_code >= 400 THEN 1 ELSE 0 END) AS errors
  FROM llm_usage_logs WHERE tenant_id = '{tenant}' GROUP BY {column}
"""


def by_sql(customer: Customer, group_by: str) -> dict[str, dict[str, Any]]:
    """A summary's rows by their group, asked in SQL."""
    found = {}
    for row in ask(GROUPED.format(column=COLUMNS[group_by], tenant=stored(customer.tenant.pk))):
        money = {name: usd(row[name]) for name in ("cost_usd", "billed_usd")}
        group, latency, requests = row.pop("group"), row.pop("latency"), row["requests"]
        money["avg_cost_usd"] = (money["cost_usd"] / requests).quantize(UNIT, ROUND_HALF_UP)
        found[group_of(group)] = row | money | {"avg_latency_ms": rounded(Decimal(int(latency)) / requests)}
    return found


def rounded(milliseconds: Decimal) -> int:
    return int(milliseconds.quantize(Decimal(1), ROUND_HALF_UP))


def group_of(value: Any) -> str:
    """A group as both databases and JSON write it: SQLite has 0 and 1 for booleans and no dashes in ids."""
    text = {"0": "False", "1": "True"}.get(str(value), str(value))
    return text.replace("-", "")


def by_api(customer: Customer, group_by: str) -> dict[str, dict[str, Any]]:
    with customer.http as client:
        answer = client.get("/api/v1/llm/usage/summary", params={"group_by": group_by})
    found = {}
    for row in answer.raise_for_status().json()["results"]:
        row.pop("key_name", None)
        group = group_of(row.pop(group_by))
        found[group] = {name: Decimal(value) if name.endswith("_usd") else value for name, value in row.items()}
    return found


@pytest.mark.parametrize("group_by", COLUMNS)
def test_a_summary_says_what_sql_says(books: Books, group_by: str) -> None:
    rows = by_api(books.customer, group_by)
    assert rows == by_sql(books.customer, group_by)
    assert sum(row["requests"] for row in rows.values()) == 4
    assert sum(row["cost_usd"] for row in rows.values()) == 2 * DEAR + 2 * CHEAP
    assert sum(row["billed_usd"] for row in rows.values()) == 2 * DEAR  # the other two went with the tenant's own key


def test_another_group_is_refused_and_the_answer_names_those_there_are(books: Books) -> None:
    with books.customer.http as client:
        answer = client.get("/api/v1/llm/usage/summary", params={"group_by": "colour"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"group_by: Use one of: {', '.join(reports.GROUPS)}."
    assert COLUMNS.keys() <= reports.GROUPS.keys()
    assert set(by_api(books.customer, "user")) == {"useruuid", "somebody"}
    assert set(by_api(books.customer, "byok")) == {"False", "True"}
