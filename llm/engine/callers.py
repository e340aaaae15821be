"""Who asks, as routing sees it."""

from llm.types import RouteCaller
from tenants.auth import Caller


def route_caller(caller: Caller) -> RouteCaller:
    assert caller.tenant_id is not None
    return RouteCaller(
        tenant_id=caller.tenant_id,
        tier=caller.tier,
        allowed_models=caller.allowed_models,
        sandbox_enabled=caller.sandbox_enabled,
        allow_model_fallback=caller.allow_model_fallback,
    )
