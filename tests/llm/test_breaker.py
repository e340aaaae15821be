"""The state machine of one breaker: exact times, and what holds whatever happens in whatever order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.engine.breaker import CLOSED, HALF_OPEN, OPEN, Breaker, Record, blocks_of, lapsed, slug_of

T = 1_800_000_000.0


def made() -> Breaker:
    return Breaker("model:openai/gpt-4o", "openai/gpt-4o")


def fail(one: Breaker, at: float, times: int = 1, draw: float = 0.5) -> bool:
    """Whether the last of these failures changed anything."""
    return [one.failed(at, why="upstream_error", draw=draw) for _ in range(times)][-1]


def kept_out(one: Breaker, at: float) -> bool:
    return one.record().block(at) is not None


def test_three_failures_in_a_row_open_it_for_exactly_ten_seconds() -> None:
    one = made()
    assert not fail(one, T, 2)
    assert not kept_out(one, T)
    assert fail(one, T + 1)
    assert (one.state, one.until, one.failures, one.openings) == (OPEN, T + 11, 3, 1)
    assert one.reason == "it failed 3 times in a row, last with upstream_error"
    assert kept_out(one, T + 10.9)
    assert not kept_out(one, T + 11)


def test_a_success_in_between_starts_the_row_anew() -> None:
    one = made()
    for second in range(4):
        fail(one, T + 10 * second, 2)
        one.succeeded(T + 10 * second + 5, started=T)
    assert one.state == CLOSED


def test_half_of_ten_calls_in_thirty_seconds_open_it() -> None:
    one = made()
    for second in range(4):
        fail(one, T + 2 * second)
        one.succeeded(T + 2 * second + 1, started=T)
    one.succeeded(T + 8, started=T)
    assert (fail(one, T + 8), one.state) == (True, OPEN)
    assert one.reason == "5 of its last 10 calls failed, last with upstream_error"


def test_nine_calls_are_too_few_to_judge_by_share_and_a_minute_later_they_are_forgotten() -> None:
    one = made()
    for second in range(4):
        fail(one, T + second)
        one.succeeded(T + second, started=T)
    assert not fail(one, T + 4)
    one.succeeded(T + 60, started=T)
    assert not fail(one, T + 60, 2)
    assert one.state == CLOSED


@pytest.mark.parametrize(("draw", "spans"), [(0.0, [10] * 8), (1.0, [10, 20, 40, 80, 160, 300, 300, 300])])
def test_each_failed_probe_lasts_up_to_twice_as_long_and_at_most_five_minutes(draw: float, spans: list[int]) -> None:
    one, at = made(), T
    fail(one, at, 3, draw)
    found = [one.until - at]
    for _ in spans[1:]:
        at = one.until
        one.claim(at, "p")
        assert one.failed(at, why="upstream_timeout", draw=draw, probing=True)
        found.append(one.until - at)
    assert found == spans
    assert one.failures == 2 + len(spans)


def test_one_probe_and_its_success_closes() -> None:
    one = made()
    fail(one, T, 3)
    one.claim(T + 10, "mine")
    assert kept_out(one, T + 10)
    assert one.state == HALF_OPEN
    assert "half-open, one request is trying it" in one.record().block(T + 10).detail
    assert one.succeeded(T + 12, started=T + 10)
    assert (one.state, one.failures, one.openings) == (CLOSED, 0, 0)


def test_a_probe_that_finds_nothing_out_leaves_the_chance_to_the_next() -> None:
    one = made()
    fail(one, T, 3)
    one.claim(T + 10, "mine")
    one.let_go()
    assert not kept_out(one, T + 10)
    assert one.state == OPEN


def test_a_probe_that_is_silent_for_a_minute_keeps_nobody_out_any_longer() -> None:
    one = made()
    fail(one, T, 3)
    one.claim(T + 10, "mine")
    assert kept_out(one, T + 69.9)
    assert not kept_out(one, T + 70)


def test_what_began_before_the_opening_says_nothing_of_what_is_now() -> None:
    one = made()
    fail(one, T, 3)
    assert not one.succeeded(T + 1, started=T - 5)
    assert not one.failed(T + 1, why="upstream_error", draw=0.5)
    assert (one.state, one.until) == (OPEN, T + 10)


def test_a_wait_that_the_provider_asks_for_is_never_shortened() -> None:
    one = Breaker("limit:openai/gpt-4o#0", "it")
    assert one.told_to_wait(T, 60)
    assert not one.told_to_wait(T + 1, 5)
    assert one.until == T + 60
    assert one.told_to_wait(T + 1, 90)
    block = one.record().block(T + 1)
    assert (block.until, block.limited) == (T + 91, True)
    assert one.told_to_wait(T + 2, 10.0**12)  # a year is for ever
    assert "UTC" in one.record().block(T + 2).detail


def test_keys_say_whom_they_are_about() -> None:
    for key, slug, place in (
        ("provider:openai", "openai", ("openai", None)),
        ("model:openai/a#b:c", "openai", ("openai/a#b:c", None)),
        ("credential:openai#1f", "openai", ("openai", 31)),
        ("limit:openai/a#b#0", "openai", ("openai/a#b", 0)),
    ):
        assert (slug_of(key), Record(key=key, what="", state=OPEN).place) == (slug, place)


def test_blocks_are_by_name_and_by_key() -> None:
    open_ = {"what": "", "state": OPEN, "until": T + 1, "reason": "x"}
    keys = ("provider:a", "model:a/m", "credential:a#5", "limit:a/m#5")
    blocks, key_blocks = blocks_of([Record(key=key, **open_) for key in keys], T)
    assert (set(blocks), set(key_blocks)) == ({"a", "a/m"}, {("a", 5), ("a/m", 5)})
    assert blocks_of([Record(key=key, **open_) for key in keys], T + 1) == ({}, {})
    assert not lapsed(Record(key="provider:a", **open_), T + 900)
    assert lapsed(Record(key="provider:a", **open_), T + 901)


# --- whatever happens -------------------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["good", "good", "bad", "bad", "stale good", "wait", "probe good", "probe bad", "let go"]),
        st.floats(0, 40),
    ),
    max_size=120,
)


def play(one: Breaker, event: str, now: float, draw: float) -> None:
    """Let one thing happen; probes only where one may be sent."""
    if event == "good":
        one.succeeded(now, started=now)
    elif event == "stale good":
        one.succeeded(now, started=T - 1)
    elif event == "bad":
        one.failed(now, why="x", draw=draw)
    elif event == "wait":
        one.told_to_wait(now, 30)
    elif one.state != CLOSED and not kept_out(one, now):
        one.claim(now, "p")
        if event == "let go":
            one.let_go()
        elif event == "probe good":
            one.succeeded(now, started=now)
        else:
            one.failed(now, why="x", draw=draw, probing=True)


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.floats(0, 1))
def test_it_opens_and_closes_exactly_when_it_should(events: list[tuple[str, float]], draw: float) -> None:
    """Against a plain list of the calls since it last closed: by row, by share, and never shorter than promised."""
    one, now = made(), T
    calls: list[tuple[float, bool]] = []
    for event, later in events:
        now += later
        before, until = one.state, one.until
        play(one, event, now, draw)
        if before == CLOSED and event in {"good", "stale good", "bad"}:
            calls.append((now, event == "bad"))
        row = [bad for _, bad in calls[-3:]]
        recent = [bad for at, bad in calls if int(at / 3) > int(now / 3) - 10]
        if before == CLOSED and event == "bad":
            due = row == [True] * 3 or (len(recent) >= 10 and sum(recent) * 2 >= len(recent))
            assert (one.state == OPEN) == due
        if one.state != CLOSED:
            calls = []
            assert one.openings >= 1
            assert one.until >= until
            assert one.until - one.opened_at <= 300
        elif before != CLOSED:
            assert event in {"good", "probe good"}
        copy = made()
        copy.adopt(one.record())
        assert (copy.state, copy.until, copy.openings) == (one.state, one.until, one.openings)
