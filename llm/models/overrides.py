"""What single tenants pay for single models instead of the list price. Append-only, as prices are."""

import uuid
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from llm.choices import Meter
from llm.models.catalog import LLMModel
from llm.models.prices import PER_MILLION, append_only, refuse_overlap
from tenants.fields import UsdField
from tenants.models import Tenant

_WHAT = "A tenant's own price"
# When it ends may change, through `llm.catalog.overrides`; never what it says, whose it is, or when it began.
_LIFE = frozenset({"effective_to"})


class PriceOverrides(models.QuerySet["PriceOverride"]):
    """Bulk changes keep to the same rule as single ones."""

    def update(self, **values: Any) -> int:
        if not values.keys() <= _LIFE and self.exists():
            raise append_only(_WHAT)
        return super().update(**values)

    def delete(self) -> tuple[int, dict[str, int]]:
        if self.exists():
            raise append_only(_WHAT)
        return super().delete()


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
    # Parts are added to the very object that entered the price, never to one that was read.
    entering = False

    objects = PriceOverrides.as_manager()

    class Meta:
        db_table = "llm_price_overrides"
        ordering = ["-effective_from", "-number"]
        verbose_name = "tenant's price"
        verbose_name_plural = "tenants' prices"
        # On PostgreSQL an exclusion constraint, `one_price_override_at_a_time`, forbids overlaps too: see the migration
        # 0008_correction_runs. On SQLite `save` looks, under the lock on the model's row in `overrides`.
        constraints = [
            models.UniqueConstraint(fields=["tenant", "model", "number"], name="one_price_override_per_number"),
            models.CheckConstraint(
                name="price_override_ends_after_it_starts",
                condition=Q(effective_to__isnull=True) | Q(effective_to__gte=F("effective_from")),
            ),
        ]

    def __str__(self) -> str:
        return f"v{self.number} from {self.effective_from:%Y-%m-%d %H:%M}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Refuses what would rewrite a price, or overlap one. Raises Conflict (`price_is_append_only`,
        `price_overlaps`)."""
        if self._state.adding:
            self.entering = True
        elif not set(kwargs.get("update_fields") or ["everything"]) <= _LIFE:
            raise append_only(_WHAT)
        refuse_overlap(self, PriceOverride.objects.filter(tenant_id=self.tenant_id, model_id=self.model_id))
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Refused: it is ended (`llm.catalog.prices.end_own_price`), which keeps it. With its model it goes."""
        raise append_only(_WHAT)


class OverrideComponents(models.QuerySet["OverrideComponent"]):
    """The parts of a price are as fixed as the price."""

    def bulk_create(self, objs: Iterable["OverrideComponent"], *args: Any, **kwargs: Any) -> list["OverrideComponent"]:
        rows = list(objs)
        for row in rows:
            row.refuse_entered()
        return super().bulk_create(rows, *args, **kwargs)

    def update(self, **values: Any) -> int:
        if self.exists():
            raise append_only(_WHAT)
        return super().update(**values)

    def delete(self) -> tuple[int, dict[str, int]]:
        if self.exists():
            raise append_only(_WHAT)
        return super().delete()


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

    objects = OverrideComponents.as_manager()

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

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Refuses to rewrite a part, or to add one later. Raises Conflict (`price_is_append_only`)."""
        self.refuse_entered()
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Refused: with its model it goes."""
        raise append_only(_WHAT)

    def refuse_entered(self) -> None:
        """Raises Conflict (`price_is_append_only`) unless the price is just being entered."""
        if not (self._state.adding and self.override.entering):
            raise append_only(_WHAT)
