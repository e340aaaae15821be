"""`/v1/embeddings` and `/v1/completions`: what they may say, how large that is, and how they are answered."""

import base64
import struct
import time
import uuid
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from llm.calls import Completed, StreamEvent
from llm.engine.channel import PING, Ending
from llm.engine.completion import Reply
from llm.errors import InvalidRequest, UpstreamFailed
from llm.routing import filters
from llm.types import ChatRequest, Model
from llm.wire import completions, embeddings
from llm.wire.completion_stream import CompletionStream
from llm.wire.request import Incoming
from tests.llm.test_provider_registry import REQUEST_ID, a_call

Json = dict[str, Any]


def parsed(wire: Any, **body: Any) -> ChatRequest:
    incoming = Incoming(id=uuid.uuid4(), headers={}, ip=None, received=time.perf_counter())
    request: ChatRequest = wire.parse(orjson.dumps({"model": "m", **body}), incoming)
    return request


def refusal(wire: Any, **body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parsed(wire, **body)
    return caught.value


def replied(body: Json, usage: Json) -> Reply:
    nobody: Any = None
    return Reply(
        request_id=REQUEST_ID,
        target=a_call().target,
        was_fallback=False,
        overhead_ms=0.0,
        standings=(),
        dropped=(),
        completed=Completed(body=body, usage=None),
        usage=usage,
        journey=nobody,
    )


# --- embeddings -------------------------------------------------------------------------------------------------------


def test_each_input_may_fill_a_context_window_of_its_own() -> None:
    size = parsed(embeddings, input=["word " * 1000] * 10).size
    assert size.text_bytes == 50_000
    assert size.bound(8_192, "openai") == 50_000 + 10 * 64  # beyond one window, within ten
    assert size.bound(100, "openai") == 1_000
    assert 9_000 < size.estimate < 12_000


def test_routing_looks_at_the_longest_input() -> None:
    request = parsed(embeddings, input=["a", "word " * 1000, "b"])
    assert 900 < request.route.input_tokens < 1_200
    assert (request.route.kind, request.stream, request.route.needs) == ("embedding", False, frozenset())


def test_token_ids_are_counted_one_by_one() -> None:
    assert parsed(embeddings, input=[1, 2, 3]).size.text_bytes == 3
    size = parsed(embeddings, input=[[1, 2, 3], [4, 5]]).size
    assert (size.text_bytes, size.inputs, size.longest) == (5, 2, 4)


def test_unknown_fields_may_go_with_every_input() -> None:
    plain, more = parsed(embeddings, input=["a", "b"]).size, parsed(embeddings, input=["a", "b"], knob="x" * 100).size
    assert more.text_bytes - plain.text_bytes == 2 * len('{"knob":""}' + "x" * 100)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [""]}, "input[0]"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 5]}, "input"),
        ({"input": ["a", [5]]}, "input"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [[1], ["a"]]}, "input[1]"),
        ({"input": [-1]}, "input"),
        ({"input": [True]}, "input"),
        ({"input": [2**31]}, "input"),
        ({"input": [{"text": "a"}]}, "input[0]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 5.0}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "encoding_format": ["float"]}, "encoding_format"),
        ({"input": "a", "stream": True}, "stream"),
        ({"input": "a", "user": 5}, "user"),
        ({"input": "a", "model": ""}, "model"),
    ],
)
def test_a_wrong_field_of_embeddings_is_named(body: Json, param: str) -> None:
    assert refusal(embeddings, **body).param == param


@pytest.mark.parametrize("wanted", ["float", "base64", None])
def test_vectors_are_numbers_or_base64_of_float32_little_endian(wanted: str | None) -> None:
    request = parsed(embeddings, input=["a", "b"], encoding_format=wanted)
    vectors = [[0.5, -0.25], [1.0, 0.1]]
    rows = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(vectors)]
    usage = {"prompt_tokens": 2, "total_tokens": 2, "completion_tokens": 0, "cost": orjson.Fragment("0.0000002")}
    body = orjson.loads(embeddings.body_of(request, replied({"data": rows}, usage)))
    if wanted == "base64":
        packed = [base64.b64decode(row["embedding"]) for row in body["data"]]
        assert packed == [struct.pack("<2f", *one) for one in vectors]
    else:
        assert [row["embedding"] for row in body["data"]] == vectors
    assert [row["index"] for row in body["data"]] == [0, 1]
    assert (body["object"], body["model"]) == ("list", "m-1")
    assert body["usage"] == {"prompt_tokens": 2, "total_tokens": 2, "cost": 2e-7}


