"""The Cohere dialect, version 2 of its API: chat, embeddings and errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .answer import Answer, Piece, plan
from .behaviour import Behaviour, Json
from .openai_wire import vector
from .sse import Frame, finished, frame

_FINISHES = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL"}
HIDDEN = 497  # tokens that Cohere adds to a prompt and counts in `tokens`, but never bills


def answer(body: Json, behaviour: Behaviour, *, ordinal: int, created: int) -> Answer:
    """The plan of a chat answer. There is no price for cached tokens: none are billed as such."""
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and "json_schema" in wanted:
        body = body | {"response_format": {"type": "json_schema"}}
    said = plan(body, behaviour, answer_id=f"c0fe0000-{ordinal:012d}", created=created, choices=1)
    return replace(said, tokens=replace(said.tokens, cached=0))


def plain(said: Answer, behaviour: Behaviour) -> Json:
    """The body of an answer that is not streamed."""
    content: list[Json] = []
    if said.reasoning:
        content.append({"type": "thinking", "thinking": said.reasoning})
    if said.text:
        content.append({"type": "text", "text": said.text})
    message: Json = {"role": "assistant"}
    if content:
        message["content"] = content
    if said.tools:
        message["tool_calls"] = [
            {"id": tool.id, "type": "function", "function": {"name": tool.name, "arguments": tool.arguments}}
            for tool in said.tools
        ]
    result: Json = {"id": said.id, "message": message}
    if behaviour.finish_reason != "omit":
        result["finish_reason"] = behaviour.finish_reason or _FINISHES[said.finish]
    if said.reported is not None and behaviour.usage_placement != "never":
        result["usage"] = usage(said.reported)
    return result | (behaviour.extra_fields or {})


def usage(neutral: Json) -> Json:
    """Neutral usage in Cohere's shape; unknown keys as they are."""
    rest = dict(neutral)
    prompt, completion = rest.pop("prompt_tokens"), rest.pop("completion_tokens")
    cached = rest.pop("cached_tokens")
    for name in ("cache_creation_tokens", "cache_creation_1h_tokens", "reasoning_tokens"):
        rest.pop(name)
    return {
        "billed_units": {"input_tokens": prompt, "output_tokens": completion},
        "tokens": {"input_tokens": _more(prompt, HIDDEN), "output_tokens": _more(completion, 3)},
        "cached_tokens": cached,
    } | rest


def _more(count: Any, hidden: int) -> Any:
    return count + hidden if type(count) is int else count


class _Events:
    """Builds the events of one stream."""

    def __init__(self, said: Answer, behaviour: Behaviour) -> None:
        self.said, self.behaviour = said, behaviour
        self.frames: list[Frame] = []
        self.index = -1
        self.key: tuple[str, int] | None = None

    def add(self, kind: str, tokens: int = 0, *, content: bool = False, **rest: Any) -> None:
        """One event."""
        obj = {"type": kind, **rest, **(self.behaviour.extra_fields or {})}
        one = frame(obj, self.behaviour, event=kind, tokens=tokens)
        one.content = content
        self.frames.append(one)

    def message(self, kind: str, tokens: int = 0, *, content: bool = False, index: int, **message: Any) -> None:
        """One event of a block or a tool call; `content_` is the message's `content`."""
        where = {} if index < 0 else {"index": index}
        said = {name.rstrip("_"): value for name, value in message.items()}
        self.add(kind, tokens, content=content, **where, delta={"message": said})

    def piece(self, piece: Piece, tokens: int) -> None:
        """A piece; opens a block when kind or tool changes."""
        if self.key != (piece.kind, piece.tool):
            self.close()
            self.open(piece)
        if piece.kind == "tool":
            index = -1 if self.behaviour.omit_tool_index else piece.tool
            calls = {"function": {"arguments": piece.text}}
            self.message("tool-call-delta", tokens, content=True, index=index, tool_calls=calls)
        else:
            name = "thinking" if piece.kind == "reasoning" else "text"
            self.message("content-delta", tokens, content=True, index=self.index, content_={name: piece.text})

    def open(self, piece: Piece) -> None:
        """Start the block or the tool call of this piece."""
        self.key = (piece.kind, piece.tool)
        if piece.kind == "tool":
            tool = self.said.tools[piece.tool]
            call = {"id": tool.id, "type": "function", "function": {"name": tool.name, "arguments": ""}}
            index = -1 if self.behaviour.omit_tool_index else piece.tool
            self.message("tool-call-start", index=index, tool_calls=call)
            return
        self.index += 1
        name = "thinking" if piece.kind == "reasoning" else "text"
        self.message("content-start", index=self.index, content_={"type": name, name: ""})

    def close(self) -> None:
        """End what is open, if anything is."""
        if self.key is None:
            return
        kind, tool = self.key
        if kind == "tool":
            self.add("tool-call-end", index=tool)
        else:
            self.add("content-end", index=self.index)


def stream(said: Answer, behaviour: Behaviour, body: Json) -> list[Frame]:
    """All events in Cohere's order."""
    events = _Events(said, behaviour)
    start = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    events.add("message-start", id=said.id, delta={"message": start})
    for number, piece in enumerate(said.pieces):
        events.piece(piece, said.shares[0][number])
    events.close()
    final: Json = {}
    if behaviour.finish_reason != "omit":
        final["finish_reason"] = behaviour.finish_reason or _FINISHES[said.finish]
    if said.reported is not None and behaviour.usage_placement != "never":
        final["usage"] = usage(said.reported)
    for number in range(0 if behaviour.no_done else 2 if behaviour.double_done else 1):
        events.add("message-end", 0 if number else said.shares[0][-1], delta=final)
    giant = None
    if behaviour.giant_line_bytes:
        giant = frame({"type": "debug", "prompt": "x" * behaviour.giant_line_bytes}, behaviour, event="debug")
    broken = None if behaviour.in_band_error is None else frame(in_band(behaviour.in_band_error), behaviour)
    return finished(events.frames, behaviour, giant=giant, error=broken)


def in_band(given: Json) -> Json:
    """An error under 200: the object of an error answer."""
    return given


def error(status: int, message: str) -> Json:
    """A vendor style error: nothing but words, whatever the status."""
    return {"id": "5f1c0b6e-3d0a-4a53-9d6c-1d7a9d3c0b11", "message": message}


def wrong_key(key: str) -> Json:
    """The 401 of Cohere."""
    return error(401, "invalid api token")


def texts(body: Json) -> list[str] | None:
    """The inputs of an embeddings request; None if there is none, or what Cohere insists on is missing."""
    found = body.get("texts")
    if not isinstance(found, list) or not found or not body.get("input_type") or not body.get("embedding_types"):
        return None
    return found


def embeddings(body: Json, inputs: list[str], behaviour: Behaviour, prompt: int) -> Json:
    """Vectors that depend on the input only."""
    wanted = body.get("output_dimension")
    size = wanted if isinstance(wanted, int) and wanted > 0 else behaviour.embedding_dims
    result: Json = {"id": "c0fe", "embeddings": {"float": [vector(one, size) for one in inputs]}, "texts": inputs}
    if behaviour.usage != "none":
        billed = {"input_tokens": prompt} | (behaviour.usage if isinstance(behaviour.usage, dict) else {})
        result["meta"] = {"api_version": {"version": "2"}, "billed_units": billed}
    return result | {"response_type": "embeddings_by_type"} | (behaviour.extra_fields or {})
