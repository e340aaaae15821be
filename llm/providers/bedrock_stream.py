"""What Converse answers, whole or as the events of a stream, as chat completions and chunks.

messageStart           role
contentBlockStart      a tool call's id and name; text and reasoning start unannounced
contentBlockDelta      text: content; toolUse.input: arguments; reasoningContent: reasoning_content, and thinking_blocks
                       for its signature or its redacted content, as the anthropic dialect gives them
contentBlockStop       a call without arguments gets "{}"
messageStop            finish_reason
metadata               usage, once and last: the end
an exception           raises; what is not known: nothing
"""

import hashlib
from typing import Any

import orjson

from llm.calls import Call, Completed, StreamEvent
from llm.errors import ProviderError, UpstreamFailed, UpstreamInvalid
from llm.providers import bedrock_failures
from llm.providers.anthropic_request import STRUCTURED_TOOL
from llm.providers.chunks import Chunks, created_at, finish_reason, utf8_length
from llm.providers.eventstream import BROKEN, EXCEPTION
from llm.providers.usage import openai_shape

Json = dict[str, Any]

_MALFORMED = ("malformed_model_output", "malformed_tool_use")


class ConverseReader:
    """Implements `base.StreamReader`."""

    __slots__ = ("_byok", "_calls", "_chunks", "_tools")

    def __init__(self, call: Call) -> None:
        self._byok = call.target.key_source == "byok"
        self._chunks = Chunks(call)
        self._tools: dict[int, _Tool] = {}  # open tool blocks, by block index
        self._calls = 0

    def read(self, payload: bytes) -> list[StreamEvent]:
        try:
            found = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise UpstreamInvalid("The provider sent an event that is not JSON.") from error
        if type(found) is not dict or len(found) != 1:
            raise UpstreamInvalid("The provider sent an event that is not one object.")
        [(kind, event)] = found.items()
        if kind in (BROKEN, EXCEPTION):
            raise self._error(kind, event)
        if type(event) is not dict:
            raise UpstreamInvalid("The provider sent an event that is not an object.")
        if kind == "contentBlockDelta":
            return self._delta(event)
        if kind == "contentBlockStart":
            return self._start(event)
        if kind == "contentBlockStop":
            return self._stop(event)
        if kind == "messageStart":
            return [self._event({"role": "assistant", "content": ""}, good=False)]
        if kind == "messageStop":
            finish = finished(event.get("stopReason"), tools=self._calls > 0)
            return [StreamEvent(chunk=self._chunks.chunk({}, finish=finish), good=True)]
        if kind == "metadata":
            return [StreamEvent(usage=usage(event.get("usage")), done=True, service_tier=service_tier_of(event))]
        return []

    def _error(self, kind: str, event: Any) -> ProviderError:
        if kind == BROKEN or type(event) is not dict:
            return UpstreamInvalid(str(event))
        return bedrock_failures.in_stream(str(event.get("type")), event.get("detail"), byok=self._byok)

    def _start(self, event: Json) -> list[StreamEvent]:
        start = event.get("start")
        use = start.get("toolUse") if isinstance(start, dict) else None
        if not isinstance(use, dict) or use.get("type") == "server_tool_use":
            return []
        if use.get("name") == STRUCTURED_TOOL:
            self._tools[_index(event)] = _Tool(None)
            return []
        function = {"name": _string(use.get("name")), "arguments": ""}
        call = {"index": self._calls, "id": _string(use.get("toolUseId")), "type": "function", "function": function}
        self._tools[_index(event)] = _Tool(self._calls)
        self._calls += 1
        return [self._event({"tool_calls": [call]})]

    def _delta(self, event: Json) -> list[StreamEvent]:
        delta = event.get("delta")
        if type(delta) is not dict:
            raise UpstreamInvalid("The provider sent an event without its `delta`.")
        if "text" in delta:
            return self._text("content", delta["text"])
        if "toolUse" in delta:
            return self._arguments(self._tools.get(_index(event)), _object(delta, "toolUse").get("input"))
        if "reasoningContent" in delta:
            return self._reasoning(_object(delta, "reasoningContent"))
        return []

    def _reasoning(self, said: Json) -> list[StreamEvent]:
        if said.get("text"):
            return self._text("reasoning_content", said["text"])
        if said.get("signature"):
            block = {"type": "thinking", "thinking": "", "signature": _string(said["signature"])}
            return [self._event({"thinking_blocks": [block]})]
        if said.get("redactedContent"):
            block = {"type": "redacted_thinking", "data": _string(said["redactedContent"])}
            return [self._event({"thinking_blocks": [block]})]
        return []

    def _stop(self, event: Json) -> list[StreamEvent]:
        tool = self._tools.pop(_index(event), None)
        return [] if tool is None or tool.said else self._arguments(tool, "{}")

    def _arguments(self, tool: "_Tool | None", text: Any) -> list[StreamEvent]:
        if tool is None or text in (None, ""):
            return []
        tool.said = True
        if tool.index is None:
            return self._text("content", text)
        found = self._event({"tool_calls": [{"index": tool.index, "function": {"arguments": _string(text)}}]})
        found.output_bytes = utf8_length(text)
        return [found]

    def _text(self, name: str, text: Any) -> list[StreamEvent]:
        if not _string(text):
            return []
        chunk = self._chunks.chunk({name: text})
        return [StreamEvent(chunk=chunk, good=True, output_bytes=utf8_length(text))]

    def _event(self, delta: Json, *, good: bool = True) -> StreamEvent:
        return StreamEvent(chunk=self._chunks.chunk(delta), good=good)


