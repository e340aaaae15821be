"""A chat stream as the events of a response, in OpenAI's order, whatever the provider sent.

OpenAI's output items come one after the other. Chat's need not: calls that were made at once may come interleaved. So
the first open item is told of as it comes, the next ones wait, and each takes its turn when the one before is whole.
"""

from collections import deque
from typing import Any

from llm.calls import StreamEvent
from llm.engine.channel import PING, Ending
from llm.engine.http import MAX_ANSWER_BYTES
from llm.errors import UpstreamInvalid
from llm.wire import sse
from llm.wire.errors import openai_body
from llm.wire.responses_answer import (
    Facts,
    blocks_of,
    citations_of,
    fill,
    logprobs_of,
    needs_message,
    new_call,
    outputs,
    status_of,
)
from llm.wire.responses_items import COMPLETED, IN_PROGRESS, INCOMPLETE, Events, Item, Message, Reasoning, ToolCall
from tenants.errors import TollgateError

Json = dict[str, Any]


class ResponseStream:
    """One stream to one client. Keeps all that was said, since the last event repeats it: at most as much as an answer
    that is not streamed may have."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._events = Events()
        self._items: list[Item] = []  # in the order of the output; the last one is still taken in
        self._waiting: deque[Item] = deque()
        self._open: Item | None = None
        self._opened = False  # its first event is said
        self._calls: dict[int, ToolCall] = {}  # by chat's index
        self._call_ids: set[str] = set()
        self._finish: str | None = None
        self._closed = 0  # so many items are told of to their end
        self._kept = 0  # characters

    def render(self, events: list[StreamEvent]) -> bytes:
        """Frames for these events; empty if none of them is for the client."""
        frames = []
        for event in events:
            if event is PING:
                frames.append(sse.PING)
            elif event.chunk is not None:
                self._take(event.chunk, frames)
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def finish(self, ending: Ending) -> bytes:
        """The rest of the items, and the one last event with the settled usage; after an error the error."""
        frames: list[bytes] = []
        if self._events.number == 0:
            self._begin(frames)
        if ending.error is not None:
            return b"".join([*frames, self._failed(ending.error)])
        if self._kept > MAX_ANSWER_BYTES:
            return b"".join([*frames, self._failed(UpstreamInvalid("The provider's answer has no end."))])
        finish = self._finish or "stop"
        status = status_of(finish)
        if needs_message(self._items, self._calls, status) and not any(isinstance(one, Message) for one in self._items):
            self._message().take("")
        while self._open is not None or self._waiting:
            self._turn(frames, COMPLETED if self._waiting and self._open is not None else status)
        items, usage, tier = outputs(self._items, status), ending.usage, ending.service_tier
        response = self._facts.response(status, items, usage=usage, finish=finish, service_tier=tier)
        frames.append(self._events.frame(f"response.{status}", {"response": response}))
        return b"".join(frames)

    def _begin(self, frames: list[bytes]) -> None:
        response = self._facts.response(IN_PROGRESS, [])
        frames.append(self._events.frame("response.created", {"response": response}))
        frames.append(self._events.frame("response.in_progress", {"response": response}))

    def _failed(self, error: TollgateError) -> bytes:
        """OpenAI's two: `error`, at which SDKs raise, and the response as far as it came."""
        said = openai_body(error)["error"]
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        output = outputs(self._items, INCOMPLETE, self._closed)
        response = self._facts.response("failed", output, error={"code": code, "message": error.message})
        return self._events.frame(
            "error", {"code": said["code"], "message": said["message"], "param": said["param"], "error": said}
        ) + self._events.frame("response.failed", {"response": response})

    # --- what comes in ------------------------------------------------------------------------------------------------

    def _take(self, chunk: Json, frames: list[bytes]) -> None:
        choices = chunk.get("choices")
        if not choices or not isinstance(choices, list):
            return  # usage alone
        if self._events.number == 0:
            model = chunk.get("model")
            if isinstance(model, str) and model:
                self._facts.model = model
            self._begin(frames)
        choice = choices[0]  # one was asked for
        if self._kept > MAX_ANSWER_BYTES:
            return
        delta = choice.get("delta")
        if self._finish is not None:
            if not isinstance(delta, dict) or not any(value for name, value in delta.items() if name != "role"):
                return
            self._finish = None  # more is said: it was no end
        if isinstance(delta, dict):
            self._delta(delta, choice)
            item = self._open
            if item is not None and not self._waiting:
                said = self._say(item)
                if said:
                    frames.append(said)
            else:
                self._advance(frames)
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            self._finish = finish

    def _delta(self, delta: Json, choice: Json) -> None:
        text = delta.get("content")
        more = len(delta) > 1 or type(text) is not str  # nearly every one is text alone
        if more:
            thought = delta.get("reasoning_content")
            if isinstance(thought, str) and thought:
                self._kept += len(thought)
                self._reasoning().take(thought)
            for block in blocks_of(delta.get("thinking_blocks")):
                self._reasoning().take_block(block)
        if isinstance(text, str) and text:
            self._kept += len(text)
            self._message().take(text, logprobs_of(choice) if choice.get("logprobs") else None)
        if more:
            if delta.get("annotations") and (cited := citations_of(delta)):
                self._message().cite(cited)
            refusal = delta.get("refusal")
            if isinstance(refusal, str) and refusal:
                self._kept += len(refusal)
                self._message().take(refusal, refusal=True)
            for call in delta.get("tool_calls") or ():
                self._call(call)

    def _call(self, call: Json) -> None:
        position = call.get("index", 0)
        made = self._calls.get(position)
        if made is None:
            made = self._calls[position] = new_call(self._facts, len(self._items), call)
            self._add(made)
        elif made.index < self._closed:
            return  # its arguments were JSON from end to end
        function = call.get("function") or call.get("custom")
        if isinstance(function, dict):
            self._kept += len(str(function.get("arguments") or function.get("input") or ""))
        fill(made, call, self._call_ids)

    def _message(self) -> Message:
        last = self._items[-1] if self._items else None
        if not isinstance(last, Message):
            last = Message(len(self._items), self._facts.new_id("msg", len(self._items)))
            self._add(last)
        return last

    def _reasoning(self) -> Reasoning:
        last = self._items[-1] if self._items else None
        if not isinstance(last, Reasoning):
            last = Reasoning(len(self._items), self._facts.new_id("rs", len(self._items)))
            self._add(last)
        return last

    def _add(self, item: Item) -> None:
        self._items.append(item)
        self._waiting.append(item)

    # --- what goes out ------------------------------------------------------------------------------------------------

    def _advance(self, frames: list[bytes]) -> None:
        """Let items take their turns as far as they can."""
        while self._waiting and (self._open is None or self._open.whole):
            self._turn(frames, COMPLETED)
        if self._open is not None:
            frames.append(self._say(self._open))

    def _turn(self, frames: list[bytes], status: str) -> None:
        """Close the open item, or open the next."""
        item = self._open
        if item is None:
            self._open, self._opened = self._waiting.popleft(), False
            return
        if not self._opened:
            frames.append(item.opened(self._events))
        frames.append(item.closed(self._events, status))
        self._open = None
        self._closed += 1

    def _say(self, item: Item) -> bytes:
        if self._opened:
            return item.said(self._events)
        if not item.ready:
            return b""
        self._opened = True
        return item.opened(self._events) + item.said(self._events)
