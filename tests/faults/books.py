"""The database of a storm: made, filled, read from outside while it is written, audited, and dropped.

python -m tests.faults.books prepare PROVIDER_URL     migrate, make tenant, model, price and keys; print them as JSON
python -m tests.faults.books audit                    print every difference that `reconcile` finds, as JSON
python -m tests.faults.books grant USD [SECONDS]      give the tenant credit, that may expire, and make it prepaid
"""

import json
import os
import subprocess
import sys
import tempfile
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
INPUT, OUTPUT = Decimal("2.5"), Decimal(10)  # USD per million tokens
KEYS = 4


class Books:
    """A scratch database, SQLite or PostgreSQL, and what the audit of a storm asks of it in plain SQL."""

    def __init__(self, admin_url: str | None) -> None:
        """`admin_url`: a PostgreSQL where databases may be made; None is SQLite."""
        self.folder = tempfile.TemporaryDirectory(prefix="tollgate-storm-")
        self.postgres = admin_url is not None
        self.name = f"storm_{uuid.uuid4().hex[:10]}"
        self._admin = admin_url or ""
        self.url = self._postgres_url() if self.postgres else f"sqlite:///{self.folder.name}/storm.sqlite3"

    def _postgres_url(self) -> str:
        parts = urlsplit(self._admin)
        return parts._replace(path=f"/{self.name}").geturl()

    def __enter__(self) -> "Books":
        if self.postgres:
            self._on_admin(f'CREATE DATABASE "{self.name}"')
        return self

    def __exit__(self, *_: object) -> None:
        if self.postgres:
            self._on_admin(f'DROP DATABASE "{self.name}" WITH (FORCE)')
        self.folder.cleanup()

    def _on_admin(self, statement: str) -> None:
        with connect(self._admin) as admin:
            admin.execute(statement)

    @property
    def environment(self) -> dict[str, str]:
        """Of every process of the storm."""
        inherited = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
        return inherited | {
            "TOLLGATE_ENV": "development",
            "TOLLGATE_DATA_DIR": f"{self.folder.name}/var",
            "DATABASE_URL": self.url,
            "DJANGO_SETTINGS_MODULE": "tollgate.settings",
            "PYTHONPATH": f"{ROOT}:{ROOT}/platform",
            "LOG_LEVEL": "ERROR",
            "MAX_LOOP_DELAY_S": os.environ.get("MAX_LOOP_DELAY_S", "10"),  # clients and providers share the machine
        }

    def run(self, *arguments: str) -> Any:
        """This module as a program on the scratch database."""
        return json.loads(self.program("-m", "tests.faults.books", *arguments))

    def program(self, *arguments: str) -> str:
        """Python with these arguments on the scratch database; the last line it prints. Raises RuntimeError."""
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr[-3000:])
        return done.stdout.strip().splitlines()[-1]

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a read-only question, on a fresh connection."""
        if self.postgres:
            with connect(self.url) as database:
                return database.execute(statement).fetchall()
        import sqlite3

        database = sqlite3.connect(f"file:{self.folder.name}/storm.sqlite3?mode=ro", uri=True, timeout=20)
        try:
            return database.execute(statement).fetchall()
        finally:
            database.close()

    def usd(self, value: Any) -> Decimal:
        """An amount as this database keeps it."""
        if value is None:
            return Decimal(0)
        return Decimal(value) if self.postgres else Decimal(value).scaleb(-10)

    def standing(self) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """(spent, held) of the tenant's day by its window, and by its rows themselves: one statement, one moment."""
        [(spent, held, used, adjusted, on_hold)] = self.query(_STANDING)
        return self.usd(spent), self.usd(held), self.usd(used) + self.usd(adjusted), self.usd(on_hold)

    def credit(self) -> tuple[Decimal, Decimal, Decimal, Decimal, Decimal]:
        """Of prepaid credit (granted, spent, held) by its window, and (drawn, held) by the rows: one moment."""
        [row] = self.query(_CREDIT)
        granted, spent, held, drawn, adjusted, on_hold = map(self.usd, row)
        return granted, spent, held, drawn + adjusted, on_hold

    def held(self) -> tuple[int, Decimal]:
        [(count, held)] = self.query(
            "SELECT (SELECT count(*) FROM billing_holds), (SELECT sum(held) FROM billing_windows)"
        )
        return count, self.usd(held)

    def rows(self) -> dict[uuid.UUID, tuple[str, Decimal]]:
        """Of every usage row: its status and what counts against the budget."""
        found = self.query("SELECT id, status, budget_usd FROM llm_usage_logs")
        return {
            row if isinstance(row, uuid.UUID) else uuid.UUID(row): (status, self.usd(amount))
            for row, status, amount in found
        }

    def corrections(self) -> dict[uuid.UUID, Decimal]:
        """What the ledger's adjustments add to requests that were swept before their true figure was known."""
        found = self.query("SELECT request_id, sum(budget_usd) FROM billing_adjustments GROUP BY request_id")
        return {row if isinstance(row, uuid.UUID) else uuid.UUID(row): self.usd(amount) for row, amount in found if row}

    def limit(self, kind_table: str, amount: Decimal | None) -> None:
        """Set the daily limit of all tenants or keys."""
        value = "NULL" if amount is None else str(amount if self.postgres else int(amount.scaleb(10)))
        self.change(f"UPDATE {kind_table} SET budget_limit_daily = {value}")

    def change(self, statement: str) -> None:
        """Change rows from outside."""
        if self.postgres:
            with connect(self.url) as database:
                database.execute(statement)
            return
        import sqlite3

        with sqlite3.connect(f"{self.folder.name}/storm.sqlite3", timeout=20) as database:
            database.execute(statement)
        database.close()


