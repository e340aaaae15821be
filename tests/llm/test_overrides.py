"""Tenants' own prices: begun, replaced, ended, cancelled; never edited, never overlapping, never in the past."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from llm.catalog import overrides, prices
from llm.engine import tenant_state
from llm.models import LLMModel, OverrideComponent, PriceOverride
from tenants import audit
from tenants.errors import Conflict, InvalidValue
from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.conftest import Api

GRACE = audit.Actor(kind="user", id="1", label="grace")
HOUR = timedelta(hours=1)


@pytest.fixture
def gpt(db: None) -> LLMModel:
    return cast.make_model(cast.make_provider())


@pytest.fixture
def now() -> datetime:
    return timezone.now()


def put(tenant: Tenant, model: LLMModel, usd: str, *, now: datetime, **more: Any) -> PriceOverride:
    components = prices.flat(input_usd=Decimal(usd), output_usd=Decimal(usd), cached_usd=None)
    wish = overrides.NewOverride(components=components, reason="contract", confirm=True, **more)
    return overrides.set_override(tenant=tenant, model=model, wish=wish, actor=GRACE, now=now)


def in_force(tenant: Tenant, model: LLMModel, at: datetime) -> Decimal | None:
    """USD per million input tokens that the data path would bill at that moment; None: the list price."""
    card = tenant_state.load(tenant.pk).own_card(model.pk, at)
    return None if card is None else card.tiers[-1].rates["input"].of(1_000_000)


def test_a_new_price_ends_the_one_before_and_both_stay(acme: Tenant, gpt: LLMModel, now: datetime) -> None:
    first, second = put(acme, gpt, "2", now=now), put(acme, gpt, "1", now=now, effective_from=now + HOUR)
    first.refresh_from_db()
    assert (first.effective_to, second.effective_to, second.number) == (now + HOUR, None, 2)
    assert [in_force(acme, gpt, now + hours * HOUR) for hours in (-1, 0, 1)] == [None, 2, 1]
    assert [(event.action, event.actor_label) for event in AuditEvent.objects.order_by("pk")] == [
        ("create", "grace"), ("end", "grace"), ("create", "grace"),
    ]  # fmt: skip
    assert AuditEvent.objects.earliest("pk").after["input"] == "2"


def test_a_price_for_a_while_gives_way_to_the_list_price(acme: Tenant, gpt: LLMModel, now: datetime) -> None:
    put(acme, gpt, "2", now=now, effective_to=now + HOUR)
    assert [in_force(acme, gpt, at) for at in (now, now + HOUR - timedelta(microseconds=1), now + HOUR)] == [2, 2, None]


def test_ending_is_now_and_cancelling_leaves_no_moment(acme: Tenant, gpt: LLMModel, now: datetime) -> None:
    running = put(acme, gpt, "2", now=now - HOUR)
    ended = overrides.end_override(override=running, actor=GRACE, now=now, reason="over")
    assert ended.effective_to == now
    assert overrides.end_override(override=running, actor=GRACE, now=now + HOUR).effective_to == now
    scheduled = put(acme, gpt, "1", now=now, effective_from=now + HOUR)
    cancelled = overrides.end_override(override=scheduled, actor=GRACE, now=now)
    assert cancelled.effective_to == cancelled.effective_from
    assert in_force(acme, gpt, now + HOUR) is None
    assert AuditEvent.objects.latest("pk").action == "cancel"
    put(acme, gpt, "3", now=now)  # nothing is in its way


def test_what_would_overlap_or_begin_in_the_past_is_refused(acme: Tenant, gpt: LLMModel, now: datetime) -> None:
    put(acme, gpt, "2", now=now, effective_from=now + 2 * HOUR)
    with pytest.raises(Conflict) as refused:
        put(acme, gpt, "1", now=now)
    assert refused.value.code == "price_change_scheduled"
    for more, param in (
        ({"effective_from": now - HOUR}, "effective_from"),
        ({"effective_from": now + HOUR, "effective_to": now + HOUR}, "effective_to"),
    ):
        with pytest.raises(InvalidValue) as wrong:
            put(acme, gpt, "1", now=now, **more)
        assert wrong.value.param == param
    assert PriceOverride.objects.count() == 1


def test_one_tenants_price_is_no_other_tenants(acme: Tenant, globex: Tenant, gpt: LLMModel, now: datetime) -> None:
    put(acme, gpt, "2", now=now)
    assert in_force(globex, gpt, now) is None


def test_staff_set_and_end_it_over_the_api(staff: Api, acme: Tenant, globex: Tenant, gpt: LLMModel) -> None:
    tiered = [
        {"meter": "input", "usd_per_1m": "2"}, {"meter": "output", "usd_per_1m": "8"},
        {"meter": "input", "usd_per_1m": "4", "above_tokens": 200000},
    ]  # fmt: skip
    body = {"model": "openai/gpt-4o", "components": tiered, "reason": "contract 12"}
    status, made = staff.post("admin/tenants/acme/prices", body)
    assert (status, made["model"], made["author"], made["effective_to"]) == (
        201,
        "openai/gpt-4o",
        "grace (staff)",
        None,
    )
    assert sorted((one["meter"], one["usd_per_1m"], one["above_tokens"]) for one in made["components"]) == [
        ("input", "2", 0), ("input", "4", 200000), ("output", "8", 0),
    ]  # fmt: skip
    assert staff.get("admin/tenants/acme/prices")[1]["results"] == [made]
    assert staff.get(f"admin/tenants/acme/prices/{made['id']}") == (200, made)
    assert staff.get("admin/tenants/globex/prices")[1]["count"] == 0
    assert staff.delete(f"admin/tenants/globex/prices/{made['id']}")[0] == 404
    assert staff.delete(f"admin/tenants/acme/prices/{made['id']}")[0] == 204
    assert staff.get(f"admin/tenants/acme/prices/{made['id']}")[1]["effective_to"] is not None
    # A tier prices what it names; for the rest the price below the threshold goes on.
    staff.post("admin/tenants/acme/prices", body)
    card = tenant_state.load(acme.pk).own_card(gpt.pk, timezone.now())
    assert card is not None
    assert [(tier.above, sorted(tier.rates)) for tier in card.tiers] == [
        (200000, ["input", "output"]), (0, ["input", "output"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"components": {"input": "-1", "output": "1"}}, "components"),
        ({"components": {"input": "1"}}, "components"),
        ({"components": {"tokens": "1", "output": "1"}}, "components"),
        ({"model": "openai/none"}, "model"),
        ({"reason": ""}, "reason"),
        ({"effective_from": "2020-01-01T00:00:00Z"}, "effective_from"),
        ({"markup": "1"}, "markup"),
    ],
)
def test_a_wrong_price_is_a_400_that_names_the_field(
    staff: Api, acme: Tenant, gpt: LLMModel, change: dict[str, Any], param: str
) -> None:
    body = {"model": "openai/gpt-4o", "components": {"input": "1", "output": "1"}, "reason": "r", **change}
    status, answer = staff.post("admin/tenants/acme/prices", body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert PriceOverride.objects.count() == 0


def test_an_own_price_is_append_only_in_code(acme: Tenant, gpt: LLMModel, now: datetime) -> None:
    put(acme, gpt, "2", now=now)
    price, part = PriceOverride.objects.get(), OverrideComponent.objects.get(meter="input")
    part.unit_price_usd = Decimal(77)
    price.effective_from = now - HOUR
    more = {"meter": "reasoning", "unit_price_usd": Decimal(500)}
    attempts: list[Any] = [
        price.save, price.delete, part.save, part.delete,
        lambda: price.save(update_fields=["reason"]),
        lambda: PriceOverride.objects.update(reason="rewritten"),
        lambda: PriceOverride.objects.all().delete(),
        lambda: OverrideComponent.objects.update(unit_price_usd=Decimal(77)),
        lambda: price.components.all().delete(),
        lambda: price.components.create(**more),
        lambda: OverrideComponent.objects.bulk_create([OverrideComponent(override=price, **more)]),
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(Conflict) as refused:
            attempt()
        assert refused.value.code == "price_is_append_only"
    kept = PriceOverride.objects.get()
    assert (kept.effective_from, kept.reason) == (now, "contract")
    assert {one.meter: one.unit_price_usd for one in kept.components.all()} == {"input": 2, "output": 2}


def test_the_database_refuses_two_prices_of_a_tenant_at_one_time(
    acme: Tenant, globex: Tenant, gpt: LLMModel, now: datetime
) -> None:
    """Rows past every check of the functions. SQLite has no such constraint: there `save` looks."""
    put(acme, gpt, "2", now=now, effective_to=now + HOUR)

    def insert(tenant: Tenant, model: LLMModel, since: datetime, until: datetime | None, number: int) -> None:
        with transaction.atomic():
            PriceOverride.objects.create(
                tenant=tenant, model=model, number=number, effective_from=since, effective_to=until, recorded_at=now
            )

    refused: tuple[type[Exception], str] = (IntegrityError, "one_price_override_at_a_time")
    if connection.vendor == "sqlite":
        refused = Conflict, "v7 from .* would be in force together with v1"
    for since, until in ((now, None), (now - HOUR, now + timedelta(microseconds=1)), (now, now + HOUR)):
        with pytest.raises(refused[0], match=refused[1]):
            insert(acme, gpt, since, until, 7)
    insert(acme, gpt, now + HOUR, None, 8)  # it begins where the other ends
    insert(acme, gpt, now, now, 9)  # one that was cancelled
    insert(acme, cast.make_model(gpt.provider, "mini"), now, None, 1)
    insert(globex, gpt, now, None, 1)
    assert PriceOverride.objects.count() == 5
