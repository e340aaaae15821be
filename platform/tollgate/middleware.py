"""What wraps every Django request. The data path at `/v1` and the probes at `/health` have none of this (`asgi.py`)."""

import re
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.common import CommonMiddleware
from django.utils.decorators import sync_and_async_middleware
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

from tenants.ids import uuid7

Handler = Callable[[HttpRequest], Any]

_APIS = re.compile(r"^/(?:api|v1|health)(?:/|$)")


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


class StaticMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]  # whitenoise has no types
    """WhiteNoise, answering with the whole file: under ASGI Django warns about its synchronous streams and buffers them
    anyway. Our files are small.
    """

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponse:
        """The file, or 304, or a range of it."""
        found = static_file.get_response(request.method, request.META)
        content = b""
        if found.file is not None:
            with found.file:
                content = found.file.read()
        response = HttpResponse(content, status=int(found.status))
        del response["content-type"]  # WhiteNoise has the right one
        for name, value in found.headers:
            response[name] = value
        return response


class SlashMiddleware(CommonMiddleware):
    """Django's redirect to the path with a slash, but not for APIs: a redirected POST loses its body."""

    def should_redirect_with_slash(self, request: HttpRequest) -> bool:
        """Whether to append a slash; never for API paths, which answer with and without one."""
        return not _APIS.match(request.path) and bool(super().should_redirect_with_slash(request))
