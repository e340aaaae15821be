"""Subscriptions to alerts: made, changed and deleted, each with its audit row, and the secret that signs a webhook.

The secret is HMAC-SHA256 of a random salt under the pepper of API keys. Neither it nor anything that it could be worked
out from without the pepper is stored; a new salt makes a new secret.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from billing.alert_models import AlertSubscription
from tenants import audit
from tenants.errors import Conflict
from tenants.models import Tenant

MOST_OF_A_TENANT = 20
MARK = "whsec_"


def create(
    *, subscription: AlertSubscription, actor: audit.Actor, now: datetime, reason: str = ""
) -> tuple[AlertSubscription, str]:
    """Save a new subscription. Returned with its secret, this once; "" for e-mail, which is not signed.

    Raises Django's ValidationError naming the field, or Conflict when the tenant has as many as it may.
    """
    subscription.created_by = actor.label[:200]
    subscription.full_clean()
    with transaction.atomic():
        if subscription.tenant_id is not None:
            Tenant.objects.select_for_update().get(pk=subscription.tenant_id)
            if AlertSubscription.objects.filter(tenant_id=subscription.tenant_id).count() >= MOST_OF_A_TENANT:
                raise Conflict(f"A tenant has at most {MOST_OF_A_TENANT} subscriptions. Delete one first.")
        if _is_signed(subscription):
            subscription.renew_salt(_signing_pepper())
        subscription.save(force_insert=True)
        audit.record(actor=actor, action="create", row=subscription, before={}, now=now, reason=reason)
    return subscription, secret(subscription) if _is_signed(subscription) else ""


def update(
    *, subscription: AlertSubscription, values: Mapping[str, Any], actor: audit.Actor, now: datetime
) -> AlertSubscription:
    """Change the given fields. Raises Django's ValidationError naming the field; then nothing is changed."""
    with transaction.atomic():
        row = AlertSubscription.objects.select_for_update().get(pk=subscription.pk)
        before = audit.state(row)
        for name, value in values.items():
            setattr(row, name, value)
        row.full_clean()
        row.save(update_fields=[*values, "updated_at"])
        audit.record(actor=actor, action="update", row=row, before=before, now=now)
    return row


def delete(*, subscription: AlertSubscription, actor: audit.Actor, now: datetime) -> None:
    """Delete it, and what waits to be sent to it."""
    with transaction.atomic():
        before = audit.state(subscription)
        audit.record(actor=actor, action="delete", row=subscription, before=before, now=now)
        subscription.delete()


def rotate_secret(*, subscription: AlertSubscription, actor: audit.Actor, now: datetime, reason: str = "") -> str:
    """A new secret, returned this once; the old one signs nothing any more. Raises Conflict for e-mail."""
    if not _is_signed(subscription):
        raise Conflict("An e-mail subscription has no secret: only webhooks are signed.")
    with transaction.atomic():
        row = AlertSubscription.objects.select_for_update().get(pk=subscription.pk)
        before = audit.state(row)
        row.renew_salt(_signing_pepper())
        row.save(update_fields=["salt", "pepper_id", "updated_at"])
        audit.record(actor=actor, action="rotate-secret", row=row, before=before, now=now, reason=reason)
    return secret(row)


def switch_off(*, subscription: AlertSubscription, job: str, reason: str, now: datetime) -> None:
    """What a job does to one whose receiver is gone for good."""
    with transaction.atomic():
        row = AlertSubscription.objects.select_for_update().filter(pk=subscription.pk).first()
        if row is None:  # somebody deleted it while it was being sent to
            return
        before = audit.state(row)
        row.is_active = False
        row.save(update_fields=["is_active", "updated_at"])
        audit.record(actor=audit.system(job), action="update", row=row, before=before, now=now, reason=reason)


def secret(subscription: AlertSubscription) -> str:
    """What a webhook is signed with: `whsec_` and base64, as Standard Webhooks has it.

    Raises LookupError when its pepper is no longer among the settings: rotating makes a new secret.
    """
    pepper = settings.KEY_PEPPERS[subscription.pepper_id]
    said = f"webhook:{subscription.pk}:{subscription.salt}".encode()
    return MARK + base64.b64encode(hmac.new(pepper, said, hashlib.sha256).digest()).decode()


def signature(subscription: AlertSubscription, *, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`. Raises LookupError as `secret` does."""
    key = base64.b64decode(secret(subscription).removeprefix(MARK))
    signed = hmac.new(key, b"%s.%d.%s" % (message_id.encode(), timestamp, body), hashlib.sha256)
    return "v1," + base64.b64encode(signed.digest()).decode()


def _is_signed(subscription: AlertSubscription) -> bool:
    return subscription.kind == AlertSubscription.Kind.WEBHOOK


def _signing_pepper() -> str:
    """The id of the pepper in force: the first."""
    return str(next(iter(settings.KEY_PEPPERS)))
