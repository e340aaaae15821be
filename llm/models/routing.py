"""How a model is chosen when a request does not name one: power levels and rules. And what was refused."""

import uuid
from decimal import Decimal

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from llm.choices import PowerLevel, RuleTier, TaskType
from llm.models.catalog import LLMModel
from tenants.fields import UsdField
from tenants.ids import uuid7


class PowerLevelPolicy(models.Model):
    """What a power level promises: how dear a model may be, how long it may take, whether another may step in."""

    power_level = models.CharField(primary_key=True, max_length=16, choices=PowerLevel)
    max_price_per_1m_usd = UsdField(
        validators=[MinValueValidator(Decimal(0))],
        help_text="The most a model may cost: (3 x input + output) / 4 of its base price, USD per million tokens.",
    )
    max_latency_ms = models.PositiveIntegerField(
        help_text="Median time to first token above this is a penalty in the ranking, named in the decision."
    )
    allow_fallback = models.BooleanField(help_text="Whether another model may answer when the chosen one fails.")
    prefer_cached = models.BooleanField(help_text="Between equals, prefer models with a cheaper cached-input price.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "llm_power_levels"
        verbose_name = "power level"

    def __str__(self) -> str:
        return self.power_level


class LLMRoutingRule(models.Model):
    """For one power level, tier and task: use this model. Lower priority first; equals share by weight."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(LLMModel, on_delete=models.CASCADE, related_name="rules", help_text="The model to use.")
    power_level = models.CharField(max_length=16, choices=PowerLevel, help_text="The power level it serves.")
    user_tier = models.CharField(
        max_length=16, choices=RuleTier, default=RuleTier.ALL, help_text="The tenants it is for: one tier, or all."
    )
    task_type = models.CharField(
        max_length=16,
        choices=TaskType,
        null=True,
        blank=True,
        help_text="The task it is for. `general` serves tasks without a rule of their own; empty serves what is left.",
    )
    priority = models.IntegerField(default=100, help_text="Lower is tried first.")
    weight = models.PositiveIntegerField(default=100, help_text="Its share among equals. 0: never first.")
    min_tokens = models.PositiveIntegerField(null=True, blank=True, help_text="Only from so many estimated tokens on.")
    max_tokens = models.PositiveIntegerField(null=True, blank=True, help_text="Only up to this many estimated tokens.")
    requires_byok = models.BooleanField(default=False, help_text="Only with the tenant's own provider key.")
    is_fallback = models.BooleanField(default=False, help_text="Not a first choice: tried when the chosen one fails.")
    fallback_order = models.IntegerField(default=0, help_text="Lower is tried first among fallbacks.")
    is_active = models.BooleanField(default=True, help_text="Off: as if it were not there.")
    shipped = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "llm_routing_rules"
        ordering = ["power_level", "priority"]
        verbose_name = "routing rule"
        indexes = [models.Index(fields=["power_level", "user_tier", "priority"], name="rules_by_power_and_tier")]
        constraints = [
            models.CheckConstraint(
                name="rule_tokens_ordered",
                condition=Q(min_tokens__isnull=True) | Q(max_tokens__isnull=True) | Q(max_tokens__gte=F("min_tokens")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.power_level}, {self.user_tier}, {self.task_type or 'any task'}: {self.model}"


class RouteRefusal(models.Model):
    """A request that was never accepted, with its decision: readable like usage, never counted as usage. Bounded."""

    id = models.UUIDField(primary_key=True, default=uuid7, help_text="The request id.")
    tenant_id = models.UUIDField()
    key_id = models.UUIDField(null=True)
    model = models.CharField(max_length=300, blank=True, help_text="What the request asked for.")
    status_code = models.SmallIntegerField()
    code = models.CharField(max_length=64)
    message = models.TextField()
    decision = models.JSONField(default=dict)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "llm_route_refusals"
        ordering = ["-id"]
        indexes = [models.Index(fields=["tenant_id", "-id"], name="refusals_of_tenant_newest")]

    def __str__(self) -> str:
        return f"{self.code} {self.id}"
