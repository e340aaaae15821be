"""What an OpenAI-compatible vendor answers: whole, or as the events of a stream.

Left to the wire: one id, time and model for the whole stream, one role, one finish, and who may see the usage. Done
here: what differs between vendors. Each such repair drops `raw`, since the event no longer says what came.

    reasoning            OpenRouter, Groq, vLLM, Together: `reasoning` is given as `reasoning_content` too
    content as parts     Mistral: [{"type": "thinking", ...}, {"type": "text", ...}] become reasoning and text
    message              instead of `delta`, or a whole answer instead of a stream: taken as one delta
    tool calls           see providers.openai_tools
    usage                `usage`, `x_groq.usage` (Groq), `choices[0].usage` (Moonshot); what was counted before the
                         answer began counts the prompt only, and zeros after an answer count nothing
    finish_reason        vendors' own words; "stop" although tools were called; "" and "null" are none
    service_tier         a vendor's own word (Groq: "on_demand") is left out: SDKs that check accept OpenAI's only
    errors               see providers.lenient; a finish that says the provider failed
"""

import hashlib
import time
from typing import Any

import orjson

from llm.calls import Completed, StreamEvent
from llm.errors import UpstreamFailed, UpstreamInvalid
from llm.providers import failures, lenient, openai_tools
from llm.providers.chunks import finish_reason, is_finish, output_bytes, utf8_length

_DONE = b"[DONE]"
_TIERS = (None, "auto", "default", "flex", "scale", "priority", "fast")
# Words for an answer that the provider did not finish: OpenRouter; DeepSeek; Z.ai; vLLM and SGLang; watsonx.
_BROKEN = ("error", "insufficient_system_resource", "network_error", "abort", "aborted", "cancelled")
_UNSAID = ("", "null")


class ChatReader:
    """Implements `base.StreamReader`. `choices` is the request's `n`; `seed` makes ids of tool calls without one."""

    __slots__ = ("_byok", "_choices", "_early", "_ended", "_produced", "_seed", "_tools", "_usage")

    def __init__(self, *, byok: bool = False, choices: int = 1, seed: str = "") -> None:
        self._byok = byok
        self._choices = choices
        self._seed = seed
        self._usage: dict[str, Any] | None = None  # the last that was said; it counts from the start
        self._early = False  # it was said before anything was produced
        self._produced = False
        self._tools: dict[int, openai_tools.ToolCalls] = {}  # by choice
        self._ended: set[int] = set()  # choices that have said why they ended

    def read(self, payload: bytes) -> list[StreamEvent]:
        raw: bytes | None = payload
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            if payload.strip() == _DONE:
                return self._done()
            chunk, raw = lenient.loads(payload), None
        if type(chunk) is not dict:
            return self._no_object(chunk)
        if chunk.get("error") or "base_resp" in chunk:
            self._raise_if_failed(chunk)
        choices = chunk.get("choices")
        usage = chunk.get("usage")
        if usage or "x_groq" in chunk:
            self._count(_usage(chunk, None))
        event = StreamEvent(chunk=chunk, usage=self._usage)
        if "service_tier" in chunk:
            event.service_tier = _service_tier(chunk)
            raw = raw if "service_tier" in chunk else None
        if type(choices) is not list:
            return self._without_choices(event, choices)
        for position, choice in enumerate(choices):
            if not self._choice(choice, position, event):
                raw = None
        if event.output_bytes and not self._produced:
            self._begin(event)
        if raw is not None and b"\n" not in raw:
            event.raw = raw
        return [event]

    def _done(self) -> list[StreamEvent]:
        for calls in self._tools.values():
            calls.check()
        return [StreamEvent(done=True, usage=self._usage)]

    def _no_object(self, said: Any) -> list[StreamEvent]:
        if said == _DONE.decode():
            return self._done()
        if type(said) is list and said and type(said[0]) is dict:  # Gemini: [{"error": ...}]
            self._raise_if_failed(said[0])
        raise UpstreamInvalid("The provider sent an event that is not an object.")

    def _raise_if_failed(self, said: dict[str, Any]) -> None:
        error = lenient.error_in(said)
        if error is not None:
            raise failures.in_band(error, byok=self._byok)

    def _without_choices(self, event: StreamEvent, choices: Any) -> list[StreamEvent]:
        if choices is not None:
            raise UpstreamInvalid("The provider sent an event whose choices are no list.")
        assert event.chunk is not None
        self._raise_if_failed(event.chunk)
        if not event.chunk.get("usage"):
            return []  # neither content nor usage: a keep-alive in JSON
        event.chunk["choices"] = []
        return [event]

    def _count(self, said: dict[str, Any] | None) -> None:
        """Take in a usage object."""
        if said is None or (self._produced and not _counts(said)):
            return
        self._usage = said
        self._early = not self._produced and not said.get("completion_tokens")

    def _begin(self, event: StreamEvent) -> None:
        """The first of the answer is here: a count of nothing, up to now, was one of the prompt only."""
        self._produced = True
        usage = self._usage
        if self._early and usage is not None:
            names = ("prompt_tokens", "prompt_tokens_details") if usage.get("prompt_tokens") else ()
            self._usage = event.usage = {name: usage[name] for name in names if name in usage}

    def _choice(self, choice: Any, position: int, event: StreamEvent) -> bool:
        """Look at one choice, repair it in place. True if nothing was repaired."""
        if type(choice) is not dict:
            raise UpstreamInvalid("The provider sent a choice that is not an object.")
        same = True
        index = choice.get("index")
        if type(index) is not int or index < 0:
            choice["index"] = index = position
            same = False
        if choice.get("error"):
            raise failures.in_band(choice["error"], byok=self._byok)
        delta = choice.get("delta")
        if delta is None and type(choice.get("message")) is dict:
            delta = choice["delta"] = choice.pop("message")
            same = False
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
        if finish is not None and not self._finish(choice, index, finish, event):
            same = False
        if "usage" in choice:  # Moonshot; it is not for who did not ask
            self._count(_usage({}, [choice]))
            event.usage = self._usage
            del choice["usage"]
            same = False
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
            same = self._tool_calls(delta, calls, index, event) and same
        called = delta.get("function_call")
        if isinstance(called, dict) and called:
            event.good = True
            event.output_bytes += utf8_length(str(called.get("arguments") or ""))
        if delta.get("audio"):
            event.good = True
        return same

    def _tool_calls(self, delta: dict[str, Any], calls: Any, index: int, event: StreamEvent) -> bool:
        if not isinstance(calls, list):
            raise UpstreamInvalid("The provider sent tool calls that are no list.")
        known = self._tools.get(index)
        if known is None:
            known = self._tools[index] = openai_tools.ToolCalls(f"{self._seed}{index}")
        same = known.mend(calls)
        for call in calls:
            event.good = True
            said = call["custom"].get("input") if call.get("custom") else call["function"]["arguments"]
            event.output_bytes += utf8_length(said) if isinstance(said, str) else 0
        if not calls:
            del delta["tool_calls"]
        return same

    def _finish(self, choice: dict[str, Any], index: int, finish: Any, event: StreamEvent) -> bool:
        if finish in _UNSAID:
            choice["finish_reason"] = None
            return False
        tools = self._tools.get(index)
        if tools is not None:
            tools.check()
        event.good = True
        self._ended.add(index)
        event.ended = len(self._ended) >= self._choices
        return _reason(choice, finish, tools=tools is not None)


