"""The one place that speaks HTTP to the outside: aiohttp for completions, httpx for probes, keys and webhooks.

Completions go through an aiohttp session of their own: measured per request, stock httpx costs 1,905 us (its pool is
scanned on every request), httpx over aiohttp's connections 216, aiohttp itself 124 (docs/decisions/0002). Timeouts are
the journey's own, so the session has none but for connecting.
"""

import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import aiohttp
import httpx
from django.conf import settings
from yarl import URL

from llm.calls import Upstream
from llm.errors import UpstreamFailed, UpstreamInvalid, UpstreamTimeout

MAX_ANSWER_BYTES = 32 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
KEEPALIVE_S = 15  # shorter than any vendor's, so that a kept connection is seldom one the vendor has just closed

NetworkError = (httpx.HTTPError, httpx.InvalidURL)
NotConnected = (httpx.ConnectError, httpx.ConnectTimeout)


class NeverSent(UpstreamFailed):
    """No connection could be made: the provider never saw the request, so it may be tried again at no cost."""


@dataclass(slots=True)
class Answer:
    """A provider's answer with its status known and its body still to come."""

    status: int
    headers: Mapping[str, str]  # looked up in any case
    _response: aiohttp.ClientResponse = field(repr=False)

    async def read(self, limit: int = MAX_ANSWER_BYTES) -> bytes:
        """The whole body. Raises UpstreamInvalid beyond `limit` bytes, UpstreamFailed when it breaks off."""
        parts: list[bytes] = []
        size = 0
        async for part in self.chunks():
            size += len(part)
            if size > limit:
                raise UpstreamInvalid("The provider's answer is larger than this gateway accepts.")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises UpstreamFailed when it breaks off."""
        try:
            async for part in self._response.content.iter_any():
                yield part
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamFailed("The provider's answer broke off.") from error

    async def close(self, *, drained: bool = False) -> None:
        """Give the connection back if the body was read to its end, else close it: the provider sees that at once."""
        if drained:
            self._response.release()
        else:
            self._response.close()


# What to call once the request under way has a connection: from then on the provider may see it, and bill it.
_CONNECTED: ContextVar[Callable[[], None]] = ContextVar("connected")


class _Connector(aiohttp.TCPConnector):
    """Says when a connection is there. A session takes no per-request hook, but connects in the request's own task."""

    async def connect(self, *request: Any, **options: Any) -> Any:
        connection = await super().connect(*request, **options)
        _CONNECTED.get()()
        return connection


class Client:
    """One event loop's connections to providers."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=_Connector(
                limit=0, keepalive_timeout=KEEPALIVE_S, ssl=ssl_context(), ttl_dns_cache=60, enable_cleanup_closed=True
            ),
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent",),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.UPSTREAM_CONNECT_TIMEOUT_S),
            max_line_size=16_384,
            max_field_size=16_384,
        )

    async def send(self, upstream: Upstream, on_connected: Callable[[], None]) -> Answer:
        """Send, and wait for status and headers. Raises NeverSent, UpstreamFailed, UpstreamTimeout.

        `on_connected` is called before the first byte goes out.
        """
        _CONNECTED.set(on_connected)
        try:
            response = await self._session.post(
                _url(upstream.url),
                headers={"accept-encoding": "identity", "accept": "*/*", **upstream.headers},
                data=upstream.body,
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NeverSent("The provider cannot be reached.") from error
        except TimeoutError as error:
            raise UpstreamTimeout("The provider did not answer in time.") from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise UpstreamFailed("The provider closed the connection.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamFailed("The provider's answer could not be read.") from error
        answer = Answer(response.status, response.headers, response)
        if response.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
            await answer.close()
            raise UpstreamInvalid("The provider compressed its answer, which was not asked for.")
        return answer

    async def aclose(self) -> None:
        await self._session.close()


@lru_cache(maxsize=1024)
def _url(url: str) -> URL:
    """Parsed once per address, and taken as it is written."""
    return URL(url, encoded=True)


_ssl_context: ssl.SSLContext | None = None


def ssl_context() -> ssl.SSLContext:
    """Made once: loading the certificates takes 20 ms."""
    global _ssl_context  # noqa: PLW0603 - made at first use, once
    if _ssl_context is None:
        _ssl_context = httpx.create_ssl_context(trust_env=False)
    return _ssl_context


@contextmanager
def sync_client() -> Iterator[httpx.Client]:
    """For probes and key validation, in threads and jobs: no redirects, no proxies from the environment."""
    with httpx.Client(
        verify=ssl_context(),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(10.0, connect=settings.UPSTREAM_CONNECT_TIMEOUT_S),
        headers={"Accept-Encoding": "identity"},
    ) as client:
        yield client


def capped(response: httpx.Response, most: int, *, within_s: float) -> bytes | None:
    """The body as it was sent; None if it is larger than `most` bytes or takes longer. Raises NetworkError."""
    until = time.monotonic() + within_s
    body = bytearray()
    for part in response.iter_raw():
        body += part
        if len(body) > most or time.monotonic() > until:
            return None
    return bytes(body)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A webhook's URL, taken apart: the host as DNS and certificates spell it, and the port."""

    url: httpx.URL
    host: str
    port: int


def endpoint(url: str) -> Endpoint:
    """Raises ValueError if it is none."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError("not a URL") from error
    return Endpoint(parsed, parsed.raw_host.decode("ascii"), parsed.port or (80 if parsed.scheme == "http" else 443))


async def post(to: Endpoint, *, address: str, headers: Mapping[str, str], body: bytes) -> int:
    """The status that an endpoint answers with. Raises NetworkError. Its body is not read.

    Connects to `address`, which DNS is not asked for again, in the name of the endpoint's host: `Host`, SNI and the
    certificate are the host's.
    """
    async with httpx.AsyncClient(
        verify=ssl_context(),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(10.0, connect=settings.UPSTREAM_CONNECT_TIMEOUT_S),
    ) as client:
        named = {"accept-encoding": "identity", **headers, "host": to.url.netloc.decode("ascii")}
        there = to.url.copy_with(host=address)
        extensions = {"sni_hostname": to.host}
        async with client.stream("POST", there, headers=named, content=body, extensions=extensions) as response:
            return response.status_code
