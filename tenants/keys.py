"""Tollgate's own API keys: `tg_live_` + 32 base62 characters + 6 of checksum.

The checksum (CRC-32 of what stands before it, in base62) refuses typing errors and junk before the database is asked.
Stored is only HMAC-SHA256 of the whole key under a pepper that lives outside the database; the pepper's id is kept
beside it, so peppers can be renewed while old keys go on working.
"""

import hashlib
import hmac
import secrets
import string
import zlib
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction

from tenants.errors import Conflict, PermissionDenied
from tenants.models import ApiKey, Tenant, default_scopes

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
MARK = "tg_live_"
_RANDOM, _CHECK = 32, 6
LENGTH = len(MARK) + _RANDOM + _CHECK


@dataclass(frozen=True, kw_only=True)
class KeySpec:
    """What a new key may do. Limits are USD and per minute; see `ApiKey` for what null means."""

    name: str
    scopes: list[str] | None = None
    owner_id: int | None = None
    allowed_models: list[str] | None = None
    budget_limit_daily: Decimal | None = None
    budget_limit_monthly: Decimal | None = None
    rate_limit_rpm: int | None = None
    rate_limit_tpm: int | None = None
    max_concurrency: int = 1000
    expires_at: datetime | None = None


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode("ascii"))
    digits = ""
    for _ in range(_CHECK):
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits


def new_secret() -> str:
    body = MARK + "".join(secrets.choice(BASE62) for _ in range(_RANDOM))
    return body + _checksum(body)


def well_formed(text: str) -> bool:
    """False for junk, without asking the database."""
    if len(text) != LENGTH or not text.startswith(MARK) or not text.isascii():
        return False
    return hmac.compare_digest(_checksum(text[:-_CHECK]), text[-_CHECK:])


def digests(secret: str) -> list[tuple[str, str]]:
    """(pepper id, digest) under every pepper in force, the signing one first."""
    return [
        (pepper_id, hmac.new(pepper, secret.encode(), hashlib.sha256).hexdigest())
        for pepper_id, pepper in settings.KEY_PEPPERS.items()
    ]


def issue(*, tenant: Tenant | None, spec: KeySpec) -> tuple[ApiKey, str]:
    """A new key and its secret. The secret is returned this once and cannot be read again."""
    secret = new_secret()
    pepper_id, digest = digests(secret)[0]
    values: dict[str, Any] = asdict(spec)
    values["scopes"] = default_scopes() if spec.scopes is None else spec.scopes
    key = ApiKey(
        tenant=tenant,
        prefix=secret[: len(MARK) + 4],
        last_four=secret[-4:],
        digest=digest,
        pepper_id=pepper_id,
        **values,
    )
    key.full_clean(exclude=["digest"])
    key.save(force_insert=True)
    return key, secret


def revoke(*, key: ApiKey, now: datetime) -> None:
    """Refused from now on; live everywhere within a second. Revoking twice keeps the first time."""
    ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=now, updated_at=now)
    key.refresh_from_db()


def rotate(*, key: ApiKey, overlap: timedelta, now: datetime, person_id: int | None = None) -> tuple[ApiKey, str]:
    """A successor with the same rights and limits. The old key goes on for `overlap`, then expires.

    `person_id`: the user who is shown the secret. Raises PermissionDenied (`not_your_staff_key`) for a staff key of
    somebody else, whose rights they would have; Conflict if it was revoked or rotated already.
    """
    with transaction.atomic():
        old = ApiKey.objects.select_for_update().get(pk=key.pk)
        if old.tenant_id is None and (old.owner_id is None or old.owner_id != person_id):
            raise PermissionDenied(
                "Only its owner can rotate a staff key, which acts with their rights. Revoke it if it must not work.",
                code="not_your_staff_key",
            )
        if old.revoked_at is not None or old.replaced_by_id is not None:
            raise Conflict("This key was revoked or rotated already. Rotate its successor, or make a new key.")
        spec = KeySpec(
            name=old.name,
            scopes=old.scopes,
            owner_id=old.owner_id,
            allowed_models=old.allowed_models,
            budget_limit_daily=old.budget_limit_daily,
            budget_limit_monthly=old.budget_limit_monthly,
            rate_limit_rpm=old.rate_limit_rpm,
            rate_limit_tpm=old.rate_limit_tpm,
            max_concurrency=old.max_concurrency,
            expires_at=old.expires_at,
        )
        successor, secret = issue(tenant=old.tenant, spec=spec)
        old.replaced_by = successor
        ends = now + overlap
        old.expires_at = ends if old.expires_at is None else min(old.expires_at, ends)
        old.save(update_fields=["replaced_by", "expires_at", "updated_at"])
    return successor, secret
