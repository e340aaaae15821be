"""One request at a time under an Idempotency-Key."""

import uuid

import pytest

from llm.engine.idempotency import KEEP, Idempotency
from llm.errors import IdempotencyConflict, IdempotencyMismatch

OWNER = uuid.UUID(int=1)


def test_the_same_request_under_way_is_a_conflict_that_may_be_retried() -> None:
    seen = Idempotency()
    with seen.once(OWNER, "a", b"body"):
        with pytest.raises(IdempotencyConflict) as refused, seen.once(OWNER, "a", b"body"):
            pass
        assert (refused.value.status, refused.value.retryable) == (409, True)
    with seen.once(OWNER, "a", b"body"):
        pass


def test_another_body_under_the_same_key_is_refused_for_good() -> None:
    seen = Idempotency()
    with seen.once(OWNER, "a", b"body"):
        pass
    with pytest.raises(IdempotencyMismatch) as refused, seen.once(OWNER, "a", b"other"):
        pass
    assert (refused.value.status, refused.value.retryable) == (422, False)


def test_another_owner_has_keys_of_its_own() -> None:
    seen = Idempotency()
    with seen.once(OWNER, "a", b"body"), seen.once(uuid.UUID(int=2), "a", b"other"):
        pass


def test_what_is_remembered_is_bounded() -> None:
    seen = Idempotency()
    for number in range(KEEP + 5):
        with seen.once(OWNER, str(number), b"body"):
            pass
    assert len(seen._seen) == KEEP
