"""`/v1/chat/completions`: a body becomes a ChatRequest, an answer becomes bytes."""

from collections.abc import Mapping
from typing import Any

import orjson

from llm.engine import tokens
from llm.engine.completion import Reply
from llm.service_tiers import ASKED, OPENAI_WORDS
from llm.types import ChatRequest
from llm.wire import request as wire
from llm.wire.chat_schema import check
from llm.wire.chat_stream import ChatStream
from llm.wire.request import Incoming

Json = dict[str, Any]
NAMES: Mapping[str, str] = {}


def parse(raw: bytes, incoming: Incoming) -> ChatRequest:
    """A validated request. Raises InvalidRequest naming the field."""
    body = wire.load(raw)
    check(body)
    wishes = wire.extras(body, incoming.headers)
    return wire.assembled(asked(body), wishes, raw, incoming)


def asked(body: Json) -> wire.Asked:
    """What a checked chat body asks for: every wire that speaks in messages ends here."""
    stream = bool(body.get("stream"))
    size = tokens.measure(body)
    cap = body.get("max_completion_tokens")
    return wire.Asked(
        body=body,
        size=size,
        stream=stream,
        max_tokens=body.get("max_tokens") if cap is None else cap,
        choices=body.get("n") or 1,
        needs=_needs(body, stream, size),
        text=_last_user_text(body["messages"]),
        end_user=body.get("user") or "",
        service_tier=ASKED.get(body.get("service_tier") or "", ""),
    )


def _needs(body: Json, stream: bool, size: tokens.Size) -> frozenset[str]:
    needs = set()
    if stream:
        needs.add("streaming")
    if body.get("tools") or body.get("functions"):
        needs.add("tools")
    if size.images:
        needs.add("vision")
    wanted = body.get("response_format")
    if wanted and wanted.get("type") in ("json_object", "json_schema"):
        needs.add("json")
    return frozenset(needs)


def _last_user_text(messages: list[Json]) -> str:
    """The last user message's text, its first 4,000 characters: what task detection looks at."""
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content[:4000]
            parts = [part["text"] for part in content or [] if isinstance(part.get("text"), str)]
            return " ".join(parts)[:4000]
    return ""


def _wants_usage(request: ChatRequest) -> bool:
    options = request.body.get("stream_options")
    return bool(options and options.get("include_usage"))


def stream(request: ChatRequest, reply: Reply) -> ChatStream:
    """What writes the stream of this answer."""
    model = reply.target.model.model_id
    return ChatStream(
        request_id=reply.request_id,
        model=model,
        include_usage=_wants_usage(request),
        tells_tier=bool(request.route.service_tier),
    )


def body_of(request: ChatRequest, reply: Reply) -> bytes:
    """The whole answer as JSON, with the settled usage."""
    assert reply.completed is not None
    body = reply.completed.body
    body["usage"] = reply.usage
    if request.route.service_tier and reply.service_tier:
        body["service_tier"] = OPENAI_WORDS[reply.service_tier]
    if not isinstance(body.get("model"), str) or not body["model"]:
        body["model"] = reply.target.model.model_id
    return orjson.dumps(body)
