"""What probes found out about providers."""

from django.db import models

from llm.choices import HealthStatus
from llm.models.catalog import LLMProvider
from tenants.ids import uuid7


class ProviderHealthCheck(models.Model):
    """One probe of one provider: a list of its models asked for, never a completion."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    provider = models.ForeignKey(LLMProvider, on_delete=models.CASCADE, related_name="health_checks")
    status = models.CharField(max_length=10, choices=HealthStatus)
    response_time_ms = models.PositiveIntegerField(null=True)
    status_code = models.SmallIntegerField(null=True, help_text="The HTTP status, if there was an answer.")
    error = models.CharField(max_length=300, blank=True, help_text="What was wrong, in words.")
    checked_at = models.DateTimeField()

    class Meta:
        db_table = "llm_provider_health_checks"
        ordering = ["-id"]
        indexes = [models.Index(fields=["provider", "-checked_at"], name="health_of_provider")]

    def __str__(self) -> str:
        return f"{self.provider}: {self.status}"
