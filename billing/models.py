"""The money rows: budget windows, holds, usage, adjustments, roll-ups. Only `billing.ledger` writes windows and holds.

Usage keeps plain ids and names of providers, models and keys, not foreign keys: renaming or deleting a model never
changes a bill. Amounts are USD, exact to 1e-10.
"""

from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models import Q

from billing import alert_models, credit_models, statement_models  # noqa: F401  # the rows of these are this app's too
from billing.rollup_models import OfDay, UsageSums
from tenants.fields import UsdField
from tenants.ids import uuid7
from tenants.models import Tenant

ZERO = Decimal(0)


class BudgetWindow(models.Model):
    """What one scope (a tenant, a key or a config) has spent and holds in one calendar day or month.

    Its key spells out what it is (`tenant:<id>:day:2026-11-22`), so every process locks windows in the same order.
    A tenant's prepaid credit is one more window (`credit:<id>:ever:...`): it never resets, counts what is billed, and
    its limit is what was granted.
    """

    id = models.CharField(primary_key=True, max_length=80)
    scope_kind = models.CharField(max_length=8)
    scope_id = models.UUIDField()
    period = models.CharField(max_length=5, choices=[("day", "Day"), ("month", "Month"), ("ever", "For ever")])
    starts_on = models.DateField(help_text="First day of the window, in the tenant's time zone.")
    spent = UsdField(default=ZERO, help_text="Settled, adjustments included.")
    held = UsdField(default=ZERO, help_text="Promised to requests under way.")
    granted = UsdField(null=True, help_text="Of prepaid credit: all that was ever given, less what has expired.")
    expires_at = models.DateTimeField(null=True, help_text="Of prepaid credit: when the next grant expires.")

    class Meta:
        db_table = "billing_windows"
        constraints = [
            models.UniqueConstraint(fields=["scope_id", "scope_kind", "period", "starts_on"], name="one_window"),
            models.CheckConstraint(name="window_held_not_negative", condition=Q(held__gte=0)),
        ]
        # Each minute's look at the open windows, for alerts.
        indexes = [models.Index(fields=["starts_on"], name="windows_of_day")]

    def __str__(self) -> str:
        return self.id


class LedgerLease(models.Model):
    """A process that may own holds, and when it last said it is alive. Holds of a silent owner are swept."""

    owner = models.UUIDField(primary_key=True)
    renewed_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "billing_leases"

    def __str__(self) -> str:
        return str(self.owner)


class Hold(models.Model):
    """The worst case of one request under way. Deleting it is the act that settles: it can happen only once."""

    id = models.UUIDField(primary_key=True, help_text="The request id.")
    owner = models.UUIDField(db_index=True, help_text="The process that renews its lease.")
    tenant_id = models.UUIDField()
    amount = UsdField()
    credit = UsdField(null=True, help_text="What it holds of prepaid credit. Empty: the tenant pays later.")
    windows = models.JSONField(help_text="The keys of the windows that hold it.")
    billing_day = models.DateField()
    facts = models.JSONField(help_text="The usage row to write if the owner dies.")
    created_at = models.DateTimeField()

    class Meta:
        db_table = "billing_holds"
        constraints = [models.CheckConstraint(name="hold_not_negative", condition=Q(amount__gte=0))]

    def __str__(self) -> str:
        return str(self.id)


