"""What all of `/api/v1/` shares: the error envelope, pages of lists."""

import json
import math
from typing import Any

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import ValidationError as ModelValidationError
from django.db import DatabaseError, IntegrityError, OperationalError
from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import PageNumberPagination
from rest_framework.response import Response

from tenants.errors import TollgateError

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}


_LONGEST_MESSAGE = 600
_LONGEST_PARAM = 100


class AnyAccept(DefaultContentNegotiation):
    """The answer is what the view answers, whatever `Accept` says: clients of streams send `text/event-stream`."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        """The renderer asked for where there is a choice (the schema), else the first."""
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except exceptions.NotAcceptable:
            return renderers[0], renderers[0].media_type


class Page(PageNumberPagination):
    """`count, next, previous, results`; `page_size` up to 1,000."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 1000


def envelope(
    *,
    status_code: int,
    message: str,
    code: str,
    param: str | None = None,
    type_: str | None = None,
    retry: bool = False,
) -> Response:
    """The error body that all of Tollgate answers with. What it quotes of the request is cut short."""
    kind = type_ or _TYPES.get(status_code, "api_error")
    message = shortened(message, _LONGEST_MESSAGE)
    param = None if param is None else shortened(param, _LONGEST_PARAM)
    response = Response({"error": {"message": message, "type": kind, "param": param, "code": code}}, status=status_code)
    response["x-should-retry"] = "true" if retry else "false"
    return response


def shortened(text: str, most: int) -> str:
    """At most so many characters: an error must not send a long value back whole."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def first_problem(detail: Any, path: str = "") -> tuple[str | None, str]:
    """(field, message) of the first problem in a DRF error detail, however deeply it is nested."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            nested = path if key == "non_field_errors" else f"{path}.{key}" if path else str(key)
            return first_problem(value, nested)
    if isinstance(detail, list):
        for value in detail:
            if value:
                return first_problem(value, path)
    return path or None, str(detail)


def _invalid(detail: Any) -> Response:
    param, message = first_problem(detail)
    text = f"{param}: {message}" if param else message
    return envelope(status_code=400, message=text, code="invalid_value", param=param)


def _of_drf(error: exceptions.APIException) -> Response:
    if isinstance(error, exceptions.ParseError):
        return envelope(status_code=400, message=f"The body is not valid JSON: {error.detail}", code="invalid_json")
    if isinstance(error, exceptions.ValidationError):
        return _invalid(error.detail)
    code = error.get_codes()
    codes = {404: "not_found", 405: "method_not_allowed", 415: "unsupported_media_type", 401: "invalid_api_key"}
    response = envelope(
        status_code=error.status_code,
        message=str(error.detail),
        code=codes.get(error.status_code, code if isinstance(code, str) else "error"),
    )
    wait = getattr(error, "wait", None)
    if wait:
        response["Retry-After"] = str(int(wait))
    return response


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Every error as JSON of one shape. None: a bug, which Django logs and answers as a JSON 500."""
    if isinstance(error, TollgateError):
        response = envelope(
            status_code=error.status,
            message=error.message,
            code=error.code,
            param=error.param,
            type_=error.type,
            retry=error.retryable,
        )
        if error.retry_after is not None:
            response["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
        if error.status == status.HTTP_401_UNAUTHORIZED:
            response["WWW-Authenticate"] = "Bearer"
        return response
    if isinstance(error, ModelValidationError):
        return _invalid(error.message_dict if hasattr(error, "error_dict") else error.messages)
    if isinstance(error, Http404):
        return envelope(status_code=404, message="There is no such object.", code="not_found")
    if isinstance(error, DjangoPermissionDenied):
        return envelope(status_code=403, message="This is not allowed.", code="permission_denied")
    if isinstance(error, exceptions.APIException):
        return _of_drf(error)
    if isinstance(error, IntegrityError):
        return envelope(
            status_code=status.HTTP_409_CONFLICT, message="It exists already, or is still in use.", code="conflict"
        )
    if isinstance(error, OperationalError):
        response = envelope(
            status_code=503,
            message="The gateway's database is out of reach. Try again shortly.",
            code="overloaded",
            type_="overloaded_error",
            retry=True,
        )
        response["Retry-After"] = "1"
        return response
    if isinstance(error, (DatabaseError, json.JSONDecodeError, UnicodeError)):
        return envelope(status_code=400, message="A value cannot be stored as given.", code="invalid_value")
    return None