_STANDING = """SELECT (SELECT sum(spent) FROM billing_windows WHERE scope_kind = 'tenant' AND period = 'day'),
 (SELECT sum(held) FROM billing_windows WHERE scope_kind = 'tenant' AND period = 'day'),
 (SELECT sum(budget_usd) FROM llm_usage_logs), (SELECT sum(budget_usd) FROM billing_adjustments),
 (SELECT sum(amount) FROM billing_holds)"""


_CREDIT = """SELECT granted, spent, held, (SELECT sum(billed_usd) FROM llm_usage_logs WHERE is_prepaid),
 (SELECT sum(billed_usd) FROM billing_adjustments WHERE is_prepaid), (SELECT sum(credit) FROM billing_holds)
 FROM billing_windows WHERE scope_kind = 'credit'"""


def connect(url: str) -> Any:
    import psycopg

    return psycopg.connect(url, autocommit=True)


def given_postgres() -> str:
    """The PostgreSQL of this test run as a URL that psycopg understands."""
    url = os.environ["DATABASE_URL"]
    parts = urlsplit(url)
    host = parse_qs(parts.query).get("host")
    return url if host is None else parts._replace(query=f"host={quote(host[0], safe='')}").geturl()


# --- as a program -----------------------------------------------------------------------------------------------------


def prepare(provider_url: str) -> dict[str, Any]:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from tenants.models import ApiKey
    from tests import cast

    cast.make_power_levels()
    provider = cast.make_provider("fakeai", provider_url)
    cast.make_credential(provider, "sk-storm-0123456789")
    for model in ("m", "slow"):
        cast.make_model(provider, model, input=str(INPUT), output=str(OUTPUT))
    tenant = cast.make_tenant("storm")
    secrets = [cast.make_key(tenant, name=f"key {number}")[1] for number in range(KEYS)]
    ApiKey.objects.update(max_concurrency=100_000)
    return {"tenant": str(tenant.pk), "keys": secrets}


def grant(amount: str, lasts_s: str | None = None) -> str:
    from datetime import timedelta

    from django.utils import timezone

    from billing import granting
    from tenants.audit import system
    from tenants.models import Tenant

    now = timezone.now()
    expires_at = None if lasts_s is None else now + timedelta(seconds=float(lasts_s))
    wish = granting.NewGrant(amount=Decimal(amount), reason="storm", expires_at=expires_at)
    Tenant.objects.update(prepaid=True)
    return str(granting.grant(tenant=Tenant.objects.get(), wish=wish, actor=system("storm"), now=now).pk)


def audit() -> list[str]:
    from datetime import UTC, datetime

    from billing import reconcile

    return [str(difference) for difference in reconcile.check(now=datetime.now(UTC))]


def main() -> None:
    import django

    django.setup()
    verbs: dict[str, Any] = {"prepare": prepare, "grant": grant, "audit": audit}
    made = verbs[sys.argv[1]](*sys.argv[2:])
    sys.stdout.write(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()
