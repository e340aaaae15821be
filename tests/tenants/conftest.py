"""The door of the matrix of access."""

from collections.abc import Iterator

import pytest

from llm.engine import snapshot, tenant_state
from tests.tenants.crowd import Door, gather


@pytest.fixture
def door(db: None) -> Iterator[Door]:
    """Django with two tenants and everybody else before it, and no catalog remembered."""
    snapshot.WATCH.reset()
    tenant_state.TENANTS.clear()
    yield Door(gather())
    snapshot.WATCH.reset()
    tenant_state.TENANTS.clear()
