"""Embeddings through the engine's own client to a vendor on a socket, in each dialect: same vectors, same bill."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from llm.calls import Call, Completed
from llm.engine import attempt
from llm.engine.http import Client
from llm.errors import UpstreamInvalid, UpstreamRateLimited, UpstreamRejected
from tests.fakes import Behaviour, FakeProvider
from tests.fakes.openai_wire import vector
from tests.llm.test_provider_registry import a_call

TEXTS = ["a b c", "Zażółć gęślą"]
PATHS = {"openai": "/v1/embeddings", "cohere": "/v2/embed"}
QUIRKS = {"dimensions": True}
DIALECTS = pytest.mark.parametrize("dialect", PATHS)


def a_request(dialect: str, fake: FakeProvider, quirks: dict[str, Any], **body: Any) -> Call:
    version = PATHS[dialect].split("/")[1]
    call = a_call(
        {"input": TEXTS} | body, dialect=dialect, quirks=QUIRKS | quirks, base_url=f"{fake.root_url}/{version}"
    )
    return replace(call, kind="embedding")


def answered(
    dialect: str, fake: FakeProvider, quirks: dict[str, Any] | None = None, **body: Any
) -> tuple[Completed, attempt.Progress]:
    async def ask() -> tuple[Completed, attempt.Progress]:
        client, progress = Client(), attempt.Progress()
        try:
            call = a_request(dialect, fake, quirks or {}, **body)
            return await attempt.complete(client, call, progress), progress
        finally:
            await client.aclose()

    return asyncio.run(ask())


@DIALECTS
def test_vectors_arrive_in_order_and_are_billed_as_the_vendor_bills_them(fake: FakeProvider, dialect: str) -> None:
    completed, progress = answered(dialect, fake)
    assert [row["embedding"] for row in completed.body["data"]] == [vector(text, 8) for text in TEXTS]
    assert completed.usage == progress.usage == {"prompt_tokens": 5, "total_tokens": 5}
    assert progress.finished
    [entry] = fake.bill()
    assert (entry.path, entry.prompt_tokens, entry.completion_tokens) == (PATHS[dialect], 5, 0)


@DIALECTS
def test_shorter_vectors_where_the_model_has_them(fake: FakeProvider, dialect: str) -> None:
    completed, _ = answered(dialect, fake, dimensions=3)
    assert [len(row["embedding"]) for row in completed.body["data"]] == [3, 3]


def test_asked_for_as_base64_they_are_the_same_numbers(fake: FakeProvider) -> None:
    plain, _ = answered("openai", fake)
    packed, _ = answered("openai", fake, {"embedding_base64": True})
    assert [request.body.get("encoding_format") for request in fake.requests] == [None, "base64"]
    assert packed.body["data"] == plain.body["data"]


@DIALECTS
def test_failures_are_told_as_everywhere(fake: FakeProvider, dialect: str) -> None:
    for behaviour, error in (
        (Behaviour(status=429), UpstreamRateLimited),
        (Behaviour(status=400), UpstreamRejected),
        (Behaviour(bad_json=True), UpstreamInvalid),
    ):
        fake.script("m-1", behaviour)
        with pytest.raises(error):
            answered(dialect, fake)
