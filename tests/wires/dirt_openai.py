"""Dirty streams of the OpenAI dialect: WIRE section 3 rule 6, and what else vendors and small servers send."""

import gzip
import json
from typing import Any

from tests.wires.dirt import (
    CLEAN,
    DONE,
    HELLO,
    ROLE,
    STOP,
    USAGE,
    USED,
    WORLD,
    Dirt,
    called,
    chosen,
    chunk,
    dump,
    opened,
    piece,
    sse,
    text,
    without,
)

HTML = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"
GZIP = gzip.compress(b"data: " + b"x" * 20_000_000)
INVALID, FAILED, LIMITED = "upstream_invalid_response", "upstream_error", "upstream_rate_limited"
REJECTED, REFUSED = "upstream_rejected", "upstream_auth_failed"


def refused(body: bytes, code: str = INVALID, status: int = 502, **how: Any) -> Dirt:
    return Dirt(body, status=status, code=code, **how)


def broken(body: bytes, code: str = FAILED, said: str = "Hello") -> Dirt:
    return Dirt(body, text=said, code=code)


FRAMES = {
    "clean": Dirt(sse(*CLEAN)),
    "crlf": Dirt(sse(*CLEAN).replace(b"\n", b"\r\n")),
    "bare cr": Dirt(sse(*CLEAN).replace(b"\n", b"\r")),
    "ends mixed": Dirt(sse(HELLO, end=b"").replace(b"\n", b"\r\n") + sse(WORLD, end=b"").replace(b"\n", b"\r")
                       + sse(STOP, USAGE)),
    "comments": Dirt(b": hi\n\n" + sse(*CLEAN).replace(b"data: ", b": ping\ndata: ") + b": bye\n\n"),
    "several data lines": Dirt(sse(*CLEAN).replace(b'"choices"', b'\ndata: "choices"')),
    "no space": Dirt(sse(*CLEAN).replace(b"data: ", b"data:")),
    "two spaces": Dirt(sse(*CLEAN).replace(b"data: ", b"data:  ")),
    "other fields": Dirt(sse(*CLEAN).replace(b"data: ", b"event: message\nid: 7\nretry: 10\nfoo: bar\ndata: ")),
    "fields behind": Dirt(sse(*CLEAN).replace(b"\n\n", b"\nevent: late\nid: 3\n\n")),
    "byte order mark": Dirt(b"\xef\xbb\xbf" + sse(*CLEAN)),
    "blank lines first": Dirt(b"\n\n\n" + sse(*CLEAN)),
    "no final blank line": Dirt(sse(*CLEAN)[:-2]),
    "no DONE": Dirt(sse(*CLEAN, end=b"")),
    "no DONE nor blank line": Dirt(sse(*CLEAN, end=b"")[:-2]),
    "no DONE, closed": Dirt(sse(*CLEAN, end=b""), framing="close"),
    "no DONE, of known length": Dirt(sse(*CLEAN, end=b""), framing="length"),
    "no DONE and no end": Dirt(sse(*CLEAN, end=b""), stays=True),
    "DONE and no end": Dirt(sse(*CLEAN), stays=True),
    "DONE twice": Dirt(sse(*CLEAN) + DONE),
    "DONE as JSON": Dirt(sse(*CLEAN, end=b'data: "[DONE]"\n\n')),
    "garbage after DONE": Dirt(sse(*CLEAN) + b"data: {nonsense\n\n<html>" + HTML),
    "content after DONE": Dirt(sse(*CLEAN) + sse(text("more"))),
    "other alphabets": Dirt(sse(text("Zażółć 世界"), text(" 🦆"), STOP, USAGE), text="Zażółć 世界 🦆"),
    "an unfinished event at the end": broken(sse(ROLE, HELLO, end=b'data: {"id":"chatcmpl-1","cho'), INVALID),
    "closed early": Dirt(sse(ROLE, HELLO, end=b""), framing="close", text="Hello", code=FAILED),
    "20 MB line first": refused(b"data: " + b"x" * 20_000_000 + b"\n\n" + sse(*CLEAN)),
    "20 MB line later": broken(sse(ROLE, HELLO, end=b"data: ") + b"x" * 20_000_000 + b"\n\n", INVALID),
    "20 MB of small lines": refused(b"data: xxxxxxxx\n" * 1_400_000),
    "gzip bomb": refused(GZIP, headers=(("content-encoding", "gzip"),)),
    "gzip without a word": refused(GZIP),
    "brotli": refused(b"\x0b\x02\x80", headers=(("content-encoding", "br"),)),
    "nothing at all": refused(b""),
    "nothing, closed": refused(b"", framing="close"),
    "comments only": refused(b": ping\n\n: ping\n\n"),
    "DONE only": refused(DONE),
    "roles only": refused(sse(ROLE)),
    "usage only": refused(sse(USAGE)),
    "HTML": refused(HTML, kind="text/html"),
    "HTML as a stream": refused(HTML),
    "plain text": refused(b"upstream connect error or disconnect/reset before headers", kind="text/plain"),
    "not JSON": refused(sse(b"hello")),
    "not JSON later": broken(sse(ROLE, HELLO, b"hello"), INVALID),
    "a list": refused(sse([1, 2])),
    "choices are an object": refused(sse(chunk(choices={"0": {}}))),
    "JSON for a stream": Dirt(
        dump(
            {"id": "x", "object": "chat.completion", "created": 1_700_000_000, "model": "m", "usage": USED, "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Hello world"}, "finish_reason": "stop"}]}
        ),
        kind="application/json", framing="length",
    ),
    "JSON for a stream, in print": Dirt(
        json.dumps({"choices": [{"message": {"content": "Hello world"}}]}, indent=2).encode(), used=None
    ),
}  # fmt: skip

