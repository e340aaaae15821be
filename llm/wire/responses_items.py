"""The output items of a response: what each holds, and the events that tell of it, in OpenAI's order.

    reasoning       output_item.added, reasoning_summary_part.added, reasoning_summary_text.delta ..., .done,
                    reasoning_summary_part.done, output_item.done
    message         output_item.added, then for each part: content_part.added, output_text.delta (or refusal.delta),
                    output_text.annotation.added ..., .done, content_part.done; output_item.done
    function_call   output_item.added, function_call_arguments.delta ..., .done, output_item.done

An item takes in what it is given at once, and says what it has not said yet when it is its turn. Shapes are those of
openai-python's `types/responses`.
"""

from typing import Any, Protocol

import orjson

from llm.wire.responses_reasoning import sealed

Json = dict[str, Any]
IN_PROGRESS, COMPLETED, INCOMPLETE = "in_progress", "completed", "incomplete"


class Events:
    """Numbers and frames the events of one stream."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def frame(self, kind: str, fields: Json) -> bytes:
        payload = orjson.dumps({"type": kind, "sequence_number": self.number, **fields})
        self.number += 1
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), payload)

    def delta(self, kind: bytes, where: bytes, text: str) -> bytes:
        """The frame there are most of. `where` is the fields that are the same on each, as JSON without braces."""
        number = self.number
        self.number = number + 1
        return b'event: %s\ndata: {"type":"%s","sequence_number":%d,%s,"delta":%s}\n\n' % (
            kind, kind, number, where, orjson.dumps(text),
        )  # fmt: skip


class Item(Protocol):
    """One output item. `index` is its place in the output."""

    index: int

    @property
    def whole(self) -> bool:
        """Nothing can be missing, should another item begin now."""
        ...

    @property
    def ready(self) -> bool:
        """Enough is known to name it."""
        ...

    def as_json(self, status: str) -> Json: ...

    def opened(self, events: Events) -> bytes: ...

    def said(self, events: Events) -> bytes:
        """What it has taken in since."""
        ...

    def closed(self, events: Events, status: str) -> bytes: ...


def _added(item: Item, events: Events) -> bytes:
    return events.frame("response.output_item.added", {"output_index": item.index, "item": item.as_json(IN_PROGRESS)})


def _done(item: Item, events: Events, status: str) -> bytes:
    return events.frame("response.output_item.done", {"output_index": item.index, "item": item.as_json(status)})


class Reasoning:
    """The provider's reasoning as a summary of one part, and its signed blocks as `encrypted_content`."""

    __slots__ = ("_blocks", "_started", "_text", "_unsaid", "_unsigned", "_where", "id", "index")
    whole = ready = True

    def __init__(self, index: int, item_id: str) -> None:
        self.index, self.id = index, item_id
        self._text: list[str] = []
        self._unsaid: list[str] = []
        self._unsigned: list[str] = []
        self._blocks: list[Json] = []
        self._started = False
        self._where = b'"item_id":"%s","output_index":%d,"summary_index":0' % (item_id.encode(), index)

    def take(self, text: str) -> None:
        self._text.append(text)
        self._unsaid.append(text)
        self._unsigned.append(text)

    def take_block(self, block: Json) -> None:
        """A signed block. In a stream its text is the reasoning that came before it."""
        if block.get("type") == "thinking":
            block = {**block, "thinking": block.get("thinking") or "".join(self._unsigned)}
            self._unsigned = []
        self._blocks.append(block)

    def as_json(self, status: str) -> Json:
        text = "".join(self._text)
        found: Json = {"id": self.id, "type": "reasoning", "summary": []}
        if status != IN_PROGRESS:
            if text:
                found["summary"] = [{"type": "summary_text", "text": text}]
            if self._blocks:
                found["encrypted_content"] = sealed(self._blocks)
        return found

    def opened(self, events: Events) -> bytes:
        return _added(self, events)

    def said(self, events: Events) -> bytes:
        if not self._unsaid:
            return b""
        text = self._unsaid[0] if len(self._unsaid) == 1 else "".join(self._unsaid)
        self._unsaid.clear()
        frames = b""
        if not self._started:
            self._started = True
            frames = events.frame("response.reasoning_summary_part.added", self._part(""))
        return frames + events.delta(b"response.reasoning_summary_text.delta", self._where, text)

    def closed(self, events: Events, status: str) -> bytes:
        frames = [self.said(events)]
        if self._started:
            text = "".join(self._text)
            where = {"item_id": self.id, "output_index": self.index, "summary_index": 0}
            frames.append(events.frame("response.reasoning_summary_text.done", {**where, "text": text}))
            frames.append(events.frame("response.reasoning_summary_part.done", self._part(text)))
        frames.append(_done(self, events, status))
        return b"".join(frames)

    def _part(self, text: str) -> Json:
        part = {"type": "summary_text", "text": text}
        return {"item_id": self.id, "output_index": self.index, "summary_index": 0, "part": part}


