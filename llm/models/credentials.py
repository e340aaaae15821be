"""Provider keys: the platform's own, and tenants' (BYOK). Encrypted, write-only."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from llm.fields import SealedField, Secret
from llm.models.catalog import LLMProvider
from tenants.models import Tenant


class ProviderCredential(models.Model):
    """One key to one provider. Without a tenant it is the platform's; with one it is that tenant's own (BYOK)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.ForeignKey(LLMProvider, on_delete=models.CASCADE, related_name="credentials")
    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="provider_credentials"
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="provider_credentials"
    )
    key_name = models.CharField(max_length=100, help_text="What people call it.")
    sealed = SealedField(editable=False)
    prefix = models.CharField(max_length=8, blank=True, editable=False)
    suffix = models.CharField(max_length=4, blank=True, editable=False)
    fingerprint = models.CharField(max_length=64, blank=True, editable=False, help_text="Tells two keys apart.")
    weight = models.PositiveIntegerField(default=100, help_text="The share of requests among a provider's keys.")
    is_active = models.BooleanField(default=True, help_text="Off: never used.")
    is_validated = models.BooleanField(default=False, editable=False, help_text="The provider accepted it.")
    validation_error = models.TextField(blank=True, editable=False)
    last_validated_at = models.DateTimeField(null=True, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)
    last_rotated_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "llm_provider_credentials"
        ordering = ["provider__slug", "key_name"]
        verbose_name = "provider key"
        constraints = [
            models.UniqueConstraint(fields=["provider", "tenant", "key_name"], name="one_byok_key_per_name"),
            models.UniqueConstraint(
                fields=["provider", "key_name"], condition=Q(tenant__isnull=True), name="one_platform_key_per_name"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key_name} ({self.masked})"

    @property
    def masked(self) -> str:
        """What may be shown of it."""
        return f"{self.prefix}…{self.suffix}"

    @property
    def binding(self) -> bytes:
        """Whom the ciphertext is bound to: it opens in this row of this tenant only."""
        return f"llm_provider_credentials:{self.pk}:{self.tenant_id or 'platform'}:{self.provider_id}:sealed".encode()

    def put(self, secret: Secret) -> None:
        """Encrypt `secret` into this row (unsaved) and keep what may be shown of it."""
        self.sealed = SealedField.seal(secret, self.binding)
        self.prefix, self.suffix, self.fingerprint = secret.prefix, secret.suffix, secret.fingerprint

    def open(self) -> Secret:
        """The key itself. Raises llm.fields.CannotDecrypt."""
        return SealedField.open(self.sealed, self.binding)
