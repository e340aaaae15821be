"""Embeddings through Gemini's API and Vertex AI's."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from llm.calls import Call
from llm.engine import attempt, http
from llm.errors import InvalidRequest, UpstreamInvalid, UpstreamRejected
from llm.providers import registry
from llm.providers.google_embeddings import ADAPTER
from tests.fakes import FakeProvider, openai_wire
from tests.llm.test_provider_registry import a_call

BODY: dict[str, Any] = {"model": "x", "input": ["one", "two"]}


def embedding(
    body: dict[str, Any] | None = None, *, vertex: bool = False, model_id: str = "gemini-embedding-001"
) -> Call:
    call = a_call(
        BODY if body is None else body,
        dialect="google",
        auth_type="oauth" if vertex else "api_key",
        quirks={"project": "p-1", "location": "global"} if vertex else None,
    )
    model = replace(call.target.model, model_id=model_id, kind="embedding")
    return replace(call, target=replace(call.target, model=model), kind="embedding")


def sent(call: Call) -> tuple[str, Any, tuple[str, ...]]:
    upstream = ADAPTER.build(call)
    return upstream.url.removeprefix("https://vendor.example/v1/"), orjson.loads(upstream.body), upstream.dropped


def test_texts_go_in_one_batch_with_the_size_that_is_wanted() -> None:
    call = embedding(BODY | {"dimensions": 768, "encoding_format": "base64", "user": "u"})
    assert registry.adapter("google", "embedding") is ADAPTER
    named = {"model": "models/gemini-embedding-001", "outputDimensionality": 768}
    assert sent(call) == (
        "models/gemini-embedding-001:batchEmbedContents",
        {"requests": [named | {"content": {"parts": [{"text": text}]}} for text in ("one", "two")]},
        ("user",),
    )
    assert sent(embedding({"input": "one"}))[1] == {
        "requests": [{"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "one"}]}}]
    }


def test_older_models_of_vertex_are_asked_to_predict() -> None:
    path = "projects/p-1/locations/global/publishers/google/models/"
    call = embedding(BODY | {"dimensions": 256}, vertex=True, model_id="text-embedding-005")
    assert sent(call)[:2] == (
        path + "text-embedding-005:predict",
        {"instances": [{"content": "one"}, {"content": "two"}], "parameters": {"outputDimensionality": 256}},
    )
    assert sent(embedding(vertex=True))[0] == path + "gemini-embedding-001:batchEmbedContents"


def test_vectors_come_back_in_order_and_without_a_count_there_is_no_usage() -> None:
    answer = {"embeddings": [{"values": [0.5, -1]}, {"values": [0.25, 2]}]}
    completed = ADAPTER.parse_response(orjson.dumps(answer), embedding())
    assert completed.usage is None
    assert completed.body == {
        "object": "list",
        "model": "gemini-embedding-001",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -1]},
            {"object": "embedding", "index": 1, "embedding": [0.25, 2]},
        ],
    }


def test_tokens_that_were_counted_are_the_usage() -> None:
    whole = {"embeddings": [{"values": [1]}, {"values": [2]}], "usageMetadata": {"promptTokenCount": 9}}
    usage = {"prompt_tokens": 9, "total_tokens": 9}
    assert ADAPTER.parse_response(orjson.dumps(whole), embedding()).body["usage"] == usage
    call = embedding(vertex=True, model_id="text-embedding-005")
    each = [{"embeddings": {"values": [1.0], "statistics": {"token_count": count, "truncated": False}}}
            for count in (4.0, 5)]  # fmt: skip
    assert ADAPTER.parse_response(orjson.dumps({"predictions": each}), call).usage == usage
    each[1]["embeddings"]["statistics"] = {}
    assert ADAPTER.parse_response(orjson.dumps({"predictions": each}), call).usage is None


@pytest.mark.parametrize("given", [None, [], [[1, 2]], [1, 2], ["a", 5], ["x"] * 101])
def test_what_is_no_text_or_too_many_is_refused(given: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ADAPTER.build(embedding({"input": given}))
    assert caught.value.param == "input"


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"embeddings":[{"values":[1]}]}', b'{"embeddings":[1,2]}',
     b'{"embeddings":[{"values":[]},{"values":[1]}]}', b'{"embeddings":[{"values":["1"]},{"values":[1]}]}'],
)  # fmt: skip
def test_what_is_no_list_of_vectors_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        ADAPTER.parse_response(body, embedding())


@pytest.mark.parametrize("model_id", ["gemini-embedding-001", "text-embedding-005"])
async def test_vectors_come_through_a_socket(fake: FakeProvider, model_id: str) -> None:
    given = embedding(BODY | {"dimensions": 3}, vertex=True, model_id=model_id)
    provider = replace(given.target.model.provider, base_url=fake.base_url)
    model = replace(given.target.model, provider=provider)
    client, progress = http.Client(), attempt.Progress()
    done = await attempt.complete(client, replace(given, target=replace(given.target, model=model)), progress)
    await client.aclose()
    assert [row["embedding"] for row in done.body["data"]] == [openai_wire.vector(text, 3) for text in ("one", "two")]
    counted = None if model_id.startswith("gemini") else {"prompt_tokens": 2, "total_tokens": 2}
    assert (done.usage, progress.finished, progress.produced_bytes) == (counted, True, 0)
    assert [entry.prompt_tokens for entry in fake.bill()] == [2]


def test_an_error_under_200_is_an_error() -> None:
    with pytest.raises(UpstreamRejected):
        ADAPTER.parse_response(b'{"error":{"code":400,"message":"No."}}', embedding())
