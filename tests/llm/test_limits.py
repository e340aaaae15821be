"""Rate limits: the time to wait that a refusal names is true, to the second, in both directions."""

import asyncio
import random
import time
import uuid
from contextlib import ExitStack

import pytest

from llm.engine.admission import BUSY_BEATS, Admission
from llm.engine.limits import LEAST_SHARE, Limits, Standing
from llm.errors import RateLimited
from tenants.auth import Caller


class Clock:
    """Time that only tests move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_800_000_000.0
        monkeypatch.setattr(time, "time", lambda: self.now)


def caller(**limits: int) -> Caller:
    known = dict.fromkeys(Caller.__dataclass_fields__)
    ids = {"key_id": uuid.uuid4(), "tenant_id": uuid.uuid4()}
    return Caller(**{**known, **ids, "max_concurrency": 5, **limits})


def count(limits: Limits, who: Caller, tokens: int) -> tuple[Standing, ...]:
    return asyncio.run(limits.count(who, tokens=tokens))


def refused(limits: Limits, who: Caller, tokens: int) -> float | None:
    """Seconds to wait, or None if it was let in."""
    try:
        count(limits, who, tokens)
    except RateLimited as error:
        return error.retry_after
    return None


@pytest.mark.parametrize("limit", [1, 2, 5, 1_000])
def test_who_waits_as_long_as_told_is_let_in_and_a_second_earlier_is_not(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    clock, dice, waits = Clock(monkeypatch), random.Random(limit), 0
    for _ in range(40):
        limits, who = Limits(), caller(rate_limit_tpm=limit)
        clock.now += dice.uniform(0, 500)
        for _ in range(15):
            clock.now += dice.uniform(0, dice.choice([1, 20, 80]))
            tokens = dice.randint(1, limit)
            wait = refused(limits, who, tokens)
            if wait is None:
                continue
            waits += 1
            asked_at = clock.now
            if wait > 1:
                clock.now = asked_at + wait - 1.01
                assert refused(limits, who, tokens) is not None
            clock.now = asked_at + wait
            assert refused(limits, who, tokens) is None
    assert waits > 50


def test_what_is_left_and_when_it_is_whole_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    clock.now = 60.0 * 1_000_000 + 15
    limits, who = Limits(), caller(rate_limit_rpm=3, rate_limit_tpm=100)
    first = count(limits, who, 40)
    assert [(one.what, one.limit, one.remaining) for one in first] == [("requests", 3, 2), ("tokens", 100, 60)]
    # One request of this minute is forgotten once the next minute has begun; of 40 tokens the last one 1.5 s
    # before its end.
    assert [round(one.reset_s, 3) for one in first] == [45.0, 45 + 60 * 39 / 40]


def test_more_than_a_minutes_worth_is_never_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    with pytest.raises(RateLimited) as caught:
        count(Limits(), caller(rate_limit_tpm=100), 101)
    assert caught.value.retry_after is None
    assert "over the key's" in caught.value.message
    assert "100 tokens per minute" in caught.value.message


def test_places_are_given_back_whatever_happens() -> None:
    limits, who = Limits(), caller()
    for _ in range(20):
        with pytest.raises(ZeroDivisionError), limits.one_more(who):
            raise ZeroDivisionError
    with ExitStack() as all_places:
        for _ in range(5):
            all_places.enter_context(limits.one_more(who))
        with pytest.raises(RateLimited):
            all_places.enter_context(limits.one_more(who))


def test_while_the_processor_is_short_who_floods_is_held_to_an_equal_share() -> None:
    door = Admission()
    limits = Limits(door)
    flooding, quiet = caller(max_concurrency=1000), caller(max_concurrency=1000)

    def enter(who: Caller, times: int, places: ExitStack) -> int:
        """How many of so many requests are let in, to stay."""
        let_in = 0
        for _ in range(times):
            try:
                places.enter_context(limits.one_more(who))
            except RateLimited:
                continue
            let_in += 1
        return let_in

    def late(seconds: float) -> None:
        for _ in range(BUSY_BEATS):
            door.note(seconds)

    with ExitStack() as places:
        late(0.005)
        assert enter(flooding, 100, places) == 100  # alone: nobody is kept waiting by it
        assert enter(quiet, 2, places) == 2
        assert enter(flooding, 10, places) == 0  # it has 100 of 102, where 51 each are a share
        assert enter(quiet, 2, places) == 2
        late(0.001)  # time enough for all
        assert enter(flooding, 10, places) == 10
    with ExitStack() as places:
        late(0.005)
        places.enter_context(limits.one_more(quiet))
        assert enter(flooding, 20, places) == LEAST_SHARE
        door.note(0.0)  # one turn in time is enough to trust it again
        assert enter(flooding, 20, places) == 20
