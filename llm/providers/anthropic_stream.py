"""Anthropic's stream events as chat chunks.

message_start          role; usage of the prompt (no completion tokens: it says 1 before anything is produced)
text_delta             content
thinking_delta         reasoning_content
signature_delta        thinking_blocks: [{"type": "thinking", "thinking": "", "signature": ...}], the text of which
                       is the reasoning before it; redacted thinking comes as a block of its own
tool_use, input_json   tool_calls, indexed from 0; a call without arguments gets "{}"
message_delta          finish_reason; usage, cumulative
message_stop           the end
error                  raises; ping and what is not known: nothing
"""

from typing import Any

import orjson

from llm.calls import Call, StreamEvent
from llm.errors import UpstreamInvalid
from llm.providers import failures
from llm.providers.anthropic_request import STRUCTURED_TOOL
from llm.providers.chunks import Chunks, finish_reason, utf8_length
from llm.providers.usage import openai_shape

_PROMPT_COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_OUTPUT_COUNTS = ("output_tokens", "output_tokens_details")


class Counts:
    """The usage that a stream has reported so far. Counts are cumulative: they never fall, though some vendors repeat a
    zero later."""

    __slots__ = ("_raw", "service_tier", "usage")

    def __init__(self) -> None:
        self._raw: dict[str, Any] = {}
        self.usage: dict[str, Any] | None = None  # OpenAI-shaped
        self.service_tier = ""

    def take(self, said: Any, *, produced: bool) -> None:
        """Take in a usage object; `produced`: it counts output too."""
        self.service_tier = service_tier_of(said) or self.service_tier
        if not isinstance(said, dict) or not (produced or any(said.get(key) for key in _PROMPT_COUNTS)):
            return  # an opening that counts no prompt at all has not counted yet
        for key in (*_PROMPT_COUNTS, "cache_creation", *(_OUTPUT_COUNTS if produced else ())):
            value = said.get(key)
            if value is None:
                continue
            before = self._raw.get(key)
            if type(value) is int and type(before) is int and value >= 0:
                value = max(value, before)
            self._raw[key] = value
        self.usage = openai_shape(self._raw)


def service_tier_of(usage: Any) -> str:
    """The service tier that was used, in Anthropic's word; empty if it is not said."""
    found = usage.get("service_tier") if isinstance(usage, dict) else None
    return found if isinstance(found, str) else ""


class _Tool:
    """A tool call under way. `index` is None for the tool that stands in for a JSON schema: its input is the text."""

    __slots__ = ("index", "input", "said")

    def __init__(self, index: int | None, given: Any) -> None:
        self.index = index
        self.input = given if isinstance(given, dict) and given else {}
        self.said = False  # any argument sent


