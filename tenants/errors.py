"""What can go wrong for a caller, as exceptions.

TollgateError
├── AuthenticationFailed      401  no key, or one that is not good (the reason is never said)
├── PermissionDenied          403  the key is good but may not do this
│   ├── TenantSuspended
│   └── InsufficientScope
├── NotFound                  404  missing, or another tenant's: they read alike
├── InvalidValue              400  a field of the request, named by `param`
├── Conflict                  409  a duplicate, or a state that forbids it
└── Unavailable               503  overloaded, draining, or the database is out of reach: try again

`billing.errors` and `llm.errors` add to it. A renderer at the edge turns each into its wire's JSON.
"""


class TollgateError(Exception):
    """Base of all errors a caller sees. The message says the cause and the next step; it holds no secret."""

    status: int = 500
    type: str = "api_error"
    code: str = "internal_error"
    retryable: bool = False

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        if code is not None:
            self.code = code


class AuthenticationFailed(TollgateError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__(
            "The API key is missing or not valid. Send a key as `Authorization: Bearer KEY` or `x-api-key: KEY`."
        )


class PermissionDenied(TollgateError):
    status = 403
    type = "permission_error"
    code = "permission_denied"


class TenantSuspended(PermissionDenied):
    code = "tenant_suspended"

    def __init__(self) -> None:
        super().__init__("This tenant is suspended. Ask the operator of this gateway to resume it.")


class InsufficientScope(PermissionDenied):
    code = "insufficient_scope"

    def __init__(self, scope: str) -> None:
        super().__init__(f"This API key lacks the scope `{scope}`. Use a key that has it, or ask for one.")


class NotFound(TollgateError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class InvalidValue(TollgateError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class Conflict(TollgateError):
    status = 409
    type = "invalid_request_error"
    code = "conflict"


class Unavailable(TollgateError):
    status = 503
    type = "overloaded_error"
    code = "overloaded"
    retryable = True

    def __init__(self, message: str, *, code: str | None = None, retry_after: float = 1.0) -> None:
        super().__init__(message, code=code, retry_after=retry_after)
