"""Dirty answers that are not streamed, of both dialects."""

import gzip
from typing import Any

from tests.wires.dirt import USED, Dirt, Json, dump, opened, sse, text, without

INVALID, FAILED, LIMITED = "upstream_invalid_response", "upstream_error", "upstream_rate_limited"
JSON = "application/json"


def answer(message: Any = None, finish: Any = "stop", **more: Any) -> Json:
    """An honest answer."""
    said = {"role": "assistant", "content": "Hello world"} if message is None else message
    choice = {"index": 0, "message": said, "finish_reason": finish}
    names = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "m"}
    return names | {"choices": [choice], "usage": USED} | more


def good(body: Any, **how: Any) -> Dirt:
    return Dirt(dump(body), kind=JSON, framing="length", **how)


def refused(body: Any, code: str = INVALID, status: int = 502, **how: Any) -> Dirt:
    return Dirt(dump(body), status=status, code=code, **({"kind": JSON} | how))


def calling(*calls: Any, finish: Any = "tool_calls", said: Any = (("add", '{"a":1}'),)) -> Dirt:
    message = {"role": "assistant", "content": None, "tool_calls": list(calls)}
    return good(answer(message, finish), text="", calls=said, finish="tool_calls")


_CHOICE = answer()["choices"][0]
_CALL = opened(arguments='{"a":1}')
OPENAI = {
    "clean": good(answer()),
    "no names": good(without(answer(), "id", "object", "created", "model")),
    "names null": good(answer(id=None, object=None, created=None, model=None)),
    "names of other types": good(answer(id=7, object=7, created="now", model=["m"])),
    "names empty": good(answer(id="", object="", created=0, model="")),
    "time as a float": good(answer(created=1_700_000_000.9)),
    "no index nor finish": good(answer(choices=[{"message": {"content": "Hello world"}}])),
    "finish empty": good(answer(finish="")),
    "finish nobody knows": good(answer(finish="because")),
    "finish null": good(answer(finish=None)),
    "content in parts": good(answer({"content": [{"type": "text", "text": "Hello"}, " world"]})),
    "reasoning": good(answer({"content": "Hello world", "reasoning": "Hm"}), reasoning="Hm"),
    "no calls": good(answer({"content": "Hello world", "tool_calls": []})),
    "a tier of its own": good(answer(service_tier="on_demand")),
    "byte order mark": good(b"\xef\xbb\xbf" + dump(answer())),
    "blanks around": good(b"\n\n  " + dump(answer()) + b"\n\n"),
    "NaN": good(dump(answer(x=1)).replace(b'"x":1', b'"x":NaN')),
    "half a character": good(dump(answer()).replace(b"world", b"world\xc3"), text="Hello world\ufffd"),
    "half a surrogate pair": good(dump(answer()).replace(b"world", b"world\\ud83e"), text="Hello world\ufffd"),
    "in a list": good([answer()]),
    "no usage": good(without(answer(), "usage"), used=None),
    "usage null": good(answer(usage=None), used=None),
    "usage of zeros": good(answer(usage=dict.fromkeys(USED, 0)), used=None),
    "usage without a total": good(answer(usage=without(USED, "total_tokens"))),
    "usage as text": good(answer(usage="seven"), used=None),
    "usage NaN": good(dump(answer()).replace(b'"prompt_tokens":5', b'"prompt_tokens":NaN'), used=None),
    "usage below zero": good(answer(usage=USED | {"prompt_tokens": -1}), used=None),
    "calls": calling(_CALL),
    "calls, finish stop": calling(_CALL, finish="stop"),
    "calls, no id nor type": calling(without(_CALL, "id", "type"), opened(1, None, "mul", "{}"),
                                     said=(("add", '{"a":1}'), ("mul", "{}"))),
    "calls, arguments as an object": calling(opened(arguments={"a": 1})),
    "calls, no arguments": calling(opened(arguments=None), said=(("add", "{}"),)),
    "calls, arguments null": calling({"id": "1", "function": {"name": "add", "arguments": None}},
                                     said=(("add", "{}"),)),
    "a call without a name": refused(answer({"content": None, "tool_calls": [opened(name=None)]})),
    "a call without a function": refused(answer({"content": None, "tool_calls": [{"id": "1"}]})),
    "a call as text": refused(answer({"content": None, "tool_calls": ["add"]})),
    "arguments as a number": refused(answer({"content": None, "tool_calls": [opened(arguments=5)]})),
    "a stream": refused(sse(text("Hello world")), kind="text/event-stream"),
    "HTML": refused(b"<html><h1>502</h1></html>", kind="text/html"),
    "nothing": refused(b""),
    "half of it": refused(dump(answer())[:-20]),
    "a list": refused([]),
    "text": refused("Hello"),
    "no choices": refused(answer(choices=[])),
    "choices null": refused(answer(choices=None)),
    "a choice as text": refused(answer(choices=["Hello"])),
    "no message": refused(answer(choices=[without(_CHOICE, "message")])),
    "a chunk": refused(text("Hello")),
    "content as a number": refused(answer({"content": 5})),
    "40 MB": refused(b" " * 40_000_000),
    "gzip": refused(gzip.compress(dump(answer())), headers=(("content-encoding", "gzip"),)),
    "gzip without a word": refused(gzip.compress(dump(answer()))),
    "the provider failed": refused(answer(finish="error"), FAILED),
    "an error": refused({"error": {"type": "rate_limit_error", "message": "x"}}, LIMITED, 429),
    "an error as text": refused({"error": "CUDA out of memory"}, FAILED),
    "an error in a list": refused([{"error": {"code": 429, "message": "x"}}], LIMITED, 429),
    "an error by code": refused({"code": 429, "message": "Slow down"}, LIMITED, 429),
    "an error of vLLM": refused({"object": "error", "message": "too long", "code": 400}, "upstream_rejected", 400),
    "an error of FastAPI": refused({"detail": "no"}, FAILED),
    "an error of MiniMax": refused({"base_resp": {"status_code": 1002, "status_msg": "x"}}, LIMITED, 429),
    "an error in the choice": refused(answer(choices=[_CHOICE | {"error": {"code": 429}}]), LIMITED, 429),
}  # fmt: skip


