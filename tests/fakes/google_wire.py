"""The Google dialect: generateContent, embeddings, models and errors, at the Gemini API's paths and at Vertex AI's.

A request is first put into the body that the plan of an answer reads (`as_chat`), so that tokens are counted alike.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from . import openai_wire
from .answer import Answer, Piece, plan
from .behaviour import Behaviour, Json
from .sse import Frame, dump, finished, frame

SIGNATURE = "ZmFrZS10aG91Z2h0LXNpZ25hdHVyZQ=="
TOKEN_PATH, VERTEX_LIST = "/token", "/v1beta1/publishers/google/models"
MAX_BATCH = 100
_PATH = re.compile(
    r"/v1(?:/projects/[^/]+/locations/[^/]+)?(?:/publishers/google)?/models/(?P<model>[^/:]+):(?P<method>\w+)"
)
_METHODS = ("generateContent", "streamGenerateContent", "batchEmbedContents", "predict")
_STOPS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}


@dataclass(frozen=True, slots=True)
class Route:
    """What a path asks for."""

    model: str
    method: str

    @property
    def chat(self) -> bool:
        """Whether it is a completion."""
        return self.method.endswith("enerateContent")


def route(path: str) -> Route | None:
    """None for a path of another dialect."""
    found = _PATH.fullmatch(path)
    return Route(found["model"], found["method"]) if found and found["method"] in _METHODS else None


def as_chat(body: Json, asked: Route) -> Json:
    """The request as an OpenAI body: what the plan and the count of tokens read."""
    config = body.get("generationConfig") or {}
    messages = [_message(one) for one in body.get("contents") or []]
    functions = [one for tool in body.get("tools") or [] for one in tool.get("functionDeclarations") or []]
    tools = [{"type": "function", "function": one} for one in functions]
    found: Json = {"model": asked.model, "messages": messages, "stream": asked.method == "streamGenerateContent"}
    if isinstance(config.get("maxOutputTokens"), int):
        found["max_tokens"] = config["maxOutputTokens"]
    if body.get("systemInstruction"):
        found["system"] = _message(body["systemInstruction"])["content"]
    if tools:
        found["tools"] = tools
    if isinstance(config.get("candidateCount"), int):
        found["n"] = config["candidateCount"]
    if config.get("responseJsonSchema"):
        found["response_format"] = {"type": "json_schema"}
    return found


def _message(content: Any) -> Json:
    parts = content.get("parts") if isinstance(content, dict) else None
    found: list[Json] = []
    for part in parts or []:
        if "inlineData" in part or "fileData" in part:
            found.append({"type": "image"})
        elif "functionCall" in part:
            found.append({"type": "call", "input": part["functionCall"].get("args")})
        elif "functionResponse" in part:
            found.append({"type": "text", "text": dump(part["functionResponse"].get("response"))})
        else:
            found.append({"type": "text", "text": part.get("text")})
    return {"role": "user", "content": found}


def bad_input(body: Any, asked: Route) -> str:
    """What is missing from a body; "" if nothing is."""
    if not isinstance(body, dict):
        return "Invalid JSON payload received. Expected an object."
    if asked.chat:
        return "" if isinstance(body.get("contents"), list) else "* GenerateContentRequest.contents: is not specified"
    return "" if _texts(body) else "* BatchEmbedContentsRequest.requests: is not specified"


def answer(body: Json, behaviour: Behaviour, *, ordinal: int, created: int) -> Answer:
    """The plan of a response to `as_chat` of a request; `n` candidates."""
    return plan(body, behaviour, answer_id=f"fake{ordinal:06d}", created=created, choices=body.get("n") or 1)


def plain(said: Answer, behaviour: Behaviour) -> Json:
    """The body of a response that is not streamed."""
    parts: list[Json] = []
    if said.reasoning:
        parts.append({"text": said.reasoning, "thought": True})
    if said.text:
        parts.append({"text": said.text})
    parts += [_call(said, number) for number in range(len(said.tools))]
    candidates = [_candidate(index, parts, _finish(said, behaviour)) for index in range(len(said.shares))]
    counted = usage(said.reported) if said.reported is not None and behaviour.usage_placement != "never" else None
    return _response(said, candidates, counted) | (behaviour.extra_fields or {})


def _call(said: Answer, number: int) -> Json:
    """A function call; the first of a response is signed."""
    tool = said.tools[number]
    try:
        arguments = json.loads(tool.arguments or "{}")
    except ValueError:
        arguments = {"raw": tool.arguments}
    call: Json = {"functionCall": {"id": tool.id, "name": tool.name, "args": arguments}}
    return call if number else call | {"thoughtSignature": SIGNATURE}


def _candidate(index: int, parts: list[Json], finish: str | None) -> Json:
    found: Json = {"content": {"parts": parts, "role": "model"}} if parts else {}
    if finish is not None:
        found["finishReason"] = finish
    return found | {"index": index}


def _finish(said: Answer, behaviour: Behaviour) -> str | None:
    return None if behaviour.finish_reason == "omit" else behaviour.finish_reason or _STOPS[said.finish]


def _response(said: Answer, candidates: list[Json], counted: Json | None) -> Json:
    found: Json = {"candidates": candidates} if candidates else {}
    if counted is not None:
        found["usageMetadata"] = counted
    return found | {"modelVersion": said.model, "responseId": said.id}


def usage(neutral: Json, *, produced: bool = True) -> Json:
    """Neutral usage in Gemini's shape: thoughts are beside the candidates, and zeros are left out, as proto3 does.

    `produced` False: as the first events of a stream have it, the prompt only.
    """
    rest = dict(neutral)
    prompt, completion, thoughts = (rest.pop(f"{name}_tokens") for name in ("prompt", "completion", "reasoning"))
    cached = rest.pop("cached_tokens")
    rest.pop("cache_creation_tokens")
    rest.pop("cache_creation_1h_tokens")
    whole = all(isinstance(count, int) and not isinstance(count, bool) for count in (completion, thoughts))
    counts = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": completion - thoughts if whole else completion,
        "cachedContentTokenCount": cached,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + completion if whole and isinstance(prompt, int) else completion,
    }
    if not produced:
        counts = {"promptTokenCount": prompt, "cachedContentTokenCount": cached, "totalTokenCount": prompt}
    found = {name: count for name, count in counts.items() if count != 0 or name == "candidatesTokenCount"}
    return found | {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}]} | rest


class _Events:
    """Builds the events of one stream; remembers what was produced, for cumulative usage."""

    def __init__(self, said: Answer, behaviour: Behaviour) -> None:
        self.said, self.behaviour = said, behaviour
        self.frames: list[Frame] = []
        self.produced = 0
        self.buffered = ""  # arguments of a call whose end has not come: Gemini sends calls whole

    def add(self, candidate: Json, tokens: int, *, content: bool, last: bool = False) -> None:
        """One event."""
        self.produced += tokens
        obj = _response(self.said, [candidate], self.count(last=last)) | (self.behaviour.extra_fields or {})
        one = frame(obj, self.behaviour, tokens=tokens)
        one.content = content
        self.frames.append(one)

    def count(self, *, last: bool) -> Json | None:
        """Its usual usage: the prompt on every event, what was produced on the last."""
        reported, placement = self.said.reported, self.behaviour.usage_placement
        if reported is None or placement == "never" or (placement in ("last_content", "both") and not last):
            return None
        if last:
            return usage(reported)
        if placement == "cumulative":
            return usage(reported | {"completion_tokens": self.produced, "reasoning_tokens": 0})
        return usage(reported, produced=False)

    def parts(self, piece: Piece, *, whole: bool) -> list[Json]:
        """The parts of a piece; none while a call is not whole."""
        if piece.kind == "tool":
            return [_call(self.said, piece.tool)] if whole else []
        return [{"text": piece.text} | ({"thought": True} if piece.kind == "reasoning" else {})]


def stream(said: Answer, behaviour: Behaviour, body: Json) -> list[Frame]:
    """All events: a piece each, of each candidate; then the finishes. There is no `[DONE]`."""
    events = _Events(said, behaviour)
    indexes = range(len(said.shares))
    waiting = [0] * len(said.shares)  # tokens of fragments of a call that is not whole
    for number, piece in enumerate(said.pieces):
        following = said.pieces[number + 1] if number + 1 < len(said.pieces) else None
        whole = following is None or following.kind != "tool" or following.first
        for index in indexes:
            tokens = said.shares[index][number] + waiting[index]
            parts = events.parts(piece, whole=whole)
            waiting[index] = 0 if parts else tokens
            if parts:
                events.add(_candidate(index, parts, None), tokens, content=True)
    finish = _finish(said, behaviour)
    if finish is not None:
        for index in indexes:
            candidate = _candidate(index, [{"text": ""}], finish)
            events.add(candidate, said.shares[index][-1], content=False, last=index == indexes[-1])
    if behaviour.usage_placement == "both" and (counted := events.count(last=True)) is not None:
        events.frames.append(frame(_response(said, [], counted), behaviour))
    giant = None
    if behaviour.giant_line_bytes:
        giant = frame({"padding": "x" * behaviour.giant_line_bytes}, behaviour)
    broken = None if behaviour.in_band_error is None else frame(in_band(behaviour.in_band_error), behaviour)
    return finished(events.frames, behaviour, giant=giant, error=broken)


def in_band(given: Json) -> Json:
    """An error object, wrapped unless the script wrapped it."""
    return given if "error" in given else {"error": given}


_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def error(status: int, message: str, *details: Json) -> Json:
    """A vendor style error."""
    found: Json = {"code": status, "message": message, "status": _STATUSES.get(status, "UNKNOWN")}
    return {"error": found | ({"details": list(details)} if details else {})}


def wrong_key(key: str) -> Json:
    """How the Gemini API refuses a key: with a 400."""
    detail = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }
    return error(400, "API key not valid. Please pass a valid API key.", detail)


def models(names: list[str], *, vertex: bool) -> Json:
    """The list of models."""
    if vertex:
        return {"publisherModels": [{"name": f"publishers/google/models/{name}"} for name in names]}
    return {"models": [model(name) for name in names]}


def model(name: str) -> Json:
    """One row of the list."""
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name,
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }


def _texts(body: Json) -> list[str]:
    if isinstance(body.get("instances"), list):
        return [str(one.get("content")) for one in body["instances"]]
    return ["".join(part.get("text", "") for part in one["content"]["parts"]) for one in body.get("requests") or []]


def embedded(body: Json) -> tuple[list[str], int]:
    """The texts and their tokens."""
    texts = _texts(body)
    return texts, openai_wire.embedding_tokens(list(texts))


def embeddings(body: Json, behaviour: Behaviour, asked: Route) -> Json:
    """Vectors that depend on the text only. Vertex's `predict` counts the tokens of each; the batch counts none."""
    texts, _ = embedded(body)
    wanted = (body.get("parameters") or (body.get("requests") or [{}])[0]).get("outputDimensionality")
    size = wanted if isinstance(wanted, int) and wanted > 0 else behaviour.embedding_dims
    rows = [{"values": openai_wire.vector(text, size)} for text in texts]
    if asked.method == "batchEmbedContents":
        return {"embeddings": rows} | (behaviour.extra_fields or {})
    counted = [{"statistics": {"token_count": float(max(1, len(text.split()))), "truncated": False}} for text in texts]
    predictions = [{"embeddings": row | count} for row, count in zip(rows, counted, strict=True)]
    return {"predictions": predictions} | (behaviour.extra_fields or {})


def token(ordinal: int, behaviour: Behaviour) -> Json:
    """What the token endpoint gives for a signed claim; `extra_fields` change it."""
    granted = {"access_token": f"ya29.fake-{ordinal:06d}", "expires_in": 3599, "token_type": "Bearer"}
    return granted | (behaviour.extra_fields or {})
