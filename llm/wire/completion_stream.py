"""The stream of legacy completions: text chunks, cleaned as chat's are (see chat_stream)."""

import time
from typing import Any

import orjson

from llm.calls import StreamEvent
from llm.engine.channel import PING, Ending
from llm.wire import sse
from llm.wire.errors import openai_body

Json = dict[str, Any]


class CompletionStream:
    """One stream to one client. Id, time and model are the first chunk's for all; every choice finishes once."""

    def __init__(self, *, request_id: str, model: str, include_usage: bool) -> None:
        self._same: Json = {
            "id": f"cmpl-{request_id}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._named = False
        self._include_usage = include_usage
        self._seen: set[int] = set()
        self._finished: set[int] = set()

    def render(self, events: list[StreamEvent]) -> bytes:
        """Frames for these events; empty if none of them is for the client."""
        frames = []
        for event in events:
            if event is PING:
                frames.append(sse.PING)
            elif event.chunk is not None:
                payload = self._payload(event.chunk, event.raw)
                if payload is not None:
                    frames.append(sse.frame(payload))
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def finish(self, ending: Ending) -> bytes:
        """The last frames: a missing finish, usage if asked for, [DONE]. After an error: the error, then nothing."""
        if ending.error is not None:
            return sse.frame(orjson.dumps(openai_body(ending.error)))
        frames = []
        for index in sorted(self._seen - self._finished):
            choice = {"text": "", "index": index, "logprobs": None, "finish_reason": "stop"}
            frames.append(sse.frame(orjson.dumps({**self._same, "choices": [choice]})))
        if self._include_usage:
            frames.append(sse.frame(orjson.dumps({**self._same, "choices": [], "usage": ending.usage})))
        frames.append(sse.DONE)
        return b"".join(frames)

    def _payload(self, chunk: Json, raw: bytes | None) -> bytes | None:
        """The chunk's JSON, as it came if it obeys the rules; None if nothing of it is for the client."""
        choices = chunk.get("choices")
        if not choices:
            return None  # usage alone: the last chunk is our own
        if not self._named:
            self._take_names(chunk)
        kept = [choice for choice in choices if self._goes(choice)]
        if not kept:
            return None
        same = raw is not None and len(kept) == len(choices) and chunk.get("usage") is None
        if same and self._same.items() <= chunk.items() and all("finish_reason" in choice for choice in kept):
            return raw
        for choice in kept:
            choice.setdefault("finish_reason", None)
        chunk.pop("usage", None)
        return orjson.dumps({**chunk, **self._same, "choices": kept})

    def _take_names(self, chunk: Json) -> None:
        self._named = True
        for name, kind in (("id", str), ("model", str), ("created", int)):
            if type(chunk.get(name)) is kind and chunk[name]:
                self._same[name] = chunk[name]

    def _goes(self, choice: Json) -> bool:
        index = choice["index"]
        if index in self._finished:
            return False
        self._seen.add(index)
        if choice.get("finish_reason"):
            self._finished.add(index)
        elif not choice["text"]:
            return False  # says nothing
        return True
