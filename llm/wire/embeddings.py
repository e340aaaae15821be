"""`/v1/embeddings`: N inputs, N vectors, in order, as numbers or as base64 whatever the provider sends.

OpenAI's SDKs ask for base64 unless told otherwise: four bytes a number, float32, the lowest byte first.
"""

import base64
import sys
from array import array
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
from llm.wire.request import Incoming

Json = dict[str, Any]
NAMES: Mapping[str, str] = {}

MAX_INPUTS = 2_048  # OpenAI's
MAX_TOKEN_ID = 2**31 - 1
_SETTINGS = frozenset(
    {
        *("model", "input", "dimensions", "encoding_format", "user", "stream"),
        *("power_level", "task_type", "priority", "config"),
    }
)


def inputs_of(given: Any) -> list[Any]:
    """The inputs, each a text or a list of token ids."""
    return [given] if isinstance(given, str) or isinstance(given[0], int) else list(given)


def inputs(param: str, value: Any) -> None:
    """A text, texts, token ids or lists of token ids."""
    if isinstance(value, str):
        _filled(param, value)
        return
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"`{param}` must be a string or a non-empty list of strings.", param=param)
    if isinstance(value[0], int):
        _filled(param, value)
        return
    if len(value) > MAX_INPUTS:
        raise InvalidRequest(f"`{param}` has more than {MAX_INPUTS:,} inputs.", param=param)
    for position, one in enumerate(value):
        if type(one) is not type(value[0]):
            raise InvalidRequest(f"`{param}` must not mix texts and token ids.", param=param)
        _filled(f"{param}[{position}]", one)


def _filled(where: str, one: Any) -> None:
    if isinstance(one, list) and all(type(token) is int and 0 <= token <= MAX_TOKEN_ID for token in one):
        kind = "token ids"
    elif isinstance(one, str):
        kind = "text"
    else:
        raise InvalidRequest(f"`{where}` must be a string, or a list of token ids.", param=where)
    if not one:
        raise InvalidRequest(f"`{where}` is empty: there is no vector of no {kind}.", param=where)


def encoding_format(param: str, value: Any) -> None:
    if value not in ("float", "base64"):
        raise InvalidRequest(f"`{param}` must be float or base64.", param=param)


def no_stream(param: str, value: Any) -> None:
    if value is not False:
        raise InvalidRequest("Embeddings are not streamed.", param=param, code="unsupported_parameter")


CHECKS: dict[str, Check] = {
    "model": chat_schema.filled,
    "input": inputs,
    "dimensions": whole(1, 100_000),
    "encoding_format": encoding_format,
    "user": chat_schema.text,
    "stream": no_stream,
    "service_tier": chat_schema.standard_tier,
}


def check(body: Json) -> None:
    """Raises InvalidRequest for the first field that is wrong. Null is absent, but for model and input."""
    if "input" not in body:
        raise InvalidRequest("`input` is missing: send a string or a list of strings.", param="input")
    for name in [name for name in body if name in CHECKS]:
        if body[name] is not None or name in ("input", "model"):
            CHECKS[name](name, body[name])


def parse(raw: bytes, incoming: Incoming) -> ChatRequest:
    """A validated request. Raises InvalidRequest naming the field."""
    body = wire.load(raw)
    check(body)
    wishes = wire.extras(body, incoming.headers)
    given = inputs_of(body["input"])
    rest = {name: value for name, value in body.items() if name not in _SETTINGS and value is not None}
    asked = wire.Asked(
        body=body,
        size=tokens.measure_inputs(given, rest),
        kind="embedding",
        text=given[-1][:4000] if isinstance(given[-1], str) else "",
        end_user=body.get("user") or "",
    )
    return wire.assembled(asked, wishes, raw, incoming)


stream = None  # `check` refuses it


def body_of(request: ChatRequest, reply: Reply) -> bytes:
    """The whole answer as JSON, with the settled usage."""
    assert reply.completed is not None
    answer = reply.completed.body
    packed = request.body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(row["embedding"]) if packed else row["embedding"]}
        for index, row in enumerate(answer["data"])
    ]
    body = {"object": "list", "data": data, "model": answer.get("model") or reply.target.model.model_id}
    return orjson.dumps({**body, "usage": _usage(reply.usage or {})})


def _packed(vector: list[float]) -> str:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def _usage(settled: Json) -> Json:
    """OpenAI's two counts, which are the same, and the cost."""
    count = settled.get("prompt_tokens", 0)
    shown: Json = {"prompt_tokens": count, "total_tokens": count}
    if "cost" in settled:
        shown["cost"] = settled["cost"]
    return shown
