"""The Anthropic dialect: messages, models and errors."""

from __future__ import annotations

import json
from typing import Any

from .answer import Answer, Piece, plan
from .behaviour import Behaviour, Json
from .sse import Frame, finished, frame

SIGNATURE = "ZmFrZS1zaWduYXR1cmU="
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def answer(body: Json, behaviour: Behaviour, *, ordinal: int, created: int) -> Answer:
    """The plan of a message."""
    return plan(body, behaviour, answer_id=f"msg_fake{ordinal:06d}", created=created, choices=1)


def plain(said: Answer, behaviour: Behaviour) -> Json:
    """The body of a message that is not streamed."""
    content: list[Json] = []
    if said.reasoning:
        content.append({"type": "thinking", "thinking": said.reasoning, "signature": SIGNATURE})
    if said.text:
        content.append({"type": "text", "text": said.text})
    content += [
        {"type": "tool_use", "id": tool.id, "name": tool.name, "input": _parsed(tool.arguments)} for tool in said.tools
    ]
    result = _message(said) | {"content": content}
    if behaviour.finish_reason == "omit":
        del result["stop_reason"]
    else:
        result["stop_reason"] = behaviour.finish_reason or _STOPS[said.finish]
    if said.reported is not None and behaviour.usage_placement != "never":
        result["usage"] = usage(said.reported)
    return result | (behaviour.extra_fields or {})


def _message(said: Answer) -> Json:
    return {
        "id": said.id,
        "type": "message",
        "role": "assistant",
        "model": said.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _parsed(arguments: str) -> Any:
    """Tool input as an object; a clipped or odd string is kept under `raw`."""
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return {"raw": arguments}


def usage(neutral: Json) -> Json:
    """Neutral usage in Anthropic's shape: `input_tokens` are those neither read from nor written to the cache."""
    rest = dict(neutral)
    prompt, completion = rest.pop("prompt_tokens"), rest.pop("completion_tokens")
    read, short, long = (
        rest.pop("cached_tokens"),
        rest.pop("cache_creation_tokens"),
        rest.pop("cache_creation_1h_tokens"),
    )
    rest.pop("reasoning_tokens")
    counts = all(isinstance(value, int) for value in (prompt, read, short, long))
    fresh = max(prompt - read - short - long, min(prompt, 0)) if counts else prompt
    written = short + long if counts else short
    return {
        "input_tokens": fresh,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": completion,
    } | rest


class _Events:
    """Builds the events of one stream."""

    def __init__(self, said: Answer, behaviour: Behaviour) -> None:
        self.said, self.behaviour = said, behaviour
        self.frames: list[Frame] = []
        self.block = -1
        self.key: tuple[str, int] | None = None

    def add(self, kind: str, tokens: int = 0, *, content: bool = False, **rest: Any) -> None:
        """One event."""
        obj = {"type": kind, **rest, **(self.behaviour.extra_fields or {})}
        one = frame(obj, self.behaviour, event=kind, tokens=tokens)
        one.content = content
        self.frames.append(one)

    def piece(self, piece: Piece, tokens: int) -> None:
        """A piece; opens a block when kind or tool changes."""
        if self.key != (piece.kind, piece.tool):
            self.close_block()
            self.open_block(piece)
        delta = {
            "text": {"type": "text_delta", "text": piece.text},
            "reasoning": {"type": "thinking_delta", "thinking": piece.text},
            "tool": {"type": "input_json_delta", "partial_json": piece.text},
        }[piece.kind]
        self.add("content_block_delta", tokens, content=True, index=self.block, delta=delta)

    def open_block(self, piece: Piece | None) -> None:
        """Start the block of this piece; None: an empty text block. The first is followed by a ping."""
        self.block += 1
        block: Json = {"type": "text", "text": ""}
        if piece is not None:
            self.key = (piece.kind, piece.tool)
            if piece.kind == "reasoning":
                block = {"type": "thinking", "thinking": "", "signature": ""}
            elif piece.kind == "tool":
                tool = self.said.tools[piece.tool]
                block = {"type": "tool_use", "id": tool.id, "name": tool.name, "input": {}}
        self.add("content_block_start", index=self.block, content_block=block)
        if self.block == 0:
            self.add("ping")

    def close_block(self) -> None:
        """End the open block, if any; thinking is signed first."""
        if self.block < 0:
            return
        if self.key is not None and self.key[0] == "reasoning":
            signed = {"type": "signature_delta", "signature": SIGNATURE}
            self.add("content_block_delta", index=self.block, delta=signed)
        self.add("content_block_stop", index=self.block)


def stream(said: Answer, behaviour: Behaviour, body: Json) -> list[Frame]:
    """All events in Anthropic's order."""
    events = _Events(said, behaviour)
    placement = behaviour.usage_placement
    reported = said.reported if placement != "never" else None
    start = _message(said)
    if behaviour.missing_finish_keys:
        del start["stop_reason"], start["stop_sequence"]
    if reported is not None:
        counted = usage(reported) | {"output_tokens": 1}
        start["usage"] = {"input_tokens": 0, "output_tokens": 0} if placement == "last_content" else counted
    events.add("message_start", message=start)
    for number, piece in enumerate(said.pieces):
        events.piece(piece, said.shares[0][number])
    if not said.pieces:
        events.open_block(None)
    events.close_block()
    if behaviour.finish_reason != "omit":
        final: Json = {"delta": {"stop_reason": behaviour.finish_reason or _STOPS[said.finish], "stop_sequence": None}}
        if reported is not None:
            counted = usage(reported)
            final["usage"] = {"output_tokens": counted["output_tokens"]} if placement == "own_chunk" else counted
        events.add("message_delta", said.shares[0][-1], **final)
    for _ in range(0 if behaviour.no_done else 2 if behaviour.double_done else 1):
        events.add("message_stop")
    giant = None
    if behaviour.giant_line_bytes:
        giant = frame({"type": "ping", "padding": "x" * behaviour.giant_line_bytes}, behaviour, event="ping")
    broken = None
    if behaviour.in_band_error is not None:
        broken = frame(in_band(behaviour.in_band_error), behaviour, event="error")
    return finished(events.frames, behaviour, giant=giant, error=broken)


def in_band(given: Json) -> Json:
    """An error object, wrapped unless the script wrapped it."""
    return given if "error" in given else {"type": "error", "error": given}


_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error(status: int, message: str) -> Json:
    """A vendor style error."""
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def wrong_key(key: str) -> Json:
    """The 401 of Anthropic."""
    return error(401, "invalid x-api-key")


def models(names: list[str]) -> Json:
    """The list of models."""
    rows = [model(name) for name in names]
    ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
    return {"data": rows, "has_more": False, **ends}


def model(name: str) -> Json:
    """One row of the list."""
    return {"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"}
