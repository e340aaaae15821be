"""What single tenants pay for single models instead of the list price. Append-only, as prices are."""

import uuid
from decimal import Decimal

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from llm.choices import Meter
from llm.models.catalog import LLMModel
from llm.models.prices import PER_MILLION
from tenants.fields import UsdField
from tenants.models import Tenant


class PriceOverride(models.Model):
    """One tenant's own price of one model, from one moment to another. No markup is added to it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # A tenant's prices are read together, once a second while it sends requests.
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="price_overrides")
    model = models.ForeignKey(LLMModel, on_delete=models.CASCADE, related_name="price_overrides")
    number = models.PositiveIntegerField(help_text="Counts this tenant's prices of this model.")
    effective_from = models.DateTimeField(help_text="In force from this moment on.")
    effective_to = models.DateTimeField(
        null=True, blank=True, help_text="Until, excluded. Empty: for good. Where both are the same it was cancelled."
    )
    recorded_at = models.DateTimeField(help_text="When it was entered.")
    reason = models.TextField(help_text="Why, such as the contract it is from.")
    author = models.CharField(max_length=200, help_text="Who entered it.")

    class Meta:
        db_table = "llm_price_overrides"
        ordering = ["-effective_from", "-number"]
        verbose_name = "tenant's price"
        verbose_name_plural = "tenants' prices"
        # On PostgreSQL an exclusion constraint, `one_price_override_at_a_time`, forbids overlaps too: see the migration
        # 0007_correction_runs. On SQLite the lock on the model's row in `overrides` alone prevents them.
        constraints = [
            models.UniqueConstraint(fields=["tenant", "model", "number"], name="one_price_override_per_number"),
            models.CheckConstraint(
                name="price_override_ends_after_it_starts",
                condition=Q(effective_to__isnull=True) | Q(effective_to__gte=F("effective_from")),
            ),
        ]

    def __str__(self) -> str:
        return f"v{self.number} from {self.effective_from:%Y-%m-%d %H:%M}"


class OverrideComponent(models.Model):
    """The price of one meter within a tenant's own price: so many USD for so many units."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    override = models.ForeignKey(PriceOverride, on_delete=models.CASCADE, related_name="components")
    meter = models.CharField(max_length=16, choices=Meter)
    unit_quantity = models.PositiveIntegerField(default=PER_MILLION, help_text="How many units the price is for.")
    unit_price_usd = UsdField(validators=[MinValueValidator(Decimal(0))], help_text="USD for that many units.")
    above_tokens = models.PositiveIntegerField(
        default=0, help_text="Strictly above this many prompt tokens the whole request is priced at this tier."
    )

    class Meta:
        db_table = "llm_price_override_components"
        ordering = ["above_tokens", "meter"]
        constraints = [
            models.UniqueConstraint(
                fields=["override", "meter", "above_tokens"], name="one_override_per_meter_and_tier"
            ),
            models.CheckConstraint(name="override_not_negative", condition=Q(unit_price_usd__gte=0)),
            models.CheckConstraint(name="override_quantity_positive", condition=Q(unit_quantity__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.meter}: ${self.unit_price_usd.normalize():f} per {self.unit_quantity:,}"
