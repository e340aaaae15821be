"""The client wires: a request of each, and what its answer says, streamed or not, in the same words for all."""

import json
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
HELLO = "Say hello"
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}


def request(wire: str, model: str, more: Json, *, stream: bool) -> Json:
    """A plain request, with a feature's own fields over it."""
    body: Json = {"model": model}
    if wire == "responses":
        body |= {"input": HELLO, "max_output_tokens": 500}
    else:
        body |= {"messages": [{"role": "user", "content": HELLO}], "max_tokens": 500}
    if stream and wire == "chat":
        body["stream_options"] = {"include_usage": True}
    return body | more | ({"stream": True} if stream else {})


@dataclass
class Said:
    """One answer. `finish` is stop, length or tools; tokens as billed, cached ones among `prompt`."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    finish: str = ""
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    cost: float | None = None


def read(wire: str, raw: str, *, stream: bool) -> Said:
    """What a whole answer's body says. Raises AssertionError for an order that the wire does not know."""
    reader = {"chat": _chat, "messages": _messages, "responses": _responses}[wire]
    if stream:
        assembled = {"chat": _chat_of, "messages": _message_of, "responses": _response_of}[wire]
        return reader(assembled(raw))
    return reader(json.loads(raw))


def events(raw: str) -> list[tuple[str, Json]]:
    """(event name, data) of each event but comments; `[DONE]` must be the last where it is sent at all."""
    found = []
    frames = [one for one in raw.split("\n\n") if one and not one.startswith(":")]
    for number, frame in enumerate(frames):
        fields = dict(line.split(": ", 1) for line in frame.split("\n"))
        if fields["data"] == "[DONE]":
            assert number == len(frames) - 1
            continue
        found.append((fields.get("event", ""), json.loads(fields["data"])))
    return found


def _chat(body: Json) -> Said:
    [choice, *_] = body["choices"]
    message, usage = choice["message"], body["usage"]
    calls = [
        (call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in message.get("tool_calls") or []
    ]
    return Said(
        text=message["content"] or "",
        reasoning=message.get("reasoning_content") or "",
        calls=calls,
        finish={"tool_calls": "tools"}.get(choice["finish_reason"], choice["finish_reason"]),
        prompt=usage["prompt_tokens"],
        cached=(usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
        completion=usage["completion_tokens"],
        cost=usage.get("cost"),
    )


def _chat_of(raw: str) -> Json:
    """A chat completion put together from its chunks."""
    message: Json = {"content": "", "reasoning_content": "", "tool_calls": []}
    finish, usage = "", None
    assert raw.endswith("data: [DONE]\n\n")
    for _, chunk in events(raw):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            if choice["index"]:
                continue
            delta = choice["delta"]
            for name in ("content", "reasoning_content"):
                message[name] += delta.get(name) or ""
            for call in delta.get("tool_calls") or []:
                if call["index"] == len(message["tool_calls"]):
                    message["tool_calls"].append(call)
                else:
                    message["tool_calls"][call["index"]]["function"]["arguments"] += call["function"]["arguments"]
            finish = choice["finish_reason"] or finish
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def _messages(body: Json) -> Said:
    said = Said(finish={"end_turn": "stop", "max_tokens": "length", "tool_use": "tools"}[body["stop_reason"]])
    for block in body["content"]:
        if block["type"] == "text":
            said.text += block["text"]
        elif block["type"] == "thinking":
            said.reasoning += block["thinking"]
        elif block["type"] == "tool_use":
            said.calls.append((block["name"], block["input"]))
    usage = body["usage"]
    said.cached = usage.get("cache_read_input_tokens") or 0
    said.prompt = usage["input_tokens"] + said.cached + (usage.get("cache_creation_input_tokens") or 0)
    said.completion, said.cost = usage["output_tokens"], usage.get("cost")
    return said


def _message_of(raw: str) -> Json:
    """A message put together from its events."""
    found = events(raw)
    assert [name for name, _ in found] == [data["type"] for _, data in found]
    assert (found[0][0], found[-1][0]) == ("message_start", "message_stop")
    message: Json = found[0][1]["message"]
    assert message["usage"]["input_tokens"] + (message["usage"].get("cache_read_input_tokens") or 0) > 0
    blocks: list[Json] = []
    arguments: dict[int, str] = {}
    for name, data in found:
        if name == "content_block_start":
            assert data["index"] == len(blocks)
            blocks.append(data["content_block"])
        elif name == "content_block_delta":
            delta, block = data["delta"], blocks[data["index"]]
            if delta["type"] == "input_json_delta":
                arguments[data["index"]] = arguments.get(data["index"], "") + delta["partial_json"]
            elif delta["type"] == "signature_delta":
                block["signature"] = delta["signature"]
            else:
                kind = {"text_delta": "text", "thinking_delta": "thinking"}[delta["type"]]
                block[kind] += delta[kind]
        elif name == "message_delta":
            message["stop_reason"] = data["delta"]["stop_reason"]
            message["usage"] |= data["usage"]
    for index, text in arguments.items():
        blocks[index]["input"] = json.loads(text or "{}")
    return message | {"content": blocks}


def _responses(body: Json) -> Said:
    said = Said()
    for item in body["output"]:
        if item["type"] == "message":
            said.text += "".join(part["text"] for part in item["content"])
        elif item["type"] == "reasoning":
            said.reasoning += "".join(part["text"] for part in item["summary"])
        elif item["type"] == "function_call":
            said.calls.append((item["name"], json.loads(item["arguments"])))
    assert body["status"] in ("completed", "incomplete")
    said.finish = "length" if body["status"] == "incomplete" else "tools" if said.calls else "stop"
    usage = body["usage"]
    said.prompt, said.completion, said.cost = usage["input_tokens"], usage["output_tokens"], usage.get("cost")
    said.cached = usage["input_tokens_details"]["cached_tokens"]
    return said


def _response_of(raw: str) -> Json:
    """The response of the terminal event; what the deltas said must be in it."""
    found = events(raw)
    assert [data["sequence_number"] for _, data in found] == list(range(len(found)))
    name, last = found[-1]
    assert name in ("response.completed", "response.incomplete")
    told = "".join(data["delta"] for kind, data in found if kind == "response.output_text.delta")
    assert told == _responses(last["response"]).text
    response: Json = last["response"]
    return response
