"""What reserve and settle cost in this database: CPU of this process and of its PostgreSQL backend, per request.

python -m bench.scale.pace SECONDS      one tenant, key and config with budgets, batches of eight; prints JSON
"""

import json
import sys
import time
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

BATCH = 8
AMOUNT = Decimal("0.0125")


def main() -> None:
    import django

    django.setup()
    from django.db import connection, transaction

    from billing.ledger import Ledger, Reserve, Settle
    from billing.models import UsageRecord
    from tenants.ids import uuid7
    from tests import cast

    tenant = cast.make_tenant(f"pace-{uuid.uuid4().hex[:8]}", budget_limit_daily="1000000")
    key, _ = cast.make_key(tenant, budget_limit_daily="1000000", budget_limit_monthly="1000000")
    template = UsageRecord.objects.order_by("-pk").first()
    facts: dict[str, Any] = {} if template is None else {**template.__dict__}
    facts.pop("_state", None)
    ledger = Ledger()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [backend] = cursor.fetchone()

    def asked(now: datetime) -> Reserve:
        return Reserve(
            request_id=uuid7(), tenant_id=tenant.pk, key_id=key.pk, config_id=None, timezone="UTC", amount=AMOUNT,
            facts={}, now=now,
        )  # fmt: skip

    def turn() -> None:
        now = datetime.now(UTC)
        with transaction.atomic(durable=True):
            holds = ledger.apply([asked(now) for _ in range(BATCH)])
        with transaction.atomic(durable=True):
            ledger.apply([Settle(hold=hold, usage=usage(hold, now), now=now) for hold in holds])

    def usage(hold: Any, now: datetime) -> dict[str, Any]:
        mine = {"id": hold.request_id, "tenant_id": tenant.pk, "key_id": key.pk, "billing_day": hold.billing_day}
        return {**facts, **mine, "created_at": now, "budget_usd": AMOUNT, "billed_usd": AMOUNT}

    for _ in range(20):
        turn()
    until, began, ours, theirs, number = time.perf_counter() + float(sys.argv[1]), time.perf_counter(), 0.0, 0.0, 0
    ours, theirs = time.process_time(), _cpu(backend)
    while time.perf_counter() < until:
        turn()
        number += BATCH
    said = {
        "requests/s": number / (time.perf_counter() - began),
        "us of ours": (time.process_time() - ours) / number * 1e6,
        "us of PostgreSQL": (_cpu(backend) - theirs) / number * 1e6,
    }
    sys.stdout.write(json.dumps({name: round(value) for name, value in said.items()}) + "\n")


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, by its scheduler's account."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


if __name__ == "__main__":
    main()
