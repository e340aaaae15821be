"""What a request costs and the usage row it leaves. Pure: completion.py decides when, billing.ledger writes."""

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import orjson

from billing import pricing
from billing.models import UsageRecord
from billing.money import OWN_PRICE, Charge, at_own_price, charge
from llm import service_tiers
from llm.calls import Usage
from llm.engine import tokens
from llm.providers import usage as reported
from llm.types import ChatRequest, Decision, Target, TenantState
from tenants.auth import Caller

logger = logging.getLogger(__name__)
ZERO = Decimal(0)
NOTHING_USED = Usage(prompt_tokens=0, completion_tokens=0)
NO_COST = pricing.Cost(lines=(), input=ZERO, output=ZERO, total=ZERO)
Status = UsageRecord.Status
# Searches of an answer, where a model that searches by itself charges for them; the quirk `max_searches` knows better.
MAX_SEARCHES = 30
_CACHES_IF_ASKED = ("anthropic", "bedrock")  # others may write a cache unasked, and bill it


@dataclass(slots=True)
class Attempt:
    """One call of a provider, as the decision tells it."""

    target: Target
    status: int = 0
    code: str = ""
    latency_ms: int = 0
    lost_usd: Decimal = ZERO

    def as_json(self) -> dict[str, Any]:
        return {
            "provider": self.target.model.provider.slug,
            "model": self.target.model.model_id,
            "key_source": self.target.key_source,
            "status": self.status,
            "code": self.code,
            "latency_ms": self.latency_ms,
        }


@dataclass(slots=True, kw_only=True)
class Result:
    """How a request ended. Times in milliseconds since it was received."""

    status: str
    status_code: int
    usage: Usage
    error_code: str = ""
    error_message: str = ""
    ttft_ms: int | None = None
    latency_ms: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    service_tier: str = ""  # the one that the provider says it used, in its own word


def worst_case(target: Target, request: ChatRequest, tenant: TenantState) -> Charge:
    """The most this target can cost for this request, at the dearest service tier that may be billed."""
    bounds = _bounds(target, request)
    cost = pricing.worst_case(target.card, bounds, target.service_tiers)
    byok = target.key_source == "byok"
    card = None if byok else tenant.own_card(target.model.id, request.now)
    if card is None:
        return charge(cost, byok=byok, markup=tenant.markup, byok_fee=tenant.byok_fee)
    own = pricing.worst_case(card, bounds)
    # An own price is not of other service tiers, and where it lacks a fee that is charged, the list price stands.
    unpriced = (pricing.IF_PRICED & target.card.tiers[-1].rates.keys()) - card.tiers[-1].rates.keys()
    others = [one for one in target.service_tiers if unpriced or one != pricing.STANDARD]
    listed = charge(pricing.worst_case(target.card, bounds, others), byok=False, markup=tenant.markup, byok_fee=ZERO)
    return at_own_price(cost, billed=max(own, listed.billed), terms={OWN_PRICE: str(card.version_id)})


def _bounds(target: Target, request: ChatRequest) -> pricing.Bounds:
    model, size = target.model, request.size
    rates = target.card.tiers[-1].rates
    beside = pricing.NOTHING
    if not pricing.IF_PRICED.isdisjoint(rates):
        searches = int(model.quirks.get("max_searches", MAX_SEARCHES))
        beside = {"image": size.images, "search": searches, "citation": model.context_window}
    return pricing.Bounds(
        input=size.bound(model.context_window, model.provider.dialect),
        output=target.output_cap * request.route.choices,
        cache_writes=request.cache_writes or model.provider.dialect not in _CACHES_IF_ASKED,
        media=size.images > 0 or not size.bounded,
        beside=beside,
    )