class MessageReader:
    """Implements `base.StreamReader`."""

    __slots__ = ("_byok", "_calls", "_chunks", "_counts", "_passed", "_tools")

    def __init__(self, call: Call) -> None:
        self._byok = call.target.key_source == "byok"
        self._chunks = Chunks(call)
        self._tools: dict[int, _Tool] = {}  # open tool blocks, by block index
        self._passed: set[int] = set()  # blocks that are passed over, with their input: server tools
        self._calls = 0
        self._counts = Counts()

    def read(self, payload: bytes) -> list[StreamEvent]:
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            if payload.strip() == b"[DONE]":  # imitations of the dialect end so
                return [StreamEvent(done=True, usage=self._counts.usage)]
            raise UpstreamInvalid("The provider sent an event that is not JSON.") from error
        if type(event) is not dict:
            raise UpstreamInvalid("The provider sent an event that is not an object.")
        kind = event.get("type")
        if kind == "content_block_delta":
            return self._delta(event)
        if kind == "content_block_start":
            return self._start(event)
        if kind == "content_block_stop":
            return self._stop(event)
        if kind == "message_start":
            return self._message(_object(event, "message"))
        if kind == "message_delta":
            return self._finish(event)
        if kind == "message_stop":
            return [StreamEvent(done=True, usage=self._counts.usage)]
        if kind == "error" or event.get("error"):
            raise failures.in_band(event.get("error"), byok=self._byok)
        return []

    def _message(self, message: dict[str, Any]) -> list[StreamEvent]:
        known, model = message.get("id"), message.get("model")
        if isinstance(known, str) and known:
            self._chunks.id = known
        if isinstance(model, str) and model:
            self._chunks.model = model
        self._counts.take(message.get("usage"), produced=False)
        opening = self._event({"role": "assistant", "content": ""}, good=False)
        opening.service_tier = self._counts.service_tier
        return [opening]

    def _start(self, event: dict[str, Any]) -> list[StreamEvent]:
        block = _object(event, "content_block")
        kind = block.get("type")
        if kind == "text":
            return self._text("content", block.get("text"))
        if kind == "thinking":
            return self._text("reasoning_content", block.get("thinking"))
        if kind == "redacted_thinking":
            return [self._event({"thinking_blocks": [block]})]
        if kind != "tool_use":
            self._passed.add(_index(event))
            return []
        name = block.get("name")
        if not isinstance(name, str) or not name:
            raise UpstreamInvalid("The provider sent a tool call without a name.")
        if name == STRUCTURED_TOOL:
            self._tools[_index(event)] = _Tool(None, block.get("input"))
            return []
        call = {
            "index": self._calls,
            "id": str(block.get("id") or f"call_{self._chunks.id}_{self._calls}"),
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        self._tools[_index(event)] = _Tool(self._calls, block.get("input"))
        self._calls += 1
        return [self._event({"tool_calls": [call]})]

    def _delta(self, event: dict[str, Any]) -> list[StreamEvent]:
        delta = _object(event, "delta")
        kind = delta.get("type")
        if kind == "text_delta":
            return self._text("content", delta.get("text"))
        if kind == "thinking_delta":
            return self._text("reasoning_content", delta.get("thinking"))
        if kind == "input_json_delta":
            tool = self._tools.get(_index(event))
            if tool is None and delta.get("partial_json") and _index(event) not in self._passed:
                raise UpstreamInvalid("The provider sent arguments of a tool call that it did not begin.")
            return self._arguments(tool, delta.get("partial_json"))
        if kind == "signature_delta" and delta.get("signature"):
            block = {"type": "thinking", "thinking": "", "signature": delta["signature"]}
            return [self._event({"thinking_blocks": [block]})]
        return []

    def _stop(self, event: dict[str, Any]) -> list[StreamEvent]:
        tool = self._tools.pop(_index(event), None)
        if tool is None or tool.said:
            return []
        return self._arguments(tool, orjson.dumps(tool.input).decode())  # "{}", or all of it came with the start

    def _finish(self, event: dict[str, Any]) -> list[StreamEvent]:
        self._counts.take(event.get("usage"), produced=True)
        said = _object(event, "delta").get("stop_reason")
        usage, service_tier = self._counts.usage, self._counts.service_tier
        if said is None:
            return [StreamEvent(usage=usage, service_tier=service_tier)]
        finish = finish_reason(said, tools=self._calls > 0)
        chunk = self._chunks.chunk({}, finish=finish)
        return [StreamEvent(chunk=chunk, good=True, usage=usage, ended=True, service_tier=service_tier)]

    def _arguments(self, tool: _Tool | None, text: Any) -> list[StreamEvent]:
        if tool is None or text in (None, ""):
            return []
        tool.said = True
        if tool.index is None:
            return self._text("content", text)
        if not isinstance(text, str):
            raise UpstreamInvalid("The provider sent tool arguments that are no text.")
        found = self._event({"tool_calls": [{"index": tool.index, "function": {"arguments": text}}]})
        found.output_bytes = utf8_length(text)
        return [found]

    def _text(self, name: str, text: Any) -> list[StreamEvent]:
        if text is None or text == "":
            return []
        if type(text) is not str:
            raise UpstreamInvalid("The provider sent a delta whose text is no text.")
        return [
            StreamEvent(
                chunk=self._chunks.chunk({name: text}),
                good=True,
                usage=self._counts.usage,
                output_bytes=utf8_length(text),
            )
        ]

    def _event(self, delta: dict[str, Any], *, good: bool = True) -> StreamEvent:
        return StreamEvent(chunk=self._chunks.chunk(delta), good=good, usage=self._counts.usage)


def _object(event: dict[str, Any], name: str) -> dict[str, Any]:
    found = event.get(name)
    if not isinstance(found, dict):
        raise UpstreamInvalid(f"The provider sent an event without its `{name}`.")
    return found


def _index(event: dict[str, Any]) -> int:
    found = event.get("index")
    return found if type(found) is int else 0
