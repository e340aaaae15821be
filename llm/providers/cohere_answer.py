"""What Cohere's Chat API v2 answers, as a chat completion; and what whole answers and streams have in common.

    content text, thinking    content, reasoning_content
    tool_plan                 reasoning_content: the model's plan before it calls tools
    citations                 kept under that name in the message: OpenAI has none into documents
    logprobs                  an entry a piece of text; where that is of several tokens, their sum

Usage is what Cohere bills: `usage.billed_units`. It is less than `usage.tokens`, since what Cohere adds under the hood
and special tokens "you are not charged for" (docs.cohere.com, "How Does Cohere's Pricing Work?"). `cached_tokens`
counts within `tokens` and has no price of its own, so it is not passed on.
"""

import hashlib
import time
from collections.abc import Mapping
from typing import Any

from llm.calls import Call, Completed
from llm.errors import ProviderError, UpstreamFailed, UpstreamInvalid, UpstreamTimeout
from llm.providers import chunks, failures
from llm.providers.openai import is_byok

Json = dict[str, Any]
_FINISHES = {"COMPLETE": "stop", "TOOL_CALL": "tool_calls"}  # the others are known to `chunks`
_COUNTS = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))


def completion(body: bytes, call: Call) -> Completed:
    """Raises UpstreamInvalid for what is no answer, ProviderError for an error or an answer that was broken off."""
    answer = loaded(body, call)
    message = answer.get("message")
    if not isinstance(message, dict):
        raise UpstreamInvalid("The provider's answer has no message.")
    broken = failure(answer.get("finish_reason"))
    if broken is not None:
        raise broken
    said = _assistant(message)
    known = answer.get("id")
    choice = {
        "index": 0,
        "message": said,
        "logprobs": logprobs(answer.get("logprobs")),
        "finish_reason": finish_reason(answer.get("finish_reason"), tools="tool_calls" in said),
    }
    shaped: Json = {
        "id": known
        if isinstance(known, str) and known
        else "chatcmpl-" + hashlib.blake2b(body, digest_size=12).hexdigest(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": call.target.model.model_id,
        "choices": [choice],
    }
    counted = usage(answer.get("usage"))
    if counted is not None:
        shaped["usage"] = counted
    return Completed(body=shaped, usage=counted)


def loaded(body: bytes, call: Call) -> Json:
    """The object of an answer under 200. Raises UpstreamInvalid, or the error that it is."""
    answer = failures.loaded(body)
    broken = in_band(answer, call)
    if broken is not None:
        raise broken
    return answer


def in_band(found: Json, call: Call) -> ProviderError | None:
    """The error that an answer or event is: under `error`, or Cohere's own shape, a `message` that is text."""
    if found.get("error"):
        return failures.in_band(found["error"], byok=is_byok(call))
    if isinstance(found.get("message"), str) or found.get("type") == "error":
        return failures.in_band(found, byok=is_byok(call))
    return None


def failure(finish: Any) -> ProviderError | None:
    """What went wrong, if that is why the model stopped."""
    if finish == "TIMEOUT":
        return UpstreamTimeout("The provider ran out of time for its answer.")
    return UpstreamFailed("The provider broke off its answer.") if finish == "ERROR" else None


def finish_reason(said: Any, *, tools: bool) -> str:
    return chunks.finish_reason(_FINISHES.get(said, said) if isinstance(said, str) else said, tools=tools)


def usage(raw: Any) -> Json | None:
    """OpenAI's shape of what is billed; of all tokens where nothing is said of billing. None for what is no count."""
    if not isinstance(raw, Mapping):
        return None
    billed = raw.get("billed_units")
    counts = billed if isinstance(billed, Mapping) and billed.get("input_tokens") is not None else raw.get("tokens")
    if not isinstance(counts, Mapping):
        return None
    shaped: Json = {}
    for name, theirs in _COUNTS:
        found = whole(counts.get(theirs))
        if found is None:
            return None
        shaped[name] = found
    return shaped | {"total_tokens": sum(shaped.values())}


def whole(count: Any) -> int | None:
    """A count: Cohere's numbers are floats by its schema. None for one that is missing, negative or not whole."""
    if type(count) is float and count.is_integer():
        count = int(count)
    return count if type(count) is int and count >= 0 else None


def logprobs(items: Any) -> Json | None:
    """OpenAI's shape; None if there are none. Raises UpstreamInvalid."""
    if not items:
        return None
    entries = []
    for item in items if isinstance(items, list) else [items]:
        found = item.get("logprobs") if isinstance(item, dict) else None
        if not isinstance(found, list) or not all(type(one) in (int, float) for one in found):
            raise UpstreamInvalid("The provider sent log probabilities that are none.")
        token = text(item.get("text"))
        octets = list(token.encode("utf-8", "surrogatepass"))
        entries.append({"token": token, "logprob": sum(found), "bytes": octets, "top_logprobs": []})
    return {"content": entries, "refusal": None}


def text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UpstreamInvalid("The provider sent text that is none.")
    return value


def _assistant(message: Json) -> Json:
    """The assistant's message. Blocks that nobody knows have no place in it and are passed over."""
    blocks = message.get("content") or []
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise UpstreamInvalid("The provider's answer has content that is no list of blocks.")
    said = "".join(text(block.get("text")) for block in blocks if block.get("type") == "text")
    thought = text(message.get("tool_plan"))
    thought += "".join(text(block.get("thinking")) for block in blocks if block.get("type") == "thinking")
    given = message.get("tool_calls") or []
    if not isinstance(given, list):
        raise UpstreamInvalid("The provider's answer has tool calls that are no list.")
    calls = [tool_call(one) for one in given]
    found: Json = {"role": "assistant", "content": said or (None if calls else ""), "refusal": None}
    if thought:
        found["reasoning_content"] = thought
    if calls:
        found["tool_calls"] = calls
    if message.get("citations"):
        found["citations"] = message["citations"]
    return found


def tool_call(given: Any) -> Json:
    """One call. Arguments are JSON text already; none are an empty object."""
    function = given.get("function") if isinstance(given, dict) else None
    if not isinstance(function, dict):
        raise UpstreamInvalid("The provider sent a tool call without a function.")
    arguments = text(function.get("arguments")) or "{}"
    return {
        "id": text(given.get("id")),
        "type": "function",
        "function": {"name": text(function.get("name")), "arguments": arguments},
    }
