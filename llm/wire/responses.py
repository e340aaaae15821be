"""`/v1/responses`: OpenAI's Responses API for every model, by way of chat completions.

No provider's own Responses API is called, and nothing is stored: a client sends the whole conversation, and reasoning
goes with it (see responses_reasoning).
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm.engine.completion import Reply
from llm.types import ChatRequest, Native
from llm.wire import chat
from llm.wire import request as wire
from llm.wire.request import Incoming
from llm.wire.responses_answer import Facts, response_of
from llm.wire.responses_request import chat_body
from llm.wire.responses_schema import check
from llm.wire.responses_stream import ResponseStream

Json = dict[str, Any]
NAMES: Mapping[str, str] = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
}

# No provider's dialect: the client's own body is kept for the answer, which repeats its settings.
_DIALECT = "responses"


def parse(raw: bytes, incoming: Incoming) -> ChatRequest:
    """A validated request. Raises InvalidRequest naming the field."""
    body = wire.load(raw)
    check(body)
    wishes = wire.extras(body, incoming.headers)
    asked = chat.asked(chat_body(body))
    asked.native = Native(dialect=_DIALECT, body=body)
    return wire.assembled(asked, wishes, raw, incoming)


def _facts(request: ChatRequest, reply: Reply, model: Any = None) -> Facts:
    assert request.native is not None
    return Facts(
        request_id=reply.request_id,
        model=model if isinstance(model, str) and model else reply.target.model.model_id,
        settings=request.native.body,
        target=reply.target,
    )


def stream(request: ChatRequest, reply: Reply) -> ResponseStream:
    """What writes the stream of this answer."""
    return ResponseStream(_facts(request, reply))


def body_of(request: ChatRequest, reply: Reply) -> bytes:
    """The whole answer as JSON, with the settled usage."""
    assert reply.completed is not None
    said = reply.completed.body
    facts = _facts(request, reply, said.get("model"))
    return orjson.dumps(response_of(facts, said["choices"][0], reply.usage, reply.service_tier))
