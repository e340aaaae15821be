"""A provider is cut at every byte of its answer: closed, reset, stalled; streamed and not; in each dialect.

Whatever was cut, the client is told the truth, pays for what it received, and nothing is left behind. The short version
looks at every few bytes, from a random one on; `FAULTS=full` looks at every single one. A run prints its seed, and
`FAULT_SEED=...` repeats it.
"""

import json
import os
import random
import socket
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import pytest

from billing.models import BudgetWindow, Hold, UsageRecord
from tests.fakes import Behaviour
from tests.journeys.world import ASK, Customer, Vendor, World, payloads_of, price_of, usd

FULL = os.environ.get("FAULTS") == "full"
SEED = int(os.environ.get("FAULT_SEED", random.SystemRandom().randrange(10**6)))
TEXT = "Hé you"  # three pieces of UTF-8, two words
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
BODY = {"messages": ASK, "max_tokens": 50}


def longest(vendor: Vendor, *, stream: bool) -> int:
    """Bytes of the whole answer on the wire, as the provider sends it to a request like the gateway's."""
    url = httpx.URL(vendor.fake.base_url)
    body: dict[str, Any] = {"model": "m", **BODY}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    raw = json.dumps(body).encode()
    path = "/v1/chat/completions" if vendor.name == "openai" else "/v1/messages"
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(raw)}\r\n\r\n"
    with closing(socket.create_connection((url.host, url.port))) as wire:
        wire.sendall(head.encode() + raw)
        found = b""
        while part := wire.recv(65_536):
            found += part
    assert found.startswith(b"HTTP/1.1 200")
    return len(found)


def offsets(length: int, step: int) -> list[int]:
    """Where to cut: every `step` bytes, from a random one on, and beyond the end."""
    print(f"FAULT_SEED={SEED} FAULTS={'full' if FULL else 'short'} of {length} bytes")  # noqa: T201 - to repeat it
    if FULL:
        return list(range(length + 2))
    return [*range(random.Random(SEED).randrange(step), length, step), length - 1, length + 40]


@dataclass
class Seen:
    """What the client was told."""

    status: int
    code: str  # "" if there was no error
    text: str
    whole: bool
    request_id: str


def seen(answer: httpx.Response, *, stream: bool) -> Seen:
    request_id = answer.headers["x-request-id"]
    if answer.status_code != 200:
        return Seen(answer.status_code, answer.json()["error"]["code"], "", False, request_id)
    if not stream:
        return Seen(200, "", answer.json()["choices"][0]["message"]["content"], True, request_id)
    payloads = payloads_of(answer.content)
    whole = payloads[-1] == b"[DONE]"
    chunks = [json.loads(payload) for payload in payloads[:-1]]
    code = "" if whole else json.loads(payloads[-1])["error"]["code"]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    return Seen(200, code, text, whole, request_id)


