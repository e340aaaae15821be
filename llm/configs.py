"""A tenant's configs: made, changed and deleted together with the own provider key that a config may carry."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from billing import reports
from llm.catalog import credentials, validation
from llm.fields import Secret
from llm.models import LLMConfig, ProviderCredential
from tenants import audit, scoping
from tenants.errors import Conflict, InvalidValue
from tenants.models import Tenant


@dataclass(frozen=True, kw_only=True)
class KeyChange:
    """The own provider key of a config: a new one, or None to forget it. `owner_id` is who entered it."""

    api_key: Secret | None = field(repr=False)
    owner_id: int | None = None


def create(
    *, tenant_id: uuid.UUID, values: Mapping[str, Any], key: KeyChange | None, actor: audit.Actor, now: datetime
) -> LLMConfig:
    """A new config. A key is kept for its primary model's provider and validated at once, by a call that costs nothing.

    Raises Conflict if the name is taken, InvalidValue(param="api_key") for a key that has no provider or cannot be one.
    """
    with transaction.atomic():
        Tenant.objects.select_for_update().get(pk=tenant_id)
        config = LLMConfig(tenant_id=tenant_id, **values)
        _write(config, before={}, action="create", actor=actor, now=now)
        _put_key(config, key, actor=actor, now=now)
    return _validated(config, key, actor=actor, now=now)


def update(
    *, config: LLMConfig, values: Mapping[str, Any], key: KeyChange | None, actor: audit.Actor, now: datetime
) -> LLMConfig:
    """Change the given fields. `key` None leaves the config's own key as it is. Raises as `create` does."""
    with transaction.atomic():
        Tenant.objects.select_for_update().get(pk=config.tenant_id)
        row = scoping.one(LLMConfig, tenant_id=config.tenant_id, pk=config.pk)
        before = audit.state(row)
        for name, value in values.items():
            setattr(row, name, value)
        _write(row, before=before, action="update", actor=actor, now=now)
        _put_key(row, key, actor=actor, now=now)
    return _validated(row, key, actor=actor, now=now)


def delete(*, config: LLMConfig, actor: audit.Actor, now: datetime) -> None:
    """Delete a config, and the key that was entered with it."""
    with transaction.atomic():
        credential = config.credential
        audit.record(actor=actor, action="delete", row=config, before=audit.state(config), now=now)
        owned = credential is not None and _belongs(credential, config)
        config.delete()
        if credential is not None and owned:
            credentials.remove(credential=credential, actor=actor, now=now)


def limits_of(configs: Sequence[LLMConfig], *, now: datetime) -> list[list[dict[str, Any]]]:
    """For each config of a tenant its day's and its month's budget: rows as `reports.limits_of`. One query."""
    if not configs:
        return []
    scopes = [
        reports.Limited(kind="config", id=one.pk, daily=one.budget_limit_daily, monthly=one.budget_limit_monthly)
        for one in configs
    ]
    rows = reports.limits_of(scopes=scopes, timezone=configs[0].tenant.timezone, now=now)
    return [rows[at : at + 2] for at in range(0, len(rows), 2)]


def _write(config: LLMConfig, *, before: Mapping[str, Any], action: str, actor: audit.Actor, now: datetime) -> None:
    """Save, having made room if it is to be the tenant's default. The tenant's row is locked: no second one."""
    if config.is_tenant_default:
        others = scoping.rows(LLMConfig, tenant_id=config.tenant_id).filter(is_tenant_default=True)
        for other in others.exclude(pk=config.pk):
            other_before = audit.state(other)
            other.is_tenant_default = False
            other.save(update_fields=["is_tenant_default", "updated_at"])
            audit.record(actor=actor, action="update", row=other, before=other_before, now=now)
    try:
        with transaction.atomic():
            config.save()
    except IntegrityError as error:
        raise Conflict(
            f"There is a config named “{config.name}” already. Choose another name, or change that one.", param="name"
        ) from error
    audit.record(actor=actor, action=action, row=config, before=before, now=now)


def _put_key(config: LLMConfig, key: KeyChange | None, *, actor: audit.Actor, now: datetime) -> None:
    """Store, replace or forget the config's own key."""
    if key is None:
        return
    current = config.credential if config.credential and _belongs(config.credential, config) else None
    if key.api_key is None:
        _link(config, None, actor=actor, now=now)
        if current is not None:
            credentials.remove(credential=current, actor=actor, now=now)
        return
    if config.primary_model is None:
        raise InvalidValue("Give a primary_model: the key is kept for its provider.", param="api_key")
    provider = config.primary_model.provider
    if not provider.is_byok_supported:
        raise InvalidValue(f"{provider.display_name} does not take tenants' own keys.", param="api_key")
    if current is not None and current.provider_id == provider.pk:
        credentials.replace(credential=current, api_key=key.api_key, actor=actor, now=now)
        return
    new_key = credentials.NewKey(
        name=f"{config.name[:60]} {_mark(config)}",
        api_key=key.api_key,
        tenant=config.tenant,
        owner_id=key.owner_id,
    )
    added = credentials.add(provider=provider, key=new_key, actor=actor, now=now)
    _link(config, added, actor=actor, now=now)
    if current is not None:
        credentials.remove(credential=current, actor=actor, now=now)


def _link(config: LLMConfig, credential: ProviderCredential | None, *, actor: audit.Actor, now: datetime) -> None:
    before = audit.state(config)
    config.credential = credential
    config.save(update_fields=["credential", "updated_at"])
    audit.record(actor=actor, action="update", row=config, before=before, now=now)


def _mark(config: LLMConfig) -> str:
    """Ends the name of a key that was entered with a config; it goes when the config goes."""
    return f"(config {config.pk.hex[:8]})"


def _belongs(credential: ProviderCredential, config: LLMConfig) -> bool:
    return credential.key_name.endswith(_mark(config))


def _validated(config: LLMConfig, key: KeyChange | None, *, actor: audit.Actor, now: datetime) -> LLMConfig:
    """Ask the provider about a key just entered, with no transaction open: it goes over the network."""
    if key is not None and key.api_key is not None and config.credential_id is not None:
        entered = ProviderCredential.objects.select_related("provider").get(pk=config.credential_id)
        validation.validate(credential=entered, actor=actor, now=now)
    related = ("primary_model__provider", "fallback_model__provider", "credential__provider")
    return LLMConfig.objects.select_related(*related).get(pk=config.pk)
