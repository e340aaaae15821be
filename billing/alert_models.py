"""The rows of alerts: what happened, who wants to hear of it, and whether they did. See docs/alerts.md."""

import ipaddress
import secrets
import uuid
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator
from django.db import models
from django.db.models import Q

from tenants.ids import uuid7
from tenants.models import Tenant


class Event(models.TextChoices):
    """What alerts are about."""

    BUDGET_THRESHOLD = "budget.threshold", "A budget passed a threshold"
    BUDGET_FORECAST = "budget.forecast", "A budget will run out before its period ends"
    BYOK_INVALID = "byok.invalid", "A tenant's own provider key was refused"
    PROVIDER_DOWN = "provider.down", "A provider is down"
    PROVIDER_UP = "provider.up", "A provider is back"
    RECONCILE_FAILED = "reconcile.failed", "The money does not add up"
    PRICE_TASK = "price.task", "A model joined the price queue"


# What a tenant may hear of. The rest is the platform's own.
TENANT_EVENTS = (Event.BUDGET_THRESHOLD.value, Event.BUDGET_FORECAST.value, Event.BYOK_INVALID.value)
# Until they are over, there is at most one of each about one thing.
LASTING_EVENTS = (Event.BYOK_INVALID.value, Event.PROVIDER_DOWN.value)
THRESHOLDS = (50, 80, 100)
MOST_THRESHOLDS = 10


def default_thresholds() -> list[int]:
    return list(THRESHOLDS)


def valid_events(events: Any) -> None:
    if not isinstance(events, list) or not events or any(event not in Event.values for event in events):
        raise ValidationError(f"A list of one or more of: {', '.join(Event.values)}.")


def valid_thresholds(thresholds: Any) -> None:
    if (
        not isinstance(thresholds, list)
        or not 1 <= len(thresholds) <= MOST_THRESHOLDS
        or any(type(percent) is not int or not 1 <= percent <= 100 for percent in thresholds)
    ):
        raise ValidationError(f"A list of 1 to {MOST_THRESHOLDS} whole percentages from 1 to 100.")


def valid_webhook(url: str, *, public: bool) -> None:
    """Raises ValidationError for what is no http(s) URL; with `public` for what is no https URL of a host's name too.

    Where a name leads is looked at when connecting, since that may change at any time.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").encode("idna").decode()
    except ValueError as error:
        raise ValidationError("Not a URL.") from error
    if parts.scheme not in {"http", "https"} or not host or not url.isprintable() or " " in url:
        raise ValidationError("Not a URL, such as https://hooks.example.com/tollgate.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValidationError("No user name, password or fragment: what we send is signed instead.")
    if not public:
        return
    if parts.scheme != "https" or port not in {None, 443}:
        raise ValidationError("Only https on port 443, such as https://hooks.example.com/tollgate.")
    if _is_address(host) or "." not in host.rstrip("."):
        raise ValidationError("Not an address and not a local name: give the public name of a host.")


def valid_mail_address(text: str) -> None:
    """Raises ValidationError. Django's own validator lets control characters through between quotes."""
    EmailValidator("Not an e-mail address, such as ops@example.com.")(text)
    if not text.isprintable():
        raise ValidationError("Not an e-mail address: it holds characters that cannot be printed.")


