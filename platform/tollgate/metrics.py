"""`/metrics` for Prometheus: the sum over all web processes, whichever of them answers.

Requests are counted in llm/engine/metrics.py; gauges.py has the rest. Here is where several processes keep their
figures, who may look, and the answer. `asgi.py` gives it in front of Django: scrapers come by address, which the Host
check and the redirect to TLS would refuse.
"""

import asyncio
import hmac
import ipaddress
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from llm.engine.metrics import REGISTRY
from llm.wire.errors import MethodNotAllowedError, rendered
from tenants.errors import PermissionDenied, TollgateError
from tenants.ids import uuid7
from tollgate.gauges import Books, looked_up, read_books, sample

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PATH = "/metrics"
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's own name; it keeps figures in memory where it is not set

# --- for the parent of several processes ------------------------------------------------------------------------------


def share(*, port: int) -> None:
    """From now on processes that start keep their figures in files, in a folder that is empty now. The port, which
    only one server can have, names it."""
    folder: Path = settings.TOLLGATE_DATA_DIR / "metrics" / str(port)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    os.environ[_FOLDER] = str(folder)


def forget(pid: int) -> None:
    """A process is gone: what it was doing is no more, what it has counted stays."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]


# --- the answer -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Page:
    """All that a scrape is told, as prometheus-client wants it."""

    books: Books | None

    def collect(self) -> Iterator[Metric]:
        """Every metric family there is."""
        if _FOLDER in os.environ:
            yield from MultiProcessCollector(None).collect()  # type: ignore[no-untyped-call]
        else:
            yield from REGISTRY.collect()
        yield from looked_up(self.books)


class WrongMetricsTokenError(TollgateError):
    """A token that is not METRICS_TOKEN, or none where one is needed."""

    status = 401
    type = "authentication_error"
    code = "invalid_metrics_token"


# What proxies say. Their peer is not the one who asks.
_FORWARDED = frozenset(
    {b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip"}
)


async def application(scope: Scope, _receive: Receive, send: Send) -> None:
    """ASGI entry of `/metrics`."""
    try:
        check(scope)
    except TollgateError as error:
        status, headers, body = rendered(error, request_id=str(uuid7()), path=PATH)
    else:
        sample()
        page = _Page(await read_books())
        # In a thread: it reads files, and every series of every process.
        body = await asyncio.get_running_loop().run_in_executor(None, generate_latest, page)
        status, headers = 200, [(b"content-type", CONTENT_TYPE_PLAIN_0_0_4.encode()), (b"cache-control", b"no-store")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def check(scope: Scope) -> None:
    """Whether this request may see the metrics: it is from this machine, or has the token. A wrong token is refused
    wherever it comes from. Raises WrongMetricsTokenError, PermissionDenied, MethodNotAllowedError."""
    if scope["method"] not in {"GET", "HEAD"}:
        raise MethodNotAllowedError(f"{scope['method']} is not served at {PATH}. Use GET here.")
    given = next((value for name, value in scope["headers"] if name == b"authorization"), None)
    token: str = settings.METRICS_TOKEN
    if given is not None:
        scheme, _, secret = given.partition(b" ")
        if not token or scheme.lower() != b"bearer" or not hmac.compare_digest(secret.strip(), token.encode()):
            raise WrongMetricsTokenError("This is not the token of /metrics. Send METRICS_TOKEN as a Bearer token.")
    elif not _from_this_machine(scope):
        if token:
            raise WrongMetricsTokenError("Send METRICS_TOKEN as `Authorization: Bearer TOKEN`.")
        raise PermissionDenied("/metrics is for this machine only, as long as METRICS_TOKEN is not set.")


def _from_this_machine(scope: Scope) -> bool:
    """The server rewrites `client` only for a request with X-Forwarded-For, from a proxy it trusts. Without that header
    it is the peer of the socket, which nobody can forge; and a request that came through a proxy is never local."""
    client = scope.get("client")
    if not client or any(name in _FORWARDED for name, _ in scope["headers"]):
        return False
    address = ipaddress.ip_address(client[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