def charge_of(
    cost: pricing.Cost, usage: Usage, *, model: tuple[uuid.UUID, str], byok: bool, tenant: TenantState, at: datetime
) -> Charge:
    """What is owed for a usage of a model (its id and reference) whose list price is `cost`. The tenant's own price at
    that moment decides, where it has one. It is of standard service: at another service tier, and where it lacks a
    meter that was used, the list price stands."""
    standard = not cost.lines or cost.lines[0].service_tier == pricing.STANDARD
    card = tenant.own_card(model[0], at) if standard and not byok and usage is not NOTHING_USED else None
    if card is not None:
        try:
            own = pricing.price(card, usage.meters(), prompt_tokens=usage.prompt_tokens)
        except pricing.Unpriced:
            logger.error("Price override %s lacks a meter of %s", card.version_id, model[1])
        else:
            lines = [line.as_json() for line in own.lines]
            terms = {OWN_PRICE: str(card.version_id), "lines": lines}
            return at_own_price(cost.total, billed=own.total, terms=terms)
    return charge(cost.total, byok=byok, markup=tenant.markup, byok_fee=tenant.byok_fee)


def usage_of(raw: Mapping[str, Any] | None, target: Target, request: ChatRequest, produced_bytes: int) -> Usage:
    """What the provider reported if it can be believed, else our estimate, flagged. Never zero for want of a count."""
    model, choices = target.model, request.route.choices
    completion = min(tokens.output_estimate(produced_bytes), target.output_cap * choices)
    window = model.context_window * request.size.inputs
    if raw is not None:
        found = reported.from_openai(
            raw,
            context_window=window,
            choices=choices,
            reasoning_outside_completion=bool(model.quirks.get("reasoning_outside_completion")),
            completion_estimate=completion,
        )
        if found is not None:
            return _with_fees(found, target, request)
    bound = request.size.bound(model.context_window, model.provider.dialect)
    estimate = Usage(prompt_tokens=min(request.size.estimate, bound), completion_tokens=completion, estimated=True)
    return _with_fees(estimate, target, request)


def _with_fees(usage: Usage, target: Target, request: ChatRequest) -> Usage:
    """The usage with what is charged beside tokens, where the price has it, and nothing else beside them."""
    if not usage.beside and not request.size.images:
        return usage
    rates = target.card.tiers[-1].rates
    counts = {**usage.beside, "image": request.size.images}
    beside = {meter: count for meter, count in counts.items() if count and meter in rates}
    return usage if beside == usage.beside else replace(usage, beside=beside)


def _cost_of(usage: Usage, target: Target, said: str) -> pricing.Cost:
    """The list price, at the service tier that the provider said; if that can be none of those, at the dearest."""
    tiers = target.service_tiers
    if len(tiers) > 1:
        used = service_tiers.used(said, tiers)
        if used is None:
            return max((_price(usage, target, one) for one in tiers), key=lambda cost: cost.total)
        return _price(usage, target, used)
    return _price(usage, target, pricing.STANDARD)


def _price(usage: Usage, target: Target, service_tier: str) -> pricing.Cost:
    meters, prompt = usage.meters(), usage.prompt_tokens
    return pricing.price(target.card, meters, prompt_tokens=prompt, service_tier=service_tier)


def service_tier_of(row: Mapping[str, Any]) -> str:
    """The one that a usage row was billed at; empty if nothing was."""
    lines = row["price_lines"]
    return str(lines[0].get("service_tier", pricing.STANDARD)) if lines else ""


def lost_cost(target: Target, request: ChatRequest) -> Decimal:
    """What a failed attempt that reached the provider may have cost the platform: its input, estimated. USD."""
    estimate, service_tier = request.size.estimate, target.service_tiers[0]
    meters = {"input": estimate}
    return pricing.price(target.card, meters, prompt_tokens=estimate, service_tier=service_tier).total


