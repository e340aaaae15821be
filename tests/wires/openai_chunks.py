"""OpenAI's chat answers, checked to the letter: every frame of a stream, and a whole answer.

Source: the chat completion objects of OpenAI's API reference and the models of openai-python, which are used in strict
mode; and WIRE section 3, rules 2 to 4, for what the schema cannot say.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk

Json = dict[str, Any]

REQUIRED = {"id", "object", "created", "model", "choices"}
FINISHES = {"stop", "length", "tool_calls", "content_filter", "function_call"}
COUNTS = {"prompt_tokens", "completion_tokens", "total_tokens"}


@dataclass
class Call:
    """A tool call as its fragments add up."""

    id: str
    name: str
    arguments: str


@dataclass
class Said:
    """One choice of an answer."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list[Call] = field(default_factory=list)
    finish: str | None = None


@dataclass
class Answer:
    """What a stream, or a whole answer, adds up to. `error` is the error object that broke a stream."""

    id: str = ""
    model: str = ""
    created: int = 0
    choices: dict[int, Said] = field(default_factory=dict)
    usage: Json | None = None
    error: Json | None = None

    @property
    def said(self) -> Said:
        """The only choice."""
        assert list(self.choices) == [0], self.choices
        return self.choices[0]


def payloads(raw: bytes) -> list[bytes]:
    """What each frame carries. Fails on anything but one line of `data: ...` and a blank line, and pings."""
    blocks = raw.split(b"\n\n")
    assert blocks.pop() == b"", raw[-200:]
    found = []
    for block in blocks:
        if block == b": ping":
            continue
        assert block.startswith(b"data: "), block[:200]
        assert b"\n" not in block, block[:200]
        assert b"\r" not in block, block[:200]
        found.append(block[6:])
    return found


def stream(raw: bytes, *, usage: bool = False) -> Answer:
    """A stream that ended well; `usage` says whether the client asked for it. Fails where a rule is broken."""
    said = payloads(raw)
    assert said[-1] == b"[DONE]", raw[-300:]
    assert said.count(b"[DONE]") == 1
    answer = _added(said[:-1], usage=usage)
    assert answer.choices, "no choice at all"
    for one in answer.choices.values():
        assert one.finish in FINISHES, one
        assert not one.calls or one.finish in ("tool_calls", "length", "content_filter"), one
        assert one.calls or one.finish != "tool_calls", one
    assert (answer.usage is not None) == usage
    return answer


def broken(raw: bytes) -> Answer:
    """A stream that broke after content: chunks in order, then one error event and nothing more."""
    *begun, last = payloads(raw)
    answer = _added(begun, usage=False)
    assert answer.choices, "an error alone should have been a status"
    assert all(one.finish is None for one in answer.choices.values()), "it broke, and yet it says why it ended"
    failure = json.loads(last)
    assert set(failure) == {"error"}, failure
    assert set(failure["error"]) == {"message", "type", "param", "code"}
    assert failure["error"]["code"]
    assert failure["error"]["message"]
    answer.error = failure["error"]
    return answer


def whole(raw: bytes) -> Answer:
    """An answer that is not streamed."""
    body = json.loads(raw)
    _named(body, "chat.completion")
    ChatCompletion.model_validate_json(raw, strict=True)
    answer = Answer(body["id"], body["model"], body["created"], usage=body["usage"])
    _counted(body["usage"])
    for choice in body["choices"]:
        assert {"index", "message", "finish_reason"} <= choice.keys(), choice
        message = choice["message"]
        assert "content" in message
        assert message.get("tool_calls", True), "an empty list of tool calls"
        said = Said(
            text=message["content"] or "",
            reasoning=message.get("reasoning_content") or "",
            refusal=message.get("refusal") or "",
            finish=choice["finish_reason"],
        )
        for call in message.get("tool_calls", ()):
            assert call["id"]
            assert call["function"]["name"]
            said.calls.append(Call(call["id"], call["function"]["name"], call["function"]["arguments"]))
        assert len({call.id for call in said.calls}) == len(said.calls)
        assert not said.calls or said.finish in ("tool_calls", "length", "content_filter"), said
        assert choice["index"] not in answer.choices
        answer.choices[choice["index"]] = said
    assert answer.choices
    return answer


def _added(said: list[bytes], *, usage: bool) -> Answer:
    """Chunks put together, each one checked."""
    answer = Answer()
    for number, payload in enumerate(said):
        chunk = json.loads(payload)
        assert chunk.get("error") is None, "an error in the midst"
        _named(chunk, "chat.completion.chunk")
        ChatCompletionChunk.model_validate_json(payload, strict=True)
        if number == 0:
            answer.id, answer.model, answer.created = chunk["id"], chunk["model"], chunk["created"]
        assert (chunk["id"], chunk["model"], chunk["created"]) == (answer.id, answer.model, answer.created)
        if not chunk["choices"]:
            assert usage, "usage that nobody asked for"
            assert number == len(said) - 1, "usage is not last"
            _counted(chunk["usage"])
            answer.usage = chunk["usage"]
            continue
        assert chunk.get("usage") is None
        for choice in chunk["choices"]:
            _add(answer, choice)
    for one in answer.choices.values():
        assert len({call.id for call in one.calls}) == len(one.calls), "two calls of one id"
    return answer


def _named(said: Json, kind: str) -> None:
    assert said.keys() >= REQUIRED, said.keys()
    assert said["object"] == kind
    for name in ("id", "model"):
        assert type(said[name]) is str
        assert said[name], f"an empty {name}"
    assert type(said["created"]) is int
    assert said["created"] > 0
    assert type(said["choices"]) is list


def _counted(usage: Json) -> None:
    assert usage.keys() >= COUNTS | {"cost"}, usage
    assert all(type(usage[name]) is int and usage[name] >= 0 for name in COUNTS), usage
    assert type(usage["cost"]) in (int, float)
    assert usage["cost"] >= 0


def _add(answer: Answer, choice: Json) -> None:
    assert choice.keys() >= {"index", "delta", "finish_reason"}, choice
    index, delta = choice["index"], choice["delta"]
    assert type(index) is int
    assert index >= 0
    new = index not in answer.choices
    assert (delta.get("role") == "assistant") if new else ("role" not in delta), "the role is said once, at first"
    one = answer.choices.setdefault(index, Said())
    assert one.finish is None, f"more after the end: {choice}"
    one.text += delta.get("content") or ""
    one.reasoning += delta.get("reasoning_content") or ""
    one.refusal += delta.get("refusal") or ""
    for fragment in delta.get("tool_calls") or ():
        _add_call(one.calls, fragment)
    one.finish = choice["finish_reason"]


def _add_call(calls: list[Call], fragment: Json) -> None:
    index, function = fragment["index"], fragment["function"]
    assert type(index) is int
    assert type(function["arguments"]) is str
    if index == len(calls):
        assert fragment["type"] == "function"
        assert fragment["id"]
        assert function["name"]
        calls.append(Call(fragment["id"], function["name"], function["arguments"]))
        return
    assert 0 <= index < len(calls), f"calls are not numbered from 0: {fragment}"
    assert not {"id", "type"} & fragment.keys(), fragment
    assert "name" not in function, fragment
    calls[index].arguments += function["arguments"]
