"""Embeddings in the OpenAI dialect: exact requests, and a vector for each input in order, however they come."""

import base64
import struct
from dataclasses import replace
from typing import Any

import orjson
import pytest

from llm.calls import Call
from llm.errors import InvalidRequest, UpstreamInvalid, UpstreamRateLimited
from llm.providers import registry
from tests.fakes import openai_wire
from tests.fakes.behaviour import Behaviour
from tests.llm.test_provider_registry import KEY, a_call

ADAPTER = registry.adapter("openai", "embedding")
TWO = ["a b", "c"]


def a_request(quirks: dict[str, Any] | None = None, **body: Any) -> Call:
    return replace(a_call({"input": TWO} | body, quirks=quirks), kind="embedding")


def built(**body: Any) -> dict[str, Any]:
    return dict(orjson.loads(ADAPTER.build(a_request(**body)).body))


def row(index: Any, embedding: Any) -> dict[str, Any]:
    return {"object": "embedding", "index": index, "embedding": embedding}


def answer(*rows: Any, **changes: Any) -> bytes:
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return orjson.dumps({"object": "list", "data": list(rows), "model": "m-1-2", "usage": usage} | changes)


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def test_a_plain_request_asks_for_numbers_and_passes_unknown_fields_through() -> None:
    upstream = ADAPTER.build(a_request(encoding_format="base64", user="ada", input_type="query"))
    assert upstream.url == "https://vendor.example/v1/embeddings"
    assert upstream.headers["authorization"] == f"Bearer {KEY}"
    assert upstream.headers["accept"] == "application/json"
    assert orjson.loads(upstream.body) == {"model": "m-1", "input": TWO, "user": "ada", "input_type": "query"}
    assert upstream.dropped == ()


def test_quirks() -> None:
    assert built(quirks={"embedding_base64": True})["encoding_format"] == "base64"
    assert built(quirks={"token_input": True}, input=[1, 2])["input"] == [[1, 2]]
    assert built(quirks={"token_input": True}, input=[[1, 2], [3]])["input"] == [[1, 2], [3]]
    assert built(quirks={"dimensions": True}, dimensions=64)["dimensions"] == 64
    renamed = built(quirks={"dimensions": "output_dimension"}, dimensions=64)
    assert (renamed["output_dimension"], "dimensions" in renamed) == (64, False)
    upstream = ADAPTER.build(a_request(quirks={"unsupported_params": ["user"]}, user="ada"))
    assert (orjson.loads(upstream.body), upstream.dropped) == ({"model": "m-1", "input": TWO}, ("user",))


@pytest.mark.parametrize(
    ("body", "param"),
    [({"dimensions": 64}, "dimensions"), ({"input": [1, 2]}, "input"), ({"input": [[1], [2]]}, "input"),
     ({"input": []}, "input"), ({"input": {"a": 1}}, "input"), ({"input": ["a", 5]}, "input[1]"),
     ({"input": ["a", "b", "c"], "quirks": {"most_inputs": 2}}, "input"), ({"input": "\ud800"}, "input")],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_said_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        built(**body)
    assert caught.value.param == param


def test_vectors_come_out_as_numbers_in_order_of_the_inputs() -> None:
    completed = ADAPTER.parse_response(answer(row(1, [0.5, 1]), row(0, packed(0.25, -2))), a_request())
    assert completed.body == {
        "object": "list",
        "data": [row(0, [0.25, -2.0]), row(1, [0.5, 1.0])],
        "model": "m-1-2",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    assert completed.usage == {"prompt_tokens": 3, "total_tokens": 3}


def test_both_encodings_of_the_fake_give_the_same_vectors() -> None:
    found = []
    for encoding in ("float", "base64"):
        body = {"model": "m-1", "input": TWO, "encoding_format": encoding}
        raw = orjson.dumps(openai_wire.embeddings(body, TWO, Behaviour(), 3))
        found.append([one["embedding"] for one in ADAPTER.parse_response(raw, a_request()).body["data"]])
    assert found[0] == found[1] == [openai_wire.vector(one, 8) for one in TWO]


def test_rows_without_numbers_are_in_order_and_usage_may_be_missing() -> None:
    completed = ADAPTER.parse_response(answer({"embedding": [1]}, {"embedding": [2]}, usage=None), a_request())
    assert [one["embedding"] for one in completed.body["data"]] == [[1.0], [2.0]]
    assert completed.usage is None
    assert "usage" not in completed.body


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", answer(), answer(row(0, [1])), answer(row(0, [1]), row(0, [1])),
     answer(row(0, [1]), row(2, [1])), answer(row(0, [1]), row(None, [1])), answer(row(0, [1]), row(1, [])),
     answer(row(0, [1]), row(1, ["x"])), answer(row(0, [1]), row(1, "!!")), answer(row(0, [1]), row(1, "AAA=")),
     answer(row(0, [1]), row(1, packed(float("nan")))), answer(row(0, [1]), row(1, None)), answer(row(0, [1]), 5),
     answer(row(0, [1]), row(1, [1]), row(2, [1])), answer(row(0, [1]), row(True, [1]))],
)  # fmt: skip
def test_anything_but_a_vector_for_each_input_is_no_answer(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        ADAPTER.parse_response(body, a_request())


def test_an_error_under_200_is_an_error() -> None:
    with pytest.raises(UpstreamRateLimited):
        ADAPTER.parse_response(b'{"error":{"code":429}}', a_request())
