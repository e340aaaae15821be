"""A client goes away: the provider is told within a second, one row says what was produced, nothing stays held."""

import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import httpx
import pytest

from llm.engine import channel
from llm.models import LLMProvider
from tests.fakes import Behaviour
from tests.journeys.world import ASK, Customer, Vendor, World, eventually, usd

FOREVER = 30.0
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
V1, DRF = "/v1/chat/completions", "/api/v1/llm/chat/completions"
SEED = int(os.environ.get("FAULT_SEED", random.SystemRandom().randrange(10**6)))


def leave_waiting(
    customer: Customer, model: str, asked: Callable[[], Any], path: str = V1, stream: bool = False
) -> float:
    """Send, wait until `asked()` says that the provider is busy with it, hang up. When: `time.monotonic()`."""
    body = json.dumps({"model": model, "messages": ASK, "stream": stream}).encode()
    with closing(socket.create_connection(_address(customer))) as raw:
        raw.sendall(_request(customer, body, path))
        eventually(asked, what="the provider's turn")
    return time.monotonic()


@STREAMED
@pytest.mark.parametrize("headers_first", [False, True])
@pytest.mark.parametrize("path", [V1, DRF], ids=["v1", "drf"])
def test_before_the_first_word(
    customer: Customer, vendor: Vendor, stream: bool, headers_first: bool, path: str
) -> None:
    vendor.fake.script("m", Behaviour(delay_first_s=FOREVER, headers_first=headers_first))
    left = leave_waiting(customer, vendor.reference, lambda: vendor.fake.in_flight, path, stream)
    assert vendor.fake.cancelled_within(1, since=left - 0.1)
    row = customer.row()
    assert (row.status, row.status_code, row.error_code) == ("cancelled", 499, "client_gone")
    # The provider has read the prompt and bills it: it reported nothing, so it is our estimate.
    assert (row.prompt_tokens, row.completion_tokens, row.is_estimated) == (8, 0, True)
    assert row.budget_usd == usd(8) == customer.spent()
    assert vendor.fake.bill()[0].prompt_tokens == 8


@pytest.mark.parametrize("path", [V1, DRF], ids=["v1", "drf"])
def test_in_the_middle_of_a_stream(customer: Customer, vendor: Vendor, path: str) -> None:
    vendor.fake.script("m", Behaviour(delay_between_s=FOREVER))
    with (
        customer.http as client,
        client.stream("POST", path, json={"model": vendor.reference, "messages": ASK, "stream": True}) as answer,
    ):
        pieces = answer.iter_raw()
        seen = b""
        while b"Hello" not in seen:
            seen += next(pieces)
    assert vendor.fake.cancelled_within(1, since=time.monotonic() - 0.1)
    row = customer.row()
    assert (row.status, row.status_code) == ("cancelled", 499)
    assert (row.prompt_tokens, row.completion_tokens, row.is_estimated) == (8, 2, True)  # "Hello": 5 bytes
    assert row.budget_usd == usd(8, 2) == customer.spent()


def test_what_the_provider_had_reported_by_then_is_the_bill(world: World, customer: Customer) -> None:
    counts = {"prompt_tokens": 500, "completion_tokens": 70}
    world.fake.script("m", Behaviour(usage_placement="cumulative", usage=counts, delay_between_s=FOREVER))
    with customer.stream("fakeai/m") as answer:
        next(answer.iter_raw())
    assert world.fake.cancelled_within(1)
    row = customer.row()
    reported = world.fake.bill()[0].completion_tokens
    assert (row.status, row.prompt_tokens, row.completion_tokens) == ("cancelled", 500, reported)
    assert row.is_estimated is False
    assert row.budget_usd == usd(500, reported)


def test_a_client_that_only_reads_slowly_gets_everything(
    world: World, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "MAX_BYTES", 10_000)
    world.fake.script("m", Behaviour(text="word " * 4_000, chunks=4_000))
    with customer.stream("fakeai/m", max_tokens=4_096) as answer:
        pieces = answer.iter_raw()
        raw = next(pieces)
        time.sleep(0.3)
        raw += b"".join(pieces)
    assert raw.endswith(b"data: [DONE]\n\n")
    assert raw.count(b'"content":"word') + raw.count(b'"content":" word') == 4_000
    assert customer.row().budget_usd == usd(8, 4_000)


