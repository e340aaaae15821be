"""One AuditEvent per change, written in the same transaction as the change, by admin, API and jobs alike.

Secrets never get here: the fields in `SECRET` are recorded as changed, without a value. Changes by raw SQL are not
audited.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model

from tenants.models import AuditEvent

SECRET = frozenset({"digest", "secret", "api_key", "password", "key", "sealed", "previous_sealed", "salt"})
_NOISE = frozenset({"updated_at", "created_at", "last_used_at"})


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who makes a change, and from where."""

    kind: str
    id: str = ""
    label: str
    ip: str | None = None
    request_id: str = ""


def system(job: str) -> Actor:
    return Actor(kind="system", label=job)


def state(row: Model) -> dict[str, Any]:
    """The row's fields as JSON values, secrets left out."""
    values = {
        field.attname: "(secret)" if field.name in SECRET else field.value_from_object(row)
        for field in row._meta.concrete_fields
        if field.name not in _NOISE
    }
    result: dict[str, Any] = json.loads(json.dumps(values, cls=DjangoJSONEncoder, default=str))
    return result


def record(
    *, actor: Actor, action: str, row: Model, before: Mapping[str, Any], now: datetime, reason: str = ""
) -> AuditEvent | None:
    """Write what changed of `row`, whose state was `before` ({} if it is new). Nothing changed: nothing written."""
    after = {} if action == "delete" else state(row)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if not keys and action == "update":
        return None
    tenant_id: uuid.UUID | None = getattr(row, "tenant_id", None)
    return AuditEvent.objects.create(
        at=now,
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_label=actor.label[:200],
        tenant_id=row.pk if row._meta.model_name == "tenant" else tenant_id,
        action=action,
        object_type=row._meta.label,
        object_id=str(row.pk),
        object_label=str(row)[:200],
        before={key: before[key] for key in keys if key in before},
        after={key: after[key] for key in keys if key in after},
        reason=reason,
        ip=actor.ip,
        request_id=actor.request_id,
    )
