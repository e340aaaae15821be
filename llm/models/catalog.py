"""Providers and models: what can be called, and where."""

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone

from billing.models import DailyUsage, UsageRecord
from llm.choices import AuthType, Dialect, HealthStatus, Kind, PowerLevel, QualityTier, SizeCategory, SpeedTier
from tenants.errors import Conflict
from tenants.tiers import Tier

PER_1K = Decimal("0.001")
# Days that may not be rolled up yet, in any time zone.
OPEN_DAYS = timedelta(days=3)


def next_number(model: type[models.Model]) -> int:
    """The next stable small integer that a row can be called by in URLs."""
    highest = model._default_manager.aggregate(highest=models.Max("number"))["highest"]
    return int(highest or 0) + 1


def valid_quirks(quirks: Any) -> None:
    if not isinstance(quirks, dict):
        raise ValidationError('Quirks are a JSON object, such as {"token_cap_field": "max_completion_tokens"}.')


class LLMProvider(models.Model):
    """One vendor's API, or one machine of ours that speaks a vendor's dialect."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    number = models.PositiveIntegerField(unique=True, editable=False)
    slug = models.CharField(
        max_length=64,
        unique=True,
        db_column="provider_slug",
        validators=[RegexValidator(r"^[a-z0-9][a-z0-9._-]*$", "Small letters, digits, dot, dash and underscore.")],
        help_text="The name before the slash in `provider/model`. Do not change it while clients use it.",
    )
    name = models.CharField(max_length=100, db_column="provider_name", help_text="The vendor's name.")
    display_name = models.CharField(max_length=100, help_text="The name shown to tenants.")
    description = models.TextField(blank=True, help_text="One sentence about what it offers.")
    base_url = models.CharField(
        max_length=500,
        validators=[RegexValidator(r"^(https?|sandbox)://\S+$", "Starts with https:// or http://.")],
        help_text="Where the dialect's paths begin, such as https://api.openai.com/v1. A private address is fine.",
    )
    dialect = models.CharField(
        max_length=16, choices=Dialect, default=Dialect.OPENAI, help_text="The API it speaks; most speak OpenAI's."
    )
    auth_type = models.CharField(
        max_length=16, choices=AuthType, default=AuthType.API_KEY, help_text="How the key travels. Never in the URL."
    )
    env_keys = models.JSONField(
        default=list,
        blank=True,
        help_text="Environment variables that may hold the platform's key; the first one set is used, never stored.",
    )
    quirks = models.JSONField(
        default=dict, blank=True, validators=[valid_quirks], help_text="How it differs from its dialect, as data."
    )
    supports_streaming = models.BooleanField(default=True, help_text="Can stream answers.")
    supports_function_calling = models.BooleanField(default=False, help_text="Can call tools.")
    supports_vision = models.BooleanField(default=False, help_text="Can read images.")
    is_active = models.BooleanField(default=True, help_text="Off: no model of it is routed to.")
    is_byok_supported = models.BooleanField(default=True, help_text="Tenants may bring their own key for it.")
    is_system_provider = models.BooleanField(
        default=False, editable=False, help_text="Shipped with Tollgate: cannot be deleted, only switched off."
    )
    api_key_format = models.CharField(
        max_length=200, blank=True, help_text="A regular expression its keys match; checked when one is added."
    )
    documentation_url = models.URLField(blank=True, max_length=500, help_text="The vendor's API reference.")
    pricing_url = models.URLField(blank=True, max_length=500, help_text="Where the vendor publishes its prices.")
    status_page_url = models.URLField(blank=True, max_length=500, help_text="Where the vendor reports incidents.")
    min_tier_required = models.CharField(
        max_length=16, choices=Tier, default=Tier.FREE, help_text="The lowest tier that may use it."
    )
    rate_limit_rpm = models.PositiveIntegerField(null=True, blank=True, help_text="Requests a minute it allows us.")
    rate_limit_tpm = models.PositiveIntegerField(null=True, blank=True, help_text="Tokens a minute it allows us.")
    rate_limit_rpd = models.PositiveIntegerField(null=True, blank=True, help_text="Requests a day it allows us.")
    health_status = models.CharField(
        max_length=10, choices=HealthStatus, default=HealthStatus.UNKNOWN, editable=False, db_index=True
    )
    health_checked_at = models.DateTimeField(null=True, editable=False)
    health_response_time_ms = models.PositiveIntegerField(null=True, editable=False)
    shipped = models.JSONField(
        default=dict, editable=False, help_text="Facts as last loaded from the catalog; what differs is staff's."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "llm_providers"
        ordering = ["slug"]
        verbose_name = "provider"

    def __str__(self) -> str:
        return self.slug

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.number is None:
            self.number = next_number(LLMProvider)
        super().save(*args, **kwargs)

    @property
    def provider_name(self) -> str:
        """The guide's name for `name`."""
        return self.name

    @property
    def provider_slug(self) -> str:
        """The guide's name for `slug`."""
        return self.slug

    @property
    def supported_features(self) -> dict[str, bool]:
        return {
            "streaming": self.supports_streaming,
            "function_calling": self.supports_function_calling,
            "vision": self.supports_vision,
        }


class LLMModels(models.QuerySet["LLMModel"]):
    """Bulk deletions keep to the same rule as single ones."""

    def delete(self) -> tuple[int, dict[str, int]]:
        for row in self:
            row.refuse_billed()
        return super().delete()


