"""What an OpenAI-compatible vendor answers: whole, or as the events of a stream.

Left to the wire: one id, time and model for the whole stream, one role, one finish, and who may see the usage. Done
here: what differs between vendors. Each such repair drops `raw`, since the event no longer says what came.

    reasoning            OpenRouter, Groq, vLLM, Together: `reasoning` is given as `reasoning_content` too
    content as parts     Mistral: [{"type": "thinking", ...}, {"type": "text", ...}] become reasoning and text
    tool calls           no `index`, or the same for several calls (Gemini): distinct ones; arguments as an object
                         (older Ollama): as JSON text
    usage                `usage`, `x_groq.usage` (Groq), `choices[0].usage` (Moonshot)
    finish_reason        vendors' own words; "stop" although tools were called
"""

import hashlib
import time
from typing import Any

import orjson

from llm.calls import Completed, StreamEvent
from llm.errors import UpstreamFailed, UpstreamInvalid
from llm.providers import failures
from llm.providers.chunks import finish_reason, utf8_length

_DONE = b"[DONE]"


class ChatReader:
    """Implements `base.StreamReader`."""

    __slots__ = ("_byok", "_tools", "_usage")

    def __init__(self, *, byok: bool = False) -> None:
        self._byok = byok
        self._usage: dict[str, Any] | None = None  # the last that was said; it counts from the start
        self._tools: dict[int, _ToolIndexes] = {}  # by choice

    def read(self, payload: bytes) -> list[StreamEvent]:
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            if payload.strip() == _DONE:
                return [StreamEvent(done=True, usage=self._usage)]
            raise UpstreamInvalid("The provider sent an event that is not JSON.") from error
        if type(chunk) is not dict:
            raise UpstreamInvalid("The provider sent an event that is not an object.")
        if chunk.get("error"):
            raise failures.in_band(chunk["error"], byok=self._byok)
        choices = chunk.get("choices")
        usage = chunk.get("usage")
        if usage or "x_groq" in chunk:
            self._usage = _usage(chunk, None) or self._usage
        event = StreamEvent(chunk=chunk, usage=self._usage)
        if type(choices) is not list:
            return _without_choices(event, choices)
        same = b"\n" not in payload
        for choice in choices:
            if type(choice) is not dict:
                raise UpstreamInvalid("The provider sent a choice that is not an object.")
            if not self._choice(choice, event):
                same = False
        if same:
            event.raw = payload
        return [event]

    def _choice(self, choice: dict[str, Any], event: StreamEvent) -> bool:
        """Look at one choice, repair it in place. True if nothing was repaired."""
        same = True
        index = choice.get("index")
        if type(index) is not int:
            choice["index"] = index = 0
            same = False
        delta = choice.get("delta")
        if type(delta) is dict:
            content = delta.get("content")
            if len(delta) == 1 and type(content) is str:  # nothing but text: nearly every event
                if content:
                    event.good = True
                    event.output_bytes += len(content) if content.isascii() else utf8_length(content)
            elif delta and not self._delta(delta, index, event):
                same = False
        elif delta is not None:
            raise UpstreamInvalid("The provider sent a delta that is not an object.")
        finish = choice.get("finish_reason")
        if finish is not None:
            event.good = True
            if not self._finish(choice, index, finish):
                same = False
        if "usage" in choice:  # Moonshot
            event.usage = self._usage = _usage({}, [choice]) or self._usage
        return same

    def _delta(self, delta: dict[str, Any], index: int, event: StreamEvent) -> bool:
        """Anything but a plain text delta."""
        same = _flatten(delta)
        for key in ("content", "reasoning_content", "refusal"):
            text = delta.get(key)
            if isinstance(text, str) and text:
                event.good = True
                event.output_bytes += utf8_length(text)
        calls = delta.get("tool_calls")
        if calls:
            if not isinstance(calls, list):
                raise UpstreamInvalid("The provider sent tool calls that are no list.")
            event.good = True
            known = self._tools.setdefault(index, _ToolIndexes())
            for call in calls:
                if not isinstance(call, dict):
                    raise UpstreamInvalid("The provider sent a tool call that is not an object.")
                same = known.settle(call) and same
                same = _arguments_as_text(call) and same
                arguments = (call.get("function") or {}).get("arguments")
                event.output_bytes += utf8_length(arguments) if isinstance(arguments, str) else 0
        called = delta.get("function_call")
        if isinstance(called, dict) and called:
            event.good = True
            event.output_bytes += utf8_length(str(called.get("arguments") or ""))
        if delta.get("audio"):
            event.good = True
        return same

    def _finish(self, choice: dict[str, Any], index: int, finish: Any) -> bool:
        if finish == "error":
            raise UpstreamFailed("The provider broke off its answer.")
        said = finish if finish == "function_call" else finish_reason(finish, tools=index in self._tools)
        choice["finish_reason"] = said
        return bool(said == finish)


def _without_choices(event: StreamEvent, choices: Any) -> list[StreamEvent]:
    if choices is not None:
        raise UpstreamInvalid("The provider sent an event whose choices are no list.")
    if event.chunk is None or not event.chunk.get("usage"):
        return []  # neither content nor usage: a keep-alive in JSON
    event.chunk["choices"] = []
    return [event]