class _Part:
    """Text or a refusal, a part of a message."""

    __slots__ = (
        *("annotations", "field", "logprobs", "refusal", "started", "text"),
        *("unsaid", "unsaid_annotations", "unsaid_logprobs", "where"),
    )

    def __init__(self, message: "Message", position: int, *, refusal: bool) -> None:
        self.refusal = refusal
        self.field = "refusal" if refusal else "text"
        self.text: list[str] = []
        self.unsaid: list[str] = []
        self.logprobs: list[Json] = []
        self.unsaid_logprobs: list[Json] = []
        self.annotations: list[Json] = []
        self.unsaid_annotations: list[Json] = []
        self.started = False
        self.where = b'"item_id":"%s","output_index":%d,"content_index":%d' % (
            message.id.encode(), message.index, position,
        )  # fmt: skip

    def as_json(self) -> Json:
        if self.refusal:
            return {"type": "refusal", "refusal": "".join(self.text)}
        text = "".join(self.text)
        return {"type": "output_text", "annotations": self.annotations, "logprobs": self.logprobs, "text": text}


class Message:
    """What the assistant says."""

    __slots__ = ("_at", "_parts", "id", "index")
    whole = ready = True

    def __init__(self, index: int, item_id: str) -> None:
        self.index, self.id = index, item_id
        self._parts: list[_Part] = []
        self._at = 0  # the part that is being said

    def take(self, text: str, logprobs: list[Json] | None = None, *, refusal: bool = False) -> None:
        parts = self._parts
        if not parts or parts[-1].refusal is not refusal:
            parts.append(_Part(self, len(parts), refusal=refusal))
        part = parts[-1]
        part.text.append(text)
        part.unsaid.append(text)
        if logprobs:
            part.logprobs += logprobs
            part.unsaid_logprobs += logprobs

    def cite(self, annotations: list[Json]) -> None:
        """Sources of the text so far."""
        if not self._parts or self._parts[-1].refusal:
            self.take("")
        part = self._parts[-1]
        part.annotations += annotations
        part.unsaid_annotations += annotations

    def as_json(self, status: str) -> Json:
        content = [] if status == IN_PROGRESS else [part.as_json() for part in self._parts]
        return {"id": self.id, "type": "message", "status": status, "content": content, "role": "assistant"}

    def opened(self, events: Events) -> bytes:
        return _added(self, events)

    def said(self, events: Events) -> bytes:
        frames = []
        while self._at < len(self._parts):
            part = self._parts[self._at]
            if not part.started:
                part.started = True
                empty = _Part(self, self._at, refusal=part.refusal).as_json()
                frames.append(events.frame("response.content_part.added", {**self._place(), "part": empty}))
            if part.unsaid:
                frames.append(self._delta(part, events))
            if part.unsaid_annotations:
                frames += self._cited(part, events)
            if self._at == len(self._parts) - 1:
                break
            frames.append(self._part_done(part, events))
            self._at += 1
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def closed(self, events: Events, status: str) -> bytes:
        frames = [self.said(events)]
        if self._parts:
            frames.append(self._part_done(self._parts[-1], events))
        frames.append(_done(self, events, status))
        return b"".join(frames)

    def _delta(self, part: _Part, events: Events) -> bytes:
        text = part.unsaid[0] if len(part.unsaid) == 1 else "".join(part.unsaid)
        part.unsaid.clear()
        if not text:
            return b""
        if part.refusal:
            return events.delta(b"response.refusal.delta", part.where, text)
        where = part.where + b',"logprobs":'
        if part.unsaid_logprobs:
            where += orjson.dumps(part.unsaid_logprobs)
            part.unsaid_logprobs = []
        else:
            where += b"[]"
        return events.delta(b"response.output_text.delta", where, text)

    def _cited(self, part: _Part, events: Events) -> list[bytes]:
        said = len(part.annotations) - len(part.unsaid_annotations)
        frames = [
            events.frame(
                "response.output_text.annotation.added",
                {**self._place(), "annotation_index": index, "annotation": annotation},
            )
            for index, annotation in enumerate(part.unsaid_annotations, said)
        ]
        part.unsaid_annotations = []
        return frames

    def _part_done(self, part: _Part, events: Events) -> bytes:
        text: Json = {part.field: "".join(part.text)}
        if not part.refusal:
            text["logprobs"] = part.logprobs
        kind = "response.refusal.done" if part.refusal else "response.output_text.done"
        return events.frame(kind, {**self._place(), **text}) + events.frame(
            "response.content_part.done", {**self._place(), "part": part.as_json()}
        )

    def _place(self) -> Json:
        return {"item_id": self.id, "output_index": self.index, "content_index": self._at}


