"""The OpenAI dialect: chat, embeddings, models and errors."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Any

from .answer import Answer, Piece, plan, words
from .behaviour import Behaviour, Json
from .sse import Frame, finished, frame

MAX_CHOICES = 128


def answer(body: Json, behaviour: Behaviour, *, ordinal: int, created: int) -> Answer:
    """The plan of a chat completion; `n` choices."""
    n = body.get("n")
    choices = n if isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= MAX_CHOICES else 1
    return plan(body, behaviour, answer_id=f"chatcmpl-fake{ordinal:06d}", created=created, choices=choices)


def plain(said: Answer, behaviour: Behaviour) -> Json:
    """The body of an answer that is not streamed."""
    content = said.text if said.text or not said.tools else None
    message: Json = {"role": "assistant", "content": content, "refusal": None}
    if said.reasoning:
        message["reasoning_content"] = said.reasoning
    if said.tools:
        message["tool_calls"] = [
            {"id": tool.id, "type": "function", "function": {"name": tool.name, "arguments": tool.arguments}}
            for tool in said.tools
        ]
    choice: Json = {"message": message, "logprobs": None}
    if behaviour.finish_reason != "omit":
        choice["finish_reason"] = behaviour.finish_reason or said.finish
    result: Json = {"id": said.id, "object": "chat.completion", "created": said.created, "model": said.model}
    result["choices"] = [{"index": index, **choice} for index in range(len(said.shares))]
    if said.reported is not None and behaviour.usage_placement != "never":
        result["usage"] = usage(said.reported)
    return result | (behaviour.extra_fields or {})


def usage(neutral: Json) -> Json:
    """Neutral usage in OpenAI's shape; unknown keys as they are."""
    rest = dict(neutral)
    prompt, completion = rest.pop("prompt_tokens"), rest.pop("completion_tokens")
    cached, reasoning = rest.pop("cached_tokens"), rest.pop("reasoning_tokens")
    rest.pop("cache_creation_tokens")
    rest.pop("cache_creation_1h_tokens")
    both = isinstance(prompt, int | float) and isinstance(completion, int | float)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion if both else prompt,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
    } | rest


class _Chunks:
    """Builds the chunks of one stream; remembers what was produced, for cumulative usage."""

    def __init__(self, said: Answer, behaviour: Behaviour, asked: bool) -> None:
        self.said, self.behaviour = said, behaviour
        self.reports = said.reported if behaviour.usage_placement != "never" else None
        self.asked = asked
        self.produced = 0
        self.count = 0

    def chunk(self, choices: list[Json], *, tokens: int = 0, with_usage: Json | None = None) -> Frame:
        """One chunk as a frame."""
        said = self.said
        self.produced += tokens
        self.count += 1
        changing = f"-{self.count}" if self.behaviour.id_changes else ""
        obj: Json = {"id": said.id + changing, "object": "chat.completion.chunk", "created": said.created}
        obj |= {"model": said.model, "system_fingerprint": "fp_fake", "choices": choices}
        if with_usage is not None:
            obj["usage"] = with_usage
        elif self.reports is not None and self.behaviour.usage_placement == "cumulative":
            running = {"completion_tokens": self.produced} if self.produced < said.tokens.completion else {}
            obj["usage"] = usage(self.reports | running)
        elif self.asked:
            obj["usage"] = None
        return frame(obj | (self.behaviour.extra_fields or {}), self.behaviour, tokens=tokens)

    def choice(self, index: int, delta: Json, finish: str | None = None) -> Json:
        """One choice of a chunk."""
        if self.behaviour.role_every_chunk:
            delta = {"role": "assistant"} | delta
        found: Json = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        if finish is None and self.behaviour.missing_finish_keys:
            del found["finish_reason"]
        return found

    def delta(self, piece: Piece) -> Json:
        """What a piece looks like in a delta."""
        if piece.kind == "text":
            return {"content": piece.text}
        if piece.kind == "reasoning":
            return {"reasoning_content": piece.text}
        call: Json = {} if self.behaviour.omit_tool_index else {"index": piece.tool}
        if piece.first:
            tool = self.said.tools[piece.tool]
            call |= {"id": tool.id, "type": "function", "function": {"name": tool.name, "arguments": piece.text}}
        else:
            call["function"] = {"arguments": piece.text}
        return {"tool_calls": [call]}


