"""A price's whole life: every step there is, and every step there is not."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from llm.catalog import price_book, prices, proposals
from llm.catalog.components import Component
from llm.catalog.prices import PriceChange
from llm.engine import snapshot
from llm.models import LLMModel, PriceComponent, PriceVersion
from tenants import audit
from tenants.errors import Conflict, InvalidValue, NotFound
from tenants.models import AuditEvent
from tests import cast

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
JANUARY, JUNE = NOW + timedelta(days=40), NOW + timedelta(days=190)
ACTOR = audit.Actor(kind="user", id="1", label="grace")


@pytest.fixture
def model(db: None) -> LLMModel:
    return cast.make_model(cast.make_provider("openai"), "gpt-4o", input="2.50", output="10")


def setting(model: LLMModel, usd: str, **rest: Any) -> PriceVersion:
    components = prices.flat(input_usd=Decimal(usd), output_usd=Decimal(10), cached_usd=None)
    change = PriceChange(**{"components": components, **rest})
    return prices.set_price(model=model, change=change, actor=ACTOR, now=NOW)


def cancelling(version: PriceVersion, now: datetime = NOW) -> PriceVersion:
    return price_book.cancel(
        version_id=version.pk, may_approve=True, reason="the vendor took it back", actor=ACTOR, now=now
    )


def book(model: LLMModel) -> list[tuple[int, str, datetime | None]]:
    rows = PriceVersion.objects.filter(model=model).order_by("number")
    return list(rows.values_list("number", "status", "effective_to"))


def at(model: LLMModel, moment: datetime) -> int | None:
    version = prices.version_at(LLMModel.objects.get(pk=model.pk), moment)
    return None if version is None else version.number


def test_a_scheduled_price_is_approved_until_it_begins_and_the_one_before_it_stays_active(model: LLMModel) -> None:
    version = setting(model, "3", effective_from=JANUARY)
    assert book(model) == [(1, "active", JANUARY), (2, "approved", None)]
    assert (version.recorded_at, version.effective_from) == (NOW, JANUARY)
    assert [version.status_at(when) for when in (NOW, JANUARY)] == ["approved", "active"]


def test_a_cancelled_rise_never_comes_and_the_price_before_it_goes_on(model: LLMModel) -> None:
    rise = setting(model, "3", effective_from=JANUARY)
    cancelling(rise)
    assert book(model) == [(1, "active", None), (2, "cancelled", None)]
    assert at(model, JANUARY) == at(model, JUNE) == 1
    told = AuditEvent.objects.filter(reason="the vendor took it back").values_list("action", "object_label")
    assert {(action, label.partition(" ")[0]) for action, label in told} == {("cancel", "v2"), ("go on", "v1")}


def test_of_two_scheduled_prices_the_first_is_cancelled_and_the_second_still_comes(model: LLMModel) -> None:
    first = setting(model, "3", effective_from=JANUARY)
    setting(model, "4", effective_from=JUNE)
    cancelling(first)
    assert (at(model, JANUARY), at(model, JUNE)) == (1, 3)
    assert book(model) == [(1, "active", JUNE), (2, "cancelled", JUNE), (3, "approved", None)]


def test_the_first_price_of_a_model_may_be_cancelled_before_it_comes_and_set_anew(db: None) -> None:
    model = cast.make_model(cast.make_provider("openai"), "new", input=None)
    cancelling(setting(model, "3", effective_from=JANUARY))
    assert at(model, JANUARY) is None
    setting(model, "4", effective_from=JANUARY)
    assert at(model, JANUARY) == 2


@pytest.mark.parametrize(("when", "code"), [(NOW, "price_has_begun"), (JUNE, "price_has_begun")])
def test_a_price_that_has_begun_is_not_cancelled(model: LLMModel, when: datetime, code: str) -> None:
    setting(model, "3", effective_from=JANUARY)
    running = PriceVersion.objects.get(number=1 if when == NOW else 2)
    before = book(model)
    with pytest.raises(Conflict) as refused:
        cancelling(running, when)
    assert (refused.value.code, book(model)) == (code, before)


def test_nothing_is_cancelled_twice_and_a_proposal_is_rejected_instead(model: LLMModel) -> None:
    rise = setting(model, "3", effective_from=JANUARY)
    cancelling(rise)
    with pytest.raises(Conflict) as again:
        cancelling(rise)
    with pytest.raises(Conflict) as proposed:
        cancelling(setting(model, "3", second_person=True))
    assert (again.value.code, proposed.value.code) == ("price_is_cancelled", "price_is_proposed")
    with pytest.raises(NotFound):
        price_book.cancel(version_id=model.pk, may_approve=True, reason="x", actor=ACTOR, now=NOW)


def test_a_draft_has_no_effect_until_it_is_finished(model: LLMModel) -> None:
    draft = setting(model, "3", draft=True)
    assert (draft.status, at(model, JUNE), book(model)[0]) == ("draft", 1, (1, "active", None))
    finished = proposals.propose_draft(
        version_id=draft.pk, person_id=None, second_person=False, actor=ACTOR, now=JANUARY
    )
    assert (finished.status, finished.effective_from, at(model, JANUARY)) == ("active", JANUARY, 2)
    with pytest.raises(Conflict) as again:
        proposals.propose_draft(version_id=draft.pk, person_id=None, second_person=False, actor=ACTOR, now=JANUARY)
    assert again.value.code == "price_is_no_draft"


def test_a_draft_may_be_changed_thrown_away_and_is_not_confirmed_for_free(model: LLMModel) -> None:
    draft = setting(model, "300", draft=True)
    with pytest.raises(Conflict) as refused:
        proposals.propose_draft(version_id=draft.pk, person_id=None, second_person=False, actor=ACTOR, now=NOW)
    assert refused.value.code == "price_change_unconfirmed"
    part = draft.components.get(meter="input")
    part.unit_price_usd = Decimal(3)
    part.save()
    assert draft.components.get(meter="input").unit_price_usd == 3
    assert cancelling(draft).status == "cancelled"
    assert book(model)[0] == (1, "active", None)


def test_a_decided_price_is_append_only_in_code(model: LLMModel) -> None:
    version, part = PriceVersion.objects.get(), PriceComponent.objects.get(meter="input")
    part.unit_price_usd = Decimal(1)
    version.reason = "rewritten"
    attempts: list[Any] = [
        part.save, version.save, version.delete,
        lambda: PriceVersion.objects.filter(pk=version.pk).update(effective_from=NOW),
        lambda: PriceVersion.objects.all().delete(),
        lambda: PriceComponent.objects.update(unit_price_usd=Decimal(1)),
        lambda: version.components.all().delete(),
        lambda: version.save(update_fields=["reason"]), part.delete,
        lambda: PriceComponent.objects.create(version=version, meter="reasoning", unit_price_usd=Decimal(500)),
        lambda: version.components.create(meter="input", unit_price_usd=Decimal(500), above_tokens=1),
        lambda: PriceComponent.objects.bulk_create([PriceComponent(version=version, meter="search", unit_price_usd=1)]),
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(Conflict) as refused:
            attempt()
        assert refused.value.code == "price_is_append_only"
    kept = PriceVersion.objects.get()
    assert (kept.reason, kept.effective_from, kept.base_price("input")) == ("", cast.LONG_AGO, Decimal("2.5"))
    assert kept.components.count() == 2


def test_the_stored_status_follows_the_clock_and_a_second_run_changes_nothing(model: LLMModel) -> None:
    setting(model, "3", effective_from=JANUARY)
    assert price_book.advance(now=NOW) == 0
    assert price_book.advance(now=JANUARY) == 2
    assert book(model) == [(1, "superseded", JANUARY), (2, "active", None)]
    assert price_book.advance(now=JANUARY) == 0


def test_bills_are_made_from_approved_prices_at_their_moment_whatever_the_stored_status(model: LLMModel) -> None:
    setting(model, "3", effective_from=JANUARY)
    frozen = snapshot.build().models[model.pk]
    cards = [frozen.card_at(JANUARY - timedelta(seconds=1)), frozen.card_at(JANUARY)]
    assert [card and card.number for card in cards] == [1, 2]


def test_prices_of_other_service_tiers_are_kept_but_never_billed(model: LLMModel) -> None:
    version = prices.set_price(
        model=model,
        change=PriceChange(
            components=[
                Component("input", Decimal("2.5")), Component("output", Decimal(10)),
                Component("input", Decimal("1.25"), 0, "batch"), Component("output", Decimal(5), 0, "batch"),
            ]
        ),
        actor=ACTOR, now=NOW,
    )  # fmt: skip
    assert {one.name for one in prices.components_of(version)} == {
        "input", "output", "input (batch)", "output (batch)",
    }  # fmt: skip
    assert version.base_price("input") == Decimal("2.5")
    card = snapshot.build().models[model.pk].card_at(NOW)
    assert card is not None
    assert {meter: rate.price for meter, rate in card.tiers[-1].rates.items()} == {
        "input": Decimal("2.5"),
        "output": 10,
    }


@pytest.mark.parametrize(
    "parts",
    [
        [Component("input", Decimal(1), 0, "batch"), Component("output", Decimal(1), 0, "batch")],
        [Component("input", Decimal(1)), Component("output", Decimal(1)), Component("input", Decimal(1), 0, "warp")],
        [Component("input", Decimal(1)), Component("output", Decimal(1)), Component("input", Decimal(1), 5, "batch")],
    ],
)
def test_a_tiers_price_alone_or_of_an_unknown_tier_is_refused(model: LLMModel, parts: list[Component]) -> None:
    with pytest.raises(InvalidValue):
        prices.set_price(model=model, change=PriceChange(components=parts), actor=ACTOR, now=NOW)
    assert len(book(model)) == 1


def overlapping(model: LLMModel, since: datetime, until: datetime | None, status: str = "active") -> None:
    with transaction.atomic():
        PriceVersion.objects.create(
            model=model, number=9, status=status, effective_from=since, effective_to=until, recorded_at=NOW, author="x"
        )


def test_the_database_refuses_two_prices_at_one_time(model: LLMModel) -> None:
    refused: tuple[type[Exception], str] = (IntegrityError, "one_price_at_a_time|one_open_price")
    if connection.vendor == "sqlite":  # which has no such constraint: `save` looks
        refused = Conflict, "v9 from .* would be in force together with v1"
    for since, until in ((NOW, None), (NOW, JANUARY), (cast.LONG_AGO - timedelta(days=1), NOW)):
        with pytest.raises(refused[0], match=refused[1]):
            overlapping(model, since, until)
    late = PriceVersion(model=model, number=9, effective_from=NOW, recorded_at=NOW, author="x")
    with pytest.raises(IntegrityError), transaction.atomic():  # past `save`, and on SQLite too: two without an end
        PriceVersion.objects.bulk_create([late])
    overlapping(model, NOW, JANUARY, status="cancelled")  # what is not decided may overlap anything
    other = cast.make_model(model.provider, "other", input=None)
    overlapping(other, NOW, JANUARY)
    assert PriceVersion.objects.count() == 3
