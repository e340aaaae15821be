"""OpenAI's legacy completions: what is sent, whole answers and the chunks of streams, all in the legacy shape."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from llm.calls import Call, StreamEvent
from llm.errors import InvalidRequest, UpstreamFailed, UpstreamInvalid, UpstreamRateLimited
from llm.providers import registry
from llm.providers.chunks import output_bytes
from tests.llm.test_provider_registry import a_call

ADAPTER = registry.adapter("openai", "completion")
USAGE = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


def a_request(body: dict[str, Any] | None = None, **how: Any) -> Call:
    return replace(a_call({"prompt": "Once"} | (body or {}), **how), kind="completion")


def built(body: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:
    return dict(orjson.loads(ADAPTER.build(a_request(body, **how)).body))


def test_a_request_keeps_its_shape_and_unknown_fields() -> None:
    given = {"suffix": "end", "echo": True, "logprobs": 2, "max_tokens": 9, "stop": None, "vendor_knob": 1, "n": 2}
    upstream = ADAPTER.build(a_request(given))
    assert upstream.url == "https://vendor.example/v1/completions"
    assert orjson.loads(upstream.body) == {
        "prompt": "Once", "suffix": "end", "echo": True, "logprobs": 2, "vendor_knob": 1, "n": 2,
        "model": "m-1", "max_tokens": 1000,
    }  # fmt: skip
    chat_cap = {"token_cap_field": "max_completion_tokens"}
    assert built(quirks=chat_cap) == {"prompt": "Once", "model": "m-1", "max_tokens": 1000}
    assert built(temperature="0.7")["temperature"] == 0.7


def test_a_stream_asks_for_usage_where_the_vendor_can_be_asked() -> None:
    assert built(stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in built(stream=True, quirks={"supports_stream_usage": False})


def test_what_the_vendor_refuses_is_dropped_and_what_no_hold_covers_is_refused() -> None:
    upstream = ADAPTER.build(a_request({"suffix": "x"}, quirks={"unsupported_params": ["suffix"]}))
    assert upstream.dropped == ("suffix",)
    assert built({"n": 2, "best_of": 2})["best_of"] == 2
    with pytest.raises(InvalidRequest) as caught:
        built({"n": 2, "best_of": 3})
    assert caught.value.param == "best_of"


def test_a_whole_answer() -> None:
    raw = {
        "id": "cmpl-1", "object": "text_completion", "created": 1_700_000_000, "model": "m-1-2", "usage": USAGE,
        "choices": [{"text": " upon", "index": 0, "logprobs": None, "finish_reason": "length"}],
        "system_fingerprint": "f",
    }  # fmt: skip
    completed = ADAPTER.parse_response(orjson.dumps(raw), a_request())
    assert completed.body == raw
    assert completed.usage == USAGE
    assert output_bytes(completed.body) == 5


def test_what_a_whole_answer_lacks_is_filled_in() -> None:
    found = ADAPTER.parse_response(b'{"choices":[{"text":"a"},{"text":"b","finish_reason":"eos"}]}', a_request())
    body = found.body
    assert (body["id"][:5], body["object"], type(body["created"])) == ("cmpl-", "text_completion", int)
    assert [(one["index"], one["finish_reason"]) for one in body["choices"]] == [(0, "stop"), (1, "stop")]
    assert found.usage is None


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[5]}', b'{"choices":{"a":1}}',
     b'{"choices":[{"text":5}]}'],
)  # fmt: skip
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        ADAPTER.parse_response(body, a_request())


def read(*payloads: bytes) -> list[StreamEvent]:
    reader = ADAPTER.reader(a_request(stream=True))
    return [event for payload in payloads for event in reader.read(payload)]


def test_a_stream_passes_through_untouched() -> None:
    head = b'{"id":"c","object":"text_completion","created":1,"model":"m","choices":['
    payloads = [
        head + b'{"text":"h\xc3\xa9","index":0,"logprobs":null,"finish_reason":null}]}',
        head + b'{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}]}',
        head + b'],"usage":' + orjson.dumps(USAGE) + b"}",
    ]
    events = read(*payloads, b"[DONE]")
    assert [event.raw for event in events] == [*payloads, None]
    assert [event.good for event in events] == [True, True, False, False]
    assert [event.output_bytes for event in events] == [3, 0, 0, 0]
    assert [event.usage for event in events] == [None, None, USAGE, USAGE]
    assert [event.done for event in events] == [False] * 3 + [True]


def test_odd_chunks_are_repaired() -> None:
    [event] = read(b'{"choices":[{"text":"a","finish_reason":"eos"}]}')
    assert event.raw is None
    assert event.chunk == {"choices": [{"text": "a", "finish_reason": "stop", "index": 0}]}
    assert read(b'{"ping":1}') == []


@pytest.mark.parametrize("payload", [b"{", b"[]", b'{"choices":5}', b'{"choices":[{"text":1}]}'])
def test_what_is_no_chunk_is_refused(payload: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        read(payload)


def test_errors_under_200_are_errors() -> None:
    with pytest.raises(UpstreamRateLimited):
        read(b'{"error":{"code":429}}')
    with pytest.raises(UpstreamRateLimited):
        ADAPTER.parse_response(b'{"error":{"code":429}}', a_request())
    with pytest.raises(UpstreamFailed):
        read(b'{"choices":[{"text":"","finish_reason":"error"}]}')
