"""What Django answers when a URL is unknown or a view breaks: WIRE.md's envelope for `/api`, a plain page elsewhere."""

import sys

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

_JSON_PATHS = ("/api/", "/v1/")


def envelope(status: int, *, kind: str, code: str, message: str) -> JsonResponse:
    """An error as WIRE.md section 2 shapes it. `x-should-retry` says what a client may do about it."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    response = JsonResponse({"error": error}, status=status)
    response["x-should-retry"] = "true" if status in {429, 500, 503} else "false"
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400: a Host header that is not allowed, a malformed upload, too many fields."""
    if request.path.startswith(_JSON_PATHS):
        return envelope(
            400, kind="invalid_request_error", code="bad_request", message="The request cannot be understood."
        )
    return defaults.bad_request(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404. Says nothing about what the path might have named."""
    if request.path.startswith(_JSON_PATHS):
        message = "There is nothing at this URL. See /api/docs/ for what there is."
        return envelope(404, kind="invalid_request_error", code="not_found", message=message)
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """500. The request id is in the `x-request-id` header and in the log line; nothing else is told.

    503 where the database is out of reach, which is nobody's bug. (Views of the API have answered that themselves.)
    """
    if isinstance(sys.exc_info()[1], OperationalError):
        said = "The gateway's database is out of reach. Try again shortly."
        return HttpResponse(said, status=503, content_type="text/plain", headers={"Retry-After": "1"})
    if request.path.startswith(_JSON_PATHS):
        message = "Something broke on our side. Quote the x-request-id header when you report it."
        return envelope(500, kind="api_error", code="internal_error", message=message)
    return defaults.server_error(request)
