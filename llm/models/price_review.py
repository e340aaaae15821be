"""Prices under review: proposals that wait for a second person, the band that needs none, and what is left undone."""

import uuid
from decimal import Decimal

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from llm.choices import PriceTaskKind, PriceTaskState, ProposalState
from llm.models.catalog import LLMModel
from llm.models.prices import PriceVersion
from tenants.fields import UsdField
from tenants.ids import uuid7
from tenants.models import Tenant


class PriceProposal(models.Model):
    """A price that somebody, or the feed, wants for a model, what it would change, and what became of it.

    The price itself is a `PriceVersion` with the status `proposed`; approval gives it its place in the price book. Or
    it is about a `tenant`'s own price: what is `wanted` is then kept here, and approval sets or ends one.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    model = models.ForeignKey(LLMModel, on_delete=models.CASCADE, related_name="price_proposals")
    version = models.OneToOneField(
        PriceVersion, on_delete=models.CASCADE, null=True, related_name="proposal", help_text="The proposed price."
    )
    tenant = models.ForeignKey(
        Tenant, on_delete=models.PROTECT, null=True, related_name="price_proposals", help_text="Whose own price it is."
    )
    wanted = models.JSONField(
        null=True,
        help_text="Of an own price: components, effective_from, effective_to, reason; or which one it `ends`.",
    )
    base = models.ForeignKey(
        PriceVersion, on_delete=models.CASCADE, null=True, related_name="+", help_text="The price it was compared with."
    )
    source = models.CharField(max_length=32, help_text="`feed`, `staff`, `import`.")
    source_version = models.CharField(max_length=64, blank=True, help_text="Which feed, in which version.")
    digest = models.CharField(max_length=64, blank=True, help_text="Of what the feed says, to know it again.")
    state = models.CharField(max_length=10, choices=ProposalState, default=ProposalState.PENDING)
    is_informational = models.BooleanField(
        default=False, help_text="The price in force was set by staff: the feed only says that it thinks otherwise."
    )
    batch = models.UUIDField(null=True, help_text="The same for all that were proposed together.")
    changes = models.JSONField(default=list, help_text="Old, new and percent of each meter; USD per million.")
    largest_percent = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, help_text="The largest change of a meter. Empty: the first price."
    )
    impact = models.JSONField(null=True, help_text="The last 30 days' traffic at the new price, in all and by tenant.")
    impact_usd = UsdField(null=True, help_text="What those 30 days would have cost more, or less, in USD.")
    note = models.TextField(blank=True, help_text="What the reviewer should know.")
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    proposer = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    decider = models.CharField(max_length=200, blank=True)
    decided_at = models.DateTimeField(null=True)
    decision_reason = models.TextField(blank=True)

    class Meta:
        db_table = "llm_price_proposals"
        ordering = ["-id"]
        verbose_name = "price proposal"
        permissions = [("approve_prices", "Can approve and reject prices")]
        # The review queue, and the newest word of the feed on one model.
        indexes = [
            models.Index(fields=["state", "-id"], name="proposals_by_state"),
            models.Index(fields=["model", "source", "-id"], name="proposals_of_model"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "source"],
                condition=Q(state="pending", tenant__isnull=True),
                name="one_pending_proposal_per_source",
            ),
            models.UniqueConstraint(
                fields=["model", "tenant"], condition=Q(state="pending"), name="one_pending_proposal_per_tenant"
            ),
            models.CheckConstraint(
                name="proposal_of_list_or_own_price",
                condition=Q(version__isnull=False, tenant__isnull=True, wanted__isnull=True)
                | Q(version__isnull=True, tenant__isnull=False, wanted__isnull=False),
            ),
            models.CheckConstraint(
                name="proposal_decided_or_not",
                condition=Q(state="pending", decided_at__isnull=True)
                | (~Q(state="pending") & Q(decided_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="information_is_not_approved", condition=Q(is_informational=False) | ~Q(state="approved")
            ),
            models.CheckConstraint(
                name="proposer_does_not_approve",
                condition=~Q(state="approved")
                | Q(proposed_by__isnull=True)
                | Q(decided_by__isnull=True)
                | ~Q(proposed_by=F("decided_by")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model}: {self.called} by {self.proposer}"

    @property
    def called(self) -> str:
        """Such as `v3`, `own price of acme`, `end of acme's own price`."""
        if self.tenant is None or self.wanted is None:
            return "" if self.version is None else f"v{self.version.number}"
        return f"end of {self.tenant}'s own price" if self.wanted["ends"] else f"own price of {self.tenant}"

    @property
    def why(self) -> str:
        """The reason that its proposer gave."""
        return str((self.wanted or {}).get("reason", "")) if self.version is None else self.version.reason


def percent_field(help_text: str) -> "models.DecimalField[Decimal | None, Decimal | None]":
    bounds = [MinValueValidator(Decimal(0)), MaxValueValidator(Decimal(400))]
    return models.DecimalField(
        max_digits=5, decimal_places=2, null=True, blank=True, validators=bounds, help_text=help_text
    )


class PricePolicy(models.Model):
    """How prices are watched over: one row. Off by default: each proposal waits for a person."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    auto_approve_up_percent = percent_field(
        "A proposal of the feed is approved by itself if no meter rises by more than this. Empty: none that rises."
    )
    auto_approve_down_percent = percent_field(
        "A proposal of the feed is approved by itself if no meter falls by more than this. Empty: none that falls."
    )
    stale_after_days = models.PositiveSmallIntegerField(
        default=30,
        validators=[MinValueValidator(1)],
        help_text="A price that neither the feed nor a person confirmed for so many days is put in the price queue.",
    )
    task_owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        limit_choices_to={"is_staff": True, "is_active": True},
        help_text="Who looks after what joins the price queue, until somebody else takes it. Empty: nobody.",
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "llm_price_policy"
        verbose_name = "price policy"
        verbose_name_plural = "price policy"
        constraints = [models.CheckConstraint(name="one_price_policy", condition=Q(id=1))]

    def __str__(self) -> str:
        return "Price policy"


class PriceTask(models.Model):
    """A model whose price somebody should look after: used but unpriced, or not confirmed for long."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=10, choices=PriceTaskKind)
    model = models.ForeignKey(LLMModel, on_delete=models.CASCADE, related_name="price_tasks")
    state = models.CharField(
        max_length=12,
        choices=PriceTaskState,
        default=PriceTaskState.OPEN,
        help_text="Done comes by itself when the price is there or confirmed. Ignored: it is left alone.",
    )
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        limit_choices_to={"is_staff": True},
        help_text="Who looks after it.",
    )
    note = models.TextField(blank=True, help_text="What was found out so far.")
    requests = models.PositiveIntegerField(
        default=0,
        help_text="Unpriced: requests of 30 days refused for want of its price, and of the newest 2,000 requests those "
        "that another model answered instead. Stale: requests of 30 days.",
    )
    opened_at = models.DateTimeField(help_text="When it came up.")
    seen_at = models.DateTimeField(help_text="When it was last found still so.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "llm_price_tasks"
        ordering = ["-opened_at"]
        verbose_name = "price task"
        verbose_name_plural = "price queue"
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "model"], condition=~Q(state="done"), name="one_open_task_per_kind_and_model"
            )
        ]

    def __str__(self) -> str:
        return f"{self.model}: {self.get_kind_display().lower()}"
