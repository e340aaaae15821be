"""A Messages API request that came as one: it travels as the client wrote it, and so does what is answered.

Changed is only what is Tollgate's to say: the model, the cap, whether it streams, parameters that the model refuses,
and the config's temperature where the client gives nothing that goes against it. Taken out are marks that no Anthropic
model made and that it would refuse: thinking without a signature, the `extra_content` of other vendors' tool calls.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from llm import service_tiers
from llm.calls import Call, StreamEvent
from llm.errors import UpstreamInvalid
from llm.providers import failures
from llm.providers.anthropic_stream import Counts
from llm.providers.chunks import utf8_length
from llm.providers.openai import unsupported

Json = dict[str, Any]
_LEAST_BUDGET = 1024  # tokens
BETAS = "anthropic_beta"  # where a native body carries the names of the header `anthropic-beta`, as on Bedrock
# Betas, without their dates, that change neither what is billed nor who is asked. Source: AnthropicBetaParam of
# anthropic-sdk-python, and the pages of each at platform.claude.com.
_HARMLESS = ("claude-code-", "computer-use-", "context-management-", "effort-", "extended-cache-ttl-",
             "fine-grained-tool-streaming-", "interleaved-thinking-", "model-context-window-exceeded-",
             "output-128k-", "output-300k-", "pdfs-", "prompt-caching-2024", "structured-outputs-",
             "thinking-display-updates-", "thinking-token-count-", "token-efficient-tools-")  # fmt: skip
_NAME = re.compile(r"[a-z0-9-]{1,80}")
_SAMPLING = ("temperature", "top_p", "top_k")
_TEXTS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
_OPENING_TEXTS = {"text": "text", "thinking": "thinking"}


def native_body(call: Call) -> tuple[Json, list[str]]:
    """The client's own body for this target, and the names of what was taken out. `call.native` stays as it is."""
    assert call.native is not None
    refused = unsupported(call.target.model.quirks)
    body = {name: value for name, value in call.native.items() if value is not None and name not in refused}
    dropped = sorted(name for name in refused if call.native.get(name) is not None)
    cap = call.target.output_cap
    body["model"], body["max_tokens"] = call.target.model.model_id, cap
    body.pop("stream", None)
    if call.stream:
        body["stream"] = True
    if call.target.card.services:
        asked = service_tiers.word(call.target, call.native.get("service_tier"))
        if asked:
            body["service_tier"] = asked
    thinking = body.get("thinking")
    thinks = isinstance(thinking, Mapping) and thinking.get("type") in ("enabled", "adaptive")
    if isinstance(thinking, Mapping) and _beyond(thinking.get("budget_tokens"), cap):
        if cap <= _LEAST_BUDGET:
            del body["thinking"]
            dropped.append("thinking")
        else:
            body["thinking"] = {**thinking, "budget_tokens": cap - 1}
    given = any(name in body for name in _SAMPLING)
    if call.temperature is not None and not (given or thinks or "temperature" in refused):
        body["temperature"] = min(float(call.temperature), 1.0)
    body["messages"] = _own_marks_only(body["messages"])
    body.pop(BETAS, None)
    return body, dropped


def betas(call: Call) -> tuple[dict[str, str], list[str]]:
    """The header that asks for betas, and what was left out of it: only allow-listed ones travel."""
    asked = (call.native or {}).get(BETAS)
    names = [name for name in asked if isinstance(name, str)] if isinstance(asked, list) else []
    kept = [name for name in names if name.startswith(_HARMLESS) and _NAME.fullmatch(name)]
    header = {"anthropic-beta": ",".join(kept)} if kept else {}
    return header, [f"anthropic-beta:{name[:80]}" for name in names if name not in kept]


def _beyond(budget: Any, cap: int) -> bool:
    """A budget that the cap, lowered on the way, has no room for: thinking counts against it."""
    return type(budget) is int and budget >= cap


def _own_marks_only(messages: list[Json]) -> list[Json]:
    """The messages without what other vendors' answers left in them; the same list if there is none."""
    found = messages
    for position, message in enumerate(messages):
        content = message.get("content")
        if message.get("role") != "assistant" or not isinstance(content, list):
            continue
        if all(map(_own, content)):
            continue
        if found is messages:
            found = list(messages)
        kept = [_unmarked(block) for block in content if not _unsigned(block)]
        found[position] = {**message, "content": kept}
    return [message for message in found if message.get("content") != []] if found is not messages else messages


def _own(block: Json) -> bool:
    return "extra_content" not in block and not _unsigned(block)


def _unsigned(block: Json) -> bool:
    return block.get("type") == "thinking" and not block.get("signature")


def _unmarked(block: Json) -> Json:
    return {name: value for name, value in block.items() if name != "extra_content"}


class NativeReader:
    """Implements `base.StreamReader`: Anthropic's events as they came, looked at once."""

    __slots__ = ("_block", "_byok", "_counts", "_seed")

    def __init__(self, call: Call) -> None:
        self._byok = call.target.key_source == "byok"
        self._seed = call.request_id
        self._counts = Counts()
        self._block: Any = None  # the number of the last that began

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
        found = StreamEvent(native=event, raw=payload if b"\n" not in payload else None)
        if kind == "content_block_delta":
            self._delta(event, found)
        elif kind == "content_block_start":
            self._start(event, found)
        elif kind == "message_start":
            self._counts.take(_object(event, "message").get("usage"), produced=False)
        elif kind == "message_delta":
            found.good = found.ended = _object(event, "delta").get("stop_reason") is not None
            self._counts.take(event.get("usage"), produced=True)
        elif kind == "message_stop":
            found.done = True
        elif kind == "error" or event.get("error"):
            raise failures.in_band(event.get("error"), byok=self._byok)
        found.usage = self._counts.usage
        found.service_tier = self._counts.service_tier
        return [found]

    def _delta(self, event: Json, found: StreamEvent) -> None:
        delta = event.get("delta")
        if type(delta) is not dict:
            raise UpstreamInvalid("The provider sent an event without its `delta`.")
        kind = delta.get("type")
        name = _TEXTS.get(kind) if type(kind) is str else None
        if name is None:  # a signature, a citation, or what is new: it says something
            found.good = True
            return
        text = delta.get(name)
        if text is None:
            delta[name], found.raw = "", None
        elif type(text) is not str:
            raise UpstreamInvalid("The provider sent a delta whose text is no text.")
        elif text:
            if kind == "input_json_delta" and event.get("index") != self._block:
                raise UpstreamInvalid("The provider sent arguments of a tool call that is not under way.")
            found.good = True
            found.output_bytes = utf8_length(text)

    def _start(self, event: Json, found: StreamEvent) -> None:
        block = event.get("content_block")
        if type(block) is not dict or type(block.get("type")) is not str:
            raise UpstreamInvalid("The provider sent an event without its `content_block`.")
        self._block = event.get("index")
        name = _OPENING_TEXTS.get(block["type"])
        if name is None:
            found.good = True
            if block["type"] == "tool_use":
                self._tool(block, found)
            return
        text = block.get(name)
        if type(text) is str and text:
            found.good = True
            found.output_bytes = utf8_length(text)

    def _tool(self, block: Json, found: StreamEvent) -> None:
        if not isinstance(block.get("name"), str) or not block["name"]:
            raise UpstreamInvalid("The provider sent a tool call without a name.")
        if not block.get("id"):
            block["id"], found.raw = f"toolu_{self._seed}_{self._block}", None


def _object(event: Json, name: str) -> Json:
    found = event.get(name)
    if type(found) is not dict:
        raise UpstreamInvalid(f"The provider sent an event without its `{name}`.")
    return found
