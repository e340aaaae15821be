"""What models cost, through time. Append-only: a price that was approved is superseded, never edited."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.validators import MinValueValidator
from django.db import connection, models
from django.db.models import F, Q

from llm.choices import Meter, PriceStatus, ServiceTier
from llm.models.catalog import LLMModel
from tenants.errors import Conflict
from tenants.fields import UsdField

PER_MILLION = 1_000_000
# Decided: in force once, now, or from its date on. Which of them is decided by its interval alone.
IN_THE_BOOK = (PriceStatus.APPROVED, PriceStatus.ACTIVE, PriceStatus.SUPERSEDED)
UNDECIDED = (PriceStatus.DRAFT, PriceStatus.PROPOSED)
# What may change of a decided price: where it stands and when it ends, never what it says.
LIFE = frozenset({"status", "effective_to", "confirmed_at"})


def append_only(what: str) -> Conflict:
    return Conflict(
        f"{what} cannot be changed: what was billed with it must stay explained. Set a new price instead.",
        code="price_is_append_only",
    )


def refuse_overlap(row: Any, others: "models.QuerySet[Any]") -> None:
    """Raises Conflict (`price_overlaps`) if a row would be in force together with one of the others. PostgreSQL has a
    constraint that does it whatever writes; where there is none it is looked for before a row is saved."""
    if connection.vendor == "postgresql" or row.effective_to == row.effective_from:
        return
    open_end = Q(effective_to__isnull=True) | Q(effective_to__gt=row.effective_from)
    found = others.exclude(pk=row.pk).exclude(effective_to=F("effective_from")).filter(open_end)
    if row.effective_to is not None:
        found = found.filter(effective_from__lt=row.effective_to)
    other = found.first()
    if other is not None:
        raise Conflict(
            f"{row} would be in force together with {other}. Set prices with llm.catalog.prices, which ends the one "
            "before.",
            code="price_overlaps",
        )


class PriceVersions(models.QuerySet["PriceVersion"]):
    """Bulk changes keep to the same rule as single ones."""

    def update(self, **values: Any) -> int:
        if not values.keys() <= LIFE and self.exclude(status__in=UNDECIDED).exists():
            raise append_only("A price that was approved")
        return super().update(**values)

    def delete(self) -> tuple[int, dict[str, int]]:
        if self.exclude(status__in=UNDECIDED).exists():
            raise append_only("A price that was approved")
        return super().delete()


class PriceVersion(models.Model):
    """One price of one model, from one moment to another."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(LLMModel, on_delete=models.CASCADE, related_name="price_versions")
    number = models.PositiveIntegerField(help_text="Counts the prices of this model.")
    status = models.CharField(max_length=12, choices=PriceStatus, default=PriceStatus.ACTIVE)
    effective_from = models.DateTimeField(help_text="In force from this moment on. Of a proposal: the wished moment.")
    effective_to = models.DateTimeField(null=True, blank=True, help_text="Until, excluded. Empty: still in force.")
    recorded_at = models.DateTimeField(help_text="When it was entered.")
    source = models.CharField(max_length=32, help_text="`catalog`, `staff`, `feed`, `import`.")
    reason = models.TextField(blank=True, help_text="Why it changed.")
    author = models.CharField(max_length=200, help_text="Who entered it.")
    confirmed_at = models.DateTimeField(
        null=True, blank=True, help_text="When the feed, or a person who looked, last agreed with it."
    )
    # Parts are added to the very object that entered the price, never to one that was read.
    entering = False

    objects = PriceVersions.as_manager()

    class Meta:
        db_table = "llm_price_versions"
        verbose_name_plural = "price book"
        ordering = ["-effective_from"]
        # On PostgreSQL an exclusion constraint, `one_price_at_a_time`, forbids overlaps too: see the migration
        # 0005_price_review. SQLite has none; there `save` looks, under the lock on the model's row in `price_book`.
        constraints = [
            models.UniqueConstraint(fields=["model", "number"], name="one_price_version_per_number"),
            models.CheckConstraint(
                name="price_ends_after_it_starts",
                condition=Q(effective_to__isnull=True) | Q(effective_to__gte=F("effective_from")),
            ),
            # Of prices without an end there is one: two open ends overlap whatever their beginnings.
            models.UniqueConstraint(
                fields=["model"],
                condition=Q(effective_to__isnull=True, status__in=IN_THE_BOOK),
                name="one_open_price_per_model",
            ),
        ]

    def __str__(self) -> str:
        return f"v{self.number} from {self.effective_from:%Y-%m-%d %H:%M}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Refuses what would rewrite a decided price, or overlap one.

        Raises Conflict (`price_is_append_only`, `price_overlaps`).
        """
        written = set(kwargs.get("update_fields") or ["everything"])
        if self._state.adding:
            self.entering = True
        elif not written <= LIFE:
            self._refuse_decided()
        if self.status in IN_THE_BOOK:
            refuse_overlap(self, PriceVersion.objects.filter(model_id=self.model_id, status__in=IN_THE_BOOK))
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Refuses to delete a decided price; with its model it goes, as everything of the model."""
        self._refuse_decided()
        return super().delete(*args, **kwargs)

    def _refuse_decided(self) -> None:
        """By the status that is stored: the one in memory may be about to change."""
        if PriceVersion.objects.filter(pk=self.pk).exclude(status__in=UNDECIDED).exists():
            raise append_only(f"Price v{self.number}")

    def status_at(self, now: datetime) -> PriceStatus:
        """Where it stands now: the stored status of a decided price is brought up to date by a job, later."""
        if self.status not in IN_THE_BOOK:
            return PriceStatus(self.status)
        if self.effective_from > now:
            return PriceStatus.APPROVED
        ended = self.effective_to is not None and self.effective_to <= now
        return PriceStatus.SUPERSEDED if ended else PriceStatus.ACTIVE

    def base_price(self, meter: str) -> Decimal | None:
        """USD per million of `meter` below every context threshold, for standard service."""
        for component in self.components.all():
            if component.key == (meter, 0, ServiceTier.STANDARD):
                price: Decimal = component.unit_price_usd * PER_MILLION / component.unit_quantity
                return price
        return None


