"""Dirty streams of the Anthropic dialect, as Anthropic under load and imitations of it send them."""

from typing import Any

from tests.wires.dirt import Dirt, Json, dump

INVALID, FAILED, LIMITED = "upstream_invalid_response", "upstream_error", "upstream_rate_limited"


def sse(*events: Any) -> bytes:
    """A frame for each event, with its name."""
    return b"".join(b"event: " + _name(event) + b"\ndata: " + dump(event) + b"\n\n" for event in events)


def _name(event: Any) -> bytes:
    return event["type"].encode() if isinstance(event, dict) and "type" in event else b"message"


def start(**usage: Any) -> Json:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
               "stop_sequence": None, "usage": usage}  # fmt: skip
    return {"type": "message_start", "message": message}


def opened(block: Json, index: int = 0) -> Json:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(kind: str, name: str, said: Any, index: int = 0) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: said}}


def text(said: Any, index: int = 0) -> Json:
    return delta("text_delta", "text", said, index)


def closed(index: int = 0) -> Json:
    return {"type": "content_block_stop", "index": index}


def stopped(reason: Any = "end_turn", **usage: Any) -> Json:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


def failure(kind: str, message: str = "Overloaded") -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}}


START, OPEN, HELLO, WORLD, CLOSE = (
    start(input_tokens=5, output_tokens=1), opened({"type": "text", "text": ""}), text("Hello"), text(" world"),
    closed(),
)  # fmt: skip
STOP, END, PING = stopped(output_tokens=2), {"type": "message_stop"}, {"type": "ping"}
CLEAN = (START, OPEN, PING, HELLO, WORLD, CLOSE, STOP, END)
ADD: Json = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}
_CALLED = (("add", '{"a":"é"}'),)


def json_delta(said: Any, index: int = 0) -> Json:
    return delta("input_json_delta", "partial_json", said, index)


def tools(*events: Json, calls: Any = _CALLED, reason: str = "tool_use") -> Dirt:
    body = sse(START, *events, stopped(reason, output_tokens=2), END)
    return Dirt(body, text="", calls=calls, finish="tool_calls")


def refused(body: bytes, code: str = INVALID, status: int = 502, **how: Any) -> Dirt:
    return Dirt(body, status=status, code=code, **how)


def broken(body: bytes, code: str = FAILED) -> Dirt:
    return Dirt(body, text="Hello", code=code)


_FRAMES = {
    "clean": Dirt(sse(*CLEAN)),
    "crlf": Dirt(sse(*CLEAN).replace(b"\n", b"\r\n")),
    "bare cr": Dirt(sse(*CLEAN).replace(b"\n", b"\r")),
    "no names": Dirt(b"".join(b"data: " + dump(event) + b"\n\n" for event in CLEAN)),
    "wrong names": Dirt(sse(*CLEAN).replace(b"event: content_block_delta", b"event: ping")),
    "no final blank line": Dirt(sse(*CLEAN)[:-2]),
    "DONE at the end": Dirt(sse(*CLEAN) + b"data: [DONE]\n\n"),
    "DONE for the end": Dirt(sse(*CLEAN[:-1]) + b"data: [DONE]\n\n"),
    "garbage after the end": Dirt(sse(*CLEAN) + b"data: {nonsense\n\n"),
    "no message_stop": Dirt(sse(*CLEAN[:-1])),
    "no message_stop, closed": Dirt(sse(*CLEAN[:-1]), framing="close"),
    "no message_stop and no end": Dirt(sse(*CLEAN[:-1]), stays=True),
    "closed early": Dirt(sse(START, OPEN, HELLO), framing="close", text="Hello", code=FAILED),
    "20 MB line": refused(b"data: " + b"x" * 20_000_000),
    "20 MB line later": broken(sse(START, OPEN, HELLO) + b"data: " + b"x" * 20_000_000, INVALID),
    "nothing at all": refused(b""),
    "pings only": refused(sse(PING, PING, PING)),
    "start only": refused(sse(START)),
    "HTML": refused(b"<html><h1>502</h1></html>", kind="text/html"),
    "not JSON": refused(sse(b"hello")),
    "not JSON later": broken(sse(START, OPEN, HELLO, b"hello"), INVALID),
    "an unfinished event at the end": broken(sse(START, OPEN, HELLO) + b'event: x\ndata: {"type":"con', INVALID),
    "JSON for a stream": refused(
        dump({"type": "message", "content": [{"type": "text", "text": "Hello world"}]}), kind="application/json"
    ),
}  # fmt: skip