def opening_facts(
    request: ChatRequest, caller: Caller, decision: Decision, target: Target, worst: Charge
) -> dict[str, Any]:
    """The usage row to write if this process dies: everything known at reserve, at the worst case."""
    config = decision.config
    return {
        "id": request.id,
        "tenant_id": caller.tenant_id,
        "user_id": caller.user_id or request.client.end_user,
        "key_id": caller.key_id,
        "key_name": caller.key_name,
        "config_id": None if config is None else config.id,
        "config_name": "" if config is None else config.name,
        "power_level": decision.power_level,
        "task_type": decision.task_type,
        "streamed": request.stream,
        "request_ip": request.client.ip,
        "user_agent": request.client.user_agent,
        "end_user": request.client.end_user,
        "session_id": request.client.session_id,
        "client_request_id": request.client.client_request_id,
        "created_at": request.now,
        "held_usd": worst.budget,
        **_target_facts(target),
        "cost_output_usd": worst.cost,
        "cost_total_usd": worst.cost,
        "billed_usd": worst.billed,
        "budget_usd": worst.budget,
        "terms": worst.terms,
        "decision": {"requested": decision.requested, "chosen": target.model.reference, "reason": decision.reason},
    }


def _target_facts(target: Target) -> dict[str, Any]:
    model = target.model
    return {
        "provider_id": model.provider.id,
        "provider_slug": model.provider.slug,
        "model_id": model.id,
        "model_name": model.model_id,
        "credential_id": None if target.credential is None else target.credential.id,
        "used_byok": target.key_source == "byok",
        "key_source": target.key_source,
        "price_version_id": target.card.version_id,
    }


def closing_row(
    opening: Mapping[str, Any], *, target: Target, tenant: TenantState, decision: Decision, result: Result, day: date
) -> tuple[dict[str, Any], Charge]:
    """The usage row at its true cost, and the charge."""
    usage = result.usage
    # What nobody produced costs nothing, a price per request included.
    cost = NO_COST
    if usage is not NOTHING_USED:
        cost = _cost_of(usage, target, result.service_tier)
    # The terms in force are those of the reserve: the same state, asked about the same moment.
    charged = charge_of(
        cost,
        usage,
        model=(target.model.id, target.model.reference),
        byok=target.key_source == "byok",
        tenant=tenant,
        at=opening["created_at"],
    )
    first = decision.targets[0]
    fell_back = target.model.id != first.model.id or target.credential != first.credential
    # Without an attempt before it the first target was passed over at the reserve.
    reason = "" if not fell_back else result.attempts[-2].code if len(result.attempts) > 1 else "budget"
    seconds = (result.latency_ms - (result.ttft_ms or 0)) / 1000
    row = {
        **opening,
        **_target_facts(target),
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "price_lines": [line.as_json() for line in cost.lines],
        "cost_input_usd": cost.input,
        "cost_output_usd": cost.output,
        "cost_total_usd": cost.total,
        "billed_usd": charged.billed,
        "budget_usd": charged.budget,
        "terms": charged.terms,
        "lost_cost_usd": sum((attempt.lost_usd for attempt in result.attempts), ZERO),
        "latency_ms": result.latency_ms,
        "ttft_ms": result.ttft_ms,
        "tokens_per_second": round(usage.completion_tokens / seconds, 2) if seconds > 0 else None,
        "status": result.status,
        "status_code": result.status_code,
        "error_code": result.error_code,
        "error_message": result.error_message,
        "was_fallback": fell_back,
        "fallback_reason": reason,
        "attempts": [attempt.as_json() for attempt in result.attempts],
        "is_estimated": usage.estimated,
        "reported_cost_usd": usage.reported_cost,
        "is_overrun": charged.budget > opening["held_usd"],
        "decision": decision.trace(),
        "billing_day": day,
    }
    return row, charged


# What the platform pays for the answer: OpenRouter and Perplexity; OpenRouter; xAI.
_VENDORS_COST = frozenset({"cost", "cost_details", "cost_in_usd_ticks"})


def usage_for_client(raw: Mapping[str, Any] | None, usage: Usage, cost: Decimal | None) -> dict[str, Any]:
    """The usage object of the answer: the provider's own where it was believed, with `cost` in USD as a number. That of
    the provider, which some vendors say too, is not what the client pays."""
    shown: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if not usage.estimated and raw is not None:
        for name, value in raw.items():
            if name not in _VENDORS_COST and (value is not None or name not in shown):
                shown[name] = value
    if cost is not None:
        # A JSON number with the very digits of the bill: no float in between.
        shown["cost"] = orjson.Fragment(f"{cost.normalize():f}")
    return shown
