"""The Bedrock dialect: Converse and its binary event stream, Titan's embeddings, the list of models and errors.

Messages are written from the published format (docs.aws.amazon.com, "Event stream encoding"), with both checksums.
Of the oddities of a Behaviour those of SSE do not apply; bad_json is a message whose checksum is wrong.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from typing import Any
from urllib.parse import unquote

from .answer import Answer, Piece, plan
from .behaviour import Behaviour, Json
from .sse import Frame, before_error, compress, dump

SIGNATURE = "ZmFrZS1zaWduYXR1cmU="
STREAM_TYPE = "application/vnd.amazon.eventstream"
LISTING, INVOKE, CHATS = "foundation-models", "invoke", ("converse", "converse-stream")
_PATH = re.compile(r"/v1/(?:model/([^/]+)/(converse|converse-stream|invoke)|(foundation-models))")
_NAMES = {
    "rate_limit": "throttlingException",
    "invalid_api_key": "accessDeniedException",
    "authentication": "accessDeniedException",
    "invalid_request": "validationException",
}
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def action(path: str) -> str:
    """What a path asks for; empty if it is none of Bedrock's."""
    found = _PATH.fullmatch(path)
    return "" if found is None else found[2] or found[3]


def neutral(path: str, body: Json) -> Json:
    """The request under the names that `answer.plan` reads."""
    found = _PATH.fullmatch(path)
    assert found is not None
    made: Json = {name: body[name] for name in ("messages", "system") if name in body}
    made["model"] = unquote(found[1] or "")
    made["stream"] = found[2] == "converse-stream"
    made["max_tokens"] = (body.get("inferenceConfig") or {}).get("maxTokens")
    made["tools"] = (body.get("toolConfig") or {}).get("tools")
    if "inputText" in body:
        made |= {"input": body["inputText"], "dimensions": body.get("dimensions")}
    return made


def answer(body: Json, behaviour: Behaviour, *, ordinal: int, created: int) -> Answer:
    """The plan of an answer."""
    return plan(body, behaviour, answer_id=f"tooluse_fake{ordinal:06d}", created=created, choices=1)


def plain(said: Answer, behaviour: Behaviour) -> Json:
    """The body of an answer that is not streamed."""
    content: list[Json] = []
    if said.reasoning:
        text = {"text": said.reasoning, "signature": SIGNATURE}
        content.append({"reasoningContent": {"reasoningText": text}})
    if said.text:
        content.append({"text": said.text})
    content += [
        {"toolUse": {"toolUseId": tool.id, "name": tool.name, "input": _parsed(tool.arguments)}} for tool in said.tools
    ]
    result: Json = {"metrics": {"latencyMs": 42}, "output": {"message": {"content": content, "role": "assistant"}}}
    if behaviour.finish_reason != "omit":
        result["stopReason"] = behaviour.finish_reason or _STOPS[said.finish]
    if said.reported is not None and behaviour.usage_placement != "never":
        result["usage"] = usage(said.reported)
    return result | (behaviour.extra_fields or {})


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return {"raw": arguments}


def usage(counts: Json) -> Json:
    """Neutral usage in Converse's shape: `inputTokens` are those neither read from nor written to the cache."""
    rest = dict(counts)
    prompt, completion = rest.pop("prompt_tokens"), rest.pop("completion_tokens")
    read, short, long = (
        rest.pop("cached_tokens"),
        rest.pop("cache_creation_tokens"),
        rest.pop("cache_creation_1h_tokens"),
    )
    rest.pop("reasoning_tokens")
    sane = all(isinstance(value, int) for value in (prompt, read, short, long))
    fresh = max(prompt - read - short - long, min(prompt, 0)) if sane else prompt
    said: Json = {
        "inputTokens": fresh,
        "outputTokens": completion,
        "totalTokens": prompt + completion if sane and isinstance(completion, int) else prompt,
        "cacheReadInputTokens": read,
        "cacheWriteInputTokens": short + long if sane else short,
    }
    if sane and short + long:
        said["cacheDetails"] = [{"ttl": "1h", "inputTokens": long}, {"ttl": "5m", "inputTokens": short}]
    return said | rest


