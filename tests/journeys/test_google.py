"""Gemini over HTTP: the Gemini API by key, Vertex AI by service account, and tools over several turns."""

import itertools
from typing import Any

import pytest

from billing.models import UsageRecord
from llm.catalog import model_list, probes
from llm.engine import oauth
from llm.models import LLMProvider
from tests import cast
from tests.fakes import Behaviour, google_wire, openai_wire
from tests.journeys.test_streams import CALLS, TOOLS, obeys, streamed
from tests.journeys.world import ASK, PLATFORM_KEY, Customer, World, eventually, frames_of, usd
from tests.llm.test_oauth import secret

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def no_tokens() -> None:
    oauth.TOKENS.clear()


@pytest.fixture
def vertex(world: World) -> LLMProvider:
    """A provider row like the shipped one, at the fake's address, with a service account as its platform key."""
    quirks = {"location": "europe-west4", "token_uri": f"{world.gemini.root_url}/token"}
    found = cast.make_provider(
        f"vertex-{next(_numbers)}", world.gemini.base_url, "google", auth_type="oauth", quirks=quirks
    )
    cast.make_credential(found, secret().reveal())
    world.model(found, "m")
    world.refresh()
    return found


def paths(world: World) -> list[str]:
    return [request.path for request in world.gemini.requests]


@pytest.mark.parametrize("stream", [False, True])
def test_vertex_is_asked_in_its_project_with_a_token_that_is_asked_for_once(
    world: World, customer: Customer, vertex: LLMProvider, stream: bool
) -> None:
    for _ in range(2):
        answer = customer.ask(f"{vertex.slug}/m", stream=stream)
        assert answer.status_code == 200
        assert b"Hello" in answer.content
    method = "streamGenerateContent" if stream else "generateContent"
    path = f"/v1/projects/acme-vertex-1/locations/europe-west4/publishers/google/models/m:{method}"
    assert paths(world) == ["/token", path, path]
    asked, *requests = world.gemini.requests
    assert {request.headers["authorization"] for request in requests} == {f"Bearer ya29.fake-{asked.ordinal:06d}"}
    assert [row.budget_usd for row in customer.rows()] == [usd(8, 5)] * 2


def test_a_tenants_own_service_account_goes_to_its_own_project(
    world: World, customer: Customer, vertex: LLMProvider
) -> None:
    LLMProvider.objects.filter(pk=vertex.pk).update(quirks=vertex.quirks | {"project": "platform-9"})
    world.refresh()
    customer.ask(f"{vertex.slug}/m")
    own = world.customer()
    cast.make_credential(vertex, secret(project_id="their-own-7").reveal(), own.tenant)
    own.ask(f"{vertex.slug}/m")
    projects = [path.split("/")[3] for path in paths(world) if "projects" in path]
    assert projects == ["platform-9", "their-own-7"]
    assert own.row().used_byok


@pytest.mark.parametrize("whose", ["platform", "own"])
def test_a_service_account_that_google_refuses_is_a_refused_key_and_costs_nothing(
    world: World, customer: Customer, vertex: LLMProvider, whose: str
) -> None:
    if whose == "own":
        cast.make_credential(vertex, secret(project_id="their-own-7").reveal(), customer.tenant, key_name="mine")
    world.gemini.script("/token", Behaviour(status=400, error_body={"error": "invalid_grant"}))
    answer = customer.ask(f"{vertex.slug}/m")
    code = {"platform": (502, "upstream_auth_failed"), "own": (400, "byok_rejected")}[whose]
    assert (answer.status_code, answer.json()["error"]["code"]) == code
    assert customer.row().budget_usd == 0
    assert set(paths(world)) == {"/token"}


def test_a_tenants_service_account_cannot_send_the_gateway_elsewhere(
    world: World, customer: Customer, vertex: LLMProvider
) -> None:
    LLMProvider.objects.filter(pk=vertex.pk).update(quirks={"location": "global"})
    evil = secret(token_uri=f"{world.other.root_url}/token").reveal()
    cast.make_credential(vertex, evil, customer.tenant)
    world.refresh()
    answer = customer.ask(f"{vertex.slug}/m")
    assert answer.json()["error"]["code"] == "byok_rejected"
    assert world.other.requests == world.gemini.requests == []


