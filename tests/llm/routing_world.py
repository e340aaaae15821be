"""A small catalog built by hand, for the tests of routing: no database."""

import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from billing.pricing import PriceCard, Rate, Tier
from llm.fields import Secret
from llm.routing.plan import plan
from llm.types import (
    Config,
    Credential,
    Decision,
    Model,
    Policy,
    Provider,
    RouteCaller,
    RouteRequest,
    RoutingState,
    Rule,
    Snapshot,
    TenantState,
)

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
TENANT = uuid.UUID(int=7)


def policy(level: str, price: str, latency_ms: int, *, fallback: bool, cached: bool) -> Policy:
    return Policy(
        power_level=level,
        max_price_per_1m_usd=Decimal(price),
        max_latency_ms=latency_ms,
        allow_fallback=fallback,
        prefer_cached=cached,
    )


POLICIES = {
    "eco": policy("eco", "0.50", 10_000, fallback=True, cached=True),
    "balanced": policy("balanced", "5", 5_000, fallback=True, cached=True),
    "precision": policy("precision", "100", 2_000, fallback=False, cached=False),
}


def identity(name: str) -> uuid.UUID:
    return uuid.uuid5(TENANT, name)


def credential(name: str = "main", *, source: str = "platform", weight: int = 100) -> Credential:
    secret = Secret("sk-" + name)
    return Credential(id=identity(f"{source} {name}"), name=name, secret=secret, source=source, weight=weight)


def card(input_price: str = "1", output_price: str = "2", **more: str) -> PriceCard:
    rates = {"input": Rate(price=Decimal(input_price)), "output": Rate(price=Decimal(output_price))}
    rates |= {meter: Rate(price=Decimal(price)) for meter, price in more.items()}
    return PriceCard(
        version_id=uuid.uuid4(),
        number=1,
        effective_from=datetime(2026, 1, 1, tzinfo=UTC),
        effective_to=None,
        tiers=(Tier(above=0, rates=rates),),
    )


def provider(slug: str, **changes: Any) -> Provider:
    facts: dict[str, Any] = {
        "id": identity(slug),
        "slug": slug,
        "name": slug.title(),
        "base_url": f"https://{slug}.invalid/v1",
        "dialect": "openai",
        "auth_type": "bearer",
        "credentials": (credential(),),
    }
    return Provider(**facts | changes)


def model(at: Provider, model_id: str, **changes: Any) -> Model:
    facts: dict[str, Any] = {
        "id": identity(f"{at.slug}/{model_id}"),
        "provider": at,
        "model_id": model_id,
        "reference": f"{at.slug}/{model_id}",
        "name": model_id,
        "context_window": 128_000,
        "max_output_tokens": 16_384,
        "supports": frozenset({"streaming", "tools", "json"}),
        "prices": (card(),),
    }
    return Model(**facts | changes)


def rule(of: Model, **changes: Any) -> Rule:
    facts: dict[str, Any] = {
        "id": uuid.uuid4(),
        "model_id": of.id,
        "power_level": "balanced",
        "user_tier": "all",
        "task_type": None,
        "priority": 100,
        "weight": 100,
        "min_tokens": None,
        "max_tokens": None,
        "requires_byok": False,
        "is_fallback": False,
        "fallback_order": 0,
    }
    return Rule(**facts | changes)


def snapshot(models: Iterable[Model], rules: Iterable[Rule] = (), **changes: Any) -> Snapshot:
    models, rules = list(models), list(rules)
    families = {one.family for one in models if one.family}
    facts: dict[str, Any] = {
        "version": "1",
        "providers": {one.provider.slug: one.provider for one in models},
        "models": {one.id: one for one in models},
        "by_reference": {one.reference: one for one in models},
        "by_model_id": {
            name: tuple(one for one in models if one.model_id == name) for name in {one.model_id for one in models}
        },
        "by_family": {name: tuple(one for one in models if one.family == name) for name in families},
        "rules": {level: tuple(one for one in rules if one.power_level == level) for level in POLICIES},
        "policies": POLICIES,
    }
    return Snapshot(**facts | changes)


def config(name: str = "default", **changes: Any) -> Config:
    facts: dict[str, Any] = {"id": identity(f"config {name}"), "name": name}
    return Config(**facts | changes)


def tenant(*configs: Config, default: Config | None = None, **changes: Any) -> TenantState:
    return TenantState(configs={one.name: one for one in configs}, default_config=default, **changes)


CALLER = RouteCaller(tenant_id=TENANT, tier="professional")
EMPTY = TenantState()
CALM = RoutingState()


def request(model: str | None = None, number: int = 1, **changes: Any) -> RouteRequest:
    """`number` makes request ids that differ; multiples of 20 are the trickle that tries what looks down."""
    return RouteRequest(request_id=uuid.UUID(int=number), model=model, **changes)


def route(
    world: Snapshot,
    asked: RouteRequest | str | None = None,
    *,
    caller: RouteCaller = CALLER,
    of: TenantState = EMPTY,
    state: RoutingState = CALM,
    **caller_changes: Any,
) -> Decision:
    if not isinstance(asked, RouteRequest):
        asked = request(asked)
    return plan(world, replace(caller, **caller_changes), of, asked, state=state, now=NOW)


def names(decision: Decision) -> list[str]:
    """The references of its targets, in the order they are tried."""
    return [target.model.reference for target in decision.targets]


def codes(decision: Decision) -> dict[str, str]:
    """The rejections: code by reference."""
    return {one.model: one.code for one in decision.rejections}
