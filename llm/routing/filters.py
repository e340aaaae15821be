"""The filters, in their order: each looks at one candidate and rejects it with one named code, or lets it pass. Pure.

None is ever relaxed silently; a fallback passes the same ones. What a rejection means for the client's status when
nothing is left is in `refusal.py`.
"""

from collections.abc import Callable

from llm import service_tiers
from llm.routing.keys import keys_at
from llm.routing.question import SANDBOX, Entry, Question, Refusal
from llm.types import Block, Credential, Model, Rejection, number_of
from tenants.tiers import RANK

DEFAULT_CAP = 4096
REASONING_CAP = 16_384
_ANYWHERE = (service_tiers.AUTO, *service_tiers.PLAIN)
LEAST_CAP = 16  # a default cap is lowered to fit the window, but not below this

# Codes in the order of the filters: the further down, the more filters a candidate passed.
ORDER = (
    "allow_list",
    "tier",
    "inactive",
    "deprecated",
    "provider_down",
    "no_credential",
    "byok_required",
    "byok_not_validated",
    "dialect_unsupported",
    "capability",
    "context_window",
    "rule_tokens",
    "service_tier",
    "price_cap",
    "unpriced",
)
_CREDENTIAL_CODES = ("no_credential", "byok_required", "byok_not_validated")
PASSED: dict[str, int] = {
    code: ORDER.index("no_credential") if code in _CREDENTIAL_CODES else place for place, code in enumerate(ORDER)
}


def allow_list(question: Question, entry: Entry) -> Refusal | None:
    """The key's list and the config's must both allow it; the sandbox also needs the tenant's switch."""
    model = entry.model
    if question.key_allows is not None and not question.key_allows.allows(model):
        return "allow_list", "this key's allow-list does not have it"
    if question.config_allows is not None and not question.config_allows.allows(model):
        return "allow_list", "the config's allow-list does not have it"
    if model.provider.dialect == SANDBOX and not question.caller.sandbox_enabled:
        return "allow_list", "the sandbox is switched off for this tenant"
    return None


def tier(question: Question, entry: Entry) -> Refusal | None:
    model = entry.model
    rank = question.rank
    if rank >= RANK[model.min_tier] and rank >= RANK[model.provider.min_tier]:
        return None
    needed = max(model.min_tier, model.provider.min_tier, key=RANK.__getitem__)
    return "tier", f"it needs the tier {needed}; yours is {question.caller.tier}"


def inactive(_: Question, entry: Entry) -> Refusal | None:
    if not entry.model.is_active:
        return "inactive", "it is switched off"
    if not entry.model.provider.is_active:
        return "inactive", "its provider is switched off"
    return None


def has_stopped(question: Question, model: Model) -> bool:
    """Deprecated, and its sunset date is here; without a date it stopped when it was deprecated."""
    return model.is_deprecated and (model.deprecation_date is None or model.deprecation_date <= question.today)


def deprecated(question: Question, entry: Entry) -> Refusal | None:
    model = entry.model
    if not has_stopped(question, model):
        return None
    successor = successor_of(question, model)
    since = "" if model.deprecation_date is None else f" since {model.deprecation_date.isoformat()}"
    if successor is None:
        return "deprecated", f"it is deprecated{since} and has no replacement"
    return "deprecated", f"it is deprecated{since}; {successor.reference} replaces it"


def successor_of(question: Question, model: Model) -> Model | None:
    return None if model.replacement_id is None else question.snapshot.models.get(model.replacement_id)


def provider_down(question: Question, entry: Entry) -> Refusal | None:
    """What probes found out; the results of real traffic are `breaker`'s."""
    if question.trust_health and entry.model.provider.health_status == "down":
        return "provider_down", f"{entry.model.provider.slug} is down"
    return None


def breaker(question: Question, entry: Entry) -> Refusal | None:
    block = block_of(question, entry)
    return None if block is None else ("provider_down", block.detail)


