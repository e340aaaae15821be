"""One call of a provider, and what it says: what adapters read and write. No Django, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.pricing import NOTHING, OUTPUT_METERS, nothing
from llm.types import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one answer, OpenAI-shaped: cached and written tokens are part of `prompt_tokens`, reasoning of
    `completion_tokens`.

    `media`: those of them that are audio, images or video, by meter (`audio_input`, `image_cache_read`,
    `audio_output`, ...), disjoint. `beside`: what is no token, by meter (`image`, `search`), and tokens of sources
    (`citation`), which no other count has.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    reported_cost: Decimal | None = None  # USD, as the provider says it; never what is billed
    media: Mapping[str, int] = field(default_factory=nothing)
    beside: Mapping[str, int] = field(default_factory=nothing)

    def meters(self) -> dict[str, int]:
        """Disjoint counts for pricing; zeros left out."""
        if self.media or self.beside:
            return self._with_media()
        written = self.cache_write_5m_tokens + self.cache_write_1h_tokens
        counts = {
            "input": self.prompt_tokens - self.cached_tokens - written,
            "cache_read": self.cached_tokens,
            "cache_write_5m": self.cache_write_5m_tokens,
            "cache_write_1h": self.cache_write_1h_tokens,
            "output": self.completion_tokens - self.reasoning_tokens,
            "reasoning": self.reasoning_tokens,
        }
        return {meter: count for meter, count in counts.items() if count}

    def _with_media(self) -> dict[str, int]:
        counts = replace(self, media=NOTHING, beside=NOTHING).meters()
        for meter, count in self.media.items():
            whole = "output" if meter in OUTPUT_METERS else "cache_read" if meter.endswith("_cache_read") else "input"
            counts[whole] = counts.get(whole, 0) - count
        found = {**counts, **self.media, **self.beside}
        return {meter: count for meter, count in found.items() if count}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One attempt, for an adapter to put into its dialect. `body` is the client's request as OpenAI shapes it,
    Tollgate's own extras removed; it is shared between attempts and must not be changed. `kind` is the model's: chat,
    embedding or completion (OpenAI's legacy one).

    `native` is the client's own body where it speaks this target's dialect already: then the adapter sends that,
    changing only what is Tollgate's to say (model, cap, stream), and answers with `native` too.
    """

    target: Target
    body: Mapping[str, Any]
    stream: bool
    request_id: str
    now: datetime  # of this attempt: what is signed is good for minutes, and the request may have waited
    temperature: Decimal | None = None  # the config's default, where the request gives none
    kind: str = "chat"
    native: Mapping[str, Any] | None = None
    dropped: tuple[str, ...] = ()  # what was left out of `body` for this dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A provider request, ready to send. `headers` include the key: never log them. `dropped` names parameters the
    dialect has no place for."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    dropped: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class StreamEvent:
    """One event of a provider's stream, as a chat chunk.

    `raw` is the payload as it came when `chunk` says the same, so that it can be sent on untouched. `good` is content,
    reasoning, a tool call, a refusal or a finish. `usage` is whatever the provider has said so far (cumulative).
    Of a call with `native`, an event is in `native` instead of `chunk`, and `raw` is that event's payload.
    """

    chunk: dict[str, Any] | None = None
    native: dict[str, Any] | None = None
    raw: bytes | None = None
    good: bool = False
    usage: Mapping[str, Any] | None = None
    output_bytes: int = 0  # UTF-8 of text, reasoning and tool arguments, to estimate tokens when no usage comes
    ended: bool = False  # every choice has said why it ended: only usage may follow
    done: bool = False
    service_tier: str = ""  # the one that the provider says it used, in its own word


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A whole answer: as OpenAI shapes it, and the raw usage object (OpenAI's shape too) if the provider gave one.
    `native` is the answer as it came, of a call with `native`. `service_tier` is the one that the provider says it
    used, in its own word."""

    body: dict[str, Any]
    usage: Mapping[str, Any] | None
    native: dict[str, Any] | None = None
    service_tier: str = ""
