"""With many usage rows: no report or list of a tenant reads them all, and a page costs the same however far back it is.
`make scale` measures the same with ten million."""

import json
import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing.models import UsageRecord
from billing.rollup_models import OpenDay
from tenants.auth import CALLERS
from tenants.ids import uuid7_of
from tests.billing.made import a_key, a_tenant, an_id

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="plans are PostgreSQL's"),
]

ROWS = 50_000
# A row each minute, the newest a minute old; a twentieth of another tenant's; days rolled up but for the last.
_FILL = """
INSERT INTO llm_usage_logs ({columns}) SELECT {values} FROM (
  SELECT r.*, n, date_trunc('second', now()) - n * interval '1 minute' AS at FROM generate_series(1, %s) n,
   (SELECT * FROM llm_usage_logs WHERE id = %s) r
) r
"""
_MADE = {
    "id": "(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7000a' || lpad(n::text, 15, '0'))::uuid",
    "tenant_id": "CASE WHEN n %% 20 = 0 THEN '{other}'::uuid ELSE tenant_id END",
    "key_id": "CASE WHEN n %% 1000 = 0 THEN '{rare}'::uuid ELSE key_id END",
    "model_name": "CASE WHEN n %% 1000 = 1 THEN 'rare' ELSE model_name END",
    "status": "CASE WHEN n %% 500 = 2 THEN 'failed' ELSE status END",
    "billing_day": "(at AT TIME ZONE 'UTC')::date",
    "created_at": "at",
}
_ROLLED = """
INSERT INTO billing_rolled_days (billing_day, rolled_at, slices)
SELECT DISTINCT billing_day, now(), 0 FROM llm_usage_logs
"""


@pytest.fixture
def asking() -> Any:
    """A client of the tenant with most of the rows, and ids of a common key and a rare one."""
    from tests.billing.made import spend

    CALLERS.clear()
    tenant, other, rare = a_tenant("acme"), a_tenant("globex"), an_id()
    key, secret = a_key(tenant, scopes=["usage:read"])
    seed = spend(tenant.pk, key_id=key.pk)
    made = {name: text.format(other=other.pk, rare=rare) for name, text in _MADE.items()}
    columns = [field.column for field in UsageRecord._meta.concrete_fields]
    values = [made.get(name, f'"{name}"') for name in columns]
    with connection.cursor() as cursor:
        quoted = ", ".join(f'"{name}"' for name in columns)
        cursor.execute(_FILL.format(columns=quoted, values=", ".join(values)), [ROWS, seed.pk])
        seed.delete()
        cursor.execute(_ROLLED)
        cursor.execute("ANALYZE llm_usage_logs")
    today = UsageRecord.objects.order_by("-pk").first()
    assert today is not None
    OpenDay.objects.create(
        billing_day=today.billing_day, upto=uuid7_of(round(today.created_at.timestamp() * 1000) - 600_000, 0),
        rolled_at=today.created_at,
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM billing_rolled_days WHERE billing_day = %s", [today.billing_day])
    yield {"client": Client(headers={"Authorization": f"Bearer {secret}"}), "key": key.pk, "rare": rare}
    CALLERS.clear()


def plans(client: Client, path: str) -> list[Any]:
    """The plan of each query on usage rows that a request makes, each once run."""
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(path)
    assert answer.status_code == 200, answer.content
    found = []
    for query in captured.captured_queries:
        if "llm_usage_logs" in query["sql"] and query["sql"].startswith("SELECT"):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query['sql']}")
                (said,) = cursor.fetchone()
            found.append((said if isinstance(said, list) else json.loads(said))[0]["Plan"])
    return found


def pages(plan: Any) -> int:
    """Blocks of 8 kB that were looked at."""
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def test_nothing_reads_all_usage_rows(asking: Any) -> None:
    usage = "/api/v1/llm/usage"
    paths = [
        usage, f"{usage}?status=failed", f"{usage}?status=expired", f"{usage}?key={asking['key']}",
        f"{usage}?key={asking['rare']}", f"{usage}?model=rare", f"{usage}?from=2020-01-01&to=2020-01-31",
        *(f"{usage}/summary?group_by={by}" for by in ("day", "month", "model", "key", "user", "power_level")),
        f"/api/v1/keys/{asking['key']}/usage", "/api/v1/me",
    ]  # fmt: skip
    for path in paths:
        for plan in plans(asking["client"], path):
            assert not re.search(r"'Seq Scan', [^{}]*llm_usage_logs", str(plan)), (path, plan)
            assert pages(plan) < 2000, (path, pages(plan))  # of about 5,000 that the table has


def test_a_page_far_back_costs_what_the_first_costs(asking: Any) -> None:
    (first,) = plans(asking["client"], "/api/v1/llm/usage")
    url, seen = "/api/v1/llm/usage?page_size=1000", 0
    while seen < ROWS * 19 // 20 - 2000:
        page = asking["client"].get(url).json()
        seen, url = seen + len(page["results"]), page["next"].partition("testserver")[2]
    (last,) = plans(asking["client"], url.replace("page_size=1000", "page_size=50"))
    assert pages(last) < pages(first) + 40, (pages(first), pages(last))
