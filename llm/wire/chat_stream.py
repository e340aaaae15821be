"""The OpenAI chat stream as clients want it, whatever the provider sent. WIRE rules 2 to 6.

An event that obeys the rules is sent on byte for byte; one that breaks a rule is rewritten. What ends a choice is held
back until the provider has ended too: some say so in every chunk, or say more after it.
"""

import time
from typing import Any

import orjson

from llm.calls import StreamEvent
from llm.engine.channel import PING, Ending
from llm.service_tiers import OPENAI_WORDS
from llm.wire import sse
from llm.wire.errors import openai_body

Json = dict[str, Any]


class ChatStream:
    """One stream to one client. Remembers what may be said only once. `tells_tier`: a service tier was asked for, so
    the last chunks say which it was."""

    def __init__(self, *, request_id: str, model: str, include_usage: bool, tells_tier: bool = False) -> None:
        self._tells_tier = tells_tier
        self._id = f"chatcmpl-{request_id}"
        self._created = int(time.time())
        self._model = model
        self._named = False  # id, created and model are the first chunk's from then on
        self._include_usage = include_usage
        self._seen: set[int] = set()  # choices that have their role
        self._held: dict[int, tuple[Json, bytes | None]] = {}  # the chunk that ends a choice
        self._called: set[int] = set()  # choices that called tools
        self._calls: set[tuple[int, int]] = set()  # (choice, tool call) whose name was said

    def render(self, events: list[StreamEvent]) -> bytes:
        """Frames for these events; empty if none of them is for the client."""
        frames = []
        for event in events:
            if event is PING:
                frames.append(sse.PING)
            elif event.chunk is not None:
                payload = self._payload(event.chunk, event.raw, frames)
                if payload is not None:
                    frames.append(b"data: " + payload + b"\n\n")
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def finish(self, ending: Ending) -> bytes:
        """The last frames: what ends each choice, usage if asked for, [DONE]. After an error: the error, no more."""
        frames: list[bytes] = []
        if ending.error is not None:
            for index in sorted(self._held):
                self._reopen(index, frames)
            return b"".join([*frames, sse.frame(orjson.dumps(openai_body(ending.error)))])
        told: Json = {}
        if self._tells_tier and ending.service_tier:
            told["service_tier"] = OPENAI_WORDS[ending.service_tier]
        for index in sorted(self._seen):
            chunk, raw = self._held.get(index) or (self._chunk([_ending(index)]), None)
            if self._sets_reason(index, chunk["choices"][0]):
                raw = None
            if told and chunk.get("service_tier") != told["service_tier"]:
                chunk, raw = {**chunk, **told}, None
            frames.append(sse.frame(raw or orjson.dumps(chunk)))
        if self._include_usage:
            frames.append(sse.frame(orjson.dumps({**self._chunk([]), **told, "usage": ending.usage})))
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

    def _payload(self, chunk: Json, raw: bytes | None, frames: list[bytes]) -> bytes | None:
        """The chunk's JSON, or None if nothing of it is for the client now. What was no end goes to `frames`."""
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
            or type(chunk["created"]) is not int
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
        ends = False
        for choice in choices:
            verdict = self._choice(choice, frames)
            if verdict is not None:
                kept.append(choice)
                changed = changed or verdict
                ends = ends or choice["finish_reason"] is not None
        if len(kept) != len(choices):
            chunk["choices"] = kept
            changed = True
        if changed:
            raw = None
        if ends:
            kept = self._hold(chunk, raw)
            raw = None
        if not kept:
            return None
        return raw if raw is not None else orjson.dumps(chunk)

    def _hold(self, chunk: Json, raw: bytes | None) -> list[Json]:
        """Keep what ends a choice for later; the choices that go on."""
        choices = chunk["choices"]
        if len(choices) == 1:
            self._held[choices[0]["index"]] = (chunk, raw)
            return []
        for choice in choices:
            if choice["finish_reason"] is not None:
                self._held[choice["index"]] = ({**chunk, "choices": [choice]}, None)
        going_on = [choice for choice in choices if choice["finish_reason"] is None]
        chunk["choices"] = going_on
        return going_on

    def _reopen(self, index: int, frames: list[bytes]) -> None:
        """It was no end. What was held is sent without it, if it says anything else."""
        chunk, _ = self._held.pop(index)
        choice = chunk["choices"][0]
        choice["finish_reason"] = None
        if choice["delta"]:
            frames.append(sse.frame(orjson.dumps(chunk)))

    def _take_names(self, chunk: Json) -> None:
        self._named = True
        if isinstance(chunk.get("id"), str) and chunk["id"]:
            self._id = chunk["id"]
        if isinstance(chunk.get("model"), str) and chunk["model"]:
            self._model = chunk["model"]
        created = chunk.get("created")
        if isinstance(created, int) and not isinstance(created, bool) and created > 0:
            self._created = created

    def _choice(self, choice: Json, frames: list[bytes]) -> bool | None:
        """Mend one choice in place. True: changed; False: as it was; None: it must not be sent."""
        changed = False
        index = choice.get("index")
        if type(index) is not int:
            index = choice["index"] = 0
            changed = True
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice["delta"] = {}
            changed = True
        if index not in self._seen:
            self._seen.add(index)
            if delta.get("role") != "assistant":
                delta["role"] = "assistant"
                changed = True
        elif "role" in delta:
            del delta["role"]
            changed = True
        if self._held and index in self._held:
            if not any(delta.values()):
                return None  # it ended before
            self._reopen(index, frames)
        if delta.get("tool_calls"):
            changed = self._tool_calls(index, delta["tool_calls"]) or changed
        if "finish_reason" not in choice or choice["finish_reason"] == "":
            choice["finish_reason"] = None
            return True
        return changed

    def _sets_reason(self, index: int, choice: Json) -> bool:
        """`tool_calls` when tools were called, whatever the provider said, unless it was cut short or filtered."""
        if index not in self._called or choice["finish_reason"] in ("tool_calls", "length", "content_filter"):
            return False
        choice["finish_reason"] = "tool_calls"
        return True

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


def _ending(index: int) -> Json:
    """For a choice that never said why it ended."""
    return {"index": index, "delta": {}, "finish_reason": "stop"}
