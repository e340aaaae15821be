"""`/v1/chat/completions`: a body becomes a ChatRequest, an answer becomes bytes."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import orjson

from llm.engine import tokens
from llm.engine.completion import Reply
from llm.errors import InvalidRequest
from llm.types import ChatRequest, ClientFacts, RouteRequest
from llm.wire import sse
from llm.wire.chat_schema import check
from llm.wire.errors import WrongContentTypeError

Json = dict[str, Any]
Headers = list[tuple[bytes, bytes]]

MAX_DEPTH = 64
MAX_CONTAINERS = 250_000  # parsing builds them all while it holds the interpreter
MAX_NAME = 300
_IDEMPOTENCY = b"idempotency-key"
# Letters of our own names written as escapes: no honest writer does that, and a search of the bytes would miss them.
_ESCAPED = re.compile(rb"\\u00(?:5[fF]|[67])")
_EXTRAS = ("power_level", "task_type", "priority", "config")
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


def parse(raw: bytes, incoming: Incoming) -> ChatRequest:
    """A validated request. Raises InvalidRequest naming the field."""
    body = load(raw)
    check(body)
    extras = {name: _extra(body, incoming.headers, name) for name in _EXTRAS}
    stream = bool(body.get("stream"))
    size = tokens.measure(body)
    cap = body.get("max_completion_tokens")
    route = RouteRequest(
        request_id=incoming.id,
        model=body.pop("model", None),
        session_id=_header(incoming.headers, b"x-session-id"),
        input_tokens=size.estimate,
        max_tokens=body.get("max_tokens") if cap is None else cap,
        choices=body.get("n") or 1,
        needs=_needs(body, stream, size),
        text=_last_user_text(body["messages"]),
        power_level=extras["power_level"],
        task_type=extras["task_type"],
        priority=extras["priority"],
        config=extras["config"],
    )
    return ChatRequest(
        id=incoming.id,
        body=body,
        stream=stream,
        route=route,
        size=size,
        cache_writes=b"cache_control" in raw or _ESCAPED.search(raw) is not None,
        client=ClientFacts(
            ip=incoming.ip,
            user_agent=_header(incoming.headers, b"user-agent"),
            end_user=(body.get("user") or "")[:MAX_NAME],
            session_id=route.session_id,
            client_request_id=_header(incoming.headers, b"x-request-id"),
        ),
        idempotency=_idempotency(incoming.headers, raw),
        received=incoming.received,
        now=datetime.now(UTC),
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


def _extra(body: Json, headers: Mapping[bytes, bytes], name: str) -> str | None:
    """A routing extra: the header wins over the body, and neither travels to the provider."""
    value = body.pop(name, None)
    if _HEADER_OF[name] in headers:
        return _header(headers, _HEADER_OF[name])
    if value is not None and (not isinstance(value, str) or not value):
        raise InvalidRequest(f"`{name}` must be a non-empty string.", param=name)
    return value


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


def wants_usage(request: ChatRequest) -> bool:
    options = request.body.get("stream_options")
    return bool(options and options.get("include_usage"))


def headers_of(reply: Reply) -> Headers:
    """What every accepted answer says of itself."""
    target = reply.target
    headers = [
        (b"x-request-id", reply.request_id.encode()),
        (b"x-provider-used", _latin(target.model.provider.slug)),
        (b"x-model-used", _latin(target.model.model_id)),
        (b"x-used-byok", b"true" if target.key_source == "byok" else b"false"),
        (b"x-was-fallback", b"true" if reply.was_fallback else b"false"),
        (b"x-overhead-ms", str(reply.overhead_ms).encode()),
    ]
    if reply.cost_usd is not None:
        headers.append((b"x-cost-incurred", _plain(reply.cost_usd)))
    if reply.dropped:
        headers.append((b"x-dropped-params", _latin(", ".join(reply.dropped))))
    for standing in reply.standings:
        what = standing.what.encode()
        headers += [
            (b"x-ratelimit-limit-" + what, str(standing.limit).encode()),
            (b"x-ratelimit-remaining-" + what, str(standing.remaining).encode()),
            (b"x-ratelimit-reset-" + what, f"{standing.reset_s:.0f}s".encode()),
        ]
    if reply.channel is not None:
        headers += sse.HEADERS
    else:
        headers.append((b"content-type", b"application/json"))
    return headers


def _latin(text: str) -> bytes:
    """A header value: what is not printable ASCII cannot break out of it."""
    return text.encode("ascii", "replace").replace(b"\r", b"?").replace(b"\n", b"?")


def _plain(amount: Decimal) -> bytes:
    return f"{amount.normalize():f}".encode()


def body_of(reply: Reply) -> bytes:
    """The whole answer as JSON, with the settled usage."""
    assert reply.completed is not None
    body = reply.completed.body
    body["usage"] = reply.usage
    if not body.get("model"):
        body["model"] = reply.target.model.model_id
    return orjson.dumps(body)