KEYS = {
    "no finish keys": Dirt(sse(*(chosen({"index": 0, "delta": one["choices"][0]["delta"]}) for one in CLEAN[:3]), STOP,
                               USAGE)),
    "empty finishes": Dirt(sse(chunk({"content": "Hello"}, ""), chunk({"content": " world"}, ""), STOP, USAGE)),
    "null as a word": Dirt(sse(chunk({"content": "Hello"}, "null"), chunk({"content": " world"}, "null"), STOP, USAGE)),
    "no finish": Dirt(sse(ROLE, HELLO, WORLD, USAGE)),
    "stop in every chunk": Dirt(sse(chunk({"content": "Hello"}, "stop"), chunk({"content": " world"}, "stop"), USAGE)),
    "finish before the last content": Dirt(sse(ROLE, HELLO, chunk({}, "length"), WORLD, STOP, USAGE)),
    "finish first": Dirt(sse(STOP, HELLO, WORLD, USAGE)),
    "finish with the last content": Dirt(sse(ROLE, HELLO, chunk({"content": " world"}, "length"), USAGE),
                                         finish="length"),
    "finish twice": Dirt(sse(ROLE, HELLO, WORLD, STOP, STOP, USAGE)),
    "finish twice, in other words": Dirt(sse(ROLE, HELLO, WORLD, chunk({}, "length"), STOP, USAGE), finish="length"),
    "finish in capitals": Dirt(sse(HELLO, WORLD, chunk({}, "STOP"), USAGE)),
    "finish of another vendor": Dirt(sse(HELLO, WORLD, chunk({}, "eos_token"), USAGE)),
    "finish nobody knows": Dirt(sse(HELLO, WORLD, chunk({}, "because"), USAGE)),
    "finish as a number": Dirt(sse(HELLO, WORLD, chunk({}, 1), USAGE)),
    "tool_calls without tools": Dirt(sse(HELLO, WORLD, chunk({}, "tool_calls"), USAGE)),
    "the provider failed": broken(sse(ROLE, HELLO, chunk({}, "error"))),
    "the provider failed, in DeepSeek's words": broken(sse(ROLE, HELLO, chunk({}, "insufficient_system_resource"))),
    "the provider failed at once": refused(sse(ROLE, chunk({}, "error")), FAILED),
    "no index": Dirt(sse(*(chosen(without(one["choices"][0], "index")) for one in CLEAN[:4]), USAGE)),
    "index as a word": Dirt(sse(*(chosen(one["choices"][0] | {"index": "0"}) for one in CLEAN[:4]), USAGE)),
    "index below zero": Dirt(sse(*(chosen(one["choices"][0] | {"index": -1}) for one in CLEAN[:4]), USAGE)),
    "choices null": Dirt(sse(ROLE, HELLO, chunk(choices=None), WORLD, STOP, chunk(choices=None, usage=USED))),
    "choices missing": Dirt(sse(ROLE, HELLO, {"id": "x"}, WORLD, STOP, {"usage": USED})),
    "choices empty": Dirt(sse(chunk(choices=[]), ROLE, HELLO, chunk(choices=[]), WORLD, STOP, USAGE)),
    "a role every time": Dirt(sse(chunk({"role": "assistant", "content": "Hello"}),
                                  chunk({"role": "assistant", "content": " world"}), STOP, USAGE)),
    "an empty role": Dirt(sse(chunk({"role": "", "content": "Hello"}), chunk({"role": "", "content": " world"}), STOP,
                              USAGE)),
    "another role": Dirt(sse(chunk({"role": "model", "content": "Hello"}), WORLD, STOP, USAGE)),
    "no role": Dirt(sse(HELLO, WORLD, STOP, USAGE)),
    "content null": Dirt(sse(chunk({"content": None}), HELLO, chunk({"content": None}), WORLD, STOP, USAGE)),
    "delta null": Dirt(sse(chosen({"index": 0, "delta": None}), HELLO, WORLD,
                           chosen({"index": 0, "delta": None, "finish_reason": "stop"}), USAGE)),
    "delta missing": Dirt(sse(HELLO, WORLD, chosen({"index": 0, "finish_reason": "stop"}), USAGE)),
    "message for delta": Dirt(sse(chosen({"index": 0, "message": {"role": "assistant", "content": "Hello"}}), WORLD,
                                  STOP, USAGE)),
    "content in parts": Dirt(sse(chunk({"content": [{"type": "text", "text": "Hello"}]}), WORLD, STOP, USAGE)),
    "content as a number": refused(sse(chunk({"content": 5}))),
    "delta as text": refused(sse(chunk("Hello"))),
    "a choice as text": refused(sse(chosen("Hello"))),
    "thinking in parts": Dirt(sse(chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},
                                                     {"type": "text", "text": "Hello world"}]}), STOP, USAGE),
                              reasoning="Hm"),
    "reasoning": Dirt(sse(chunk({"reasoning": "Hm"}), HELLO, WORLD, STOP, USAGE), reasoning="Hm"),
    "reasoning_content": Dirt(sse(chunk({"reasoning_content": "Hm", "content": None}), HELLO, WORLD, STOP, USAGE),
                              reasoning="Hm"),
    "reasoning twice": Dirt(sse(chunk({"reasoning": "Hm", "reasoning_content": "Hm"}), HELLO, WORLD, STOP, USAGE),
                            reasoning="Hm"),
    "empty lists": Dirt(sse(chunk({"content": "Hello", "tool_calls": []}),
                            chunk({"content": " world", "tool_calls": None, "function_call": None}), STOP, USAGE)),
    "no names": Dirt(sse(*(without(one, "id", "object", "created", "model") for one in CLEAN))),
    "names null": Dirt(sse(*(one | {"id": None, "object": None, "created": None, "model": None} for one in CLEAN))),
    "names empty": Dirt(sse(*(one | {"id": "", "object": "", "created": 0, "model": ""} for one in CLEAN))),
    "names of other types": Dirt(sse(*(one | {"id": 7, "object": 7, "created": "now", "model": 7} for one in CLEAN))),
    "names that change": Dirt(sse(*(one | {"id": f"{n}", "created": 1_700_000_000 + n, "model": f"m{n}"}
                                    for n, one in enumerate(CLEAN)))),
    "time as a float": Dirt(sse(*(one | {"created": 1_700_000_000.0} for one in CLEAN))),
    "time to the microsecond": Dirt(sse(*(one | {"created": 1_700_000_000.123456} for one in CLEAN))),
    "time of today as a float later": Dirt(sse(ROLE, *(one | {"created": 1_700_000_000.0} for one in CLEAN[1:]))),
    "another object": Dirt(sse(*(one | {"object": "chat.completion"} for one in CLEAN))),
    "a tier of its own": Dirt(sse(*(one | {"service_tier": "on_demand"} for one in CLEAN))),
    "NaN in logprobs": Dirt(sse(dump(HELLO).replace(b'"finish', b'"logprobs":{"content":[{"token":"H","bytes":[72],'
                                                    b'"logprob":-Infinity,"top_logprobs":[]}]},"finish')
                                .replace(b"-Infinity", b"NaN").replace(b'"logprob":NaN', b'"logprob":0.0,"x":NaN'),
                                WORLD, STOP, USAGE)),
    "half a surrogate pair": Dirt(sse(dump(HELLO).replace(b"Hello", b"Hello\\ud83e"), WORLD, STOP, USAGE),
                                  text="Hello\ufffd world"),
    "half a character": Dirt(sse(dump(HELLO).replace(b"Hello", b"Hello\xc3"), WORLD, STOP, USAGE),
                             text="Hello\ufffd world"),
    "a raw tab": Dirt(sse(dump(HELLO).replace(b"Hello", b"Hello\t"), WORLD, STOP, USAGE), text="Hello\t world"),
    "a huge number": Dirt(sse(HELLO | {"x": 10**40}, WORLD, STOP, USAGE)),
    "unknown fields": Dirt(sse(*(one | {"vendor": {"x": [1]}} for one in CLEAN))),
}  # fmt: skip

