"""The data path: a small ASGI application at `/v1/`, in front of Django, whose request machinery costs more than all of
a metered request. It reads the request, opens the journey, and writes what comes back. No ORM, no thread per request.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import unquote

import orjson
from django.conf import settings

from llm.calls import StreamEvent
from llm.engine import completion, metrics, runtime, snapshot, tenant_state
from llm.engine.callers import route_caller
from llm.engine.channel import Ending
from llm.errors import GatewayFailed, ModelNotFound
from llm.types import ChatRequest
from llm.wire import chat, completions, count_tokens, embeddings, messages, models, responses
from llm.wire.answer import Headers, headers_of, named
from llm.wire.errors import (
    MethodNotAllowedError,
    NoSuchPathError,
    TooLargeError,
    TooSlowError,
    rendered,
    speaks_anthropic,
)
from llm.wire.request import Incoming, require_json
from tenants.auth import Caller, authenticate
from tenants.errors import TollgateError, Unavailable
from tenants.ids import uuid7

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Parse = Callable[[bytes, Incoming], ChatRequest]


class StreamWriter(Protocol):
    """Writes one stream in a wire's own events."""

    def render(self, events: list[StreamEvent]) -> bytes:
        """Frames for these events; empty if none of them is for the client."""
        ...

    def finish(self, ending: Ending) -> bytes:
        """The last frames, with the settled usage; after an error the error alone."""
        ...


class Wire(Protocol):
    """One client wire: a module of these. What is the same on all of them is in `wire.request`,
    `wire.answer` and here."""

    NAMES: Mapping[str, str]  # what this wire calls the fields of a chat body, where it is something else

    def parse(self, raw: bytes, incoming: Incoming) -> ChatRequest:
        """A validated request. Raises InvalidRequest naming the field."""
        ...

    def body_of(self, request: ChatRequest, reply: completion.Reply) -> bytes:
        """A whole answer, with the settled usage."""
        ...

    @property
    def stream(self) -> Callable[[ChatRequest, completion.Reply], StreamWriter] | None:
        """None: this API has no streams, and `parse` refuses to be asked for one."""
        ...


WIRES: dict[str, Wire] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completions,
    "/v1/embeddings": embeddings,
    "/v1/messages": messages,
    "/v1/responses": responses,
}
COUNT_TOKENS = "/v1/messages/count_tokens"

LARGE = 256 * 1024  # bytes; a larger body is read in a thread, so that others need not wait for it
_JSON = (b"content-type", b"application/json")


class _LeftError(Exception):
    """The client closed the connection."""


