"""The ledger's thread: waiters that go away, rows that cannot be written, connections that break, a good end."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection, connections, transaction

from billing import ledger as ledgers
from billing.errors import BudgetExceeded, LedgerUnavailable
from billing.group_commit import MAX_BATCH, GroupCommit
from billing.ledger import Ledger, sweep
from billing.models import Hold, UsageRecord
from tests.billing.books import NOW, Books, a_ledger, assert_books_agree, usd

pytestmark = pytest.mark.django_db(transaction=True)


@sync_to_async
def ask(question: Callable[[], Any]) -> Any:
    """The answer of the database, from the one thread that Django's async tests share."""
    return question()


@pytest_asyncio.fixture
async def books() -> AsyncIterator[Books]:
    yield await ask(lambda: Books({"tenant": ("10", None)}))
    await ask(connections.close_all)


@pytest_asyncio.fixture
async def ledger() -> AsyncIterator[Ledger]:
    running = a_ledger()
    running.start()
    yield running
    await asyncio.to_thread(running.stop)
    await ask(assert_books_agree)


async def settled(condition: Callable[[], bool], patience_s: float = 5.0) -> None:
    until = time.monotonic() + patience_s
    while not await ask(condition):
        assert time.monotonic() < until, "it did not come to pass"
        await asyncio.sleep(0.01)


class Gate:
    """Holds the ledger's thread inside its next transaction until it is opened."""

    def __init__(self, ledger: Ledger) -> None:
        self.entered, self._open = threading.Event(), threading.Event()
        self._apply = ledger.apply
        ledger._commit._apply = self._wait

    def _wait(self, operations: Any) -> Any:
        self.entered.set()
        assert self._open.wait(10)
        return self._apply(operations)

    def open(self) -> None:
        self._open.set()


async def test_of_256_at_once_exactly_as_many_are_admitted_as_the_budget_allows(books: Books, ledger: Ledger) -> None:
    asked = [ledger.reserve(books.ask("0.07")) for _ in range(256)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    got = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(got) == 142  # 9.94 of 10
    assert {type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)} == {BudgetExceeded}
    assert await ask(books.window) == (0, usd("9.94"))
    await asyncio.gather(*(ledger.settle(books.settle(hold, "0.07")) for hold in got))
    assert await ask(books.window) == (usd("9.94"), 0)


async def test_several_ledgers_at_once_never_pass_the_limit_between_them(books: Books) -> None:
    """As many processes as there are threads here, on a day whose windows nobody has made yet."""
    several = [a_ledger() for _ in range(4)]
    try:
        asked = [each.reserve(books.ask("0.07")) for _ in range(40) for each in several]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    finally:
        for each in several:
            await asyncio.to_thread(each.stop)
    refused = [type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)]
    assert (set(refused), len(refused)) == ({BudgetExceeded}, 160 - 142)
    assert await ask(books.window) == (0, usd("9.94"))
    await ask(assert_books_agree)


async def test_the_hold_of_a_waiter_that_was_cancelled_is_given_back(books: Books, ledger: Ledger) -> None:
    gate = Gate(ledger)
    waiter = asyncio.create_task(ledger.reserve(books.ask("3")))
    await asyncio.to_thread(gate.entered.wait)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    gate.open()
    await settled(lambda: books.window() == (0, 0) and not Hold.objects.exists())
    assert (await ledger.reserve(books.ask("10"))).amount == 10  # the thread goes on


async def test_a_waiter_cancelled_in_the_very_moment_its_hold_comes_gives_it_back(books: Books, ledger: Ledger) -> None:
    """Its future has the hold already, but the task has not been woken: cancelling it then loses the result."""
    waiter = asyncio.create_task(ledger.reserve(books.ask("3")))
    wake = ledger._commit._wake
    ledger._commit._wake = lambda woken: (wake(woken), waiter.cancel())
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await settled(lambda: books.window() == (0, 0) and not Hold.objects.exists())


async def test_what_nobody_waits_for_any_more_is_not_even_tried(books: Books, ledger: Ledger) -> None:
    gate = Gate(ledger)
    first = asyncio.create_task(ledger.reserve(books.ask("1")))
    await asyncio.to_thread(gate.entered.wait)
    waiters = [asyncio.create_task(ledger.reserve(books.ask("9"))) for _ in range(20)]
    await asyncio.sleep(0)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    last = asyncio.create_task(ledger.reserve(books.ask("9")))
    await asyncio.sleep(0)
    gate.open()
    assert [(await first).amount, (await last).amount] == [1, 9]  # none of the twenty was in the way


