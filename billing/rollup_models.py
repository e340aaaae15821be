"""The rows of roll-ups beside `DailyUsage`: a day's charges with their price lines, and months. Written by
`billing.rollup` alone; each is worked out again from the rows it sums."""

import uuid
from decimal import Decimal

from django.db import models
from django.db.models import Q

from tenants.fields import UsdField

ZERO = Decimal(0)

TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "total_tokens")
MONEY = ("cost_total_usd", "billed_usd", "budget_usd")
COUNTS = ("requests", "errors", "byok_requests", *TOKENS, "latency_ms_sum")


class Sums(models.Model):
    """Exact sums of some requests, and of the adjustments beside them."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    tenant_id = models.UUIDField()
    requests = models.BigIntegerField(default=0)
    errors = models.BigIntegerField(default=0)
    byok_requests = models.BigIntegerField(default=0)
    prompt_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    total_tokens = models.BigIntegerField(default=0)
    cost_total_usd = UsdField(default=ZERO)
    billed_usd = UsdField(default=ZERO)
    budget_usd = UsdField(default=ZERO)
    latency_ms_sum = models.BigIntegerField(default=0)

    class Meta:
        abstract = True


class OfDay(models.Model):
    """What is of one billing day: it has the times of its requests as well."""

    billing_day = models.DateField()
    latency_histogram = models.JSONField(default=dict, help_text="Requests by bucket of ms: histograms add up.")
    ttft_histogram = models.JSONField(default=dict)

    class Meta:
        abstract = True


class UsageSums(Sums):
    """Of one combination of key, config, provider key, model and the rest."""

    key_id = models.UUIDField(null=True)
    config_id = models.UUIDField(null=True)
    credential_id = models.UUIDField(null=True, help_text="The provider key; none for one from the environment.")
    provider_id = models.UUIDField(null=True)
    provider_slug = models.CharField(max_length=64, blank=True)
    model_id = models.UUIDField(null=True)
    model_name = models.CharField(max_length=200, blank=True)
    power_level = models.CharField(max_length=16, blank=True)
    task_type = models.CharField(max_length=16, blank=True)
    used_byok = models.BooleanField(default=False)

    class Meta:
        abstract = True


class MonthlyUsage(UsageSums):
    """One month of the same dimensions as `DailyUsage`, without the day. Summed from it."""

    DIMENSIONS = (
        "month", "tenant_id", "key_id", "config_id", "credential_id", "provider_id", "provider_slug", "model_id",
        "model_name", "power_level", "task_type", "used_byok",
    )  # fmt: skip

    month = models.DateField(help_text="Its first day.")

    class Meta:
        db_table = "billing_monthly_usage"
        indexes = [
            models.Index(fields=["tenant_id", "month"], name="monthly_of_tenant"),
            models.Index(fields=["month"], name="monthly_of_month"),
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} {self.provider_slug}/{self.model_name}"


class DailyUserUsage(OfDay, Sums):
    """One day's usage of one user of a tenant. Apart from `DailyUsage`: users are so many that with them its rows would
    be nearly as many as the requests."""

    DIMENSIONS = ("billing_day", "tenant_id", "user_id")

    user_id = models.TextField(blank=True)

    class Meta:
        db_table = "billing_daily_user_usage"
        indexes = [
            models.Index(fields=["tenant_id", "billing_day"], name="daily_users_of_tenant"),
            models.Index(fields=["billing_day"], name="daily_users_of_day"),
        ]

    def __str__(self) -> str:
        return f"{self.billing_day} {self.user_id}"


class MonthlyUserUsage(Sums):
    """One month's usage of one user of a tenant. Summed from `DailyUserUsage`."""

    DIMENSIONS = ("month", "tenant_id", "user_id")

    month = models.DateField(help_text="Its first day.")
    user_id = models.TextField(blank=True)

    class Meta:
        db_table = "billing_monthly_user_usage"
        indexes = [
            models.Index(fields=["tenant_id", "month"], name="monthly_users_of_tenant"),
            models.Index(fields=["month"], name="monthly_users_of_month"),
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} {self.user_id}"


class SliceSums(Sums):
    """What `DailyUsage` says by fewer of its dimensions: those of one cut (`slices.CUTS`); the other columns are empty.

    `tenant_id` is one tenant; none: all of them together.
    """

    tenant_id = models.UUIDField(null=True)  # type: ignore[assignment]  # of all, which no other sums are
    cut = models.CharField(max_length=16)
    provider_slug = models.CharField(max_length=64, blank=True)
    model_name = models.CharField(max_length=200, blank=True)
    key_id = models.UUIDField(null=True)
    config_id = models.UUIDField(null=True)
    credential_id = models.UUIDField(null=True)
    power_level = models.CharField(max_length=16, blank=True)
    task_type = models.CharField(max_length=16, blank=True)
    used_byok = models.BooleanField(default=False)

    class Meta:
        abstract = True


