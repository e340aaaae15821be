"""What models cost, through time. Append-only: a price in force is superseded, never edited."""

import uuid
from decimal import Decimal

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from llm.choices import Meter, PriceStatus
from llm.models.catalog import LLMModel
from tenants.fields import UsdField

PER_MILLION = 1_000_000


class PriceVersion(models.Model):
    """One price of one model, from one moment to another."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(LLMModel, on_delete=models.CASCADE, related_name="price_versions")
    number = models.PositiveIntegerField(help_text="Counts the prices of this model.")
    status = models.CharField(max_length=12, choices=PriceStatus, default=PriceStatus.ACTIVE)
    effective_from = models.DateTimeField(help_text="In force from this moment on.")
    effective_to = models.DateTimeField(null=True, blank=True, help_text="Until, excluded. Empty: still in force.")
    recorded_at = models.DateTimeField(help_text="When it was entered.")
    source = models.CharField(max_length=32, help_text="`catalog`, `staff`, `feed`.")
    reason = models.TextField(blank=True, help_text="Why it changed.")
    author = models.CharField(max_length=200, help_text="Who entered it.")

    class Meta:
        db_table = "llm_price_versions"
        ordering = ["-effective_from"]
        constraints = [
            models.UniqueConstraint(fields=["model", "number"], name="one_price_version_per_number"),
            models.CheckConstraint(
                name="price_ends_after_it_starts",
                condition=Q(effective_to__isnull=True) | Q(effective_to__gte=F("effective_from")),
            ),
        ]

    def __str__(self) -> str:
        return f"v{self.number} from {self.effective_from:%Y-%m-%d %H:%M}"

    def base_price(self, meter: str) -> Decimal | None:
        """USD per million of `meter` below every context threshold."""
        for component in self.components.all():
            if component.meter == meter and component.above_tokens == 0:
                price: Decimal = component.unit_price_usd * PER_MILLION / component.unit_quantity
                return price
        return None


class PriceComponent(models.Model):
    """The price of one meter within a version: so many USD for so many units."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    version = models.ForeignKey(PriceVersion, on_delete=models.CASCADE, related_name="components")
    meter = models.CharField(max_length=16, choices=Meter)
    unit_quantity = models.PositiveIntegerField(default=PER_MILLION, help_text="How many units the price is for.")
    unit_price_usd = UsdField(validators=[MinValueValidator(Decimal(0))], help_text="USD for that many units.")
    above_tokens = models.PositiveIntegerField(
        default=0, help_text="Strictly above this many prompt tokens the whole request is priced at this tier."
    )

    class Meta:
        db_table = "llm_price_components"
        ordering = ["above_tokens", "meter"]
        constraints = [
            models.UniqueConstraint(fields=["version", "meter", "above_tokens"], name="one_price_per_meter_and_tier"),
            models.CheckConstraint(name="price_not_negative", condition=Q(unit_price_usd__gte=0)),
            models.CheckConstraint(name="price_quantity_positive", condition=Q(unit_quantity__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.meter}: ${self.unit_price_usd.normalize():f} per {self.unit_quantity:,}"
