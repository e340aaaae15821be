"""Who calls: tenants, their members and their API keys; and the audit log of every change."""

import uuid
import zoneinfo
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models

from tenants.fields import UsdField, limit_field
from tenants.ids import uuid7
from tenants.tiers import Tier


def valid_timezone(name: str) -> None:
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValidationError(f"“{name}” is not a time zone. Use an IANA name such as Europe/Zurich.") from error


class Scope(models.TextChoices):
    """What a key may do."""

    COMPLETIONS = "completions", "Send completions and explain routes"
    USAGE_READ = "usage:read", "Read usage, requests and limits"
    CONFIGS = "configs", "Manage configs and own provider keys"
    MANAGE = "manage", "Manage keys and members"


DEFAULT_SCOPES = [Scope.COMPLETIONS.value, Scope.USAGE_READ.value]


def default_scopes() -> list[str]:
    return list(DEFAULT_SCOPES)


def valid_scopes(scopes: Any) -> None:
    if not isinstance(scopes, list) or any(scope not in Scope.values for scope in scopes):
        raise ValidationError(f"Scopes are a list of: {', '.join(Scope.values)}.")


def valid_model_list(references: Any) -> None:
    if references is not None and (
        not isinstance(references, list) or any(not isinstance(reference, str) for reference in references)
    ):
        raise ValidationError("A list of models, each `provider/model_id`; `provider/*` allows a provider's models.")


def percent_field(help_text: str, **options: Any) -> Any:
    """A share of a price in percent, not negative."""
    return models.DecimalField(
        max_digits=7, decimal_places=4, validators=[MinValueValidator(Decimal(0))], help_text=help_text, **options
    )


class TierTerms(models.Model):
    """What tenants of one tier owe unless they have terms of their own. Tiers without a row add nothing."""

    tier = models.CharField(primary_key=True, max_length=16, choices=Tier, help_text="Whose terms these are.")
    markup_percent = percent_field(
        "Added to the provider's price for what a tenant of this tier owes (platform keys only). 10 is ten percent. "
        "A tenant's own markup wins.",
        default=Decimal(0),
    )
    byok_fee_percent = percent_field(
        "The fee for requests with a tenant's own provider key, in percent of the provider's price. "
        "A tenant's own fee wins.",
        default=Decimal(0),
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "tier_terms"
        verbose_name = "tier's terms"
        verbose_name_plural = "terms of tiers"
        constraints = [
            models.CheckConstraint(
                name="tier_markup_not_negative", condition=models.Q(markup_percent__gte=0, byok_fee_percent__gte=0)
            ),
        ]

    def __str__(self) -> str:
        return self.get_tier_display()


class Tenant(models.Model):
    """One customer of the gateway. Every key, config, budget and usage row belongs to one."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.SlugField(max_length=64, unique=True, help_text="The short name in URLs and reports, such as `acme`.")
    name = models.CharField(max_length=200, help_text="The name people read.")
    tier = models.CharField(
        max_length=16,
        choices=Tier,
        default=Tier.FREE,
        help_text="Decides which providers and models may be used: each names the lowest tier that may.",
    )
    timezone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[valid_timezone],
        help_text="Days and months of budgets and statements are calendar days in this time zone (an IANA name).",
    )
    budget_limit_daily = limit_field("this tenant may spend in one calendar day")
    budget_limit_monthly = limit_field("this tenant may spend in one calendar month")
    markup_percent = percent_field(
        "Added to the provider's price for what the tenant owes (platform keys only). 10 is ten percent. "
        "Empty: as its tier has it. 0: nothing, whatever the tier has.",
        null=True,
        blank=True,
    )
    byok_fee_percent = percent_field(
        "The fee for requests with the tenant's own provider key, in percent of the provider's price. "
        "Empty: as its tier has it.",
        null=True,
        blank=True,
    )
    prepaid = models.BooleanField(
        default=False,
        help_text="Requests are paid from credits granted before: one that what is left does not cover is refused.",
    )
    sandbox_enabled = models.BooleanField(
        default=False, help_text="Lets the built-in sandbox answer when it is named or when nothing else can."
    )
    allow_model_fallback = models.BooleanField(
        default=False, help_text="Lets a request that names one model be answered by another when that one fails."
    )
    is_active = models.BooleanField(
        default=True, help_text="Off suspends the tenant: every request is refused within a second."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "tenants"
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(
                name="tenant_limits_not_negative",
                condition=(models.Q(budget_limit_daily__isnull=True) | models.Q(budget_limit_daily__gte=0))
                & (models.Q(budget_limit_monthly__isnull=True) | models.Q(budget_limit_monthly__gte=0)),
            ),
            models.CheckConstraint(
                name="tenant_markup_not_negative",
                condition=models.Q(markup_percent__gte=0, byok_fee_percent__gte=0),
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class Membership(models.Model):
    """A person's place in a tenant."""

    class Role(models.TextChoices):
        OWNER = "owner", "Owner"
        ADMIN = "admin", "Admin"
        DEVELOPER = "developer", "Developer"
        VIEWER = "viewer", "Viewer"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role, default=Role.DEVELOPER, help_text="What the member may do.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "tenant_memberships"
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="one_membership_per_user")]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"


