"""`/v1/models`: what this key may call."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

from billing.pricing import PriceCard
from llm.errors import InvalidRequest
from llm.routing.listing import callable_models
from llm.types import Model, RouteCaller, Snapshot, TenantState

Json = dict[str, Any]
MAX_PAGE, MAX_DIGITS = 1000, 4
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
        "deprecated": model.is_deprecated,
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


def anthropic_entry(entry: Json) -> Json:
    """One of `entries` in Anthropic's shape. Source: ModelInfo of anthropic-sdk-python."""
    found = {
        "type": "model",
        "id": entry["id"],
        "display_name": entry.get("name", entry["id"]),
        "created_at": _iso(entry),
        "lifecycle": "deprecated" if entry.get("deprecated") else "active",
    }
    if "context_length" in entry:
        found |= {"max_input_tokens": entry["context_length"], "max_tokens": entry["max_output_tokens"]}
    return found


def anthropic_list(found: list[Json], query: bytes) -> Json:
    """`entries` in Anthropic's shape, by its `limit`, `after_id` and `before_id`: all of them where no limit is given.
    Raises InvalidRequest for a limit that is none, or an id that is not in the list."""
    asked = {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}
    ids = [entry["id"] for entry in found]
    limit = _limit(asked.get("limit"), len(found))
    first, last = 0, len(found)
    if "after_id" in asked:
        first = _place(ids, asked, "after_id") + 1
    if "before_id" in asked:
        last = _place(ids, asked, "before_id")
        page = range(max(first, last - limit), last)
        has_more = page.start > first
    else:
        page = range(first, min(last, first + limit))
        has_more = page.stop < last
    data = [anthropic_entry(found[position]) for position in page]
    return {
        "data": data,
        "has_more": has_more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def _limit(said: str | None, all_of_them: int) -> int:
    if said is None:
        return all_of_them
    if not (said.isascii() and said.isdigit() and len(said) <= MAX_DIGITS and 1 <= int(said) <= MAX_PAGE):
        raise InvalidRequest(f"`limit` must be a whole number from 1 to {MAX_PAGE:,}.", param="limit")
    return int(said)


def _place(ids: list[str], asked: dict[str, str], name: str) -> int:
    try:
        return ids.index(asked[name])
    except ValueError as error:
        raise InvalidRequest(f"`{name}` names no model of this list.", param=name) from error


def _iso(entry: Json) -> str:
    return datetime.fromtimestamp(entry["created"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
