"""WIRE section 2 on `/v1/messages`: each case in Anthropic's envelope, and as the exception its SDK makes of it."""

from typing import Any

import anthropic
import httpx
import pytest

from tests import cast
from tests.fakes import Behaviour
from tests.journeys.test_errors import UNKNOWN_KEY
from tests.journeys.world import ASK, PLATFORM_KEY, Customer, Json, Vendor, World, usd

INVALID = "invalid_request_error"
OWN = "sk-own-0123456789wxyz"
SDK = {
    400: anthropic.BadRequestError,
    401: anthropic.AuthenticationError,
    403: anthropic.PermissionDeniedError,
    404: anthropic.NotFoundError,
    413: anthropic.APIStatusError,
    429: anthropic.RateLimitError,
    502: anthropic.InternalServerError,
    503: anthropic.InternalServerError,
    504: anthropic.InternalServerError,
}


def send(customer: Customer, model: str = "fakeai/m", **body: Any) -> httpx.Response:
    return customer.ask(model, path="/v1/messages", **({"max_tokens": 100} | body))


def refused(answer: httpx.Response, status: int, kind: str, *, retry: bool) -> str:
    """Check the envelope and headers of a refusal; its message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-should-retry"] == ("true" if retry else "false")
    body = answer.json()
    assert list(body) == ["type", "error", "request_id"]
    assert (body["type"], set(body["error"])) == ("error", {"type", "message"})
    assert answer.headers["request-id"] == answer.headers["x-request-id"] == body["request_id"]
    assert body["error"]["type"] == kind
    message: str = body["error"]["message"]
    assert len(message) > 20
    for secret in ("127.0.0.1", "Traceback", PLATFORM_KEY, OWN):
        assert secret not in message
    return message


def raised(customer: Customer, status: int, model: str = "fakeai/m", **body: Any) -> anthropic.APIStatusError:
    with pytest.raises(SDK[status]) as caught:
        customer.anthropic.messages.create(model=model, max_tokens=100, messages=ASK, extra_body=body)
    assert caught.value.status_code == status
    return caught.value


def test_a_bad_key_is_a_401(world: World, customer: Customer) -> None:
    stranger = Customer(customer.tenant, customer.key, UNKNOWN_KEY, customer.url)
    refused(send(stranger), 401, "authentication_error", retry=False)
    raised(stranger, 401)
    assert world.fake.requests == []


def test_a_key_without_the_scope_and_a_suspended_tenant_are_a_403(world: World) -> None:
    reader = world.customer(key={"scopes": ["usage:read"]})
    refused(send(reader), 403, "permission_error", retry=False)
    raised(reader, 403)
    suspended = world.customer(is_active=False)
    refused(send(suspended), 403, "permission_error", retry=False)


def test_a_model_that_cannot_be_had(world: World, customer: Customer) -> None:
    refused(send(customer, "fakeai/nothing"), 404, "not_found_error", retry=False)
    raised(customer, 404, "fakeai/nothing")
    narrow = world.customer(key={"allowed_models": ["fakethropic/*"]})
    refused(send(narrow), 403, "permission_error", retry=False)
    if "free-of-price" not in {one.model_id for one in world.vendors["openai"].provider.models.all()}:
        world.model(world.vendors["openai"].provider, "free-of-price", input=None)
        world.refresh()
    refused(send(customer, "fakeai/free-of-price"), 503, "api_error", retry=False)
    customer.untouched()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 1.1}, "temperature"),
        ({"system": 5}, "system"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"stop": "END"}, "stop"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"speed": "fast"}, "speed"),
        ({"power_level": "turbo"}, "turbo"),
    ],
)
def test_a_wrong_field_is_a_400_that_names_it(world: World, customer: Customer, body: Json, param: str) -> None:
    assert f"`{param}`" in refused(send(customer, **body), 400, INVALID, retry=False)
    customer.untouched()
    assert world.fake.bill() == []


def test_the_sdk_calls_bad_input_a_bad_request(customer: Customer) -> None:
    assert "temperature" in raised(customer, 400, temperature=3).message


def test_bodies_paths_and_methods(customer: Customer, settings: Any) -> None:
    with customer.http as client:
        url = "/v1/messages"
        refused(client.post(url, content=b"{"), 400, INVALID, retry=False)
        refused(
            client.post(url, content=b"{}", headers={"content-type": "text/plain"}),
            415, INVALID, retry=False,
        )  # fmt: skip
        wrong = client.get(url)
        refused(wrong, 405, INVALID, retry=False)
        assert wrong.headers["allow"] == "POST"
        refused(client.post(f"{url}/batches", json={}), 404, "not_found_error", retry=False)
        settings.MAX_BODY_V1 = 100
        refused(client.post(url, json={"a": "x" * 200}), 413, "request_too_large", retry=False)


def test_a_rate_limit_is_a_429_with_the_time_to_wait(world: World) -> None:
    limited = world.customer(key={"rate_limit_rpm": 1})
    assert send(limited).status_code == 200
    answer = send(limited)
    refused(answer, 429, "rate_limit_error", retry=True)
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert raised(limited, 429).response.headers["x-should-retry"] == "true"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_budget_is_a_429_that_is_not_tried_again(world: World, stream: bool) -> None:
    poor = world.customer(budget_limit_daily=usd(8, 5))
    message = refused(send(poor, stream=stream), 429, "rate_limit_error", retry=False)
    assert "limit" in message
    raised(poor, 429, stream=stream)
    assert world.fake.requests == []
    poor.untouched()


FAILURES: dict[str, tuple[Behaviour, int, str, bool]] = {
    "400": (Behaviour(status=400, error_body={"error": {"message": "no such knob"}}), 400, INVALID, False),
    "401": (Behaviour(status=401), 502, "api_error", False),
    "429": (Behaviour(status=429, retry_after=7), 429, "rate_limit_error", True),
    "500": (Behaviour(status=500), 502, "api_error", True),
    "529": (Behaviour(status=529), 502, "api_error", True),
    "bad JSON": (Behaviour(bad_json=True), 502, "api_error", True),
    "reset": (Behaviour(cut_after_bytes=0, cut_how="reset"), 502, "api_error", True),
}


@pytest.mark.parametrize("what", FAILURES)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_what_a_provider_does(customer: Customer, vendor: Vendor, what: str, stream: bool) -> None:
    script, status, kind, retry = FAILURES[what]
    vendor.fake.script("m", script)
    answer = send(customer, vendor.reference, stream=stream)
    message = refused(answer, status, kind, retry=retry)
    if what == "400":
        assert "no such knob" in message
    if what == "429":
        assert answer.headers["retry-after"] == "7"
    assert customer.row().status == "failed"
    assert customer.spent() == 0


def test_a_silent_provider_is_a_504(world: World, customer: Customer, settings: Any) -> None:
    settings.UPSTREAM_FIRST_EVENT_TIMEOUT_S = settings.UPSTREAM_TOTAL_TIMEOUT_S = 0.2
    for fake in (world.fake, world.other):
        fake.script("m", Behaviour(delay_first_s=30))
    for model in ("fakeai/m", "fakethropic/m"):
        refused(send(customer, model), 504, "timeout_error", retry=False)
        refused(send(customer, model, stream=True), 504, "timeout_error", retry=False)


@pytest.mark.parametrize("slug", ["openai", "anthropic"])
def test_an_own_key_is_used_and_named_when_it_is_refused(world: World, customer: Customer, slug: str) -> None:
    vendor = world.vendors[slug]
    cast.make_credential(vendor.provider, OWN, tenant=customer.tenant, key_name="ours")
    answer = send(customer, vendor.reference)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-used-byok"] == "true"
    assert OWN in str(vendor.fake.requests[-1].headers.values())
    vendor.fake.script("m", Behaviour(expected_key="another"))
    message = refused(send(customer, vendor.reference), 400, INVALID, retry=False)
    assert "“ours”" in message