_MOONSHOT = chosen({"index": 0, "delta": {}, "finish_reason": "stop", "usage": USED})
_SOME = {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}
_ZEROS = dict.fromkeys(USED, 0)
COUNTS = {
    "usage never": Dirt(sse(*CLEAN[:4]), used=None),
    "usage with the finish": Dirt(sse(ROLE, HELLO, WORLD, STOP | {"usage": USED})),
    "usage twice": Dirt(sse(ROLE, HELLO, WORLD, STOP | {"usage": USED}, USAGE)),
    "usage cumulative": Dirt(sse(ROLE, *(one | {"usage": USED | {"completion_tokens": n}}
                                         for n, one in enumerate((HELLO, WORLD, STOP)))), used=(5, 2)),
    "usage midway": Dirt(sse(ROLE, HELLO, chunk(choices=[], usage=USED | {"completion_tokens": 1}), WORLD, STOP,
                             USAGE)),
    "usage before the answer only": Dirt(sse(ROLE | {"usage": _SOME}, HELLO, WORLD, STOP), used=None),
    "zeros before the answer only": Dirt(sse(ROLE | {"usage": _ZEROS}, HELLO, WORLD, STOP), used=None),
    "zeros at the end only": Dirt(sse(ROLE, HELLO, WORLD, STOP | {"usage": _ZEROS}), used=None),
    "zeros after the count": Dirt(sse(ROLE, HELLO, WORLD, STOP | {"usage": USED}, chunk(choices=[], usage=_ZEROS))),
    "zeros in every chunk, then the count": Dirt(sse(*(one | {"usage": _ZEROS} for one in CLEAN[:4]), USAGE)),
    "usage of Groq": Dirt(sse(ROLE, HELLO, WORLD, STOP | {"x_groq": {"id": "r", "usage": USED}})),
    "usage of Moonshot": Dirt(sse(ROLE, HELLO, WORLD, _MOONSHOT)),
    "usage without a total": Dirt(sse(*CLEAN[:4], chunk(choices=[], usage=without(USED, "total_tokens")))),
    "usage with nulls": Dirt(sse(*CLEAN[:4], chunk(choices=[], usage=USED | {
        "prompt_tokens_details": None, "completion_tokens_details": None, "total_tokens": None}))),
    "NaN tokens": Dirt(sse(*CLEAN[:4], b'{"choices":[],"usage":{"prompt_tokens":NaN,"completion_tokens":NaN}}'),
                       used=None),
    "tokens as text": Dirt(sse(*CLEAN[:4], chunk(choices=[], usage={"prompt_tokens": "5"})), used=None),
    "tokens below zero": Dirt(sse(*CLEAN[:4], chunk(choices=[], usage=USED | {"completion_tokens": -2})), used=None),
    "tokens beyond belief": Dirt(sse(*CLEAN[:4], chunk(choices=[], usage=USED | {"completion_tokens": 10**30})),
                                 used=None),
    "usage as a list": Dirt(sse(*CLEAN[:4], chunk(choices=[], usage=[5, 2])), used=None),
    "usage as text": Dirt(sse(*CLEAN[:4], chunk(choices=[], usage="seven")), used=None),
}  # fmt: skip

