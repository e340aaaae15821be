"""A process that has enough to do says so at once, before any work; slow and endless clients cannot hold it up."""

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from llm.engine import admission, runtime
from tenants.errors import Unavailable
from tests.fakes import Behaviour
from tests.journeys.world import ASK, Customer, World, eventually, usd
from tollgate import protocol

SLOW = Behaviour(delay_first_s=30)


def connect(customer: Customer, head: bytes) -> socket.socket:
    place = urlsplit(customer.url)
    assert place.hostname
    made = socket.create_connection((place.hostname, place.port or 80), timeout=20)
    made.sendall(head)
    return made


def head_of(customer: Customer, length: int) -> bytes:
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {customer.secret}\r\n"
        f"content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


def read(made: socket.socket) -> tuple[int, Any]:
    """Status and body of an answer after which the server hangs up."""
    raw = b""
    while piece := made.recv(65536):
        raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@contextmanager
def waiting(world: World, customers: list[Customer]) -> Iterator[None]:
    """As many requests as customers, all of them at the slow provider, until the block ends and they hang up."""
    world.fake.script("*", SLOW)
    body = json.dumps({"model": "fakeai/m", "messages": ASK}).encode()
    with ExitStack() as stack:
        for customer in customers:
            stack.enter_context(closing(connect(customer, head_of(customer, len(body)) + body)))
        eventually(lambda: world.fake.in_flight == len(customers), what="all at the provider")
        yield
    eventually(lambda: runtime.RUNTIME.under_way == 0, what="their leaving")
    world.fake.script("*", Behaviour())


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
    assert answer.headers["x-should-retry"] == "true"
    assert 1 <= int(answer.headers["retry-after"]) <= 5


def test_beyond_what_a_process_takes_it_refuses_at_once_and_records_nothing(world: World, settings: Any) -> None:
    settings.MAX_IN_FLIGHT = 2
    late = world.customer()
    with waiting(world, [world.customer(), world.customer()]):
        started = time.monotonic()
        refused(late.ask(), 503, "overloaded")
        refused(late.ask(path="/api/v1/llm/chat/completions"), 503, "overloaded")
        assert time.monotonic() - started < 5  # not the provider's 30
        late.untouched()
    assert late.ask().status_code == 200


def test_one_tenant_fills_only_its_own_places(world: World, settings: Any) -> None:
    settings.MAX_IN_FLIGHT_PER_TENANT = 2
    flooding, other = world.customer(), world.customer()
    with waiting(world, [flooding, flooding]):
        refused(flooding.ask(), 429, "rate_limit_exceeded")
        assert other.ask("fakethropic/m").status_code == 200


def test_a_provider_that_has_enough_to_do_is_passed_over(world: World, settings: Any) -> None:
    settings.MAX_IN_FLIGHT_PER_PROVIDER = 1
    customer, other = world.customer(allow_model_fallback=True), world.customer()
    world.model(world.vendors["openai"].provider, "same", family="twins")
    world.model(world.vendors["anthropic"].provider, "same", family="twins")
    world.refresh()
    with waiting(world, [world.customer()]):
        refused(other.ask("fakeai/m"), 503, "overloaded")
        answer = customer.ask("fakeai/same")
        assert (answer.status_code, answer.headers["x-provider-used"]) == (200, "fakethropic")
    assert other.row().budget_usd == 0
    row = customer.row()
    assert (row.was_fallback, row.fallback_reason) == (True, "overloaded")
    assert [attempt["code"] for attempt in row.attempts] == ["overloaded", ""]
    assert row.budget_usd == usd(8, row.completion_tokens) == customer.spent()


def test_an_event_loop_that_stays_late_takes_no_more(customer: Customer, settings: Any) -> None:
    settings.MAX_LOOP_DELAY_S = 0.04
    door = admission.Admission()
    for late in (1.0, 1.0):  # a hiccup
        door.note(late)
        door.check(0)
    door.note(1.0)
    with pytest.raises(Unavailable):
        door.check(0)
    # A server that is not late answers, and one that is waits for no more than its next beat.
    running = runtime.RUNTIME.admission
    eventually(lambda: customer.ask().status_code == 200, what="an answer")
    assert running.late_s < 1.0


def test_all_bodies_together_have_a_limit_and_leave_nothing_behind(
    world: World, customer: Customer, settings: Any
) -> None:
    settings.MAX_BODY_BYTES_IN_FLIGHT = 300_000
    half = head_of(customer, 1_000_000) + b" " * 200_000
    with closing(connect(customer, half)), closing(connect(customer, b"")) as second:
        eventually(lambda: runtime.RUNTIME.admission.body_bytes >= 200_000, what="the first half")
        body = json.dumps({"model": "fakeai/m", "messages": ASK, "user": "x" * 150_000}).encode()
        second.sendall(head_of(customer, len(body)) + body)
        assert second.recv(12) == b"HTTP/1.1 503"
    eventually(lambda: runtime.RUNTIME.admission.body_bytes == 0, what="the client's leaving")
    assert customer.ask().status_code == 200
    assert runtime.RUNTIME.admission.body_bytes == 0


def test_a_body_that_takes_too_long_is_given_up(customer: Customer, settings: Any) -> None:
    settings.BODY_TIMEOUT_S = 0.2
    with closing(connect(customer, head_of(customer, 100) + b"{")) as made:
        status, body = read(made)
    assert (status, body["error"]["code"]) == (408, "request_timeout")
    customer.untouched()


def test_a_head_that_takes_too_long_is_given_up(customer: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    with closing(connect(customer, b"GET /v1/models HTTP/1.1\r\nhost: x\r\n")) as made:
        assert made.recv(100) == b""
    with closing(connect(customer, b"")) as made:
        assert made.recv(100) == b""


def test_headers_without_end_are_refused(customer: Customer) -> None:
    with closing(connect(customer, b"GET /v1/models HTTP/1.1\r\nhost: x\r\n")) as made:
        made.sendall(b"".join(b"x-%d: %s\r\n" % (number, b"y" * 4000) for number in range(17)))
        status, body = read(made)
    assert (status, body["error"]["code"]) == (431, "headers_too_large")


def test_a_thousand_clients_that_dawdle_keep_nobody_waiting(world: World, customer: Customer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4_096:  # both ends of each connection are in this process
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, hard), hard))
    with ExitStack() as stack:
        for number in range(1_000):
            start = b"" if number % 2 else head_of(customer, 1000) + b"{"
            stack.enter_context(closing(connect(customer, start)))
        started = time.monotonic()
        assert [customer.ask().status_code for _ in range(10)] == [200] * 10
        assert time.monotonic() - started < 5
    assert len(customer.rows()) == 10
