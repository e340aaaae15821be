"""The OpenAI chat stream as clients want it, whatever the provider sent. WIRE rules 2 to 6.

An event that obeys the rules is sent on byte for byte; one that breaks a rule is rewritten.
"""

import time
from typing import Any

import orjson

from llm.calls import StreamEvent
from llm.engine.channel import PING, Ending
from llm.wire import sse
from llm.wire.errors import openai_body

Json = dict[str, Any]


class ChatStream:
    """One stream to one client. Remembers what may be said only once."""

    def __init__(self, *, request_id: str, model: str, include_usage: bool) -> None:
        self._id = f"chatcmpl-{request_id}"
        self._created = int(time.time())
        self._model = model
        self._named = False  # id, created and model are the first chunk's from then on
        self._include_usage = include_usage
        self._roles: set[int] = set()
        self._finished: set[int] = set()
        self._seen: set[int] = set()
        self._called: set[int] = set()  # choices that called tools
        self._calls: set[tuple[int, int]] = set()  # (choice, tool call) whose name was said

    def render(self, events: list[StreamEvent]) -> bytes:
        """Frames for these events; empty if none of them is for the client."""
        frames = []
        for event in events:
            if event is PING:
                frames.append(sse.PING)
            elif event.chunk is not None:
                payload = self._payload(event.chunk, event.raw)
                if payload is not None:
                    frames.append(b"data: " + payload + b"\n\n")
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def finish(self, ending: Ending) -> bytes:
        """The last frames: a missing finish, usage if asked for, [DONE]. After an error: the error, then nothing."""
        if ending.error is not None:
            return sse.frame(orjson.dumps(openai_body(ending.error)))
        frames = []
        for index in sorted(self._seen - self._finished):
            reason = "tool_calls" if index in self._called else "stop"
            choice = {"index": index, "delta": {}, "finish_reason": reason}
            frames.append(sse.frame(orjson.dumps(self._chunk([choice]))))
        if self._include_usage:
            frames.append(sse.frame(orjson.dumps({**self._chunk([]), "usage": ending.usage})))
        frames.append(sse.DONE)
        return b"".join(frames)

    def _chunk(self, choices: list[Json]) -> Json:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }

    def _payload(self, chunk: Json, raw: bytes | None) -> bytes | None:
        """The chunk's JSON, or None if nothing of it is for the client."""
        choices = chunk.get("choices")
        if not choices or not isinstance(choices, list):
            return None  # usage alone: the last chunk is our own
        changed = raw is None
        if not self._named:
            self._take_names(chunk)
        if (
            chunk.get("id") != self._id
            or chunk.get("created") != self._created
            or chunk.get("model") != self._model
            or chunk.get("object") != "chat.completion.chunk"
        ):
            chunk.update(id=self._id, created=self._created, model=self._model, object="chat.completion.chunk")
            changed = True
        if chunk.get("usage") is not None:
            del chunk["usage"]
            changed = True
        if "x_groq" in chunk:
            del chunk["x_groq"]
            changed = True
        kept = []
        for choice in choices:
            verdict = self._choice(choice)
            if verdict is not None:
                kept.append(choice)
                changed = changed or verdict
        if not kept:
            return None
        if len(kept) != len(choices):
            chunk["choices"] = kept
            changed = True
        return raw if raw is not None and not changed else orjson.dumps(chunk)

    def _take_names(self, chunk: Json) -> None:
        self._named = True
        if isinstance(chunk.get("id"), str) and chunk["id"]:
            self._id = chunk["id"]
        if isinstance(chunk.get("model"), str) and chunk["model"]:
            self._model = chunk["model"]
        created = chunk.get("created")
        if isinstance(created, int) and not isinstance(created, bool) and created > 0:
            self._created = created

    def _choice(self, choice: Json) -> bool | None:
        """Mend one choice in place. True: changed; False: as it was; None: it must not be sent."""
        changed = False
        index = choice.get("index")
        if type(index) is not int:
            index = choice["index"] = 0
            changed = True
        if index in self._finished:
            return None
        self._seen.add(index)
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice["delta"] = {}
            changed = True
        if index not in self._roles:
            self._roles.add(index)
            if delta.get("role") != "assistant":
                delta["role"] = "assistant"
                changed = True
        elif "role" in delta:
            del delta["role"]
            changed = True
        if delta.get("tool_calls"):
            changed = self._tool_calls(index, delta["tool_calls"]) or changed
        return self._finish_reason(index, choice, delta) or changed

    def _finish_reason(self, index: int, choice: Json, delta: Json) -> bool:
        if "finish_reason" not in choice or choice["finish_reason"] == "":
            choice["finish_reason"] = None
            return True
        reason = choice["finish_reason"]
        if reason is None:
            return False
        self._finished.add(index)
        if index in self._called and reason != "tool_calls":
            choice["finish_reason"] = "tool_calls"
            return True
        return False

    def _tool_calls(self, index: int, calls: list[Json]) -> bool:
        """Id, type and name on the first fragment of each call only; argument bytes untouched."""
        self._called.add(index)
        changed = False
        for call in calls:
            position = (index, call.get("index", 0))
            function = call.get("function")
            if position not in self._calls:
                self._calls.add(position)
                if call.get("type") != "function" and isinstance(function, dict):
                    call["type"] = "function"
                    changed = True
                continue
            for name in ("id", "type"):
                if name in call:
                    del call[name]
                    changed = True
            if isinstance(function, dict) and "name" in function:
                del function["name"]
                changed = True
        return changed