_SLICED = (
    "cut", "tenant_id", "provider_slug", "model_name", "key_id", "config_id", "credential_id", "power_level",
    "task_type", "used_byok",
)  # fmt: skip


class DailySlice(OfDay, SliceSums):
    """One cut of a day's usage, of one tenant or of all: what a report by few columns reads, so that it costs as much
    as it has rows. Summed from `DailyUsage`, never from requests."""

    DIMENSIONS = ("billing_day", *_SLICED)

    class Meta:
        db_table = "billing_daily_slices"
        indexes = [
            models.Index(fields=["cut", "tenant_id", "billing_day"], name="daily_slices_of_cut"),
            # A roll-up replaces a day; keys of all tenants are read by it too.
            models.Index(fields=["billing_day", "cut"], name="daily_slices_of_day"),
            # What one key has used, by day.
            models.Index(
                fields=["key_id", "billing_day"], condition=Q(key_id__isnull=False), name="daily_slices_of_key"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.billing_day} {self.cut}"


class MonthlySlice(SliceSums):
    """One cut of a month's usage. Summed from `DailySlice`."""

    DIMENSIONS = ("month", *_SLICED)

    month = models.DateField(help_text="Its first day.")

    class Meta:
        db_table = "billing_monthly_slices"
        indexes = [
            models.Index(fields=["cut", "tenant_id", "month"], name="monthly_slices_of_cut"),
            models.Index(fields=["month"], name="monthly_slices_of_month"),
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} {self.cut}"


class OpenDay(models.Model):
    """A day that is not over whose roll-up has every request before `upto` (request ids are ordered by time), and none
    after it: reports read those from the rows. Made anew by each run; adjustments of such a day are in no roll-up."""

    billing_day = models.DateField(primary_key=True)
    upto = models.UUIDField()
    rolled_at = models.DateTimeField()

    class Meta:
        db_table = "billing_open_days"

    def __str__(self) -> str:
        return str(self.billing_day)


class RolledMonth(models.Model):
    """A month whose roll-up stands: its reports read MonthlyUsage. Gone with the mark of any of its days."""

    month = models.DateField(primary_key=True)
    rolled_at = models.DateTimeField()

    class Meta:
        db_table = "billing_rolled_months"

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"


class DailyCharge(models.Model):
    """What one tenant's key and config used of one model on one closed day, with every price it was charged at: what
    statements are made of. Adjustments are not in it: their rows are kept for ever.

    `lines` and `own_lines` are lists of [meter, priced as, unit price in USD, unit quantity, quantity, service tier];
    quantities are exact integers, prices plain decimal text.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    billing_day = models.DateField()
    tenant_id = models.UUIDField()
    key_id = models.UUIDField(null=True)
    config_id = models.UUIDField(null=True)
    provider_slug = models.CharField(max_length=64, blank=True)
    model_name = models.CharField(max_length=200, blank=True)
    used_byok = models.BooleanField(default=False)
    key_name = models.CharField(max_length=100, blank=True, help_text="The last of the day.")
    config_name = models.CharField(max_length=100, blank=True)
    requests = models.BigIntegerField(default=0)
    prompt_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    total_tokens = models.BigIntegerField(default=0)
    cost_total_usd = UsdField(default=ZERO)
    billed_usd = UsdField(default=ZERO)
    budget_usd = UsdField(default=ZERO)
    lost_cost_usd = UsdField(default=ZERO, help_text="What failed attempts cost the platform.")
    prepaid_usd = UsdField(default=ZERO, help_text="The part of billed_usd that prepaid credit paid.")
    unitemised_usd = UsdField(default=ZERO, help_text="The part of the cost of requests without price lines.")
    own_price_list_usd = UsdField(default=ZERO, help_text="The part of the cost billed at the tenant's own prices.")
    own_price_usd = UsdField(default=ZERO, help_text="What of billed_usd is at the tenant's own prices.")
    own_price_unitemised_usd = UsdField(default=ZERO, help_text="The part of that of requests without such lines.")
    lines = models.JSONField(default=list)
    own_lines = models.JSONField(default=list)

    class Meta:
        db_table = "billing_daily_charges"
        indexes = [
            # A statement reads a tenant's month.
            models.Index(fields=["tenant_id", "billing_day"], name="charges_of_tenant"),
            # A roll-up replaces a day.
            models.Index(fields=["billing_day"], name="charges_of_day"),
        ]

    def __str__(self) -> str:
        return f"{self.billing_day} {self.provider_slug}/{self.model_name}"