class UsageRecord(models.Model):
    """One accepted request: what ran, what it used and what it cost. Written once, never changed."""

    class Status(models.TextChoices):
        COMPLETED = "completed", "Completed"
        PARTIAL = "partial", "Cut short by the provider"
        CANCELLED = "cancelled", "Client left"
        FAILED = "failed", "Failed"
        EXPIRED = "expired", "Swept after a crash"

    id = models.UUIDField(primary_key=True, default=uuid7, help_text="The request id, as in `x-request-id`.")
    tenant_id = models.UUIDField()
    user_id = models.TextField(blank=True, help_text="The key's owner, else the request's `user` field.")
    key_id = models.UUIDField(null=True)
    key_name = models.CharField(max_length=100, blank=True)
    config_id = models.UUIDField(null=True)
    config_name = models.CharField(max_length=100, blank=True)
    credential_id = models.UUIDField(null=True, db_column="user_key_id")
    provider_id = models.UUIDField(null=True)
    provider_slug = models.CharField(max_length=64, blank=True)
    model_id = models.UUIDField(null=True)
    model_name = models.CharField(max_length=200, blank=True, help_text="The provider's own id of the model.")
    power_level = models.CharField(max_length=16, blank=True)
    task_type = models.CharField(max_length=16, blank=True)
    prompt_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    total_tokens = models.BigIntegerField(default=0)
    price_version_id = models.UUIDField(null=True)
    price_lines = models.JSONField(default=list, help_text="Meter, quantity, unit price and amount of each line.")
    cost_input_usd = UsdField(default=ZERO)
    cost_output_usd = UsdField(default=ZERO)
    cost_total_usd = UsdField(default=ZERO, help_text="The provider's list price.")
    billed_usd = UsdField(default=ZERO, help_text="What the tenant owes the platform.")
    budget_usd = UsdField(default=ZERO, help_text="What counts against budgets.")
    terms = models.JSONField(
        default=dict,
        help_text="How billed_usd follows from the cost: a markup or a fee in percent, or a price of the tenant's own "
        "with its lines. Empty: they are the same.",
    )
    is_prepaid = models.BooleanField(default=False, help_text="Paid from prepaid credit.")
    lost_cost_usd = UsdField(default=ZERO, help_text="What failed attempts cost the platform; never the tenant's.")
    held_usd = UsdField(default=ZERO, help_text="What was reserved for it.")
    reported_cost_usd = UsdField(
        null=True, help_text="What the provider itself said it cost, if it did: never billed, compared by `drift`."
    )
    used_byok = models.BooleanField(default=False)
    key_source = models.CharField(max_length=16, blank=True, help_text="`platform`, `byok` or `none`.")
    latency_ms = models.IntegerField(default=0)
    ttft_ms = models.IntegerField(null=True, help_text="Milliseconds to the first content.")
    tokens_per_second = models.FloatField(null=True)
    streamed = models.BooleanField(default=False)
    status = models.CharField(max_length=10, choices=Status)
    status_code = models.SmallIntegerField(help_text="As the client saw it; 499 when it had left.")
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.TextField(blank=True)
    was_fallback = models.BooleanField(default=False)
    fallback_reason = models.CharField(max_length=64, blank=True)
    attempts = models.JSONField(default=list)
    is_estimated = models.BooleanField(default=False, help_text="The provider gave no usable count; ours stands.")
    is_overrun = models.BooleanField(default=False, help_text="It cost more than was held.")
    decision = models.JSONField(default=dict, help_text="Why this model: candidates, rejections, fallbacks.")
    request_ip = models.GenericIPAddressField(null=True)
    user_agent = models.TextField(blank=True)
    end_user = models.TextField(blank=True, help_text="The request's `user` field.")
    session_id = models.TextField(blank=True)
    client_request_id = models.TextField(blank=True)
    billing_day = models.DateField(help_text="The tenant's calendar day at reserve; decides windows and statements.")
    created_at = models.DateTimeField(help_text="When it was accepted.")

    class Meta:
        db_table = "llm_usage_logs"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["tenant_id", "-id"], name="usage_of_tenant_newest"),
            # A day's rows; and the last request of a tenant's day, from which a list of its days begins.
            models.Index(fields=["billing_day", "tenant_id", "id"], name="usage_of_day"),
            models.Index(fields=["user_id", "created_at"], name="usage_of_user"),
            models.Index(fields=["created_at"], name="usage_by_time"),
            # The request log by a model or provider that is seldom used; a common one is found from the newest row.
            models.Index(fields=["provider_slug", "model_name", "billing_day"], name="usage_of_model"),
            # What one key asked, newest first: a key that is seldom used is not looked for among all of its tenant's.
            models.Index(fields=["key_id", "-id"], name="usage_of_key_newest"),
            # What did not go well: few, so that it costs the others nothing.
            models.Index(
                fields=["tenant_id", "status", "-id"], condition=~Q(status="completed"), name="usage_gone_wrong"
            ),
            # A provider key's last use, and its requests of days without a roll-up.
            models.Index(
                fields=["credential_id", "billing_day", "id"],
                condition=Q(credential_id__isnull=False),
                name="usage_of_credential",
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Adjustment(models.Model):
    """A signed correction of what a tenant owes, with a reason. A late settlement is one too (kind `system`).

    One that is about a request says what its usage row says of key, config, model and the rest, for good.
    """

    class Kind(models.TextChoices):
        STAFF = "staff", "Staff"
        SYSTEM = "system", "System"

    id = models.UUIDField(primary_key=True, default=uuid7)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="adjustments")
    kind = models.CharField(max_length=6, choices=Kind)
    request_id = models.UUIDField(null=True, blank=True, help_text="The request it corrects, if one.")
    correction_id = models.UUIDField(null=True, blank=True, help_text="The correction run it is of, if one.")
    key_id = models.UUIDField(null=True, blank=True)
    config_id = models.UUIDField(null=True, blank=True)
    provider_id = models.UUIDField(null=True, blank=True)
    provider_slug = models.CharField(max_length=64, blank=True)
    model_id = models.UUIDField(null=True, blank=True)
    model_name = models.CharField(max_length=200, blank=True)
    credential_id = models.UUIDField(null=True, blank=True, help_text="The provider key that the request used.")
    power_level = models.CharField(max_length=16, blank=True)
    task_type = models.CharField(max_length=16, blank=True)
    used_byok = models.BooleanField(default=False, help_text="The request used the tenant's own provider key.")
    cost_total_usd = UsdField(default=ZERO, help_text="Correction of the provider's list price.")
    billed_usd = UsdField(default=ZERO, help_text="Correction of what the tenant owes.")
    budget_usd = UsdField(default=ZERO, help_text="Correction of what counts against budgets.")
    is_prepaid = models.BooleanField(default=False, help_text="Counts in the tenant's prepaid credit.")
    reason = models.TextField(help_text="Why; the tenant can read it.")
    author = models.CharField(max_length=200)
    billing_day = models.DateField()
    created_at = models.DateTimeField()

    class Meta:
        db_table = "billing_adjustments"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["request_id"], condition=Q(kind="system"), name="one_late_settlement_per_request"
            ),
            # Whatever is killed or done twice; and the adjustments of a run.
            models.UniqueConstraint(
                fields=["correction_id", "request_id"],
                condition=Q(correction_id__isnull=False),
                name="one_adjustment_per_request_and_run",
            ),
        ]
        indexes = [
            models.Index(fields=["billing_day", "tenant"], name="adjustments_of_day"),
            # What a request was corrected by already.
            models.Index(fields=["request_id"], condition=Q(request_id__isnull=False), name="adjustments_of_request"),
        ]

    def __str__(self) -> str:
        return f"{self.budget_usd} USD: {self.reason}"


