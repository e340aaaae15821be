"""One request with all that filters and ranking ask about it, worked out once per plan. Pure."""

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from hashlib import blake2b

from billing.pricing import ZERO, PriceCard, Unpriced, rate_for
from llm import service_tiers
from llm.types import (
    Candidate,
    Config,
    Credential,
    Model,
    Rejection,
    RouteCaller,
    RouteRequest,
    RoutingState,
    Rule,
    Snapshot,
    TenantState,
)
from tenants.tiers import RANK

MASK64 = (1 << 64) - 1
SANDBOX = "sandbox"
UNWEIGHTED = 100

# How a wish names its models, from the most to the least explicit.
PINNED = "pinned"  # provider/model_id: that row only
NAMED = "named"  # a bare model_id or a family: whoever serves it
CONFIG = "config"  # the config's task rule or its primary model
RANKED = "ranked"  # a priority: every model the tenant may use, by score
RULES = "rules"  # the rules of a power level

Refusal = tuple[str, str]  # the code of the filter that rejects, and why in a few words
NONE: frozenset[str] = frozenset()


@dataclass(slots=True, eq=False)
class Entry:
    """A model as a candidate: on its own, or as a rule offers it.

    `salt` scatters it among its equals; `replaces` is the deprecated model whose place it takes; `listed` is how it
    looks among the candidates where neither own keys nor slowness move it.
    """

    model: Model
    rule: Rule | None = None
    weight: int = UNWEIGHTED
    salt: int = 0
    replaces: str = ""
    listed: Candidate | None = None


@dataclass(slots=True, kw_only=True)
class Wish:
    """What a request asks for after its names are looked up. `level_named`: the request itself gave the power level."""

    kind: str
    models: tuple[Model, ...]
    config: Config | None
    level: str
    level_named: bool
    task_type: str
    confidence: float
    why: str
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class AllowList:
    """An allow-list, each entry read as `model` is: a row's reference, `provider/*`, else a bare model_id or family."""

    references: frozenset[str]
    bare: frozenset[str]

    @classmethod
    def of(cls, snapshot: Snapshot, entries: tuple[str, ...] | None) -> "AllowList | None":
        """None allows all, an empty one none."""
        if entries is None:
            return None
        known = snapshot.by_reference
        exact = frozenset(entry for entry in entries if entry in known or entry.endswith("/*"))
        return cls(exact, frozenset(entries) - exact)

    def allows(self, model: Model) -> bool:
        return (
            model.reference in self.references
            or f"{model.provider.slug}/*" in self.references
            or model.model_id in self.bare
            or (model.family != "" and model.family in self.bare)
        )


@dataclass(slots=True, eq=False)
class Keys:
    """The keys that may be used at one provider, or why none may. `source` as in Target."""

    source: str
    credentials: tuple[Credential, ...] = ()
    refusal: Refusal | None = None


