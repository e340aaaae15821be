"""A stream of chat chunks as Anthropic's events.

Reasoning, text and each tool call are blocks. OpenAI's parallel tool calls may interleave and Anthropic's blocks may
not: what belongs to another block waits until the arguments of the call under way are whole JSON, or the stream ends.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm.calls import StreamEvent
from llm.engine.channel import PING, Ending
from llm.engine.completion import Reply
from llm.types import ChatRequest
from llm.wire.messages_answer import opening, stop_of
from llm.wire.messages_stream import PING_FRAME, Envelope

Json = dict[str, Any]
Key = str | int  # "text", "thinking", or the index of a tool call

MAX_WAITING = 4 * 1024 * 1024  # bytes held back; beyond, the call under way counts as whole
_DELTAS = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}


class _Call:
    """A tool call: its block's head and what its arguments are so far."""

    __slots__ = ("arguments", "ended", "head")

    def __init__(self, head: Json) -> None:
        self.head = head
        self.arguments: list[str] = []
        self.ended = False  # its block is: what still comes cannot be said

    def whole(self) -> bool:
        if not self.arguments or not self.arguments[-1].rstrip().endswith("}"):
            return False
        try:
            return isinstance(orjson.loads("".join(self.arguments)), dict)
        except orjson.JSONDecodeError:
            return False


class TranslatedStream:
    """One stream to one client."""

    def __init__(self, request: ChatRequest, reply: Reply) -> None:
        self._envelope = Envelope(request, reply)
        self._stops = request.body.get("stop")
        self._key: Key | None = None  # the block under way
        self._calls: dict[int, _Call] = {}
        self._waiting: dict[Key, list[str]] = {}  # in the order in which they came
        self._held = 0

    def render(self, events: list[StreamEvent]) -> bytes:
        frames: list[bytes] = []
        for event in events:
            if event.chunk is not None:
                if not self._envelope.started:
                    frames.append(self._envelope.start(event.usage, model=event.chunk.get("model")))
                for choice in event.chunk.get("choices") or ():
                    if choice.get("index") == 0:
                        self._choice(choice, frames)
            elif event is PING and self._envelope.started:
                frames.append(PING_FRAME)
        return b"".join(frames)

    def finish(self, ending: Ending) -> bytes:
        if ending.error is not None:
            return self._envelope.finish(ending)
        frames = [] if self._envelope.started else [self._envelope.start()]
        self._drain(frames, force=True)
        return b"".join(frames) + self._envelope.finish(ending)

    def _choice(self, choice: Mapping[str, Any], frames: list[bytes]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict) and delta:
            if delta.get("reasoning_content"):
                self._say("thinking", delta["reasoning_content"], frames)
            if delta.get("thinking_blocks"):
                self._thoughts(delta["thinking_blocks"], frames)
            if delta.get("content"):
                self._say("text", delta["content"], frames)
            if delta.get("refusal"):
                self._say("text", delta["refusal"], frames)
            for call in delta.get("tool_calls") or ():
                self._fragment(call, frames)
        if choice.get("finish_reason") is not None:
            self._envelope.stop_reason, self._envelope.stop_sequence = stop_of(choice, self._stops)

    # Blocks

    def _say(self, key: Key, text: Any, frames: list[bytes]) -> None:
        """A piece of the block `key`: sent, or held back while another one must go on."""
        if not isinstance(text, str):
            return
        if key != self._key and self._busy():
            self._waiting.setdefault(key, []).append(text)
            self._held += len(text)
            if self._held > MAX_WAITING:
                self._drain(frames, force=True)
            return
        self._emit(key, text, frames)
        if self._waiting:
            self._drain(frames)

    def _emit(self, key: Key, text: str, frames: list[bytes]) -> None:
        envelope = self._envelope
        if key != self._key:
            self._leave(key)
            frames.append(envelope.start_block(self._head(key)))
        if not text:
            return
        if isinstance(key, int):
            frames.append(envelope.delta("input_json_delta", "partial_json", text))
        else:
            frames.append(envelope.delta(*_DELTAS[key], text))

    def _leave(self, key: Key | None) -> None:
        """Go on to another block."""
        if isinstance(self._key, int):
            self._calls[self._key].ended = True
        self._key = key

    def _head(self, key: Key) -> Json:
        if isinstance(key, int):
            return self._calls[key].head
        return {"type": "text", "text": ""} if key == "text" else {"type": "thinking", "thinking": "", "signature": ""}

    def _busy(self) -> bool:
        """True while a tool call is under way whose arguments are not whole."""
        return isinstance(self._key, int) and not self._calls[self._key].whole()

    def _drain(self, frames: list[bytes], *, force: bool = False) -> None:
        """Send what waits, as far as it may be sent."""
        while self._waiting and (force or not self._busy()):
            key = next(iter(self._waiting))
            for text in self._waiting.pop(key):
                self._held -= len(text)
                self._emit(key, text, frames)

    # What a delta holds

    def _fragment(self, call: Any, frames: list[bytes]) -> None:
        if not isinstance(call, dict):
            return
        index = call.get("index")
        index = index if type(index) is int else 0
        given = call.get("function")
        function: Mapping[str, Any] = given if isinstance(given, dict) else {}
        known = self._calls.get(index)
        if known is None:
            known = self._calls[index] = _Call(opening(call, function, index, self._envelope.reply.request_id))
        arguments = function.get("arguments")
        if known.ended:
            return
        text = arguments if isinstance(arguments, str) else ""
        if text:
            known.arguments.append(text)
        self._say(index, text, frames)

    def _thoughts(self, blocks: Any, frames: list[bytes]) -> None:
        """Signatures of the reasoning before them, and thinking that is not shown."""
        for block in blocks if isinstance(blocks, list) else ():
            if not isinstance(block, dict) or self._busy():
                continue
            signature = block.get("signature")
            if block.get("type") == "thinking":
                if self._key != "thinking" or block.get("thinking"):
                    self._emit("thinking", str(block.get("thinking") or ""), frames)
                if isinstance(signature, str) and signature:
                    frames.append(self._envelope.delta("signature_delta", "signature", signature))
                self._leave(None)  # what is thought next has a signature of its own
            else:
                self._leave(None)
                frames += (self._envelope.start_block(block), self._envelope.stop_block())
