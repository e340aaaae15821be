"""What Prometheus is told about requests, and the two moments that tell it: `settled` and `refused`.

With several web processes the figures live in files that `/metrics` adds up, whichever process answers it (see
platform/tollgate/metrics.py). An increment there takes 0.7 us and looking up a child by its labels 2 us, so each child
is looked up once. Labels are names of the catalog and codes of our own, never what a client typed: nothing secret, and
no more series than models in use.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

# Twice as many series, and not to be had from several processes.
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()

_MODEL = ("provider", "model")
_LLM_SECONDS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 4, 6, 10, 15, 25, 40, 60, 90, 120)
_OVERHEAD_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

REQUESTS = Counter(
    "tollgate_requests",
    "Completion requests that have ended, by the status told to the client (499: it left; a stream that broke is 200 "
    "and an error). Provider, model and key_source are those that answered last, empty for refused requests; stream is "
    "empty where the body was not understood.",
    (*_MODEL, "status", "stream", "key_source"),
    registry=REGISTRY,
)
ERRORS = Counter(
    "tollgate_errors",
    "Requests that did not end well, by error code as clients see it (client_gone: they left). Includes refusals.",
    ("code",),
    registry=REGISTRY,
)
REFUSALS = Counter(
    "tollgate_refusals",
    "Requests turned away before any provider was called, so free of charge: insufficient_quota (a budget), "
    "rate_limit_exceeded, no route, a bad key, a bad body, overloaded.",
    ("code",),
    registry=REGISTRY,
)
DURATION = Histogram(
    "tollgate_request_duration_seconds",
    "From the first byte of an accepted request to its settlement, fallbacks included; for streams their whole length.",
    _MODEL,
    buckets=_LLM_SECONDS,
    registry=REGISTRY,
)
FIRST_TOKEN = Histogram(
    "tollgate_time_to_first_token_seconds",
    "From the first byte of a streamed request to the provider's first content.",
    _MODEL,
    buckets=_LLM_SECONDS,
    registry=REGISTRY,
)
OVERHEAD = Histogram(
    "tollgate_overhead_seconds",
    "What the gateway itself adds to an answered request: all time until the answer is promised but the wait for "
    "providers. The same figure as the header x-overhead-ms.",
    buckets=_OVERHEAD_SECONDS,
    registry=REGISTRY,
)
TOKENS = Counter(
    "tollgate_tokens",
    "Tokens of accepted requests by kind. Cached are part of prompt and reasoning of completion: do not add those up.",
    (*_MODEL, "kind"),
    registry=REGISTRY,
)
COST = Counter(
    "tollgate_cost_usd",
    "List price of accepted requests in USD. A float, for trends: money is exact in the ledger only.",
    _MODEL,
    registry=REGISTRY,
)
FALLBACKS = Counter(
    "tollgate_fallbacks",
    "Requests not served by their first choice, by what was wrong with it: a provider's error code, or budget.",
    ("reason",),
    registry=REGISTRY,
)
ATTEMPTS = Counter(
    "tollgate_upstream_attempts",
    "Calls of providers, by how they ended: ok, an error code, or cancelled (the client left, or the server stopped).",
    ("provider", "code"),
    registry=REGISTRY,
)

_STREAM = {True: "true", False: "false", None: ""}


class _Served:
    """The children of one model, ready to be called."""

    __slots__ = ("cached", "completion", "cost", "duration", "first_token", "prompt", "reasoning")

    def __init__(self, *model: str) -> None:
        self.duration = DURATION.labels(*model).observe
        self.first_token = FIRST_TOKEN.labels(*model).observe
        self.prompt = TOKENS.labels(*model, "prompt").inc
        self.completion = TOKENS.labels(*model, "completion").inc
        self.cached = TOKENS.labels(*model, "cached").inc
        self.reasoning = TOKENS.labels(*model, "reasoning").inc
        self.cost = COST.labels(*model).inc


# As many are kept as there are models in use, and series.
_served = cache(_Served)


@cache
def _child(metric: Counter, *labels: Any) -> Counter:
    return metric.labels(*labels)


def settled(row: Mapping[str, Any]) -> None:
    """An accepted request has ended; `row` is its usage row. Takes 7 to 8 us with files, 4 without."""
    provider, model = row["provider_slug"], row["model_name"]
    streamed = row["streamed"]
    served = _served(provider, model)
    _child(REQUESTS, provider, model, row["status_code"], _STREAM[streamed], row["key_source"]).inc()
    served.duration(row["latency_ms"] / 1000)
    if streamed and row["ttft_ms"] is not None:
        served.first_token(row["ttft_ms"] / 1000)
    if row["total_tokens"]:
        served.prompt(row["prompt_tokens"])
        served.completion(row["completion_tokens"])
    if row["cached_tokens"]:
        served.cached(row["cached_tokens"])
    if row["reasoning_tokens"]:
        served.reasoning(row["reasoning_tokens"])
    if row["cost_total_usd"]:
        served.cost(float(row["cost_total_usd"]))
    for attempt in row["attempts"]:
        ended = attempt["code"] or ("ok" if attempt["status"] == 200 else "cancelled")
        _child(ATTEMPTS, attempt["provider"], ended).inc()
    if row["was_fallback"]:
        _child(FALLBACKS, row["fallback_reason"]).inc()
    if row["error_code"]:
        failed(row["error_code"])


def refused(code: str, status: int, *, stream: bool | None = None) -> None:
    """A request was turned away: nothing is held, nothing was sent. `stream` None: its body was not understood."""
    _child(REQUESTS, "", "", status, _STREAM[stream], "").inc()
    _child(REFUSALS, code).inc()
    failed(code)


def failed(code: str) -> None:
    """An error of this code, of a request that is counted elsewhere."""
    _child(ERRORS, code).inc()
