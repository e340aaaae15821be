"""A wrong price found later: what a run proposes, to the last digit, who decides, and what is booked exactly once."""

import random
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from billing import adjustments, granting
from billing.errors import BudgetExceeded
from billing.models import Adjustment, BudgetWindow, UsageRecord
from billing.statement_models import Statement
from billing.statements import closing
from llm.catalog import corrections, recosting, repricing
from llm.catalog.components import Component
from llm.models import CorrectionRun, LLMModel, PriceVersion
from tenants import audit
from tenants.errors import Conflict, InvalidValue, NotFound, PermissionDenied
from tenants.models import AuditEvent
from tests import cast
from tests.billing.books import Books, a_ledger, assert_books_agree, usd
from tests.llm.selling import Terms, half_up, sell

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SINCE = NOW - timedelta(days=40)
RIGHT = {"input": "2.5", "output": "10", "cache_read": "1.25"}
COUNTS = {"input": 1000, "output": 500}
WRONG_COST, RIGHT_COST = usd("0.075"), usd("0.0075")  # of COUNTS


@pytest.fixture
def model(db: None) -> LLMModel:
    """Ten times too dear since always."""
    return cast.make_model(cast.make_provider("openai"), "gpt-4o", input="25", output="100")


@pytest.fixture
def people(db: None) -> dict[str, int]:
    """Ada proposes, Grace decides."""
    return {name: cast.make_staff(name)[0].pk for name in ("ada", "grace")}


@pytest.fixture
def books(db: None) -> Books:
    return Books()


def actor(name: str) -> audit.Actor:
    return audit.Actor(kind="user", id=name, label=name)


def propose(model: LLMModel, people: dict[str, int], price: Mapping[str, str] | None = None, **rest: Any) -> Any:
    components = [Component(meter, Decimal(amount)) for meter, amount in (price or RIGHT).items()]
    wish = {"components": components, "reason": "priced per thousand", "since": SINCE, "confirm": True} | rest
    return corrections.propose(
        model=model, wish=corrections.Wish(**wish, person_id=people["ada"]), actor=actor("ada"), now=NOW
    )


def decide(verb: Any, run: CorrectionRun, people: dict[str, int], *, by: str = "grace") -> CorrectionRun:
    decision = corrections.Decision(reason="checked", person_id=people[by])
    decided: CorrectionRun = verb(run_id=run.pk, decision=decision, actor=actor(by), now=NOW)
    return decided


def of(request: UsageRecord) -> tuple[Decimal, Decimal, Decimal]:
    """What all adjustments of a request come to: cost, billed, budget."""
    rows = Adjustment.objects.filter(request_id=request.pk)
    found = [sum((getattr(row, name) for row in rows), usd(0)) for name in ("cost_total_usd", "billed_usd", "budget_usd")]
    return found[0], found[1], found[2]


def state() -> list[Any]:
    """The past, which nobody edits."""
    return [list(kind.objects.order_by("pk").values()) for kind in (UsageRecord, PriceVersion, Statement)]


def test_each_request_is_corrected_to_the_last_digit_by_its_own_terms_and_never_twice(
    model: LLMModel, people: dict[str, int], books: Books
) -> None:
    chance = random.Random(20261122)
    other = Books(slug="globex")
    granting.grant(
        tenant=other.tenant, wish=granting.NewGrant(amount=usd("900"), reason="x"), actor=actor("grace"), now=NOW
    )
    expected: dict[UsageRecord, tuple[Decimal, Decimal, Decimal]] = {}
    for number in range(60):
        counts = {meter: chance.randrange(1, 99_999) for meter in ("input", "output", "cache_read")}
        share = Decimal(chance.randrange(1, 4000)) / 10_000
        kind = ("list", "markup", "fee", "own", "prepaid")[number % 5]
        terms = {
            "list": Terms(), "markup": Terms(markup=share), "fee": Terms(fee=share, byok=True),
            "own": Terms(own_billed=usd("0.0123")), "prepaid": Terms(markup=share, prepaid=True),
        }[kind]  # fmt: skip
        row = sell(other if kind == "prepaid" else books, model, counts,
                   at=NOW - timedelta(hours=chance.randrange(1, 900)), terms=terms)  # fmt: skip
        exact = sum((Fraction(RIGHT[meter]) * count / 1_000_000 for meter, count in counts.items()), Fraction(0))
        cost = half_up(exact)
        more = half_up(Fraction(cost) * Fraction(share))
        billed, budget = {
            "list": (cost, cost), "markup": (half_up(Fraction(cost) * (1 + Fraction(share))),) * 2,
            "fee": (more, cost + more), "own": (row.billed_usd, row.budget_usd),
            "prepaid": (half_up(Fraction(cost) * (1 + Fraction(share))),) * 2,
        }[kind]  # fmt: skip
        expected[row] = (cost - row.cost_total_usd, billed - row.billed_usd, budget - row.budget_usd)
    before, balance = state(), granting.picture(tenant_id=other.tenant.pk, now=NOW).account.balance
    run = propose(model, people)
    assert (run.state, run.requests, run.affected, run.adjusted, run.left_alone) == ("pending", 60, 60, 0, 0)
    totals = [sum((one[column] for one in expected.values()), usd(0)) for column in range(3)]
    assert [run.cost_usd, run.billed_usd, run.budget_usd] == totals
    by_tenant = {one["tenant"]: one for one in run.tenants}
    assert {slug: one["requests"] for slug, one in by_tenant.items()} == {"acme": 48, "globex": 12}
    prepaid = sum((one[1] for row, one in expected.items() if row.is_prepaid), usd(0))
    assert Decimal(by_tenant["globex"]["billed_usd"]) == prepaid
    assert Adjustment.objects.count() == 0
    run = decide(corrections.approve, run, people)
    assert (run.state, run.booked, run.passed_over) == ("booked", 60, 0)
    assert {row: of(row) for row in expected} == expected
    [one] = Adjustment.objects.filter(request_id=next(iter(expected)).pk)
    assert (one.kind, one.reason, one.author, one.correction_id) == (
        "staff", "priced per thousand", "ada, grace", run.pk,
    )  # fmt: skip
    assert granting.picture(tenant_id=other.tenant.pk, now=NOW).account.balance == balance - prepaid
    assert state() == before
    assert_books_agree()
    again = propose(model, people)
    assert (again.requests, again.affected) == (60, 0)
    # Another price over a part of it: compared with what was set right already.
    half = propose(model, people, {"input": "5", "output": "20", "cache_read": "2.5"}, since=NOW - timedelta(days=10))
    decide(corrections.approve, half, people)
    for row, before_it in expected.items():
        twice = half.since <= row.created_at
        double = row.cost_total_usd + before_it[0]
        assert abs(of(row)[0] - before_it[0] - (double if twice else 0)) <= usd("1e-10")
    assert_books_agree()
