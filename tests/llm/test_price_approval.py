"""Two people and a price: who may decide what, what is asked again, and what two of them do at once."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, connections, transaction

from llm.catalog import price_book, prices, proposals
from llm.catalog.prices import PriceChange
from llm.catalog.proposals import Decision
from llm.models import LLMModel, PriceProposal, PriceVersion
from tenants import audit
from tenants.errors import Conflict, InvalidValue, NotFound, PermissionDenied, TollgateError
from tenants.models import AuditEvent
from tests import cast

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
JANUARY = NOW + timedelta(days=40)


@pytest.fixture
def people(db: None) -> dict[str, int]:
    """Ada proposes, Grace decides."""
    return {name: cast.make_staff(name)[0].pk for name in ("ada", "grace")}


@pytest.fixture
def model(db: None) -> LLMModel:
    return cast.make_model(cast.make_provider("openai"), "gpt-4o", input="2.50", output="10")


def actor(name: str) -> audit.Actor:
    return audit.Actor(kind="user", id=name, label=name)


def propose(model: LLMModel, people: dict[str, int], usd: str = "3", **rest: Any) -> PriceProposal:
    components = prices.flat(input_usd=Decimal(usd), output_usd=Decimal(10), cached_usd=None)
    wanted = {"components": components, "second_person": True, "person_id": people["ada"], "reason": "announced"}
    version = prices.set_price(model=model, change=PriceChange(**{**wanted, **rest}), actor=actor("ada"), now=NOW)
    return PriceProposal.objects.get(version=version)


def decide(verb: Any, people: dict[str, int], *rows: PriceProposal, by: str = "grace", **rest: Any) -> Any:
    decision = Decision(**{"reason": "checked", "person_id": people[by], **rest})
    return verb(ids=[row.pk for row in rows], decision=decision, actor=actor(by), now=NOW)


def at(model: LLMModel, moment: datetime = NOW) -> int | None:
    version = prices.version_at(LLMModel.objects.get(pk=model.pk), moment)
    return None if version is None else version.number


def test_a_second_person_approves_and_the_price_is_in_force(model: LLMModel, people: dict[str, int]) -> None:
    row = propose(model, people)
    assert (row.state, row.proposer, row.largest_percent, at(model)) == ("pending", "ada", Decimal(20), 1)
    assert row.changes == [{"name": "input", "old": "2.5", "new": "3", "percent": "20"}]
    decide(proposals.approve, people, row)
    row.refresh_from_db()
    assert (row.state, row.decider, row.decision_reason, at(model)) == ("approved", "grace", "checked", 2)
    assert PriceVersion.objects.get(number=2).status == "active"
    events = AuditEvent.objects.filter(reason="checked").values_list("action", "object_type", "actor_label")
    assert set(events) == {("approve", "llm.PriceProposal", "grace"), ("approve", "llm.PriceVersion", "grace")}


def test_it_takes_effect_at_the_chosen_moment_else_at_the_wished_one(model: LLMModel, people: dict[str, int]) -> None:
    decide(proposals.approve, people, propose(model, people), effective_from=JANUARY)
    assert (at(model, JANUARY - timedelta(seconds=1)), at(model, JANUARY)) == (1, 2)
    mini = cast.make_model(model.provider, "mini")
    decide(proposals.approve, people, propose(mini, people, effective_from=JANUARY))
    assert (at(mini, JANUARY - timedelta(seconds=1)), at(mini, JANUARY)) == (1, 2)


@pytest.mark.parametrize("verb", [proposals.approve, proposals.reject])
def test_the_proposer_decides_nothing(model: LLMModel, people: dict[str, int], verb: Any) -> None:
    row = propose(model, people)
    with pytest.raises(PermissionDenied) as refused:
        decide(verb, people, row, by="ada")
    row.refresh_from_db()
    assert (refused.value.code, row.state, at(model)) == ("second_person_required", "pending", 1)
    with pytest.raises(IntegrityError), transaction.atomic():  # the database would not have it either
        PriceProposal.objects.filter(pk=row.pk).update(state="approved", decided_by=people["ada"], decided_at=NOW)


def test_a_rejected_price_never_comes(model: LLMModel, people: dict[str, int]) -> None:
    row = propose(model, people)
    decide(proposals.reject, people, row)
    row.refresh_from_db()
    assert (row.state, PriceVersion.objects.get(number=2).status, at(model, JANUARY)) == ("rejected", "cancelled", 1)


@pytest.mark.parametrize("first", [proposals.approve, proposals.reject])
@pytest.mark.parametrize("second", [proposals.approve, proposals.reject])
def test_what_is_decided_is_not_decided_again(model: LLMModel, people: dict[str, int], first: Any, second: Any) -> None:
    row = propose(model, people)
    decide(first, people, row)
    before = list(PriceVersion.objects.order_by("number").values())
    with pytest.raises(Conflict) as refused:
        decide(second, people, row)
    assert (refused.value.code, list(PriceVersion.objects.order_by("number").values())) == (
        "price_proposal_decided", before,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "param"),
    [({"effective_from": NOW - timedelta(seconds=1)}, "effective_from"), ({"reason": " "}, "reason")],
)
def test_a_past_moment_and_no_reason_are_refused(
    model: LLMModel, people: dict[str, int], wrong: dict[str, Any], param: str
) -> None:
    row = propose(model, people)
    with pytest.raises(InvalidValue) as refused:
        decide(proposals.approve, people, row, **wrong)
    assert (refused.value.param, at(model)) == (param, 1)


def test_more_than_five_times_is_asked_again_of_the_approver(model: LLMModel, people: dict[str, int]) -> None:
    row = propose(model, people, "13", confirm=True)
    with pytest.raises(Conflict) as refused:
        decide(proposals.approve, people, row)
    assert (refused.value.code, at(model)) == ("price_change_unconfirmed", 1)
    decide(proposals.approve, people, row, confirm=True)
    assert at(model) == 2


def test_an_approval_does_not_silently_cancel_a_scheduled_price(model: LLMModel, people: dict[str, int]) -> None:
    row = propose(model, people)
    change = PriceChange(components=prices.flat(input_usd=Decimal(4), output_usd=Decimal(10), cached_usd=None),
                         effective_from=JANUARY)  # fmt: skip
    prices.set_price(model=model, change=change, actor=actor("grace"), now=NOW)
    with pytest.raises(Conflict) as changed:
        decide(proposals.approve, people, row)
    assert changed.value.code == "price_base_changed"
    later = propose(model, people, confirm=True)
    with pytest.raises(Conflict) as refused:
        decide(proposals.approve, people, later)
    assert (refused.value.code, at(model, JANUARY)) == ("price_change_scheduled", 3)
    decide(proposals.approve, people, later, confirm=True)
    assert at(model) == at(model, JANUARY) == 4


def test_a_newer_proposal_takes_the_place_of_an_older_one(model: LLMModel, people: dict[str, int]) -> None:
    older, newer = propose(model, people), propose(model, people, "3.50")
    older.refresh_from_db()
    assert (older.state, older.version.status, newer.state) == ("superseded", "cancelled", "pending")
    with pytest.raises(Conflict):
        decide(proposals.approve, people, older)
    decide(proposals.approve, people, newer)
    assert at(model) == 3


def test_several_are_decided_all_or_none(model: LLMModel, people: dict[str, int]) -> None:
    mini = cast.make_model(model.provider, "mini", input="0.15", output="0.60")
    first, second = propose(model, people), propose(mini, people, "9", confirm=True)
    with pytest.raises(Conflict):
        decide(proposals.approve, people, first, second)
    assert (at(model), at(mini)) == (1, 1)
    assert set(PriceProposal.objects.values_list("state", flat=True)) == {"pending"}
    assert len(decide(proposals.approve, people, first, second, confirm=True)) == 2
    assert (at(model), at(mini)) == (2, 2)


def test_a_missing_one_among_several_decides_nothing(model: LLMModel, people: dict[str, int]) -> None:
    row = propose(model, people)
    gone = PriceProposal(pk=model.pk)
    with pytest.raises(NotFound):
        decide(proposals.reject, people, row, gone)
    with pytest.raises(InvalidValue):
        decide(proposals.reject, people)
    row.refresh_from_db()
    assert row.state == "pending"


def test_with_four_eyes_nobody_decides_alone_not_even_a_draft(
    model: LLMModel, people: dict[str, int], settings: Any
) -> None:
    settings.PRICE_FOUR_EYES = "all"
    row = propose(model, people, second_person=False)
    assert (row.state, at(model)) == ("pending", 1)
    with pytest.raises(PermissionDenied):
        decide(proposals.approve, people, row, by="ada")


def test_a_draft_that_waits_can_be_approved_by_another(model: LLMModel, people: dict[str, int]) -> None:
    components = prices.flat(input_usd=Decimal(3), output_usd=Decimal(10), cached_usd=None)
    change = PriceChange(components=components, draft=True)
    draft = prices.set_price(model=model, change=change, actor=actor("ada"), now=NOW)
    proposals.propose_draft(
        version_id=draft.pk, person_id=people["ada"], second_person=True, actor=actor("ada"), now=NOW
    )
    row = PriceProposal.objects.get()
    with pytest.raises(PermissionDenied):
        decide(proposals.approve, people, row, by="ada")
    decide(proposals.approve, people, row)
    assert at(model) == 2


@pytest.mark.django_db(transaction=True)
def test_of_two_approvers_at_once_one_decides(people: dict[str, int]) -> None:
    model = cast.make_model(cast.make_provider("openai"), "gpt-4o", input="2.50", output="10")
    approvers = {name: cast.make_staff(name)[0].pk for name in ("b1", "b2", "b3", "b4")} | people
    row = propose(model, people)
    start, outcomes = threading.Barrier(4), []

    def work(name: str) -> None:
        start.wait()
        try:
            decide(proposals.approve, approvers, row, by=name)
            outcomes.append("approved")
        except TollgateError as error:
            outcomes.append(error.code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("b1", "b2", "b3", "b4")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection.close()
    assert sorted(outcomes) == ["approved", *["price_proposal_decided"] * 3]
    assert AuditEvent.objects.filter(action="approve", object_type="llm.PriceProposal").count() == 1
    assert PriceVersion.objects.filter(status="active").count() == 1


def test_a_crash_half_way_through_an_approval_leaves_nothing_done(
    model: LLMModel, people: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = propose(model, people)
    steps = (price_book.make_room, price_book.approve)
    for step in steps:

        def dies(*args: Any, _step: Any = step, **rest: Any) -> None:
            _step(*args, **rest)
            raise KeyboardInterrupt

        monkeypatch.setattr(price_book, step.__name__, dies)
        with pytest.raises(KeyboardInterrupt):
            decide(proposals.approve, people, row)
        monkeypatch.setattr(price_book, step.__name__, step)
        row.refresh_from_db()
        assert (row.state, row.version.status, at(model)) == ("pending", "proposed", 1)
        assert PriceVersion.objects.get(number=1).effective_to is None
    decide(proposals.approve, people, row)
    assert at(model) == 2
