"""One gateway of two processes for all of these tests: it takes ten seconds to start."""

from collections.abc import Iterator

import pytest

from tests.journeys.world import eventually
from tests.metrics.served import Served, serving


@pytest.fixture(scope="session")
def gateway() -> Iterator[Served]:
    """Both processes are up: each has said how it is."""
    with serving() as served:
        eventually(lambda: len(served.scrape().pids) == 2, within_s=30, what="two processes")
        yield served


@pytest.fixture
def served(gateway: Served) -> Served:
    """The gateway with a vendor that remembers nothing."""
    gateway.vendor.reset()
    return gateway
