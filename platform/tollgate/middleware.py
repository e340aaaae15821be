"""What wraps every Django request. The data path at `/v1` has none of this.

The first two work in both of Django's modes, so that a completion sent through `/api/v1/` is not moved between threads
for them.
"""

import re
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponseBase
from django.middleware.common import CommonMiddleware
from django.utils.decorators import sync_and_async_middleware

from tenants.ids import uuid7
from tollgate import health

Handler = Callable[[HttpRequest], Any]

_NO_REDIRECT = re.compile(r"^/(?:api|v1|health)(?:/|$)")


@sync_and_async_middleware
def request_ids(get_response: Handler) -> Handler:
    """Give each request an id: on `request.request_id`, in every log line, and as the `x-request-id` response header.

    A view that has an id of its own (a completion's usage row) sets the header itself and keeps it.
    """

    def begin(request: HttpRequest) -> str:
        request_id = str(uuid7())
        request.request_id = request_id  # type: ignore[attr-defined]  # Django's requests carry such extras
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        return request_id

    def end(response: HttpResponseBase, request_id: str) -> HttpResponseBase:
        response.headers.setdefault("x-request-id", request_id)
        return response

    if iscoroutinefunction(get_response):

        async def in_the_loop(request: HttpRequest) -> HttpResponseBase:
            request_id = begin(request)
            return end(await get_response(request), request_id)

        return in_the_loop

    def in_a_thread(request: HttpRequest) -> HttpResponseBase:
        request_id = begin(request)
        return end(get_response(request), request_id)

    return in_a_thread


@sync_and_async_middleware
def probes(get_response: Handler) -> Handler:
    """Answer `/health/*` before anything judges the Host header or redirects to TLS: load balancers probe by address."""
    live_or_ready: dict[str, Callable[[HttpRequest], Any]] = {
        "/health/live": health.live,
        "/health/ready": health.ready,
    }
    if iscoroutinefunction(get_response):

        async def in_the_loop(request: HttpRequest) -> HttpResponseBase:
            probe = live_or_ready.get(request.path)
            answer: Awaitable[HttpResponseBase] = get_response(request) if probe is None else probe(request)
            return await answer

        return in_the_loop

    return get_response  # without a loop (the test client) the same views are reached through urls.py


class SlashMiddleware(CommonMiddleware):
    """Django's redirect to the path with a slash, but not for APIs: a redirected POST loses its body."""

    def should_redirect_with_slash(self, request: HttpRequest) -> bool:
        """Whether to append a slash; never for API paths, which answer with and without one."""
        return not _NO_REDIRECT.match(request.path) and bool(super().should_redirect_with_slash(request))
