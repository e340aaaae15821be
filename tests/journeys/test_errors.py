"""WIRE section 2, row by row: status, type, code, param, whether to retry, when, and that nothing is charged.

Each is seen twice: raw, to the letter, and as the exception that openai-python makes of it.
"""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from llm.models import LLMProvider
from tests import cast
from tests.fakes import Behaviour
from tests.journeys.world import ASK, PLATFORM_KEY, Customer, Json, Vendor, World, eventually, usd

SDK = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    502: openai.InternalServerError,
    503: openai.InternalServerError,
    504: openai.InternalServerError,
}
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
UNKNOWN_KEY = "tg_live_" + "A" * 38


def error_of(answer: httpx.Response, *, status: int, type: str, code: str, retry: bool) -> Json:  # noqa: A002 - as on the wire
    """Check the envelope and the headers of a refusal; the error object for more."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-should-retry"] == ("true" if retry else "false")
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert list(body) == ["error"]
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == (type, code)
    assert len(error["message"]) > 20
    for secret in ("127.0.0.1", "Traceback", PLATFORM_KEY, "sk-"):
        assert secret not in error["message"]
    return error


def sdk_error(
    customer: Customer, model: str, status: int, *, stream: bool = False, **body: Any
) -> openai.APIStatusError:
    with pytest.raises(SDK[status]) as caught:
        customer.openai.chat.completions.create(model=model, messages=ASK, stream=stream, **body)
    assert caught.value.status_code == status
    return caught.value


# --- keys and permissions ---------------------------------------------------------------------------------------------


def bad_keys(customer: Customer) -> dict[str, dict[str, str]]:
    revoked, revoked_secret = cast.make_key(customer.tenant, "revoked")
    revoked.revoked_at = datetime.now(UTC)
    revoked.save()
    _, expired = cast.make_key(customer.tenant, "expired", expires_at=datetime.now(UTC) - timedelta(minutes=1))
    return {
        "missing": {},
        "empty": {"authorization": "Bearer"},
        "basic": {"authorization": "Basic abc"},
        "malformed": {"authorization": "Bearer sk-not-ours"},
        "checksum": {"authorization": f"Bearer {customer.secret[:-1]}{'a' if customer.secret[-1] != 'a' else 'b'}"},
        "unknown": {"x-api-key": UNKNOWN_KEY},
        "revoked": {"authorization": f"Bearer {revoked_secret}"},
        "expired": {"authorization": f"Bearer {expired}"},
        "not ASCII": {"authorization": b"Bearer \xff\xfe".decode("latin-1")},
    }


def test_every_bad_key_gets_one_and_the_same_401(customer: Customer) -> None:
    bodies = set()
    with httpx.Client(base_url=customer.url, verify=False, trust_env=False) as client:
        for name, headers in bad_keys(customer).items():
            encoded = {key: value.encode("latin-1") for key, value in headers.items()}
            for path in ("/v1/chat/completions", "/v1/models"):
                method = "POST" if path.endswith("completions") else "GET"
                answer = client.request(method, path, headers=encoded, json={"model": "fakeai/m", "messages": ASK})
                error_of(answer, status=401, type="authentication_error", code="invalid_api_key", retry=False)
                bodies.add(answer.content)
                assert name
    assert len(bodies) == 1
    customer.untouched()


def test_the_sdk_calls_a_bad_key_an_authentication_error(customer: Customer) -> None:
    stranger = Customer(customer.tenant, customer.key, UNKNOWN_KEY, customer.url)
    error = sdk_error(stranger, "fakeai/m", 401)
    assert (error.code, error.type, error.param) == ("invalid_api_key", "authentication_error", None)


def test_the_key_may_come_as_x_api_key(customer: Customer) -> None:
    with httpx.Client(base_url=customer.url, headers={"x-api-key": customer.secret}, verify=False) as client:
        assert client.get("/v1/models").status_code == 200


def test_a_suspended_tenant_is_told_so(world: World) -> None:
    gone = world.customer(is_active=False)
    error_of(gone.ask(), status=403, type="permission_error", code="tenant_suspended", retry=False)
    assert sdk_error(gone, "fakeai/m", 403).code == "tenant_suspended"
    gone.untouched()
    assert world.fake.bill() == []


def test_a_key_without_the_scope_is_told_which(world: World) -> None:
    reader = world.customer(key={"scopes": ["usage:read"]})
    error = error_of(reader.ask(), status=403, type="permission_error", code="insufficient_scope", retry=False)
    assert "`completions`" in error["message"]
    assert sdk_error(reader, "fakeai/m", 403).code == "insufficient_scope"
    reader.untouched()


def test_a_staff_key_is_not_a_tenants(world: World, customer: Customer) -> None:
    _, secret = cast.make_staff(f"staff-{customer.tenant.slug}")
    error_of(
        Customer(customer.tenant, customer.key, secret, customer.url).ask(),
        status=403, type="permission_error", code="permission_denied", retry=False,
    )  # fmt: skip
    assert world.fake.bill() == []


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(world: World) -> dict[str, str]:
    """Models that cannot be had, each for its own reason, by reason."""
    provider = world.vendors["openai"].provider
    if not LLMProvider.objects.filter(slug="keyless").exists():
        world.model(provider, "off", is_active=False)
        world.model(provider, "stopped", is_deprecated=True)
        world.model(provider, "dear", min_tier_required="enterprise")
        world.model(provider, "free-of-price", input=None)
        world.model(provider, "blind", supports_vision=False, supports_function_calling=False)
        world.model(provider, "small", context_window=1_000, max_output_tokens=500)
        world.model(cast.make_provider("keyless"), "m")
        world.model(world.provider("down", None, health_status="down"), "m")
        world.model(world.provider("foreign", None, "telegraph"), "m")
        world.refresh()
    return {}


@pytest.mark.parametrize(
    ("model", "status", "type_", "code"),
    [
        ("fakeai/nothing", 404, "invalid_request_error", "model_not_found"),
        ("nothing", 404, "invalid_request_error", "model_not_found"),
        ("config/another-tenants", 404, "invalid_request_error", "model_not_found"),
        ("fakeai/off", 404, "invalid_request_error", "model_not_found"),
        ("fakeai/stopped", 404, "invalid_request_error", "model_not_found"),
        ("fakeai/dear", 403, "permission_error", "model_not_allowed"),
        ("fakeai/free-of-price", 503, "api_error", "model_unpriced"),
        ("keyless/m", 503, "api_error", "no_credential"),
        ("foreign/m", 503, "api_error", "no_credential"),
    ],
)
@pytest.mark.usefixtures("shelf")
def test_a_model_that_cannot_be_had(
    world: World, customer: Customer, model: str, status: int, type_: str, code: str
) -> None:
    other = world.customer()
    cast.make_config(other.tenant, "another-tenants", primary_model=world.vendors["openai"].model)
    error = error_of(customer.ask(model), status=status, type=type_, code=code, retry=False)
    assert error["param"] == ("model" if status in (403, 404) else None)
    caught = sdk_error(customer, model, status, stream=True)
    assert (caught.code, caught.type) == (code, type_)
    customer.untouched()
    assert world.fake.bill() == []


def test_a_provider_that_is_down_is_a_503_that_may_be_retried(shelf: Json, world: World, customer: Customer) -> None:
    # One request in twenty goes through as a trickle, and then finds that nobody listens.
    for _ in range(20):
        answer = customer.ask("down/m")
        if answer.json()["error"]["code"] == "no_provider_available":
            break
    error_of(answer, status=503, type="api_error", code="no_provider_available", retry=True)
    assert int(answer.headers["retry-after"]) >= 1
    assert customer.spent() == 0


def test_the_keys_allow_list_forbids(world: World) -> None:
    narrow = world.customer(key={"allowed_models": ["fakethropic/*"]})
    answer = narrow.ask("fakeai/m")
    error = error_of(answer, status=403, type="permission_error", code="model_not_allowed", retry=False)
    assert error["param"] == "model"
    assert "allow_list" in error["message"]
    narrow.untouched()


@pytest.mark.parametrize(
    ("model", "body", "code"),
    [
        ("fakeai/blind", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "unsupported_parameter"),
        (
            "fakeai/blind",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y"}}]}]},
            "unsupported_parameter",
        ),
        ("fakeai/small", {"max_tokens": 501}, "context_length_exceeded"),
        ("fakeai/small", {"messages": [{"role": "user", "content": "word " * 2000}]}, "context_length_exceeded"),
    ],
)
def test_what_the_model_cannot_do_is_a_400(
    shelf: Json, world: World, customer: Customer, model: str, body: Json, code: str
) -> None:
    error_of(customer.ask(model, **body), status=400, type="invalid_request_error", code=code, retry=False)
    customer.untouched()
    assert world.fake.bill() == []


# --- input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"model": 5}, "model"),
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": True}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"tools": {}}, "tools"),
        ({"power_level": "turbo"}, "power_level"),
        ({"config": "missing"}, "config"),
    ],
)
def test_a_wrong_field_is_a_400_that_names_it(world: World, customer: Customer, body: Json, param: str) -> None:
    answer = customer.ask(**({"model": "fakeai/m"} | body))
    error = error_of(answer, status=400, type="invalid_request_error", code="invalid_value", retry=False)
    assert error["param"] == param
    customer.untouched()
    assert world.fake.bill() == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"model": NaN}',
        b"\xff\xfe",
        b'{"model":"fakeai/m","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"a":' + b"[" * 70 + b"]" * 70 + b"}",
        b"[" * 200_000,
    ],
    ids=["empty", "cut", "list", "text", "null", "nan", "bytes", "surrogate", "deep", "bottomless"],
)
def test_what_is_no_json_object_is_a_400(world: World, customer: Customer, raw: bytes) -> None:
    with customer.http as client:
        answer = client.post("/v1/chat/completions", content=raw, headers={"content-type": "application/json"})
    error = error_of(answer, status=400, type="invalid_request_error", code="invalid_json", retry=False)
    assert error["param"] is None
    customer.untouched()
    assert world.fake.bill() == []


def test_the_sdk_calls_bad_input_a_bad_request(customer: Customer) -> None:
    error = sdk_error(customer, "fakeai/m", 400, temperature=3)
    assert (error.code, error.param) == ("invalid_value", "temperature")


# --- paths, methods, bodies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/", "/v1/nothing", "/v1/chat", "/v1/audio/speech", "/v1/chat/completions/x"]
)
def test_what_is_not_there_is_a_json_404(customer: Customer, path: str) -> None:
    with customer.http as client:
        for answer in (client.get(path), client.post(path, json={})):
            error_of(answer, status=404, type="invalid_request_error", code="not_found", retry=False)


def test_the_sdk_calls_what_is_not_there_a_404(customer: Customer) -> None:
    with pytest.raises(openai.NotFoundError):
        customer.openai.images.generate(model="fakeai/m", prompt="x")
    with pytest.raises(openai.NotFoundError) as caught:
        customer.openai.models.retrieve("fakeai/nothing")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_anthropic_paths_answer_in_anthropics_shape(customer: Customer) -> None:
    import anthropic  # only this test speaks it

    with pytest.raises(anthropic.NotFoundError) as caught:
        customer.anthropic.messages.create(model="x", max_tokens=5, messages=ASK)
    body = caught.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "not_found_error")
    assert body["request_id"] == caught.value.response.headers["request-id"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/v1/models/fakeai/m", "GET"),
    ],
)
def test_a_wrong_method_is_a_405_that_names_the_right_one(
    customer: Customer, method: str, path: str, allow: str
) -> None:
    with customer.http as client:
        answer = client.request(method, path)
    error_of(answer, status=405, type="invalid_request_error", code="method_not_allowed", retry=False)
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    "headers", [{"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"},
                {"content-type": "application/json", "content-encoding": "gzip"}],
)  # fmt: skip
def test_what_is_not_plain_json_is_a_415(customer: Customer, headers: dict[str, str]) -> None:
    with customer.http as client:
        answer = client.post("/v1/chat/completions", content=b"{}", headers=headers)
    error_of(answer, status=415, type="invalid_request_error", code="unsupported_media_type", retry=False)
    customer.untouched()


@pytest.mark.parametrize("declared", [True, False])
def test_too_large_a_body_is_a_413_before_it_is_all_read(customer: Customer, settings: Any, declared: bool) -> None:
    settings.MAX_BODY_V1 = 2_000
    raw = json.dumps({"model": "fakeai/m", "messages": [{"role": "user", "content": "x" * 3_000}]}).encode()
    content = raw if declared else iter([raw[:1_500], raw[1_500:]])
    with customer.http as client:
        answer = client.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    error_of(answer, status=413, type="invalid_request_error", code="request_too_large", retry=False)
    customer.untouched()


# --- limits -----------------------------------------------------------------------------------------------------------


def test_requests_per_minute(world: World) -> None:
    limited = world.customer(key={"rate_limit_rpm": 2})
    first = limited.ask()
    assert (first.headers["x-ratelimit-limit-requests"], first.headers["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert limited.ask().headers["x-ratelimit-remaining-requests"] == "0"
    answer = limited.ask()
    error_of(answer, status=429, type="rate_limit_error", code="rate_limit_exceeded", retry=True)
    assert 1 <= int(answer.headers["retry-after"]) <= 90
    error = sdk_error(limited, "fakeai/m", 429)
    assert error.code == "rate_limit_exceeded"
    assert len(limited.rows()) == len(world.fake.bill()) == 2


def test_tokens_per_minute(world: World) -> None:
    limited = world.customer(key={"rate_limit_tpm": 1_000})
    assert limited.ask(max_tokens=500).headers["x-ratelimit-limit-tokens"] == "1000"
    answer = limited.ask(max_tokens=600)
    error_of(answer, status=429, type="rate_limit_error", code="rate_limit_exceeded", retry=True)
    assert limited.ask(max_tokens=400).status_code == 200
    assert len(limited.rows()) == 2


def test_requests_at_once(world: World) -> None:
    limited = world.customer(key={"max_concurrency": 1})
    world.fake.script("m", Behaviour(delay_between_s=30))
    with limited.stream() as answer:
        assert answer.status_code == 200
        refused = limited.ask()
        error_of(refused, status=429, type="rate_limit_error", code="rate_limit_exceeded", retry=True)
        assert refused.headers["retry-after"] == "1"
    eventually(lambda: not limited.holds(), what="the first request's end")
    world.fake.reset()
    assert limited.ask().status_code == 200
    assert [row.status for row in limited.rows()] == ["cancelled", "completed"]


@pytest.mark.parametrize("period", ["daily", "monthly"])
@pytest.mark.parametrize("scope", ["tenant", "key", "config"])
def test_a_budget_that_would_be_exceeded(world: World, scope: str, period: str) -> None:
    limit = {f"budget_limit_{period}": Decimal("0.005")}
    poor = world.customer(key=limit if scope == "key" else {}, **(limit if scope == "tenant" else {}))
    config = cast.make_config(poor.tenant, "shop", **(limit if scope == "config" else {}))
    answer = poor.ask(config=config.name, max_tokens=600)
    assert answer.status_code == 200
    refused = poor.ask(config=config.name, max_tokens=620)
    error = error_of(refused, status=429, type="insufficient_quota", code="insufficient_quota", retry=False)
    assert error["param"] == f"{scope}.{period.replace('daily', 'day').replace('monthly', 'month')}"
    for said in (f"{period} budget of this {scope}", "limit $0.005", "spent $0.000056", "held $0", "resets at 2"):
        assert said in error["message"], said
    assert sdk_error(poor, "fakeai/m", 429, max_tokens=620, extra_body={"config": "shop"}).type == "insufficient_quota"
    assert len(poor.rows()) == 1
    assert poor.spent() == usd(8, 5) == Decimal("0.000056")
    assert len(world.fake.bill()) == 1


def test_a_budget_of_nothing_allows_nothing(world: World) -> None:
    broke = world.customer(budget_limit_monthly=Decimal(0))
    error_of(broke.ask(), status=429, type="insufficient_quota", code="insufficient_quota", retry=False)
    broke.untouched()
    assert world.fake.bill() == []


# --- what providers do ------------------------------------------------------------------------------------------------

PROVIDER_SAYS = {
    "400": (Behaviour(status=400), 400, "invalid_request_error", "upstream_rejected", False),
    "422": (Behaviour(status=422), 400, "invalid_request_error", "upstream_rejected", False),
    "401": (Behaviour(expected_key="another"), 502, "api_error", "upstream_auth_failed", False),
    "403": (Behaviour(status=403), 502, "api_error", "upstream_auth_failed", False),
    "404": (Behaviour(status=404), 502, "api_error", "upstream_error", False),
    "429": (Behaviour(status=429, retry_after=7), 429, "rate_limit_error", "upstream_rate_limited", True),
    "500": (Behaviour(status=500), 502, "api_error", "upstream_error", True),
    "503": (Behaviour(status=503, error_body="<html>down</html>"), 502, "api_error", "upstream_error", True),
    "529": (Behaviour(status=529), 502, "api_error", "upstream_error", True),
    "302": (
        Behaviour(status=302, extra_headers={"location": "http://127.0.0.1:9/"}),
        502, "api_error", "upstream_invalid_response", True,
    ),
    "reset": (Behaviour(cut_after_bytes=0, cut_how="reset"), 502, "api_error", "upstream_error", True),
    "closed": (Behaviour(cut_after_bytes=60, cut_how="close"), 502, "api_error", "upstream_error", True),
    "bad json": (Behaviour(bad_json=True), 502, "api_error", "upstream_invalid_response", True),
    "gzip": (Behaviour(gzip=True), 502, "api_error", "upstream_invalid_response", True),
    "in band": (
        Behaviour(in_band_error={"type": "overloaded_error", "message": "secret"}),
        502, "api_error", "upstream_error", True,
    ),
    "in band 429": (
        Behaviour(in_band_error={"type": "rate_limit_error", "message": "secret"}),
        429, "rate_limit_error", "upstream_rate_limited", True,
    ),
}  # fmt: skip


@STREAMED
@pytest.mark.parametrize("case", PROVIDER_SAYS)
def test_a_failing_provider_is_a_true_status_and_costs_nothing(
    customer: Customer, vendor: Vendor, case: str, stream: bool
) -> None:
    behaviour, status, type_, code, retry = PROVIDER_SAYS[case]
    vendor.fake.script("m", behaviour)
    answer = customer.ask(vendor.reference, stream=stream)
    error = error_of(answer, status=status, type=type_, code=code, retry=retry)
    assert "secret" not in error["message"]
    assert answer.headers.get("retry-after") == ("7" if case == "429" else None)
    row = customer.row()
    assert (row.status, row.status_code, row.error_code) == ("failed", status, code)
    assert (row.cost_total_usd, row.budget_usd, row.billed_usd, row.total_tokens) == (0, 0, 0, 0)
    assert row.price_lines == []
    [tried] = row.attempts
    assert (tried["provider"], tried["model"], tried["status"], tried["code"]) == (
        vendor.provider.slug, "m", status, code,
    )  # fmt: skip
    assert customer.spent() == 0
    assert len(vendor.fake.requests) == 1
    assert str(row.id) == answer.headers["x-request-id"]


@pytest.mark.parametrize("case", ["400", "429", "500"])
def test_the_sdk_raises_its_own_class_for_a_failing_provider(customer: Customer, vendor: Vendor, case: str) -> None:
    behaviour, status, _, code, _ = PROVIDER_SAYS[case]
    vendor.fake.script("m", behaviour)
    assert sdk_error(customer, vendor.reference, status, stream=True).code == code


def test_a_providers_word_on_the_request_is_passed_on_without_its_secrets(customer: Customer, vendor: Vendor) -> None:
    said = "temperature must be 1 for this model, see https://internal.vendor.com/x (org-abc123def456ghi)"
    vendor.fake.script("m", Behaviour(status=400, error_body={"error": {"message": said, "param": "temperature"}}))
    error = error_of(
        customer.ask(vendor.reference),
        status=400, type="invalid_request_error", code="upstream_rejected", retry=False,
    )  # fmt: skip
    assert "temperature must be 1 for this model" in error["message"]
    assert error["param"] == "temperature"
    assert not any(secret in error["message"] for secret in ("internal.vendor.com", "org-abc"))


@pytest.mark.parametrize("retry_after", ["2.2", "date"])
def test_a_providers_retry_after_is_never_shortened(customer: Customer, vendor: Vendor, retry_after: str) -> None:
    now = datetime.now(UTC)
    headers = {"date": f"{now:%a, %d %b %Y %H:%M:%S} GMT"}
    until = f"{now + timedelta(seconds=90):%a, %d %b %Y %H:%M:%S} GMT"
    shown = until if retry_after == "date" else retry_after
    vendor.fake.script("m", Behaviour(status=429, extra_headers=headers | {"retry-after": shown}))
    assert customer.ask(vendor.reference).headers["retry-after"] == ("90" if retry_after == "date" else "3")


@STREAMED
@pytest.mark.parametrize("headers_first", [False, True])
def test_a_silent_provider_is_a_504_that_is_not_retried(
    customer: Customer, vendor: Vendor, settings: Any, stream: bool, headers_first: bool
) -> None:
    settings.UPSTREAM_FIRST_EVENT_TIMEOUT_S = settings.UPSTREAM_TOTAL_TIMEOUT_S = 0.15
    vendor.fake.script("m", Behaviour(delay_first_s=30, headers_first=headers_first))
    answer = customer.ask(vendor.reference, stream=stream)
    error_of(answer, status=504, type="api_error", code="upstream_timeout", retry=False)
    assert vendor.fake.cancelled_within(1)
    row = customer.row()
    assert (row.status, row.status_code, row.budget_usd) == ("failed", 504, 0)
    # The vendor bills its input all the same: that is the platform's loss, by our own estimate.
    assert row.lost_cost_usd > 0
    assert customer.spent() == 0


def test_a_provider_that_cannot_be_reached_is_tried_again_and_then_a_502(world: World, customer: Customer) -> None:
    if not LLMProvider.objects.filter(slug="nowhere").exists():
        world.model(world.provider("nowhere", None), "m")
        world.refresh()
    answer = customer.ask("nowhere/m")
    error_of(answer, status=502, type="api_error", code="upstream_error", retry=True)
    row = customer.row()
    assert 1 <= len(row.attempts) <= 3
    assert (row.lost_cost_usd, row.budget_usd) == (0, 0)


# --- own keys ---------------------------------------------------------------------------------------------------------


@STREAMED
@pytest.mark.parametrize(
    "refusal",
    [
        Behaviour(expected_key=PLATFORM_KEY),
        Behaviour(status=403),
        Behaviour(in_band_error={"type": "authentication_error", "message": "no", "code": 401}),
    ],
    ids=["401", "403", "in band"],
)
def test_a_tenants_own_key_that_is_refused_is_named_and_the_platforms_is_not_used(
    customer: Customer, vendor: Vendor, refusal: Behaviour, stream: bool
) -> None:
    cast.make_credential(vendor.provider, "sk-own-abcdefghijkl", customer.tenant, key_name="Our research key")
    vendor.fake.script("m", refusal)
    answer = customer.ask(vendor.reference, stream=stream)
    error = error_of(answer, status=400, type="invalid_request_error", code="byok_rejected", retry=False)
    assert "Our research key" in error["message"]
    assert "sk-own" not in error["message"]
    [seen] = vendor.fake.requests
    assert PLATFORM_KEY not in str(seen.headers)
    row = customer.row()
    assert (row.used_byok, row.key_source, row.status, row.budget_usd) == (True, "byok", "failed", 0)
    assert customer.spent() == 0


def test_an_own_key_pays_its_provider_and_counts_in_the_budget(customer: Customer, vendor: Vendor) -> None:
    cast.make_credential(vendor.provider, "sk-own-abcdefghijkl", customer.tenant)
    answer = customer.ask(vendor.reference)
    assert answer.headers["x-used-byok"] == "true"
    row = customer.row()
    assert (row.cost_total_usd, row.billed_usd, row.budget_usd) == (usd(8, 5), 0, usd(8, 5))
    assert vendor.fake.bill()[0].key_last4 == "ijkl"


# --- bugs -------------------------------------------------------------------------------------------------------------


def test_a_bug_is_a_500_with_the_request_id_only_and_the_hold_is_resolved(
    customer: Customer, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm.engine import attempt  # broken on purpose, here only

    async def broken(*_: Any) -> None:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(attempt, "complete", broken)
    answer = customer.ask(vendor.reference)
    error = error_of(answer, status=500, type="api_error", code="internal_error", retry=True)
    assert "secret" not in error["message"]
    row = customer.row()
    assert (row.status, row.status_code, row.error_code, row.budget_usd) == ("failed", 500, "internal_error", 0)


def test_a_refused_route_is_no_usage_but_can_be_read(world: World, customer: Customer) -> None:
    narrow = world.customer(key={"allowed_models": ["fakethropic/*"], "scopes": ["completions", "usage:read"]})
    answer = narrow.ask("fakeai/m")
    path = f"/api/v1/llm/requests/{answer.headers['x-request-id']}"
    with narrow.http as client, customer.http as other:
        seen = eventually(lambda: (found := client.get(path)).status_code == 200 and found.json(), what="the refusal")
        assert other.get(path).status_code == 404
    assert seen["decision"]["rejections"] == [
        {"model": "fakeai/m", "code": "allow_list", "detail": "this key's allow-list does not have it"}
    ]
    narrow.untouched()
