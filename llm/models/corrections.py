"""A wrong price found later: what a run would correct, of which requests, and what became of it."""

from decimal import Decimal

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from llm.choices import CorrectionState
from tenants.fields import UsdField
from tenants.ids import uuid7

ZERO = Decimal(0)


class CorrectionRun(models.Model):
    """Requests of one model, accepted between two moments, at the price that would have been right.

    It only proposes. Approved by a second person it books an `Adjustment` for each request it changes, which bears its
    id (`correction_id`). Like usage it keeps plain ids and names: a model that goes does not take it along.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    model_id = models.UUIDField(help_text="The model whose price was wrong.")
    provider_slug = models.CharField(max_length=64)
    model_name = models.CharField(max_length=200)
    price_version_id = models.UUIDField(null=True, help_text="Only what was priced with this version. Empty: with any.")
    price_version_number = models.PositiveIntegerField(null=True)
    components = models.JSONField(help_text="The right price: USD per million of each meter.")
    since = models.DateTimeField(help_text="Requests accepted from this moment on.")
    until = models.DateTimeField(help_text="Until, excluded.")
    reason = models.TextField(help_text="Why; the tenants can read it with each adjustment.")
    state = models.CharField(max_length=9, choices=CorrectionState, default=CorrectionState.WORKING)
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    proposer = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    # What was worked out, and how far that is.
    reached_at = models.DateTimeField(null=True, help_text="Worked out up to a request accepted at this moment...")
    reached_id = models.UUIDField(null=True, help_text="... and this one of those.")
    requests = models.PositiveBigIntegerField(default=0, help_text="Requests looked at.")
    affected = models.PositiveBigIntegerField(default=0, help_text="Requests that would be corrected.")
    adjusted = models.PositiveBigIntegerField(default=0, help_text="Of those: had been adjusted before.")
    no_lines = models.PositiveBigIntegerField(
        default=0, help_text="Left alone: without price lines (swept after a crash, or booked by other code)."
    )
    no_meter = models.PositiveBigIntegerField(
        default=0, help_text="Left alone: the right price has none for a meter that was used."
    )
    no_terms = models.PositiveBigIntegerField(
        default=0, help_text="Left alone: their terms do not say how they were billed."
    )
    cost_usd = UsdField(default=ZERO, help_text="Change of the providers' list price.")
    billed_usd = UsdField(default=ZERO, help_text="Change of what tenants owe.")
    budget_usd = UsdField(default=ZERO, help_text="Change of what counts against budgets.")
    tenants = models.JSONField(default=list, help_text="The same by tenant.")
    # What was decided, and how far that is booked.
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    decider = models.CharField(max_length=200, blank=True)
    decided_at = models.DateTimeField(null=True)
    decision_reason = models.TextField(blank=True)
    booked_to = models.UUIDField(null=True, help_text="Booked up to this request.")
    booked = models.PositiveBigIntegerField(default=0, help_text="Adjustments made.")
    passed_over = models.PositiveBigIntegerField(
        default=0, help_text="Left alone: corrected by somebody else between the approval and the booking."
    )
    booked_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "llm_correction_runs"
        ordering = ["-id"]
        verbose_name = "correction run"
        # What waits for somebody, or for the job.
        indexes = [models.Index(fields=["state", "-id"], name="corrections_by_state")]
        constraints = [
            models.CheckConstraint(name="correction_ends_after_it_starts", condition=Q(until__gt=F("since"))),
            models.CheckConstraint(
                name="corrector_does_not_approve",
                condition=~Q(state__in=["approved", "booked"])
                | Q(proposed_by__isnull=True)
                | Q(decided_by__isnull=True)
                | ~Q(proposed_by=F("decided_by")),
            ),
            # Two that are booked at once would each correct the same request.
            models.UniqueConstraint(
                fields=["model_id"], condition=Q(state="approved"), name="one_correction_of_a_model_at_a_time"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reference}, {self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M}"

    @property
    def reference(self) -> str:
        """`provider/model_id`, as it was called when the run was made."""
        return f"{self.provider_slug}/{self.model_name}"

    @property
    def left_alone(self) -> int:
        """Requests that cannot be priced again."""
        return self.no_lines + self.no_meter + self.no_terms


class CorrectionItem(models.Model):
    """What a run would correct of one request. Kept, so that what is approved is what was shown."""

    id = models.BigAutoField(primary_key=True)
    # Found by the unique constraint, in the order in which they are booked.
    run = models.ForeignKey(CorrectionRun, on_delete=models.CASCADE, related_name="items", db_index=False)
    request_id = models.UUIDField()
    tenant_id = models.UUIDField()
    cost_usd = UsdField()
    billed_usd = UsdField()
    budget_usd = UsdField()
    adjustments = models.PositiveIntegerField(help_text="How many adjustments it had when this was worked out.")

    class Meta:
        db_table = "llm_correction_items"
        constraints = [models.UniqueConstraint(fields=["run", "request_id"], name="one_item_per_request_and_run")]

    def __str__(self) -> str:
        return str(self.request_id)
