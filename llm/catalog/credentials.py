"""Provider keys: the platform's, stored or from the environment, and tenants' own. They go in and never come out."""

import os
import re
from dataclasses import dataclass, field
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import OuterRef, QuerySet, Subquery

from billing.models import UsageRecord
from llm.choices import AuthType, Dialect
from llm.fields import CannotDecrypt, Secret
from llm.models import LLMProvider, ProviderCredential
from tenants import audit
from tenants.errors import Conflict, InvalidValue
from tenants.models import Tenant

_LONGEST = 4096
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
# Ours, never a provider's: whoever may edit a provider row must not be able to send these to a host of their choice.
_OUR_OWN = frozenset(
    {
        "SECRET_KEY",
        "ENCRYPTION_KEY",
        "KEY_PEPPER",
        "METRICS_TOKEN",
        "DATABASE_URL",
        "REDIS_URL",
        "CELERY_BROKER_URL",
        "DJANGO_SUPERUSER_PASSWORD",
    }
)


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A key to keep. Without a tenant it is the platform's. `owner_id` is the person it was entered for."""

    name: str
    api_key: Secret = field(repr=False)
    weight: int = 100
    is_active: bool = True
    tenant: Tenant | None = None
    owner_id: int | None = None


def add(*, provider: LLMProvider, key: NewKey, actor: audit.Actor, now: datetime) -> ProviderCredential:
    """Store a key, sealed to its row. Not validated yet: `validation.validate` asks the provider.

    Raises InvalidValue(param="api_key") if it cannot be one of this provider's, InvalidValue(param="provider") for a
    tenant's own where the provider takes none, Conflict if the name is taken.
    """
    if key.tenant is not None:
        require_byok(provider)
    secret = check_format(provider=provider, api_key=key.api_key)
    credential = ProviderCredential(
        provider=provider,
        tenant=key.tenant,
        user_id=key.owner_id,
        key_name=key.name,
        weight=key.weight,
        is_active=key.is_active,
    )
    credential.put(secret)
    with transaction.atomic():
        try:
            with transaction.atomic():
                credential.save(force_insert=True)
        except IntegrityError as error:
            raise Conflict(
                f"{provider.display_name} has a key named “{key.name}” already. Choose another, or replace that one.",
                param="name",
            ) from error
        audit.record(actor=actor, action="create", row=credential, before={}, now=now)
    return credential


def replace(
    *, credential: ProviderCredential, api_key: Secret, actor: audit.Actor, now: datetime
) -> ProviderCredential:
    """Put another key into a credential's place; configs that use it go on with the new one, once it is validated."""
    secret = check_format(provider=credential.provider, api_key=api_key)
    with transaction.atomic():
        row = ProviderCredential.objects.select_for_update().get(pk=credential.pk)
        before = audit.state(row)
        row.put(secret)
        row.forget_previous()
        row.last_rotated_at = now
        row.is_validated, row.validation_error, row.last_validated_at = False, "", None
        row.save()
        audit.record(actor=actor, action="replace", row=row, before=before, now=now)
    return row


def remove(*, credential: ProviderCredential, actor: audit.Actor, now: datetime) -> None:
    """Forget a key. Requests under way with it finish."""
    with transaction.atomic():
        audit.record(actor=actor, action="delete", row=credential, before=audit.state(credential), now=now)
        credential.delete()


def require_byok(provider: LLMProvider) -> None:
    """Raises InvalidValue(param="provider") where staff allow no keys of tenants' own."""
    if not provider.is_byok_supported:
        raise InvalidValue(f"{provider.display_name} does not take tenants' own keys.", param="provider")


def with_last_use(rows: QuerySet[ProviderCredential]) -> QuerySet[ProviderCredential]:
    """The same keys with `last_used_at`: when the newest request with each was accepted."""
    usage = UsageRecord.objects.filter(credential_id=OuterRef("pk")).order_by("-billing_day", "-id")
    used_at = Subquery(usage.values("created_at")[:1])
    return rows.annotate(last_used_at=used_at)  # type: ignore[no-redef] # it takes the place of the None


def check_format(*, provider: LLMProvider, api_key: Secret) -> Secret:
    """The key without surrounding blanks. Raises InvalidValue, which never quotes it."""
    text = api_key.reveal().strip()
    if not text or len(text) > _LONGEST:
        raise InvalidValue(f"A key has 1 to {_LONGEST} characters.", param="api_key")
    # A service account is a JSON document, AWS credentials may be one; every other key travels in a header.
    is_document = provider.auth_type == AuthType.OAUTH or (provider.dialect == Dialect.BEDROCK and text[0] == "{")
    if not is_document and not _HEADER_SAFE.fullmatch(text):
        raise InvalidValue("A key is printable ASCII without blanks. Was more than the key copied?", param="api_key")
    if provider.api_key_format and not _fits(provider.api_key_format, text):
        raise InvalidValue(
            f"This does not look like a key of {provider.display_name}. Was another provider's key copied?",
            param="api_key",
        )
    return Secret(text)


def _fits(pattern: str, text: str) -> bool:
    try:
        return re.match(pattern, text) is not None
    except re.error as error:
        raise Conflict("The provider's api_key_format is no regular expression. Correct it first.") from error


def environment_name(provider: LLMProvider) -> str | None:
    """The variable that holds the platform's key for this provider: the first of `env_keys` that is set."""
    for name in provider.env_keys:
        if isinstance(name, str) and name not in _OUR_OWN and os.environ.get(name, "").strip():
            return name
    return None


def environment_key(provider: LLMProvider) -> Secret | None:
    """The platform's key from the environment: used, never stored."""
    name = environment_name(provider)
    return None if name is None else Secret(os.environ[name].strip())


def environment_display(provider: LLMProvider) -> str:
    """What staff see of it, such as `from the environment: OPENAI_API_KEY`; empty if there is none."""
    name = environment_name(provider)
    return "" if name is None else f"from the environment: {name}"


def platform_key(provider: LLMProvider) -> tuple[Secret | None, str]:
    """The platform's key for this provider and what it is called: a stored one, else the environment's, else None.

    Raises CannotDecrypt if keys are stored but none of them opens.
    """
    stored = ProviderCredential.objects.filter(provider=provider, tenant__isnull=True, is_active=True)
    problem: CannotDecrypt | None = None
    for credential in stored.order_by("-weight", "key_name"):
        try:
            return credential.open(), f"the stored key “{credential.key_name}”"
        except CannotDecrypt as error:
            problem = error
    if problem is not None:
        raise problem
    secret = environment_key(provider)
    return secret, "" if secret is None else f"the key {environment_display(provider)}"
