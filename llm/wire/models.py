"""`/v1/models`: what this key may call."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from billing.pricing import PriceCard
from llm.routing.listing import callable_models
from llm.types import Model, RouteCaller, Snapshot, TenantState

Json = dict[str, Any]
ALIASES = ("auto", "eco", "balanced", "precision")


def entries(snapshot: Snapshot, caller: RouteCaller, tenant: TenantState, *, now: datetime) -> list[Json]:
    """OpenAI's model objects, with context length, prices and capabilities added."""
    found = [_entry(model, now) for model in callable_models(snapshot, caller, tenant, now=now)]
    names = [*ALIASES, *(f"config/{name}" for name in sorted(tenant.configs))]
    return [_alias(name) for name in names] + found


def _alias(name: str) -> Json:
    return {"id": name, "object": "model", "created": 0, "owned_by": "tollgate"}


def _entry(model: Model, now: datetime) -> Json:
    card = model.card_at(now)
    return {
        "id": model.reference,
        "object": "model",
        "created": model.created,
        "owned_by": model.provider.slug,
        "name": model.name,
        "context_length": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "pricing": {} if card is None else _pricing(card),
        "capabilities": {
            "streaming": "streaming" in model.supports,
            "function_calling": "tools" in model.supports,
            "vision": "vision" in model.supports,
            "json_mode": "json" in model.supports,
        },
    }


def _pricing(card: PriceCard) -> dict[str, str]:
    """USD per million tokens, as decimal strings, by meter of the base tier."""
    return {meter: _plain(rate.of(1_000_000)) for meter, rate in card.tiers[-1].rates.items()}


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def anthropic_list(found: list[Json]) -> Json:
    """The same in Anthropic's shape."""
    data = [
        {"type": "model", "id": entry["id"], "display_name": entry.get("name", entry["id"]), "created_at": _iso(entry)}
        for entry in found
    ]
    return {
        "data": data,
        "has_more": False,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def _iso(entry: Json) -> str:
    return datetime.fromtimestamp(entry["created"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
