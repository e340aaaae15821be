"""Chat answers as OpenAI shapes them, for the dialects that have to be put into that shape."""

import time
import uuid
from collections.abc import Mapping
from typing import Any

from llm.calls import Call


class Chunks:
    """Makes the chunks of one stream, all with the same id, time and model."""

    __slots__ = ("created", "id", "model")

    def __init__(self, call: Call) -> None:
        self.id = f"chatcmpl-{call.request_id}"
        self.created = created_at(call.request_id)
        self.model = call.target.model.model_id

    def chunk(self, delta: dict[str, Any], *, index: int = 0, finish: str | None = None) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
        }


def utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def output_bytes(body: Mapping[str, Any]) -> int:
    """UTF-8 of all that a whole chat completion says: what the events of its stream would add up to."""
    total = 0
    for choice in body.get("choices", ()):
        message = choice.get("message") or choice
        for name in ("content", "reasoning_content", "refusal", "text"):
            text = message.get(name)
            total += utf8_length(text) if isinstance(text, str) else 0
        for call in (message, *(message.get("tool_calls") or ())):
            function = call.get("function") or call.get("function_call")
            arguments = function.get("arguments") if isinstance(function, Mapping) else None
            total += utf8_length(arguments) if isinstance(arguments, str) else 0
    return total


def created_at(request_id: str) -> int:
    """Unix seconds of a request: a UUIDv7 carries them, so the same request always says the same."""
    try:
        found = uuid.UUID(request_id)
    except ValueError:
        return int(time.time())
    return (found.int >> 80) // 1000 if found.version == 7 else int(time.time())


FINISHES = ("stop", "length", "tool_calls", "content_filter", "function_call")  # all that OpenAI's SDKs accept
# What vendors say instead of OpenAI's words, or for their own reasons to stop.
_FINISHES = {
    "": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "safety": "content_filter",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "sensitive": "content_filter",
}


def finish_reason(said: Any, *, tools: bool) -> str:
    """The finish in OpenAI's words: `tool_calls` when tools were called, whatever the provider said, unless it was cut
    short (`length`) or filtered. `stop` for words that nobody knows."""
    found = said.lower() if isinstance(said, str) else "stop"
    found = _FINISHES.get(found, found if found in FINISHES else "stop")
    if tools:
        return found if found in ("length", "content_filter") else "tool_calls"
    return "stop" if found == "tool_calls" else found


def is_finish(said: Any) -> bool:
    """Whether `finish_reason` knows this word."""
    return isinstance(said, str) and (said.lower() in FINISHES or said.lower() in _FINISHES)
