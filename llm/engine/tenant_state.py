"""What a tenant set up, as routing needs it: configs, own provider keys, markup. At most a second old."""

import logging
import uuid
from collections import defaultdict
from decimal import Decimal

from llm import models
from llm.fields import CannotDecrypt
from llm.types import Config, Credential, TenantState
from tenants import scoping
from tenants.auth import Cache
from tenants.models import Tenant

logger = logging.getLogger(__name__)


def load(tenant_id: uuid.UUID) -> TenantState:
    """Ask the database. A key that does not decrypt is left out and named in the log by its id."""
    usable: dict[uuid.UUID, list[Credential]] = defaultdict(list)
    unusable: set[uuid.UUID] = set()
    for row in scoping.rows(models.ProviderCredential, tenant_id=tenant_id).order_by("pk"):
        if not (row.is_active and row.is_validated):
            unusable.add(row.provider_id)
            continue
        try:
            secret = row.open()
        except CannotDecrypt as error:
            logger.error("Own key %s cannot be used: %s", row.pk, error)
            unusable.add(row.provider_id)
            continue
        usable[row.provider_id].append(
            Credential(id=row.pk, name=row.key_name, secret=secret, source="byok", weight=row.weight)
        )
    configs = [_config(row) for row in scoping.rows(models.LLMConfig, tenant_id=tenant_id)]
    default = scoping.rows(models.LLMConfig, tenant_id=tenant_id).filter(is_tenant_default=True).first()
    markup, fee = Tenant.objects.values_list("markup_percent", "byok_fee_percent").get(pk=tenant_id)
    return TenantState(
        configs={config.name: config for config in configs},
        default_config=None if default is None else _config(default),
        byok={provider_id: tuple(group) for provider_id, group in usable.items()},
        byok_unusable=frozenset(unusable - set(usable)),
        markup=Decimal(markup) / 100,
        byok_fee=Decimal(fee) / 100,
    )


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


TENANTS = Cache(load)
