"""The people of the tests: Acme (professional), Globex (free; must never see Acme's rows), Initech (enterprise, BYOK).

`make_*` functions write rows directly, with prices that have been in force for years, so that a test says only what
matters to it.
"""

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import Permission, User
from django.utils import timezone

from llm.choices import PriceStatus
from llm.fields import Secret
from llm.models import (
    LLMBreaker,
    LLMConfig,
    LLMModel,
    LLMProvider,
    LLMRoutingRule,
    PowerLevelPolicy,
    PriceComponent,
    PriceVersion,
    ProviderCredential,
)
from tenants import keys
from tenants.models import ApiKey, Membership, Scope, Tenant

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
EVERY_SCOPE = list(Scope.values)
UNREACHABLE = "http://127.0.0.1:9/v1"


def make_tenant(slug: str = "acme", **values: Any) -> Tenant:
    """A tenant; professional unless told."""
    return Tenant.objects.create(**{"slug": slug, "name": slug.title(), "tier": "professional"} | values)


def make_member(tenant: Tenant, username: str = "ada", role: str = "owner") -> User:
    """A person with a place in the tenant."""
    user = User.objects.create_user(username)
    Membership.objects.create(tenant=tenant, user=user, role=role)
    return user


def make_key(tenant: Tenant, name: str = "test", **spec: Any) -> tuple[ApiKey, str]:
    """A tenant's key with every scope unless told, and its secret."""
    return keys.issue(tenant=tenant, spec=keys.KeySpec(**{"name": name, "scopes": EVERY_SCOPE} | spec))


def make_staff(
    username: str = "grace", *, superuser: bool = True, permissions: tuple[str, ...] = ()
) -> tuple[User, str]:
    """A staff member and the secret of their staff key. `permissions` are like `llm.view_llmprovider`."""
    user = User.objects.create_user(username, is_staff=True, is_superuser=superuser)
    for permission in permissions:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    _, secret = keys.issue(tenant=None, spec=keys.KeySpec(name="staff", owner_id=user.pk))
    return user, secret


def make_provider(
    slug: str = "openai", base_url: str = UNREACHABLE, dialect: str = "openai", **values: Any
) -> LLMProvider:
    """A provider; nobody listens at its address unless told."""
    names = {"slug": slug, "name": slug.title(), "display_name": slug.title()}
    features = {"supports_function_calling": True, "supports_vision": True}
    return LLMProvider.objects.create(**names | features | {"base_url": base_url, "dialect": dialect} | values)


def make_sandbox() -> LLMProvider:
    """The built-in provider."""
    return make_provider("sandbox", "sandbox://local", "sandbox", auth_type="none", is_system_provider=True)


def make_credential(
    provider: LLMProvider, api_key: str = "sk-platform-0123456789", tenant: Tenant | None = None, **values: Any
) -> ProviderCredential:
    """A provider key: the platform's, or a tenant's own; validated unless told."""
    fields = {"key_name": f"key {uuid.uuid4().hex[:6]}", "is_validated": True} | values
    credential = ProviderCredential(provider=provider, tenant=tenant, **fields)
    credential.put(Secret(api_key))
    credential.save()
    return credential


def make_model(
    provider: LLMProvider,
    model_id: str = "gpt-4o",
    input: str | None = "2.50",  # noqa: A002  # the meter's name
    output: str | None = "10.00",
    cached: str | None = None,
    **values: Any,
) -> LLMModel:
    """A model with its price in USD per million tokens; `input=None` leaves it unpriced."""
    features = {"supports_function_calling": True, "supports_vision": True, "supports_json_mode": True}
    names = {"model_id": model_id, "name": model_id, "display_name": model_id}
    model = LLMModel.objects.create(
        provider=provider, **names | features | {"max_output_tokens": 16_384, "context_window": 128_000} | values
    )
    if input is not None:
        make_price(model, input=input, output=output, cache_read=cached)
    return model


def make_price(
    model: LLMModel, since: datetime = LONG_AGO, source: str = "staff", **meters: str | None
) -> PriceVersion:
    """A price in force since a moment: `make_price(model, input="2.50", output="10")`. It ends the one before it."""
    before = model.price_versions.filter(effective_to__isnull=True, status=PriceStatus.ACTIVE)
    before.update(effective_to=since, status=PriceStatus.SUPERSEDED)
    version = PriceVersion.objects.create(
        model=model,
        number=model.price_versions.count() + 1,
        status=PriceStatus.ACTIVE,
        effective_from=since,
        recorded_at=since,
        source=source,
        author="test",
    )
    for meter, usd in meters.items():
        if usd is not None:
            PriceComponent.objects.create(version=version, meter=meter, unit_price_usd=Decimal(usd))
    return version


def make_breaker(model: LLMModel, kind: str = "model", seconds: float = 3_600, **values: Any) -> LLMBreaker:
    """An open breaker of a model, its provider or a key of it, for so long."""
    name = model.provider.slug if kind in {"provider", "credential"} else f"{model.provider.slug}/{model.model_id}"
    key = f"{kind}:{name}{'#0' if kind in {'credential', 'limit'} else ''}"
    now = timezone.now()
    fields = {"what": name, "state": "open", "failures": 3, "openings": 1, "reason": "it failed 3 times in a row"}
    fields |= {"opened_at": now, "until": now + timedelta(seconds=seconds), "updated_at": now}
    return LLMBreaker.objects.create(**{"key": key, "kind": kind} | fields | values)


def make_rule(model: LLMModel, power_level: str | None = None, **values: Any) -> LLMRoutingRule:
    """A rule for every tier and the general task, at the model's own power level unless told."""
    fields = {"power_level": power_level or model.power_level, "user_tier": "all", "task_type": "general"}
    return LLMRoutingRule.objects.create(model=model, **fields | values)


def make_config(tenant: Tenant, name: str = "main", **values: Any) -> LLMConfig:
    """A tenant's config."""
    return LLMConfig.objects.create(tenant=tenant, name=name, **values)


def make_power_levels() -> None:
    """The three power levels as shipped."""
    rows = (("eco", "0.50", 10_000, True), ("balanced", "5.00", 5_000, True), ("precision", "100.00", 2_000, False))
    for level, usd, latency_ms, lenient in rows:
        PowerLevelPolicy.objects.create(
            power_level=level,
            max_price_per_1m_usd=Decimal(usd),
            max_latency_ms=latency_ms,
            allow_fallback=lenient,
            prefer_cached=lenient,
        )