def judge(told: Seen, row: UsageRecord, failure: tuple[int, str]) -> str:
    """Hold the row against what the client was told; which of the three endings it was."""
    status, code = failure
    assert str(row.id) == told.request_id
    assert row.status_code == told.status
    if told.whole:
        assert (row.status, told.text, row.is_estimated) == ("completed", TEXT, False)
        assert row.budget_usd == usd(8, 2)
        return "whole"
    assert (told.code, row.error_code) == (code, code)
    if told.status != 200:
        assert (told.status, row.status) == (status, "failed")
        assert (row.budget_usd, row.total_tokens, row.price_lines) == (0, 0, [])
        return "nothing"
    assert row.status == "partial"
    assert told.text
    assert TEXT.startswith(told.text)
    reported = not row.is_estimated
    # The provider's own count where it came before the cut, else four bytes a token of what the client has.
    expected = usd(8, 2) if reported else usd(8, -(-len(told.text.encode()) // 4))
    assert row.budget_usd == expected
    assert told.text == TEXT or not reported
    return "part"


def nothing_left(world: World, customer: Customer) -> None:
    world.quiet()
    assert Hold.objects.filter(tenant_id=customer.tenant.pk).count() == 0
    rows = customer.rows()
    spent = sum((row.budget_usd for row in rows), Decimal(0))
    windows = BudgetWindow.objects.filter(scope_id__in=[customer.tenant.pk, customer.key.pk])
    assert {(window.held, window.spent) for window in windows} == {(Decimal(0), spent)}
    assert windows.count() == 4


@STREAMED
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_cut_anywhere_is_told_and_charged_truly(
    world: World, customer: Customer, vendor: Vendor, how: Any, stream: bool
) -> None:
    vendor.fake.script("m", Behaviour(text=TEXT))
    length = longest(vendor, stream=stream)
    vendor.fake.reset()
    cuts = offsets(length, 9 if stream else 5)
    endings: list[str] = []
    with customer.http as client:
        for cut in cuts:
            world.forgive()
            # The pieces are written one by one, so that those before the cut arrive, and do not drown in the reset.
            vendor.fake.once("m", Behaviour(text=TEXT, cut_after_bytes=cut, cut_how=how))
            answer = client.post("/v1/chat/completions", json={"model": vendor.reference, "stream": stream, **BODY})
            row = UsageRecord.objects.get(pk=answer.headers["x-request-id"])
            endings.append(judge(seen(answer, stream=stream), row, (502, "upstream_error")))
    nothing_left(world, customer)
    assert len(customer.rows()) == len(cuts) == len(vendor.fake.requests)
    bill = vendor.fake.bill()
    assert endings[-1] == "whole"
    assert price_of(bill[-1]) == usd(8, 2)
    counted = Counter(endings)
    assert counted["nothing"] > 10
    # A reset may overtake the pieces before it; a close never does, and then each cut behind a piece leaves a part.
    assert (counted["part"] > 3) == stream or how == "reset"
    assert stream or counted["part"] == 0
    assert world.fake.open_connections + world.other.open_connections <= 4


@STREAMED
def test_a_stall_anywhere_ends_in_time(
    world: World, customer: Customer, vendor: Vendor, settings: Any, stream: bool
) -> None:
    settings.UPSTREAM_FIRST_EVENT_TIMEOUT_S = 0.06
    settings.UPSTREAM_TOTAL_TIMEOUT_S = 0.06
    settings.UPSTREAM_IDLE_TIMEOUT_S = 0.06
    vendor.fake.script("m", Behaviour(text=TEXT))
    length = longest(vendor, stream=stream)
    vendor.fake.reset()
    cuts = [cut for cut in offsets(length, 1 if FULL else length // 12) if cut < length]
    endings: list[str] = []
    with customer.http as client:
        for cut in cuts:
            world.forgive()
            vendor.fake.once("m", Behaviour(text=TEXT, cut_after_bytes=cut, cut_how="stall"))
            answer = client.post("/v1/chat/completions", json={"model": vendor.reference, "stream": stream, **BODY})
            row = UsageRecord.objects.get(pk=answer.headers["x-request-id"])
            endings.append(judge(seen(answer, stream=stream), row, (504, "upstream_timeout")))
    nothing_left(world, customer)
    bill = vendor.fake.bill()
    assert len(customer.rows()) == len(cuts)
    assert 0.8 * len(cuts) < len(bill) <= len(cuts)  # on a busy machine time is up before the provider has read some
    counted = Counter(endings)
    assert counted["nothing"] >= 3
    assert (counted["part"] >= 3) == stream
    # Nobody is kept waiting: the provider has seen each of them go, but for those whose answer was complete.
    assert vendor.fake.cancelled_within(1, count=len([entry for entry in bill if not entry.completed]))


@STREAMED
def test_a_cut_and_then_another_vendor(world: World, customer: Customer, stream: bool) -> None:
    """Whatever happened to the first provider before it spoke, the second one answers and only that is paid."""
    from tests import cast  # for this one config

    first, second = world.vendors["openai"], world.vendors["anthropic"]
    cast.make_config(customer.tenant, "both", primary_model=first.model, fallback_model=second.model)
    first.fake.script("m", Behaviour(text=TEXT))
    length = longest(first, stream=stream)
    world.reset()
    second.fake.script("m", Behaviour(text=TEXT))
    served: Counter[str] = Counter()
    for cut in offsets(length, 1 if FULL else 40):
        world.forgive()
        first.fake.once("m", Behaviour(text=TEXT, cut_after_bytes=cut, cut_how="close"))
        answer = customer.ask("config/both", stream=stream, max_tokens=50)
        assert answer.status_code == 200
        served[answer.headers["x-provider-used"]] += 1
        row = UsageRecord.objects.get(pk=answer.headers["x-request-id"])
        assert row.was_fallback == (answer.headers["x-was-fallback"] == "true") == (row.provider_slug == "fakethropic")
        assert len(row.attempts) == (2 if row.was_fallback else 1)
        assert row.budget_usd == (usd(8, 2) if row.status == "completed" else usd(8, row.completion_tokens))
        assert (row.lost_cost_usd > 0) == row.was_fallback
    assert served["fakethropic"] > 3
    assert served["fakeai"] >= 1
    nothing_left(world, customer)
