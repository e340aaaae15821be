"""Anthropic's event order, checked frame by frame: what every stream of `/v1/messages` must obey.

    message_start (content_block_start content_block_delta* content_block_stop)* message_delta+ message_stop

with pings anywhere after the first. Source: platform.claude.com/docs, "Streaming messages", and the event types of
anthropic-sdk-python.
"""

import json
from typing import Any

Json = dict[str, Any]

STOPS = {"end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal"}
STOPS |= {"model_context_window_exceeded"}
COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
# Delta types by the type of the block they belong to, and where their piece is.
DELTAS = {
    "text": {"text_delta": "text", "citations_delta": "citation"},
    "thinking": {"thinking_delta": "thinking", "signature_delta": "signature"},
    "tool_use": {"input_json_delta": "partial_json"},
    "redacted_thinking": {},
}


def events_of(raw: bytes) -> list[Json]:
    """The events of a stream. Fails on any frame but `event: name`, `data: {json}` of that type, and a blank line."""
    blocks = raw.split(b"\n\n")
    assert blocks.pop() == b"", raw[-200:]
    found = []
    for block in blocks:
        assert b"\r" not in block, block
        name, _, data = block.partition(b"\n")
        assert name.startswith(b"event: "), block
        assert data.startswith(b"data: "), block
        assert b"\n" not in data, block
        event = json.loads(data[6:])
        assert event["type"] == name[7:].decode(), block
        found.append(event)
    return found


def message_of(events: list[Json]) -> Json:
    """The message that a stream adds up to. Fails where the order is not Anthropic's."""
    events = events[:1] + [event for event in events[1:] if event["type"] != "ping"]
    assert events[-1] == {"type": "message_stop"}, events[-1]
    message = _started(events[0])
    body = events[1:-1]
    assert body, events
    content: list[Json] = []
    is_open = False
    finishing = False
    for event in body:
        kind = event["type"]
        if kind == "content_block_start":
            assert not is_open, f"a block within a block: {event}"
            assert not finishing, event
            assert event["index"] == len(content), event
            content.append(_opened(event["content_block"]))
            is_open = True
        elif kind == "content_block_delta":
            assert is_open, f"outside of any block: {event}"
            assert event["index"] == len(content) - 1, f"of another block: {event}"
            _add(content[-1], event["delta"])
        elif kind == "content_block_stop":
            assert is_open, event
            assert event["index"] == len(content) - 1, event
            is_open = False
        else:
            assert kind == "message_delta", event
            assert not is_open, "the message ends within a block"
            finishing = True
            _finish(message, event)
    assert finishing, "no message_delta"
    assert message["stop_reason"] in STOPS
    message["content"] = [_closed(block) for block in content]
    called = any(block["type"] == "tool_use" for block in content)
    assert not called or message["stop_reason"] != "end_turn"
    return message


def broken_off(events: list[Json]) -> Json:
    """The error that ends a stream which had begun well."""
    *begun, last = events
    assert begun, events
    assert begun[0]["type"] == "message_start"
    assert not {"message_stop", "error"} & {event["type"] for event in begun}
    assert (last["type"], set(last)) == ("error", {"type", "error", "request_id"})
    assert set(last["error"]) == {"type", "message"}
    return last["error"]


def _started(event: Json) -> Json:
    assert event["type"] == "message_start", event
    message = event["message"]
    assert (message["type"], message["role"], message["content"]) == ("message", "assistant", [])
    assert message["stop_reason"] is None
    assert message["stop_sequence"] is None
    for name in ("id", "model"):
        assert isinstance(message[name], str)
        assert message[name]
    usage = message["usage"]
    assert all(type(usage.get(name, 0)) is int and usage.get(name, 0) >= 0 for name in COUNTS), usage
    assert sum(usage.get(name, 0) for name in COUNTS[:3]) > 0, "no input tokens"
    assert type(usage["output_tokens"]) is int
    return message


def _opened(block: Json) -> Json:
    block = dict(block)
    if block["type"] == "text":
        assert isinstance(block["text"], str)
    elif block["type"] == "thinking":
        assert isinstance(block["thinking"], str)
        assert isinstance(block["signature"], str)
    elif block["type"] == "tool_use":
        assert block["input"] == {}
        assert block["id"]
        assert block["name"]
        block["partial"] = ""
    return block


def _add(block: Json, delta: Json) -> None:
    known = DELTAS.get(block["type"])
    if known is None:  # a block of a later day
        return
    name = known[delta["type"]]
    piece = delta[name]
    if delta["type"] == "citations_delta":
        block.setdefault("citations", []).append(piece)
        return
    assert isinstance(piece, str)
    if delta["type"] == "signature_delta":
        assert block["signature"] == "", "signed twice"
        block["signature"] = piece
    else:
        place = "partial" if block["type"] == "tool_use" else name
        block[place] += piece


def _finish(message: Json, event: Json) -> None:
    message["stop_reason"] = event["delta"]["stop_reason"]
    message["stop_sequence"] = event["delta"]["stop_sequence"]
    assert type(event["usage"]["output_tokens"]) is int
    message["usage"] = message["usage"] | event["usage"]


def _closed(block: Json) -> Json:
    """A tool's input put together. One that is no JSON stays text: the model wrote it."""
    if block["type"] != "tool_use":
        return block
    partial = block.pop("partial")
    try:
        block["input"] = json.loads(partial or "{}")
    except ValueError:
        block["input"] = partial
    return block
