"""A provider is cut at every byte of its answer: closed, reset, stalled; streamed and not; in each dialect.

Whatever was cut, the client is told the truth, pays for what it received, and nothing is left behind. The short version
looks at every few bytes, from a random one on; `FAULTS=full` looks at every single one. A run prints its seed, and
`FAULT_SEED=...` repeats it (tests/faults/tally.py).
"""

import json
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
from tests.faults.tally import FULL, SEED, Tally
from tests.journeys.world import ASK, Customer, Vendor, World, payloads_of, price_of, usd

TEXT = "Hé you"  # three pieces of UTF-8, two words
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
BODY = {"messages": ASK, "max_tokens": 50}


def longest(vendor: Vendor, *, stream: bool) -> int:
    """Bytes of the whole answer on the wire, as the provider sends it to a request like the gateway's."""
    url = httpx.URL(vendor.fake.base_url)
    body: dict[str, Any] = {"model": "m", **BODY}
    paths = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "cohere": "/v2/chat"}
    path = paths.get(vendor.name, "")
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if vendor.name == "bedrock":
        body = {"messages": [{"role": "user", "content": [{"text": ASK[0]["content"]}]}]}
        path = f"/v1/model/m/converse{'-stream' if stream else ''}"
    if vendor.name == "google":
        body = {"contents": [{"role": "user", "parts": [{"text": ASK[0]["content"]}]}]}
        path = f"/v1/models/m:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"
    raw = json.dumps(body).encode()
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


def judge(tally: Tally, told: Seen, failure: tuple[int, str]) -> str:
    """Hold the row against what the client was told; which of the three endings it was."""
    tally.runs += 1
    row = UsageRecord.objects.get(pk=told.request_id)
    ending = "whole" if told.whole else "part" if told.status == 200 else "nothing"
    with tally.checking("statuses"):
        judge_status(ending, told, row, failure)
    with tally.checking("charges"):
        judge_charge(ending, told, row, stalled=failure[1] == "upstream_timeout")
    return ending


def judge_status(ending: str, told: Seen, row: UsageRecord, failure: tuple[int, str]) -> None:
    status, code = failure
    assert row.status_code == told.status
    assert row.status == {"whole": "completed", "part": "partial", "nothing": "failed"}[ending]
    assert (told.code, row.error_code) == (("", "") if ending == "whole" else (code, code))
    assert told.status == (status if ending == "nothing" else 200)
    assert told.text == TEXT or ending != "whole"
    assert (told.text and TEXT.startswith(told.text)) or ending != "part"


def judge_charge(ending: str, told: Seen, row: UsageRecord, *, stalled: bool) -> None:
    if ending == "nothing":
        assert (row.budget_usd, row.total_tokens, row.price_lines) == (0, 0, [])
    elif ending == "whole":
        # Of a provider that fell silent when all was said but its count, the count is ours.
        assert row.budget_usd == usd(8, 2)
        assert not row.is_estimated or stalled
    else:
        # The provider's own count where it came before the cut, else four bytes a token of what the client has.
        reported = not row.is_estimated
        assert row.budget_usd == (usd(8, 2) if reported else usd(8, -(-len(told.text.encode()) // 4)))
        assert told.text == TEXT or not reported


def nothing_left(tally: Tally, world: World, customer: Customer) -> None:
    """No hold, no connection, and windows that say what the rows say."""
    world.quiet()
    with tally.checking("leaks"):
        no_hold(customer)
        assert sum(fake.open_connections for fake in world.fakes) <= 2 * len(world.fakes)


def no_hold(customer: Customer) -> None:
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
    tally = Tally(f"cut: {how}, {vendor.name}, {'streamed' if stream else 'plain'}")
    with customer.http as client:
        for cut in cuts:
            world.forgive()
            # The pieces are written one by one, so that those before the cut arrive, and do not drown in the reset.
            vendor.fake.once("m", Behaviour(text=TEXT, cut_after_bytes=cut, cut_how=how))
            answer = client.post("/v1/chat/completions", json={"model": vendor.reference, "stream": stream, **BODY})
            endings.append(judge(tally, seen(answer, stream=stream), (502, "upstream_error")))
    nothing_left(tally, world, customer)
    tally.close()
    assert len(customer.rows()) == len(cuts) == len(vendor.fake.requests)
    bill = vendor.fake.bill()
    assert endings[-1] == "whole"
    assert price_of(bill[-1]) == usd(8, 2)
    counted = Counter(endings)
    assert counted["nothing"] > 10
    # A reset may overtake the pieces before it; a close never does, and then each cut behind a piece leaves a part.
    assert (counted["part"] > 3) == stream or how == "reset"
    assert stream or counted["part"] == 0


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
    tally = Tally(f"cut: stall, {vendor.name}, {'streamed' if stream else 'plain'}")
    with customer.http as client:
        for cut in cuts:
            world.forgive()
            vendor.fake.once("m", Behaviour(text=TEXT, cut_after_bytes=cut, cut_how="stall"))
            answer = client.post("/v1/chat/completions", json={"model": vendor.reference, "stream": stream, **BODY})
            endings.append(judge(tally, seen(answer, stream=stream), (504, "upstream_timeout")))
    nothing_left(tally, world, customer)
    tally.close()
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
    tally = Tally(f"cut: close, then another vendor, {'streamed' if stream else 'plain'}")
    for cut in offsets(length, 1 if FULL else 40):
        world.forgive()
        first.fake.once("m", Behaviour(text=TEXT, cut_after_bytes=cut, cut_how="close"))
        answer = customer.ask("config/both", stream=stream, max_tokens=50)
        tally.runs += 1
        served[answer.headers["x-provider-used"]] += 1
        row = UsageRecord.objects.get(pk=answer.headers["x-request-id"])
        second_answered = row.provider_slug == "fakethropic"
        with tally.checking("statuses"):
            assert answer.status_code == 200
            assert row.was_fallback == (answer.headers["x-was-fallback"] == "true") == second_answered
            assert len(row.attempts) == (2 if row.was_fallback else 1)
        with tally.checking("charges"):
            assert row.budget_usd == (usd(8, 2) if row.status == "completed" else usd(8, row.completion_tokens))
            assert (row.lost_cost_usd > 0) == row.was_fallback
    assert served["fakethropic"] > 3
    assert served["fakeai"] >= 1
    nothing_left(tally, world, customer)
    tally.close()
