"""The fake provider against a plain HTTP client: what it says, how it fails, and what it bills."""

from __future__ import annotations

import base64
import json
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from . import Behaviour, FakeProvider, ProviderProcess

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "What is six times seven?"}]}
STREAM: dict[str, Any] = ASK | {"stream": True, "stream_options": {"include_usage": True}}
CLAUDE: dict[str, Any] = ASK | {"max_tokens": 100}
VERSION = {"anthropic-version": "2023-06-01"}
TOOLS: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "add"}}]}
PROMPT = 3 + 5  # one message, five words


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that must leave neither thread nor socket behind."""
    with FakeProvider() as running:
        yield running
    assert running.open_connections == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "fake-provider"]


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[httpx.Client]:
    """A keep-alive client."""
    with httpx.Client(base_url=provider.base_url, headers={"authorization": "Bearer sk-secret-1234"}) as one:
        yield one


def frames(raw: bytes) -> list[Any]:
    """The JSON of each `data:` event, `[DONE]` as it is."""
    found = []
    for event in raw.decode().replace("\r\n", "\n").split("\n\n"):
        data = [line[5:].strip() for line in event.split("\n") if line.startswith("data:")]
        if data:
            found.append("[DONE]" if data == ["[DONE]"] else json.loads("\n".join(data)))
    return found


def text_of(raw: bytes) -> str:
    """Content of all chunks."""
    chunks = [chunk for chunk in frames(raw) if chunk != "[DONE]"]
    return "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])


def partly(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[bytes, Exception | None]:
    """What arrived before the connection broke, and how it broke."""
    raw = b""
    try:
        with client.stream("POST", path, json=body) as response:
            for part in response.iter_raw():
                raw += part
    except httpx.TransportError as error:
        return raw, error
    return raw, None


def test_a_plain_answer_is_counted_and_billed(provider: FakeProvider, client: httpx.Client) -> None:
    answer = client.post("/chat/completions", json=ASK, headers={"x-request-id": "r1"}).json()
    assert answer["choices"][0]["message"]["content"] == "Hello from the fake provider."
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (PROMPT, 5)
    [entry] = provider.bill()
    assert (entry.request_id, entry.model, entry.key_last4, entry.stream) == ("r1", "m", "1234", False)
    assert (entry.prompt_tokens, entry.completion_tokens, entry.completed) == (PROMPT, 5, True)
    assert provider.requests[0].body == ASK


def test_the_cap_is_honoured_and_every_choice_counts(provider: FakeProvider, client: httpx.Client) -> None:
    answer = client.post("/chat/completions", json=ASK | {"max_tokens": 2, "n": 3}).json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["Hello from"] * 3
    assert answer["choices"][2]["finish_reason"] == "length"
    provider.script("m", Behaviour(bill_whole_cap=True, prompt_tokens=77))
    raw = client.post("/chat/completions", json=STREAM | {"max_completion_tokens": 1000}).content
    assert frames(raw)[-2]["usage"]["completion_tokens"] == 1000
    assert [(e.prompt_tokens, e.completion_tokens) for e in provider.bill()] == [(PROMPT, 6), (77, 1000)]


def test_a_stream_is_role_pieces_finish_usage_done(provider: FakeProvider, client: httpx.Client) -> None:
    with client.stream("POST", "/chat/completions", json=STREAM) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        seen = frames(response.read())
    assert seen[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["delta"] for chunk in seen[1:3]] == [{"content": "Hello"}, {"content": " from"}]
    assert [chunk["choices"][0]["finish_reason"] for chunk in seen[:-2]] == [None] * 6 + ["stop"]
    assert (seen[-2]["choices"], seen[-2]["usage"]["total_tokens"], seen[-1]) == ([], PROMPT + 5, "[DONE]")
    unasked = client.post("/chat/completions", json=ASK | {"stream": True}).content
    assert b'"usage"' not in unasked
    assert provider.totals() == provider.totals("m")
    assert (provider.totals().requests, provider.totals().completion_tokens) == (2, 10)


@pytest.mark.parametrize(
    ("placement", "counts"),
    [("own_chunk", 1), ("last_content", 1), ("both", 2), ("cumulative", 7), ("never", 0)],
)
def test_usage_comes_where_the_script_says(
    provider: FakeProvider, client: httpx.Client, placement: Any, counts: int
) -> None:
    provider.script("m", Behaviour(usage_placement=placement, usage={"prompt_tokens": 50, "cached_tokens": 40}))
    seen = frames(client.post("/chat/completions", json=STREAM).content)[:-1]
    reported = [chunk["usage"] for chunk in seen if chunk.get("usage")]
    assert len(reported) == counts
    assert all(usage["prompt_tokens_details"]["cached_tokens"] == 40 for usage in reported)
    assert not reported or reported[-1]["completion_tokens"] == 5
    assert (provider.bill()[0].prompt_tokens, provider.bill()[0].cached_tokens) == (50, 40)


def test_insane_usage_is_reported_but_never_billed(provider: FakeProvider, client: httpx.Client) -> None:
    provider.once("m", Behaviour(usage={"completion_tokens": -5, "prompt_tokens": "many"}), Behaviour(usage="none"))
    usage = client.post("/chat/completions", json=ASK).json()["usage"]
    assert (usage["completion_tokens"], usage["prompt_tokens"]) == (-5, "many")
    assert "usage" not in client.post("/chat/completions", json=ASK).json()
    assert [(e.prompt_tokens, e.completion_tokens) for e in provider.bill()] == [(PROMPT, 5)] * 2


ODD = [
    Behaviour(crlf=True, comments=True, multi_data=True),
    Behaviour(split_at=(1,)),
    Behaviour(split_at=(3, 7), text="Zażółć gęślą 🦆 jaźń"),
    Behaviour(chunks=2, missing_finish_keys=True, role_every_chunk=True, id_changes=True),
    Behaviour(chunks=("Hel", "lo ", "", "you")),
    Behaviour(no_done=True, no_final_blank=True),
    Behaviour(double_done=True, gzip=True, giant_line_bytes=100_000),
    Behaviour(chunks=40, text="short words here"),
]


@pytest.mark.parametrize("odd", ODD)
def test_oddities_carry_the_same_text_and_the_same_bill(
    provider: FakeProvider, client: httpx.Client, odd: Behaviour
) -> None:
    provider.script("m", odd)
    expected = client.post("/chat/completions", json=ASK).json()["choices"][0]["message"]["content"]
    raw = client.post("/chat/completions", json=STREAM).content
    assert text_of(raw) == expected
    plain, stream = provider.bill()
    assert plain.completion_tokens == stream.completion_tokens == len(expected.split())
    assert plain.completed
    assert stream.completed


def test_a_stream_can_be_cut_at_every_byte(provider: FakeProvider, client: httpx.Client) -> None:
    body = ASK | {"stream": True}
    fixed = Behaviour(text="one two three")
    provider.script("m", fixed)
    whole = client.post("/chat/completions", json=body).content
    for cut in range(1, len(whole) + 400, 37):
        provider.reset()
        provider.script(
            "m", Behaviour(text="one two three", cut_after_bytes=cut, cut_how="reset" if cut % 2 else "close")
        )
        raw, error = partly(client, "/chat/completions", body)
        [entry] = provider.bill()
        full = raw[: raw.rfind(b"\n\n") + 2] if b"\n\n" in raw else b""
        assert entry.completion_tokens == len(text_of(full).split())
        assert entry.prompt_tokens == PROMPT
        assert entry.completed == (error is None or b"[DONE]\n\n" in raw)
        if error is None:
            break
    else:
        pytest.fail("no cut was beyond the end of the answer")


def test_a_reset_is_a_reset(provider: FakeProvider, client: httpx.Client) -> None:
    provider.script("m", Behaviour(cut_after_bytes=600, cut_how="reset"))
    raw, error = partly(client, "/chat/completions", STREAM)
    assert raw.startswith(b"data: ")
    assert isinstance(error, httpx.ReadError)
    provider.script("m", Behaviour(cut_after_bytes=600))
    assert isinstance(partly(client, "/chat/completions", STREAM)[1], httpx.RemoteProtocolError)


def test_a_disconnect_is_noticed_while_streaming_stalling_and_waiting(
    provider: FakeProvider, client: httpx.Client
) -> None:
    provider.once("m", Behaviour(delay_between_s=30), Behaviour(cut_after_bytes=700, cut_how="stall"))
    for count in (1, 2):
        with client.stream("POST", "/chat/completions", json=STREAM) as response:
            pieces = response.iter_raw()  # kept: dropping the iterator closes the response
            assert next(pieces)
            assert provider.in_flight == 1
            time.sleep(0.1)
        assert provider.cancelled_within(1, since=time.monotonic() - 0.05, count=1)
        assert provider.cancelled_within(1, count=count)
    provider.once("m", Behaviour(delay_first_s=30))
    with pytest.raises(httpx.ReadTimeout):
        client.post("/chat/completions", json=ASK, timeout=0.1)
    assert provider.cancelled_within(1, count=3)
    assert provider.wait_idle(1)
    streamed, stalled, waited = provider.bill()
    assert (streamed.completion_tokens, streamed.completed) == (1, False)
    assert streamed.disconnected_at is not None
    assert 0.1 <= streamed.disconnected_at < 1
    assert (stalled.completed, stalled.disconnected_at is None) == (False, False)
    assert (waited.prompt_tokens, waited.completion_tokens, waited.completed) == (PROMPT, 0, False)
    assert not provider.cancelled_within(0.01, count=4)


def test_errors_are_vendor_style_and_cost_nothing(provider: FakeProvider, client: httpx.Client) -> None:
    provider.once("m", Behaviour(status=429, retry_after=7), Behaviour(status=500, error_body=b"<html>"))
    limited = client.post("/chat/completions", json=ASK)
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
    assert limited.json()["error"]["type"] == "rate_limit_error"
    assert client.post("/chat/completions", json=ASK).content == b"<html>"
    provider.once("m", Behaviour(expected_key="other"), Behaviour(bad_json=True, status=503))
    assert client.post("/chat/completions", json=ASK).json()["error"]["code"] == "invalid_api_key"
    assert client.post("/chat/completions", json=ASK).status_code == 503
    assert client.post("/chat/completions", content=b"{").status_code == 400
    assert client.post("/messages", json=ASK, headers=VERSION).json()["error"]["type"] == "invalid_request_error"
    assert client.get("/nothing").status_code == 404
    assert client.get("/chat/completions").status_code == 405
    assert provider.bill() == []


def test_in_band_errors_and_empty_streams_bill_only_what_was_said(provider: FakeProvider, client: httpx.Client) -> None:
    error = {"message": "overloaded", "type": "server_error"}
    provider.once("m", Behaviour(in_band_error=error), Behaviour(empty_stream=True))
    provider.once("m", Behaviour(in_band_error=error, in_band_error_after=2), Behaviour(bad_json=True))
    assert frames(client.post("/chat/completions", json=STREAM).content) == [{"error": error}]
    assert client.post("/chat/completions", json=STREAM).content == b""
    late = frames(client.post("/chat/completions", json=STREAM).content)
    assert (len(late), late[-1]) == (4, {"error": error})
    with pytest.raises(ValueError, match="Unterminated"):
        frames(client.post("/chat/completions", json=STREAM).content)
    billed = [(e.prompt_tokens, e.completion_tokens, e.completed) for e in provider.bill()]
    assert billed == [(0, 0, False), (0, 0, False), (PROMPT, 2, False), (PROMPT, 5, True)]


def test_tools_reasoning_and_json_schema(provider: FakeProvider, client: httpx.Client) -> None:
    arguments = '{"a": 6,  "b": 7}'
    calls: list[dict[str, Any]] = [
        {"name": "add", "arguments": arguments, "id": "call_x"},
        {"name": "add", "arguments": {"a": 1}},
    ]
    provider.script("m", Behaviour(tool_calls=calls, reasoning="let me think"))
    message = client.post("/chat/completions", json=ASK | TOOLS).json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == (None, "let me think")
    assert message["tool_calls"][0]["function"]["arguments"] == arguments
    seen = frames(client.post("/chat/completions", json=STREAM | TOOLS).content)
    deltas = [chunk["choices"][0]["delta"] for chunk in seen[:-1] if chunk["choices"]]
    fragments = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert "".join(f["function"]["arguments"] for f in fragments if f["index"] == 0) == arguments
    assert next(f["id"] for f in fragments if "id" in f) == "call_x"
    assert seen[-3]["choices"][0]["finish_reason"] == "tool_calls"
    assert seen[-2]["usage"]["completion_tokens_details"]["reasoning_tokens"] == 3
    plain, stream = provider.bill()
    assert plain.completion_tokens == stream.completion_tokens == 3 + (1 + 4) + (1 + 1)
    provider.script("m", Behaviour())
    schema = ASK | {"response_format": {"type": "json_schema", "json_schema": {}}}
    assert json.loads(client.post("/chat/completions", json=schema).json()["choices"][0]["message"]["content"]) == {
        "answer": "42"
    }


def test_anthropic_events_come_in_order(provider: FakeProvider, client: httpx.Client) -> None:
    provider.script("m", Behaviour(text="Hi you", usage={"prompt_tokens": 100, "cached_tokens": 60}))
    client.headers["x-api-key"] = "sk-ant-9876"
    del client.headers["authorization"]
    plain = client.post("/messages", json=CLAUDE, headers=VERSION).json()
    assert (plain["content"], plain["stop_reason"]) == ([{"type": "text", "text": "Hi you"}], "end_turn")
    assert plain["usage"]["input_tokens"] == 40
    seen = frames(client.post("/messages", json=CLAUDE | {"stream": True}, headers=VERSION).content)
    assert [event["type"] for event in seen] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert seen[0]["message"]["usage"]["cache_read_input_tokens"] == 60
    assert seen[-2]["usage"] == {"output_tokens": 2}
    entry = provider.bill()[-1]
    assert (entry.key_last4, entry.prompt_tokens, entry.cached_tokens, entry.completion_tokens) == ("9876", 100, 60, 2)
    calls = [{"name": "add", "arguments": {"a": 1}}]
    provider.script("m", Behaviour(tool_calls=calls, reasoning="hm", text="So:"))
    tools = CLAUDE | {"stream": True, "tools": [{"name": "add"}]}
    blocks = [
        e["content_block"]["type"] for e in frames(client.post("/messages", json=tools).content) if "content_block" in e
    ]
    assert blocks == ["thinking", "text", "tool_use"]


def test_models_and_embeddings(provider: FakeProvider, client: httpx.Client) -> None:
    provider.script("b/one", Behaviour())
    assert [row["id"] for row in client.get("/models").json()["data"]] == ["b/one"]
    assert client.get("/models/b%2Fone").json()["object"] == "model"
    assert client.get("/models/none").status_code == 404
    assert client.get("/models", headers=VERSION).json()["data"][0]["type"] == "model"
    provider.expected_key = "other"
    assert client.get("/models").status_code == 401
    provider.expected_key = None
    asked = {"model": "e", "input": ["a b", "c"]}
    floats = client.post("/embeddings", json=asked).json()
    packed = client.post("/embeddings", json=asked | {"encoding_format": "base64"}).json()
    vectors = [list(struct.unpack("<8f", base64.b64decode(row["embedding"]))) for row in packed["data"]]
    assert vectors == [row["embedding"] for row in floats["data"]]
    assert [(e.prompt_tokens, e.completion_tokens) for e in provider.bill()] == [(3, 0)] * 2


def test_keep_alive_uses_one_connection_and_plain_answers_are_quick(
    provider: FakeProvider, client: httpx.Client
) -> None:
    for _ in range(50):
        client.post("/chat/completions", json=ASK)
    assert provider.open_connections == 1
    assert len(provider.bill()) == 50


def test_a_stopped_provider_refuses_and_comes_back_on_its_port(client: httpx.Client) -> None:
    with FakeProvider() as provider:
        url = f"{provider.base_url}/models"
        provider.stop()
        with pytest.raises(httpx.ConnectError):
            client.get(url)
        provider.start()
        assert client.get(url).status_code == 200


def test_the_same_in_a_process_of_its_own(client: httpx.Client) -> None:
    with ProviderProcess() as process:
        process.once(
            "m", Behaviour(text="from afar", chunks=("from", " afar")), Behaviour(status=500, error_body=b"no")
        )
        url = f"{process.base_url}/chat/completions"
        assert client.post(url, json=ASK).json()["choices"][0]["message"]["content"] == "from afar"
        assert client.post(url, json=ASK).text == "no"
        assert process.wait_idle()
        assert [(e.completion_tokens, e.completed) for e in process.bill()] == [(2, True)]
        assert [one.body for one in process.requests] == [ASK, ASK]
        with pytest.raises(ValueError, match="unexpected keyword"):
            process._call("POST", "/control/script", {"model": "m", "behaviour": {"nonsense": 1}})
        process.reset()
        assert process.totals().requests == 0