async def test_a_reserve_that_takes_too_long_is_refused_within_a_second_and_given_back(
    books: Books, ledger: Ledger
) -> None:
    gate = Gate(ledger)
    started = time.monotonic()
    with pytest.raises(LedgerUnavailable):
        await ledger.reserve(books.ask("3"))
    assert time.monotonic() - started < 1.5
    gate.open()
    await settled(lambda: books.window() == (0, 0) and not Hold.objects.exists())


async def test_a_settlement_that_takes_too_long_says_so_and_goes_on_trying(
    books: Books, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = await ledger.reserve(books.ask("3"))
    monkeypatch.setattr(ledgers, "SETTLE_PATIENCE_S", 0.1)
    gate = Gate(ledger)
    assert await ledger.settle(books.settle(hold, "1")) is False
    gate.open()
    await settled(lambda: books.window() == (1, 0))


async def test_a_row_that_cannot_be_written_fails_alone(books: Books, ledger: Ledger) -> None:
    holds = [await ledger.reserve(books.ask("1")) for _ in range(3)]
    gate = Gate(ledger)
    first = asyncio.create_task(ledger.reserve(books.ask("0.5")))
    await asyncio.to_thread(gate.entered.wait)
    broken = books.settle(holds[1], "1", status_code=None)
    both = asyncio.gather(
        ledger.settle(books.settle(holds[0], "0.1")),
        ledger.settle(broken),
        ledger.settle(books.settle(holds[2], "0.2")),
        return_exceptions=True,
    )
    await asyncio.sleep(0)
    gate.open()
    good, bad, also_good = await both
    assert (good, also_good) == (True, True)
    assert isinstance(bad, Exception)
    await first
    assert await ask(books.window) == (usd("0.3"), usd("1.5"))
    # The broken one is left to the sweeper, which posts it in full.
    await settled(lambda: sweep(now=NOW) == 1)
    assert await ask(books.window) == (usd("1.3"), usd("0.5"))


async def test_a_hold_that_is_disowned_is_posted_in_full(books: Books, ledger: Ledger) -> None:
    ledger.disown(await ledger.reserve(books.ask("2")))
    await settled(lambda: sweep(now=NOW) == 1)
    assert await ask(books.window) == (2, 0)


async def test_a_connection_that_was_ended_does_not_fail_anybody(books: Books, ledger: Ledger) -> None:
    hold = await ledger.reserve(books.ask("1"))
    await ask(lambda: end_connections(ledger))
    await ledger.settle(books.settle(hold, "0.5"))
    await ledger.reserve(books.ask("2"))
    assert await ask(books.window) == (usd("0.5"), 2)


def end_connections(ledger: Ledger) -> None:
    """PostgreSQL: as an administrator or a fail-over would. SQLite: the disk fails once, at the end of the work."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert cursor.fetchall()
        return
    inner = ledger._commit._apply

    def broken(operations: Any) -> Any:
        ledger._commit._apply = inner
        inner(operations)
        raise OperationalError("disk I/O error")

    ledger._commit._apply = broken


class Stumbling:
    """A commit that fails after (or before) it took place: the connection breaks while the answer is under way."""

    def __init__(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, *, took_place: bool, times: int = 1) -> None:
        self.left, self.took_place, self._commit = times, took_place, transaction.Atomic.__exit__
        self._thread = ledger._commit._thread
        monkeypatch.setattr(transaction.Atomic, "__exit__", self._wrapped())

    def _wrapped(self) -> Callable[..., Any]:
        stumbling, original = self, self._commit

        def leave(atomic: Any, kind: Any, error: Any, trace: Any) -> Any:
            mine = (
                threading.current_thread() is stumbling._thread and stumbling.left and kind is None and atomic.durable
            )
            if not mine:
                return original(atomic, kind, error, trace)
            stumbling.left -= 1
            lost = OperationalError("the connection broke at COMMIT")
            if stumbling.took_place:
                original(atomic, None, None, None)
            else:
                original(atomic, OperationalError, lost, None)
            raise lost

        return leave


@pytest.mark.parametrize("took_place", [True, False])
async def test_a_reserve_whose_commit_is_uncertain_is_refused_and_taken_back(
    books: Books, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, took_place: bool
) -> None:
    await ledger.reserve(books.ask("1"))
    Stumbling(ledger, monkeypatch, took_place=took_place)
    with pytest.raises(LedgerUnavailable):
        await ledger.reserve(books.ask("3"))
    await settled(lambda: books.window() == (0, 1))
    await asyncio.sleep(0.5)
    assert await ask(lambda: (books.window(), Hold.objects.count(), UsageRecord.objects.count())) == ((0, 1), 1, 0)


@pytest.mark.parametrize("took_place", [True, False])
async def test_a_settlement_whose_commit_is_uncertain_is_tried_again_and_counts_once(
    books: Books, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, took_place: bool
) -> None:
    hold = await ledger.reserve(books.ask("3"))
    Stumbling(ledger, monkeypatch, took_place=took_place, times=2)
    assert await ledger.settle(books.settle(hold, "1")) is True
    assert await ask(lambda: (books.window(), UsageRecord.objects.count())) == ((1, 0), 1)


@pytest.mark.parametrize("took_place", [True, False])
async def test_an_extension_whose_commit_is_uncertain_is_refused_and_settling_gives_all_back(
    books: Books, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, took_place: bool
) -> None:
    hold = await ledger.reserve(books.ask("1"))
    Stumbling(ledger, monkeypatch, took_place=took_place)
    with pytest.raises(LedgerUnavailable):
        await ledger.extend(books.extend(hold, "4"))
    assert await ledger.settle(books.settle(hold, "0.5")) is True
    assert await ask(books.window) == (usd("0.5"), 0)


async def test_a_bug_in_one_operation_or_in_the_tick_does_not_end_the_thread(
    books: Books, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = books.ask("1")
    broken.facts = {"id": object()}
    with pytest.raises(Exception, match="object"):
        await ledger.reserve(broken)

    def fail() -> None:
        raise RuntimeError("a bug in the tick")

    monkeypatch.setattr(ledger._commit, "_tick", fail)
    monkeypatch.setattr(ledger._commit, "_tick_s", 0.01)
    thread = ledger._commit._thread
    await ledger.reserve(books.ask("1"))
    await asyncio.sleep(0.05)
    assert (await ledger.reserve(books.ask("2"))).amount == 2
    assert ledger._commit._thread is thread


async def test_a_thread_that_died_is_started_again(books: Books, ledger: Ledger) -> None:
    await asyncio.to_thread(ledger.stop)
    assert (await ledger.reserve(books.ask("2"))).amount == 2


async def test_stopping_commits_what_waits_and_what_was_kept(
    books: Books, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds = [await ledger.reserve(books.ask("0.01")) for _ in range(10)]
    gate = Gate(ledger)
    Stumbling(ledger, monkeypatch, took_place=False)
    settling = [asyncio.create_task(ledger.settle(books.settle(hold, "0.01"))) for hold in holds]
    await asyncio.to_thread(gate.entered.wait)
    stopping = asyncio.create_task(asyncio.to_thread(ledger.stop))
    await asyncio.sleep(0.05)
    gate.open()
    assert await asyncio.gather(*settling) == [True] * 10
    await stopping
    assert await ask(books.window) == (usd("0.1"), 0)


def test_a_batch_is_bounded_and_first_come_is_first_served() -> None:
    class Op:
        must_happen = False

        def __init__(self, number: int) -> None:
            self.number = number

    batches: list[list[int]] = []
    started = threading.Event()

    def apply(operations: Any) -> list[int]:
        started.wait(5)
        batches.append([operation.number for operation in operations])
        return batches[-1]

    async def run() -> None:
        group = GroupCommit(apply, tick=lambda: None, on_lost=lambda *_: None, tick_s=60)
        futures = [group.submit(Op(number)) for number in range(3 * MAX_BATCH)]
        started.set()
        assert await asyncio.gather(*futures) == list(range(3 * MAX_BATCH))
        await asyncio.to_thread(group.stop)

    asyncio.run(run())
    connections.close_all()
    assert [number for batch in batches for number in batch] == list(range(3 * MAX_BATCH))
    assert max(len(batch) for batch in batches) <= MAX_BATCH


async def test_prepared_statements_that_vanish_are_prepared_again_and_nobody_notices(
    books: Books, ledger: Ledger
) -> None:
    hold = await ledger.reserve(books.ask("1"))
    apply, lost = ledger._commit._apply, []

    def after_deallocate_all(operations: Any) -> Any:
        if not lost:
            lost.append(True)
            if connection.vendor == "postgresql":
                connection.cursor().execute("DEALLOCATE ALL")
        return apply(operations)

    ledger._commit._apply = after_deallocate_all
    assert await ledger.settle(books.settle(hold, "0.4"))
    assert lost
    assert await ask(books.window) == (usd("0.4"), 0)
