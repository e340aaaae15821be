"""The order of a Responses stream, frame by frame: OpenAI's, whatever the provider behind the gateway sent.

`events_of` reads the bytes, `judged` holds the events to the grammar and returns the response of the last one:

    created, in_progress, item*, (completed | incomplete | (error, failed))
    item     output_item.added, body, output_item.done; one after the other, at most the last one left open by an error
    body     of a message: part*;  part = content_part.added, delta*, done, content_part.done
             of reasoning: at most one part = reasoning_summary_part.added, delta+, done, reasoning_summary_part.done
             of a call: delta*, done

Every event is also read by openai-python's own models, strictly.
"""

import json
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

Json = dict[str, Any]
_SDK: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_LAST = ("response.completed", "response.incomplete", "response.failed")
# Of each kind of delta: the event that ends it, and the field that repeats all of it.
_DELTAS = {
    "response.output_text.delta": ("response.output_text.done", "text"),
    "response.refusal.delta": ("response.refusal.done", "refusal"),
    "response.reasoning_summary_text.delta": ("response.reasoning_summary_text.done", "text"),
    "response.function_call_arguments.delta": ("response.function_call_arguments.done", "arguments"),
    "response.custom_tool_call_input.delta": ("response.custom_tool_call_input.done", "input"),
}
_DONES = {done: (delta, field) for delta, (done, field) in _DELTAS.items()}
_PARTS = {
    "response.content_part.added": ("message", "content_index"),
    "response.reasoning_summary_part.added": ("reasoning", "summary_index"),
}
_CONTENT = {"message": "content", "reasoning": "summary", "function_call": "arguments", "custom_tool_call": "input"}
_PART_DONE = {"response.content_part.done": "content_index", "response.reasoning_summary_part.done": "summary_index"}


def events_of(raw: bytes) -> list[Json]:
    """The events of a stream. A frame is `event:` and one `data:` of the same type; pings are comments."""
    blocks = raw.split(b"\n\n")
    assert blocks.pop() == b"", raw[-200:]
    found = []
    for block in blocks:
        if block == b": ping":
            continue
        assert b"\r" not in block, block
        first, second = block.split(b"\n")
        assert first.startswith(b"event: "), block
        assert second.startswith(b"data: "), block
        event = json.loads(second[6:])
        assert event["type"].encode() == first[7:], block
        found.append(event)
    return found