class Question:
    """Everything a filter may look at. Written for speed: one is made for every request.

    `plain` and `touched` say where a snapshot's own verdict on a model holds for this caller too (see filters.py).
    `broken`: the providers and models of which some breaker is open. `trust_health` is off for the trickle that goes on
    when all looks down.
    """

    __slots__ = (
        "asked_cap",
        "broken",
        "caller",
        "config",
        "config_allows",
        "key_allows",
        "keys",
        "notes",
        "now",
        "own",
        "plain",
        "policy",
        "price_cap",
        "priced",
        "rank",
        "request",
        "seeded",
        "settled",
        "slow",
        "snapshot",
        "state",
        "tenant",
        "today",
        "touched",
        "trust_health",
        "wish",
    )  # fmt: skip

    snapshot: Snapshot
    caller: RouteCaller
    tenant: TenantState
    request: RouteRequest
    state: RoutingState
    now: datetime

    def __init__(self, snapshot: Snapshot, caller: RouteCaller, tenant: TenantState, request: RouteRequest) -> None:
        self.snapshot, self.caller, self.tenant, self.request = snapshot, caller, tenant, request
        self.rank = RANK[caller.tier]
        self.key_allows = AllowList.of(snapshot, caller.allowed_models)
        self.trust_health = True
        self.touched: frozenset[str] = _touched(snapshot, tenant)
        self.keys: dict[tuple[str, bool], Keys] = {}
        self.seeded: int | None = None
        self.priced: tuple[Model | None, PriceCard | None, Decimal | None] = (None, None, None)
        self.own: frozenset[str] | None = None if self.touched else NONE

    def ask(self, wish: Wish, state: RoutingState, now: datetime) -> None:
        """Takes in what the names turned out to mean, and the moment."""
        self.wish, self.state, self.now, self.today = wish, state, now, now.date()
        self.slow: frozenset[str] | None = None if state.ttft_ms else NONE
        self.notes: list[str] = wish.notes
        config, asked = wish.config, self.request.max_tokens
        self.config = config
        self.config_allows: AllowList | None = None
        self.broken = NONE
        if state.blocks or state.key_blocks:
            self.broken = frozenset([*state.blocks, *(name for name, _ in state.key_blocks)])
        self.plain = True
        if config is not None:
            self.config_allows = AllowList.of(self.snapshot, config.allowed_models)
            self.plain = self.plain and config.use_platform_key and config.credential_id is None
            if asked is not None and asked > config.max_tokens:
                self.notes.append(
                    f"max_tokens was lowered from {asked:,} to {config.max_tokens:,}, the config's limit."
                )
                asked = config.max_tokens
        self.asked_cap: int | None = asked
        self.policy = policy = self.snapshot.policies.get(wish.level)
        by_level = wish.kind == RULES or (wish.kind == RANKED and wish.level_named)
        self.price_cap: Decimal | None = policy.max_price_per_1m_usd if policy is not None and by_level else None
        self.settled: dict[str, Rejection | None] = _settled(self.snapshot, self.caller, self.today)

    def distrust_health(self) -> None:
        """From now on what looks down is tried all the same."""
        self.trust_health = self.plain = False

    @property
    def seed(self) -> int:
        """64 bits that are the same for a whole session, else for this request."""
        if self.seeded is None:
            session = self.request.session_id
            text = session.encode("utf-8", "surrogatepass") if session else self.request.request_id.bytes
            digest = blake2b(text, digest_size=8, salt=self.caller.tenant_id.bytes).digest()
            self.seeded = int.from_bytes(digest, "big")
        return self.seeded

    def price_of(self, model: Model) -> tuple[Model | None, PriceCard | None, Decimal | None]:
        """(model, its price card in force, the card's blended price). Two filters ask in a row, so the last is kept."""
        priced = self.priced
        if priced[0] is not model:
            card = model.card_at(self.now)
            priced = self.priced = (model, card, None if card is None else self._blended(model, card))
        return priced

    def _blended(self, model: Model, card: PriceCard) -> Decimal | None:
        """USD per million tokens, (3 x input + output) / 4, at the dearest service tier that may be billed; None where
        the card has no price for input."""
        known = self.snapshot.derived
        asked = self.request.service_tier
        key = (card.version_id.int, asked) if asked else card.version_id.int
        if key not in known:
            try:
                known[key] = card.blended_per_1m(service_tiers.candidates(model, card, asked))
            except Unpriced:
                known[key] = None
        price: Decimal | None = known[key]
        return price


def _touched(snapshot: Snapshot, tenant: TenantState) -> frozenset[str]:
    """The providers for which the tenant has keys of its own, usable or not."""
    if not tenant.byok and not tenant.byok_unusable:
        return NONE
    own = {*tenant.byok, *tenant.byok_unusable}
    return frozenset(slug for slug, provider in snapshot.providers.items() if provider.id in own)


def _settled(snapshot: Snapshot, caller: RouteCaller, today: date) -> dict[str, Rejection | None]:
    """The verdicts already known of this snapshot, for one tier and day, by the model's reference."""
    key = ("settled", caller.tier)
    known: tuple[date, dict[str, Rejection | None]] | None = snapshot.derived.get(key)
    if known is None or known[0] != today:
        known = snapshot.derived[key] = (today, {})
    return known[1]


def salt(identifier: bytes) -> int:
    """64 bits that scatter an item among its equals; odd, see balancing.py."""
    return int.from_bytes(blake2b(identifier, digest_size=8).digest(), "big") | 1


def caches_cheaply(model: Model) -> bool:
    """Its newest price has cached input below input."""
    if not model.prices:
        return False
    base = model.prices[0].tiers[-1]
    if "cache_read" not in base.rates or "input" not in base.rates:
        return False
    return ZERO <= rate_for(base, "cache_read").of(1_000_000) < rate_for(base, "input").of(1_000_000)
