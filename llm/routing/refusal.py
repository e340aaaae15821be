"""Nothing left: the candidate that passed most filters decides the status; the message lists the rejections. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from llm.errors import NoRoute
from llm.types import Decision, Rejection

LISTED = 8


class Answer(NamedTuple):
    """What a client is told when this code decides (WIRE.md section 2), and what it can do about it; `{model}` there is
    the candidate that decided.
    """

    status: int
    type: str
    code: str
    next_step: str


_NO_KEY = "Choose a model of another provider, add your own key for this one, or ask the operator to add one."
_FORBIDDEN = "Choose a model that GET /v1/models lists for this key, or ask for access."
_GONE = "Choose a model that GET /v1/models lists."
ANSWERS: dict[str, Answer] = {
    "allow_list": Answer(403, "permission_error", "model_not_allowed", _FORBIDDEN),
    "tier": Answer(403, "permission_error", "model_not_allowed", "Choose another model, or ask for a higher tier."),
    "inactive": Answer(404, "invalid_request_error", "model_not_found", _GONE),
    "deprecated": Answer(404, "invalid_request_error", "model_not_found", _GONE),
    "provider_down": Answer(
        503, "api_error", "no_provider_available", "Try again in a few seconds, or choose a model of another provider."
    ),
    "no_credential": Answer(503, "api_error", "no_credential", _NO_KEY),
    "byok_required": Answer(
        503, "api_error", "no_credential", "Add your own key for the provider, or choose a model that needs none."
    ),
    "byok_not_validated": Answer(
        503, "api_error", "no_credential", "Validate your own key for the provider again, replace it, or switch it off."
    ),
    "dialect_unsupported": Answer(503, "api_error", "no_credential", "Choose a model of another provider."),
    "capability": Answer(
        400, "invalid_request_error", "unsupported_parameter", "Choose a model that can, or leave that out."
    ),
    "context_window": Answer(
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "Shorten the input, lower max_tokens, or choose a model with a larger context window.",
    ),
    "rule_tokens": Answer(
        400,
        "invalid_request_error",
        "invalid_value",
        "Name a model, choose another power level, or send another length.",
    ),
    "service_tier": Answer(
        400,
        "invalid_request_error",
        "unsupported_parameter",
        "Leave `service_tier` out, ask for one of those, or choose another model.",
    ),
    "price_cap": Answer(400, "invalid_request_error", "invalid_value", "Choose a higher power level, or name a model."),
    "unpriced": Answer(
        503,
        "api_error",
        "model_unpriced",
        "Choose another model, or have the operator add a price: in the admin under Models, “Change price”, or by "
        "POST /api/v1/admin/llm/models/{model}/prices.",
    ),
}
_LIMITED = Answer(
    429, "rate_limit_error", "upstream_rate_limited", "Wait as long as Retry-After says, or choose another model."
)
_NOTHING = Answer(
    503, "api_error", "no_provider_available", "Name a model, or ask the operator to add a routing rule for your tier."
)


def answer_for(rejections: Sequence[Rejection], deciding: Rejection | None) -> Answer:
    """What `deciding` means for the client: 429 where nothing but rate limits stands in the way."""
    if deciding is None:
        return _NOTHING
    if deciding.code == "provider_down":
        down = [one.block for one in rejections if one.code == "provider_down"]
        if all(block is not None and block.limited for block in down):
            return _LIMITED
    return ANSWERS[deciding.code]


def message(requested: str, level: str, rejections: list[Rejection], deciding: Rejection | None) -> str:
    """The cause, the rejections (at most LISTED, the deciding one first), and the next step."""
    answer = answer_for(rejections, deciding)
    asked = requested[:100]
    if deciding is None:
        return f"No routing rule of power level {level} gives your tier a model for `{asked}`. {answer.next_step}"
    others = [one for one in rejections if one is not deciding]
    listed = [deciding, *others][:LISTED]
    reasons = "; ".join(f"{one.model}: {one.detail} ({one.code})" for one in listed)
    left_out = len(others) + 1 - len(listed)
    more = f"; and {left_out} more" if left_out else ""
    next_step = answer.next_step.replace("{model}", deciding.model)
    return f"No model can serve `{asked}` now: {reasons}{more}. {next_step}"


def no_route(decision: Decision, deciding: Rejection | None, now: datetime, *, param: str | None = None) -> NoRoute:
    """The error for a decision without targets. `decision.reason` should be its message. Where breakers are in the way
    it says when the first of them lets a request try. `param`: the field that is in the way."""
    answer = answer_for(decision.rejections, deciding)
    error = NoRoute(decision.reason, status=answer.status, code=answer.code, type_=answer.type, decision=decision)
    if param is not None:
        error.param = param
    opens = [one.block.until for one in decision.rejections if one.block is not None]
    if error.retryable and opens:
        error.retry_after = max(0.0, min(opens) - now.timestamp())
    return error
