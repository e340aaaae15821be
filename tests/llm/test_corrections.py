"""A wrong price found later: what a run proposes, to the last digit, who decides, and what is booked exactly once."""

import json
import random
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from billing import adjustments, granting, rollup, rows
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
    made = Adjustment.objects.filter(request_id=request.pk)
    found = [
        sum((getattr(row, name) for row in made), usd(0)) for name in ("cost_total_usd", "billed_usd", "budget_usd")
    ]
    return found[0], found[1], found[2]


class Killed(Exception):
    """In the middle of a batch."""


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


def test_what_cannot_be_priced_again_is_counted_and_left_alone(
    model: LLMModel, people: dict[str, int], books: Books
) -> None:
    at = NOW - timedelta(days=2)
    sell(books, model, COUNTS, at=at)
    sell(books, model, COUNTS, at=at, terms=Terms(more={"price_lines": []}))
    sell(books, model, {**COUNTS, "audio_input": 5}, at=at)
    sell(books, model, {"input": 9}, at=at, terms=Terms(more={"terms": {"markup_percent": "9"}}))  # it says otherwise
    nothing = {"price_lines": [], "cost_total_usd": usd(0), "billed_usd": usd(0), "budget_usd": usd(0)}
    sell(books, model, {"input": 1}, at=at, terms=Terms(more=nothing))  # failed before content: it cost nothing
    sell(books, model, COUNTS, at=NOW - timedelta(days=1, seconds=1))
    sell(books, model, COUNTS, at=NOW - timedelta(days=1))  # at `to`: not any more
    mini = cast.make_model(model.provider, "mini", input="25", output="100")
    sell(books, mini, COUNTS, at=at)
    # `search` falls back to nothing, and the right price does not name it.
    cast.make_price(model, since=NOW - timedelta(hours=3), input="25", output="100", search="1")
    sell(books, model, {**COUNTS, "search": 1}, at=NOW - timedelta(hours=1))
    run = propose(model, people, until=NOW - timedelta(days=1))
    assert (run.requests, run.affected, run.no_lines, run.no_meter, run.no_terms) == (6, 3, 1, 0, 1)
    late = propose(model, people, version_id=PriceVersion.objects.get(model=model, number=2).pk, since=None)
    assert (late.since, late.requests, late.affected, late.no_meter) == (NOW - timedelta(hours=3), 1, 0, 1)
    decide(corrections.approve, run, people)
    assert Adjustment.objects.count() == 3
    assert_books_agree()


def test_a_request_is_corrected_at_the_service_tier_it_was_billed_at(
    model: LLMModel, people: dict[str, int], books: Books
) -> None:
    cast.make_price(model, since=NOW - timedelta(hours=3), input="25", output="100")
    row = sell(books, model, COUNTS, at=NOW - timedelta(hours=2))
    flex = [line | {"service_tier": "flex"} for line in row.price_lines]
    sell(books, model, COUNTS, at=NOW - timedelta(hours=1), terms=Terms(more={"price_lines": flex}))
    components = [Component(meter, Decimal(amount)) for meter, amount in RIGHT.items()]
    plain = propose(model, people, components=components)
    assert (plain.requests, plain.affected, plain.no_meter) == (2, 1, 1)  # it has no price of flex
    tiers = [*components, Component("input", Decimal(1), 0, "flex"), Component("output", Decimal(4), 0, "flex")]
    run = propose(model, people, components=tiers)
    assert (run.requests, run.affected, run.no_meter) == (2, 2, 0)
    assert run.cost_usd == RIGHT_COST - WRONG_COST + usd("0.003") - WRONG_COST


