"""What is said in a dirty answer, and what must come out of it: the pieces that the tables of dirt are made of."""

import json
from dataclasses import dataclass
from typing import Any

from tests.fakes.recording import SSE, Recording

Json = dict[str, Any]

USED = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Dirt:
    """One dirty answer. Exactly one of three endings is right:

    whole: `text`, `reasoning`, `calls` (name and arguments of each) and `finish` come out, billed by `used` (prompt and
        completion tokens), or, where it is None, estimated and flagged;
    broken: `code` comes as an error event after `text`, which is billed;
    refused: `status` and `code`, and nothing is billed.
    """

    body: bytes
    text: str = "Hello world"
    reasoning: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    finish: str = "stop"
    used: tuple[int, int] | None = (5, 2)
    status: int = 200
    code: str = ""
    kind: str = SSE
    framing: Any = "chunked"
    headers: tuple[tuple[str, str], ...] = ()
    stays: bool = False

    @property
    def recording(self) -> Recording:
        return Recording(
            self.body, kind=self.kind, framing=self.framing, headers=dict(self.headers), stays=self.stays
        )  # fmt: skip


def dump(event: Any) -> bytes:
    """Compact JSON, unless it is bytes already."""
    return event if isinstance(event, bytes) else json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def sse(*events: Any, end: bytes = DONE) -> bytes:
    """A `data:` frame for each event, and the end."""
    return b"".join(b"data: " + dump(event) + b"\n\n" for event in events) + end


def chunk(delta: Any = None, finish: Any = None, **more: Any) -> Json:
    """An honest chunk of one choice."""
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    names = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m"}
    return names | {"choices": [choice]} | more


def chosen(*choices: Any, **more: Any) -> Json:
    """An honest chunk but for its choices."""
    return chunk(choices=list(choices), **more)


def text(said: str, **more: Any) -> Json:
    return chunk({"content": said}, **more)


ROLE = chunk({"role": "assistant", "content": ""})
HELLO, WORLD = text("Hello"), text(" world")
STOP = chunk({}, "stop")
USAGE = chunk(choices=[], usage=USED)
CLEAN = (ROLE, HELLO, WORLD, STOP, USAGE)


def without(event: Json, *names: str) -> Json:
    return {name: value for name, value in event.items() if name not in names}


def called(*fragments: Json | list[Json], finish: Any = "tool_calls") -> bytes:
    """A stream that calls tools."""
    deltas = [chunk({"tool_calls": one if isinstance(one, list) else [one]}) for one in fragments]
    return sse(ROLE, *deltas, chunk({}, finish), USAGE)


def opened(index: Any = 0, known: Any = "call_1", name: Any = "add", arguments: Any = "", **more: Any) -> Json:
    """The first fragment of a call; None leaves a key out."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    said = {"index": index, "id": known, "type": "function", "function": function}
    return {key: value for key, value in said.items() if value is not None} | more


def piece(arguments: Any, index: Any = 0, **more: Any) -> Json:
    """A later fragment."""
    said: Json = {"function": {"arguments": arguments}}
    return (said if index is None else {"index": index} | said) | more