def test_a_client_that_leaves_while_it_is_slow_is_let_go(
    world: World, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journey waits for room then, not for the provider."""
    monkeypatch.setattr(channel, "MAX_BYTES", 10_000)
    world.fake.script("m", Behaviour(text="word " * 50_000, chunks=50_000))
    with closing(socket.create_connection(_address(customer))) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        raw.sendall(_request(customer, b'{"model":"fakeai/m","stream":true,"messages":[{"role":"user","content":"hi"}],'
                                       b'"max_tokens":16000}'))  # fmt: skip
        assert raw.recv(100).startswith(b"HTTP/1.1 200")
        time.sleep(0.3)
        assert customer.holds() == 1
    row = customer.row()
    assert row.status == "cancelled"
    assert 0 < row.completion_tokens < 16_000
    assert customer.spent() == row.budget_usd


def test_while_the_connection_to_the_provider_is_still_being_made(world: World, customer: Customer) -> None:
    """Nothing was sent, so nothing is charged."""
    with _black_hole() as port:
        if not LLMProvider.objects.filter(slug="hole").exists():
            world.model(world.provider("hole", None), "m")
        LLMProvider.objects.filter(slug="hole").update(base_url=f"http://127.0.0.1:{port}/v1")
        world.refresh()
        leave_waiting(customer, "hole/m", customer.holds)
        row = customer.row()
    assert (row.status, row.status_code) == ("cancelled", 499)
    assert (row.total_tokens, row.budget_usd) == (0, 0)
    assert customer.spent() == 0


def test_halfway_through_its_own_request(world: World, customer: Customer) -> None:
    with closing(socket.create_connection(_address(customer))) as raw:
        raw.sendall(_request(customer, b"x" * 1_000)[:-500])
        time.sleep(0.05)
    world.quiet()
    customer.untouched()
    assert world.fake.requests == []


def test_a_client_that_hangs_up_after_the_last_byte_has_had_a_complete_answer(
    customer: Customer, vendor: Vendor
) -> None:
    assert customer.ask(vendor.reference, stream=True).content.endswith(b"data: [DONE]\n\n")
    row = customer.row()
    assert (row.status, row.status_code, row.budget_usd) == ("completed", 200, usd(8, 5))


def test_at_any_moment(world: World, customer: Customer, vendor: Vendor) -> None:
    """Hang up after a random number of milliseconds: one row each, the right charge each, nothing held, nobody busy."""
    print(f"FAULT_SEED={SEED}")  # noqa: T201 - to repeat it
    moments = random.Random(SEED)
    vendor.fake.script("m", Behaviour(delay_first_s=0.01, delay_between_s=0.004))
    body = b'{"model":"%s","stream":%s,"messages":[{"role":"user","content":"Say hello to the world"}]}'
    for number in range(40):
        streamed = b"true" if number % 2 else b"false"
        with closing(socket.create_connection(_address(customer))) as raw:
            raw.sendall(_request(customer, body % (vendor.reference.encode(), streamed)))
            time.sleep(moments.uniform(0, 0.06))
    world.quiet()
    eventually(lambda: not customer.holds(), what="letting go")
    rows = customer.rows()
    assert len(rows) <= 40
    assert len(rows) >= len(vendor.fake.bill()) > 0
    for row in rows:
        whole = (row.status, row.budget_usd) == ("completed", usd(8, 5))
        # What came is part of "Hello from the fake provider.", 29 bytes; or it had not been sent yet.
        part = row.status == "cancelled" and row.budget_usd in {Decimal(0), *(usd(8, count) for count in range(9))}
        assert whole or part, (row.status, row.budget_usd)
    assert customer.spent() == sum(row.budget_usd for row in rows)


# --- sockets ----------------------------------------------------------------------------------------------------------


def _address(customer: Customer) -> tuple[str, int]:
    url = httpx.URL(customer.url)
    assert url.port is not None
    return url.host, url.port


def _request(customer: Customer, body: bytes, path: str = V1) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {customer.secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _black_hole:  # noqa: N801 - reads as a verb
    """A port that neither accepts nor refuses: its queue of one is full. Gives its number."""

    def __enter__(self) -> int:
        self.server = socket.socket()
        self.server.bind(("127.0.0.1", 0))
        self.server.listen(0)
        port: int = self.server.getsockname()[1]
        self.waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            self.waiting.append(one)
        return port

    def __exit__(self, *_: object) -> None:
        for one in (*self.waiting, self.server):
            one.close()


@pytest.fixture(autouse=True)
def calm(world: World) -> Iterator[None]:
    """Whatever a client did, no journey and no provider connection may be left."""
    yield
    world.quiet()
