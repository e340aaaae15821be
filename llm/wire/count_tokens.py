"""`/v1/messages/count_tokens`: how many input tokens a request has, for every model. An estimate of ours
(`engine.tokens`), also for Claude: nothing is asked of a provider, held or charged."""

import uuid
from dataclasses import replace
from typing import Any

from llm.engine import snapshot, tenant_state
from llm.engine.callers import route_caller
from llm.routing.plan import plan
from llm.types import ChatRequest, RoutingState
from tenants.auth import Caller
from tenants.errors import Unavailable

Json = dict[str, Any]


async def counted(caller: Caller, request: ChatRequest) -> Json:
    """Raises what a call of that model by this key would: ModelNotFound, NoRoute. That it is too long for the model is
    no reason: that is what a client counts for."""
    catalog = snapshot.WATCH.current
    if catalog is None:
        raise Unavailable("The gateway's catalog is not loaded yet. Try again shortly.")
    tenant = await tenant_state.TENANTS.get(_tenant(caller))
    route = replace(request.route, input_tokens=0, max_tokens=None, needs=frozenset())
    plan(catalog, route_caller(caller), tenant, route, state=RoutingState(), now=request.now)
    return {"input_tokens": max(1, request.size.estimate)}


def _tenant(caller: Caller) -> uuid.UUID:
    assert caller.tenant_id is not None
    return caller.tenant_id
