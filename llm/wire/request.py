"""What every client wire has in common: a body becomes a ChatRequest."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import orjson

from llm.engine import tokens
from llm.errors import InvalidRequest
from llm.types import ChatRequest, ClientFacts, Native, RouteRequest
from llm.wire.errors import WrongContentTypeError

Json = dict[str, Any]

MAX_DEPTH = 64
MAX_CONTAINERS = 250_000  # parsing builds them all while it holds the interpreter
MAX_NAME = 300
_IDEMPOTENCY = b"idempotency-key"
# Letters of our own names written as escapes: no honest writer does that, and a search of the bytes would miss them.
_ESCAPED = re.compile(rb"\\u00(?:5[fF]|[67])")
_HEADER_OF = {
    "power_level": b"x-power-level",
    "task_type": b"x-task-type",
    "priority": b"x-priority",
    "config": b"x-llm-config",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """What the transport knows of a request. Header names are lower case."""

    id: uuid.UUID
    headers: Mapping[bytes, bytes]
    ip: str | None
    received: float  # time.perf_counter()


@dataclass(slots=True, kw_only=True)
class Asked:
    """What a wire made of a body: the request as OpenAI shapes it, checked, with the model's name still in it."""

    body: Json
    size: tokens.Size
    kind: str = "chat"
    stream: bool = False
    max_tokens: int | None = None
    choices: int = 1
    needs: frozenset[str] = frozenset()
    text: str = ""  # the last user message, for task detection
    end_user: str = ""
    native: Native | None = None
    beyond: Mapping[str, Any] = field(default_factory=dict)
    service_tier: str = ""  # as routing knows them


def require_json(headers: Mapping[bytes, bytes]) -> None:
    """Raises WrongContentTypeError for a body that its headers say is no plain JSON, before it is read."""
    kind = (headers.get(b"content-type") or b"application/json").split(b";")[0].strip().lower()
    if kind != b"application/json" and not kind.endswith(b"+json"):
        raise WrongContentTypeError("Send the body as JSON, with `Content-Type: application/json`.")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise WrongContentTypeError("Compressed bodies are not accepted. Send the JSON as it is.")


def load(raw: bytes) -> Json:
    """The JSON object of a body. Raises InvalidRequest."""
    containers = raw.count(b"{") + raw.count(b"[")
    if containers > MAX_CONTAINERS:
        raise InvalidRequest(
            f"The body has more than {MAX_CONTAINERS:,} objects and lists, the most this gateway reads.",
            code="invalid_json",
        )
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from error
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    if containers > MAX_DEPTH and _deeper(body, MAX_DEPTH):
        raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.", code="invalid_json")
    return body


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    if levels == 0:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(_deeper(one, levels - 1) for one in inner)


def extras(body: Json, headers: Mapping[bytes, bytes]) -> dict[str, str | None]:
    """Tollgate's own routing wishes, by name, taken out of the body: the header wins over it, and neither travels to
    the provider. Raises InvalidRequest for one that is no string."""
    return {name: _extra(body, headers, name) for name in _HEADER_OF}


def _extra(body: Json, headers: Mapping[bytes, bytes], name: str) -> str | None:
    value = body.pop(name, None)
    if _HEADER_OF[name] in headers:
        return _header(headers, _HEADER_OF[name])
    if value is not None and (not isinstance(value, str) or not value):
        raise InvalidRequest(f"`{name}` must be a non-empty string.", param=name)
    return value


def assembled(asked: Asked, wishes: Mapping[str, str | None], raw: bytes, incoming: Incoming) -> ChatRequest:
    """The request that the journey takes. `raw` is the body as it came. Raises InvalidRequest."""
    body, size, native = asked.body, asked.size, asked.native
    session_id = _header(incoming.headers, b"x-session-id")
    route = RouteRequest(
        request_id=incoming.id,
        model=body.pop("model", None),
        session_id=session_id,
        input_tokens=size.estimate if size.longest is None else size.longest,
        max_tokens=asked.max_tokens,
        choices=asked.choices,
        needs=asked.needs,
        kind=asked.kind,
        text=asked.text,
        only=None if native is None or native.only is None else (native.dialect, native.only),
        service_tier=asked.service_tier,
        **wishes,
    )
    return ChatRequest(
        id=incoming.id,
        body=body,
        stream=asked.stream,
        route=route,
        size=size,
        cache_writes=b"cache_control" in raw or _ESCAPED.search(raw) is not None,
        client=ClientFacts(
            ip=incoming.ip,
            user_agent=_header(incoming.headers, b"user-agent"),
            end_user=asked.end_user[:MAX_NAME],
            session_id=session_id,
            client_request_id=_header(incoming.headers, b"x-request-id"),
        ),
        idempotency=_idempotency(incoming.headers, raw),
        received=incoming.received,
        now=datetime.now(UTC),
        native=native,
        beyond=asked.beyond,
    )


def _idempotency(headers: Mapping[bytes, bytes], raw: bytes) -> tuple[str, bytes] | None:
    """The client's key and a digest of the body it goes with."""
    key = headers.get(_IDEMPOTENCY, b"")
    if not key:
        return None
    if len(key) > MAX_NAME:
        raise InvalidRequest(f"`Idempotency-Key` has more than {MAX_NAME} characters.", param="Idempotency-Key")
    return key.decode("latin-1"), blake2b(raw, digest_size=16).digest()


def _header(headers: Mapping[bytes, bytes], name: bytes) -> str:
    value = headers.get(name)
    return "" if value is None else value.decode("latin-1")[:MAX_NAME]
