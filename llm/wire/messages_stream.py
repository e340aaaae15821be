"""Anthropic's stream as its clients want it, whatever the provider sent.

    message_start, then for each block content_block_start, _delta ..., _stop, then message_delta, message_stop

Blocks never interleave and are numbered from 0. `ping` events fill silence. The last message_delta waits for the
settlement, for it says the usage. After an error comes `event: error` and nothing else. What both kinds of stream have
in common is here; what comes from another dialect is in `messages_translated`.
"""

from typing import Any

import orjson

from llm.calls import StreamEvent
from llm.engine.channel import PING, Ending
from llm.engine.completion import Reply
from llm.providers import usage as reported
from llm.types import ChatRequest
from llm.wire.errors import anthropic_body
from llm.wire.messages_answer import shaped, usage_of

Json = dict[str, Any]

PING_FRAME = b'event: ping\ndata: {"type": "ping"}\n\n'
_STOPPED = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_MAX_NAME = 64  # characters of an event's name


def frame(event: Json) -> bytes:
    name: str = event["type"]
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"


class Envelope:
    """The beginning and the end of a stream, and the order of its blocks."""

    def __init__(self, request: ChatRequest, reply: Reply) -> None:
        self.request, self.reply = request, reply
        self.started = False
        self.open: int | None = None  # the block under way
        self.next = 0  # the number of the next one
        self.called = False  # tools were called
        self.stop_reason: str | None = None
        self.stop_sequence: str | None = None

    def start(self, usage: Any = None, *, model: Any = None) -> bytes:
        self.started = True
        return frame(
            {
                "type": "message_start",
                "message": {
                    "id": f"msg_{self.reply.request_id}",
                    "type": "message",
                    "role": "assistant",
                    "model": model if isinstance(model, str) and model else self.reply.target.model.model_id,
                    "content": [],
                    "stop_reason": None,
                    "stop_sequence": None,
                    "usage": self.usage_at_start(usage),
                },
            }
        )

    def usage_at_start(self, usage: Any) -> Json:
        """What the provider has counted so far, else the estimate: never 0. One token out, as Anthropic says it."""
        window = self.reply.target.model.context_window
        found = reported.from_openai(usage, context_window=window, completion_estimate=1)
        if found is None or not found.prompt_tokens:
            estimate = max(1, self.request.size.estimate)
            return {
                "input_tokens": min(estimate, window),
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 1,
            }
        return shaped(found)

    def start_block(self, block: Json) -> bytes:
        """Begin a block, ending the one before it."""
        ended = self.stop_block()
        self.open, self.next = self.next, self.next + 1
        self.called = self.called or block.get("type") == "tool_use"
        return ended + frame({"type": "content_block_start", "index": self.open, "content_block": block})

    def delta(self, kind: str, name: str, text: str) -> bytes:
        """A piece of the block under way."""
        return frame({"type": "content_block_delta", "index": self.open, "delta": {"type": kind, name: text}})

    def stop_block(self) -> bytes:
        if self.open is None:
            return b""
        index, self.open = self.open, None
        return frame({"type": "content_block_stop", "index": index})

    def finish(self, ending: Ending, delta: Json | None = None, usage: Json | None = None) -> bytes:
        """The last frames. `delta` and `usage` are what the provider's own message_delta held."""
        if ending.error is not None:
            error = anthropic_body(ending.error, self.reply.request_id)
            return b"event: error\ndata: " + orjson.dumps(error) + b"\n\n"
        frames = [] if self.started else [self.start()]
        frames.append(self.stop_block())
        reason = self.stop_reason or "end_turn"
        if self.called and reason == "end_turn":
            reason = "tool_use"  # whatever the provider said
        said = {"stop_sequence": self.stop_sequence, **(delta or {}), "stop_reason": reason}
        tier = ending.service_tier if self.request.route.service_tier else ""
        counted = (usage or {}) | usage_of(ending.usage or {}, self.reply, tier)
        frames += [frame({"type": "message_delta", "delta": said, "usage": counted}), _STOPPED]
        return b"".join(frames)