def block_of(question: Question, entry: Entry) -> Block | None:
    """The open breaker that keeps a candidate out longest. Its keys do only where every usable one is kept out."""
    state, model = question.state, entry.model
    found = [state.blocks.get(model.provider.slug), state.blocks.get(model.reference)]
    if state.key_blocks:
        rule = entry.rule
        keys = keys_at(question, model.provider, requires_byok=rule is not None and rule.requires_byok)
        if keys.refusal is None:
            kept_out = [key_block(question, model, one) for one in keys.credentials or (None,)]
            found.append(min((one for one in kept_out if one is not None), key=_until) if all(kept_out) else None)
    return _longest(question, found)


def key_block(question: Question, model: Model, one: Credential | None) -> Block | None:
    """The open breaker that keeps one key out at a model."""
    blocks, number = question.state.key_blocks, number_of(one)
    return _longest(question, [blocks.get((model.provider.slug, number)), blocks.get((model.reference, number))])


def _longest(question: Question, blocks: list[Block | None]) -> Block | None:
    """Of those that count: the trickle passes all but a provider's own wish to wait."""
    counting = [one for one in blocks if one is not None and (question.trust_health or one.limited)]
    return max(counting, key=_until, default=None)


def _until(block: Block) -> float:
    return block.until


def credential(question: Question, entry: Entry) -> Refusal | None:
    rule = entry.rule
    return keys_at(question, entry.model.provider, requires_byok=rule is not None and rule.requires_byok).refusal


def dialect_unsupported(question: Question, entry: Entry) -> Refusal | None:
    dialect, kind = entry.model.provider.dialect, question.request.kind
    if (dialect, kind) in question.snapshot.built or not entry.model.serves(kind):  # the latter is `capability`'s
        return None
    return "dialect_unsupported", f"the adapter for {dialect} is not built yet for {kind}"


def capability(question: Question, entry: Entry) -> Refusal | None:
    model, request = entry.model, question.request
    if not model.serves(request.kind):
        if request.kind == "completion":
            return "capability", "it serves no legacy completions: send messages to /v1/chat/completions"
        return "capability", f"it is for {model.kind}, and this is a request for {request.kind}"
    if request.only is not None and request.only[0] != model.provider.dialect:
        return "capability", f"its API has no words for `{request.only[1]}`"
    if request.needs <= model.supports:
        return None
    return "capability", f"it has no {' and no '.join(sorted(request.needs - model.supports))}"


def output_cap(question: Question, model: Model) -> int | Refusal:
    """The most output tokens to ask for: the request's within the config's, else a default that fits the window."""
    estimate, window = question.request.input_tokens, model.context_window
    if question.request.kind == "embedding":
        return 0 if estimate <= window else _too_long(estimate, 0, window)
    most = model.max_output_tokens
    asked = question.asked_cap
    if asked is not None:
        if most is not None and asked > most:
            return "context_window", f"it answers with at most {most:,} tokens, and max_tokens is {asked:,}"
        return asked if estimate + asked <= window else _too_long(estimate, asked, window)
    config = question.config
    default = config.max_tokens if config is not None else REASONING_CAP if model.is_reasoning else DEFAULT_CAP
    if most is not None and most < default:
        default = most
    if estimate + default <= window:
        return default
    room = window - estimate
    return room if room >= min(LEAST_CAP, default) else _too_long(estimate, LEAST_CAP, window)


def _too_long(estimate: int, cap: int, window: int) -> Refusal:
    answer = f" and {cap:,} for the answer" if cap else ""
    return "context_window", f"about {estimate:,} tokens{answer} are more than its context window of {window:,}"


def context_window(question: Question, entry: Entry) -> Refusal | None:
    cap = output_cap(question, entry.model)
    return None if isinstance(cap, int) else cap


