"""AWS event streams off the wire. The first messages are quoted byte for byte from other implementations' tests."""

import struct
import zlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.errors import UpstreamInvalid
from llm.providers.eventstream import EventStreamDecoder
from tests.fakes.bedrock_wire import event, exception, message

STREAM = [
    event("messageStart", {"role": "assistant"}),
    event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hé"}, "p": "abc"}),
    event("messageStop", {"stopReason": "end_turn"}),
]
PAYLOADS = [
    b'{"messageStart":{"role":"assistant"}}',
    '{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"text":"Hé"},"p":"abc"}}'.encode(),
    b'{"messageStop":{"stopReason":"end_turn"}}',
]


def fed(*parts: bytes, cap: int = 4096) -> list[bytes]:
    decoder = EventStreamDecoder(cap)
    found = [payload for part in parts for payload in decoder.feed(part)]
    return found + decoder.close()


def corrupt(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def test_the_fakes_messages_are_those_that_others_publish() -> None:
    # Elixir's event_stream documents these two: {"foo": "bar"} without headers, and with a content type.
    assert list(message({}, b'{"foo": "bar"}')) == [
        *(0, 0, 0, 30, 0, 0, 0, 0, 186, 242, 246, 138, 123, 34, 102, 111, 111, 34, 58, 32, 34, 98, 97, 114, 34, 125),
        *(174, 114, 88, 228),
    ]
    typed = message({"content-type": "application/json"}, b'{"foo": "bar"}')
    assert typed[:12] == bytes((0, 0, 0, 62, 0, 0, 0, 32, 64, 93, 249, 70))
    assert typed[-4:] == bytes((111, 162, 191, 59))
    assert fed(typed) == []  # no message type: not for us


def test_events_come_out_with_their_names_around_them() -> None:
    assert fed(b"".join(STREAM)) == PAYLOADS
    assert fed(*STREAM) == PAYLOADS
    assert fed(message({":message-type": "event", ":event-type": "x"}, b"")) == [b'{"x":null}']


@pytest.mark.parametrize("size", [1, 2, 3, 7, 11, 12, 13, 50])
def test_however_it_is_cut_into_reads(size: int) -> None:
    raw = b"".join(STREAM)
    assert fed(*(raw[at : at + size] for at in range(0, len(raw), size))) == PAYLOADS


@given(st.data())
def test_cut_anywhere_twice(data: st.DataObject) -> None:
    raw = b"".join(STREAM)
    first = data.draw(st.integers(0, len(raw)))
    second = data.draw(st.integers(first, len(raw)))
    assert fed(raw[:first], raw[first:second], raw[second:]) == PAYLOADS


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_waited_for_and_never_read(raw: bytes) -> None:
    decoder = EventStreamDecoder()
    try:
        assert decoder.feed(raw) == []
    except UpstreamInvalid:
        assert decoder.close() == []


def test_exceptions_and_errors_carry_their_names() -> None:
    assert fed(exception("throttlingException", {"message": "Slow down"})) == [
        b'{":exception":{"type":"throttlingException","detail":{"message":"Slow down"}}}'
    ]
    headers = {":message-type": "error", ":error-code": "InternalError", ":error-message": 'It "broke"'}
    assert [orjson.loads(one) for one in fed(message(headers, b""))] == [
        {":exception": {"type": "InternalError", "detail": {"message": 'It "broke"'}}}
    ]


def test_a_single_wrong_bit_anywhere_is_noticed() -> None:
    raw = STREAM[1]
    for at in range(len(raw)):
        with pytest.raises(UpstreamInvalid):
            fed(corrupt(raw, at), cap=2**31)


def test_what_came_before_a_broken_message_in_the_same_read_is_not_lost() -> None:
    decoder = EventStreamDecoder()
    found = decoder.feed(STREAM[0] + corrupt(STREAM[1], -1 % len(STREAM[1])) + STREAM[2])
    assert found == [PAYLOADS[0], b'{":broken":"The provider sent an event with a wrong checksum."}']
    assert decoder.close() == []


@pytest.mark.parametrize(
    ("total", "headers", "words"),
    [
        (15, 0, "lengths cannot be"),
        (16, 1, "lengths cannot be"),
        (100, 85, "lengths cannot be"),
        (5000, 0, "more than 4096 bytes"),
        (2**32 - 1, 0, "more than 4096 bytes"),
        (0, 0, "lengths cannot be"),
    ],
)
def test_absurd_lengths_are_refused_before_anything_is_held(total: int, headers: int, words: str) -> None:
    prelude = struct.pack(">II", total, headers)
    with pytest.raises(UpstreamInvalid, match=words):
        fed(prelude + struct.pack(">I", zlib.crc32(prelude)))


def test_headers_of_every_type_are_stepped_over() -> None:
    def header(name: str, kind: int, value: bytes) -> bytes:
        return bytes([len(name)]) + name.encode() + bytes([kind]) + value

    block = b"".join(
        [
            header("t", 0, b""), header("f", 1, b""), header("b", 2, b"\x01"), header("s", 3, b"\x01\x02"),
            header("i", 4, b"1234"), header("l", 5, b"12345678"), header("y", 6, b"\x00\x03abc"),
            header("d", 8, b"12345678"), header("u", 9, b"1234567812345678"),
            header(":message-type", 7, b"\x00\x05event"), header(":event-type", 7, b"\x00\x01x"),
        ]
    )  # fmt: skip
    assert fed(framed(block, b"{}")) == [b'{"x":{}}']


@pytest.mark.parametrize(
    "block",
    [
        b"\x05ab",  # a name longer than the block
        b"\x01a",  # no type
        b"\x01a\x63",  # a type there is not
        b"\x01a\x07\x00",  # half a length
        b"\x01a\x07\x00\x09abc",  # a value longer than the block
        b"\x01a\x09abc",  # a UUID that is short
        b"\x01\xff\x07\x00\x01x",  # a name that is no UTF-8
        b"\x0d:message-type\x07\x00\x05event",  # an event without a name
        b'\x0d:message-type\x07\x00\x05event\x0b:event-type\x07\x00\x03a"b',  # a name that would break out of JSON
    ],
)
def test_headers_that_cannot_be_read_are_refused(block: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        fed(framed(block, b"{}"))


def test_a_stream_that_ends_within_a_message_is_broken() -> None:
    decoder = EventStreamDecoder()
    assert decoder.feed(STREAM[0] + STREAM[1][:20]) == PAYLOADS[:1]
    with pytest.raises(UpstreamInvalid, match="ended within"):
        decoder.close()
    assert EventStreamDecoder().close() == []


def framed(block: bytes, payload: bytes) -> bytes:
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + block + payload
    return whole + struct.pack(">I", zlib.crc32(whole))
