"""Bedrock over HTTP, end to end: signed requests, the region from a quirk, the exact bill, and a key asked about."""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from llm.catalog import probes
from llm.fields import Secret
from llm.models import LLMProvider
from llm.providers import sigv4
from tests import cast
from tests.fakes import Behaviour, FakeProvider
from tests.journeys.world import Customer, World, frames_of, usd

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
AWS_KEY = f"AKIDEXAMPLE:{SECRET}:session/token=="
PROFILE = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-x-v1:0"
_numbers = itertools.count(1)
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@pytest.fixture
def rock(world: World) -> Iterator[tuple[LLMProvider, FakeProvider]]:
    """A provider whose address a quirk completes, with an AWS access key, selling an inference profile."""
    fake = FakeProvider().start()
    quirks = {"port": str(fake.port), "region": "eu-west-1"}
    slug = f"rock-{next(_numbers)}"
    provider = cast.make_provider(slug, "http://127.0.0.1:{port}/v1", "bedrock", auth_type="bearer", quirks=quirks)
    cast.make_credential(provider, AWS_KEY)
    model = world.model(provider, PROFILE, input=None)
    cast.make_price(model, input="2.00", output="8.00", cache_read="0.50", cache_write_5m="2.50")
    world.refresh()
    try:
        yield provider, fake
    finally:
        fake.stop()


@STREAMED
def test_what_arrives_is_what_was_signed(
    customer: Customer, rock: tuple[LLMProvider, FakeProvider], stream: bool
) -> None:
    answer = customer.ask(f"{rock[0].slug}/{PROFILE}", stream=stream)
    assert answer.status_code == 200, answer.text
    [request] = rock[1].requests
    encoded = "arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Ainference-profile%2Feu.anthropic.claude-x-v1%3A0"
    assert request.path == f"/v1/model/{encoded}/converse{'-stream' if stream else ''}"
    stamp = request.headers["x-amz-date"]
    moment = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 30
    arrived = sigv4.Request(
        method="POST",
        url=f"http://{request.headers['host']}{request.path}",
        headers={"content-type": request.headers["content-type"]},
        body=request.raw,
    )
    key = sigv4.key_of(AWS_KEY)
    assert key is not None
    expected = sigv4.signed(arrived, key, region="eu-west-1", service="bedrock", now=moment)
    assert request.headers["authorization"] == expected["authorization"]
    assert request.headers["x-amz-security-token"] == "session/token=="
    assert SECRET not in str(request.headers)
    assert customer.row().budget_usd == usd(8, 5)


@STREAMED
def test_reads_and_writes_of_the_cache_are_billed_to_the_last_token(
    customer: Customer, rock: tuple[LLMProvider, FakeProvider], stream: bool
) -> None:
    counts = {"prompt_tokens": 1600, "cached_tokens": 1000, "cache_creation_tokens": 500, "completion_tokens": 10}
    rock[1].script(PROFILE, Behaviour(usage=counts))
    part = {"type": "text", "text": "A long prompt", "cache_control": {"type": "ephemeral"}}
    answer = customer.ask(f"{rock[0].slug}/{PROFILE}", stream=stream, messages=[{"role": "user", "content": [part]}])
    assert answer.status_code == 200, answer.text
    assert rock[1].requests[0].body["messages"][0]["content"][1] == {"cachePoint": {"type": "default"}}
    row = customer.row()
    assert (row.prompt_tokens, row.cached_tokens, row.cache_write_tokens, row.is_estimated) == (1600, 1000, 500, False)
    expected = (100 * Decimal(2) + 1000 * Decimal("0.50") + 500 * Decimal("2.50") + 10 * Decimal(8)) / 1_000_000
    assert row.cost_total_usd == expected == customer.spent()


def test_reasoning_comes_out_and_goes_back_signed(customer: Customer, rock: tuple[LLMProvider, FakeProvider]) -> None:
    rock[1].script(PROFILE, Behaviour(reasoning="Hm. ", text="Yes"))
    said = customer.ask(f"{rock[0].slug}/{PROFILE}").json()["choices"][0]["message"]
    assert (said["reasoning_content"], said["content"]) == ("Hm. ", "Yes")
    chunks = frames_of(customer.ask(f"{rock[0].slug}/{PROFILE}", stream=True).content)
    texts: dict[str, Any] = {"reasoning_content": "", "content": ""}
    for delta in (choice["delta"] for chunk in chunks for choice in chunk["choices"]):
        for name in texts:
            texts[name] += delta.get(name) or ""
    assert texts == {"reasoning_content": "Hm. ", "content": "Yes"}
    turns = [{"role": "user", "content": "Hi"}, said, {"role": "user", "content": "Why?"}]
    assert customer.ask(f"{rock[0].slug}/{PROFILE}", messages=turns).status_code == 200
    assert rock[1].requests[-1].body["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm. ", "signature": "ZmFrZS1zaWduYXR1cmU="}}},
        {"text": "Yes"},
    ]


def test_a_link_to_an_image_is_a_400_that_names_it(customer: Customer, rock: tuple[LLMProvider, FakeProvider]) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    answer = customer.ask(f"{rock[0].slug}/{PROFILE}", messages=[{"role": "user", "content": [part]}])
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "messages[0].content[0]")
    assert rock[1].requests == []
    assert customer.spent() == 0


def test_a_key_is_asked_about_by_listing_models(world: World, rock: tuple[LLMProvider, FakeProvider]) -> None:
    provider, fake = rock
    good = probes.opinion(provider=provider, secret=Secret(AWS_KEY))
    assert (good.says, good.error) == (probes.Says.YES, "")
    [request] = fake.requests
    assert (request.method, request.path) == ("GET", "/v1/foundation-models")
    assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    fake.expected_key = "another"
    bad = probes.opinion(provider=provider, secret=Secret("bedrock-api-key-wrong"))
    assert bad.says == probes.Says.NO
    assert bad.error.startswith("It refused this key (HTTP 403).")
    half = probes.opinion(provider=provider, secret=Secret("AKIDEXAMPLE:"))
    assert (half.says, half.error) == (probes.Says.NOTHING, probes.MALFORMED)
    assert fake.bill() == []


def test_a_provider_without_its_region_is_not_routed_to(customer: Customer, world: World) -> None:
    bare = cast.make_provider("bare", "https://bedrock-runtime.{region}.amazonaws.com", "bedrock")
    cast.make_credential(bare, "bedrock-api-key-x")
    world.model(bare, "amazon.nova-x")
    world.refresh()
    assert customer.ask("bare/amazon.nova-x").status_code == 404
    assert probes.ask(bare, Secret("bedrock-api-key-x")).problem == probes.PLACEHOLDER


def test_the_fakes_list_is_what_bedrock_lists(rock: tuple[LLMProvider, FakeProvider]) -> None:
    provider, fake = rock
    fake.script("a.b", Behaviour())
    answer = probes.ask(provider, Secret("x"), most=1 << 16)
    assert [one["modelId"] for one in json.loads(answer.body)["modelSummaries"]] == ["a.b"]