def rule_tokens(question: Question, entry: Entry) -> Refusal | None:
    rule = entry.rule
    if rule is None:
        return None
    estimate = question.request.input_tokens
    if rule.min_tokens is not None and estimate < rule.min_tokens:
        return "rule_tokens", f"its rule starts at {rule.min_tokens:,} tokens; this is about {estimate:,}"
    if rule.max_tokens is not None and estimate > rule.max_tokens:
        return "rule_tokens", f"its rule ends at {rule.max_tokens:,} tokens; this is about {estimate:,}"
    return None


def service_tier(question: Question, entry: Entry) -> Refusal | None:
    """One that was asked for by name, at a price of its own. The provider's choice (`auto`) is none."""
    asked = question.request.service_tier
    if not asked or asked in _ANYWHERE:
        return None
    model = entry.model
    _, card, _ = question.price_of(model)
    if card is None:
        return None  # the last filter's
    found = service_tiers.offered(model, card)
    if asked in found:
        return None
    known = ", ".join(("standard", *sorted(found)))
    if asked not in service_tiers.words(model):
        return "service_tier", f"its API cannot be asked for the service tier {asked}, only for {known}"
    return "service_tier", f"it has no price for the service tier {asked}, only for {known}"


def price_cap(question: Question, entry: Entry) -> Refusal | None:
    cap = question.price_cap
    if cap is None:
        return None
    _, _, price = question.price_of(entry.model)
    if price is None or price <= cap:
        return None  # without a price it is the next filter's
    shown = f"{price.normalize():f}"
    return "price_cap", f"it costs ${shown} per 1M tokens, {question.wish.level} allows ${cap.normalize():f}"


def unpriced(question: Question, entry: Entry) -> Refusal | None:
    _, card, price = question.price_of(entry.model)
    if card is None:
        return "unpriced", "it has no price now"
    if price is None or (entry.model.kind == "chat" and "output" not in card.tiers[-1].rates):
        return "unpriced", "its price has no input or no output"
    return None


Filter = Callable[[Question, Entry], Refusal | None]
# What these say of a model is the same for every request of a tier on one day, unless the tenant has own keys for the
# provider or its config forbids the platform's: worked out once per snapshot. `breaker` comes after `provider_down`.
SETTLED: tuple[Filter, ...] = (tier, inactive, deprecated, provider_down, credential, dialect_unsupported)
ASKED: tuple[Filter, ...] = (capability, context_window, rule_tokens, service_tier, price_cap, unpriced)
FILTERS: tuple[Filter, ...] = (allow_list, *SETTLED, breaker, *ASKED)
_DOWN = PASSED["provider_down"]


def first_rejection(question: Question, entry: Entry) -> Rejection | None:
    """The first filter's word against a candidate; None if all let it pass."""
    refusal = allow_list(question, entry)
    if refusal is not None:
        return _rejection(entry, refusal)
    settled, reference, slug = question.settled, entry.model.reference, entry.model.provider.slug
    rule = entry.rule
    if not question.plain or slug in question.touched or (rule is not None and rule.requires_byok):
        known = _first(SETTLED, question, entry)
    elif reference in settled:
        known = settled[reference]
    else:
        known = settled[reference] = _first(SETTLED, question, entry)
    broken = question.broken
    if broken and (slug in broken or reference in broken) and (known is None or PASSED[known.code] > _DOWN):
        block = block_of(question, entry)
        if block is not None:
            return Rejection(model=reference, code="provider_down", detail=block.detail, block=block)
    return known if known is not None else _first(ASKED, question, entry)


def _first(filters: tuple[Filter, ...], question: Question, entry: Entry) -> Rejection | None:
    for check in filters:
        refusal = check(question, entry)
        if refusal is not None:
            return _rejection(entry, refusal)
    return None


def _rejection(entry: Entry, refusal: Refusal) -> Rejection:
    return Rejection(model=entry.model.reference, code=refusal[0], detail=refusal[1])
