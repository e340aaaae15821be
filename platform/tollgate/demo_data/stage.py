"""The rows that demo traffic belongs to: tenants, members, keys, configs, own provider keys. Made once, then used."""

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_UP, Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction

from billing import windows
from billing.models import BudgetWindow
from llm.fields import Secret
from llm.models import LLMConfig, LLMProvider, ProviderCredential
from llm.types import Config, Credential, TenantState
from tenants import audit, keys, terms
from tenants.auth import Caller
from tenants.errors import Conflict
from tenants.models import ApiKey, AuditEvent, Membership, Tenant
from tollgate.demo_data.personas import PERSONAS, Persona

_ACTOR = audit.system("demo_data")
_CENT = Decimal("0.01")
_PERCENT = Decimal(100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A tenant of the demo as the data path would know it. `callers` by name of the key, `byok` by provider's slug."""

    persona: Persona
    tenant: Tenant
    callers: dict[str, Caller]
    config: Config
    state: TenantState
    byok: dict[str, Credential]


def actors(*, now: datetime) -> list[Actor]:
    """All tenants of the demo, without budgets: traffic that has been must not be refused.

    Raises Conflict where a tenant of that name was not made here.
    """
    with transaction.atomic():
        return [_actor(persona, now) for persona in PERSONAS]


def _actor(persona: Persona, now: datetime) -> Actor:
    tenant = Tenant.objects.filter(slug=persona.slug).first()
    if tenant is None:
        tenant = Tenant(
            slug=persona.slug,
            name=persona.name,
            tier=persona.tier,
            timezone=persona.timezone,
            markup_percent=persona.markup_percent,
            sandbox_enabled=True,
        )
        _create(tenant, now)
    elif not AuditEvent.objects.filter(object_id=str(tenant.pk), action="create", actor_label=_ACTOR.label).exists():
        raise Conflict(f"There is a tenant {persona.slug} that this command did not make. Rename it first.")
    _set_limits(tenant, now, daily=None, monthly=None)
    config = LLMConfig.objects.filter(tenant=tenant, name="default").first()
    if config is None:
        config = LLMConfig(tenant=tenant, name="default", is_tenant_default=True)
        _create(config, now)
    owed = terms.of(tenant)
    return Actor(
        persona=persona,
        tenant=tenant,
        callers={name: _caller(tenant, name, owner, now) for name, owner in persona.keys.items()},
        config=Config(id=config.pk, name=config.name),
        state=TenantState(markup=owed.markup_percent / _PERCENT, byok_fee=owed.byok_fee_percent / _PERCENT),
        byok={slug: _own_key(tenant, slug, now) for slug in sorted(persona.byok)},
    )


def _caller(tenant: Tenant, name: str, username: str | None, now: datetime) -> Caller:
    key = ApiKey.objects.filter(tenant=tenant, name=name, revoked_at__isnull=True).first()
    owner = None if username is None else _member(tenant, username)
    if key is None:
        # Its secret is forgotten here: nobody can use it.
        key, _ = keys.issue(tenant=tenant, spec=keys.KeySpec(name=name, owner_id=None if owner is None else owner.pk))
        audit.record(actor=_ACTOR, action="issue", row=key, before={}, now=now, reason="Demo data")
    return Caller(
        key_id=key.pk,
        key_name=key.name,
        scopes=frozenset(key.scopes),
        allowed_models=None,
        rate_limit_rpm=None,
        rate_limit_tpm=None,
        max_concurrency=key.max_concurrency,
        expires_at=None,
        user_id="" if owner is None else str(owner.pk),
        owner=owner,
        tenant_id=tenant.pk,
        tenant_slug=tenant.slug,
        tier=tenant.tier,
        timezone=tenant.timezone,
        sandbox_enabled=True,
        allow_model_fallback=False,
        tenant_active=True,
    )


def _member(tenant: Tenant, username: str) -> Any:
    """A person without a password, so that nobody can log in as them."""
    user, made = get_user_model()._default_manager.get_or_create(username=username)
    if made:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    Membership.objects.get_or_create(tenant=tenant, user=user)
    return user


def _own_key(tenant: Tenant, slug: str, now: datetime) -> Credential:
    """A provider key of the tenant's own. It is no real one, so it is switched off."""
    provider = LLMProvider.objects.get(slug=slug)
    row = ProviderCredential.objects.filter(tenant=tenant, provider=provider, key_name="own key").first()
    if row is None:
        row = ProviderCredential(tenant=tenant, provider=provider, key_name="own key", is_active=False)
        row.put(Secret(f"sk-demo-{tenant.slug}-not-a-real-key"))
        _create(row, now)
    return Credential(id=row.pk, name=row.key_name, secret=row.open(), source="byok")


def _create(row: Any, now: datetime) -> None:
    row.save()
    audit.record(actor=_ACTOR, action="create", row=row, before={}, now=now, reason="Demo data")


def set_budgets(found: list[Actor], *, now: datetime) -> None:
    """Budgets at last, of which as much is used up as their personas say."""
    with transaction.atomic():
        for actor in found:
            today = windows.billing_day(now, actor.tenant.timezone)
            _set_limits(
                actor.tenant,
                now,
                daily=_limit(actor, windows.DAY, today, actor.persona.day_used),
                monthly=_limit(actor, windows.MONTH, today.replace(day=1), actor.persona.month_used),
            )


def _limit(actor: Actor, period: str, first: Any, used: int | None) -> Decimal | None:
    window = BudgetWindow.objects.filter(pk=windows.window_key("tenant", actor.tenant.pk, period, first)).first()
    if used is None or window is None or not window.spent:
        return None
    spent: Decimal = window.spent
    return (spent * 100 / used).quantize(_CENT, ROUND_UP)


def _set_limits(tenant: Tenant, now: datetime, *, daily: Decimal | None, monthly: Decimal | None) -> None:
    before = audit.state(tenant)
    tenant.budget_limit_daily, tenant.budget_limit_monthly = daily, monthly
    tenant.save(update_fields=["budget_limit_daily", "budget_limit_monthly", "updated_at"])
    audit.record(actor=_ACTOR, action="update", row=tenant, before=before, now=now, reason="Demo data")
