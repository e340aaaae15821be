"""Which models a caller may call by name at all: those that pass every filter that does not look at the request."""

from datetime import datetime

from llm.routing.filters import allow_list, deprecated, dialect_unsupported, inactive, tier, unpriced
from llm.routing.filters import credential as has_key
from llm.routing.index import entry_of
from llm.routing.question import Question
from llm.routing.resolve import wish_of
from llm.types import Model, RouteCaller, RouteRequest, RoutingState, Snapshot, TenantState
from tenants.ids import uuid7

_LASTING = (allow_list, tier, inactive, deprecated, has_key, dialect_unsupported, unpriced)


def callable_models(snapshot: Snapshot, caller: RouteCaller, tenant: TenantState, *, now: datetime) -> list[Model]:
    """By reference. A provider that is down stays listed: it comes back."""
    request = RouteRequest(request_id=uuid7(), model="auto")
    question = Question(snapshot, caller, tenant, request)
    question.ask(wish_of(snapshot, caller, tenant, request), RoutingState(), now)
    found = []
    for model in snapshot.models.values():
        if model.provider.dialect == "sandbox" and not caller.sandbox_enabled:
            continue
        entry = entry_of(snapshot, model)
        if all(check(question, entry) is None for check in _LASTING):
            found.append(model)
    return sorted(found, key=lambda model: model.reference)
