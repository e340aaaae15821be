"""A tenant's named settings for its completions."""

import uuid
from decimal import Decimal

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from llm.models.catalog import LLMModel
from llm.models.credentials import ProviderCredential
from tenants.fields import limit_field
from tenants.models import Tenant, valid_model_list


class LLMConfig(models.Model):
    """Which models a tenant's requests use, with what defaults and within what limits. Named by `X-LLM-Config`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="configs")
    name = models.CharField(max_length=100, help_text="What `X-LLM-Config` and `config/<name>` call it.")
    is_tenant_default = models.BooleanField(
        default=False, help_text="Used by requests that name no config. One per tenant."
    )
    primary_model = models.ForeignKey(
        LLMModel, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", help_text="The model for `auto`."
    )
    fallback_model = models.ForeignKey(
        LLMModel, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", help_text="Tried when it fails."
    )
    credential = models.ForeignKey(
        ProviderCredential, on_delete=models.SET_NULL, null=True, blank=True, related_name="configs", editable=False
    )
    use_platform_key = models.BooleanField(default=True, help_text="Off: only the tenant's own provider keys are used.")
    temperature = models.DecimalField(
        max_digits=3,
        decimal_places=2,
        default=Decimal("0.7"),
        validators=[MinValueValidator(Decimal(0)), MaxValueValidator(Decimal(2))],
        help_text="Sent when a request gives none, unless the model refuses one.",
    )
    max_tokens = models.PositiveIntegerField(
        default=4096, validators=[MinValueValidator(1)], help_text="The default, and the most, an answer may have."
    )
    routing_rules = models.JSONField(
        default=dict, blank=True, help_text='A model for a task: {"code": {"model_id": "anthropic/claude-sonnet-4"}}.'
    )
    budget_limit_daily = limit_field("requests with this config may spend in one calendar day")
    budget_limit_monthly = limit_field("requests with this config may spend in one calendar month")
    allowed_models = models.JSONField(
        null=True, blank=True, validators=[valid_model_list], help_text="The models it may use. Empty: all. `[]`: none."
    )
    allow_model_fallback = models.BooleanField(
        default=False, help_text="Lets a request that names one model be answered by another when that one fails."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "llm_configs"
        ordering = ["name"]
        verbose_name = "config"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="one_config_per_name"),
            models.UniqueConstraint(
                fields=["tenant"], condition=Q(is_tenant_default=True), name="one_default_config_per_tenant"
            ),
            models.CheckConstraint(
                name="config_limits_not_negative",
                condition=(Q(budget_limit_daily__isnull=True) | Q(budget_limit_daily__gte=0))
                & (Q(budget_limit_monthly__isnull=True) | Q(budget_limit_monthly__gte=0)),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def api_key_encrypted(self) -> bytes | None:
        """The ciphertext of this config's own provider key, if it has one."""
        return None if self.credential is None else bytes(self.credential.sealed)