def message(*blocks: Json, stop: Any = "end_turn", **more: Any) -> Json:
    """An honest message."""
    said = list(blocks) or [{"type": "text", "text": "Hello world"}]
    names = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
    return names | {"content": said, "stop_reason": stop, "usage": {"input_tokens": 5, "output_tokens": 2}} | more


_USE = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
ANTHROPIC = {
    "clean": good(message()),
    "no names": good(without(message(), "id", "type", "role", "model", "stop_reason")),
    "unknown blocks": good(message({"type": "hologram"}, {"type": "text", "text": "Hello world"})),
    "a stop reason nobody knows": good(message(stop="because")),
    "text null": good(message({"type": "text", "text": None}, {"type": "text", "text": "Hello world"})),
    "calls": good(message(_USE, stop="tool_use"), text="", calls=(("add", '{"a":1}'),), finish="tool_calls"),
    "calls, end_turn": good(message(_USE), text="", calls=(("add", '{"a":1}'),), finish="tool_calls"),
    "a call without an id": good(
        message(without(_USE, "id")), text="", calls=(("add", '{"a":1}'),), finish="tool_calls"
    ),
    "a call without a name": refused(message(without(_USE, "name"))),
    "no usage": good(without(message(), "usage"), used=None),
    "usage as text": good(message(usage={"input_tokens": "5", "output_tokens": 2}), used=None),
    "text as a number": refused(message({"type": "text", "text": 5})),
    "no content": refused(without(message(), "content")),
    "HTML": refused(b"<html>", kind="text/html"),
    "half of it": refused(dump(message())[:-20]),
    "overloaded": refused({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, FAILED),
    "rate limit": refused({"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}, LIMITED, 429),
}

TABLES: dict[str, dict[str, Dirt]] = {"openai": OPENAI, "anthropic": ANTHROPIC}
