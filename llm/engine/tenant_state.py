"""What a tenant set up and what it pays: configs, own provider keys, markup, own prices. At most a second old.

And what becomes of an own key that its provider refuses: marked invalid, unless it was just rotated.
"""

import logging
import uuid
from collections import defaultdict

from django.utils import timezone

from billing.pricing import PriceCard, Rate, whole_tiers
from llm import models
from llm.catalog import overrides, validation
from llm.fields import CannotDecrypt, Secret
from llm.types import Config, Credential, TenantState
from tenants import audit, scoping, terms
from tenants.auth import Cache
from tenants.errors import Unavailable
from tenants.models import Tenant

logger = logging.getLogger(__name__)

REFUSED_WORDS = "The provider refused it on a request. Is the key right, in force, and allowed to use the model?"


def load(tenant_id: uuid.UUID) -> TenantState:
    """Ask the database. A key that does not decrypt is left out and named in the log by its id."""
    usable: dict[uuid.UUID, list[Credential]] = defaultdict(list)
    unusable: set[uuid.UUID] = set()
    for row in scoping.rows(models.ProviderCredential, tenant_id=tenant_id).filter(is_active=True).order_by("pk"):
        credential = _credential(row) if row.is_validated else None
        if credential is None:
            unusable.add(row.provider_id)
        else:
            usable[row.provider_id].append(credential)
    configs = [_config(row) for row in scoping.rows(models.LLMConfig, tenant_id=tenant_id)]
    default = scoping.rows(models.LLMConfig, tenant_id=tenant_id).filter(is_tenant_default=True).first()
    tenant = Tenant.objects.get(pk=tenant_id)
    owed = terms.of(tenant)
    return TenantState(
        configs={config.name: config for config in configs},
        default_config=None if default is None else _config(default),
        byok={provider_id: tuple(group) for provider_id, group in usable.items()},
        byok_unusable=frozenset(unusable - set(usable)),
        markup=owed.markup_percent / 100,
        byok_fee=owed.byok_fee_percent / 100,
        overrides=_overrides(tenant_id),
        prepaid=tenant.prepaid,
    )


def _overrides(tenant_id: uuid.UUID) -> dict[uuid.UUID, tuple[PriceCard, ...]]:
    """The tenant's own prices by model, newest first."""
    cards: dict[uuid.UUID, list[PriceCard]] = defaultdict(list)
    for row in overrides.mattering(tenant_id=tenant_id, now=timezone.now()):
        tiers: dict[int, dict[str, Rate]] = defaultdict(dict)
        for one in row.components.all():
            tiers[one.above_tokens][one.meter] = Rate(price=one.unit_price_usd, quantity=one.unit_quantity)
        cards[row.model_id].append(
            PriceCard(
                version_id=row.pk,
                number=row.number,
                effective_from=row.effective_from,
                effective_to=row.effective_to,
                tiers=whole_tiers(tiers),
            )
        )
    return {model_id: tuple(group) for model_id, group in cards.items()}


def _credential(row: models.ProviderCredential) -> Credential | None:
    try:
        secret = row.open()
    except CannotDecrypt as error:
        logger.error("Own key %s cannot be used: %s", row.pk, error)
        return None
    return Credential(id=row.pk, name=row.key_name, secret=secret, source="byok", weight=row.weight)


def _config(row: models.LLMConfig) -> Config:
    return Config(
        id=row.pk,
        name=row.name,
        primary_model_id=row.primary_model_id,
        fallback_model_id=row.fallback_model_id,
        credential_id=row.credential_id,
        use_platform_key=row.use_platform_key,
        temperature=row.temperature,
        max_tokens=row.max_tokens,
        routing_rules=row.routing_rules,
        allowed_models=None if row.allowed_models is None else tuple(row.allowed_models),
        allow_model_fallback=row.allow_model_fallback,
    )


async def after_refusal(credential: Credential) -> Credential | None:
    """A provider refused this own key (401, 403): mark it invalid. None, or the same key with the secret to try
    instead: it was rotated a moment ago, or the refused secret is a new one and the one before it is still kept.

    One question to the database for all requests that meet the same refusal, in a thread of its own.
    """
    try:
        instead: Credential | None = await REFUSED.get((credential.id, credential.secret))
    except Unavailable:  # the database is away: the next refusal will tell it
        return None
    return instead


def _refuse(refused: tuple[uuid.UUID, Secret]) -> Credential | None:
    credential_id, secret = refused
    row = validation.refused(
        credential_id=credential_id,
        secret=secret,
        words=REFUSED_WORDS,
        actor=audit.system("a request that the provider refused"),
        now=timezone.now(),
    )
    return None if row is None else _credential(row)


TENANTS = Cache(load)
REFUSED = Cache(_refuse)


def forget() -> None:
    """What is remembered of tenants and their keys belongs to this run, or this test."""
    TENANTS.clear()
    REFUSED.clear()
