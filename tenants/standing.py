"""What is done to tenants and their keys, each with its audit row: suspend, resume, issue, rotate, revoke."""

from datetime import datetime, timedelta

from django.db import transaction

from tenants import audit, keys
from tenants.models import ApiKey, Tenant


def suspend(*, tenant: Tenant, actor: audit.Actor, now: datetime, reason: str = "") -> Tenant:
    """Every request of the tenant is refused within a second, until it is resumed."""
    return _set_active(tenant=tenant, active=False, actor=actor, now=now, reason=reason)


def resume(*, tenant: Tenant, actor: audit.Actor, now: datetime, reason: str = "") -> Tenant:
    """Its requests are answered again."""
    return _set_active(tenant=tenant, active=True, actor=actor, now=now, reason=reason)


def issue_key(*, tenant: Tenant | None, spec: keys.KeySpec, actor: audit.Actor, now: datetime) -> tuple[ApiKey, str]:
    """A new key and its secret, which is shown this once. Without a tenant it is a staff key of its owner."""
    with transaction.atomic():
        key, secret = keys.issue(tenant=tenant, spec=spec)
        audit.record(actor=actor, action="create", row=key, before={}, now=now)
    return key, secret


def rotate_key(*, key: ApiKey, overlap: timedelta, actor: audit.Actor, now: datetime) -> tuple[ApiKey, str]:
    """A successor with the same rights, its secret shown this once; the old key ends after `overlap`. Raises Conflict
    if it was revoked or rotated already."""
    with transaction.atomic():
        before = audit.state(ApiKey.objects.select_for_update().get(pk=key.pk))
        successor, secret = keys.rotate(key=key, overlap=overlap, now=now)
        key.refresh_from_db()
        audit.record(actor=actor, action="rotate", row=key, before=before, now=now)
        audit.record(actor=actor, action="create", row=successor, before={}, now=now)
    return successor, secret


def revoke_key(*, key: ApiKey, actor: audit.Actor, now: datetime, reason: str = "") -> ApiKey:
    """Refused within a second on every process. Revoking twice changes nothing."""
    with transaction.atomic():
        row = ApiKey.objects.select_for_update().get(pk=key.pk)
        before = audit.state(row)
        if row.revoked_at is None:
            keys.revoke(key=row, now=now)
            audit.record(actor=actor, action="revoke", row=row, before=before, now=now, reason=reason)
    return row


def _set_active(*, tenant: Tenant, active: bool, actor: audit.Actor, now: datetime, reason: str) -> Tenant:
    with transaction.atomic():
        row = Tenant.objects.select_for_update().get(pk=tenant.pk)
        if row.is_active != active:
            before = audit.state(row)
            row.is_active = active
            row.save(update_fields=["is_active", "updated_at"])
            action = "resume" if active else "suspend"
            audit.record(actor=actor, action=action, row=row, before=before, now=now, reason=reason)
    return row