_EVENTS = {
    "unknown events": Dirt(sse(START, {"type": "new"}, OPEN, {"type": "vendor.x", "index": 7}, *CLEAN[3:])),
    "unknown blocks": Dirt(sse(START, opened({"type": "hologram"}, 1), delta("hologram_delta", "light", 1, 1),
                               closed(1), *CLEAN[1:])),
    "no start": Dirt(sse(*CLEAN[1:]), used=None),
    "no block start": Dirt(sse(START, HELLO, WORLD, STOP, END)),
    "no block stop": Dirt(sse(START, OPEN, HELLO, WORLD, STOP, END)),
    "index jumps": Dirt(sse(START, opened({"type": "text", "text": ""}, 4), text("Hello", 4), closed(4),
                            opened({"type": "text", "text": ""}, 9), text(" world", 9), closed(9), STOP, END)),
    "no index": Dirt(sse(*({name: value for name, value in event.items() if name != "index"} for event in CLEAN))),
    "text at the start of its block": Dirt(sse(START, opened({"type": "text", "text": "Hello"}), WORLD, CLOSE, STOP,
                                               END)),
    "text null": Dirt(sse(START, OPEN, text(None), HELLO, WORLD, CLOSE, STOP, END)),
    "text as a number": refused(sse(START, OPEN, text(5))),
    "delta missing": refused(sse(START, OPEN, {"type": "content_block_delta", "index": 0})),
    "message missing": refused(sse({"type": "message_start"})),
    "thinking": Dirt(sse(START, opened({"type": "thinking", "thinking": "", "signature": ""}),
                         delta("thinking_delta", "thinking", "Hm"), delta("signature_delta", "signature", "c2ln"),
                         closed(), opened({"type": "text", "text": ""}, 1), text("Hello world", 1), closed(1), STOP,
                         END), reasoning="Hm"),
    "no stop reason": Dirt(sse(START, OPEN, HELLO, WORLD, CLOSE, stopped(None, output_tokens=2), END)),
    "no message_delta": Dirt(sse(START, OPEN, HELLO, WORLD, CLOSE, END), used=None),
    "message_delta twice": Dirt(sse(START, OPEN, HELLO, WORLD, CLOSE, stopped(output_tokens=1), STOP, END)),
    "stop before the last content": Dirt(sse(START, OPEN, HELLO, stopped("max_tokens", output_tokens=1), WORLD, STOP,
                                             END)),
    "a stop reason nobody knows": Dirt(sse(START, OPEN, HELLO, WORLD, CLOSE, stopped("because", output_tokens=2), END)),
    "start without usage": Dirt(sse({"type": "message_start", "message": {"id": "msg_1"}}, *CLEAN[1:]), used=None),
    "start of zeros": Dirt(sse(start(input_tokens=0, output_tokens=0), *CLEAN[1:-2],
                               stopped(input_tokens=5, output_tokens=2), END)),
    "usage cumulative": Dirt(sse(START, OPEN, HELLO, WORLD, CLOSE, stopped(None, input_tokens=5, output_tokens=1),
                                 stopped(input_tokens=5, output_tokens=2), END)),
    "usage null": Dirt(sse(START, OPEN, HELLO, WORLD, CLOSE, STOP | {"usage": None}, END), used=None),
    "tokens as text": Dirt(sse(start(input_tokens="5"), *CLEAN[1:]), used=None),
    "tokens below zero": Dirt(sse(*CLEAN[:-2], stopped(output_tokens=-2), END), used=None),
}  # fmt: skip

