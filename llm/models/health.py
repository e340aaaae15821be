"""What probes and real traffic found out about providers."""

from datetime import datetime

from django.db import models

from llm.choices import BreakerKind, BreakerState, HealthStatus
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


class LLMBreaker(models.Model):
    """A breaker that is open, or was: while it is, requests go elsewhere. Written by web processes, closed by a reset.

    Processes tell each other through this table (through Redis instead where there is one; then it is a copy to read).
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    key = models.CharField(
        max_length=400, unique=True, help_text="What it guards, for machines: one row, found and locked by this."
    )
    kind = models.CharField(max_length=10, choices=BreakerKind, help_text="What it takes out of routing.")
    what = models.CharField(max_length=300, help_text="What it guards, in words.")
    state = models.CharField(
        max_length=10, choices=BreakerState, help_text="As it was last written: an open one is half-open when due."
    )
    opened_at = models.DateTimeField(null=True)
    until = models.DateTimeField(null=True, help_text="From then on one request may try.")
    failures = models.PositiveIntegerField(default=0, help_text="Failures in a row.")
    openings = models.PositiveIntegerField(default=0, help_text="Times in a row it opened: each lasts longer.")
    reason = models.CharField(max_length=300, blank=True, help_text="Why it opened, in words.")
    probe_owner = models.CharField(max_length=64, blank=True, help_text="The one call that is trying.")
    probe_until = models.DateTimeField(null=True, help_text="If it has said nothing by then, another may try.")
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "llm_breakers"
        ordering = ["-updated_at"]
        verbose_name = "breaker"
        indexes = [models.Index(fields=["state", "until"], name="breakers_read_every_second")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.what}"

    def state_at(self, now: datetime) -> BreakerState:
        """Closed, open or half-open now."""
        if self.state != BreakerState.CLOSED and self.until is not None and self.until <= now:
            return BreakerState.HALF_OPEN
        return BreakerState(self.state)