def judged(events: list[Json]) -> Json:
    """The response of the last event. Fails where the order is not OpenAI's."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        _SDK.validate_python(event)
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    begun = events[0]["response"]
    assert (begun["status"], begun["output"], begun["usage"]) == ("in_progress", [], None)
    last = events[-1]
    assert last["type"] in _LAST, last
    assert sum(event["type"] in _LAST for event in events) == 1
    failed = last["type"] == "response.failed"
    body = events[2 : -2 if failed else -1]
    assert (events[-2]["type"] == "error") is failed
    walk = _Walk()
    for event in body:
        walk.take(event)
    response = last["response"]
    Response.model_validate(response)
    for name in ("id", "object", "created_at", "model", "instructions", "tools", "tool_choice", "text", "metadata"):
        assert events[1]["response"][name] == begun[name] == response[name], name
    if failed:
        assert (response["status"], response["usage"]) == ("failed", None)
        assert response["error"]["message"] == events[-2]["message"]
        assert response["output"][: len(walk.done)] == walk.done
    else:
        assert walk.item is None, "an item was left open"
        assert response["output"] == walk.done
        assert response["status"] == last["type"].removeprefix("response.")
        assert response["usage"]["total_tokens"] > 0
        statuses = [item["status"] for item in walk.done if "status" in item]
        assert statuses[:-1] == ["completed"] * len(statuses[:-1])
    calls = [item["call_id"] for item in response["output"] if "call_id" in item]
    assert len(set(calls)) == len(calls)
    return dict(response)


class _Walk:
    """Where a stream stands."""

    def __init__(self) -> None:
        self.done: list[Json] = []
        self.item: Json | None = None  # as it was added
        self.parts: list[Json] = []  # of that item, done
        self.part: Json | None = None  # open
        self.said: list[str] = []  # deltas since the part, or the call, began
        self.whole: str | None = None  # what their `done` repeated
        self.ids: set[str] = set()

    def take(self, event: Json) -> None:
        kind = event["type"]
        if kind == "response.output_item.added":
            self._added(event)
            return
        assert self.item is not None, event
        if kind == "response.output_item.done":
            self._item_done(event)
            return
        assert (event["item_id"], event["output_index"]) == (self.item["id"], len(self.done)), event
        if kind in _PARTS:
            self._part_added(event, *_PARTS[kind])
        elif kind in _PART_DONE:
            self._part_done(event, _PART_DONE[kind])
        elif kind == "response.output_text.annotation.added":
            assert self.part is not None, event
            assert (self.part["type"], self.whole) == ("output_text", None), event
        elif kind in _DELTAS:
            assert event["delta"], "an empty delta"
            assert self.whole is None, event
            assert self._fits(kind, event), event
            self.said.append(event["delta"])
        else:
            delta, field = _DONES[kind]
            assert self.whole is None, event
            assert self._fits(delta, event), event
            self.whole = event[field]
            assert self.whole == "".join(self.said)

    def _fits(self, delta: str, event: Json) -> bool:
        """True if this kind of delta belongs where the stream stands."""
        assert self.item is not None
        if self.item["type"] == "message":
            wanted = {"output_text": "response.output_text.delta", "refusal": "response.refusal.delta"}
            at = event["content_index"] == len(self.parts)
            return self.part is not None and wanted[self.part["type"]] == delta and at
        if self.item["type"] == "reasoning":
            at = event["summary_index"] == len(self.parts)
            return self.part is not None and delta == "response.reasoning_summary_text.delta" and at
        custom = self.item["type"] == "custom_tool_call"
        return delta == f"response.{'custom_tool_call_input' if custom else 'function_call_arguments'}.delta"

    def _added(self, event: Json) -> None:
        assert self.item is None, "two items are open at once"
        assert event["output_index"] == len(self.done), event
        self.item, self.parts, self.part, self.said, self.whole = event["item"], [], None, [], None
        assert self.item["id"] not in self.ids
        self.ids.add(self.item["id"])
        assert self.item.get("status", "in_progress") == "in_progress"
        empty = {
            "message": "content",
            "reasoning": "summary",
            "function_call": "arguments",
            "custom_tool_call": "input",
        }
        assert not self.item[empty[self.item["type"]]], event

    def _part_added(self, event: Json, of: str, index: str) -> None:
        assert self.item is not None
        assert self.item["type"] == of
        assert self.part is None, event
        assert event[index] == len(self.parts), event
        assert event["part"].get("text", event["part"].get("refusal")) == "", event
        self.part, self.said, self.whole = event["part"], [], None

    def _part_done(self, event: Json, index: str) -> None:
        assert self.part is not None, event
        assert event[index] == len(self.parts), event
        assert event["part"]["type"] == self.part["type"]
        assert event["part"].get("text", event["part"].get("refusal")) == self.whole
        self.parts.append(event["part"])
        self.part = None

    def _item_done(self, event: Json) -> None:
        item, added = event["item"], self.item
        assert added is not None
        assert event["output_index"] == len(self.done), event
        assert self.part is None, "a part was left open"
        same = ("id", "type", "name", "call_id", "role")
        assert [item.get(name) for name in same] == [added.get(name) for name in same]
        if item["type"] == "message":
            assert item["content"] == self.parts
            assert self.parts, "a message without a part"
        elif item["type"] == "reasoning":
            assert item["summary"] == self.parts
        else:
            assert item["input" if item["type"] == "custom_tool_call" else "arguments"] == self.whole
        self.done.append(item)
        self.item = None