# --- legacy completions -----------------------------------------------------------------------------------------------


def test_prompts_are_answered_one_by_one_and_each_may_be_as_long_as_the_cap() -> None:
    request = parsed(completions, prompt=["a", "b"], n=3)
    route = request.route
    assert (route.kind, route.choices, route.max_tokens) == ("completion", 6, 16)
    assert (request.size.inputs, request.size.messages) == (2, 2)
    assert parsed(completions, prompt="a", max_tokens=7).route.max_tokens == 7


def test_the_body_travels_without_what_says_nothing() -> None:
    request = parsed(completions, prompt="a", echo=False, suffix=None, best_of=1, stop="\n", knob=3)
    assert request.body == {"prompt": "a", "stop": "\n", "knob": 3}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "echo": True}, "echo"),
        ({"prompt": "a", "echo": 1}, "echo"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
        ({"prompt": "a", "logprobs": 6}, "logprobs"),
        ({"prompt": "a", "logprobs": True}, "logprobs"),
        ({"prompt": "a", "n": 0}, "n"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "web_search_options": {}}, "web_search_options"),
    ],
)
def test_a_wrong_field_of_a_completion_is_named(body: Json, param: str) -> None:
    assert refusal(completions, **body).param == param


def test_legacy_completions_are_for_the_models_that_serve_them() -> None:
    chats, serves = a_call().target.model, a_call(quirks={"legacy_completions": True}).target.model
    assert [model.serves("completion") for model in (chats, serves)] == [False, True]
    assert [model.serves("chat") for model in (chats, serves)] == [True, True]
    assert "/v1/chat/completions" in str(_capability(chats))
    assert _capability(serves) is None


def _capability(model: Model) -> Any:
    question: Any = SimpleNamespace(request=parsed(completions, prompt="a").route)
    entry: Any = SimpleNamespace(model=model)
    return filters.capability(question, entry)


def chunk(text: str, finish: str | None = None, index: int = 0, **more: Any) -> StreamEvent:
    choice = {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
    body = {"id": "c", "object": "text_completion", "created": 5, "model": "m", "choices": [choice], **more}
    return StreamEvent(chunk=body, raw=orjson.dumps(body), good=True)


def streamed(*events: StreamEvent, ending: Ending | None = None, usage: bool = False) -> list[Any]:
    stream = CompletionStream(request_id=REQUEST_ID, model="m-1", include_usage=usage)
    raw = b"".join(stream.render([event]) for event in events)
    raw += stream.finish(ending or Ending(usage={"prompt_tokens": 1}))
    blocks = raw.split(b"\n\n")
    assert blocks.pop() == b""
    return [block if block in (b"data: [DONE]", b": ping") else orjson.loads(block[6:]) for block in blocks]


def test_a_text_chunk_that_obeys_is_sent_on_byte_for_byte() -> None:
    event = chunk("Hi")
    assert event.raw is not None
    stream = CompletionStream(request_id=REQUEST_ID, model="m-1", include_usage=False)
    assert stream.render([event]) == b"data: " + event.raw + b"\n\n"


def test_one_name_one_finish_each_and_usage_only_when_asked() -> None:
    events = [chunk("Hi", usage={"x": 1}), PING, chunk("Ho", index=1, id="other"), chunk("", "length"), chunk("late")]
    *frames, done = streamed(*events)
    assert done == b"data: [DONE]"
    assert frames.pop(1) == b": ping"
    assert {(one["id"], one["created"], one["model"]) for one in frames} == {("c", 5, "m")}
    assert [(one["choices"][0]["index"], one["choices"][0]["finish_reason"]) for one in frames] == [
        (0, None),
        (1, None),
        (0, "length"),
        (1, "stop"),
    ]
    assert all("usage" not in one for one in frames)
    *_, last, _ = streamed(chunk("Hi", "stop"), usage=True)
    assert (last["choices"], last["usage"]) == ([], {"prompt_tokens": 1})


def test_a_completion_that_breaks_ends_in_its_error() -> None:
    *_, last = streamed(chunk("Hi"), ending=Ending(error=UpstreamFailed("It broke.")))
    assert last["error"]["code"] == "upstream_error"
