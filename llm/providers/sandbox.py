"""The sandbox: a model that answers by itself, the same way every time, and counts honestly. No socket, no key.

What it does: repeats the last user message politely; calls a tool if `tool_choice` forces one; gives the smallest valid
instance of a JSON schema; honours `n`, `stop` and the cap. Its tokens:

    prompt       4 for each message, plus the words of all text in it, 85 for each image, and the words of the compact
                 JSON of tools, tool calls and response format; never more than the context window
    completion   words of the answer for each choice, cut at the cap; a tool call is 1 plus the words of its arguments
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from llm.calls import Call, Completed, StreamEvent
from llm.errors import InvalidRequest
from llm.providers.chunks import Chunks, utf8_length
from llm.providers.openai import OpenAI
from llm.providers.schema_example import smallest

PER_MESSAGE = 4
PER_IMAGE = 85
_WORD = re.compile(r"\s*\S+(?:\s+\Z)?")
_MOST_CHOICES = 128
_MOST_EVENTS = 4096  # of one stream: all are made at once


@dataclass(frozen=True, slots=True)
class _Answer:
    """One choice; all choices are alike. `tool` is a name, then `text` holds its arguments."""

    text: str
    tokens: int
    finish: str
    tool: str = ""


class Sandbox(OpenAI):
    """`respond` and `stream` in place of a call. The rest of `base.Adapter` is the OpenAI dialect, for who asks."""

    def respond(self, call: Call) -> Completed:
        return respond(call)

    def stream(self, call: Call) -> list[StreamEvent]:
        return stream(call)


ADAPTER = Sandbox()


def respond(call: Call) -> Completed:
    """The whole answer. Raises InvalidRequest naming the parameter that is wrong."""
    chunks = Chunks(call)
    answer, choices = _answer(call), _choices(call)
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.tool:
        message |= {"content": None}
    usage = _usage(call, answer.tokens * choices)
    rows = []
    for index in range(choices):
        calls = {"tool_calls": [_tool_call(call, answer, index)]} if answer.tool else {}
        rows.append({"index": index, "message": message | calls, "logprobs": None, "finish_reason": answer.finish})
    body = {
        "id": chunks.id,
        "object": "chat.completion",
        "created": chunks.created,
        "model": chunks.model,
        "choices": rows,
        "usage": usage,
    }
    return Completed(body=body, usage=usage)


def stream(call: Call) -> list[StreamEvent]:
    """The same answer in events of one word (of several, if it is long), usage with the last."""
    chunks = Chunks(call)
    answer, choices = _answer(call), _choices(call)
    events = [_event(chunks, {"role": "assistant", "content": ""}, index) for index in range(choices)]
    for piece in [] if answer.tool else _grouped(answer.text, _MOST_EVENTS // choices):
        for index in range(choices):
            events.append(_event(chunks, {"content": piece}, index, said=piece))  # noqa: PERF401  two loops read better
    for index in range(choices if answer.tool else 0):
        whole = {"index": 0} | _tool_call(call, answer, index)
        events.append(_event(chunks, {"tool_calls": [whole]}, index, said=answer.text))
    for index in range(choices):
        chunk = chunks.chunk({}, index=index, finish=answer.finish)
        events.append(StreamEvent(chunk=chunk, good=True))
    usage = _usage(call, answer.tokens * choices)
    events[-1].usage = usage
    events.append(StreamEvent(done=True, usage=usage))
    return events


def _event(chunks: Chunks, delta: dict[str, Any], index: int, *, said: str = "") -> StreamEvent:
    return StreamEvent(chunk=chunks.chunk(delta, index=index), good=bool(said), output_bytes=utf8_length(said))


def _tool_call(call: Call, answer: _Answer, index: int) -> dict[str, Any]:
    function = {"name": answer.tool, "arguments": answer.text}
    return {"id": f"call_{call.request_id.replace('-', '')}{index}", "type": "function", "function": function}


# What is said


def _answer(call: Call) -> _Answer:
    tool = _forced_tool(call.body)
    cap = call.target.output_cap
    if tool is not None:
        arguments = orjson.dumps(smallest(_parameters(tool))).decode()
        tokens = 1 + len(arguments.split())
        cut = tokens > cap
        return _Answer(arguments, min(tokens, cap), "length" if cut else "tool_calls", tool=str(tool.get("name")))
    text = _stopped(_text(call.body), call.body.get("stop"))
    pieces = list(islice(_pieces(text), cap + 1))
    if len(pieces) > cap:
        return _Answer("".join(pieces[:cap]), cap, "length")
    return _Answer(text, len(pieces), "stop")


def _text(body: Mapping[str, Any]) -> str:
    said = body.get("response_format")
    kind = said.get("type") if isinstance(said, Mapping) else None
    asked = _last_message(body)
    if kind == "json_object":
        return orjson.dumps({"answer": asked}).decode()
    if kind == "json_schema":
        described = said.get("json_schema") if isinstance(said, Mapping) else None
        schema = described.get("schema") if isinstance(described, Mapping) else None
        return orjson.dumps(smallest(schema if isinstance(schema, Mapping) else {"type": "object"})).decode()
    return f"Thank you for your message. You said: {asked}" if asked else "Thank you for your message."


def _last_message(body: Mapping[str, Any]) -> str:
    for message in reversed(_messages(body)):
        if message.get("role") == "user":
            return " ".join(_texts(message.get("content"))).strip()
    return ""


def _stopped(text: str, stop: Any) -> str:
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    ends = [text.find(one) for one in stops if isinstance(one, str) and one]
    return text[: min((end for end in ends if end >= 0), default=len(text))]


def _pieces(text: str) -> Iterator[str]:
    """The text word by word, white space kept with the word behind it."""
    return (found[0] for found in _WORD.finditer(text))


def _grouped(text: str, most: int) -> list[str]:
    """The text in at most so many pieces of whole words."""
    words = list(_pieces(text))
    size = max(1, -(-len(words) // most))
    return ["".join(words[at : at + size]) for at in range(0, len(words), size)]


def _forced_tool(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The function that must be called: the named one, or the first if any must be."""
    said, tools = body.get("tool_choice"), body.get("tools")
    functions = [one.get("function") for one in tools if isinstance(one, Mapping)] if isinstance(tools, list) else []
    known = {str(one.get("name")): one for one in functions if isinstance(one, Mapping)}
    wanted: Any = None
    if said == "required":
        wanted = next(iter(known), None)
    elif isinstance(said, Mapping) and said.get("type") == "allowed_tools":
        allowed = said.get("allowed_tools")
        listed = allowed.get("tools") if isinstance(allowed, Mapping) and allowed.get("mode") == "required" else None
        if not isinstance(listed, list) or not listed:
            return None
        wanted = _name(listed[0])
    elif isinstance(said, Mapping):
        wanted = _name(said)
    else:
        return None
    if wanted not in known:
        raise InvalidRequest("`tool_choice` asks for a tool that is not among `tools`.", param="tool_choice")
    return known[wanted]