def test_adjustments_by_hand_are_counted_and_whatever_changes_meanwhile_is_looked_at_again(
    model: LLMModel, people: dict[str, int], books: Books
) -> None:
    requests = [sell(books, model, COUNTS, at=NOW - timedelta(days=2)) for _ in range(3)]

    def by_hand(row: UsageRecord, billed: str) -> None:
        wish = adjustments.Correction(billed=usd(billed), cost=usd(billed), reason="by hand", request_id=row.pk)
        adjustments.enter(tenant=books.tenant, correction=wish, actor=actor("grace"), now=NOW)

    by_hand(requests[0], "-0.05")
    run, overlapping = propose(model, people), propose(model, people)
    assert (run.affected, run.adjusted) == (3, 1)
    assert run.tenants[0]["adjusted_requests"] == 1
    by_hand(requests[1], "-0.0675")
    with pytest.raises(Conflict) as refused:
        decide(corrections.approve, run, people)
    assert (refused.value.code, Adjustment.objects.count()) == ("correction_base_changed", 2)
    run = corrections.work_out_again(run_id=run.pk, actor=actor("ada"), now=NOW)
    assert (run.state, run.requests, run.affected, run.adjusted) == ("pending", 3, 2, 1)
    # Approved, but not booked yet: another one of the model waits for it.
    CorrectionRun.objects.filter(pk=run.pk).update(state="approved", decided_at=NOW, decided_by=people["grace"])
    with pytest.raises(Conflict) as refused:
        decide(corrections.approve, overlapping, people)
    assert refused.value.code == "correction_under_way"
    with pytest.raises(IntegrityError), transaction.atomic():  # nor would the database have it
        CorrectionRun.objects.filter(pk=overlapping.pk).update(state="approved")
    by_hand(requests[2], "-0.01")  # in this very moment
    corrections.book(run.pk, now=NOW)
    run.refresh_from_db()
    assert (run.state, run.booked, run.passed_over) == ("booked", 1, 1)
    with pytest.raises(Conflict) as refused:
        decide(corrections.approve, overlapping, people)
    assert refused.value.code == "correction_base_changed"
    overlapping = corrections.work_out_again(run_id=overlapping.pk, actor=actor("ada"), now=NOW)
    assert (overlapping.affected, overlapping.billed_usd) == (1, RIGHT_COST - WRONG_COST + usd("0.01"))
    decide(corrections.approve, overlapping, people)
    assert [of(row)[1] for row in requests] == [RIGHT_COST - WRONG_COST] * 3
    assert_books_agree()


