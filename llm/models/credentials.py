"""Provider keys: the platform's own, and tenants' (BYOK). Encrypted, write-only."""

import uuid
from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q

from llm.fields import CannotDecrypt, SealedField, Secret
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
    last_rotated_at = models.DateTimeField(null=True, editable=False)
    previous_sealed = SealedField(null=True, editable=False)
    previous_until = models.DateTimeField(
        null=True, editable=False, help_text="Until then the secret before it comes back if this one is refused."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    last_used_at: datetime | None = None  # no column: `credentials.with_last_use` reads it off the requests

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

    def put(self, secret: Secret) -> None:
        """Encrypt `secret` into this row (unsaved) and keep what may be shown of it."""
        self.sealed = self._seal(secret, "sealed")
        self.prefix, self.suffix, self.fingerprint = secret.prefix, secret.suffix, secret.fingerprint

    def put_previous(self, secret: Secret, *, until: datetime) -> None:
        """Keep (unsaved) the secret before this one, to come back to."""
        self.previous_sealed, self.previous_until = self._seal(secret, "previous_sealed"), until

    def forget_previous(self) -> None:
        """Drop it (unsaved)."""
        self.previous_sealed = self.previous_until = None

    def open(self) -> Secret:
        """The key itself. Raises llm.fields.CannotDecrypt."""
        return SealedField.open(self.sealed, self._binding("sealed"))

    def open_previous(self) -> Secret | None:
        """The one before it, while it is kept. Raises llm.fields.CannotDecrypt."""
        kept = self.previous_sealed
        return None if kept is None else SealedField.open(kept, self._binding("previous_sealed"))

    def reseal(self) -> None:
        """Encrypt (unsaved) the same secrets under the key that encrypts now. Raises llm.fields.CannotDecrypt."""
        current, previous = self.open(), self.open_previous()
        self.put(current)
        if previous is not None:
            self.previous_sealed = self._seal(previous, "previous_sealed")

    def holds(self, secret: Secret) -> bool:
        """Whether this is the key it holds. What cannot be opened holds nothing."""
        try:
            return self.open().same_as(secret)
        except CannotDecrypt:
            return False

    def _seal(self, secret: Secret, field: str) -> bytes:
        return SealedField.seal(secret, self._binding(field))

    def _binding(self, field: str) -> bytes:
        """Whom a ciphertext is bound to: it opens in this field of this row of this tenant only."""
        return f"llm_provider_credentials:{self.pk}:{self.tenant_id or 'platform'}:{self.provider_id}:{field}".encode()
