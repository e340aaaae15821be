"""The rows of prepaid credit: what was given, corrected and has expired. What requests drew is in their usage rows."""

from decimal import Decimal

from django.db import models
from django.db.models import F, Q

from tenants.fields import UsdField
from tenants.ids import uuid7
from tenants.models import Tenant


class CreditEntry(models.Model):
    """One change of a tenant's prepaid credit other than a request: written once, never changed.

    The balance is the sum of a tenant's entries less what its prepaid requests and their adjustments were billed.
    """

    class Kind(models.TextChoices):
        GRANT = "grant", "Grant"
        CORRECTION = "correction", "Correction"
        EXPIRY = "expiry", "Expired"

    class Source(models.TextChoices):
        PURCHASE = "purchase", "Paid for"
        PROMOTION = "promotion", "Promotion"
        GOODWILL = "goodwill", "Goodwill"
        OTHER = "other", "Other"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="credit_entries")
    number = models.PositiveIntegerField(help_text="Counts the entries of this tenant: the order in which they hold.")
    kind = models.CharField(max_length=10, choices=Kind)
    amount = UsdField(help_text="USD, signed: what it adds to the balance.")
    grant = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="changes",
        help_text="Of a correction or an expiry: the grant it is about.",
    )
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="From this moment on what is left of the grant is gone. Empty: never."
    )
    source = models.CharField(max_length=10, choices=Source, blank=True, help_text="Where a grant comes from.")
    reason = models.TextField(help_text="Why; the tenant can read it.")
    author = models.CharField(max_length=200)
    spent_then = UsdField(help_text="What the tenant's requests had drawn in all when this was written.")
    created_at = models.DateTimeField()

    class Meta:
        db_table = "billing_credit_entries"
        ordering = ["-id"]
        verbose_name = "credit entry"
        verbose_name_plural = "credit entries"
        constraints = [
            # Whoever writes one holds the tenant's credit window; this says so should somebody not.
            models.UniqueConstraint(fields=["tenant", "number"], name="one_credit_entry_per_number"),
            models.CheckConstraint(
                name="credit_entry_makes_sense",
                condition=Q(kind="grant", amount__gt=Decimal(0), grant__isnull=True)
                | Q(kind="correction", grant__isnull=False, expires_at__isnull=True)
                | Q(kind="expiry", amount__lte=Decimal(0), grant__isnull=False, expires_at__isnull=True),
            ),
            models.CheckConstraint(
                name="credit_expires_after_it_is_given",
                condition=Q(expires_at__isnull=True) | Q(expires_at__gt=F("created_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.number}: {self.amount.normalize():f} USD"
