"""What a request leaves behind is freed as it ends: the garbage collector took 9 % of all CPU, and made the tail."""

import gc

import pytest

from tests.journeys.world import Customer, World

REQUESTS = 30


def garbage_of(world: World, customer: Customer, **body: object) -> float:
    """Objects per request that only the collector can free, after the first few have filled the caches."""
    for _ in range(5):
        customer.ask(**body).raise_for_status()
    world.quiet()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(REQUESTS):
            customer.ask(**body).raise_for_status()
        world.quiet()
        gc.collect()
        left = [one for one in gc.garbage if type(one).__module__.startswith(("llm.", "billing."))]
        return len(left) / REQUESTS
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_an_answered_request_leaves_no_cycle(world: World) -> None:
    assert garbage_of(world, world.customer()) < 0.5


def test_a_streamed_request_leaves_no_cycle(world: World) -> None:
    assert garbage_of(world, world.customer(), stream=True) < 0.5


@pytest.mark.parametrize("model", ["fakeai/m", "fakethropic/m"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_message_leaves_no_cycle(world: World, model: str, stream: bool) -> None:
    body = {"path": "/v1/messages", "max_tokens": 50}
    assert garbage_of(world, world.customer(), model=model, stream=stream, **body) < 0.5