_ADD = (("add", '{"a":1}'),)
_BOTH = (("add", '{"a":1}'), ("mul", '{"b":2}'))
_MUL = opened(1, "call_2", "mul", '{"b":2}')


def tools(body: bytes, calls: Any = _ADD, finish: str = "tool_calls", **how: Any) -> Dirt:
    return Dirt(body, text="", calls=calls, finish=finish, **how)


TOOLS = {
    "in order": tools(called(opened(), piece('{"a"'), piece(":1}"), opened(1, "call_2", "mul"), piece('{"b":2}', 1)),
                      _BOTH),
    "no index": tools(called(opened(None), piece('{"a"', None), piece(":1}", None), opened(None, "call_2", "mul"),
                             piece('{"b":2}', None)), _BOTH),
    "one index for all": tools(called(opened(arguments='{"a":1}'), opened(0, "call_2", "mul", '{"b":2}')), _BOTH),
    "index from one": tools(called(opened(1, arguments='{"a":1}'), opened(2, "call_2", "mul", '{"b":2}')), _BOTH),
    "index jumps": tools(called(opened(3, arguments='{"a":1}'), opened(9, "call_2", "mul"), piece('{"b":2}', 9)),
                         _BOTH),
    "index as a word": tools(called(opened("0", arguments='{"a":1}'), opened("1", "call_2", "mul", '{"b":2}')), _BOTH),
    "index below zero": tools(called(opened(-1, arguments='{"a":1}'), opened(-1, "call_2", "mul", '{"b":2}')), _BOTH),
    "index null": tools(called(opened(arguments='{"a":1}') | {"index": None}, _MUL | {"index": None}), _BOTH),
    "no id": tools(called(opened(0, None), piece('{"a":1}'), opened(1, None, "mul", '{"b":2}')), _BOTH),
    "id empty": tools(called(opened(0, ""), piece('{"a":1}'), opened(1, "", "mul", '{"b":2}')), _BOTH),
    "id null": tools(called(opened(arguments='{"a":1}') | {"id": None})),
    "id later": tools(called(opened(0, None), piece('{"a":1}', id="call_9"))),
    "id every time": tools(called(opened(), piece('{"a"', id="call_1"), piece(":1}", id="call_1"))),
    "another id every time": tools(called(opened(), piece('{"a"', id="x"), piece(":1}", id="y"))),
    "neither id nor index": tools(called(opened(None, None, arguments='{"a":1}'),
                                         opened(None, None, "mul", '{"b":2}')), _BOTH),
    "the same tool twice, neither id nor index": tools(
        called(opened(None, None, arguments='{"a":1}'), opened(None, None, arguments='{"a":2}')),
        (("add", '{"a":1}'), ("add", '{"a":2}'))),
    "name every time, neither id nor index": tools(called(opened(None, None, arguments='{"a"'),
                                                          opened(None, None, arguments=":1}"))),
    "both in one event": tools(called([opened(arguments='{"a":1}'), _MUL]), _BOTH),
    "both in one event, no index": tools(called([opened(None, arguments='{"a":1}'),
                                                 opened(None, "call_2", "mul", '{"b":2}')]), _BOTH),
    "no type": tools(called(without(opened(arguments='{"a":1}'), "type"))),
    "type every time": tools(called(opened(), piece('{"a":1}', type="function"))),
    "another type": tools(called(opened(arguments='{"a":1}') | {"type": "tool"})),
    "type null": tools(called(opened(arguments='{"a":1}') | {"type": None})),
    "name repeated": tools(called(opened(), opened(0, None, "add", '{"a"'), opened(0, None, "add", ":1}"))),
    "name empty later": tools(called(opened(), opened(0, None, "", '{"a":1}'))),
    "name null later": tools(called(opened(), piece('{"a":1}') | {"function": {"name": None, "arguments": '{"a":1}'}})),
    "name after the id": tools(called(opened(name=None), opened(0, None, arguments=None), piece('{"a":1}'))),
    "name after the arguments": tools(called(opened(name=None, arguments='{"a"'), piece(":"), opened(0, None),
                                             piece("1}"))),
    "name never": Dirt(called(opened(name=None, arguments='{"a":1}')), status=502, code=INVALID),
    "name never, after content": broken(sse(ROLE, HELLO, chunk({"tool_calls": [opened(name="")]}), STOP), INVALID),
    "arguments as an object": tools(called(opened(arguments={"a": 1}))),
    "arguments null": tools(called(opened(arguments=None), piece(None), piece('{"a":1}'))),
    "arguments null first": tools(called(opened() | {"function": {"name": "add", "arguments": None}},
                                         piece('{"a":1}'))),
    "arguments as a number": Dirt(called(opened(arguments=5)), status=502, code=INVALID),
    "no function later": tools(called(opened(arguments='{"a":1}'), {"index": 0}, {"index": 0, "function": None})),
    "finish stop": tools(called(opened(arguments='{"a":1}'), finish="stop")),
    "finish function_call": tools(called(opened(arguments='{"a":1}'), finish="function_call")),
    "finish missing": tools(sse(ROLE, chunk({"tool_calls": [opened(arguments='{"a":1}')]}), USAGE)),
    "finish before the calls": tools(sse(ROLE, STOP, chunk({"tool_calls": [opened(arguments='{"a":1}')]}), STOP,
                                         USAGE)),
    "finish with the call": tools(sse(chunk({"role": "assistant", "tool_calls": [opened(arguments='{"a":1}')]}, "stop"),
                                      USAGE)),
    "cut short": tools(called(opened(), piece('{"a'), finish="length"), (("add", '{"a'),), "length"),
    "after text": Dirt(sse(ROLE, HELLO, WORLD, chunk({"tool_calls": [opened(arguments='{"a":1}')]}), STOP, USAGE),
                       calls=_ADD, finish="tool_calls"),
    "never counted": tools(sse(ROLE, chunk({"tool_calls": [opened(arguments='{"a":1}')]}), STOP), used=None),
    "calls are an object": Dirt(sse(chunk({"tool_calls": {"a": 1}})), status=502, code=INVALID),
    "a call as text": Dirt(sse(chunk({"tool_calls": ["add"]})), status=502, code=INVALID),
    "a function as text": Dirt(sse(chunk({"tool_calls": [{"index": 0, "function": "add"}]})), status=502, code=INVALID),
}  # fmt: skip

