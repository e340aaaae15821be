"""Embeddings at Bedrock: OpenAI's request to InvokeModel, and its vectors back."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from llm.calls import Upstream
from llm.errors import InvalidRequest, UpstreamInvalid
from llm.providers import registry
from llm.providers.usage import from_openai
from tests.llm.test_provider_registry import KEY, a_call

ADAPTER = registry.adapter("bedrock", "embedding")
TITAN, COHERE = "amazon.titan-embed-text-v2:0", "cohere.embed-v4:0"


def call(body: dict[str, Any], model: str = TITAN, **how: Any) -> Any:
    return replace(a_call({"model": "x"} | body, dialect="bedrock", model_id=model, **how), kind="embedding")


def sent(body: dict[str, Any], model: str = TITAN, **how: Any) -> Upstream:
    return ADAPTER.build(call(body, model, **how))


def test_titan_is_asked_for_one_text() -> None:
    upstream = sent({"input": "Hé", "dimensions": 256, "encoding_format": "base64", "user": "u", "task": None})
    assert upstream.url == "https://vendor.example/v1/model/amazon.titan-embed-text-v2%3A0/invoke"
    assert upstream.body == '{"inputText":"Hé","dimensions":256}'.encode()
    assert upstream.headers["authorization"] == f"Bearer {KEY}"
    assert upstream.dropped == ("user",)
    assert sent({"input": ["one"]}).body == b'{"inputText":"one"}'


@pytest.mark.parametrize("given", [["a", "b"], [], [1, 2, 3], [[1, 2]], None, 5, ["a", 1]])
def test_anything_but_one_text_is_refused_and_named(given: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sent({"input": given})
    assert caught.value.param == "input"


def test_titans_vector_is_a_list_of_one_with_its_tokens() -> None:
    body = b'{"embedding":[0.25,-1,0.5],"embeddingsByType":{"float":[0.25,-1,0.5]},"inputTextTokenCount":3}'
    completed = ADAPTER.parse_response(body, call({"input": "Hé"}))
    assert completed.body == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1, 0.5]}],
        "model": TITAN,
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    usage = from_openai(completed.usage, context_window=8192)
    assert usage is not None
    assert usage.meters() == {"input": 3}


def test_cohere_takes_many_texts_and_says_no_tokens() -> None:
    upstream = sent({"input": ["a", "b"], "dimensions": 512}, COHERE)
    assert orjson.loads(upstream.body) == {
        "texts": ["a", "b"],
        "input_type": "search_document",
        "output_dimension": 512,
    }
    query = sent({"input": "a", "input_type": "search_query"}, "arn:aws:x", quirks={"embeddings": "cohere"})
    assert orjson.loads(query.body) == {"texts": ["a"], "input_type": "search_query"}
    assert query.dropped == ()
    with pytest.raises(InvalidRequest, match="at most 96 texts"):
        sent({"input": ["a"] * 97}, COHERE)
    for embeddings in ([[1.0], [2.0]], {"float": [[1.0], [2.0]]}):
        raw = orjson.dumps({"id": "x", "embeddings": embeddings, "response_type": "embeddings_floats"})
        completed = ADAPTER.parse_response(raw, call({"input": ["a", "b"]}, COHERE))
        assert [row["embedding"] for row in completed.body["data"]] == [[1.0], [2.0]]
        assert completed.usage is None  # then it is estimated, never zero


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"embedding":[]}', b'{"embedding":["a"]}', b'{"embedding":null}',
     b'{"embedding":[true]}', b'{"message":"x"}'],
)  # fmt: skip
def test_what_holds_no_vector_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        ADAPTER.parse_response(body, call({"input": "a"}))


def test_fewer_vectors_than_texts_are_refused() -> None:
    with pytest.raises(UpstreamInvalid):
        ADAPTER.parse_response(b'{"embeddings":[[1.0]]}', call({"input": ["a", "b"]}, COHERE))
    for count in (-1, "3", None, True):
        body = orjson.dumps({"embedding": [1.0], "inputTextTokenCount": count})
        assert ADAPTER.parse_response(body, call({"input": "a"})).usage is None