class LLMModel(models.Model):
    """One model at one provider, with what it can do. What it costs is in its price versions."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    number = models.PositiveIntegerField(unique=True, editable=False)
    provider = models.ForeignKey(LLMProvider, on_delete=models.PROTECT, related_name="models", help_text="Serves it.")
    model_id = models.CharField(
        max_length=200, help_text="The provider's own id of it, exactly as its API wants it, such as gpt-4o."
    )
    name = models.CharField(max_length=200, db_column="model_name", help_text="The model's name.")
    display_name = models.CharField(max_length=200, help_text="The name shown to tenants.")
    description = models.TextField(blank=True, help_text="One sentence about what it is good for.")
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.CHAT, help_text="Chat or embedding.")
    family = models.CharField(
        max_length=100,
        blank=True,
        help_text="The same model at several providers shares a family, which can be asked for.",
    )
    context_window = models.PositiveIntegerField(
        validators=[MinValueValidator(1)], default=128_000, help_text="Tokens of input and output together."
    )
    max_output_tokens = models.PositiveIntegerField(
        null=True, blank=True, help_text="The most tokens it can answer with. Empty: not known."
    )
    supports_streaming = models.BooleanField(default=True, help_text="Can stream its answer.")
    supports_function_calling = models.BooleanField(default=False, help_text="Can call tools.")
    supports_vision = models.BooleanField(default=False, help_text="Can read images.")
    supports_json_mode = models.BooleanField(default=False, help_text="Can be held to JSON or a JSON schema.")
    is_reasoning = models.BooleanField(
        default=False, help_text="Thinks before it answers: its default output cap is 16,384 instead of 4,096."
    )
    quirks = models.JSONField(
        default=dict, blank=True, validators=[valid_quirks], help_text="How it differs from its provider's others."
    )
    speed_tier = models.CharField(max_length=16, choices=SpeedTier, default=SpeedTier.STANDARD, help_text="How quick.")
    quality_tier = models.CharField(max_length=16, choices=QualityTier, default=QualityTier.GOOD, help_text="How good.")
    size_category = models.CharField(
        max_length=16, choices=SizeCategory, default=SizeCategory.MEDIUM, help_text="How large the model is."
    )
    power_level = models.CharField(
        max_length=16, choices=PowerLevel, default=PowerLevel.BALANCED, help_text="The power level it belongs to."
    )
    power_level_priority = models.IntegerField(default=100, help_text="Lower is tried first within its power level.")
    min_tier_required = models.CharField(
        max_length=16, choices=Tier, default=Tier.FREE, help_text="The lowest tier that may use it."
    )
    is_active = models.BooleanField(default=True, help_text="Off: requests for it are answered 404.")
    is_deprecated = models.BooleanField(default=False, help_text="Going away: routing follows its replacement.")
    deprecation_date = models.DateField(
        null=True, blank=True, help_text="When it stops. Empty on a deprecated model: it has stopped."
    )
    replacement_model = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="replaces",
        help_text="Requests for it go here once it is deprecated.",
    )
    shipped = models.JSONField(default=dict, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = LLMModels.as_manager()

    class Meta:
        db_table = "llm_models"
        ordering = ["provider__slug", "model_id"]
        verbose_name = "model"
        constraints = [models.UniqueConstraint(fields=["provider", "model_id"], name="one_model_per_provider_and_id")]
        indexes = [models.Index(fields=["power_level", "power_level_priority"], name="models_by_power")]

    def __str__(self) -> str:
        return self.reference

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.number is None:
            self.number = next_number(LLMModel)
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """With its prices and what was decided about them; refused where something was billed (`refuse_billed`)."""
        self.refuse_billed()
        return super().delete(*args, **kwargs)

    def refuse_billed(self) -> None:
        """Raises Conflict (`model_was_billed`) if there is usage of it."""
        if self.was_billed:
            raise Conflict(
                f"{self.reference} has been used: its prices explain what was billed, so it cannot be deleted. Switch "
                "it off instead: set is_active to false.",
                code="model_was_billed",
            )

    @property
    def was_billed(self) -> bool:
        """Whether there is usage of it: rolled up, or of late, or under the name that it has."""
        if DailyUsage.objects.filter(model_id=self.pk).exists():
            return True
        named = models.Q(provider_slug=self.provider.slug, model_name=self.model_id)
        late = models.Q(billing_day__gte=(timezone.now() - OPEN_DAYS).date())
        return UsageRecord.objects.filter(named | late, model_id=self.pk).exists()

    @property
    def reference(self) -> str:
        """What a client sends as `model` to pin it."""
        return f"{self.provider.slug}/{self.model_id}"

    @property
    def model_name(self) -> str:
        """The guide's name for `name`."""
        return self.name

    @property
    def capabilities(self) -> dict[str, bool]:
        return {
            "streaming": self.supports_streaming,
            "function_calling": self.supports_function_calling,
            "vision": self.supports_vision,
            "json_mode": self.supports_json_mode,
        }

    @property
    def current_price(self) -> Any:
        """The PriceVersion in force now, or None: then it is refused, never free."""
        from llm.catalog.prices import version_at  # prices imports these models

        return version_at(self)

    def _per_1k(self, meter: str) -> Decimal | None:
        version = self.current_price
        price = None if version is None else version.base_price(meter)
        return None if price is None else price * PER_1K

    @property
    def input_cost_per_1k(self) -> Decimal | None:
        """USD per 1,000 input tokens at the base tier of the price in force."""
        return self._per_1k("input")

    @property
    def output_cost_per_1k(self) -> Decimal | None:
        """USD per 1,000 output tokens at the base tier of the price in force."""
        return self._per_1k("output")