def test_a_token_that_the_provider_takes_back_is_asked_for_anew(
    world: World, customer: Customer, vertex: LLMProvider
) -> None:
    customer.ask(f"{vertex.slug}/m")
    world.gemini.once("m", Behaviour(status=401))
    assert customer.ask(f"{vertex.slug}/m").status_code == 502
    world.forgive()
    assert customer.ask(f"{vertex.slug}/m").status_code == 200
    assert paths(world).count("/token") == 2


@pytest.mark.parametrize("own", [False, True])
def test_a_key_that_gemini_refuses_with_a_400_is_a_refused_key(world: World, customer: Customer, own: bool) -> None:
    if own:
        cast.make_credential(world.vendors["google"].provider, "AQ.theirs-0123456789", customer.tenant)
        world.gemini.revoke("AQ.theirs-0123456789")
    else:
        world.gemini.revoke(PLATFORM_KEY)
    answer = customer.ask("fakegoogle/m")
    code = (400, "byok_rejected") if own else (502, "upstream_auth_failed")
    assert (answer.status_code, answer.json()["error"]["code"]) == code
    assert "API key" not in answer.text
    assert customer.row().budget_usd == 0
    world.forgive()


def test_a_quota_is_answered_with_googles_own_wait(world: World, customer: Customer) -> None:
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}
    quota = google_wire.error(429, "You exceeded your current quota.", wait)
    world.gemini.script("m", Behaviour(status=429, error_body=[quota]))  # type: ignore[arg-type] # a list, as Gemini's
    answer = customer.ask("fakegoogle/m")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "37")
    world.forgive()


def test_a_tenant_adds_its_service_account_over_the_api_and_it_is_never_shown_again(
    world: World, customer: Customer, vertex: LLMProvider
) -> None:
    whole = secret(project_id="their-own-7").reveal()
    with customer.http as client:
        body = {"provider": vertex.slug, "name": "ours", "api_key": whole}
        added = client.post("/api/v1/llm/byok/keys", json=body)
        listed = client.get("/api/v1/llm/byok/keys")
    assert (added.status_code, added.json()["is_validated"]) == (201, True)
    assert "PRIVATE KEY" not in added.text + listed.text
    eventually(lambda: customer.ask(f"{vertex.slug}/m").status_code == 200 and customer.rows()[-1].used_byok)
    assert paths(world)[-1].startswith("/v1/projects/their-own-7/")


# Tools over several turns, as a client of OpenAI's SDK has them


@pytest.mark.parametrize("stream", [False, True])
def test_a_signature_comes_out_with_the_call_and_goes_back_with_it(
    world: World, customer: Customer, stream: bool
) -> None:
    world.gemini.once("m", Behaviour(tool_calls=CALLS))
    if stream:
        _, raw = streamed(customer, "fakegoogle/m", tools=TOOLS)
        chunks = frames_of(raw)
        obeys(chunks)
        found = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
        calls = [{key: value for key, value in call.items() if key != "index"} for call in found]
    else:
        client = customer.openai
        message = client.chat.completions.create(model="fakegoogle/m", messages=ASK, tools=TOOLS).choices[0].message  # type: ignore[call-overload]
        calls = message.model_dump(exclude_none=True)["tool_calls"]
    assert [call["id"] for call in calls] == ["call_a", "call_b"]
    assert calls[0]["extra_content"] == {"google": {"thought_signature": google_wire.SIGNATURE}}
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "3"} for call in calls]
    history = [*ASK, {"role": "assistant", "content": None, "tool_calls": calls}, *results]
    answer = customer.ask("fakegoogle/m", messages=history, tools=TOOLS)
    assert answer.status_code == 200
    _, said, returned = world.gemini.requests[-1].body["contents"]
    assert said["parts"] == [
        {"functionCall": {"id": "call_a", "name": "add", "args": {"a": 1}}, "thoughtSignature": google_wire.SIGNATURE},
        {"functionCall": {"id": "call_b", "name": "mul", "args": {"b": 2}}},
    ]
    assert [part["functionResponse"]["name"] for part in returned["parts"]] == ["add", "mul"]


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_and_cached_tokens_are_billed_at_their_own_prices(
    world: World, customer: Customer, stream: bool
) -> None:
    counted = {"prompt_tokens": 100, "cached_tokens": 60, "completion_tokens": 40, "reasoning_tokens": 25}
    world.gemini.script("m", Behaviour(reasoning="Hm, hm. ", usage=counted))
    body: dict[str, Any] = {"reasoning_effort": "high", "stream": stream}
    answer = customer.ask("fakegoogle/m", **body)
    assert "Hm," in answer.text
    row = UsageRecord.objects.get(pk=answer.headers["x-request-id"])
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens, row.reasoning_tokens) == (100, 60, 40, 25)
    assert row.budget_usd == usd(100, 40, 60)
    assert not row.is_estimated


