"""Service tiers: which a request may be billed at, how a provider is asked for one, and which it says it used. Pure.

A request asks for "" (nothing), "auto" (the provider chooses), "standard", "flex" or "priority". Providers may serve
flex and priority as standard where they have no room, and say so: standard is always among what can be billed. Sources:
OpenAI (developers.openai.com, "Create chat completion": the answer's `service_tier` is the one that was used),
Anthropic (platform.claude.com, "Service tiers": priority cannot be demanded, `auto` is how it is asked for),
Gemini (ai.google.dev, "Priority inference"; `usageMetadata.serviceTier`), Bedrock (docs.aws.amazon.com, ServiceTier),
Groq (console.groq.com, "Service tiers"), xAI (docs.x.ai, "Priority processing").
"""

from collections.abc import Mapping
from typing import Any

from billing.pricing import STANDARD, PriceCard
from llm.types import Model, Target

AUTO = "auto"
PLAIN = ("", STANDARD)  # nothing else can be billed
ONLY_STANDARD = (STANDARD,)
ASKED: Mapping[str, str] = {
    "auto": AUTO,
    "default": STANDARD,
    "standard": STANDARD,
    "standard_only": STANDARD,
    "flex": "flex",
    "priority": "priority",
    "fast": "priority",  # OpenAI's other name for it
}
# By dialect: what it calls the tiers that it can be asked for. The quirk `service_tiers` says so of one vendor.
WORDS: Mapping[str, Mapping[str, str]] = {
    "openai": {AUTO: "auto", STANDARD: "default", "flex": "flex", "priority": "priority"},
    "anthropic": {AUTO: "auto", STANDARD: "standard_only", "priority": "auto"},
    "google": {STANDARD: "standard", "flex": "flex", "priority": "priority"},
    "bedrock": {STANDARD: "default", "flex": "flex", "priority": "priority"},
}
_NOT_ASKED_FOR = frozenset({AUTO, STANDARD})
_NOTHING: Mapping[str, str] = {}
# What providers call the tier that they used. "scale" and "reserved" are capacity paid for apart from tokens.
_USED: Mapping[str, str] = {
    **dict.fromkeys(("default", "standard", "on_demand", "on-demand", "scale", "reserved"), STANDARD),
    "flex": "flex",
    "priority": "priority",
    "fast": "priority",
    "performance": "priority",
}


OPENAI_WORDS = WORDS["openai"]  # which the wires of OpenAI's APIs answer in


def words(model: Model) -> Mapping[str, str]:
    """What the model's API calls the tiers that it can be asked for; empty if it knows none."""
    quirks = model.quirks
    if "service_tier" in (quirks.get("unsupported_params") or ()):
        return _NOTHING
    said: Any = quirks.get("service_tiers")
    if isinstance(said, Mapping):
        return said
    provider = model.provider
    if provider.dialect == "google" and quirks.get("vertex", provider.auth_type == "oauth"):
        return _NOTHING  # Vertex AI asks by a header, and on its global endpoint alone
    return WORDS.get(provider.dialect, _NOTHING)


def offered(model: Model, card: PriceCard) -> frozenset[str]:
    """The tiers beside standard that the model can be asked for and that have a price."""
    if not card.services:
        return frozenset()
    return frozenset(card.services.keys() & words(model).keys()) - _NOT_ASKED_FOR


def candidates(model: Model, card: PriceCard, asked: str) -> tuple[str, ...]:
    """The tiers that a request may be billed at; the first is the one if the provider says nothing."""
    if not asked or asked == STANDARD:
        return ONLY_STANDARD
    found = offered(model, card)
    if asked == AUTO:
        return (STANDARD, *sorted(found)) if found else ONLY_STANDARD
    return (asked, STANDARD) if asked in found else ONLY_STANDARD


def word(target: Target, said: Any) -> str | None:
    """What to ask the provider for, in its own word; None: nothing. `said` is the client's word, None for none."""
    known, first = words(target.model), target.service_tiers[0]
    if first != STANDARD:
        return known[first]
    if said is None:
        # The provider's account may be set to another tier, whose price was not held: say that standard is meant.
        return known.get(STANDARD) if target.card.services else None
    asked = ASKED.get(said)
    return known.get(asked) if asked in (AUTO, STANDARD) else None


def used(said: str, tiers: tuple[str, ...]) -> str | None:
    """The tier of these that a provider's word means; None for one that it cannot be."""
    if not said or said == AUTO:
        return tiers[0]
    meant = _USED.get(said)
    return meant if meant in tiers else None
