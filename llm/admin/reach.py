"""Who would a routing rule catch, in words, and whether it can ever be reached. Facts in, words out: pure.

The router decides for itself, request by request; this looks at what is the same for all of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from llm.catalog import credentials
from llm.choices import AuthType, Dialect, Kind, RuleTier, TaskType
from llm.models import LLMRoutingRule, PowerLevelPolicy, PriceVersion
from tenants.admin import dress
from tenants.tiers import Tier, reaches


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the words are made of. `tenants` counts active tenants by tier; `tasks` are those rules serve exactly."""

    tenants: Mapping[str, int]
    tasks: frozenset[str]
    has_general: bool
    policy: PowerLevelPolicy | None
    version: PriceVersion | None
    stored_keys: int
    own_keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    says: Sequence[tuple[str, str]]
    warnings: Sequence[str]


def blended(version: PriceVersion) -> Decimal:
    """(3 x input + output) / 4 of the base tier, USD per million: what power levels compare."""
    zero = Decimal(0)
    return (3 * (version.base_price("input") or zero) + (version.base_price("output") or zero)) / 4


def of(rule: LLMRoutingRule, facts: Facts) -> Reach:
    says = [
        ("Tenants", _tenants(rule, facts)),
        ("Power level", _power_level(rule)),
        ("Tasks", _tasks(rule, facts)),
        ("Size", _tokens(rule)),
        ("Order", _order(rule)),
        ("Price", _price(rule, facts)),
        ("Keys", _keys(rule, facts)),
    ]
    return Reach(says=says, warnings=list(_warnings(rule, facts)))


def _tiers(rule: LLMRoutingRule) -> list[str]:
    """The tiers it is for that may use its model."""
    wanted = [tier.value for tier in Tier] if rule.user_tier == RuleTier.ALL else [rule.user_tier]
    floor, provider_floor = rule.model.min_tier_required, rule.model.provider.min_tier_required
    return [tier for tier in wanted if reaches(tier, floor) and reaches(tier, provider_floor)]


def _tenants(rule: LLMRoutingRule, facts: Facts) -> str:
    tiers = _tiers(rule)
    counted = [f"{facts.tenants.get(tier, 0)} {tier}" for tier in tiers]
    total = sum(facts.tenants.get(tier, 0) for tier in tiers)
    words = f"{total} active: {', '.join(counted)}." if counted else "None."
    if rule.user_tier == RuleTier.ALL and len(tiers) < len(Tier):
        shut_out = [tier.value for tier in Tier if tier.value not in tiers]
        words += f" The model is not for {', '.join(shut_out)}."
    return words


def _power_level(rule: LLMRoutingRule) -> str:
    words = f"Requests that ask for {rule.power_level}"
    if rule.power_level == "balanced":
        words += ", and those that ask for nothing in particular (auto) without a config's primary model"
    return f"{words}. A request that names a model is not routed by rules."


def _tasks(rule: LLMRoutingRule, facts: Facts) -> str:
    others = sorted(set(TaskType.values) - facts.tasks - {TaskType.GENERAL})
    if rule.task_type == TaskType.GENERAL:
        return f"general, and tasks without a rule of their own: {', '.join(others) or 'none are left'}."
    if rule.task_type:
        return f"{rule.task_type} only, as the request says or as is detected."
    if facts.has_general:
        return "What is left: other rules of this power level and tier serve `general` and are tried first."
    return f"Any task without a rule of its own: {', '.join([*others, TaskType.GENERAL.value])}."


def _tokens(rule: LLMRoutingRule) -> str:
    low, high = rule.min_tokens, rule.max_tokens
    if low is None and high is None:
        return "Any size."
    if high is None:
        return f"From {low:,} estimated tokens on."
    return f"Up to {high:,} estimated tokens." if low is None else f"From {low:,} to {high:,} estimated tokens."


def _order(rule: LLMRoutingRule) -> str:
    if rule.is_fallback:
        return f"Only when another model has failed, as number {rule.fallback_order} among the fallbacks."
    share = "never first" if rule.weight == 0 else f"with weight {rule.weight} among rules of the same priority"
    return f"Priority {rule.priority} (lower is tried first), {share}."


def _price(rule: LLMRoutingRule, facts: Facts) -> str:
    if facts.version is None:
        return "The model has no price in force."
    paid = f"{dress.usd(blended(facts.version))} per 1M, (3 x input + output) / 4"
    if facts.policy is None:
        return f"{paid}. There is no such power level."
    cap = dress.usd(facts.policy.max_price_per_1m_usd)
    verdict = "within" if blended(facts.version) <= facts.policy.max_price_per_1m_usd else "ABOVE"
    return f"{paid}: {verdict} the {cap} of {rule.power_level}."


def _keys(rule: LLMRoutingRule, facts: Facts) -> str:
    provider = rule.model.provider
    if _needs_no_key(rule):
        return f"{provider.display_name} needs none."
    variable = credentials.environment_name(provider)
    platform = f"{facts.stored_keys} stored" if facts.stored_keys else f"from {variable}" if variable else "none"
    words = f"Platform: {platform}. Tenants' own, validated: {facts.own_keys}."
    return f"{words} The rule wants the tenant's own." if rule.requires_byok else words


def _needs_no_key(rule: LLMRoutingRule) -> bool:
    provider = rule.model.provider
    return provider.dialect == Dialect.SANDBOX or provider.auth_type == AuthType.NONE


def _warnings(rule: LLMRoutingRule, facts: Facts) -> Iterator[str]:
    """Why no request will get here; each with what to do about it."""
    model = rule.model
    if not rule.is_active:
        yield "The rule is off."
    if not model.is_active:
        yield f"{model} is off: activate the model, or name another."
    if not model.provider.is_active:
        yield f"{model.provider.display_name} is off: activate the provider."
    if model.is_deprecated and not model.deprecation_date:
        what = f"{model.replacement_model} joins in its place" if model.replacement_model else "nothing replaces it"
        yield f"{model} is deprecated: {what}."
    if model.kind != Kind.CHAT:
        yield f"{model} is an embedding model: power levels route chats."
    if not _tiers(rule):
        yield f"The model is not for the tier {rule.user_tier}: lower its floor, or change the rule's tier."
    if facts.version is None:
        yield f"{model} is unpriced, so it is refused: set its price."
    elif facts.policy is not None and blended(facts.version) > facts.policy.max_price_per_1m_usd:
        yield f"{model} is dearer than {rule.power_level} allows: raise the cap, or use another power level."
    if rule.is_fallback and facts.policy is not None and not facts.policy.allow_fallback:
        yield f"{rule.power_level} allows no fallback, and this rule is one."
    if rule.min_tokens is not None and rule.min_tokens > model.context_window:
        yield f"It starts at {rule.min_tokens:,} tokens, but the context window ends at {model.context_window:,}."
    yield from _key_warnings(rule, facts)


def _key_warnings(rule: LLMRoutingRule, facts: Facts) -> Iterator[str]:
    provider = rule.model.provider
    if _needs_no_key(rule):
        return
    has_platform_key = bool(facts.stored_keys or credentials.environment_name(provider))
    if rule.requires_byok and not facts.own_keys:
        yield f"It wants a tenant's own key, and no tenant has a validated one for {provider.display_name}."
    elif not has_platform_key and not facts.own_keys:
        yield f"There is no key for {provider.display_name}: add one on its page."
