"""Prices through time: what is in force when, and what a change may do."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection, connections

from llm.catalog import prices
from llm.catalog.prices import Component, PriceChange
from llm.models import LLMModel, PriceVersion
from tenants import audit
from tenants.errors import Conflict, InvalidValue
from tenants.models import AuditEvent
from tests import cast

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ACTOR = audit.Actor(kind="user", id="1", label="grace")


@pytest.fixture
def model(db: None) -> LLMModel:
    return cast.make_model(cast.make_provider("openai"), "gpt-4o", input="2.50", output="10")


def change(input: str = "2.50", output: str = "10", **rest: object) -> PriceChange:  # noqa: A002  # the meter
    components = prices.flat(input_usd=Decimal(input), output_usd=Decimal(output), cached_usd=None)
    return PriceChange(**{"components": components, **rest})  # type: ignore[arg-type]


def set_price(model: LLMModel, wanted: PriceChange, now: datetime = NOW) -> PriceVersion:
    return prices.set_price(model=model, change=wanted, actor=ACTOR, now=now)


def numbers(model: LLMModel) -> list[tuple[int, str]]:
    return list(PriceVersion.objects.filter(model=model).order_by("number").values_list("number", "status"))


def at(model: LLMModel, moment: datetime) -> int | None:
    version = prices.version_at(LLMModel.objects.get(pk=model.pk), moment)
    return None if version is None else version.number


def test_a_price_is_in_force_from_its_first_moment_until_the_next_begins(model: LLMModel) -> None:
    later = NOW + timedelta(days=9)
    set_price(model, change(input="3", effective_from=later, reason="announced"))
    assert at(model, cast.LONG_AGO - timedelta(seconds=1)) is None
    assert at(model, cast.LONG_AGO) == at(model, later - timedelta(microseconds=1)) == 1
    assert at(model, later) == at(model, later + timedelta(days=900)) == 2


def test_a_price_from_now_on_ends_the_one_before_it(model: LLMModel) -> None:
    version = set_price(model, change(input="3"))
    first = PriceVersion.objects.get(number=1)
    assert (version.effective_from, first.effective_to, first.status) == (NOW, NOW, "superseded")
    assert (version.author, version.source) == ("grace", "staff")
    event = AuditEvent.objects.get(action="create")
    assert (event.before["input"], event.after["input"]) == ("2.5", "3")


@pytest.mark.parametrize("factor", ["5", "0.2", "1"])
def test_up_to_five_times_needs_no_confirmation(model: LLMModel, factor: str) -> None:
    set_price(model, change(output=str(Decimal(10) * Decimal(factor))))
    assert at(model, NOW) == 2


@pytest.mark.parametrize(
    ("dollars_in", "dollars_out"), [("12.51", "10"), ("2.5", "1.99"), ("0", "10"), ("2.5", "50.0000000001")]
)
def test_more_than_five_times_up_or_down_is_refused_until_confirmed(
    model: LLMModel, dollars_in: str, dollars_out: str
) -> None:
    with pytest.raises(Conflict) as refused:
        set_price(model, change(dollars_in, dollars_out))
    assert (refused.value.code, numbers(model)) == ("price_change_unconfirmed", [(1, "active")])
    assert AuditEvent.objects.count() == 0
    set_price(model, change(dollars_in, dollars_out, confirm=True))
    assert at(model, NOW) == 2


def test_a_price_cannot_begin_in_the_past(model: LLMModel) -> None:
    with pytest.raises(InvalidValue) as refused:
        set_price(model, change(effective_from=NOW - timedelta(microseconds=1)))
    assert (refused.value.param, numbers(model)) == ("effective_from", [(1, "active")])


def test_a_scheduled_price_is_not_lost_silently(model: LLMModel) -> None:
    january = NOW + timedelta(days=40)
    set_price(model, change(input="3", effective_from=january))
    with pytest.raises(Conflict) as refused:
        set_price(model, change(input="4"))
    assert (refused.value.code, at(model, NOW), at(model, january)) == ("price_change_scheduled", 1, 2)
    set_price(model, change(input="4", confirm=True))
    assert numbers(model) == [(1, "superseded"), (2, "cancelled"), (3, "active")]
    assert at(model, NOW) == at(model, january) == 3


def test_a_price_after_a_scheduled_one_ends_that_one(model: LLMModel) -> None:
    january, june = NOW + timedelta(days=40), NOW + timedelta(days=190)
    set_price(model, change(input="3", effective_from=january))
    set_price(model, change(input="4", effective_from=june))
    assert (at(model, NOW), at(model, january), at(model, june)) == (1, 2, 3)


def test_a_scheduled_price_is_replaced_by_one_for_the_same_moment(model: LLMModel) -> None:
    january = NOW + timedelta(days=40)
    set_price(model, change(input="3", effective_from=january))
    set_price(model, change(input="4", effective_from=january, confirm=True))
    assert (at(model, january - timedelta(seconds=1)), at(model, january)) == (1, 3)


def test_with_four_eyes_a_price_is_only_proposed(model: LLMModel, settings: object) -> None:
    settings.PRICE_FOUR_EYES = "all"  # type: ignore[attr-defined]
    version = set_price(model, change(input="3"))
    assert (version.status, at(model, NOW + timedelta(days=1))) == ("proposed", 1)
    assert PriceVersion.objects.get(number=1).effective_to is None


@pytest.mark.parametrize(
    "components",
    [
        [],
        [Component("input", Decimal(1))],
        [Component("output", Decimal(1))],
        [Component("input", Decimal(-1)), Component("output", Decimal(1))],
        [Component("input", Decimal("NaN")), Component("output", Decimal(1))],
        [Component("input", Decimal("Infinity")), Component("output", Decimal(1))],
        [Component("input", Decimal(10**9)), Component("output", Decimal(1))],
        [Component("input", Decimal("1e-11")), Component("output", Decimal(1))],
        [Component("input", Decimal(1)), Component("input", Decimal(2)), Component("output", Decimal(1))],
        [Component("input", Decimal(1)), Component("output", Decimal(1)), Component("petrol", Decimal(1))],
        [Component("input", Decimal(1)), Component("output", Decimal(1)), Component("image", Decimal(1), 200_000)],
        [Component("input", Decimal(1)), Component("output", Decimal(1)), Component("input", Decimal(1), -1)],
    ],
)
def test_prices_that_could_not_bill_are_refused(model: LLMModel, components: list[Component]) -> None:
    with pytest.raises(InvalidValue) as refused:
        set_price(model, PriceChange(components=components))
    assert (refused.value.param, numbers(model)) == ("components", [(1, "active")])


def test_an_embedding_model_needs_no_output_price(db: None) -> None:
    model = cast.make_model(cast.make_provider("openai"), "embed", input=None, kind="embedding")
    set_price(model, PriceChange(components=[Component("input", Decimal("0.02"))]))
    assert at(model, NOW) == 1


def test_a_context_tier_is_kept(model: LLMModel) -> None:
    tiers = [
        Component("input", Decimal("2.5")),
        Component("output", Decimal(10)),
        Component("input", Decimal(5), 200_000),
    ]
    version = set_price(model, PriceChange(components=tiers))
    assert set(prices.components_of(version)) == set(tiers)
    assert version.base_price("input") == Decimal("2.5")


@pytest.mark.django_db(transaction=True)
def test_of_two_changes_at_once_one_follows_the_other() -> None:
    model = cast.make_model(cast.make_provider("openai"), "gpt-4o", input="2.50", output="10")
    start = threading.Barrier(4)

    def work(cents: int) -> None:
        start.wait()
        try:
            set_price(model, change(input=str(Decimal(cents) / 100)))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(cents,)) for cents in (251, 252, 253, 254)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection.close()
    assert [number for number, _ in numbers(model)] == [1, 2, 3, 4, 5]
    assert PriceVersion.objects.filter(effective_to__isnull=True).count() == 1
    assert at(model, NOW) == 5