def _name(one: Any) -> str | None:
    function = one.get("function") if isinstance(one, Mapping) else None
    found = function.get("name") if isinstance(function, Mapping) else None
    return found if isinstance(found, str) else None


def _parameters(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    found = tool.get("parameters")
    return {"type": "object"} | found if isinstance(found, dict) else {"type": "object"}


def _choices(call: Call) -> int:
    n = call.body.get("n")
    return n if type(n) is int and 1 <= n <= _MOST_CHOICES else 1


# What is counted


def _usage(call: Call, completion: int) -> dict[str, Any]:
    prompt = max(1, min(_prompt_tokens(call.body), call.target.model.context_window))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _prompt_tokens(body: Mapping[str, Any]) -> int:
    total = 0
    for message in _messages(body):
        total += PER_MESSAGE + sum(len(text.split()) for text in _texts(message.get("content")))
        content = message.get("content")
        if isinstance(content, list):
            total += PER_IMAGE * sum(isinstance(part, Mapping) and part.get("type") == "image_url" for part in content)
        total += _json_words(message.get("tool_calls"))
    return total + _json_words(body.get("tools")) + _json_words(body.get("response_format"))


def _json_words(value: Any) -> int:
    return len(orjson.dumps(value).split()) if value else 0


def _messages(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = body.get("messages")
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, Mapping) and isinstance(part.get("text"), str):
                yield part["text"]
