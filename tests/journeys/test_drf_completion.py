"""`/api/v1/llm/chat/completions`: it may be slower than `/v1`, not different. And a tenant's day with the API."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from tests import cast
from tests.fakes import Behaviour
from tests.fakes.behaviour import DEFAULT_TEXT
from tests.journeys.world import ASK, Customer, Json, Vendor, World, eventually, frames_of, usd

V1, DRF = "/v1/chat/completions", "/api/v1/llm/chat/completions"
# Those of the transport and of this one request.
OWN = {"x-request-id", "x-overhead-ms", "date", "server", "content-length", "transfer-encoding", "connection"}
# What Django's own middleware adds to every answer.
DJANGO = {"x-frame-options", "x-content-type-options", "referrer-policy", "cross-origin-opener-policy", "vary", "allow"}

SCRIPTS: dict[str, tuple[Behaviour, Json]] = {
    "text": (Behaviour(), {}),
    "cached": (Behaviour(usage={"prompt_tokens": 900, "cached_tokens": 800, "completion_tokens": 9}), {}),
    "usage asked": (Behaviour(usage_placement="both"), {"stream_options": {"include_usage": True}}),
    "no usage": (Behaviour(usage="none"), {}),
    "dropped": (Behaviour(), {"seed": 5, "logprobs": True}),
    "dirty": (Behaviour(crlf=True, no_done=True, split_at=(9,), id_changes=True), {}),
    "late error": (Behaviour(in_band_error={"type": "server_error", "message": "x"}, in_band_error_after=2), {}),
    "early error": (Behaviour(in_band_error={"type": "server_error", "message": "x"}), {}),
    "rejected": (Behaviour(status=400, error_body={"error": {"message": "no such voice", "param": "voice"}}), {}),
    "limited": (Behaviour(status=429, retry_after=11), {}),
    "broken": (Behaviour(bad_json=True), {}),
}


def alike(raw: bytes) -> bytes:
    """An answer without what differs between any two requests: the vendor's own number and the moment."""
    frames = []
    for line in raw.split(b"\n"):
        payload = line.removeprefix(b"data: ")
        try:
            found = json.loads(payload)
        except ValueError:
            frames.append(line)
            continue
        for name in ("id", "created"):
            if name in found:
                found[name] = type(found[name]).__name__
        frames.append(json.dumps(found, sort_keys=True).encode())
    return b"\n".join(frames)


def headers_of(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in OWN | DJANGO}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_two_doors_say_and_bill_the_same(
    world: World, customer: Customer, vendor: Vendor, script: str, stream: bool
) -> None:
    behaviour, more = SCRIPTS[script]
    vendor.fake.script("m", behaviour)
    first = customer.ask(vendor.reference, path=V1, stream=stream, **more)
    world.forgive()  # a provider that asked to be left alone would not be asked again
    second = customer.ask(vendor.reference, path=DRF, stream=stream, **more)
    assert first.status_code == second.status_code
    assert headers_of(first) == headers_of(second)
    assert alike(first.content) == alike(second.content)
    one, two = customer.rows()
    assert {str(one.id), str(two.id)} == {first.headers["x-request-id"], second.headers["x-request-id"]}
    for name in (
        "status", "status_code", "error_code", "prompt_tokens", "completion_tokens", "cached_tokens", "is_estimated",
        "cost_total_usd", "billed_usd", "budget_usd", "held_usd", "lost_cost_usd", "streamed", "price_lines",
        "decision", "request_ip", "user_agent", "key_id", "user_id",
    ):  # fmt: skip
        assert getattr(one, name) == getattr(two, name), name
    assert customer.spent() == 2 * one.budget_usd


REFUSED: dict[str, Json] = {
    "bad input": {"temperature": 3},
    "unknown model": {"model": "nothing"},
    "unsupported": {"audio": {"voice": "x"}},
    "no messages": {"messages": []},
    "unknown config": {"config": "nothing"},
}


@pytest.mark.parametrize("refused", REFUSED)
def test_the_two_doors_refuse_alike(customer: Customer, refused: str) -> None:
    first, second = (customer.ask(**{"model": "fakeai/m", "path": path, **REFUSED[refused]}) for path in (V1, DRF))
    assert first.status_code == second.status_code >= 400
    assert first.json() == second.json()
    assert headers_of(first) == headers_of(second)
    customer.untouched()


@pytest.mark.parametrize("limits", [{"rate_limit_rpm": 0}, {"budget_limit_daily": Decimal(0)}, {"scopes": ["configs"]}])
def test_a_keys_limits_hold_at_both_doors(world: World, limits: Json) -> None:
    poor = world.customer(key=limits)
    first, second = (poor.ask(path=path) for path in (V1, DRF))
    assert first.status_code == second.status_code
    assert first.json() == second.json()
    assert headers_of(first) == headers_of(second)
    poor.untouched()


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer nonsense"}])
def test_a_bad_key_gets_the_same_401_at_both_doors(customer: Customer, headers: dict[str, str]) -> None:
    with httpx.Client(base_url=customer.url, headers=headers, verify=False) as client:
        first, second = (client.post(path, json={"model": "fakeai/m", "messages": ASK}) for path in (V1, DRF))
    assert first.status_code == second.status_code == 401
    assert first.json() == second.json()