class _ToolIndexes:
    """Which index each tool call of one choice goes out under."""

    __slots__ = ("_given", "_ids", "_last")

    def __init__(self) -> None:
        self._given: dict[int, int] = {}  # the provider's index -> ours, for fragments without an id
        self._ids: dict[str, int] = {}
        self._last = -1

    def settle(self, call: dict[str, Any]) -> bool:
        """Set the index of one fragment. True if it had that one already."""
        given, known = call.get("index"), call.get("id")
        index = self._of(given if type(given) is int else None, known if isinstance(known, str) else "", call)
        if given == index and type(given) is int:
            return True
        call["index"] = index
        return False

    def _of(self, given: int | None, known: str, call: dict[str, Any]) -> int:
        if known and known in self._ids:
            index = self._ids[known]
        elif given is not None and given not in self._given and given > self._last:
            index = given
        elif known and _named(call) and (given is None or given in self._given):
            index = self._last + 1  # a new call without an index, or under one that is taken
        elif given is not None:
            index = self._given.get(given, given)
        else:
            index = self._last + 1 if self._last < 0 or (_named(call) and not known) else self._last
        self._last = max(self._last, index)
        if known:
            self._ids.setdefault(known, index)
        if given is not None:
            self._given[given] = index
        return index


def _named(call: dict[str, Any]) -> bool:
    function = call.get("function")
    return isinstance(function, dict) and bool(function.get("name"))


def completion(body: bytes, *, byok: bool = False) -> Completed:
    """A whole chat completion. Raises UpstreamInvalid, or the error it carries under 200."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UpstreamInvalid("The provider's answer is not JSON.") from error
    if not isinstance(answer, dict):
        raise UpstreamInvalid("The provider's answer is not an object.")
    if answer.get("error"):
        raise failures.in_band(answer["error"], byok=byok)
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise UpstreamInvalid("The provider's answer has no choices.")
    for position, choice in enumerate(choices):
        if not isinstance(choice, dict):
            raise UpstreamInvalid("The provider's answer has a choice that is not an object.")
        if choice.get("error"):
            raise failures.in_band(choice["error"], byok=byok)
        _whole_choice(choice, position)
    if not isinstance(answer.get("id"), str) or not answer["id"]:
        answer["id"] = "chatcmpl-" + hashlib.blake2b(body, digest_size=12).hexdigest()
    if type(answer.get("created")) is not int:
        created = answer.get("created")
        answer["created"] = int(created) if type(created) is float else int(time.time())
    answer["object"] = "chat.completion"
    return Completed(body=answer, usage=_usage(answer, choices))


def _whole_choice(choice: dict[str, Any], position: int) -> None:
    message = choice.get("message")
    if not isinstance(message, dict):
        raise UpstreamInvalid("The provider's answer has a choice without a message.")
    if type(choice.get("index")) is not int:
        choice["index"] = position
    message["role"] = "assistant"
    _flatten(message)
    message.setdefault("content", None)
    calls = message.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and calls and all(isinstance(one, dict) for one in calls)):
        if calls:
            raise UpstreamInvalid("The provider's answer has tool calls that are no list of objects.")
        del message["tool_calls"]  # `null` and `[]` are what SDKs trip over
        calls = None
    for call in calls or ():
        _arguments_as_text(call)
        call.setdefault("type", "function")
    said = choice.get("finish_reason")
    if said == "error":
        raise UpstreamFailed("The provider broke off its answer.")
    if said != "function_call":
        choice["finish_reason"] = finish_reason(said, tools=bool(calls))


def _usage(answer: dict[str, Any], choices: Any) -> dict[str, Any] | None:
    """The usage object, wherever this vendor puts it; None if there is none."""
    found = answer.get("usage")
    if found and type(found) is dict:
        return found
    groq = answer.get("x_groq")
    if type(groq) is dict and type(groq.get("usage")) is dict:
        return dict(groq["usage"])
    if type(choices) is list and choices and type(choices[0]) is dict and type(choices[0].get("usage")) is dict:
        return dict(choices[0]["usage"])
    return None


def _flatten(message: dict[str, Any]) -> bool:
    """Reasoning under the one name, content as text. True if it was so already."""
    same = True
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        text, thought = _parts(content)
        message["content"] = text
        if thought:
            message["reasoning_content"] = thought
        same = False
    reasoning = message.get("reasoning")
    if isinstance(reasoning, str) and message.get("reasoning_content") is None:
        message["reasoning_content"] = reasoning
        same = False
    return same


def _parts(content: Any) -> tuple[str, str]:
    """(text, reasoning) of a list of parts."""
    if not isinstance(content, list):
        raise UpstreamInvalid("The provider sent content that is neither text nor parts.")
    text, thought = "", ""
    for part in content:
        if not isinstance(part, dict):
            text += part if isinstance(part, str) else ""
        elif isinstance(part.get("text"), str):
            text += part["text"]
        elif isinstance(part.get("thinking"), str):
            thought += part["thinking"]
        elif isinstance(part.get("thinking"), list):
            thought += _parts(part["thinking"])[0]
    return text, thought


def _arguments_as_text(call: dict[str, Any]) -> bool:
    function = call.get("function")
    if isinstance(function, dict) and isinstance(function.get("arguments"), dict | list):
        function["arguments"] = orjson.dumps(function["arguments"]).decode()
        return False
    return True