class ToolCall:
    """A call of one of the client's tools. `call_id` and `name` may come after its beginning; `spare` is the id if none
    comes. `rest` is what the provider wants back with it (Gemini's signatures)."""

    __slots__ = ("_arguments", "_spare", "_unsaid", "_where", "call_id", "custom", "id", "index", "name", "rest")

    def __init__(self, index: int, item_id: str, spare: str, *, custom: bool = False) -> None:
        self.index, self.id, self._spare, self.custom = index, item_id, spare, custom
        self.call_id = self.name = ""
        self.rest: Json = {}
        self._arguments: list[str] = []
        self._unsaid: list[str] = []
        self._where = b'"item_id":"%s","output_index":%d' % (item_id.encode(), index)

    @property
    def ready(self) -> bool:
        return bool(self.name)

    @property
    def whole(self) -> bool:
        """Its arguments are JSON from end to end. Calls that come interleaved are not, until their last fragment."""
        if self.custom:
            return True
        if not self._arguments or not self._arguments[-1].rstrip().endswith("}"):
            return False
        try:
            orjson.loads("".join(self._arguments))
        except orjson.JSONDecodeError:
            return False
        return True

    def take(self, arguments: str) -> None:
        self._arguments.append(arguments)
        self._unsaid.append(arguments)

    def as_json(self, status: str) -> Json:
        arguments = "" if status == IN_PROGRESS else "".join(self._arguments)
        if self.custom:
            said: Json = {"type": "custom_tool_call", "input": arguments}
        else:
            said = {"type": "function_call", "status": status, "arguments": arguments}
        return {"id": self.id, **said, "call_id": self.call_id or self._spare, "name": self.name, **self.rest}

    def opened(self, events: Events) -> bytes:
        return _added(self, events)

    def said(self, events: Events) -> bytes:
        text = "".join(self._unsaid)
        self._unsaid.clear()
        kind = b"response.custom_tool_call_input.delta" if self.custom else b"response.function_call_arguments.delta"
        return events.delta(kind, self._where, text) if text else b""

    def closed(self, events: Events, status: str) -> bytes:
        self.settle(status)
        frames = self.said(events)
        field = "input" if self.custom else "arguments"
        kind = "response.custom_tool_call_input.done" if self.custom else "response.function_call_arguments.done"
        done = {"item_id": self.id, "output_index": self.index, field: "".join(self._arguments)}
        return frames + events.frame(kind, done) + _done(self, events, status)

    def settle(self, status: str) -> None:
        """A call without arguments has none to parse: OpenAI writes `{}`."""
        if status == COMPLETED and not self.custom and not any(self._arguments):
            self.take("{}")
