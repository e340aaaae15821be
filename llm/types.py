"""What all of llm shares: the frozen catalog, a request, a route, events of a stream, usage. No Django, no I/O.

Prices are USD, tokens are counts, times are milliseconds unless a name says otherwise.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from billing.pricing import PriceCard
from llm.fields import Secret

# (dialect, kind of call) whose adapter is built; models of any other are kept out of routing.
BUILT = frozenset(
    {
        *((dialect, "chat") for dialect in ("openai", "anthropic", "bedrock", "cohere", "google", "sandbox")),
        *((dialect, "embedding") for dialect in ("openai", "bedrock", "cohere", "google", "sandbox")),
        *((dialect, "completion") for dialect in ("openai", "sandbox")),
    }
)
DIALECTS = frozenset(dialect for dialect, _ in BUILT)

# --- The catalog, frozen ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A provider key that may be used now. `id` is None for a key from the environment. `project` is the cloud project
    that a service account's key belongs to."""

    id: uuid.UUID | None
    name: str
    secret: Secret = field(repr=False)
    source: str  # "platform" | "byok"
    weight: int = 100
    project: str = ""


def number_of(credential: Credential | None) -> int:
    """What tells the keys of one provider apart; 0 for the environment's, and where none is needed."""
    return 0 if credential is None or credential.id is None else credential.id.int


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    id: uuid.UUID
    slug: str
    name: str
    base_url: str
    dialect: str
    auth_type: str
    quirks: Mapping[str, Any] = field(default_factory=dict)
    min_tier: str = "free"
    is_active: bool = True
    health_status: str = "unknown"
    credentials: tuple[Credential, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model at one provider, as routing sees it. `prices` are all versions that may still matter, newest first."""

    id: uuid.UUID
    provider: Provider
    model_id: str
    reference: str  # "provider/model_id"
    name: str
    kind: str = "chat"
    family: str = ""
    context_window: int
    max_output_tokens: int | None
    supports: frozenset[str]  # of "streaming", "tools", "vision", "json"
    is_reasoning: bool = False
    quirks: Mapping[str, Any] = field(default_factory=dict)  # the provider's, overlaid with the model's own
    speed_tier: str = "standard"
    quality_tier: str = "good"
    power_level: str = "balanced"
    power_level_priority: int = 100
    min_tier: str = "free"
    is_active: bool = True
    is_deprecated: bool = False
    deprecation_date: date | None = None
    replacement_id: uuid.UUID | None = None
    prices: tuple[PriceCard, ...] = ()
    created: int = 0  # Unix seconds, for /v1/models

    def serves(self, kind: str) -> bool:
        """Whether it takes calls of that kind: its own, and legacy completions by the quirk of that name."""
        return self.kind == kind or (
            kind == "completion" and self.kind == "chat" and bool(self.quirks.get("legacy_completions"))
        )

    def card_at(self, now: datetime) -> PriceCard | None:
        """The price in force, or None: then the model is refused, never free."""
        for card in self.prices:
            if card.effective_from <= now and (card.effective_to is None or now < card.effective_to):
                return card
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    id: uuid.UUID
    model_id: uuid.UUID
    power_level: str
    user_tier: str  # a tier, or "all"
    task_type: str | None
    priority: int
    weight: int
    min_tokens: int | None
    max_tokens: int | None
    requires_byok: bool
    is_fallback: bool
    fallback_order: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A power level. Price cap in USD per million tokens, (3 x input + output) / 4."""

    power_level: str
    max_price_per_1m_usd: Decimal
    max_latency_ms: int
    allow_fallback: bool
    prefer_cached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The whole catalog at one moment. Swapped whole, never changed. Only active rules are in it."""

    version: str
    providers: Mapping[str, Provider]  # by slug
    models: Mapping[uuid.UUID, Model]
    by_reference: Mapping[str, Model]
    by_model_id: Mapping[str, tuple[Model, ...]]
    by_family: Mapping[str, tuple[Model, ...]]
    rules: Mapping[str, tuple[Rule, ...]]  # by power level
    policies: Mapping[str, Policy]
    built: frozenset[tuple[str, str]] = BUILT
    # What routing worked out of this snapshot once and for all; it dies with it. Never part of what the snapshot says.
    derived: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A tenant's config as routing sees it; models by id."""

    id: uuid.UUID
    name: str
    primary_model_id: uuid.UUID | None = None
    fallback_model_id: uuid.UUID | None = None
    credential_id: uuid.UUID | None = None
    use_platform_key: bool = True
    temperature: Decimal = Decimal("0.7")
    max_tokens: int = 4096
    routing_rules: Mapping[str, Any] = field(default_factory=dict)  # {"code": {"model_id": reference}}
    allowed_models: tuple[str, ...] | None = None
    allow_model_fallback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantState:
    """What a tenant set up, its configs and its own provider keys (BYOK; by provider id), and what it pays."""

    configs: Mapping[str, Config] = field(default_factory=dict)  # by name
    default_config: Config | None = None
    byok: Mapping[uuid.UUID, tuple[Credential, ...]] = field(default_factory=dict)  # active and validated
    byok_unusable: frozenset[uuid.UUID] = frozenset()  # providers where the only active own keys are not validated
    markup: Decimal = Decimal(0)  # 0.10 is ten percent
    byok_fee: Decimal = Decimal(0)
    overrides: Mapping[uuid.UUID, tuple[PriceCard, ...]] = field(default_factory=dict)  # own prices by model id
    prepaid: bool = False

    def own_card(self, model_id: uuid.UUID, now: datetime) -> PriceCard | None:
        """The tenant's own price of a model, if it has one at that moment."""
        for card in self.overrides.get(model_id, ()):
            if card.effective_from <= now and (card.effective_to is None or now < card.effective_to):
                return card
        return None


# --- One request and its route ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRequest:
    """What routing looks at. Every client wire fills one; so do explain and the Python interface.

    `model` None: the request named none. `input_tokens` is the estimate routing uses, `input_bound` what is held.
    """

    request_id: uuid.UUID
    model: str | None = None
    power_level: str | None = None
    task_type: str | None = None
    priority: str | None = None
    config: str | None = None
    session_id: str = ""
    input_tokens: int = 0
    max_tokens: int | None = None
    choices: int = 1  # `n`
    needs: frozenset[str] = frozenset()  # of "streaming", "tools", "vision", "json"
    kind: str = "chat"
    text: str = ""  # the last user message, for task detection; never kept
    only: tuple[str, str] | None = None  # (dialect, field): the field holds what no other dialect can express
    service_tier: str = ""  # "" (none said), "auto", "standard", "flex" or "priority"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteCaller:
    """Who asks, as routing sees it. Taken from tenants.auth.Caller."""

    tenant_id: uuid.UUID
    tier: str
    allowed_models: tuple[str, ...] | None = None
    sandbox_enabled: bool = False
    allow_model_fallback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What an open breaker keeps out: why and until when, in words; `until` in Unix seconds. `limited`: the provider
    asked to wait, so nothing is tried before then, not even the trickle."""

    detail: str
    until: float
    limited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingState:
    """Advisory, changing inputs: the median time to first token by model id (left out below 20 samples), and what open
    breakers keep out: whole providers and models (by slug or reference), and keys at them (and `number_of` the key)."""

    ttft_ms: Mapping[uuid.UUID, float] = field(default_factory=dict)
    blocks: Mapping[str, Block] = field(default_factory=dict)
    key_blocks: Mapping[tuple[str, int], Block] = field(default_factory=dict)
    # What routing worked out of this state once; it dies with it, like a snapshot's.
    derived: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One way to serve the request: this model with this key, asked for at most `output_cap` tokens. It is billed at
    one of `service_tiers`: at the first unless the provider says that it used another."""

    model: Model
    credential: Credential | None
    key_source: str  # "platform" | "byok" | "none"
    output_cap: int
    card: PriceCard
    service_tiers: tuple[str, ...] = ("standard",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    model: str
    code: str
    detail: str
    block: Block | None = None  # of a breaker


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A survivor of the filters with what ordered it: higher score first; `parts` name what made it."""

    model: str
    score: float
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The route: the targets in the order they are tried, and why. `targets[0]` is the choice."""

    targets: tuple[Target, ...]
    reason: str
    requested: str
    config: Config | None
    power_level: str
    task_type: str
    task_confidence: float
    priority: str
    pinned: bool
    candidates: tuple[Candidate, ...]
    rejections: tuple[Rejection, ...]
    notes: tuple[str, ...]
    trickle: bool = False  # everything looks down: it goes through what does

    def trace(self) -> dict[str, Any]:
        """The compact JSON that is kept with the usage row."""
        first = self.targets[0] if self.targets else None
        return {
            "requested": self.requested,
            "chosen": None if first is None else first.model.reference,
            "key_source": None if first is None else first.key_source,
            "reason": self.reason,
            "config": None if self.config is None else self.config.name,
            "power_level": self.power_level,
            "task_type": self.task_type,
            "task_confidence": self.task_confidence,
            "priority": self.priority,
            "candidates": [
                {"model": one.model, "score": round(one.score, 4), "parts": dict(one.parts)} for one in self.candidates
            ],
            "rejections": [{"model": one.model, "code": one.code, "detail": one.detail} for one in self.rejections],
            "fallbacks": [target.model.reference for target in self.targets[1:]],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFacts:
    """Where a request came from, for its usage row. Its strings are the client's own: inert, bounded by the wire."""

    ip: str | None = None
    user_agent: str = ""
    end_user: str = ""
    session_id: str = ""
    client_request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """The client's own body, in a dialect that some providers speak too: there it travels as it is.

    `only` names what it holds that no other dialect can express ("messages[3].content[0]"), so that other providers
    refuse it; None if there is no such thing.
    """

    dialect: str
    body: Mapping[str, Any]
    only: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A validated request of any client wire. `body` is as OpenAI shapes it (chat, or by `route.kind` embeddings or
    legacy completions; unknown fields kept) without Tollgate's own extras.

    `beyond` is what the client asked for that OpenAI's API has no name for and other dialects have (`top_k`): chat
    fields that never travel to a provider of the openai dialect.
    """

    id: uuid.UUID
    body: Mapping[str, Any]
    stream: bool
    route: RouteRequest
    size: Any  # engine.tokens.Size
    cache_writes: bool  # it asks the provider to write a cache, which may cost more than plain input
    client: ClientFacts
    idempotency: tuple[str, bytes] | None  # the client's key, and a digest of the body it goes with
    received: float  # time.perf_counter() at its first byte
    now: datetime
    native: Native | None = None
    beyond: Mapping[str, Any] = field(default_factory=dict)