# Keys and lists


def test_a_vertex_key_is_validated_by_a_token_and_the_list_of_models(world: World, vertex: LLMProvider) -> None:
    opinion = probes.opinion(provider=vertex, secret=secret())
    assert opinion.says is probes.Says.YES
    assert paths(world) == ["/token", "/v1beta1/publishers/google/models"]


@pytest.mark.parametrize(
    ("key", "says", "words"),
    [
        ("{}", probes.Says.NO, "no service account"),
        ("refused", probes.Says.NO, "Google refuses this service account"),
        ("down", probes.Says.LATER, "could not be reached"),
        ("forbidden", probes.Says.NO, "HTTP 403"),
    ],
)
def test_what_is_wrong_with_a_vertex_key_is_said_in_words(
    world: World, vertex: LLMProvider, key: str, says: probes.Says, words: str
) -> None:
    if key == "refused":
        world.gemini.script("/token", Behaviour(status=400, error_body={"error": "invalid_grant"}))
    elif key == "down":
        world.gemini.script("/token", Behaviour(status=503))
    elif key == "forbidden":
        world.gemini.script("/v1/models", Behaviour(status=403))
    opinion = probes.opinion(provider=vertex, secret=cast.Secret("{}") if key == "{}" else secret())
    assert opinion.says is says
    assert words in opinion.error


def test_a_gemini_key_that_is_refused_with_a_400_is_told_so(world: World) -> None:
    world.gemini.revoke("AQ.other-0123456789")
    provider = world.vendors["google"].provider
    opinion = probes.opinion(provider=provider, secret=cast.Secret("AQ.other-0123456789"))
    assert (opinion.says, "HTTP 400" in opinion.error) == (probes.Says.NO, True)
    assert probes.opinion(provider=provider, secret=cast.Secret(PLATFORM_KEY)).says is probes.Says.YES


def test_googles_list_is_read_page_by_page_with_its_limits(world: World) -> None:
    embedder = google_wire.model("e") | {"supportedGenerationMethods": ["embedContent"]}
    painter = google_wire.model("p") | {"supportedGenerationMethods": ["predict"]}
    first = {"models": [google_wire.model("m"), embedder], "nextPageToken": "a/b&c"}
    world.gemini.once("/v1/models", Behaviour(listing=first), Behaviour(listing={"models": [painter, {"x": 1}]}))
    listed = model_list.read(world.vendors["google"].provider)
    assert [(one.model_id, one.unusable) for one in listed] == [
        ("m", ""),
        ("e", ""),
        ("p", "It is for image_generation; served are chat and embeddings."),
        ("(entry 4)", "It has no id."),
    ]
    assert listed[0].facts == {
        "context_window": 1_048_576, "max_output_tokens": 65_536, "kind": "chat", "display_name": "m",
    }  # fmt: skip
    assert listed[1].facts["kind"] == "embedding"


def test_vertexs_list_is_read_too(world: World, vertex: LLMProvider) -> None:
    world.gemini.script("m-2", Behaviour())
    assert [one.model_id for one in model_list.read(vertex)] == ["m-2"]


def test_vectors_come_over_the_wire_and_what_nobody_counted_is_estimated(world: World, customer: Customer) -> None:
    world.model(world.vendors["google"].provider, "gemini-e", kind="embedding", output=None, cached=None)
    world.refresh()
    texts = ["one two", "three"]
    answer = customer.openai.embeddings.create(model="fakegoogle/gemini-e", input=texts, dimensions=4)
    assert [row.embedding for row in answer.data] == [pytest.approx(openai_wire.vector(text, 4)) for text in texts]
    row = customer.row()
    assert (row.is_estimated, row.budget_usd) == (True, usd(answer.usage.prompt_tokens))
    assert row.budget_usd > 0