class Exchange:
    """One request and its answer."""

    __slots__ = ("headers", "id", "in_memory", "path", "receive", "received", "scope", "send", "started")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.received = time.perf_counter()
        self.id: uuid.UUID = uuid7()
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.started = False
        self.in_memory = 0  # bytes of the body

    @property
    def lists_for_anthropic(self) -> bool:
        """True where the same path has two shapes and the client wants Anthropic's."""
        return b"anthropic-version" in self.headers and self.path.startswith("/v1/models")

    def own_headers(self) -> list[tuple[bytes, bytes]]:
        """What Anthropic's clients look for beside `x-request-id`."""
        anthropic = speaks_anthropic(self.path) or self.lists_for_anthropic
        return [(b"request-id", str(self.id).encode())] if anthropic else []

    async def body(self) -> bytes:
        """The whole body. Raises TooLargeError before it is read where its length is known, TooSlowError."""
        limit = settings.MAX_BODY_V1
        declared = self.headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        part, more = await self._part(limit)
        if not more:
            return part
        parts = [part]
        try:
            async with asyncio.timeout(settings.BODY_TIMEOUT_S):
                while more:
                    part, more = await self._part(limit)
                    parts.append(part)
        except TimeoutError as error:
            raise TooSlowError(f"The body took longer than {settings.BODY_TIMEOUT_S:g} s to arrive.") from error
        return b"".join(parts)

    async def _part(self, limit: int) -> tuple[bytes, bool]:
        """The next part of the body, and whether more follows."""
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise _LeftError
        part = message.get("body", b"")
        if self.in_memory + len(part) > limit:
            raise _too_large(limit)
        runtime.RUNTIME.admission.take_body(len(part))
        self.in_memory += len(part)
        return part, message.get("more_body", False)

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, *, more: bool) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": more})

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        await self.start(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self.write(b"" if self.scope["method"] == "HEAD" else body, more=False)

    async def refuse(self, error: TollgateError) -> None:
        status, headers, body = rendered(
            error, request_id=str(self.id), path=self.path, anthropic=self.lists_for_anthropic
        )
        if isinstance(error, MethodNotAllowedError):
            headers.append((b"allow", b"GET" if self.path.startswith("/v1/models") else b"POST"))
        if isinstance(error, (TooLargeError, TooSlowError)):
            headers.append((b"connection", b"close"))
        await self.answer(status, headers, body)


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"The body is larger than {limit:,} bytes, the most this gateway accepts.")


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI entry of everything under `/v1`."""
    exchange = Exchange(scope, receive, send)
    try:
        await _route(exchange)
    except _LeftError:
        return
    except TollgateError as error:
        if error.status >= 500 and not isinstance(error, Unavailable):  # an overload is not logged line by line
            logger.warning("Request %s: %s %s", exchange.id, error.status, error.code)
        await exchange.refuse(error)
    except Exception:  # a bug: logged with its request id, and the client gets JSON like everybody
        logger.exception("Request %s failed on the wire", exchange.id)
        failure = GatewayFailed()
        metrics.failed(failure.code)
        if not exchange.started:
            await exchange.refuse(failure)
    finally:
        runtime.RUNTIME.admission.drop_body(exchange.in_memory)


async def _route(exchange: Exchange) -> None:
    path = exchange.path.rstrip("/")
    wire = WIRES.get(path)
    if wire is not None:
        _only(exchange, "POST")
        await _complete(exchange, wire)
    elif path == COUNT_TOKENS:
        _only(exchange, "POST")
        await _count_tokens(exchange)
    elif path == "/v1/models":
        _only(exchange, "GET")
        await _models(exchange, None)
    elif path.startswith("/v1/models/"):
        _only(exchange, "GET")
        await _models(exchange, unquote(path.removeprefix("/v1/models/")))
    else:
        raise NoSuchPathError(
            f"There is nothing at {exchange.path[:200]}. Served here: {', '.join(WIRES)}, /v1/models."
        )


def _only(exchange: Exchange, method: str) -> None:
    allowed = (method, "HEAD") if method == "GET" else (method,)
    if exchange.scope["method"] not in allowed:
        raise MethodNotAllowedError(f"{exchange.scope['method']} is not served at {exchange.path}. Use {method} here.")


async def _caller(exchange: Exchange) -> Caller:
    caller = await authenticate(exchange.scope["headers"])
    caller.require("completions")
    return caller


# --- completions ------------------------------------------------------------------------------------------------------


async def _asked(exchange: Exchange, parse: Parse) -> tuple[Caller, ChatRequest]:
    """Who asks for what. Raises the TollgateError of a key or body that is not good, or of having too much to do."""
    runtime.RUNTIME.admit()  # before any work
    caller = await _caller(exchange)
    require_json(exchange.headers)
    raw = await exchange.body()
    client = exchange.scope.get("client")
    incoming = Incoming(
        id=exchange.id,
        headers=exchange.headers,
        ip=client[0] if client else None,
        received=exchange.received,
    )
    if len(raw) < LARGE:
        return caller, parse(raw, incoming)
    return caller, await asyncio.get_running_loop().run_in_executor(None, parse, raw, incoming)


async def _complete(exchange: Exchange, wire: Wire) -> None:
    try:
        caller, request = await _asked(exchange, wire.parse)
    except TollgateError as error:
        metrics.refused(error.code, error.status)
        raise
    handler = asyncio.current_task()
    assert handler is not None
    watch = asyncio.get_running_loop().create_task(_leave_when_gone(exchange.receive, handler))
    try:
        reply = await completion.open(caller, request)
        headers = headers_of(reply, wire.NAMES) + exchange.own_headers()
        if reply.channel is None:
            await exchange.answer(200, headers, wire.body_of(request, reply))
        else:
            assert wire.stream is not None
            await _stream(exchange, headers, wire.stream(request, reply), reply)
    except TollgateError as error:
        if error.param is not None:
            error.param = named(error.param, wire.NAMES)
        raise
    except asyncio.CancelledError:
        if not watch.done():
            raise
        handler.uncancel()
        raise _LeftError from None
    finally:
        watch.cancel()


async def _leave_when_gone(receive: Receive, handler: "asyncio.Task[Any]") -> None:
    """Uvicorn does not cancel a request whose client left: it says so to whoever asks."""
    while (await receive())["type"] != "http.disconnect":
        pass
    handler.cancel()


async def _stream(exchange: Exchange, headers: Headers, stream: StreamWriter, reply: completion.Reply) -> None:
    channel = reply.channel
    assert channel is not None
    try:
        await exchange.start(200, headers)
        async for events in channel.batches():
            data = stream.render(events)
            if data:
                await exchange.write(data, more=True)
        assert channel.ending is not None
        await exchange.write(stream.finish(channel.ending), more=False)
    finally:
        reply.abandon()


async def _count_tokens(exchange: Exchange) -> None:
    caller, request = await _asked(exchange, messages.parse_count)
    found = await count_tokens.counted(caller, request)
    await exchange.answer(200, _named(exchange), orjson.dumps(found))


def _named(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """Headers of a JSON answer that is no completion."""
    return [_JSON, (b"x-request-id", str(exchange.id).encode()), *exchange.own_headers()]


# --- models -----------------------------------------------------------------------------------------------------------


async def _models(exchange: Exchange, wanted: str | None) -> None:
    caller = await authenticate(exchange.scope["headers"])
    caller.require("")
    catalog = snapshot.WATCH.current
    if catalog is None:
        raise Unavailable("The gateway's catalog is not loaded yet. Try again shortly.")
    tenant = await tenant_state.TENANTS.get(caller.tenant_id)
    found = models.entries(catalog, route_caller(caller), tenant, now=datetime.now(UTC))
    anthropic = exchange.lists_for_anthropic
    if wanted is not None:
        found = [entry for entry in found if entry["id"] == wanted]
        if not found:
            raise ModelNotFound(
                "There is no such model for this key. GET /v1/models lists what it may call.", param="model"
            )
        body = models.anthropic_entry(found[0]) if anthropic else found[0]
    elif anthropic:
        body = models.anthropic_list(found, exchange.scope.get("query_string", b""))
    else:
        body = {"object": "list", "data": found}
    await exchange.answer(200, _named(exchange), orjson.dumps(body))


# --- the process ------------------------------------------------------------------------------------------------------


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Start and stop what the process keeps."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await runtime.RUNTIME.start()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await runtime.RUNTIME.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
