"""The way in. `/v1` goes to the data path, lifespan events start and stop it, probes and scrapes are answered, all else
is Django.

The data path stands in front of Django because Django's request machinery alone costs several times what a whole
metered request does.
"""

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, cast

import orjson
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tollgate.settings")
django_application = get_asgi_application()

# Models can only be imported once Django is set up, which the line above does.
from django.conf import settings  # noqa: E402

from llm.engine import runtime  # noqa: E402
from llm.wire import app as data_path  # noqa: E402
from tenants.addresses import ip_or_none  # noqa: E402
from tenants.ids import uuid7  # noqa: E402
from tollgate import gauges, health, lean, metrics, silence  # noqa: E402

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Measured: collecting, freezing and raising the thresholds took p99 from 41 to 12 ms. A request makes a few hundred
# short-lived containers, nearly all freed by reference count; the default of 700 runs a collection in every other one.
_GC_THRESHOLDS = (50_000, 20, 50)
# How long the ledger's thread waits for the interpreter while the event loop is busy, several times a commit. At 32
# connections one run with 0.5 ms gave 671 requests a second; five runs with the default 5 ms gave 240 to 522.
_SWITCH_INTERVAL_S = 0.0005


class BodyTooLargeError(Exception):
    """The client sent more than the limit before Django began to answer."""


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application that `serve` and any other ASGI server run."""
    if scope["type"] == "http":
        _forget_no_address(scope)
    if scope["type"] == "lifespan":
        await data_path.lifespan(scope, receive, _once_started(send))
    elif scope["type"] == "http" and (scope["path"] == "/v1" or scope["path"].startswith("/v1/")):
        await data_path.application(scope, receive, send)
    elif scope["type"] == "http" and scope["path"] in {health.LIVE, health.READY}:
        status, body = await health.probe(scope["path"])
        await _answer(send, status, body, (b"cache-control", b"no-store"))
    elif scope["type"] == "http" and scope["path"] == metrics.PATH:
        await metrics.application(scope, receive, send)
    elif scope["type"] == "http":
        await _django(scope, receive, send)
    elif scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})


def _forget_no_address(scope: Scope) -> None:
    """Servers take the client's address from `X-Forwarded-For` where they trust the peer, whatever it says: what is no
    IP address is nobody's, before usage rows and the audit log try to store it.
    """
    client = scope.get("client")
    if client:
        address = ip_or_none(client[0])
        scope["client"] = None if address is None else (address, client[1])


def tune_interpreter() -> None:
    """Collect garbage once, put all that is alive out of the collector's sight, let it run more rarely, and switch
    threads sooner."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


def _once_started(send: Send) -> Send:
    """What to do once start-up is complete: the catalog snapshot is then in memory and should be frozen too."""

    async def watched(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            health.drain_on_stop_signal(_on_this_loop(runtime.RUNTIME.drain))
            gauges.keep_sampling(asyncio.get_running_loop())
            tune_interpreter()
        await send(message)

    return watched


def _on_this_loop(work: Callable[[], None]) -> Callable[[], None]:
    """`work`, callable from a signal handler or another thread."""
    loop = asyncio.get_running_loop()
    return lambda: cast("None", loop.call_soon_threadsafe(work))


async def _django(scope: Scope, receive: Receive, send: Send) -> None:
    """Django, with a limit on bodies: left alone it spools whatever it is sent to disk before any view can object."""
    is_api = scope["path"].startswith("/api/")
    limit: int = settings.MAX_BODY_API if is_api else settings.MAX_BODY_V1
    if _declared_length(scope) > limit:
        await _refuse_body(send, limit)
        return
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise BodyTooLargeError
        return message

    try:
        if scope["path"] in lean.PATHS:
            await lean.serve(scope, limited, send)
        else:
            # django-stubs types the scope more narrowly than ASGI does.
            answer = partial(django_application, scope, limited)  # type: ignore[arg-type]
            await silence.unless_silent(answer, send)
    except BodyTooLargeError:
        # Django reads the whole body before it answers, so nothing has been sent yet.
        await _refuse_body(send, limit)
    except silence.SilentError:
        message = "The gateway's database is out of reach. Try again shortly."
        error = {"message": message, "type": "overloaded_error", "param": None, "code": "overloaded"}
        await _answer(send, 503, {"error": error}, (b"x-should-retry", b"true"), (b"retry-after", b"1"))


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            # No digits: the server has refused it already, or the body is counted as it comes.
            return int(value) if value.isdigit() else 0
    return 0


async def _refuse_body(send: Send, limit: int) -> None:
    message = f"The body is larger than {limit} bytes, the limit for this URL."
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "body_too_large"}
    # Closing spares us reading the rest of what we have refused.
    await _answer(send, 413, {"error": error}, (b"x-should-retry", b"false"), (b"connection", b"close"))


async def _answer(send: Send, status: int, body: dict[str, Any], *headers: tuple[bytes, bytes]) -> None:
    """A JSON answer without Django."""
    content = orjson.dumps(body)
    all_headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"x-request-id", str(uuid7()).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": content})
