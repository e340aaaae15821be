"""Server-sent events, byte by byte: every way a vendor or a network may cut and spell them."""

import random
import time
from collections.abc import Iterable

import pytest

from llm.errors import UpstreamInvalid
from llm.providers.sse import EVENT_CAP, SseDecoder


def feed_all(decoder: SseDecoder, reads: Iterable[bytes]) -> None:
    for read in reads:
        decoder.feed(read)


def decode(*reads: bytes) -> list[bytes]:
    decoder = SseDecoder()
    found: list[bytes] = []
    for read in reads:
        found += decoder.feed(read)
    return found + decoder.close()


@pytest.mark.parametrize(
    ("wire", "payloads"),
    [
        (b'data: {"a":1}\n\n', [b'{"a":1}']),
        (b"data: 1\n\ndata: 2\n\n", [b"1", b"2"]),
        (b"data:1\n\n", [b"1"]),
        (b"data:  two spaces\n\n", [b" two spaces"]),
        (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [b"1", b"2"]),
        (b"data: 1\r\rdata: 2\r\r", [b"1", b"2"]),
        (b"data: 1\r\n\ndata: 2\n\r\n", [b"1", b"2"]),
        (b'data: {"a":\ndata: 1}\n\n', [b'{"a":\n1}']),
        (b"data: a\ndata:b\ndata\n\n", [b"a\nb\n"]),
        (b": ping\n\ndata: 1\n\n", [b"1"]),
        (b": ping\ndata: 1\n: pong\n\n", [b"1"]),
        (b"event: message\nid: 7\nretry: 10\ndata: 1\n\n", [b"1"]),
        (b"data: 1\nevent: late\n\n", [b"1"]),
        (b"event: only\n\n", []),
        (b"data:\n\ndata: \n\n", []),
        (b"\n\n\n\ndata: 1\n\n\n\n\ndata: 2\n\n", [b"1", b"2"]),
        (b"\xef\xbb\xbfdata: 1\n\n", [b"1"]),
        (b"data: 1\n\ndata: [DONE]", [b"1", b"[DONE]"]),
        (b"data: 1\n\ndata: [DONE]\n", [b"1", b"[DONE]"]),
        (b"data: 1\n\ndata: [DONE]\r\n", [b"1", b"[DONE]"]),
        (b"database: no\n\ndatum\n\n", []),
        ('data: {"t":"héllo 😀"}\n\n'.encode(), ['{"t":"héllo 😀"}'.encode()]),
        (b"", []),
    ],
)
def test_the_same_events_come_out_whole_and_cut_at_every_byte(wire: bytes, payloads: list[bytes]) -> None:
    assert decode(wire) == payloads
    assert decode(*(wire[at : at + 1] for at in range(len(wire)))) == payloads
    for cut in range(1, len(wire)):
        assert decode(wire[:cut], wire[cut:]) == payloads, cut


def test_random_streams_cut_at_random_come_out_as_they_went_in() -> None:
    seed = 20261122
    rng = random.Random(seed)
    for _ in range(200):
        payloads = [bytes(rng.choices(b"abc {}:\xc3\xa9", k=rng.randrange(1, 30))).strip() or b"x" for _ in range(9)]
        end = rng.choice([b"\n", b"\r\n", b"\r"])
        wire = b""
        for payload in payloads:
            wire += rng.choice([b"", b": c" + end, b": c" + end + end, b"event: e" + end])
            wire += b"data: " + payload + end + end
        reads = []
        while wire:
            size = rng.randrange(1, 40)
            reads.append(wire[:size])
            wire = wire[size:]
        assert decode(*reads) == payloads, seed


def test_an_event_at_the_cap_passes_and_one_above_it_is_refused_however_it_arrives() -> None:
    fits = b"data: " + b"x" * 94
    assert SseDecoder(cap=100).feed(fits + b"\n\n") == [b"x" * 94]
    too_large = [
        (fits + b"x\n\n",),
        (fits, b"x"),
        tuple(b"data: xxx\n" for _ in range(12)),
        (b"data: x\n", b"x" * 200),
        (b"data: x\r\n", b"data: " + b"x" * 200, b"\r\n\r\n"),
    ]
    for reads in too_large:
        decoder = SseDecoder(cap=100)
        with pytest.raises(UpstreamInvalid) as caught:
            feed_all(decoder, reads)
        assert caught.value.code == "upstream_invalid_response"
        assert decoder.close() == []


def test_a_20_mb_line_is_stopped_at_4_mib_in_little_time_and_memory() -> None:
    started = time.process_time()
    for piece in (b"x" * 64, b"data: y\n"):
        decoder = SseDecoder()
        fed: list[int] = []
        with pytest.raises(UpstreamInvalid):
            feed_all(decoder, (fed.append(1) or piece for _ in range(20_000_000 // len(piece))))
        assert len(fed) * len(piece) <= EVENT_CAP + 2 * len(fed)
    assert time.process_time() - started < 5


def test_comments_alone_never_fill_the_decoder() -> None:
    decoder = SseDecoder(cap=100)
    for _ in range(1000):
        assert decoder.feed(b": keep-alive\n") == []
    assert decoder.feed(b"data: 1\n\n") == [b"1"]
