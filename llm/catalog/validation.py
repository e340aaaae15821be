"""A provider key's standing: validated when it is added, on demand and daily; refused; rotated and taken back.

The provider is asked with no transaction open. What it says is kept only if the row still holds the secret that it was
asked about: a key may be rotated meanwhile, by people or by `manage.py rotate_encryption_keys`.
"""

import logging
import uuid
from datetime import datetime, timedelta

from django.db import transaction

from llm.catalog import credentials, probes
from llm.catalog.probes import Opinion, Says
from llm.fields import CannotDecrypt, Secret
from llm.models import ProviderCredential
from tenants import audit
from tenants.errors import Conflict, InvalidValue, Unavailable
from tenants.scoping import missing

logger = logging.getLogger(__name__)

UNREADABLE = "The stored key cannot be read. Enter it again."
TAKEN_BACK = "The provider refused the new key, so the one before it is in use again."
STILL_VALID = "It goes on being used, since the provider accepted it before."
_WRITTEN = (
    *("sealed", "prefix", "suffix", "fingerprint", "previous_sealed", "previous_until", "last_rotated_at"),
    *("is_validated", "validation_error", "last_validated_at", "updated_at"),
)


def validate(*, credential: ProviderCredential, actor: audit.Actor, now: datetime) -> ProviderCredential:
    """Ask the provider whether it takes this key, and keep the answer in its row. Only validated own keys are used.

    Only a refusal (401, 403) makes a valid key invalid; a provider that cannot be asked does not. Raises NotFound if
    the key is deleted meanwhile.
    """
    secret = _readable(credential)
    if secret is None:
        unread = ProviderCredential.objects.filter(pk=credential.pk)
        unread.update(validation_error=UNREADABLE, last_validated_at=now)
    else:
        opinion = probes.opinion(provider=credential.provider, secret=secret)
        if opinion.says is Says.NO:
            refused(credential_id=credential.pk, secret=secret, words=opinion.error, actor=actor, now=now)
        else:
            _keep(credential.pk, secret, opinion, actor=actor, now=now)
    return _again(credential)


def refused(
    *, credential_id: uuid.UUID, secret: Secret, words: str, actor: audit.Actor, now: datetime
) -> ProviderCredential | None:
    """The provider says no to this secret. Soon after a rotation the secret before it takes its place back; else the
    key is marked invalid.

    The row, if it holds another secret than the refused one that may be tried; else None. Doing it twice changes
    nothing.
    """
    with transaction.atomic():
        row = _locked(credential_id)
        if row is None:
            return None
        if not row.holds(secret):  # rotated or taken back meanwhile
            return row if row.is_active and row.is_validated else None
        before, was_valid = audit.state(row), row.is_validated
        previous = _previous(row, now)
        row.last_validated_at = now
        row.is_validated, row.validation_error = False, words
        if previous is not None:
            row.put(previous)
            row.forget_previous()
            row.last_rotated_at = now
            row.is_validated, row.validation_error = True, TAKEN_BACK
        row.save(update_fields=_WRITTEN)
        if was_valid:
            action = "invalidate" if previous is None else "take back"
            audit.record(actor=actor, action=action, row=row, before=before, now=now)
    return None if previous is None or not row.is_active else row


def rotate(
    *, credential: ProviderCredential, api_key: Secret, overlap: timedelta, actor: audit.Actor, now: datetime
) -> ProviderCredential:
    """Another secret for a tenant's own key: used within a second, the one before it kept for `overlap`.

    The provider is asked first. Raises InvalidValue(param="api_key") for what it refuses, Unavailable if it cannot be
    reached, Conflict if it cannot be asked at all, NotFound if the key is deleted meanwhile; then nothing has changed.
    """
    provider = credential.provider
    credentials.require_byok(provider)
    secret = credentials.check_format(provider=provider, api_key=api_key)
    if credential.holds(secret):
        raise InvalidValue("This is the key that is in use already. Give the new one.", param="api_key")
    _insist(probes.opinion(provider=provider, secret=secret))
    with transaction.atomic():
        row = _locked(credential.pk)
        if row is None:
            raise missing(ProviderCredential)
        before, old = audit.state(row), _readable(row)
        row.forget_previous()
        if old is not None and row.is_validated and overlap:
            row.put_previous(old, until=now + overlap)
        row.put(secret)
        row.is_validated, row.validation_error = True, ""
        row.last_validated_at = row.last_rotated_at = now
        row.save(update_fields=_WRITTEN)
        audit.record(actor=actor, action="rotate", row=row, before=before, now=now)
    return _again(credential)


def forget_previous(*, now: datetime) -> int:
    """Drop the secrets before a rotation whose time is over. How many."""
    over = ProviderCredential.objects.filter(previous_until__lte=now)
    return over.update(previous_sealed=None, previous_until=None)


def _keep(pk: uuid.UUID, secret: Secret, opinion: Opinion, *, actor: audit.Actor, now: datetime) -> None:
    with transaction.atomic():
        row = _locked(pk)
        if row is None or not row.holds(secret):
            return
        before, was_valid = audit.state(row), row.is_validated
        row.is_validated = was_valid or opinion.says is Says.YES
        row.validation_error = f"{opinion.error} {STILL_VALID}" if opinion.error and was_valid else opinion.error
        row.last_validated_at = now
        row.save(update_fields=_WRITTEN)
        if row.is_validated != was_valid:
            audit.record(actor=actor, action="validate", row=row, before=before, now=now)


def _insist(opinion: Opinion) -> None:
    unchanged = "Nothing was changed: the key before it is still in use."
    if opinion.says is Says.NO:
        raise InvalidValue(f"{opinion.error} {unchanged}", param="api_key", code="key_refused")
    if opinion.says is Says.LATER:
        message = f"The provider could not be asked about the new key. {opinion.error} {unchanged} Try again shortly."
        raise Unavailable(message, code="provider_unreachable", retry_after=5.0)
    if opinion.says is not Says.YES:
        raise Conflict(f"The provider cannot be asked about keys. {opinion.error} {unchanged}")


def _locked(pk: uuid.UUID) -> ProviderCredential | None:
    return ProviderCredential.objects.select_for_update().filter(pk=pk).first()


def _again(credential: ProviderCredential) -> ProviderCredential:
    found = ProviderCredential.objects.select_related("provider", "tenant").filter(pk=credential.pk).first()
    if found is None:
        raise missing(ProviderCredential)
    return found


def _readable(row: ProviderCredential) -> Secret | None:
    try:
        return row.open()
    except CannotDecrypt as error:
        logger.error("Provider key %s cannot be read: %s", row.pk, error)
        return None


def _previous(row: ProviderCredential, now: datetime) -> Secret | None:
    if row.previous_until is None or row.previous_until <= now:
        return None
    try:
        return row.open_previous()
    except CannotDecrypt as error:
        logger.error("The secret before provider key %s cannot be read: %s", row.pk, error)
        return None