class PriceComponents(models.QuerySet["PriceComponent"]):
    """The parts of a decided price are as fixed as the price."""

    def bulk_create(self, objs: Iterable["PriceComponent"], *args: Any, **kwargs: Any) -> list["PriceComponent"]:
        rows = list(objs)
        for row in rows:
            row.refuse_decided()
        return super().bulk_create(rows, *args, **kwargs)

    def update(self, **values: Any) -> int:
        self._refuse()
        return super().update(**values)

    def delete(self) -> tuple[int, dict[str, int]]:
        self._refuse()
        return super().delete()

    def _refuse(self) -> None:
        if self.exclude(version__status__in=UNDECIDED).exists():
            raise append_only("A price that was approved")


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
    service_tier = models.CharField(
        max_length=8,
        choices=ServiceTier,
        default=ServiceTier.STANDARD,
        help_text="The provider's service it is for. Requests may ask for flex and priority; batch is kept and shown.",
    )

    objects = PriceComponents.as_manager()

    class Meta:
        db_table = "llm_price_components"
        ordering = ["service_tier", "above_tokens", "meter"]
        constraints = [
            models.UniqueConstraint(
                fields=["version", "meter", "above_tokens", "service_tier"], name="one_price_per_meter_and_tiers"
            ),
            models.CheckConstraint(name="price_not_negative", condition=Q(unit_price_usd__gte=0)),
            models.CheckConstraint(name="price_quantity_positive", condition=Q(unit_quantity__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.meter}: ${self.unit_price_usd.normalize():f} per {self.unit_quantity:,}"

    @property
    def key(self) -> tuple[str, int, str]:
        """What it is the price of: (meter, above so many prompt tokens, service tier)."""
        return self.meter, self.above_tokens, self.service_tier

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Refuses to rewrite a part of a decided price, or to add one to it; parts come when the price is entered."""
        self.refuse_decided()
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Refuses to take a part from a decided price."""
        self.refuse_decided()
        return super().delete(*args, **kwargs)

    def refuse_decided(self) -> None:
        """Raises Conflict (`price_is_append_only`) unless the price is not decided, or just being entered."""
        if self.version.status not in UNDECIDED and not (self._state.adding and self.version.entering):
            raise append_only(f"Price v{self.version.number}")
