"""`/v1/completions`: OpenAI's legacy API, text in and text out, for the models that serve it.

Those have the quirk `legacy_completions`. Every prompt of a list is answered by itself, `n` times.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm.engine import tokens
from llm.engine.completion import Reply
from llm.errors import InvalidRequest
from llm.types import ChatRequest
from llm.wire import chat_schema
from llm.wire import request as wire
from llm.wire.chat_schema import Check, whole
from llm.wire.completion_stream import CompletionStream
from llm.wire.request import Incoming

Json = dict[str, Any]
NAMES: Mapping[str, str] = {}

MAX_PROMPTS = 2_048
_DEFAULT_CAP = 16  # OpenAI's
_SETTINGS = frozenset(
    {
        *("model", "prompt", "max_tokens", "n", "stream", "stream_options", "stop", "seed", "temperature", "top_p"),
        *("presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "user", "store", "metadata"),
        *("power_level", "task_type", "priority", "config"),
    }
)
# What is refused, and why.
_UNSUPPORTED = {
    "suffix": "few vendors insert text. Put what comes before into `prompt`",
    "best_of": "answers that are not shown are billed all the same. Ask for as many as you want with `n`",
    **{name: why for name, why in chat_schema.UNBOUNDED.items() if name != "prompt"},
}


def prompt(param: str, value: Any) -> None:
    """A string, or a list of strings."""
    if isinstance(value, str):
        return
    if not isinstance(value, list) or not value or len(value) > MAX_PROMPTS:
        raise InvalidRequest(f"`{param}` must be a string or a list of 1 to {MAX_PROMPTS:,} strings.", param=param)
    if all(isinstance(one, (int, list)) for one in value):
        raise InvalidRequest(
            f"`{param}` is text here, not token ids, which mean something else to every model.", param=param
        )
    for position, one in enumerate(value):
        chat_schema.text(f"{param}[{position}]", one)


CHECKS: dict[str, Check] = {
    **{
        name: chat_schema.CHECKS[name]
        for name in (
            *("model", "temperature", "top_p", "presence_penalty", "frequency_penalty", "max_tokens", "n", "stream"),
            *("stream_options", "stop", "seed", "logit_bias", "user", "metadata", "store"),
        )
    },
    "service_tier": chat_schema.standard_tier,
    "prompt": prompt,
    "logprobs": whole(0, 5),
    "echo": chat_schema.boolean,
}


def check(body: Json) -> None:
    """Raises InvalidRequest for the first field that is wrong. Null is absent, but for model and prompt."""
    if "prompt" not in body:
        raise InvalidRequest("`prompt` is missing: send a string or a list of strings.", param="prompt")
    for name in [name for name in body if name in CHECKS]:
        if body[name] is not None or name in ("prompt", "model"):
            CHECKS[name](name, body[name])
    for name, why in _UNSUPPORTED.items():
        if body.get(name) is not None and not (name == "best_of" and body[name] == (body.get("n") or 1)):
            raise InvalidRequest(f"`{name}` is not supported: {why}.", param=name, code="unsupported_parameter")
    if body.get("echo"):
        raise InvalidRequest(
            "`echo` is not supported: put the prompt before the answer yourself.",
            param="echo",
            code="unsupported_parameter",
        )


def parse(raw: bytes, incoming: Incoming) -> ChatRequest:
    """A validated request. Raises InvalidRequest naming the field."""
    body = wire.load(raw)
    check(body)
    wishes = wire.extras(body, incoming.headers)
    for name in ("best_of", "echo", "suffix"):
        body.pop(name, None)
    prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
    rest = {name: value for name, value in body.items() if name not in _SETTINGS and value is not None}
    asked = wire.Asked(
        body=body,
        size=tokens.measure_inputs(prompts, rest),
        kind="completion",
        stream=bool(body.get("stream")),
        max_tokens=body.get("max_tokens") or _DEFAULT_CAP,
        choices=(body.get("n") or 1) * len(prompts),
        needs=frozenset({"streaming"} if body.get("stream") else ()),
        text=prompts[-1][:4000],
        end_user=body.get("user") or "",
    )
    return wire.assembled(asked, wishes, raw, incoming)


def stream(request: ChatRequest, reply: Reply) -> CompletionStream:
    """What writes the stream of this answer."""
    options = request.body.get("stream_options") or {}
    return CompletionStream(
        request_id=reply.request_id,
        model=reply.target.model.model_id,
        include_usage=bool(options.get("include_usage")),
    )


def body_of(request: ChatRequest, reply: Reply) -> bytes:
    """The whole answer as JSON, with the settled usage."""
    assert reply.completed is not None
    body = reply.completed.body
    body["usage"] = reply.usage
    if not body.get("model"):
        body["model"] = reply.target.model.model_id
    return orjson.dumps(body)