def stream(said: Answer, behaviour: Behaviour, body: Json) -> list[Frame]:
    """All frames: roles, pieces, finishes, usage, `[DONE]`."""
    options = body.get("stream_options")
    asked = isinstance(options, dict) and options.get("include_usage") is True
    chunks = _Chunks(said, behaviour, asked)
    placement = behaviour.usage_placement
    indexes = range(len(said.shares))
    frames = [chunks.chunk([chunks.choice(c, {"role": "assistant", "content": ""})]) for c in indexes]
    for number, piece in enumerate(said.pieces):
        for c in indexes:
            one = chunks.chunk([chunks.choice(c, chunks.delta(piece))], tokens=said.shares[c][number])
            one.content = True
            frames.append(one)
    final = None if chunks.reports is None else usage(chunks.reports)
    if behaviour.finish_reason != "omit":
        for c in indexes:
            last = final if placement in ("last_content", "both") and c == indexes[-1] else None
            finish = chunks.choice(c, {}, behaviour.finish_reason or said.finish)
            frames.append(chunks.chunk([finish], tokens=said.shares[c][-1], with_usage=last))
    if final is not None and (placement == "both" or (placement == "own_chunk" and asked)):
        frames.append(chunks.chunk([], with_usage=final))
    ends = 0 if behaviour.no_done else 2 if behaviour.double_done else 1
    frames += [frame("[DONE]", behaviour) for _ in range(ends)]
    giant = None
    if behaviour.giant_line_bytes:
        padding = {"id": said.id, "choices": [], "padding": "x" * behaviour.giant_line_bytes}
        giant = frame(padding, behaviour)
    error = None if behaviour.in_band_error is None else frame(in_band(behaviour.in_band_error), behaviour)
    return finished(frames, behaviour, giant=giant, error=error)


def in_band(error: Json) -> Json:
    """An error object, wrapped unless the script wrapped it."""
    return error if "error" in error else {"error": error}


_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def error(status: int, message: str, code: str | None = None) -> Json:
    """A vendor style error."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def wrong_key(key: str) -> Json:
    """The 401 of OpenAI, which quotes pieces of the key."""
    shown = f"{key[:8]}********{key[-4:]}" if len(key) > 12 else "*" * len(key)
    advice = "You can find your API key at https://platform.openai.com/account/api-keys."
    return error(401, f"Incorrect API key provided: {shown}. {advice}", "invalid_api_key")


def models(names: list[str], created: int) -> Json:
    """The list of models."""
    return {"object": "list", "data": [model(name, created) for name in names]}


def model(name: str, created: int) -> Json:
    """One row of the list."""
    return {"id": name, "object": "model", "created": created, "owned_by": "fake"}


def embedding_inputs(body: Json) -> list[Any] | None:
    """The inputs as a list of strings or token arrays; None if there is none to embed."""
    given = body.get("input")
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        return None
    return [given] if isinstance(given[0], int) else given


def embedding_tokens(inputs: list[Any]) -> int:
    """Words of strings, lengths of token arrays; at least 1."""
    return max(1, sum(words(one) if isinstance(one, str) else len(one) for one in inputs))


def embeddings(body: Json, inputs: list[Any], behaviour: Behaviour, prompt: int) -> Json:
    """Vectors that depend on the input only; float, or base64 of little-endian float32."""
    wanted = body.get("dimensions")
    size = wanted if isinstance(wanted, int) and wanted > 0 else behaviour.embedding_dims
    packed = body.get("encoding_format") == "base64"
    rows = []
    for index, one in enumerate(inputs):
        numbers = vector(one, size)
        shown = base64.b64encode(struct.pack(f"<{size}f", *numbers)).decode() if packed else numbers
        rows.append({"object": "embedding", "index": index, "embedding": shown})
    result: Json = {"object": "list", "data": rows, "model": body.get("model")}
    if behaviour.usage != "none":
        result["usage"] = {"prompt_tokens": prompt, "total_tokens": prompt}
        if isinstance(behaviour.usage, dict):
            result["usage"] |= behaviour.usage
    return result | (behaviour.extra_fields or {})


def vector(one: object, size: int) -> list[float]:
    """A vector exactly representable in float32, in -1..1, from the input's hash."""
    seed = repr(one).encode("utf-8", "surrogatepass")
    data = hashlib.shake_128(seed).digest(2 * size)
    return [value / 32768 for value in struct.unpack(f"<{size}h", data)]