_TOOLS = {
    "in order": tools(opened(ADD), json_delta('{"a"'), json_delta(':"é"}'), closed()),
    "split within a character": tools(opened(ADD), json_delta('{"a":"\u00e9'), json_delta('"}'), closed()),
    "input at the start": tools(opened(ADD | {"input": {"a": "é"}}), closed()),
    "empty pieces": tools(opened(ADD), json_delta(""), json_delta(None), json_delta('{"a":"é"}'), closed()),
    "no arguments": tools(opened(ADD), closed(), calls=(("add", "{}"),)),
    "no block stop": tools(opened(ADD), json_delta('{"a":"é"}')),
    "no id": tools(opened({"type": "tool_use", "name": "add", "input": {}}), json_delta('{"a":"é"}'), closed()),
    "end_turn": tools(opened(ADD), json_delta('{"a":"é"}'), closed(), reason="end_turn"),
    "two, index jumps": tools(opened(ADD, 3), json_delta('{"a":"é"}', 3), closed(3),
                              opened(ADD | {"id": "toolu_2", "name": "mul"}, 8), json_delta("{}", 8), closed(8),
                              calls=(*_CALLED, ("mul", "{}"))),
    "two, mixed": tools(opened(ADD), opened(ADD | {"id": "toolu_2", "name": "mul"}, 1), json_delta('{"a":', 0),
                        json_delta("{}", 1), json_delta('"é"}', 0), closed(1), closed(0),
                        calls=(*_CALLED, ("mul", "{}"))),
    "arguments of no call": refused(sse(START, json_delta("{}"), stopped("tool_use"), END)),
    "arguments of no call, later": broken(sse(START, OPEN, HELLO, json_delta("{}", 5), STOP, END), INVALID),
    "a server's own tool": Dirt(sse(START, opened({"type": "server_tool_use", "id": "srv_1", "name": "search"}),
                                    json_delta('{"q":1}'), closed(), opened({"type": "text", "text": ""}, 1),
                                    text("Hello world", 1), closed(1), STOP, END)),
    "a call without a name": refused(sse(START, opened({"type": "tool_use", "id": "toolu_1"}), closed(), STOP, END)),
    "arguments as a number": Dirt(sse(START, opened(ADD), json_delta(5)), text="", code=INVALID),
}  # fmt: skip

_ODD = {
    "overloaded": (sse(failure("overloaded_error")), FAILED, 502),
    "rate limit": (sse(failure("rate_limit_error", "Slow down")), LIMITED, 429),
    "no event of that name": (b"data: " + dump(failure("api_error")) + b"\n\n", FAILED, 502),
    "no type": (b'event: error\ndata: {"message":"Sorry"}\n\n', FAILED, 502),
    "in words": (b"event: error\ndata: Internal Server Error\n\n", FAILED, 502),
    "OpenAI's": (b'data: {"error":{"type":"rate_limit_exceeded","message":"x"}}\n\n', LIMITED, 429),
}
_ERRORS = {
    **{f"{name}, first": refused(body, code, status) for name, (body, code, status) in _ODD.items()},
    **{f"{name}, after the start": refused(sse(START, OPEN, PING) + body, code, status)
       for name, (body, code, status) in _ODD.items()},
    **{f"{name}, later": broken(sse(START, OPEN, HELLO) + body, code) for name, (body, code, _) in _ODD.items()},
    "after the stop": broken(sse(START, OPEN, HELLO, STOP, failure("overloaded_error"))),
    "as the whole body": refused(dump(failure("rate_limit_error")), LIMITED, 429, kind="application/json",
                                 framing="length"),
}  # fmt: skip

TABLE: dict[str, Dirt] = {
    f"{part}: {name}": dirt
    for part, rows in {"frames": _FRAMES, "events": _EVENTS, "tools": _TOOLS, "errors": _ERRORS}.items()
    for name, dirt in rows.items()
}
