"""What a tenant owes on top of the provider's price: its own markup and fee, else its tier's. In percent."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from tenants import audit
from tenants.models import Tenant, TierTerms
from tenants.tiers import Tier

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The percentages in force, and whether each is the tenant's own (else its tier's)."""

    markup_percent: Decimal
    byok_fee_percent: Decimal
    own_markup: bool
    own_fee: bool


def of_tiers() -> dict[str, TierTerms]:
    """The terms of every tier, the lowest first; one that nobody has set adds nothing."""
    stored = {row.tier: row for row in TierTerms.objects.all()}
    return {tier.value: stored.get(tier.value) or TierTerms(tier=tier.value) for tier in Tier}


def of(tenant: Tenant, tiers: Mapping[str, TierTerms] | None = None) -> Terms:
    """The tenant's terms. `tiers` saves the query where many tenants are asked about."""
    markup, fee = tenant.markup_percent, tenant.byok_fee_percent
    if markup is None or fee is None:
        tier = (of_tiers() if tiers is None else tiers)[tenant.tier]
        markup = tier.markup_percent if markup is None else markup
        fee = tier.byok_fee_percent if fee is None else fee
    return Terms(
        markup_percent=markup,
        byok_fee_percent=fee,
        own_markup=tenant.markup_percent is not None,
        own_fee=tenant.byok_fee_percent is not None,
    )


def change(*, tier: str, values: Mapping[str, Any], actor: audit.Actor, now: datetime) -> TierTerms:
    """Set percentages of a tier. Its tenants' next requests are billed by them within two seconds."""
    with transaction.atomic():
        TierTerms.objects.get_or_create(tier=tier)
        row = TierTerms.objects.select_for_update().get(pk=tier)
        before = audit.state(row)
        for name, value in values.items():
            setattr(row, name, value)
        row.save(update_fields=[*values, "updated_at"])
        row.refresh_from_db()
        audit.record(actor=actor, action="update", row=row, before=before, now=now)
    return row
