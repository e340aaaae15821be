"""A chat completion as an Anthropic message, and the usage of either."""

from collections.abc import Mapping
from typing import Any

import orjson

from llm.calls import Usage
from llm.engine.completion import Reply
from llm.providers import usage as reported

Json = dict[str, Any]

_STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


SERVICE_TIERS = ("standard", "priority", "batch")  # those that Anthropic's usage knows


def stop_of(choice: Mapping[str, Any], stops: Any) -> tuple[str, str | None]:
    """(stop_reason, stop_sequence) of a choice. Which of `stops` ended it is known only where a vendor says so in
    `stop_reason` (vLLM): OpenAI's API has no name for it."""
    said = choice.get("stop_reason")
    if choice.get("finish_reason") == "stop" and isinstance(said, str) and isinstance(stops, list) and said in stops:
        return "stop_sequence", said
    return stop_reason(choice.get("finish_reason")), None


def stop_reason(finish: Any) -> str:
    return _STOPS.get(finish, "end_turn") if isinstance(finish, str) else "end_turn"


def message(reply: Reply, stops: Any, *, tells_tier: bool = False) -> Json:
    """The whole answer, with the settled usage. One that came as a message stays as it came. `tells_tier`: a service
    tier was asked for, so that the answer says which it was."""
    completed, tier = reply.completed, reply.service_tier if tells_tier else ""
    assert completed is not None
    came = completed.native
    if came is not None:
        blocks = came["content"]
        mended: Json = {
            "id": came.get("id") or f"msg_{reply.request_id}",
            "type": "message",
            "role": "assistant",
            "model": came.get("model") or reply.target.model.model_id,
        }
        if came.get("stop_reason") in (None, "end_turn"):
            called = any(block.get("type") == "tool_use" for block in blocks)
            mended["stop_reason"] = "tool_use" if called else "end_turn"
        known = came.get("usage")
        before = known if isinstance(known, dict) else {}
        return {"stop_sequence": None, **came, **mended, "usage": before | usage_of(reply.usage or {}, reply, tier)}
    [choice, *_] = completed.body["choices"]
    reason, sequence = stop_of(choice, stops)
    return {
        "id": f"msg_{reply.request_id}",
        "type": "message",
        "role": "assistant",
        "model": completed.body.get("model") or reply.target.model.model_id,
        "content": content(choice["message"], reply.request_id),
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage_of(reply.usage or {}, reply, tier),
    }


def content(said: Mapping[str, Any], request_id: str) -> list[Json]:
    """Thinking, then text, then tool calls."""
    blocks: list[Json] = []
    thoughts = said.get("thinking_blocks")
    reasoning = said.get("reasoning_content")
    if isinstance(thoughts, list):
        blocks += [dict(block) for block in thoughts if isinstance(block, dict)]
    if isinstance(reasoning, str) and reasoning and not any(block.get("thinking") for block in blocks):
        _put_thought(blocks, reasoning)
    for name in ("content", "refusal"):
        if isinstance(said.get(name), str) and said[name]:
            blocks.append({"type": "text", "text": said[name]})
    calls = said.get("tool_calls")
    for position, call in enumerate(calls if isinstance(calls, list) else []):
        if isinstance(call, dict):
            blocks.append(_tool_use(call, position, request_id))
    return blocks


def _put_thought(blocks: list[Json], reasoning: str) -> None:
    """Reasoning whose text came apart from its signature, or without one."""
    for block in blocks:
        if block.get("type") == "thinking":
            block["thinking"] = reasoning
            return
    blocks.insert(0, {"type": "thinking", "thinking": reasoning, "signature": ""})


def _tool_use(call: Mapping[str, Any], position: int, request_id: str) -> Json:
    given = call.get("function")
    function: Mapping[str, Any] = given if isinstance(given, dict) else {}
    return opening(call, function, position, request_id) | {"input": _input(function.get("arguments"))}


def opening(call: Mapping[str, Any], function: Mapping[str, Any], position: int, request_id: str) -> Json:
    """A tool call's block before its input is known."""
    block: Json = {
        "type": "tool_use",
        "id": call.get("id") or f"toolu_{request_id}_{position}",
        "name": function.get("name") or "",
        "input": {},
    }
    if isinstance(call.get("extra_content"), dict):
        block["extra_content"] = call["extra_content"]  # a vendor's signature of the call: to be sent back with it
    return block


def _input(arguments: Any) -> Json:
    """Arguments as the object they should be. A model's broken JSON is kept as text."""
    try:
        found = orjson.loads(arguments or "{}")
    except (orjson.JSONDecodeError, TypeError):
        found = None
    return found if isinstance(found, dict) else {"arguments": str(arguments)}


def usage_of(shown: Mapping[str, Any], reply: Reply, service_tier: str = "") -> Json:
    """The settled usage (OpenAI-shaped, see `bookkeeping.usage_for_client`) in Anthropic's shape, where `input_tokens`
    leave out what was read from and written to the cache; with `cost`, and the service tier that is billed."""
    model = reply.target.model
    found = reported.from_openai(
        shown,
        context_window=model.context_window,
        reasoning_outside_completion=bool(model.quirks.get("reasoning_outside_completion")),
    )
    if found is None:  # our own estimate, of a prompt longer than the window
        found = Usage(prompt_tokens=shown.get("prompt_tokens", 0), completion_tokens=shown.get("completion_tokens", 0))
    usage = shaped(found)
    if service_tier in SERVICE_TIERS:
        usage["service_tier"] = service_tier
    if "cost" in shown:
        usage["cost"] = shown["cost"]
    return usage


def shaped(found: Usage) -> Json:
    written = found.cache_write_5m_tokens + found.cache_write_1h_tokens
    usage: Json = {
        "input_tokens": found.prompt_tokens - found.cached_tokens - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": found.cached_tokens,
        "output_tokens": found.completion_tokens,
    }
    if written:
        usage["cache_creation"] = {
            "ephemeral_5m_input_tokens": found.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": found.cache_write_1h_tokens,
        }
    if found.reasoning_tokens:
        usage["output_tokens_details"] = {"thinking_tokens": found.reasoning_tokens}
    return usage
