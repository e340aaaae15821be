"""`kill -9` of whoever works out and books a correction run, at every point: the rest is done, exactly once."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection, connections

from billing.models import Adjustment
from llm.catalog import corrections, recosting
from llm.catalog.components import Component
from llm.models import CorrectionRun
from tenants import audit
from tests import cast
from tests.billing.books import Books, assert_books_agree
from tests.billing.test_statements import _postgres_url
from tests.faults.books import ROOT
from tests.faults.correcting import BATCH, PAGE, POINTS
from tests.llm.selling import sell

REQUESTS = 4 * PAGE + 1
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def die_at(run: CorrectionRun, *points: str) -> list[str]:
    """What became of the workers, one after another."""
    name = connection.settings_dict["NAME"]
    url = f"sqlite:///{name}" if connection.vendor == "sqlite" else _postgres_url()
    connections.close_all()
    environment = {**os.environ, "DATABASE_URL": url, "PYTHONPATH": f"{ROOT}:{ROOT}/platform",
                   "DJANGO_SETTINGS_MODULE": "tollgate.settings"}  # fmt: skip
    command = [sys.executable, "-m", "tests.faults.correcting", str(run.pk), *points]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.django_db(transaction=True)
def test_killed_at_every_point_the_rest_is_worked_out_and_booked_exactly_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recosting, "AT_ONCE", -1)  # all of it is left to the workers
    books = Books()
    model = cast.make_model(cast.make_provider("openai"), "gpt-4o", input="25", output="100")
    for second in range(REQUESTS):
        sell(books, model, {"input": 1000}, at=NOW - timedelta(hours=1, seconds=second))
    ada, grace = (cast.make_staff(name)[0].pk for name in ("ada", "grace"))
    price = [Component("input", Decimal("2.5")), Component("output", Decimal(10))]
    wish = corrections.Wish(components=price, reason="x", since=NOW - timedelta(days=1), confirm=True, person_id=ada)
    run = corrections.propose(model=model, wish=wish, actor=audit.system("x"), now=NOW)
    points = [point for point in POINTS if point.startswith("work out")]
    assert die_at(run, *points) == [f"{point}: killed" for point in points]
    run.refresh_from_db()
    assert (run.state, run.requests, run.items.count()) == ("working", 2 * PAGE, 2 * PAGE)
    corrections.go_on(run.pk, now=NOW)
    run.refresh_from_db()
    assert (run.state, run.requests, run.affected, run.items.count()) == ("pending", *(REQUESTS,) * 3)
    decision = corrections.Decision(reason="x", person_id=grace)
    run = corrections.approve(run_id=run.pk, decision=decision, actor=audit.system("x"), now=NOW)
    assert run.booked == 0
    points = [point for point in POINTS if point.startswith("book")]
    assert die_at(run, *points) == [f"{point}: killed" for point in points]
    # What was committed before each death: nothing, one batch, one batch.
    run.refresh_from_db()
    assert (run.state, run.booked, Adjustment.objects.count()) == ("approved", 2 * BATCH, 2 * BATCH)
    assert_books_agree()
    for _ in range(2):
        corrections.go_on(run.pk, now=NOW)
    run.refresh_from_db()
    assert (run.state, run.booked, run.passed_over) == ("booked", REQUESTS, 0)
    assert Adjustment.objects.values("request_id").distinct().count() == Adjustment.objects.count() == REQUESTS
    assert books.window()[0] == REQUESTS * Decimal("0.0025")
    assert_books_agree()
