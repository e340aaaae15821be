"""A chat completion as a response object: its output items, its usage, and the settings it answers to."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm.providers.chunks import created_at
from llm.providers.usage import from_openai
from llm.service_tiers import OPENAI_WORDS
from llm.types import Target
from llm.wire.responses_items import COMPLETED, INCOMPLETE, Item, Message, Reasoning, ToolCall

Json = dict[str, Any]

# Why an answer is cut short, by chat's finish reason.
_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
_CALL_FIELDS = frozenset({"index", "id", "type", "function", "custom"})


@dataclass(slots=True, kw_only=True)
class Facts:
    """What is said of a response in every event that carries it. `settings` is the client's own body."""

    request_id: str
    model: str
    settings: Mapping[str, Any]
    target: Target

    def new_id(self, prefix: str, number: int | None = None) -> str:
        """An id of this response ("resp_..."), or of its item of that number ("msg_...")."""
        known = self.request_id.replace("-", "")
        return f"{prefix}_{known}" if number is None else f"{prefix}_{known}{number:04x}"

    def response(
        self,
        status: str,
        output: list[Json],
        *,
        usage: Json | None = None,
        finish: str = "",
        error: Json | None = None,
        service_tier: str = "",
    ) -> Json:
        """The response object. `usage` is OpenAI's chat shape, settled; `service_tier` the one that is billed."""
        reason = _REASONS.get(finish)
        return {
            "id": self.new_id("resp"),
            "object": "response",
            "created_at": created_at(self.request_id),
            "completed_at": int(time.time()) if status == COMPLETED else None,
            "status": status,
            "background": False,
            "error": error,
            "incomplete_details": {"reason": reason} if status == INCOMPLETE else None,
            "model": self.model,
            "output": output,
            "previous_response_id": None,
            "store": False,
            "service_tier": OPENAI_WORDS[service_tier] if service_tier else self.settings.get("service_tier") or "auto",
            "truncation": "disabled",
            **_echoed(self.settings),
            "usage": None if usage is None else _usage(usage, self.target),
        }


def status_of(finish: str) -> str:
    return INCOMPLETE if finish in _REASONS else COMPLETED


def _echoed(given: Mapping[str, Any]) -> Json:
    """The settings as OpenAI repeats them; null where the provider's default, which is not known here, held."""
    text = given.get("text") or {}
    tools = given.get("tools") or []
    parallel = given.get("parallel_tool_calls")
    return {
        "instructions": given.get("instructions"),
        "max_output_tokens": given.get("max_output_tokens"),
        "max_tool_calls": given.get("max_tool_calls"),
        "metadata": given.get("metadata") or {},
        "parallel_tool_calls": True if parallel is None else parallel,
        "prompt_cache_key": given.get("prompt_cache_key"),
        "reasoning": {"effort": None, "summary": None} | (given.get("reasoning") or {}),
        "safety_identifier": given.get("safety_identifier"),
        "temperature": given.get("temperature"),
        "text": {**text, "format": text.get("format") or {"type": "text"}},
        "tool_choice": given.get("tool_choice") or "auto",
        "tools": [_tool(tool) for tool in tools],
        "top_logprobs": given.get("top_logprobs") or 0,
        "top_p": given.get("top_p"),
        "user": given.get("user"),
    }


def _tool(tool: Json) -> Json:
    if tool["type"] == "custom":
        return {"description": None, **tool}
    return {"description": None, "parameters": None, "strict": None, **tool}


def _usage(given: Json, target: Target) -> Json:
    """The settled usage in this API's words, counted as it was billed (see `providers.usage`)."""
    quirks = target.model.quirks
    counted = from_openai(
        given,
        context_window=target.model.context_window,
        reasoning_outside_completion=bool(quirks.get("reasoning_outside_completion")),
    )
    if counted is None:  # not what was settled: usage that is not believed is estimated before it comes here
        prompt, completion, cached, written, reasoning = given["prompt_tokens"], given["completion_tokens"], 0, 0, 0
    else:
        prompt, completion = counted.prompt_tokens, counted.completion_tokens
        cached, reasoning = counted.cached_tokens, counted.reasoning_tokens
        written = counted.cache_write_5m_tokens + counted.cache_write_1h_tokens
    shown: Json = {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": prompt + completion,
    }
    if "cost" in given:
        shown["cost"] = given["cost"]
    return shown


# --- a whole answer ---------------------------------------------------------------------------------------------------