def test_killed_between_any_two_pages_and_batches_the_rest_is_done_exactly_once(
    model: LLMModel, people: dict[str, int], books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an exception here; by `kill -9` in tests/faults/test_correction_kills.py."""
    for second in range(7):
        sell(books, model, COUNTS, at=NOW - timedelta(days=2, seconds=second // 2))  # some in the same moment
    for module, name, value in ((repricing, "PAGE", 3), (corrections, "BATCH", 2), (recosting, "AT_ONCE", -1)):
        monkeypatch.setattr(module, name, value)
    run = propose(model, people)
    assert (run.state, run.requests, corrections.unfinished()) == ("working", 0, [run.pk])
    with pytest.raises(Conflict) as refused:
        decide(corrections.approve, run, people)
    assert refused.value.code == "correction_not_ready"
    for seen in (3, 6, 7):
        repricing.go_on(run.pk, at_most=0)
        run.refresh_from_db()
        assert (run.requests, run.affected, run.items.count()) == (seen, seen, seen)
    assert (run.state, run.billed_usd, corrections.unfinished()) == ("pending", 7 * (RIGHT_COST - WRONG_COST), [])
    run = decide(corrections.approve, run, people)
    assert (run.state, run.booked) == ("approved", 0)
    insert = rows.CORRECTIONS.insert

    def dies(*words: Any) -> None:
        insert(*words)
        raise Killed

    for booked in (2, 4, 6):
        with monkeypatch.context() as dying:
            dying.setattr(rows.CORRECTIONS, "insert", dies)
            with pytest.raises(Killed):
                corrections.book(run.pk, now=NOW)
        assert Adjustment.objects.count() == booked - 2
        corrections.book(run.pk, now=NOW, at_most=0)
        run.refresh_from_db()
        assert (run.booked, Adjustment.objects.count(), books.window()[0]) == (
            booked, booked, 7 * WRONG_COST + booked * (RIGHT_COST - WRONG_COST),
        )  # fmt: skip
        assert_books_agree()
    for _ in range(2):
        corrections.go_on(run.pk, now=NOW)
    run.refresh_from_db()
    assert (run.state, run.booked, Adjustment.objects.count()) == ("booked", 7, 7)
    # Had the run forgotten how far it was, its adjustments would say; and the database would not take another one.
    CorrectionRun.objects.filter(pk=run.pk).update(state="approved", booked_to=None)
    corrections.book(run.pk, now=NOW)
    run.refresh_from_db()
    assert (run.state, run.booked, run.passed_over, Adjustment.objects.count()) == ("booked", 7, 0, 7)
    share = adjustments.Share(
        request_id=run.items.all()[0].request_id, cost=usd(1), billed=usd(1), budget=usd(1), seen=1
    )
    with pytest.raises(IntegrityError), transaction.atomic():
        adjustments.book(run=adjustments.Run(id=run.pk, reason="x", author="x"), shares=[share], now=NOW)
    assert Adjustment.objects.count() == 7
    assert_books_agree()


def test_what_makes_no_sense_gets_the_answers_of_the_price_book(
    model: LLMModel, people: dict[str, int], books: Books
) -> None:
    sell(books, model, COUNTS, at=NOW - timedelta(days=2))
    other = cast.make_model(model.provider, "mini")
    for price, rest, param in (
        ({"input": "-1", "output": "1"}, {}, "components"),
        ({"input": "1"}, {}, "components"),
        ({"input": "1", "output": "1e9"}, {}, "components"),
        ({"input": "1", "output": "0.00000000001"}, {}, "components"),
        (RIGHT, {"since": None}, "from"),
        (RIGHT, {"since": NOW}, "from"),
        (RIGHT, {"until": NOW + timedelta(seconds=1)}, "to"),
        (RIGHT, {"reason": " "}, "reason"),
    ):
        with pytest.raises(InvalidValue) as refused:
            propose(model, people, price, **rest)
        assert refused.value.param == param
    gap = [Component("input", usd(1)), Component("output", usd(1)), Component("input", usd(1), 0, "priority")]
    with pytest.raises(InvalidValue):
        propose(model, people, components=gap)
    for price in (RIGHT, {"input": "0", "output": "100"}):  # ten times off, and free
        with pytest.raises(Conflict) as conflict:
            propose(model, people, price, confirm=False)
        assert (conflict.value.code, conflict.value.param) == ("price_change_unconfirmed", "confirm")
    with pytest.raises(NotFound):
        propose(model, people, version_id=PriceVersion.objects.get(model=other).pk)
    assert CorrectionRun.objects.count() == 0
    free = propose(model, people, {"input": "0", "output": "0"}, confirm=True)  # an explicit zero is zero
    assert free.billed_usd == -WRONG_COST


def test_two_people_decide_and_every_step_is_in_the_audit_log(
    model: LLMModel, people: dict[str, int], books: Books
) -> None:
    sell(books, model, COUNTS, at=NOW - timedelta(days=2))
    run = propose(model, people)
    for verb in (corrections.approve, corrections.reject):
        with pytest.raises(PermissionDenied) as refused:
            decide(verb, run, people, by="ada")
        assert refused.value.code == "second_person_required"
    with pytest.raises(IntegrityError), transaction.atomic():  # the database would not have it either
        CorrectionRun.objects.filter(pk=run.pk).update(state="approved", decided_by=people["ada"])
    assert decide(corrections.reject, run, people).state == "rejected"
    for verb in (corrections.approve, corrections.reject):
        with pytest.raises(Conflict) as conflict:
            decide(verb, run, people)
        assert conflict.value.code == "correction_decided"
    dropped = propose(model, people)
    assert corrections.cancel(run_id=dropped.pk, reason="typo", actor=actor("ada"), now=NOW).state == "cancelled"
    assert Adjustment.objects.count() == 0
    decide(corrections.approve, propose(model, people), people)
    events = AuditEvent.objects.filter(object_type="llm.CorrectionRun").order_by("pk")
    assert list(events.values_list("action", "actor_label", "reason")) == [
        ("propose", "ada", "priced per thousand"), ("reject", "grace", "checked"),
        ("propose", "ada", "priced per thousand"), ("cancel", "ada", "typo"),
        ("propose", "ada", "priced per thousand"), ("approve", "grace", "checked"),
        ("book", "correction run", "checked"),
    ]  # fmt: skip
    last = events.last()
    assert last is not None
    assert (last.after["state"], last.after["booked"], last.before["state"]) == ("booked", 1, "approved")


def test_a_finalised_month_stays_as_it_is_and_the_open_one_takes_its_corrections(
    model: LLMModel, people: dict[str, int], books: Books
) -> None:
    october = datetime(2026, 10, 20, tzinfo=UTC)
    then = [sell(books, model, COUNTS, at=october) for _ in range(2)]
    now = sell(books, model, COUNTS, at=NOW - timedelta(days=1))
    closing.finalise(tenant=books.tenant, month=date(2026, 10, 1), actor=actor("grace"), now=NOW)
    before = state()
    decide(corrections.approve, propose(model, people), people)
    assert state() == before  # the statement's document with it
    assert {row.request_id: row.billing_day for row in Adjustment.objects.all()} == {
        **{row.pk: date(2026, 11, 1) for row in then}, now.pk: date(2026, 11, 21),
    }  # fmt: skip
    assert closing.verify(Statement.objects.get()) == []
    months = BudgetWindow.objects.filter(scope_kind="tenant", period="month").order_by("starts_on")
    assert list(months.values_list("spent", flat=True)) == [2 * WRONG_COST, 3 * RIGHT_COST - 2 * WRONG_COST]
    document = json.loads(closing.document(tenant=books.tenant, month=date(2026, 11, 1), now=NOW))
    assert Decimal(document["totals"]["billed_usd"]) == 3 * RIGHT_COST - 2 * WRONG_COST
    assert_books_agree()


def test_a_blocked_tenant_is_free_at_once(model: LLMModel, people: dict[str, int]) -> None:
    books = Books({"tenant": ("0.08", None)})
    sell(books, model, COUNTS, at=NOW)
    with pytest.raises(BudgetExceeded):
        a_ledger().do(books.ask("0.01"))
    run = propose(model, people, until=None, since=NOW - timedelta(hours=1))
    assert run.affected == 0  # accepted at this very moment, which `to` leaves out
    soon = NOW + timedelta(seconds=1)
    wish = corrections.Wish(
        components=[Component("input", usd("2.5")), Component("output", usd("10"))], reason="x", confirm=True,
        since=NOW, person_id=people["ada"],
    )  # fmt: skip
    run = corrections.propose(model=model, wish=wish, actor=actor("ada"), now=soon)
    decide(corrections.approve, run, people)
    a_ledger().do(books.ask("0.01"))
    assert_books_agree()


def test_a_model_that_was_renamed_is_found_under_its_former_name_too(
    model: LLMModel, people: dict[str, int], books: Books
) -> None:
    then = sell(books, model, COUNTS, at=NOW - timedelta(days=3))
    rollup.roll_up_day(day=then.billing_day, now=NOW)
    LLMModel.objects.filter(pk=model.pk).update(model_id="gpt-4o-2024")
    model.refresh_from_db()
    sell(books, model, COUNTS, at=NOW - timedelta(days=1))
    run = propose(model, people)
    assert (run.reference, run.affected) == ("openai/gpt-4o-2024", 2)
