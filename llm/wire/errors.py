"""Errors as the wires say them: OpenAI's envelope everywhere, Anthropic's on its own paths."""

from typing import Any

import orjson

from tenants.errors import TollgateError

Headers = list[tuple[bytes, bytes]]

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}
# Every type that Anthropic's SDKs know. Source: ErrorObject of anthropic-sdk-python.
_ANTHROPIC_NAMES = frozenset({*_ANTHROPIC_TYPES.values(), "overloaded_error", "api_error"})


class NoSuchPathError(TollgateError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class MethodNotAllowedError(TollgateError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class TooLargeError(TollgateError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class TooSlowError(TollgateError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"
    retryable = True


class WrongContentTypeError(TollgateError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


def openai_body(error: TollgateError) -> dict[str, Any]:
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def anthropic_body(error: TollgateError, request_id: str) -> dict[str, Any]:
    kind = _ANTHROPIC_TYPES.get(error.status)
    if kind is None:  # of 503, some are overload and some are not; what else is the client's is its request
        kind = "invalid_request_error" if error.status < 500 else error.type
    if kind not in _ANTHROPIC_NAMES:
        kind = "api_error"
    said = error.message
    if error.param is not None and error.param not in said:  # the envelope has no place for it
        said = f"{error.param}: {said}"
    return {"type": "error", "error": {"type": kind, "message": said}, "request_id": request_id}


def speaks_anthropic(path: str) -> bool:
    return path.startswith("/v1/messages")


def rendered(
    error: TollgateError, *, request_id: str, path: str, anthropic: bool = False
) -> tuple[int, Headers, bytes]:
    """(status, headers, body) of an answer that says no. `anthropic`: the client says that it speaks that."""
    anthropic = anthropic or speaks_anthropic(path)
    body = anthropic_body(error, request_id) if anthropic else openai_body(error)
    headers = [
        (b"content-type", b"application/json"),
        (b"x-request-id", request_id.encode()),
        (b"x-should-retry", b"true" if error.retryable else b"false"),
    ]
    if anthropic:
        headers.append((b"request-id", request_id.encode()))
    if error.retry_after is not None:
        # Never shortened: a client that comes back early is refused again.
        headers.append((b"retry-after", str(max(1, -int(-error.retry_after // 1))).encode()))
    return error.status, headers, orjson.dumps(body)