class ApiKey(models.Model):
    """A key to Tollgate's own API: a tenant's, or (with no tenant) a staff member's. Only its HMAC is stored."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="keys",
        help_text="Whose key it is. Empty: a staff key, for `/api/v1/admin/` only.",
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="api_keys",
        help_text="The member it was made for: usage is counted for them. A staff key acts with its owner's rights.",
    )
    name = models.CharField(max_length=100, help_text="What it is for, such as `nightly batch`.")
    prefix = models.CharField(max_length=16, editable=False)
    last_four = models.CharField(max_length=4, editable=False)
    # Unique: the one query of authentication looks a key up by its full digest.
    digest = models.CharField(max_length=64, unique=True, editable=False)
    pepper_id = models.CharField(max_length=32, editable=False)
    scopes = models.JSONField(default=default_scopes, validators=[valid_scopes], help_text="What the key may do.")
    allowed_models = models.JSONField(
        null=True,
        blank=True,
        validators=[valid_model_list],
        help_text='The models it may use, as `["openai/gpt-4o", "anthropic/*"]`. Empty: all. `[]`: none.',
    )
    budget_limit_daily = limit_field("this key may spend in one calendar day of its tenant")
    budget_limit_monthly = limit_field("this key may spend in one calendar month of its tenant")
    rate_limit_rpm = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests per minute. Empty: no limit."
    )
    rate_limit_tpm = models.PositiveIntegerField(
        null=True, blank=True, help_text="Tokens per minute, estimated when a request comes in. Empty: no limit."
    )
    max_concurrency = models.PositiveIntegerField(default=1000, help_text="Requests under way at once.")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="From this moment it is refused. Empty: never.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    replaced_by = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "api_keys"
        ordering = ["-created_at"]
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(
                name="key_limits_not_negative",
                condition=(models.Q(budget_limit_daily__isnull=True) | models.Q(budget_limit_daily__gte=0))
                & (models.Q(budget_limit_monthly__isnull=True) | models.Q(budget_limit_monthly__gte=0)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.masked})"

    @property
    def masked(self) -> str:
        """What may be shown of a key for ever: its beginning and its last four characters."""
        return f"{self.prefix}…{self.last_four}"


class AuditEvent(models.Model):
    """One change by a person, a key or a job: what it was before and after, why and from where. Never edited."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    at = models.DateTimeField(help_text="When it happened.")
    actor_kind = models.CharField(max_length=8, help_text="`user`, `key` or `system`.")
    actor_id = models.CharField(max_length=64, blank=True)
    actor_label = models.CharField(max_length=200, help_text="The actor's name as it was then.")
    tenant_id = models.UUIDField(null=True, blank=True, help_text="Whose row it was, if a tenant's.")
    action = models.CharField(max_length=32, help_text="`create`, `update`, `delete`, or a verb such as `deprecate`.")
    object_type = models.CharField(max_length=64)
    object_id = models.CharField(max_length=64)
    object_label = models.CharField(max_length=200)
    before = models.JSONField(default=dict, help_text="The changed fields as they were.")
    after = models.JSONField(default=dict, help_text="The changed fields as they became.")
    reason = models.TextField(blank=True)
    ip = models.GenericIPAddressField(null=True, blank=True)
    request_id = models.CharField(max_length=64, blank=True)

    class Meta:
        db_table = "audit_events"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["object_type", "object_id", "-at"], name="audit_history_of_one_object"),
            models.Index(fields=["tenant_id", "-at"], name="audit_of_one_tenant"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_label}"


__all__ = ["ApiKey", "AuditEvent", "Membership", "Scope", "Tenant", "TierTerms", "UsdField"]