def _dimensions() -> list[str]:
    return [
        "billing_day",
        "tenant_id",
        "key_id",
        "config_id",
        "credential_id",
        "provider_id",
        "provider_slug",
        "model_id",
        "model_name",
        "power_level",
        "task_type",
        "used_byok",
    ]


class DailyUsage(OfDay, UsageSums):
    """One day's usage of one combination of key, config, provider key, model and the rest: exact sums."""

    DIMENSIONS = _dimensions()

    class Meta:
        db_table = "billing_daily_usage"
        indexes = [
            models.Index(fields=["tenant_id", "billing_day"], name="daily_of_tenant"),
            models.Index(fields=["billing_day"], name="daily_of_day"),
            # What one key has used.
            models.Index(fields=["key_id", "billing_day"], name="daily_of_key"),
            models.Index(
                fields=["credential_id"], condition=Q(credential_id__isnull=False), name="daily_of_credential"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.billing_day} {self.provider_slug}/{self.model_name}"


class RolledDay(models.Model):
    """A day whose roll-up stands: its reports read DailyUsage. A later settle of that day takes the mark away, unless
    the day is pruned: then its roll-up is all there is."""

    billing_day = models.DateField(primary_key=True)
    rolled_at = models.DateTimeField()
    charges = models.IntegerField(null=True, help_text="How many DailyCharge rows it has. Empty: none were made.")
    slices = models.IntegerField(null=True, help_text="How many DailySlice rows it has. Empty: none were made.")
    pruned_at = models.DateTimeField(null=True, help_text="When its usage rows were given up to retention.")

    class Meta:
        db_table = "billing_rolled_days"

    def __str__(self) -> str:
        return str(self.billing_day)


Facts = dict[str, Any]
