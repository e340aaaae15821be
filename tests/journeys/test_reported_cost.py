"""What a vendor says an answer costs is kept beside our own figure: never billed, never told the client."""

from decimal import Decimal

import pytest

from tests.fakes import Behaviour
from tests.journeys.world import Customer, World


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_reported_cost_is_recorded_and_nothing_is_billed_by_it(
    world: World, customer: Customer, stream: bool
) -> None:
    world.fake.script("m", Behaviour(prompt_tokens=100, completion_tokens=10, usage={"cost": 0.75}))
    answer = customer.ask(stream=stream)
    assert answer.status_code == 200
    assert b"0.75" not in answer.content
    row = customer.row()
    assert row.reported_cost_usd == Decimal("0.75")
    assert row.cost_total_usd == row.billed_usd == Decimal("0.00028")
    assert customer.spent() == Decimal("0.00028")


def test_without_one_nothing_is_recorded(world: World, customer: Customer) -> None:
    customer.ask()
    assert customer.row().reported_cost_usd is None
