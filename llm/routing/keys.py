"""Which provider keys a request may use: the tenant's own (BYOK) first, then the platform's. Pure."""

from llm.routing.question import Keys, Question
from llm.types import Credential, Model, Provider


def keys_at(question: Question, provider: Provider, *, requires_byok: bool) -> Keys:
    """The keys usable at a provider, worked out once per plan."""
    memo = (provider.slug, requires_byok)
    found = question.keys.get(memo)
    if found is None:
        found = question.keys[memo] = _look(question, provider, requires_byok)
    return found


def _look(question: Question, provider: Provider, requires_byok: bool) -> Keys:
    config = question.config
    if provider.auth_type == "none" and not requires_byok:
        return Keys("none")
    own, unusable = _own_keys(question, provider)
    if own:
        return Keys("byok", own)
    if unusable:  # who brought a key wants to pay its vendor: the platform's never steps in for it
        return Keys("", refusal=("byok_not_validated", f"your own key for {provider.slug} is not active and validated"))
    byok_only = requires_byok or (config is not None and not config.use_platform_key)
    if provider.credentials and not byok_only:
        return Keys("platform", provider.credentials)
    if byok_only:
        asks = "the rule" if requires_byok else "the config"
        return Keys(
            "", refusal=("byok_required", f"{asks} asks for your own key, and you have none in use for {provider.slug}")
        )
    return Keys("", refusal=("no_credential", f"there is no key for {provider.slug}"))


def _own_keys(question: Question, provider: Provider) -> tuple[tuple[Credential, ...], bool]:
    """(usable own keys, whether there are own keys that are not usable). A config's own key is the only one it uses."""
    tenant, config = question.tenant, question.config
    own = tenant.byok.get(provider.id, ()) if tenant.byok else ()
    unusable = provider.id in tenant.byok_unusable if tenant.byok_unusable else False
    if config is None or config.credential_id is None:
        return own, unusable
    bound = tuple(one for one in own if one.id == config.credential_id)
    if bound:
        return bound, False
    primary = _primary(question)
    if primary is not None and primary.provider.id == provider.id:
        return (), True  # the config's own key is for its primary model's provider, and it is not among the usable ones
    return own, unusable


def _primary(question: Question) -> Model | None:
    config = question.config
    if config is None or config.primary_model_id is None:
        return None
    return question.snapshot.models.get(config.primary_model_id)
