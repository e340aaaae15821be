"""A decision trace and cost lines as people read them. The strings come from tenants and providers: all are escaped.

Trace: `{chosen: {provider, model, key_source, estimated_cost}, reason, candidates: [{model, score, parts}], rejections:
[{model, code, detail}], fallbacks}`. What is missing or of another shape is left out rather than failing the page.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from billing.statements.printed import METERS
from tenants.admin import dress

CODES = {
    "allow_list": "The key or config does not allow it.",
    "tier": "The tenant's tier is too low.",
    "inactive": "It or its provider is switched off.",
    "deprecated": "It is deprecated.",
    "provider_down": "Its provider is down.",
    "no_credential": "There is no key for its provider.",
    "byok_required": "It needs the tenant's own provider key.",
    "byok_not_validated": "The tenant's own key is not validated.",
    "dialect_unsupported": "Its dialect has no adapter yet.",
    "capability": "It cannot do what the request needs.",
    "context_window": "The request does not fit its context window.",
    "rule_tokens": "The rule is for other sizes of request.",
    "service_tier": "It has no price for the service tier that was asked for.",
    "price_cap": "It is dearer than the power level allows.",
    "unpriced": "It has no price in force.",
    "budget": "The budget could not hold it.",
}


KNOWN = {
    "chosen", "reason", "candidates", "rejections", "fallbacks", "attempts", "requested", "config", "power_level",
    "task_type", "task_confidence", "priority", "notes", "error", "key_source",
}  # fmt: skip


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, Sequence) else []


def _name(value: Any) -> str:
    """A model as `provider/model`, whatever form it is given in."""
    if isinstance(value, Mapping):
        provider, model = value.get("provider"), value.get("model") or value.get("reference")
        return f"{provider}/{model}" if provider and "/" not in str(model) else str(model or value)
    return str(value)


def decision(trace: Any, attempts: Any = ()) -> SafeString:
    """What was chosen and why, the candidates with their scores, who was turned down, the attempts."""
    if not isinstance(trace, Mapping) or not trace:
        return dress.muted("No decision is recorded.")
    chosen = trace.get("chosen")
    error = trace.get("error")
    return render_to_string(
        "billing/admin/decision.html",
        {
            "chosen": _name(chosen) if chosen else "",
            "chosen_facts": _facts({**trace, **(chosen if isinstance(chosen, Mapping) else {})}),
            "asked": _asked(trace),
            "error": error if isinstance(error, Mapping) else None,
            "notes": [dress.short(note) for note in trace.get("notes") or ()],
            "reason": trace.get("reason", ""),
            "candidates": [_candidate(item) for item in _objects(trace.get("candidates"))],
            "rejections": [
                (_name(item), str(item.get("code", "")), item.get("detail") or CODES.get(str(item.get("code")), ""))
                for item in _objects(trace.get("rejections"))
            ],
            "fallbacks": [_name(item) for item in trace.get("fallbacks") or () if item],
            "attempts": [_attempt(item) for item in _objects(attempts or trace.get("attempts"))],
            "more": [(key, dress.short(value)) for key, value in trace.items() if key not in KNOWN and value],
        },
    )


def _asked(trace: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was asked for, as far as it is known."""
    labels = {"requested": "model", "config": "config", "power_level": "power level", "priority": "priority"}
    asked = [(label, dress.short(trace[key])) for key, label in labels.items() if trace.get(key)]
    if trace.get("task_type"):
        sure = trace.get("task_confidence")
        certain = f" ({sure:.0%} sure)" if isinstance(sure, int | float) and 0 < sure < 1 else ""
        asked.append(("task", f"{trace['task_type']}{certain}"))
    return asked


def _facts(chosen: Mapping[str, Any]) -> list[tuple[str, str]]:
    labels = {"key_source": "key", "estimated_cost": "estimated cost", "rule": "rule"}
    facts = [(labels[key], str(chosen[key])) for key in labels if chosen.get(key) not in (None, "")]
    return [(label, _usd(value) if label == "estimated cost" else value) for label, value in facts]


def _candidate(item: Mapping[str, Any]) -> tuple[str, str, list[tuple[str, str]]]:
    parts = item.get("parts")
    shown = [(str(key), _number(value)) for key, value in parts.items()] if isinstance(parts, Mapping) else []
    return _name(item), _number(item.get("score")), shown


def _number(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return dress.NONE if value is None else "yes" if value else "no"
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else dress.short(value, 120)


def _attempt(item: Mapping[str, Any]) -> dict[str, Any]:
    status = item.get("status") or item.get("status_code") or ""
    return {
        "model": _name(item),
        "key_source": item.get("key_source", ""),
        "status": status,
        "tone": "good" if str(status) in {"200", "ok", "completed"} else "bad",
        "code": item.get("code") or "",
        "latency": item.get("latency_ms"),
    }


def cost_lines(price_lines: Any, *, parts: Sequence[tuple[str, Decimal]]) -> SafeString:
    """The bill line by line, then the sums in `parts`."""
    rows = []
    for line in _objects(price_lines):
        meter, priced_as = str(line.get("meter", "")), str(line.get("priced_as", ""))
        name = METERS.get(meter, meter)
        if priced_as and priced_as != meter:
            name = f"{name} (at the price of: {METERS.get(priced_as, priced_as)})"
        if line.get("service_tier"):
            name = f"{name}, service tier {line['service_tier']}"
        unit = f"{_usd(line.get('unit_price_usd'))} per {_count(line.get('unit_quantity', 1_000_000))}"
        rows.append((name, _count(line.get("quantity", 0)), unit, _usd(line.get("amount_usd"))))
    sums = [(label, dress.usd(amount)) for label, amount in parts]
    return render_to_string("billing/admin/cost_lines.html", {"rows": rows, "sums": sums})


def _usd(value: Any) -> str:
    try:
        return dress.usd(Decimal(str(value)))
    except InvalidOperation:
        return dress.short(value, 40)


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else dress.short(value, 40)
