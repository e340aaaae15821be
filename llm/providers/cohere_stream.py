"""Cohere's stream events as chat chunks.

message-start          role, id
content-delta          content, or reasoning_content of a thinking block; logprobs
tool-plan-delta        reasoning_content
tool-call-start/delta  tool_calls, indexed from 0; a call without arguments gets "{}" at its end
citation-start         citations
message-end            finish_reason and usage, and the end; raises where the answer was broken off
error                  raises; content-end, citation-end, debug and what is not known: nothing
"""

from collections.abc import Callable
from typing import Any, ClassVar

import orjson

from llm.calls import Call, StreamEvent
from llm.errors import UpstreamInvalid
from llm.providers import cohere_answer
from llm.providers.chunks import Chunks, utf8_length

Json = dict[str, Any]


class ChatReader:
    """Implements `base.StreamReader`."""

    __slots__ = ("_call", "_chunks", "_indexes", "_said", "_usage")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._chunks = Chunks(call)
        self._indexes: dict[int, int] = {}  # Cohere's index of a tool call -> ours
        self._said: set[int] = set()  # calls of which an argument was sent
        self._usage: Json | None = None

    def read(self, payload: bytes) -> list[StreamEvent]:
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            if payload.strip() == b"[DONE]":  # sent by some deployments behind the last event
                return [StreamEvent(done=True, usage=self._usage)]
            raise UpstreamInvalid("The provider sent an event that is not JSON.") from error
        if type(event) is not dict:
            raise UpstreamInvalid("The provider sent an event that is not an object.")
        handler = self._HANDLERS.get(str(event.get("type")))
        if handler is not None:
            return handler(self, event)
        broken = cohere_answer.in_band(event, self._call)
        if broken is not None:
            raise broken
        return []

    def _start(self, event: Json) -> list[StreamEvent]:
        known = event.get("id")
        if isinstance(known, str) and known:
            self._chunks.id = known
        return [StreamEvent(chunk=self._chunks.chunk({"role": "assistant", "content": ""}))]

    def _content(self, event: Json) -> list[StreamEvent]:
        content = _message(event).get("content")
        if not isinstance(content, dict):
            return []
        found = self._text("reasoning_content", content.get("thinking")) + self._text("content", content.get("text"))
        scores = cohere_answer.logprobs(event.get("logprobs"))
        if scores is not None and found and found[-1].chunk is not None:
            found[-1].chunk["choices"][0]["logprobs"] = scores
        return found

    def _tool_plan(self, event: Json) -> list[StreamEvent]:
        return self._text("reasoning_content", _message(event).get("tool_plan"))

    def _tool_start(self, event: Json) -> list[StreamEvent]:
        call = _tool_calls(event)
        function = _function(event)
        index = len(self._indexes)
        self._indexes[_given(event, index)] = index
        opened = {
            "index": index,
            "id": cohere_answer.text(call.get("id")),
            "type": "function",
            "function": {"name": cohere_answer.text(function.get("name")), "arguments": ""},
        }
        found = [StreamEvent(chunk=self._chunks.chunk({"tool_calls": [opened]}), good=True)]
        return found + self._arguments(index, function.get("arguments"))

    def _tool_delta(self, event: Json) -> list[StreamEvent]:
        return self._arguments(self._index(event), _function(event).get("arguments"))

    def _tool_end(self, event: Json) -> list[StreamEvent]:
        index = self._index(event)
        return [] if index in self._said else self._arguments(index, "{}")

    def _index(self, event: Json) -> int:
        """Ours of the call that an event goes on with: the one it names, else the last."""
        last = len(self._indexes) - 1
        if last < 0:
            raise UpstreamInvalid("The provider sent arguments of a tool call that it had not begun.")
        return self._indexes.get(_given(event, last), last)

    def _arguments(self, index: int, said: Any) -> list[StreamEvent]:
        arguments = cohere_answer.text(said)
        if not arguments:
            return []
        self._said.add(index)
        delta = {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}
        return [StreamEvent(chunk=self._chunks.chunk(delta), good=True, output_bytes=utf8_length(arguments))]

    def _citations(self, event: Json) -> list[StreamEvent]:
        found = _message(event).get("citations")
        if not found:
            return []
        cited = found if isinstance(found, list) else [found]
        return [StreamEvent(chunk=self._chunks.chunk({"citations": cited}), good=True)]

    def _end(self, event: Json) -> list[StreamEvent]:
        delta = event.get("delta")
        if not isinstance(delta, dict):
            raise UpstreamInvalid("The provider sent an end without its `delta`.")
        said = delta.get("finish_reason")
        broken = cohere_answer.in_band(delta, self._call) or cohere_answer.failure(said)
        if broken is not None:
            raise broken
        self._usage = cohere_answer.usage(delta.get("usage", event.get("usage")))
        finish = cohere_answer.finish_reason(said, tools=bool(self._indexes))
        return [
            StreamEvent(chunk=self._chunks.chunk({}, finish=finish), good=True, usage=self._usage),
            StreamEvent(done=True, usage=self._usage),
        ]

    def _text(self, name: str, said: Any) -> list[StreamEvent]:
        found = cohere_answer.text(said)
        if not found:
            return []
        return [StreamEvent(chunk=self._chunks.chunk({name: found}), good=True, output_bytes=utf8_length(found))]

    _HANDLERS: ClassVar[dict[str, Callable[["ChatReader", Json], list[StreamEvent]]]] = {
        "content-delta": _content,
        "content-start": _content,
        "tool-plan-delta": _tool_plan,
        "tool-call-start": _tool_start,
        "tool-call-delta": _tool_delta,
        "tool-call-end": _tool_end,
        "message-start": _start,
        "message-end": _end,
        "citation-start": _citations,
    }


def _message(event: Json) -> Json:
    delta = event.get("delta")
    message = delta.get("message") if isinstance(delta, dict) else None
    if not isinstance(message, dict):
        raise UpstreamInvalid("The provider sent an event without its message.")
    return message


def _tool_calls(event: Json) -> Json:
    """The one call of an event: an object by Cohere's schema."""
    found = _message(event).get("tool_calls")
    if not isinstance(found, dict):
        raise UpstreamInvalid("The provider sent a tool call that is not an object.")
    return found


def _function(event: Json) -> Json:
    found = _tool_calls(event).get("function")
    if not isinstance(found, dict):
        raise UpstreamInvalid("The provider sent a tool call without a function.")
    return found


def _given(event: Json, otherwise: int) -> int:
    found = event.get("index")
    return found if type(found) is int else otherwise
