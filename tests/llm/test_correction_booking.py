"""In which order a long correction run is booked, and who is asked to: what frees somebody comes first."""

from datetime import timedelta
from typing import Any

import pytest
from celery import current_app

from billing import adjustments
from billing.errors import BudgetExceeded
from billing.models import Adjustment, UsageRecord
from llm.catalog import corrections, recosting, repricing
from llm.models import CorrectionRun, LLMModel, RouteRefusal
from tests import cast
from tests.billing.books import Books, a_ledger, assert_books_agree, usd
from tests.llm.selling import sell
from tests.llm.test_corrections import COUNTS, NOW, actor, decide, propose

pytestmark = pytest.mark.django_db


@pytest.fixture
def model(db: None) -> LLMModel:
    """Ten times too dear since always."""
    return cast.make_model(cast.make_provider("openai"), "gpt-4o", input="25", output="100")


@pytest.fixture
def people(db: None) -> dict[str, int]:
    """Ada proposes, Grace decides."""
    return {name: cast.make_staff(name)[0].pk for name in ("ada", "grace")}


def waiting_in_a_long_run(
    model: LLMModel, people: dict[str, int], monkeypatch: pytest.MonkeyPatch, *, minutes: int, requests: int = 6
) -> tuple[Books, CorrectionRun]:
    """A tenant that its budget of today blocks, `minutes` before the many requests of another; and a run of all of it
    that is worked out. Two requests are booked while somebody waits."""
    for module, name, value in ((recosting, "AT_ONCE", 0), (corrections, "BATCH", 2)):
        monkeypatch.setattr(module, name, value)
    big, small = Books(slug="big"), Books({"tenant": ("0.1", None)}, slug="small")
    sell(big, model, COUNTS, at=NOW - timedelta(days=30))
    for second in range(requests):
        sell(big, model, COUNTS, at=NOW - timedelta(hours=3, seconds=second))
    sell(small, model, COUNTS, at=NOW - timedelta(hours=3, minutes=minutes))
    run = propose(model, people)
    repricing.go_on(run.pk)
    with pytest.raises(BudgetExceeded):
        a_ledger().do(small.ask("0.05", now=NOW))
    return small, run


def test_a_tenant_that_was_refused_for_money_is_free_at_once_however_long_the_run(
    model: LLMModel, people: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, run = waiting_in_a_long_run(model, people, monkeypatch, minutes=30)
    RouteRefusal.objects.create(
        tenant_id=small.tenant.pk, status_code=429, code="insufficient_quota", created_at=NOW - timedelta(hours=1)
    )
    run = decide(corrections.approve, run, people)
    assert (run.state, run.booked, run.affected) == ("approved", 1, 8)
    a_ledger().do(small.ask("0.05", now=NOW))
    for _ in range(2):
        corrections.go_on(run.pk, now=NOW)
    run.refresh_from_db()
    assert (run.state, run.booked, run.passed_over, Adjustment.objects.count()) == ("booked", 8, 0, 8)
    assert_books_agree()


def test_what_counts_in_budgets_that_are_open_is_booked_before_what_is_past(
    model: LLMModel, people: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, run = waiting_in_a_long_run(model, people, monkeypatch, minutes=-30)
    run = decide(corrections.approve, run, people)
    assert (run.state, run.booked) == ("approved", 2)
    a_ledger().do(small.ask("0.05", now=NOW))
    corrections.book(run.pk, now=NOW, at_most=2)
    assert Adjustment.objects.count() == 6
    days = Adjustment.objects.order_by().values_list("billing_day", flat=True).distinct()
    assert list(days) == [NOW.date()]
    corrections.go_on(run.pk, now=NOW)
    run.refresh_from_db()
    assert (run.state, run.booked, run.passed_over) == ("booked", 8, 0)
    assert_books_agree()


def test_what_somebody_else_corrected_is_passed_over_once_also_where_it_came_first(
    model: LLMModel, people: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, run = waiting_in_a_long_run(model, people, monkeypatch, minutes=30)
    monkeypatch.setattr(recosting, "AT_ONCE", -1)
    run = decide(corrections.approve, run, people)
    row = UsageRecord.objects.get(tenant_id=small.tenant.pk)
    wish = adjustments.Correction(billed=usd("-0.01"), reason="by hand", request_id=row.pk)
    adjustments.enter(tenant=small.tenant, correction=wish, actor=actor("grace"), now=NOW)
    corrections.go_on(run.pk, now=NOW)
    run.refresh_from_db()
    assert (run.state, run.booked, run.passed_over) == ("booked", 7, 1)
    assert_books_agree()


def test_a_worker_goes_on_at_once_with_what_is_left(
    model: LLMModel, people: dict[str, int], monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any, settings: Any,
) -> None:  # fmt: skip
    settings.CELERY_TASK_ALWAYS_EAGER = True
    _, run = waiting_in_a_long_run(model, people, monkeypatch, minutes=30)
    with django_capture_on_commit_callbacks(execute=True) as asked:
        decide(corrections.approve, run, people)
    run.refresh_from_db()
    assert (len(asked), run.state, run.booked) == (1, "booked", 8)
    with django_capture_on_commit_callbacks(execute=True) as asked:
        propose(model, people, since=NOW - timedelta(minutes=1))
    assert asked == []  # nothing is left of it to do


def test_a_queue_that_is_away_leaves_the_rest_to_the_job_of_every_minute(
    model: LLMModel, people: dict[str, int], monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    monkeypatch.setattr(current_app.amqp, "_producer_pool", None)
    monkeypatch.setattr(current_app.conf, "broker_write_url", "amqp://guest:guest@127.0.0.1:1//")
    _, run = waiting_in_a_long_run(model, people, monkeypatch, minutes=30)
    with django_capture_on_commit_callbacks(execute=True) as asked:
        run = decide(corrections.approve, run, people)
    assert (len(asked), run.state, corrections.unfinished()) == (1, "approved", [run.pk])
