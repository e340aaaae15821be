"""The four tiers, in order. A tier is a floor: whoever stands on a higher one may do all that a lower one may."""

from django.db import models


class Tier(models.TextChoices):
    FREE = "free", "Free"
    STARTER = "starter", "Starter"
    PROFESSIONAL = "professional", "Professional"
    ENTERPRISE = "enterprise", "Enterprise"


RANK: dict[str, int] = {tier.value: rank for rank, tier in enumerate(Tier)}


def reaches(tier: str, minimum: str) -> bool:
    """True if `tier` stands at least as high as `minimum`."""
    return RANK[tier] >= RANK[minimum]