def _reason(choice: dict[str, Any], finish: Any, *, tools: bool) -> bool:
    """Put the finish in OpenAI's words. True if it was. Raises UpstreamFailed if it says that the provider failed."""
    if finish in _BROKEN:
        raise UpstreamFailed("The provider broke off its answer.")
    said = finish if finish == "function_call" else finish_reason(finish, tools=tools)
    if finish is not None and not is_finish(finish):
        choice["native_finish_reason"] = finish  # OpenRouter's name for it
    choice["finish_reason"] = said
    return bool(said == finish)


def completion(body: bytes, *, byok: bool = False) -> Completed:
    """A whole chat completion. Raises UpstreamInvalid, or the error it carries under 200."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = lenient.loads(body)
    if isinstance(answer, list) and len(answer) == 1:  # Gemini: [{"error": ...}]
        answer = answer[0]
    if not isinstance(answer, dict):
        raise UpstreamInvalid("The provider's answer is not an object.")
    error = lenient.error_in(answer)
    if error is not None:
        raise failures.in_band(error, byok=byok)
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise UpstreamInvalid("The provider's answer has no choices.")
    for position, choice in enumerate(choices):
        if not isinstance(choice, dict):
            raise UpstreamInvalid("The provider's answer has a choice that is not an object.")
        if choice.get("error"):
            raise failures.in_band(choice["error"], byok=byok)
        _whole_choice(choice, position, body)
    if not isinstance(answer.get("id"), str) or not answer["id"]:
        answer["id"] = f"chatcmpl-{_digest(body)}"
    created = answer.get("created")
    answer["created"] = int(created if isinstance(created, int | float) and created > 1 else time.time())
    answer["object"] = "chat.completion"
    service_tier = _service_tier(answer) if "service_tier" in answer else ""
    usage = _usage(answer, choices)
    if usage is not None and not _counts(usage) and output_bytes(answer):
        usage = None
    return Completed(body=answer, usage=usage, service_tier=service_tier)


def _service_tier(said: dict[str, Any]) -> str:
    """The service tier that was used, in the vendor's word; one that is none of OpenAI's is taken out."""
    tier = said["service_tier"]
    if tier not in _TIERS:
        del said["service_tier"]
    return tier if type(tier) is str else ""


def _digest(body: bytes) -> str:
    """An id for what has none: the same answer always has the same."""
    return hashlib.blake2b(body, digest_size=12).hexdigest()


def _whole_choice(choice: dict[str, Any], position: int, body: bytes) -> None:
    message = choice.get("message")
    if not isinstance(message, dict):
        raise UpstreamInvalid("The provider's answer has a choice without a message.")
    if type(choice.get("index")) is not int or choice["index"] < 0:
        choice["index"] = position
    message["role"] = "assistant"
    _flatten(message)
    message.setdefault("content", None)
    calls = message.get("tool_calls")
    if "tool_calls" in message and not calls:
        del message["tool_calls"]  # `null` and `[]` are what SDKs trip over
    elif calls is not None and not isinstance(calls, list):
        raise UpstreamInvalid("The provider's answer has tool calls that are no list of objects.")
    if calls:
        openai_tools.whole(calls, f"{_digest(body)}{position}")
    _reason(choice, choice.get("finish_reason"), tools=bool(calls))


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


def _counts(usage: dict[str, Any]) -> bool:
    """False for all zeros: nobody has counted."""
    return any(usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))


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
