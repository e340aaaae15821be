"""Server-sent events off the wire: bytes in, payloads out. The same for every dialect that streams SSE.

Only `data` counts: `id:`, `retry:` and comments are passed over, and `event:` too (dialects repeat the event's name in
the data) unless it is `error`, which not every vendor repeats. The ordinary frame, one `data:` line and a blank one,
costs one split of the read and one slice.

A body that begins as JSON is no stream at all: an error under 200, or an answer of a vendor that does not stream. It is
one payload.
"""

import orjson

from llm.errors import UpstreamInvalid

EVENT_CAP = 4 * 1024 * 1024  # bytes of one event; nothing larger is an answer
_BOM = b"\xef\xbb\xbf"
_BLANK = _BOM + b" \t\r\n"


class SseDecoder:
    """Implements `base.Decoder`. Holds at most one unfinished event of `cap` bytes, however it is cut into reads."""

    __slots__ = ("_begun", "_cap", "_cr", "_json", "_lines", "_partial", "_size", "_waiting")

    def __init__(self, cap: int = EVENT_CAP) -> None:
        self._cap = cap
        self._lines: list[bytes] = []  # whole data lines of the event under way
        self._partial: list[bytes] = []  # pieces of the line under way; joined only once its end is seen
        self._size, self._waiting = 0, 0  # bytes in the two
        self._cr = False  # the last read ended in \r: a \n at the start of the next belongs to it
        self._begun = False  # as a stream
        self._json = False  # it is none

    def feed(self, data: bytes) -> list[bytes]:
        if not self._begun and self._is_json(data):
            self._hold(data)
            return []
        if self._cr or b"\r" in data:
            data = self._with_line_feeds(data)
        if self._partial:
            if b"\n" not in data:
                self._hold(data)
                return []
            self._partial.append(data)
            data = b"".join(self._partial)
            self._partial.clear()
            self._waiting = 0
        payloads: list[bytes] = []
        if self._lines:
            data = self._finish(data, payloads)
        elif data[:6] == b"data: " and 6 < data.find(b"\n") == len(data) - 2 <= self._cap and data[-1:] == b"\n":
            return [data[6:-2]]  # one event a read: how most streams arrive
        blocks = data.split(b"\n\n")
        tail = blocks.pop()
        for block in blocks:
            if len(block) > self._cap:
                raise self._too_large()
            if block[:6] == b"data: " and b"\n" not in block and len(block) > 6:
                payloads.append(block[6:])
            else:
                payload = _payload(block.split(b"\n"))
                if payload:
                    payloads.append(payload)
        if tail:
            self._keep(tail)
        return payloads

    def close(self) -> list[bytes]:
        """The stream is over: an event that lacks only its blank line is one all the same."""
        rest = b"".join(self._partial)
        payload = rest.strip(_BLANK) if self._json else _payload([*self._lines, rest])
        self._clear()
        return [payload] if payload else []

    def _is_json(self, data: bytes) -> bool:
        """Whether the body is JSON, by the first byte that says something."""
        said = data.lstrip(_BLANK)
        if said and not self._json:
            self._json = said[:1] in (b"{", b"[")
            self._begun = not self._json
        return self._json

    def _finish(self, data: bytes, payloads: list[bytes]) -> bytes:
        """Go on with the event under way; what lies behind its end is left."""
        end = 0 if data.startswith(b"\n") else data.find(b"\n\n")
        if end < 0:
            self._keep(data)
            return b""
        self._keep(data[: end + 1] if end else b"")
        payload = _payload(self._lines)
        self._clear()
        if payload:
            payloads.append(payload)
        return data[end + 2 if end else 1 :]

    def _keep(self, tail: bytes) -> None:
        """Remember an unfinished event: its whole lines, and the piece of a line behind them."""
        end = tail.rfind(b"\n")
        if end >= 0:
            for line in tail[:end].split(b"\n"):
                if line.removeprefix(_BOM).startswith((b"data", b"event")):
                    self._lines.append(line)
                    self._size += len(line)
            tail = tail[end + 1 :]
        self._hold(tail)

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._partial.append(piece)
            self._waiting += len(piece)
        if self._size + self._waiting > self._cap:
            raise self._too_large()

    def _with_line_feeds(self, data: bytes) -> bytes:
        """`\\r\\n` and `\\r` end a line too. A bare one inside JSON is always escaped."""
        if self._cr and data:
            self._cr = False
            data = data.removeprefix(b"\n")
        if data.endswith(b"\r"):
            self._cr = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _clear(self) -> None:
        self._lines.clear()
        self._partial.clear()
        self._size = self._waiting = 0

    def _too_large(self) -> UpstreamInvalid:
        self._clear()
        return UpstreamInvalid(f"The provider sent an event of more than {self._cap} bytes.")


def _payload(lines: list[bytes]) -> bytes:
    """The data of one event; empty if it has none."""
    found = []
    failed = False
    for raw in lines:
        line = raw.removeprefix(_BOM)
        if line.startswith(b"data:"):
            found.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line == b"data":
            found.append(b"")
        elif line.startswith(b"event:"):
            failed = line[6:].strip() == b"error"
    data = b"\n".join(found)
    return _error(data) if failed else data


def _error(data: bytes) -> bytes:
    """What an `event: error` says, as the object it would have been without its name."""
    if b'"error"' in data:
        return data
    try:
        said = orjson.loads(data)
    except orjson.JSONDecodeError:
        said = data.decode("utf-8", "replace").strip()
    return orjson.dumps({"error": said or "no reason given"})
