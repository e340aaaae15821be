"""The fixtures of the stage: made once a module, since a server and empty tables cost half a second each.

A conftest imports them. `db` is pytest-django's own, but for tests on the stage, whose rows are committed and stay
until their module ends: these need the test database, and no transaction around each test.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tenants import auth
from tests.conftest import Gateway
from tests.journeys.world import Customer, Vendor, World, emptied

__all__ = ["customer", "db", "stage", "vendor", "world"]


@pytest.fixture
def db(request: pytest.FixtureRequest) -> None:
    """The database: in a transaction of its own, except on the stage."""
    if "stage" not in request.fixturenames:
        request.getfixturevalue("_django_db_helper")


@pytest.fixture(scope="module")
def stage(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    """A gateway and three vendors, for all tests of a module. Rows are committed, and all gone at the end."""
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
def world(db: None, stage: World) -> Iterator[World]:
    """The stage with vendors that remember nothing; afterwards nothing may be left under way."""
    stage.reset()
    yield stage
    stage.quiet()


@pytest.fixture
def customer(world: World) -> Customer:
    """A professional tenant with one key."""
    return world.customer()


@pytest.fixture(params=["openai", "anthropic", "bedrock", "cohere", "google"])
def vendor(request: pytest.FixtureRequest, world: World) -> Vendor:
    """Each dialect in turn."""
    return world.vendors[request.param]