class _Tool:
    """A tool call under way. `index` is None for the tool that stands in for a JSON schema: its input is the text."""

    __slots__ = ("index", "said")

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.said = False  # any argument sent


def completion(body: bytes, call: Call) -> Completed:
    """A whole answer. Raises UpstreamInvalid for what is none, UpstreamFailed for one that its model got wrong."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UpstreamInvalid("The provider's answer is not JSON.") from error
    if isinstance(answer, dict) and isinstance(answer.get("__type"), str):  # what AWS calls an error, under 200
        raise bedrock_failures.in_stream(answer["__type"], answer, byok=call.target.key_source == "byok")
    output = answer.get("output") if isinstance(answer, dict) else None
    message = output.get("message") if isinstance(output, dict) else None
    blocks = message.get("content") if isinstance(message, dict) else None
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise UpstreamInvalid("The provider's answer has no content.")
    said = _assistant(blocks)
    finish = finished(answer.get("stopReason"), tools="tool_calls" in said)
    found: Json = {
        "id": "chatcmpl-" + hashlib.blake2b(body, digest_size=12).hexdigest(),
        "object": "chat.completion",
        "created": created_at(call.request_id),
        "model": call.target.model.model_id,
        "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": finish}],
    }
    counted = usage(answer.get("usage"))
    if counted is not None:
        found["usage"] = counted
    return Completed(body=found, usage=counted, service_tier=service_tier_of(answer))


def _assistant(blocks: list[Json]) -> Json:
    """The assistant's message. Blocks of server tools have no place in it and are passed over."""
    texts: list[str] = []
    thoughts: list[str] = []
    thinking: list[Json] = []
    calls: list[Json] = []
    for block in blocks:
        if "text" in block:
            texts.append(_string(block["text"]))
        elif "reasoningContent" in block:
            _thought(_object(block, "reasoningContent"), thoughts, thinking)
        elif "toolUse" in block:
            use = _object(block, "toolUse")
            arguments = orjson.dumps(use.get("input") or {}).decode()
            if use.get("name") == STRUCTURED_TOOL:
                texts.append(arguments)
            elif use.get("type") != "server_tool_use":
                function = {"name": _string(use.get("name")), "arguments": arguments}
                calls.append({"id": _string(use.get("toolUseId")), "type": "function", "function": function})
        elif "citationsContent" in block:
            cited = _object(block, "citationsContent").get("content")
            texts += [_string(one.get("text")) for one in cited or () if isinstance(one, dict)]
    message: Json = {"role": "assistant", "content": "".join(texts) or (None if calls else ""), "refusal": None}
    if any(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    if thinking:
        message["thinking_blocks"] = thinking
    if calls:
        message["tool_calls"] = calls
    return message


def _thought(said: Json, thoughts: list[str], thinking: list[Json]) -> None:
    """Reasoning: its text, and the block that can be taken back if it is signed or redacted."""
    if "reasoningText" in said:
        text = _object(said, "reasoningText")
        thoughts.append(_string(text.get("text")))
        if text.get("signature"):
            signature = _string(text["signature"])
            thinking.append({"type": "thinking", "thinking": thoughts[-1], "signature": signature})
    elif said.get("redactedContent"):
        thinking.append({"type": "redacted_thinking", "data": _string(said["redactedContent"])})


def finished(said: Any, *, tools: bool) -> str:
    """The finish in OpenAI's words. Raises UpstreamFailed for an answer that its model got wrong."""
    if said in _MALFORMED:
        raise UpstreamFailed("The provider's model broke off its answer: what it made cannot be read.")
    return finish_reason(said, tools=tools)


def service_tier_of(said: Json) -> str:
    """The service tier that was used, in AWS's word; empty if it is not said."""
    found = said.get("serviceTier")
    kind = found.get("type") if isinstance(found, dict) else None
    return kind if isinstance(kind, str) else ""


def usage(said: Any) -> Json | None:
    """Converse's counts in the OpenAI shape; None if one of them is none.

    `inputTokens` are those neither read from nor written to the cache, as Anthropic counts them (docs.aws.amazon.com,
    "Prompt caching for faster model inference"); `cacheDetails` splits what was written by how long it is kept.
    """
    if not isinstance(said, dict):
        return None
    kept = {"5m": 0, "1h": 0}
    details = said.get("cacheDetails")
    for one in details if isinstance(details, list) else ():
        count = one.get("inputTokens") if isinstance(one, dict) else None
        if type(count) is int and one.get("ttl") in kept:
            kept[one["ttl"]] += count
    return openai_shape(
        {
            "input_tokens": said.get("inputTokens"),
            "cache_read_input_tokens": said.get("cacheReadInputTokens"),
            "cache_creation_input_tokens": said.get("cacheWriteInputTokens"),
            "cache_creation": {"ephemeral_5m_input_tokens": kept["5m"], "ephemeral_1h_input_tokens": kept["1h"]},
            "output_tokens": said.get("outputTokens"),
        }
    )


def _object(holder: Json, name: str) -> Json:
    found = holder[name]
    if not isinstance(found, dict):
        raise UpstreamInvalid(f"The provider sent a `{name}` that is no object.")
    return found


def _string(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UpstreamInvalid("The provider's answer has a block whose text is no text.")
    return value


def _index(event: Json) -> int:
    found = event.get("contentBlockIndex")
    return found if type(found) is int else 0