def response_of(facts: Facts, choice: Json, usage: Json | None, service_tier: str) -> Json:
    """The response object of a chat completion's one choice."""
    finish = str(choice.get("finish_reason") or "stop")
    status = status_of(finish)
    items = _items(facts, choice, status)
    return facts.response(status, outputs(items, status), usage=usage, finish=finish, service_tier=service_tier)


def outputs(items: list[Any], status: str, done: int | None = None) -> list[Json]:
    """The items as JSON. Those that are done, if nothing else is said all but the last, are complete whatever became of
    the answer."""
    whole = len(items) - 1 if done is None else done
    return [item.as_json(status if position >= whole else COMPLETED) for position, item in enumerate(items)]


def _items(facts: Facts, choice: Json, status: str) -> list[Item]:
    message = choice["message"]
    items: list[Item] = []
    thought, blocks = message.get("reasoning_content"), message.get("thinking_blocks")
    if thought or blocks:
        reasoning = Reasoning(0, facts.new_id("rs", 0))
        if isinstance(thought, str) and thought:
            reasoning.take(thought)
        for block in blocks_of(blocks):
            reasoning.take_block(block)
        items.append(reasoning)
    text, refusal, calls = message.get("content"), message.get("refusal"), message.get("tool_calls") or ()
    refusal = refusal if isinstance(refusal, str) else ""
    if text or refusal or needs_message(items, calls, status):
        said = Message(len(items), facts.new_id("msg", len(items)))
        if text or not refusal:
            said.take(text or "", logprobs_of(choice))
            if cited := citations_of(message):
                said.cite(cited)
        if refusal:
            said.take(refusal, refusal=True)
        items.append(said)
    known: set[str] = set()
    for position, call in enumerate(calls, start=1):
        made = new_call(facts, len(items), call)
        fill(made, call, known)
        made.settle(status if position == len(calls) else COMPLETED)
        items.append(made)
    return items


def blocks_of(given: Any) -> list[Json]:
    """The thinking blocks that can be handed back: those that are signed, or sealed by the provider."""
    return [
        block
        for block in (given if isinstance(given, list) else ())
        if isinstance(block, dict) and (block.get("signature") or block.get("type") != "thinking")
    ]


def needs_message(items: list[Item], calls: Any, status: str) -> bool:
    """True if the answer would say nothing at all without an empty message."""
    return not calls and (status == COMPLETED or not items)


def new_call(facts: Facts, index: int, call: Json) -> ToolCall:
    custom = call.get("type") == "custom" or "custom" in call
    return ToolCall(index, facts.new_id("ctc" if custom else "fc", index), facts.new_id("call", index), custom=custom)


def fill(made: ToolCall, call: Json, known: set[str]) -> None:
    """Take in a chat tool call, or a fragment of one. `known`: the ids of the other calls, which SDKs tell them by."""
    function = call.get("custom" if made.custom else "function")
    function = function if isinstance(function, dict) else {}
    given, name = call.get("id"), function.get("name")
    if not made.name:  # neither changes once it was told
        if not made.call_id and isinstance(given, str) and given and given not in known:
            made.call_id = given
            known.add(given)
        if isinstance(name, str):
            made.name = name
    arguments = function.get("input" if made.custom else "arguments")
    if isinstance(arguments, str) and arguments:
        made.take(arguments)
    if call.keys() - _CALL_FIELDS:
        made.rest |= {field: value for field, value in call.items() if field not in _CALL_FIELDS and value is not None}


def logprobs_of(choice: Json) -> list[Json]:
    """Chat's log probabilities of the text, in this API's shape; empty if there are none."""
    found = choice.get("logprobs")
    listed = found.get("content") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        return []
    return [
        {**_logprob(one), "top_logprobs": [_logprob(top) for top in one.get("top_logprobs") or () if _is_logprob(top)]}
        for one in listed
        if _is_logprob(one)
    ]


def citations_of(message: Json) -> list[Json]:
    """Chat's `annotations` (sources of a search) in this API's shape; those of other shapes are left out."""
    listed = message.get("annotations")
    cited = [one.get("url_citation") for one in (listed if isinstance(listed, list) else ()) if isinstance(one, dict)]
    return [
        {
            "type": "url_citation",
            "url": one["url"],
            "title": str(one.get("title") or ""),
            "start_index": one["start_index"],
            "end_index": one["end_index"],
        }
        for one in cited
        if isinstance(one, dict)
        and isinstance(one.get("url"), str)
        and type(one.get("start_index")) is type(one.get("end_index")) is int
    ]


def _is_logprob(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("token"), str) and isinstance(one.get("logprob"), (int, float))


def _logprob(one: Json) -> Json:
    return {"token": one["token"], "bytes": one.get("bytes") or [], "logprob": one["logprob"]}
