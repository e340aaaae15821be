"""Requests that were never accepted: kept with their decision in a bounded table, never in usage."""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from billing.errors import BudgetExceeded
from llm.errors import NoRoute
from llm.models import RouteRefusal
from llm.types import ChatRequest
from tenants.auth import Caller

KEEP = 50_000
TRIM_CHANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    request_id: uuid.UUID
    tenant_id: uuid.UUID
    key_id: uuid.UUID
    model: str
    status_code: int
    code: str
    message: str
    decision: dict[str, Any] = field(default_factory=dict)
    created_at: datetime


def of(caller: Caller, request: ChatRequest, error: NoRoute | BudgetExceeded) -> Refusal:
    """A refused request, with the decision it was refused on if there was one."""
    assert caller.tenant_id is not None
    return Refusal(
        request_id=request.id,
        tenant_id=caller.tenant_id,
        key_id=caller.key_id,
        model=request.route.model or "",
        status_code=error.status,
        code=error.code,
        message=error.message,
        decision={} if error.decision is None else error.decision.trace(),
        created_at=request.now,
    )


def write(batch: Sequence[Refusal]) -> None:
    """Write them, and now and then drop the oldest beyond the newest 50,000."""
    RouteRefusal.objects.bulk_create(
        [
            RouteRefusal(
                id=one.request_id,
                tenant_id=one.tenant_id,
                key_id=one.key_id,
                model=one.model.replace("\0", "")[:300],
                status_code=one.status_code,
                code=one.code,
                message=one.message.replace("\0", ""),
                decision=_without_nul(one.decision),
                created_at=one.created_at,
            )
            for one in batch
        ],
        ignore_conflicts=True,
    )
    if random.random() < TRIM_CHANCE * len(batch):  # noqa: S311 - not a secret
        oldest_kept = RouteRefusal.objects.order_by("-id").values_list("id", flat=True)[KEEP - 1 : KEEP].first()
        if oldest_kept is not None:
            RouteRefusal.objects.filter(id__lt=oldest_kept).delete()


def _without_nul(value: Any) -> Any:
    """PostgreSQL's JSON cannot hold NUL, and a client may name a model with one."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {key: _without_nul(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nul(entry) for entry in value]
    return value
