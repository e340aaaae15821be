"""A decision as the explain endpoint and a request's page give it. Pure."""

from typing import Any

from billing.pricing import Unpriced, price
from llm.types import Decision, Target


def explain(decision: Decision, *, input_tokens: int) -> dict[str, Any]:
    """The JSON of a decision, or of a NoRoute's (`chosen` is None). `estimated_cost` is USD as a decimal string: the
    provider's price of the estimated input and as much output as it may answer with."""
    return {
        "chosen": _chosen(decision.targets[0], input_tokens) if decision.targets else None,
        "reason": decision.reason,
        "candidates": [
            {"model": one.model, "score": round(one.score, 4), "parts": dict(one.parts)} for one in decision.candidates
        ],
        "rejections": [{"model": one.model, "code": one.code, "detail": one.detail} for one in decision.rejections],
        "fallbacks": [target.model.reference for target in decision.targets[1:]],
        "requested": decision.requested,
        "config": None if decision.config is None else decision.config.name,
        "power_level": decision.power_level,
        "task_type": decision.task_type,
        "task_confidence": decision.task_confidence,
        "priority": decision.priority,
        "notes": list(decision.notes),
    }


def _chosen(target: Target, input_tokens: int) -> dict[str, Any]:
    return {
        "provider": target.model.provider.slug,
        "model": target.model.reference,
        "key_source": target.key_source,
        "estimated_cost": _cost(target, input_tokens),
    }


def _cost(target: Target, input_tokens: int) -> str | None:
    counts = {"input": input_tokens, "output": target.output_cap}
    meters = {meter: count for meter, count in counts.items() if count}
    try:
        return f"{price(target.card, meters, prompt_tokens=input_tokens).total.normalize():f}"
    except Unpriced:
        return None
