"""What would happen to a request, without sending it: the same plan(), for the API, the admin and whoever asks why."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.utils import timezone

from llm.engine import runtime, snapshot, tenant_state
from llm.errors import InvalidRequest, NoRoute
from llm.routing import explain as explained
from llm.routing.plan import plan
from llm.service_tiers import ASKED
from llm.types import RouteCaller, RouteRequest
from tenants.ids import uuid7
from tenants.models import Tenant

NEEDS = frozenset({"streaming", "tools", "vision", "json"})
_TEXTS = ("model", "power_level", "task_type", "priority", "config", "session_id", "text")
_COUNTS = ("estimated_input_tokens", "max_tokens")
MOST = 100_000_000


def explain(*, tenant_id: uuid.UUID, body: Mapping[str, Any], caller: RouteCaller | None = None) -> dict[str, Any]:
    """The decision as JSON; `chosen` is null where nothing fits, and `rejections` say why.

    `caller` narrows it to one key; without it the whole tenant is meant. Raises InvalidRequest, ModelNotFound.
    """
    request = route_request(body)
    tenant, now = tenant_state.load(tenant_id), timezone.now()
    try:
        decision = plan(
            snapshot.current(),
            caller or caller_of(tenant_id),
            tenant,
            request,
            state=runtime.RUNTIME.health.shared_state(now.timestamp()),
            now=now,
        )
    except NoRoute as refusal:
        return {
            **explained.explain(replace(refusal.decision, targets=()), input_tokens=request.input_tokens),
            "error": {"code": refusal.code, "message": refusal.message, "status": refusal.status},
        }
    return explained.explain(decision, input_tokens=request.input_tokens)


def caller_of(tenant_id: uuid.UUID) -> RouteCaller:
    tenant = Tenant.objects.get(pk=tenant_id)
    return RouteCaller(
        tenant_id=tenant.pk,
        tier=tenant.tier,
        sandbox_enabled=tenant.sandbox_enabled,
        allow_model_fallback=tenant.allow_model_fallback,
    )


def route_request(body: Mapping[str, Any]) -> RouteRequest:
    """Raises InvalidRequest naming the field."""
    unknown = sorted(set(body) - {*_TEXTS, *_COUNTS, "needs", "service_tier"})
    if unknown:
        raise InvalidRequest(f"There is no field `{unknown[0]}` here.", param=unknown[0])
    for name in _TEXTS:
        value = body.get(name)
        if value is not None and (not isinstance(value, str) or not value):
            raise InvalidRequest(f"`{name}` must be a non-empty string.", param=name)
    for name in _COUNTS:
        value = body.get(name)
        if value is not None and (type(value) is not int or not 0 <= value <= MOST):
            raise InvalidRequest(f"`{name}` must be a whole number from 0 to {MOST:,}.", param=name)
    needs = body.get("needs") or []
    if not isinstance(needs, list) or any(need not in NEEDS for need in map(str, needs)):
        raise InvalidRequest(f"`needs` is a list of: {', '.join(sorted(NEEDS))}.", param="needs")
    tier = body.get("service_tier")
    if tier is not None and (not isinstance(tier, str) or tier not in ASKED):
        raise InvalidRequest(f"`service_tier` is one of: {', '.join(ASKED)}.", param="service_tier")
    return RouteRequest(
        # Odd: an explanation is never one of the few that try what looks down.
        request_id=uuid.UUID(int=uuid7().int | 1),
        model=body.get("model"),
        power_level=body.get("power_level"),
        task_type=body.get("task_type"),
        priority=body.get("priority"),
        config=body.get("config"),
        session_id=body.get("session_id") or "",
        input_tokens=body.get("estimated_input_tokens") or 0,
        max_tokens=body.get("max_tokens") or None,
        needs=frozenset(needs),
        text=body.get("text") or "",
        service_tier=ASKED.get(tier or "", ""),
    )