_LIMIT = {"message": "Slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}
_ODD = {
    "an object": (sse({"error": _LIMIT}), LIMITED, 429),
    "text": (sse({"error": "CUDA out of memory"}), FAILED, 502),
    "text with a code": (sse({"error": "Too many", "code": 429}), LIMITED, 429),
    "true with a message": (sse({"error": True, "message": "Overloaded", "code": 503}), FAILED, 502),
    "type error": (sse({"type": "error", "message": "Overloaded"}), FAILED, 502),
    "object error": (sse({"object": "error", "message": "x", "type": "BadRequestError", "code": 400}), REJECTED, 400),
    "a code and a message": (sse({"code": 429, "message": "Slow down"}), LIMITED, 429),
    "a code as text": (sse({"code": "429", "msg": "Slow down"}), LIMITED, 429),
    "a status": (sse({"status": "failed", "message": "Sorry"}), FAILED, 502),
    "no success": (sse({"success": False, "msg": "Sorry"}), FAILED, 502),
    "detail": (sse({"detail": "Internal Server Error"}), FAILED, 502),
    "a bad key": (sse({"error": {"type": "authentication_error", "message": "sk-123 is wrong"}}), REFUSED, 502),
    "MiniMax": (sse({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": None}), LIMITED, 429),
    "MiniMax, something else": (sse({"base_resp": {"status_code": 1033, "status_msg": "x"}}), FAILED, 502),
    "Gemini's list": (sse([{"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}}]), FAILED, 502),
    "an event of that name": (b'event: error\ndata: {"message":"Sorry"}\n\n', FAILED, 502),
    "an event of that name, with an object": (b"event: error\n" + sse({"error": _LIMIT}, end=b""), LIMITED, 429),
    "an event of that name, in words": (b"event: error\ndata: Internal Server Error\n\n", FAILED, 502),
    "an event of that name, in crlf": (b'event:error\r\ndata:{"code":429}\r\n\r\n', LIMITED, 429),
    "beside choices": (sse(ROLE | {"error": _LIMIT}), LIMITED, 429),
    "in a choice": (sse(chosen({"index": 0, "delta": {}, "error": _LIMIT})), LIMITED, 429),
}  # fmt: skip
ERRORS = {
    **{f"{name}, first": refused(body, code, status) for name, (body, code, status) in _ODD.items()},
    **{f"{name}, later": broken(sse(ROLE, HELLO, end=b"") + body, code) for name, (body, code, _) in _ODD.items()},
    "after the finish": broken(sse(ROLE, HELLO, STOP, {"error": _LIMIT}), LIMITED),
    "with the last content": broken(sse(ROLE, chunk({"content": "Hello"}, "stop"), {"error": _LIMIT}), LIMITED),
    "as the whole body": refused(dump({"error": _LIMIT}), LIMITED, 429, kind="application/json", framing="length"),
    "as the whole body, in print": refused(
        json.dumps({"error": {"code": 429, "message": "x"}}, indent=4).encode(), LIMITED, 429),
    "as the whole body, in a list": refused(
        dump([{"error": {"code": 429, "message": "x"}}]), LIMITED, 429, kind="application/json"),
    "as the whole body, FastAPI": refused(dump({"detail": "no"}), FAILED, 502, kind="application/json"),
    "nothing in it": Dirt(sse(*(one | {"error": None} for one in CLEAN))),
    "no error of MiniMax": Dirt(sse(*(one | {"base_resp": {"status_code": 0, "status_msg": ""}} for one in CLEAN))),
}  # fmt: skip

TABLE: dict[str, Dirt] = {
    f"{part}: {name}": dirt
    for part, rows in {"frames": FRAMES, "keys": KEYS, "counts": COUNTS, "tools": TOOLS, "errors": ERRORS}.items()
    for name, dirt in rows.items()
}
