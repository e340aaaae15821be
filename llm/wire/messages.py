"""`/v1/messages`: Anthropic's Messages API in front of every dialect.

Where the target speaks it too, the client's own body travels (`Native`) and the answer comes back as it is; see
`providers.anthropic_native`. Everywhere else it goes through the chat body, like all wires.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm.engine.completion import Reply
from llm.types import ChatRequest, Native
from llm.wire import chat
from llm.wire import request as wire
from llm.wire.messages_answer import message
from llm.wire.messages_request import Translation
from llm.wire.messages_schema import check
from llm.wire.messages_stream import NativeStream
from llm.wire.messages_translated import TranslatedStream
from llm.wire.request import Incoming

Json = dict[str, Any]
NAMES: Mapping[str, str] = {
    "messages": "messages",
    "stop": "stop_sequences",
    "user": "metadata.user_id",
    "response_format": "output_config.format",
    "reasoning_effort": "thinking",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
}
BETAS = "anthropic_beta"  # where `providers.anthropic_native` looks for the names of that header


def parse(raw: bytes, incoming: Incoming) -> ChatRequest:
    """A validated request. Raises InvalidRequest naming the field."""
    return _parsed(raw, incoming, counting=False)


def parse_count(raw: bytes, incoming: Incoming) -> ChatRequest:
    """What tokens are to be counted of: as `parse`, but `max_tokens` may be missing."""
    return _parsed(raw, incoming, counting=True)


def _parsed(raw: bytes, incoming: Incoming, *, counting: bool) -> ChatRequest:
    body = wire.load(raw)
    wishes = wire.extras(body, incoming.headers)
    check(body, counting=counting)
    translation = Translation(body).made()
    asked = chat.asked(translation.body)
    asked.size.text_bytes += translation.unseen
    if translation.typed:
        asked.size.bounded = False
        asked.needs |= {"tools"}
    header = incoming.headers.get(b"anthropic-beta")
    if header is not None:
        body[BETAS] = [name.strip() for name in header.decode("latin-1").split(",")]
    asked.native = Native(dialect="anthropic", body=body, only=translation.only)
    asked.beyond = translation.beyond
    return wire.assembled(asked, wishes, raw, incoming)


def body_of(request: ChatRequest, reply: Reply) -> bytes:
    """The whole answer as JSON, with the settled usage."""
    return orjson.dumps(message(reply, request.body.get("stop"), tells_tier=bool(request.route.service_tier)))


def stream(request: ChatRequest, reply: Reply) -> NativeStream | TranslatedStream:
    """What writes the stream of this answer."""
    native = request.native is not None and request.native.dialect == reply.target.model.provider.dialect
    return NativeStream(request, reply) if native else TranslatedStream(request, reply)
