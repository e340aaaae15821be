"""The rows themselves, in SQL: each a copy of a request that demo_data booked, of somebody else at another moment.

Ids, tenants, keys, users, models, days are made; tokens, costs, price lines, decisions, statuses and times are those of
the copied request, so a row's lines add up to its cost and the books can be proved by `reconcile --check`.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

DAYS = 365
GROWS = 2.0  # requests of the last day, times those of the first
OWN = (
    "id", "tenant_id", "user_id", "key_id", "key_name", "config_id", "config_name", "user_key_id", "provider_id",
    "provider_slug", "model_id", "model_name", "power_level", "task_type", "used_byok", "is_prepaid", "end_user",
    "billing_day", "created_at",
)  # fmt: skip

_DAY = """
INSERT INTO llm_usage_logs (id, tenant_id, user_id, key_id, key_name, config_id, config_name, user_key_id, provider_id,
 provider_slug, model_id, model_name, power_level, task_type, used_byok, is_prepaid, end_user, billing_day, created_at,
 {copied})
SELECT (lpad(to_hex((extract(epoch FROM g.at) * 1000)::bigint), 12, '0') || '7' || substr(g.noise, 1, 3) || 'a'
  || substr(g.noise, 4, 15))::uuid,
 w.tenant_id, CASE WHEN w.users > 1 THEN 'customer-' || floor(w.users * g.dice ^ 2) ELSE w.user_id END, w.key_id,
 w.key_name, w.config_id, w.config_name, w.user_key_id, w.provider_id, w.provider_slug, w.model_id, w.model_name,
 w.power_level, w.task_type, w.used_byok, false,
 CASE WHEN w.users > 1 THEN 'customer-' || floor(w.users * g.dice ^ 2) ELSE '' END,
 (g.at AT TIME ZONE w.timezone)::date, g.at, {copied_t}
FROM (
  SELECT %(begins)s::timestamptz + random() * interval '1 day' AS at, floor(random() * %(slots)s)::int AS slot,
   random() AS dice, random() AS other, md5(random()::text || n) AS noise
  FROM generate_series(1, %(number)s) n
) g
JOIN scale_wheel w ON w.slot = g.slot
JOIN scale_templates t ON t.used_byok = w.used_byok AND t.n = floor(g.other * w.copies)::int
ORDER BY g.at
"""

# One of some two thousand requests is corrected by a few cents, and each tenant gets one about no request now and then.
_ADJUSTMENTS = """
INSERT INTO billing_adjustments (id, tenant_id, kind, request_id, key_id, config_id, provider_id, provider_slug,
 model_id, model_name, credential_id, power_level, task_type, used_byok, cost_total_usd, billed_usd, budget_usd,
 is_prepaid, reason, author, billing_day, created_at)
SELECT gen_random_uuid(), tenant_id, 'staff', id, key_id, config_id, provider_id, provider_slug, model_id, model_name,
 user_key_id, power_level, task_type, used_byok, 0, -round(billed_usd / 2, 10), -round(billed_usd / 2, 10), false,
 'A wrong price.', 'scale', billing_day, created_at
FROM llm_usage_logs TABLESAMPLE SYSTEM (0.05) REPEATABLE (7) WHERE tenant_id IN (SELECT tenant_id FROM scale_wheel)
"""

_WINDOWS = """
INSERT INTO billing_windows (id, scope_kind, scope_id, period, starts_on, spent, held, granted, expires_at)
SELECT kind || ':' || scope || ':' || period || ':' || starts_on, kind, scope, period, starts_on, sum(usd), 0, NULL,
 NULL
FROM (
  SELECT tenant_id, key_id, config_id, billing_day, sum(budget_usd) AS usd
  FROM (SELECT tenant_id, key_id, config_id, billing_day, budget_usd FROM llm_usage_logs
   UNION ALL SELECT tenant_id, key_id, config_id, billing_day, budget_usd FROM billing_adjustments) every
  GROUP BY 1, 2, 3, 4
) spent
CROSS JOIN LATERAL (VALUES ('tenant', tenant_id), ('key', key_id), ('config', config_id)) s (kind, scope)
CROSS JOIN LATERAL (
  VALUES ('day', billing_day), ('month', date_trunc('month', billing_day)::date)
) p (period, starts_on)
WHERE scope IS NOT NULL AND tenant_id IN (SELECT tenant_id FROM scale_wheel)
GROUP BY kind, scope, period, starts_on
"""


class Filling:
    """A year of rows, oldest first, as a gateway would have written them."""

    def __init__(self, database: Any, number: int, say: Any) -> None:
        self.database, self.number, self.say = database, number, say
        self.took: dict[str, float] = {}

    def run(self) -> None:
        self.database.execute("SET synchronous_commit = off")
        self.database.execute("SET work_mem = '128MB'")
        with self.timed("usage rows"), self._without_indexes():
            self._rows()
        with self.timed("adjustments and windows"):
            self.database.execute(_ADJUSTMENTS)
            self.database.execute(_WINDOWS)
        self.database.execute("DELETE FROM billing_rolled_days")  # demo_data's, which speak of its requests alone
        self.database.execute("DROP TABLE scale_wheel, scale_templates")

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.took[what] = time.perf_counter() - began
        self.say(f"{what}: {self.took[what]:,.0f} s")

    @contextmanager
    def _without_indexes(self) -> Iterator[None]:
        """But for the primary key: they are built afterwards, in a fifth of the time."""
        found = self.database.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'llm_usage_logs' AND indexname !~ 'pkey'"
        ).fetchall()
        for name, _ in found:
            self.database.execute(f'DROP INDEX "{name}"')
        yield
        self.database.execute("SET maintenance_work_mem = '1GB'")
        with self.timed("its indexes"):
            for _, definition in found:
                self.database.execute(definition)

    def _rows(self) -> None:
        columns = self.database.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'llm_usage_logs' ORDER BY 1"
        ).fetchall()
        copied = [name for (name,) in columns if name not in OWN]
        statement = _DAY.format(copied=", ".join(copied), copied_t=", ".join(f"t.{name}" for name in copied))
        [(slots,)] = self.database.execute("SELECT count(*) FROM scale_wheel").fetchall()
        now = datetime.now(UTC)
        weights = [GROWS ** (day / DAYS) for day in range(DAYS)]
        done = 0
        for day, weight in enumerate(weights):
            begins = now - timedelta(days=DAYS - day)
            number = round(self.number * weight / sum(weights))
            if day == DAYS - 1:
                number = self.number - done
            self.database.execute(statement, {"begins": begins, "number": number, "slots": slots})
            done += number
            if day % 30 == 29:
                self.say(f"{done:,} of {self.number:,} rows")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
