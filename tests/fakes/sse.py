"""Server-sent event frames, honest or odd, and the count of tokens by bytes written."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass

from .behaviour import Behaviour, Json

_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False)


def dump(obj: object) -> str:
    """Compact JSON, characters as they are."""
    return _encoder.encode(obj)


@dataclass(slots=True)
class Frame:
    """Bytes of one event; `tokens` are produced when its last byte is written; `content`: a piece of the answer."""

    data: bytes
    tokens: int = 0
    content: bool = False


def frame(obj: Json | str, behaviour: Behaviour, *, event: str | None = None, tokens: int = 0) -> Frame:
    """One event. `obj` as a string goes out raw (`[DONE]`)."""
    text = obj if isinstance(obj, str) else dump(obj)
    if behaviour.multi_data and "," in text:
        text = text.replace(",", ",\ndata: ", 1)
    lines = f"data: {text}\n\n"
    if event is not None:
        lines = f"event: {event}\n{lines}"
    if behaviour.comments:
        lines = f": PROCESSING\n\n{lines}"
    if behaviour.crlf:
        lines = lines.replace("\n", "\r\n")
    # "surrogatepass": a script may hold lone surrogates; json.dumps lets them through when it does not escape.
    return Frame(lines.encode("utf-8", "surrogatepass"), tokens)


def finished(frames: list[Frame], behaviour: Behaviour, *, giant: Frame | None, error: Frame | None) -> list[Frame]:
    """The stream as it goes out: broken, interrupted, unterminated or compressed as scripted."""
    if behaviour.empty_stream:
        return []
    if error is not None:
        frames = [*before_error(frames, behaviour.in_band_error_after), error]
    if behaviour.bad_json:
        broken = b'data: {"id":"broken","choices":[{"index":0,"delta":{"content":"\n\n'
        frames = [Frame(broken), *frames]
    if giant is not None:
        frames = [giant, *frames]
    if behaviour.no_final_blank and frames:
        frames[-1].data = frames[-1].data.rstrip(b"\r\n")
    if behaviour.gzip:
        compress(frames)
    return frames


def before_error(frames: list[Frame], content_frames: int) -> list[Frame]:
    """The frames up to and including so many content frames; none for 0: the error comes first."""
    kept: list[Frame] = []
    seen = 0
    for one in frames:
        if seen == content_frames:
            break
        kept.append(one)
        seen += one.content
    return kept


def compress(frames: list[Frame]) -> None:
    packer = zlib.compressobj(wbits=31)
    for one in frames:
        one.data = packer.compress(one.data) + packer.flush(zlib.Z_SYNC_FLUSH)
    if frames:
        frames[-1].data += packer.flush()


class Tape:
    """Tokens produced after so many bytes of the payload. Offsets must not decrease."""

    def __init__(self, frames: list[Frame]) -> None:
        self._frames = frames
        self._next = 0
        self._end = len(frames[0].data) if frames else 0
        self._tokens = 0

    def at(self, offset: int) -> int:
        """Sum of the tokens of all frames whose last byte lies before `offset`."""
        while self._next < len(self._frames) and self._end <= offset:
            self._tokens += self._frames[self._next].tokens
            self._next += 1
            if self._next < len(self._frames):
                self._end += len(self._frames[self._next].data)
        return self._tokens