def message(headers: dict[str, str], payload: bytes) -> bytes:
    """One message of an event stream, all its headers strings."""
    block = b"".join(
        struct.pack(">B", len(name)) + name.encode() + b"\x07" + struct.pack(">H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + block + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def event(kind: str, payload: Json) -> bytes:
    """An event as ConverseStream sends it."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return message(headers, dump(payload).encode("utf-8", "surrogatepass"))


def exception(name: str, payload: Json) -> bytes:
    """An exception within a stream."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return message(headers, dump(payload).encode())


class _Events:
    """Builds the events of one stream."""

    def __init__(self, said: Answer, behaviour: Behaviour) -> None:
        self.said, self.behaviour = said, behaviour
        self.frames: list[Frame] = []
        self.block = -1
        self.key: tuple[str, int] | None = None

    def add(self, kind: str, payload: Json, tokens: int = 0, *, content: bool = False) -> None:
        """One event, padded as Bedrock pads them against who counts bytes."""
        padded = payload | {"p": "abcdefghijklmnop"[: len(self.frames) % 16]} | (self.behaviour.extra_fields or {})
        self.frames.append(Frame(event(kind, padded), tokens, content))

    def piece(self, piece: Piece, tokens: int) -> None:
        """A piece; opens a block when kind or tool changes. Only a tool's block says that it starts."""
        if self.key != (piece.kind, piece.tool):
            self.close_block()
            self.block += 1
            self.key = (piece.kind, piece.tool)
            if piece.kind == "tool":
                tool = self.said.tools[piece.tool]
                start = {"toolUse": {"toolUseId": tool.id, "name": tool.name}}
                self.add("contentBlockStart", {"contentBlockIndex": self.block, "start": start})
        delta: Json = {
            "text": {"text": piece.text},
            "reasoning": {"reasoningContent": {"text": piece.text}},
            "tool": {"toolUse": {"input": piece.text}},
        }[piece.kind]
        self.add("contentBlockDelta", {"contentBlockIndex": self.block, "delta": delta}, tokens, content=True)

    def close_block(self) -> None:
        """End the open block, if any; reasoning is signed first."""
        if self.block < 0:
            return
        if self.key is not None and self.key[0] == "reasoning":
            delta = {"reasoningContent": {"signature": SIGNATURE}}
            self.add("contentBlockDelta", {"contentBlockIndex": self.block, "delta": delta})
        self.add("contentBlockStop", {"contentBlockIndex": self.block})


def stream(said: Answer, behaviour: Behaviour, body: Json) -> list[Frame]:
    """All events in Converse's order: usage comes last, behind the stop."""
    events = _Events(said, behaviour)
    events.add("messageStart", {"role": "assistant"})
    for number, piece in enumerate(said.pieces):
        events.piece(piece, said.shares[0][number])
    events.close_block()
    if behaviour.finish_reason != "omit":
        stop = behaviour.finish_reason or _STOPS[said.finish]
        events.add("messageStop", {"stopReason": stop}, said.shares[0][-1])
    if said.reported is not None and behaviour.usage_placement != "never":
        events.add("metadata", {"metrics": {"latencyMs": 42}, "usage": usage(said.reported)})
    return _finished(events.frames, behaviour)


def _finished(frames: list[Frame], behaviour: Behaviour) -> list[Frame]:
    """The stream as it goes out: broken, interrupted or compressed as scripted."""
    if behaviour.empty_stream:
        return []
    if behaviour.in_band_error is not None:
        found = in_band(behaviour.in_band_error)
        raised = Frame(exception(found["__type"], {"message": found["message"]}))
        frames = [*before_error(frames, behaviour.in_band_error_after), raised]
    if behaviour.bad_json:
        broken = bytearray(event("contentBlockDelta", {"delta": {"text": "broken"}}))
        broken[-1] ^= 1
        frames = [Frame(bytes(broken)), *frames]
    if behaviour.giant_line_bytes:
        frames = [Frame(event("ping", {"padding": "x" * behaviour.giant_line_bytes})), *frames]
    if behaviour.gzip:
        compress(frames)
    return frames


def in_band(given: Json) -> Json:
    """An error under 200, under the name that AWS has for what the script means."""
    error = given.get("error", given)
    words = f"{error.get('type')} {error.get('code')}"
    name = next((name for word, name in _NAMES.items() if word in words), "internalServerException")
    return {"__type": name, "message": str(error.get("message", ""))}


def error(status: int, said: str) -> Json:
    """The body of an error; its name is in a header that the tests script where it matters."""
    return {"message": said}


def wrong_key(key: str) -> Json:
    """The 403 of an API key that is none."""
    return {"Message": f"Authentication failed: Please make sure your API Key is valid. ({key})"}


def models(names: list[str]) -> Json:
    """ListFoundationModels."""
    return {"modelSummaries": [{"modelId": name, "modelName": name} for name in names]}


def titan(vectors: Json) -> Json:
    """InvokeModel's answer for Titan: one vector."""
    return {"embedding": vectors["data"][0]["embedding"], "inputTextTokenCount": vectors["usage"]["prompt_tokens"]}
