"""The stage of the journeys: made once a module, since a server and empty tables cost half a second each."""

from collections.abc import Iterator
from typing import Any

import pytest

from tenants import auth
from tests.conftest import Gateway
from tests.journeys.world import Customer, Vendor, World, emptied


@pytest.fixture(scope="module")
def stage(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    """A gateway and two vendors, for all tests of a module. Rows are committed, and all gone at the end."""
    with django_db_blocker.unblock():
        gateway = Gateway()
        gateway.start()
        try:
            made = World(gateway)
            try:
                yield made
            finally:
                made.stop()
        finally:
            gateway.stop()
            auth.CALLERS.clear()
            emptied()


@pytest.fixture
def world(stage: World) -> Iterator[World]:
    """The stage with vendors that remember nothing; afterwards nothing may be left under way."""
    stage.reset()
    yield stage
    stage.quiet()


@pytest.fixture
def customer(world: World) -> Customer:
    """A professional tenant with one key."""
    return world.customer()


@pytest.fixture(params=["openai", "anthropic"])
def vendor(request: pytest.FixtureRequest, world: World) -> Vendor:
    """Each dialect in turn."""
    return world.vendors[request.param]
