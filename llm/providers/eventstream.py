"""AWS event streams off the wire (application/vnd.amazon.eventstream): bytes in, payloads out.

    total length (4) | headers length (4) | CRC-32 of those 8 bytes (4) | headers | payload | CRC-32 of all before (4)

A header is its name's length (1), the name, a type (1) and a value. What a message is stands in its headers, so that a
payload goes on as JSON with that name around it: {"contentBlockDelta": {...}}. An exception is {":exception": {"type":
its name, "detail": its payload}}, and a message that is broken behind good ones of the same read {":broken": why}:
what came before it is not lost.

Source: "Event stream encoding" in docs.aws.amazon.com (Lex, Transcribe), checked against botocore/eventstream.py.
"""

import re
import struct
from binascii import crc32

import orjson

from llm.errors import UpstreamInvalid
from llm.providers.sse import EVENT_CAP

EXCEPTION, BROKEN = ":exception", ":broken"
_PRELUDE = struct.Struct(">III")
_UINT32 = struct.Struct(">I")
_UINT16 = struct.Struct(">H")
_AROUND = _PRELUDE.size + _UINT32.size  # bytes of a message that has neither headers nor payload
_HEADERS_CAP = 128 * 1024  # the published maximum
# Bytes of a value by its type: true, false, byte, short, int, long, then bytes and string (which say), time, UUID.
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_BYTES, _STRING = 6, 7
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.#-]{0,99}")


class EventStreamDecoder:
    """Implements `base.Decoder`. Holds at most one unfinished message of `cap` bytes, however it is cut into reads."""

    __slots__ = ("_cap", "_held", "_needed")

    def __init__(self, cap: int = EVENT_CAP) -> None:
        self._cap = cap
        self._held = bytearray()
        self._needed = _PRELUDE.size  # bytes to wait for: looking again before would be work for nothing

    def feed(self, data: bytes) -> list[bytes]:
        held = self._held
        held += data
        payloads: list[bytes] = []
        if len(held) < self._needed:
            return payloads
        start = 0
        try:
            while len(held) - start >= _PRELUDE.size:
                total, headers = self._prelude(start)
                if len(held) - start < total:
                    self._needed = total
                    break
                message = bytes(held[start : start + total])
                payload = _payload(message, _PRELUDE.size + headers)
                if payload:
                    payloads.append(payload)
                start += total
            else:
                self._needed = _PRELUDE.size
        except UpstreamInvalid as error:
            held.clear()
            if not payloads:
                raise
            return [*payloads, orjson.dumps({BROKEN: error.message})]
        del held[:start]
        return payloads

    def close(self) -> list[bytes]:
        """The stream is over. A message that is not whole cannot be trusted: it has no checksum."""
        if self._held:
            self._held.clear()
            raise UpstreamInvalid("The provider's stream ended within an event.")
        return []

    def _prelude(self, start: int) -> tuple[int, int]:
        """(total, headers) length of the message that starts there."""
        total, headers, checksum = _PRELUDE.unpack_from(self._held, start)
        if crc32(self._held[start : start + 8]) != checksum:
            raise UpstreamInvalid("The provider sent an event with a wrong checksum.")
        if total > self._cap:
            raise UpstreamInvalid(f"The provider sent an event of more than {self._cap} bytes.")
        if headers > _HEADERS_CAP or total < _AROUND + headers:
            raise UpstreamInvalid("The provider sent an event whose lengths cannot be.")
        return total, headers


def _payload(message: bytes, body: int) -> bytes:
    """What a whole message says, as JSON; empty for one that is no event. `body` is where its payload starts."""
    if crc32(message[:-4]) != _UINT32.unpack_from(message, len(message) - 4)[0]:
        raise UpstreamInvalid("The provider sent an event with a wrong checksum.")
    headers = _headers(message[_PRELUDE.size : body])
    payload = message[body:-4]
    kind = headers.get(":message-type", "")
    if kind == "event":
        return b'{"%s":%s}' % (_named(headers, ":event-type"), payload or b"null")
    if kind == "exception":
        return b'{"%s":{"type":"%s","detail":%s}}' % (
            EXCEPTION.encode(),
            _named(headers, ":exception-type"),
            payload or b"null",
        )
    if kind == "error":
        said = {"type": headers.get(":error-code", ""), "detail": {"message": headers.get(":error-message", "")}}
        return orjson.dumps({EXCEPTION: said})
    return b""


def _named(headers: dict[str, str], name: str) -> bytes:
    found = headers.get(name, "")
    if not _NAME.fullmatch(found):
        raise UpstreamInvalid("The provider sent an event without a name.")
    return found.encode()


def _headers(block: bytes) -> dict[str, str]:
    """The headers that are text."""
    found: dict[str, str] = {}
    at, end = 0, len(block)
    try:
        while at < end:
            name = block[at + 1 : at + 1 + block[at]].decode()
            at += 1 + block[at]
            kind = block[at]
            at += 1
            if kind in (_BYTES, _STRING):
                size = _UINT16.unpack_from(block, at)[0]
                at += 2
            else:
                size = _SIZES[kind]
            if at + size > end:
                raise UpstreamInvalid("The provider sent an event whose lengths cannot be.")
            if kind == _STRING:
                found[name] = block[at : at + size].decode()
            at += size
    except (IndexError, KeyError, UnicodeDecodeError, struct.error) as error:
        raise UpstreamInvalid("The provider sent an event whose headers cannot be read.") from error
    return found
