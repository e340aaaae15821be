"""`/api/v1/llm/chat/completions` and `/routing/explain`: the data path's journey and plan, in DRF."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.db import DatabaseError
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import URLPattern, path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from llm.engine import completion, explain, metrics
from llm.engine.callers import route_caller
from llm.types import ChatRequest
from llm.wire import chat
from llm.wire.answer import headers_of
from llm.wire.request import Incoming, require_json
from tenants import auth, keys
from tenants.api.audited import caller_of
from tenants.errors import InvalidValue, TollgateError


class CompletionViewSet(ViewSet):
    """Chat completions for clients of the management API, streamed and not. Same bill, same errors as `/v1`."""

    scope = "completions"
    accepted = False  # the journey has begun: it counts itself

    @extend_schema(
        operation_id="chat_completion", request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT, tags=["completions"]
    )
    async def create(self, request: Request) -> HttpResponseBase:
        """A completion, OpenAI-shaped. Streams server-sent events where `stream` is true."""
        caller = caller_of(request)
        incoming = _incoming(request)
        require_json(incoming.headers)
        parsed = chat.parse(_raw(request).body, incoming)
        self.accepted = True
        reply = await completion.open(caller, parsed)
        headers = {name.decode(): value.decode() for name, value in headers_of(reply)}
        if reply.channel is None:
            return HttpResponse(chat.body_of(parsed, reply), headers=headers)
        response = StreamingHttpResponse(_stream(parsed, reply), headers=headers)
        # A generator that never starts skips its `finally`; closing the response does not.
        # Django closes it in another thread.
        loop = asyncio.get_running_loop()
        leave = partial(loop.call_soon_threadsafe, reply.abandon)
        response._resource_closers.append(leave)  # type: ignore[attr-defined]  # noqa: SLF001 - Django's own hook
        return response

    async def dispatch(  # type: ignore[override]  # that it is a coroutine is the point
        self, request: Any, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        """DRF's dispatch on the event loop: the same steps, the caller read from the cache that was warmed first."""
        self.args, self.kwargs = args, kwargs
        wrapped = self.initialize_request(request, *args, **kwargs)
        self.request, self.headers = wrapped, self.default_response_headers
        response: Any
        try:
            await _warm(request)
            self.initial(wrapped, *args, **kwargs)
            method = (request.method or "").lower()
            handler = getattr(self, method, None) if method in self.http_method_names else None
            if handler is None:
                self.http_method_not_allowed(wrapped)
            assert handler is not None
            response = await handler(wrapped, *args, **kwargs)
        except (TollgateError, APIException, DatabaseError) as error:  # what DRF's handler renders; a bug goes on up
            response = self.handle_exception(error)
            if not self.accepted:
                metrics.refused(response.data["error"]["code"], response.status_code)
        self.response = self.finalize_response(wrapped, response, *args, **kwargs)
        answered: HttpResponseBase = self.response
        return answered


async def _warm(request: Any) -> None:
    """Load the caller off the loop and hand it to DRF's synchronous authentication, which must not ask the database."""
    pairs = [(name, request.headers.get(name.decode(), "").encode("latin-1", "replace")) for name in _KEY_HEADERS]
    secret = auth.secret_of([pair for pair in pairs if pair[1]])
    if secret is not None and keys.well_formed(secret):
        request.tollgate_caller = await auth.known(secret)


_KEY_HEADERS = (b"authorization", b"x-api-key")


def _raw(request: Request) -> Any:
    """Django's request inside DRF's: its body as it came."""
    return request._request  # noqa: SLF001 - DRF has no other name for it


def _incoming(request: Request) -> Incoming:
    return Incoming(
        id=uuid.UUID(_raw(request).request_id),
        headers={name.lower().encode(): value.encode("latin-1", "replace") for name, value in request.headers.items()},
        ip=request.META.get("REMOTE_ADDR") or None,
        received=time.perf_counter(),
    )


async def _stream(request: ChatRequest, reply: completion.Reply) -> AsyncIterator[bytes]:
    channel = reply.channel
    assert channel is not None
    stream = chat.stream(request, reply)
    try:
        async for events in channel.batches():
            data = stream.render(events)
            if data:
                yield data
        assert channel.ending is not None
        yield stream.finish(channel.ending)
    finally:
        reply.abandon()


class ExplainView(APIView):
    """Which model would answer, and why; nothing is sent and nothing is held."""

    scope = "completions"

    @extend_schema(
        operation_id="routing_explain", request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT, tags=["routing"]
    )
    def post(self, request: Request) -> Response:
        """`{model, power_level, task_type, priority, config, estimated_input_tokens, max_tokens, needs,
        service_tier}`."""
        caller = caller_of(request)
        if not isinstance(request.data, dict):
            raise InvalidValue("The body must be a JSON object.")
        assert caller.tenant_id is not None
        found = explain.explain(tenant_id=caller.tenant_id, body=request.data, caller=route_caller(caller))
        return Response(found)


def completion_routes() -> list[URLPattern]:
    """The completion view at both spellings, marked as a coroutine: DRF's own wrapper hides that it is one."""
    routes = []
    for pattern, documented in (("llm/chat/completions", True), ("llm/chat/completions/", False)):
        extra = {} if documented else {"schema": None}
        view: Any = CompletionViewSet.as_view({"post": "create"}, **extra)
        routes.append(path(pattern, markcoroutinefunction(view)))
    return routes
