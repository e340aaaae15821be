"""Raw usage objects to `llm.types.Usage`: the one place that decides what to believe.

Every adapter hands over the OpenAI shape, so the engine calls `from_openai` only. It reads, besides OpenAI's own keys:

    prompt_tokens_details.cache_creation_tokens       tokens written to a cache, all of them (LiteLLM's name)
    prompt_tokens_details.cache_write_tokens          the same under OpenAI's and OpenRouter's name
    prompt_tokens_details.cache_creation_token_details
        .ephemeral_5m_input_tokens / .ephemeral_1h_input_tokens      that sum by lifetime; what it leaves is 5 minutes
    prompt_cache_hit_tokens                           DeepSeek's cached tokens
    cache_read_input_tokens, cached_tokens            cached tokens beside the details (LiteLLM; Moonshot)
    prompt_tokens_details.audio_tokens, .image_tokens, .video_tokens     those of the prompt that are no text
    prompt_tokens_details.cached_tokens_details       the same names: those of them that were read from a cache
    completion_tokens_details.audio_tokens, .image_tokens, .video_tokens
    num_search_queries, num_sources_used              searches (Perplexity), sources that a search read (xAI)
    server_tool_use.web_search_requests               searches (Anthropic)
    citation_tokens                                   tokens of sources (Perplexity), in no other count
    cost, cost.total_cost, cost_in_usd_ticks          what the provider says it costs (OpenRouter; Perplexity; xAI)

Sources: OpenAI counts cached, written and reasoning tokens inside prompt and completion tokens. xAI counts reasoning
beside completion_tokens and inside total_tokens only (docs.x.ai, "Consumption and rate limits"); so does Gemini behind
its OpenAI endpoint. Anthropic's input_tokens leave out what was read from and written to the cache. OpenRouter's
cost is in credits of one dollar (openrouter.ai/docs, "Usage accounting"), xAI's in ticks of 1e-10 USD
(xai-org/xai-sdk-python, `cost.py`).
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from billing.pricing import nothing, rounded
from llm.calls import Usage

_ABSENT = 0
_MEDIA = ("audio", "image", "video")
_BESIDE = frozenset({"num_search_queries", "num_sources_used", "server_tool_use", "citation_tokens"})
_MOST_SEARCHES = 10_000  # of one answer; more is beyond belief
_TICKS_PER_USD = 10_000_000_000
_MOST_USD = 100_000  # what one answer can cost at the very most


class _NotBelievedError(Exception):
    """A count that is none."""


def from_openai(
    raw: Any,
    *,
    context_window: int,
    choices: int = 1,
    reasoning_outside_completion: bool = False,
    completion_estimate: int | None = None,
) -> Usage | None:
    """None if any count is beyond belief: negative, not an int, above the context window, a part larger than its whole.

    `choices` is the request's `n`: each may fill the window. `reasoning_outside_completion` is the quirk of that name;
    without it a total that only adds up with reasoning beside completion says the same. `completion_estimate` is used,
    and flagged, where the provider has counted the prompt but not yet the answer (a stream that broke).
    """
    if not isinstance(raw, Mapping):
        return None
    try:
        return _read(
            raw, context_window * max(1, choices), context_window, reasoning_outside_completion, completion_estimate
        )
    except _NotBelievedError:
        return None


def openai_shape(raw: Any) -> dict[str, Any] | None:
    """Anthropic's usage in the OpenAI shape; None if it holds a count that is none.

    No `completion_tokens` where `output_tokens` is missing: then only the prompt has been counted.
    """
    if not isinstance(raw, Mapping):
        return None
    try:
        fresh = _count(raw, "input_tokens", required=True)
        read = _count(raw, "cache_read_input_tokens")
        split = _part(raw, "cache_creation")
        short, long = _count(split, "ephemeral_5m_input_tokens"), _count(split, "ephemeral_1h_input_tokens")
        written = max(_count(raw, "cache_creation_input_tokens"), short + long)
        shaped: dict[str, Any] = {"prompt_tokens": fresh + read + written}
        if raw.get("output_tokens") is not None:
            shaped["completion_tokens"] = _count(raw, "output_tokens")
            shaped["total_tokens"] = shaped["prompt_tokens"] + shaped["completion_tokens"]
        thinking = _count(_part(raw, "output_tokens_details"), "thinking_tokens")
    except _NotBelievedError:
        return None
    details: dict[str, Any] = {"cached_tokens": read}
    if written:
        details["cache_creation_tokens"] = written
        details["cache_creation_token_details"] = {
            "ephemeral_5m_input_tokens": written - long,
            "ephemeral_1h_input_tokens": long,
        }
    shaped["prompt_tokens_details"] = details
    if "completion_tokens" in shaped:
        shaped["completion_tokens_details"] = {"reasoning_tokens": thinking}
    return shaped


def _read(raw: Mapping[str, Any], most: int, window: int, outside: bool, estimate: int | None) -> Usage:
    prompt = _count(raw, "prompt_tokens", required=True)
    prompt_parts, completion_parts = _part(raw, "prompt_tokens_details"), _part(raw, "completion_tokens_details")
    total = _count(raw, "total_tokens")
    reasoning = _count(completion_parts, "reasoning_tokens")
    estimated = False
    if raw.get("completion_tokens") is not None:
        completion = _count(raw, "completion_tokens")
        beside = _beside(total - prompt - completion, reasoning, outside)
        completion, reasoning = completion + beside, max(reasoning, beside)
    elif raw.get("total_tokens") is not None:
        completion = total - prompt  # Gemini leaves out a zero; embeddings have none
    elif estimate is not None:
        completion, estimated = max(estimate, reasoning), True
    else:
        raise _NotBelievedError
    cached = _cached(raw, prompt_parts)
    short, long = _written(prompt_parts)
    if prompt > window or not 0 <= completion <= most or reasoning > completion or cached + short + long > prompt:
        raise _NotBelievedError
    media, fees = nothing(), nothing()
    if _has_media(prompt_parts) or _has_media(completion_parts):
        media = _media(prompt_parts, completion_parts, prompt - short - long, cached, completion - reasoning)
    if not _BESIDE.isdisjoint(raw):
        fees = _beside_tokens(raw, window)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        reasoning_tokens=reasoning,
        estimated=estimated,
        reported_cost=_reported_cost(raw) if "cost" in raw or "cost_in_usd_ticks" in raw else None,
        media=media,
        beside=fees,
    )


def _has_media(parts: Mapping[str, Any]) -> bool:
    return bool(parts.get("audio_tokens") or parts.get("image_tokens") or parts.get("video_tokens"))


def _media(
    prompt_parts: Mapping[str, Any], completion_parts: Mapping[str, Any], prompt: int, cached: int, completion: int
) -> Mapping[str, int]:
    """Tokens that are no text, by meter. `prompt`: those not written to a cache; `completion`: those not reasoned.

    Which of the media were cached is said in `cached_tokens_details`. Where it is not, the text is taken to be what was
    cached: cached media are only what the counts leave no other place for.
    """
    from_cache = _part(prompt_parts, "cached_tokens_details")
    counts = {kind: _count(prompt_parts, f"{kind}_tokens") for kind in _MEDIA}
    forced = max(0, sum(counts.values()) + cached - prompt)
    fresh: dict[str, int] = {}
    read: dict[str, int] = {}
    for kind, count in counts.items():
        read[kind] = _count(from_cache, f"{kind}_tokens") if from_cache else min(count, forced)
        forced = max(0, forced - read[kind])
        fresh[kind] = count - read[kind]
    made = {kind: _count(completion_parts, f"{kind}_tokens") for kind in _MEDIA}
    too_many = sum(fresh.values()) > prompt - cached or sum(read.values()) > cached or sum(made.values()) > completion
    if too_many or min(fresh.values()) < 0:
        raise _NotBelievedError
    del read["video"]  # cached video has no price of its own anywhere: it is cached input like all other
    found = {f"{kind}_input": count for kind, count in fresh.items()}
    found |= {f"{kind}_cache_read": count for kind, count in read.items()}
    found |= {f"{kind}_output": count for kind, count in made.items()}
    return {meter: count for meter, count in found.items() if count}


def _beside_tokens(raw: Mapping[str, Any], window: int) -> Mapping[str, int]:
    """What is charged beside tokens, where the price has it, by meter."""
    searches = _count(raw, "num_search_queries") or _count(raw, "num_sources_used")
    searches = searches or _count(_part(raw, "server_tool_use"), "web_search_requests")
    cited = _count(raw, "citation_tokens")
    if searches > _MOST_SEARCHES or cited > window:
        raise _NotBelievedError
    return {meter: count for meter, count in (("search", searches), ("citation", cited)) if count}


def _reported_cost(raw: Mapping[str, Any]) -> Decimal | None:
    """USD to 1e-10, half up. A cost beyond belief (negative, huge, not a number) is none at all: nothing is billed by
    it, so it is no reason to disbelieve the counts."""
    found, unit = raw.get("cost"), 1
    if isinstance(found, Mapping):
        found = found.get("total_cost")
    if found is None:
        found, unit = raw.get("cost_in_usd_ticks"), _TICKS_PER_USD
    number = isinstance(found, int | float) and not isinstance(found, bool)
    if not number or not 0 <= found <= _MOST_USD * unit:  # type: ignore[operator]  # NaN is not in there either
        return None
    return rounded(Decimal(str(found)) / unit)


def _beside(surplus: int, reasoning: int, outside: bool) -> int:
    """Reasoning tokens that `completion_tokens` leaves out. `surplus`: the total without prompt and completion."""
    if reasoning and (surplus == reasoning or outside):
        return reasoning
    return surplus if outside and surplus > 0 else 0


def _cached(raw: Mapping[str, Any], parts: Mapping[str, Any]) -> int:
    if parts.get("cached_tokens") is not None:
        return _count(parts, "cached_tokens")
    for key in ("prompt_cache_hit_tokens", "cache_read_input_tokens", "cached_tokens"):
        if raw.get(key) is not None:
            return _count(raw, key)
    return _ABSENT


def _written(parts: Mapping[str, Any]) -> tuple[int, int]:
    """(kept 5 minutes, kept an hour)."""
    split = _part(parts, "cache_creation_token_details")
    short, long = _count(split, "ephemeral_5m_input_tokens"), _count(split, "ephemeral_1h_input_tokens")
    whole = max(_count(parts, "cache_creation_tokens"), _count(parts, "cache_write_tokens"), short + long)
    return whole - long, long


def _part(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = raw.get(key)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise _NotBelievedError
    return found


def _count(raw: Mapping[str, Any], key: str, *, required: bool = False) -> int:
    """A count as said; an explicit zero is zero, a missing or null one too unless it is required."""
    found = raw.get(key)
    if found is None and not required:
        return _ABSENT
    if type(found) is not int or found < 0:  # `type`: True is an int to isinstance
        raise _NotBelievedError
    return found
