"""Cohere's embeddings for OpenAI's body, and back."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from llm.calls import Call, Usage
from llm.errors import InvalidRequest, UpstreamFailed, UpstreamInvalid
from llm.providers import registry
from llm.providers.usage import from_openai
from tests.llm.test_provider_cohere import recorded
from tests.llm.test_provider_registry import a_call

ADAPTER = registry.adapter("cohere", "embedding")
TWO = ["hello", "goodbye"]


def a_request(quirks: dict[str, Any] | None = None, **body: Any) -> Call:
    call = a_call({"input": TWO} | body, dialect="cohere", base_url="https://api.cohere.com/v2", quirks=quirks)
    return replace(call, kind="embedding")


def built(**body: Any) -> dict[str, Any]:
    return dict(orjson.loads(ADAPTER.build(a_request(**body)).body))


def changed(**changes: Any) -> bytes:
    return orjson.dumps(orjson.loads(recorded("embed.json")) | changes)


def test_texts_are_documents_unless_told_and_too_long_ones_are_not_cut() -> None:
    upstream = ADAPTER.build(a_request(encoding_format="base64", user="ada"))
    assert upstream.url == "https://api.cohere.com/v2/embed"
    assert orjson.loads(upstream.body) == {
        "model": "m-1",
        "texts": TWO,
        "input_type": "search_document",
        "embedding_types": ["float"],
        "truncate": "NONE",
    }
    assert upstream.dropped == ("user",)
    own = built(input="one", input_type="search_query", truncate="START")
    assert (own["texts"], own["input_type"], own["truncate"]) == (["one"], "search_query", "START")


def test_dimensions_where_the_model_takes_them() -> None:
    assert built(dimensions=256, quirks={"dimensions": True})["output_dimension"] == 256
    with pytest.raises(InvalidRequest) as caught:
        built(dimensions=256)
    assert (caught.value.param, caught.value.code) == ("dimensions", "unsupported_parameter")


@pytest.mark.parametrize(
    ("given", "param"),
    [([1, 2, 3], "input"), ([[1, 2], [3]], "input"), (["a"] * 97, "input"), ([], "input"), (None, "input"),
     (["a", None], "input[1]"), (["a", []], "input[1]")],
    ids=str,
)  # fmt: skip
def test_inputs_that_it_does_not_take(given: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        built(input=given)
    assert caught.value.param == param


def test_vectors_come_in_order_with_what_is_billed() -> None:
    completed = ADAPTER.parse_response(recorded("embed.json"), a_request())
    usage = {"prompt_tokens": 2, "total_tokens": 2}
    assert completed.body == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.016296387, -0.008354187, -0.04699707]},
            {"object": "embedding", "index": 1, "embedding": [0.04663086, -0.023239136, 0.008163452]},
        ],
        "model": "m-1",
        "usage": usage,
    }
    assert from_openai(completed.usage, context_window=512) == Usage(prompt_tokens=2, completion_tokens=0)
    assert ADAPTER.parse_response(changed(meta={}), a_request()).usage is None


@pytest.mark.parametrize(
    "found",
    [None, {}, {"float": None}, {"float": [[0.1]]}, {"float": [[0.1], [0.1], [0.1]]}, {"float": [[0.1], []]},
     {"float": [[0.1], ["x"]]}, {"float": [[0.1], None]}, {"int8": [[1], [2]]}],
    ids=str,
)  # fmt: skip
def test_anything_but_a_vector_for_each_input_is_no_answer(found: Any) -> None:
    with pytest.raises(UpstreamInvalid):
        ADAPTER.parse_response(changed(embeddings=found), a_request())


def test_an_error_under_200_is_an_error() -> None:
    with pytest.raises(UpstreamFailed):
        ADAPTER.parse_response(b'{"message":"internal server error"}', a_request())