def test_the_sdk_may_use_either_door(customer: Customer, vendor: Vendor) -> None:
    client = openai.OpenAI(base_url=f"{customer.url}/api/v1/llm", api_key=customer.secret, max_retries=0)
    answer = client.chat.completions.create(model=vendor.reference, messages=ASK)
    assert answer.choices[0].message.content == DEFAULT_TEXT
    chunks = list(client.chat.completions.create(model=vendor.reference, messages=ASK, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == DEFAULT_TEXT
    assert customer.spent() == 2 * usd(8, 5)


def test_words_of_a_stream_arrive_one_by_one_through_django_too(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(text="one two", delay_between_s=0.5))
    with (
        customer.http as client,
        client.stream("POST", DRF, json={"model": vendor.reference, "messages": ASK, "stream": True}) as answer,
    ):
        pieces = answer.iter_raw()
        seen = b""
        while b"one" not in seen:
            seen += next(pieces)
        assert b"two" not in seen
        frames_of(seen + b"".join(pieces))


# --- a tenant's day ---------------------------------------------------------------------------------------------------


class Tenant:
    """`/api/v1` over the socket."""

    def __init__(self, customer: Customer) -> None:
        self._client = customer.http

    def call(self, method: str, path: str, status: int, body: Any = None) -> Any:
        answer = self._client.request(method, f"/api/v1/{path}", json=body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"].startswith("application/json")
        return answer.json()


def test_config_completion_usage_summary_explain(world: World, customer: Customer) -> None:
    api = Tenant(customer)
    made = api.call(
        "POST", "llm/configs", 201,
        {
            "name": "shop", "primary_model": "fakeai/m", "fallback_model": "fakethropic/m", "temperature": 0.3,
            "max_tokens": 50, "budget_limit_daily": "1.00", "is_tenant_default": True,
        },
    )  # fmt: skip
    assert (made["name"], made["is_tenant_default"]) == ("shop", True)

    why = api.call("POST", "llm/routing/explain", 200, {"estimated_input_tokens": 8, "needs": ["streaming"]})
    assert (why["chosen"]["provider"], why["chosen"]["model"], why["chosen"]["key_source"]) == (
        "fakeai", "fakeai/m", "platform",
    )  # fmt: skip
    assert [one if isinstance(one, str) else one["model"] for one in why["fallbacks"]] == ["fakethropic/m"]
    assert world.fake.requests == []
    assert customer.rows() == []

    answered = eventually(lambda: (found := ask_default(customer)).status_code == 200 and found)
    assert answered.headers["x-model-used"] == "m"
    sent = world.fake.requests[-1].body
    assert (sent["temperature"], sent["max_tokens"]) == (0.3, 50)
    world.fake.once("m", Behaviour(status=500))
    second = ask_default(customer)
    assert (second.headers["x-was-fallback"], second.headers["x-provider-used"]) == ("true", "fakethropic")

    usage = api.call("GET", "llm/usage", 200)
    assert [row["request_id"] for row in usage["results"]] == [
        second.headers["x-request-id"],
        answered.headers["x-request-id"],
    ]
    assert {Decimal(row["cost_total_usd"]) for row in usage["results"]} == {usd(8, 5)}
    detail = api.call("GET", f"llm/requests/{second.headers['x-request-id']}", 200)
    assert [(one["model"], one["code"]) for one in detail["attempts"]] == [("m", "upstream_error"), ("m", "")]
    assert detail["decision"]

    today = datetime.now(UTC).date().isoformat()
    summary = api.call("GET", f"llm/usage/summary?from={today}&to={today}&group_by=provider", 200)
    rows = summary["results"] if isinstance(summary, dict) else summary
    assert sorted((row["provider"], row["requests"], Decimal(row["cost_usd"])) for row in rows) == [
        ("fakeai", 1, usd(8, 5)),
        ("fakethropic", 1, usd(8, 5)),
    ]
    assert sum(row["total_tokens"] for row in rows) == 26
    me = api.call("GET", "me", 200)
    assert (
        me["tenant"]["slug" if isinstance(me["tenant"], dict) else 0] == customer.tenant.slug
        if isinstance(me["tenant"], dict)
        else me["tenant"] == customer.tenant.slug
    )

    stranger = Tenant(world.customer())
    stranger.call("GET", f"llm/requests/{second.headers['x-request-id']}", 404)
    assert stranger.call("GET", "llm/usage", 200)["results"] == []


def ask_default(customer: Customer) -> httpx.Response:
    """A request that names nothing: the tenant's default config decides."""
    with customer.http as client:
        return client.post(DRF, json={"messages": ASK})


def test_a_config_bounds_what_a_request_may_ask(world: World, customer: Customer) -> None:
    cast.make_config(customer.tenant, "tight", primary_model=world.vendors["openai"].model, max_tokens=3)
    answer = customer.ask("config/tight", path=DRF, max_tokens=500)
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert world.fake.requests[-1].body["max_tokens"] == 3
    assert customer.row().budget_usd == usd(8, 3)
