"""What can go wrong between a request and its answer.

TollgateError (tenants.errors)
├── InvalidRequest             400  the client's body; `param` names the field
├── ModelNotFound              404  unknown, disabled, or another tenant's
├── NoRoute                         nothing is left to send it to; carries the Decision with all rejections
├── RateLimited                429  the key's requests or tokens per minute, or too many at once
├── IdempotencyConflict        409  a request with this Idempotency-Key is still under way
├── IdempotencyMismatch        422  this Idempotency-Key was used for another body
├── GatewayFailed              500  a bug of ours: the request id finds it in the log
└── ProviderError                   what a provider did; `fallback` says whether another target may be tried
    ├── UpstreamRejected       400  it says the request is wrong (400, 422)
    ├── UpstreamAuthFailed     502  it refused the platform's key
    ├── ByokRejected           400  it refused the tenant's own key: never the platform's instead
    ├── UpstreamRateLimited    429
    ├── UpstreamFailed         502  5xx, a reset, a stream that broke
    ├── UpstreamInvalid        502  an answer that is none
    ├── UpstreamTimeout        504
    ├── ProviderBusy           503  this process has as many requests there as it may: nothing was sent
    └── ProviderDown           503  not even asked: a breaker has opened since the plan
"""

from typing import Any, ClassVar

from tenants.errors import TollgateError


class InvalidRequest(TollgateError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class ModelNotFound(TollgateError):
    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class NoRoute(TollgateError):
    """Status, type and code follow the candidate that passed most filters; see routing.filters."""

    def __init__(self, message: str, *, status: int, code: str, type_: str, decision: Any) -> None:
        super().__init__(message, code=code, param="model" if status in (400, 403, 404) else None)
        self.status = status
        self.type = type_
        self.retryable = code in ("no_provider_available", "upstream_rate_limited")
        self.decision = decision
        if self.retryable:
            self.retry_after = 5.0


class RateLimited(TollgateError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retryable = True


class IdempotencyConflict(TollgateError):
    status = 409
    type = "invalid_request_error"
    code = "idempotency_in_flight"
    retryable = True

    def __init__(self) -> None:
        super().__init__("A request with this Idempotency-Key is still under way. Wait for it, or use another key.")


class IdempotencyMismatch(TollgateError):
    status = 422
    type = "invalid_request_error"
    code = "idempotency_mismatch"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for another body. Use a new key for a new request.")


class GatewayFailed(TollgateError):
    retryable = True

    def __init__(self) -> None:
        super().__init__("The gateway failed. The request id tells its operators where.")


class ProviderError(TollgateError):
    """`fallback`: another target may be tried. `counts`: it speaks against the provider's health."""

    status = 502
    type = "api_error"
    fallback: ClassVar[bool] = True
    counts: ClassVar[bool] = True


class UpstreamRejected(ProviderError):
    status = 400
    type = "invalid_request_error"
    code = "upstream_rejected"
    fallback = False
    counts = False


class UpstreamAuthFailed(ProviderError):
    code = "upstream_auth_failed"


class ByokRejected(ProviderError):
    status = 400
    type = "invalid_request_error"
    code = "byok_rejected"
    fallback = False
    counts = False

    def __init__(self, message: str, *, invalid: bool = True) -> None:
        super().__init__(message)
        self.invalid = invalid  # False: the key is good, its account has no credit (402)


class UpstreamRateLimited(ProviderError):
    status = 429
    type = "rate_limit_error"
    code = "upstream_rate_limited"
    retryable = True


class UpstreamFailed(ProviderError):
    code = "upstream_error"
    retryable = True


class UpstreamInvalid(ProviderError):
    code = "upstream_invalid_response"
    retryable = True


class UpstreamTimeout(ProviderError):
    status = 504
    code = "upstream_timeout"


class ProviderBusy(ProviderError):
    status = 503
    type = "overloaded_error"
    code = "overloaded"
    counts = False
    retryable = True

    def __init__(self) -> None:
        super().__init__("Too many requests are at this provider already. Send the request again.", retry_after=1.0)


class ProviderDown(ProviderError):
    """429 where the provider itself asked to wait. Says nothing new of the provider's health."""

    status = 503
    code = "no_provider_available"
    retryable = True
    counts = False

    def __init__(self, detail: str, *, limited: bool, retry_after: float) -> None:
        super().__init__(f"No provider can answer now: {detail}. Try again then.", retry_after=retry_after)
        if limited:
            self.status, self.type, self.code = 429, "rate_limit_error", "upstream_rate_limited"