class NativeStream:
    """A stream that came in Anthropic's events: an event in its place is sent on byte for byte."""

    def __init__(self, request: ChatRequest, reply: Reply) -> None:
        self._envelope = Envelope(request, reply)
        self._delta: Json = {}
        self._usage: Json = {}
        self._given: Any = None  # the provider's number of the block under way
        self._same = False  # it is ours too

    def render(self, events: list[StreamEvent]) -> bytes:
        frames = []
        given, same = self._given, self._same
        for event in events:
            native = event.native
            if native is None:
                frames.append(PING_FRAME if event is PING else b"")
            elif same and native.get("index") == given and native["type"] == "content_block_delta" and event.raw:
                frames += (b"event: content_block_delta\ndata: ", event.raw, b"\n\n")
            else:
                frames.append(self._other(native, event))
                given, same = self._given, self._same
        return b"".join(frames)

    def finish(self, ending: Ending) -> bytes:
        return self._envelope.finish(ending, self._delta, self._usage)

    def _other(self, native: Json, event: StreamEvent) -> bytes:
        """Anything but the next piece of the block under way."""
        kind, envelope = native.get("type"), self._envelope
        if kind == "message_start":
            return b"" if envelope.started else self._start(native, event)
        if kind in ("ping", "message_stop") or not isinstance(kind, str):
            return PING_FRAME if kind == "ping" and envelope.started else b""
        begin = b"" if envelope.started else envelope.start(event.usage)
        if kind == "content_block_start":
            return begin + self._start_block(native, event)
        if kind == "content_block_delta":
            return begin + self._stray(native)
        if kind == "content_block_stop":
            return begin + self._stop_block(native, event)
        if kind == "message_delta":
            self._take_delta(native)
            return begin
        # An event of a later day, as it came. Its name is the provider's: one that could end a line is no name.
        known = kind.isidentifier() and kind.isascii() and len(kind) <= _MAX_NAME
        return begin + (frame(native) if known else b"")

    def _start(self, native: Json, event: StreamEvent) -> bytes:
        envelope = self._envelope
        envelope.started = True
        message = native["message"]
        model = message.get("model") or envelope.reply.target.model.model_id
        mended: Json = {
            "id": message.get("id") or f"msg_{envelope.reply.request_id}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }
        usage = message.get("usage")
        counted = isinstance(usage, dict) and event.usage is not None and type(usage.get("output_tokens")) is int
        if counted and event.raw and all(name in message and message[name] == mended[name] for name in mended):
            return b"event: message_start\ndata: " + event.raw + b"\n\n"
        known = usage if isinstance(usage, dict) else {}
        return frame(
            {**native, "message": {**message, **mended, "usage": known | envelope.usage_at_start(event.usage)}}
        )

    def _start_block(self, native: Json, event: StreamEvent) -> bytes:
        envelope = self._envelope
        self._given, block = native.get("index"), native["content_block"]
        index = envelope.next
        self._same = type(self._given) is int and self._given == index
        if not (self._same and event.raw):
            return envelope.stop_block() + self._begun(block, frame({**native, "index": index}))
        return envelope.stop_block() + self._begun(block, b"event: content_block_start\ndata: " + event.raw + b"\n\n")

    def _stop_block(self, native: Json, event: StreamEvent) -> bytes:
        envelope = self._envelope
        if native.get("index") != self._given or envelope.open is None:
            return b""
        verbatim = self._same and event.raw
        self._given, self._same = None, False
        if not verbatim:
            return envelope.stop_block()
        envelope.open = None
        return b"event: content_block_stop\ndata: " + verbatim + b"\n\n"

    def _begun(self, block: Json, written: bytes) -> bytes:
        envelope = self._envelope
        envelope.open, envelope.next = envelope.next, envelope.next + 1
        envelope.called = envelope.called or block.get("type") == "tool_use"
        return written

    def _stray(self, native: Json) -> bytes:
        """A piece whose block has another number than ours, or never began."""
        envelope = self._envelope
        begun = b""
        if native.get("index") != self._given or envelope.open is None:
            kind = native["delta"].get("type")
            if kind not in ("text_delta", "thinking_delta"):
                return b""  # of a block nobody knows
            text = {"type": "text", "text": ""}
            begun = envelope.start_block(text if kind == "text_delta" else _THINKING | {})
            self._given, self._same = native.get("index"), native.get("index") == envelope.open
        return begun + frame({**native, "index": envelope.open})

    def _take_delta(self, native: Json) -> None:
        envelope, said = self._envelope, self._delta
        said |= {name: value for name, value in native["delta"].items() if value is not None or name not in said}
        if isinstance(native.get("usage"), dict):
            self._usage |= native["usage"]
        if isinstance(self._delta.get("stop_reason"), str):
            envelope.stop_reason = self._delta["stop_reason"]


_THINKING: Json = {"type": "thinking", "thinking": "", "signature": ""}