def _is_address(host: str) -> bool:
    """True for an address in any spelling that a resolver would take: 127.0.0.1, 127.1, 0x7f.1, ::1."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2]
        return last.isdigit() or last.lower().startswith("0x")
    return True


class AlertSubscription(models.Model):
    """Who is told of which events, by e-mail or webhook: for one tenant, or (with no tenant) for the platform."""

    class Kind(models.TextChoices):
        EMAIL = "email", "E-mail"
        WEBHOOK = "webhook", "Webhook"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="alert_subscriptions",
        help_text="Whose events. Empty: the platform's, and those of all tenants.",
    )
    kind = models.CharField(max_length=7, choices=Kind, help_text="How they are told.")
    target = models.CharField(
        max_length=500,
        help_text="An e-mail address, or a URL. A tenant's URL must be https on port 443 of a public host.",
    )
    events = models.JSONField(validators=[valid_events], help_text="What they are told of.")
    thresholds = models.JSONField(
        default=default_thresholds,
        validators=[valid_thresholds],
        help_text="At which percentages of a budget they are told, such as `[50, 80, 100]`.",
    )
    is_active = models.BooleanField(default=True, help_text="Off: nothing is sent, and what waits is given up.")
    created_by = models.CharField(max_length=200, editable=False)
    # A webhook's secret is worked out from these two and the pepper; it is stored nowhere.
    salt = models.CharField(max_length=64, editable=False, blank=True)
    pepper_id = models.CharField(max_length=32, editable=False, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "billing_alert_subscriptions"
        ordering = ["-created_at"]
        verbose_name = "alert subscription"

    def __str__(self) -> str:
        return f"{self.kind} to {self.target}"

    def clean(self) -> None:
        """Raises ValidationError naming the field."""
        problems: dict[str, str | list[str]] = {}
        if self.tenant_id is not None and isinstance(self.events, list):
            foreign = [str(event) for event in self.events if event not in TENANT_EVENTS]
            if foreign:
                problems["events"] = f"A tenant can be told of {', '.join(TENANT_EVENTS)} only."
        try:
            if self.kind == self.Kind.WEBHOOK:
                valid_webhook(self.target, public=self.tenant_id is not None)
            else:
                valid_mail_address(self.target)
        except ValidationError as error:
            problems["target"] = error.messages
        if problems:
            raise ValidationError(problems)

    def renew_salt(self, pepper_id: str) -> None:
        """A new secret (unsaved)."""
        self.salt, self.pepper_id = secrets.token_hex(32), pepper_id


class Alert(models.Model):
    """One thing that happened and is told once: a budget passed a threshold, a provider went down."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False, help_text="Also each webhook's id.")
    key = models.CharField(max_length=200, unique=True, help_text="What it is, spelt out: it is raised once.")
    event = models.CharField(max_length=20, choices=Event)
    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.CASCADE,
        null=True,
        related_name="alerts",
        help_text="Whose it is. Empty: the platform's.",
    )
    about_id = models.UUIDField(null=True, help_text="The provider, key or budget's owner that it is about.")
    title = models.CharField(max_length=300, help_text="What happened, in a sentence.")
    data = models.JSONField(default=dict, help_text="The particulars, as they are sent.")
    percent = models.PositiveSmallIntegerField(null=True, help_text="The threshold of a budget that was passed.")
    window_starts_on = models.DateField(null=True, help_text="First day of the budget window.")
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, help_text="When it was over; empty for what passes at once.")

    class Meta:
        db_table = "billing_alerts"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["event", "about_id"],
                condition=Q(ended_at__isnull=True, event__in=LASTING_EVENTS),
                name="one_alert_while_it_lasts",
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "-id"], name="alerts_of_tenant_newest"),
            # Each minute's look at which thresholds of the open windows have been told.
            models.Index(
                fields=["window_starts_on"], name="alerts_of_window", condition=Q(window_starts_on__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.title


class AlertDelivery(models.Model):
    """One alert on its way to one subscription: how often it was tried, what came back, when it is tried again."""

    class Status(models.TextChoices):
        PENDING = "pending", "Waiting"
        DELIVERED = "delivered", "Delivered"
        GIVEN_UP = "given_up", "Given up"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="deliveries")
    subscription = models.ForeignKey(AlertSubscription, on_delete=models.CASCADE, related_name="deliveries")
    status = models.CharField(max_length=9, choices=Status, default=Status.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, help_text="Empty when there is nothing left to try.")
    response_status = models.PositiveSmallIntegerField(null=True, help_text="The last HTTP status, if one came.")
    last_error = models.CharField(max_length=300, blank=True, help_text="Why the last attempt failed, in words.")
    delivered_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "billing_alert_deliveries"
        ordering = ["-id"]
        verbose_name = "alert delivery"
        verbose_name_plural = "alert deliveries"
        constraints = [models.UniqueConstraint(fields=["alert", "subscription"], name="one_delivery_per_subscription")]
        indexes = [
            models.Index(fields=["next_try_at"], name="deliveries_due", condition=Q(status="pending")),
        ]

    def __str__(self) -> str:
        return f"{self.subscription_id}: {self.status}"
