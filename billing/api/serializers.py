"""What the usage API answers and what it may be asked, as DRF serializers: the OpenAPI schema comes from these."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any

from django.utils.dateparse import parse_date, parse_datetime
from django.utils.functional import cached_property
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing.models import UsageRecord
from billing.reports import GROUPS


@extend_schema_field({"type": "string", "format": "decimal", "example": "0.0123"})
class Usd(serializers.Field[Decimal, Any, str, Any]):
    """An amount in USD as a plain decimal string: no exponent, no trailing zeros."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"read_only": True, **kwargs})

    def to_representation(self, value: Decimal) -> str:
        return f"{value.normalize():f}"


@extend_schema_field({"type": "string", "example": "2026-11-22", "description": "A billing day, or an ISO 8601 time."})
class DayOrTime(serializers.Field[date | datetime, str, str, Any]):
    """A date (a billing day) or an ISO 8601 time (UTC if it names no offset)."""

    default_error_messages = {"invalid": "Give a day as 2026-11-22 or a time as 2026-11-22T10:00:00Z."}

    def to_internal_value(self, data: str) -> date | datetime:
        try:
            day = parse_date(data)
            moment = None if day is not None else parse_datetime(data)
            if moment is not None:
                return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            day = None
        if day is None:
            self.fail("invalid")
        return day

    def to_representation(self, value: date | datetime) -> str:
        return value.isoformat()


def from_and_to(fields: dict[str, Any], since: str, until: str) -> dict[str, Any]:
    """`from` is a word of Python, so the field of that name cannot be an attribute."""
    fields["from"] = fields.pop(since)
    fields["to"] = fields.pop(until)
    return fields


class UsageQuery(serializers.Serializer[Any]):
    """The filters of the usage list."""

    since = DayOrTime(required=False, help_text="Not before this day or time.")
    until = DayOrTime(required=False, help_text="Not after this day or time.")
    model = serializers.CharField(required=False, max_length=300, help_text="An id, provider/model_id, or a model_id.")
    provider = serializers.CharField(required=False, max_length=64, help_text="An id or a slug.")
    status = serializers.ChoiceField(UsageRecord.Status.choices, required=False)
    key = serializers.UUIDField(required=False, help_text="The id of an API key.")
    config = serializers.UUIDField(required=False, help_text="The id of a config.")

    def get_fields(self) -> dict[str, Any]:
        return from_and_to(super().get_fields(), "since", "until")


class AdminUsageQuery(UsageQuery):
    """The same for staff."""

    tenant = serializers.CharField(required=False, max_length=64, help_text="A tenant's id or slug. Without: all.")


class SpanQuery(serializers.Serializer[Any]):
    """A span of billing days."""

    since = serializers.DateField(required=False, help_text="First billing day. Default: 30 days, today included.")
    until = serializers.DateField(required=False, help_text="Last billing day, included. Default: today.")

    def get_fields(self) -> dict[str, Any]:
        return from_and_to(super().get_fields(), "since", "until")


class SummaryQuery(SpanQuery):
    """What to sum, and how."""

    group_by = serializers.ChoiceField(
        list(GROUPS), default="day", error_messages={"invalid_choice": f"Use one of: {', '.join(GROUPS)}."}
    )


class AdminSummaryQuery(SummaryQuery):
    """The same for staff."""

    tenant = serializers.CharField(required=False, max_length=64, help_text="A tenant's id or slug. Without: all.")


class TopModelsQuery(SpanQuery):
    """Which span, and how many models."""

    limit = serializers.IntegerField(default=10, min_value=1, max_value=1000)
    tenant = serializers.CharField(required=False, max_length=64, help_text="A tenant's id or slug. Without: all.")


_AS_IT_IS = frozenset({str, int, float, bool, type(None)})
# Fields that are called otherwise than the columns they show.
SOURCES = {"request_id": "id", "provider": "provider_slug"}


class UsageRow(serializers.ModelSerializer[UsageRecord]):
    """One accepted request: what ran, what it used and what it cost."""

    request_id = serializers.UUIDField(source="id", read_only=True, help_text="As in `x-request-id`.")
    provider = serializers.CharField(source="provider_slug", read_only=True)
    model = serializers.SerializerMethodField(help_text="provider/model_id")
    cost_input_usd = Usd()
    cost_output_usd = Usd()
    cost_total_usd = Usd(help_text="The provider's list price.")
    billed_usd = Usd(help_text="What the tenant owes the platform.")
    budget_usd = Usd(help_text="What counts against budgets.")
    held_usd = Usd(help_text="What was reserved for it.")

    class Meta:
        model = UsageRecord
        fields = [
            *("request_id", "tenant_id", "user_id", "key_id", "key_name", "config_id", "config_name", "credential_id"),
            *("provider", "provider_id", "model", "model_id", "model_name", "power_level", "task_type"),
            *("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"),
            *("total_tokens", "price_version_id", "price_lines", "terms", "is_prepaid"),
            *("cost_input_usd", "cost_output_usd", "cost_total_usd", "billed_usd", "budget_usd", "held_usd"),
            *("used_byok", "key_source", "latency_ms", "ttft_ms", "tokens_per_second", "streamed"),
            *("status", "status_code", "error_code", "error_message", "was_fallback", "fallback_reason"),
            *("is_estimated", "is_overrun", "request_ip", "user_agent", "end_user", "session_id", "client_request_id"),
            *("billing_day", "created_at"),
        ]
        read_only_fields = fields

    @classmethod
    def sources(cls) -> list[str]:
        """The columns of a usage row that it shows."""
        worked_out = {"model", "tenant"}
        return [SOURCES.get(name, name) for name in cls.Meta.fields if name not in worked_out]

    @cached_property
    def _columns(self) -> list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]]:
        """Each field's name, what it reads of a row, and what it makes of that."""
        columns: list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = []
        for name, field in self.fields.items():
            if isinstance(field, serializers.SerializerMethodField):
                columns.append((name, getattr(self, f"get_{name}"), lambda value: value))
            else:
                columns.append((name, attrgetter(str(field.source)), field.to_representation))
        return columns

    def to_representation(self, instance: UsageRecord) -> dict[str, Any]:
        """What DRF makes of it, without its search for each attribute, nor a call for what JSON says as it is: a third
        of the time of a long page."""
        found = {}
        for name, read, write in self._columns:
            value = read(instance)
            found[name] = value if type(value) in _AS_IT_IS else write(value)
        return found

    def get_model(self, row: UsageRecord) -> str:
        return "/".join(part for part in (row.provider_slug, row.model_name) if part)


class AdminUsageRow(UsageRow):
    """The same for staff: with the tenant's slug and what failed attempts cost the platform."""

    tenant = serializers.SerializerMethodField(help_text="The tenant's slug.")
    lost_cost_usd = Usd(help_text="What failed attempts cost the platform.")

    class Meta(UsageRow.Meta):
        fields = ["tenant", *UsageRow.Meta.fields, "lost_cost_usd"]
        read_only_fields = fields

    def get_tenant(self, row: UsageRecord) -> str:
        slugs: dict[Any, str] = self.context.get("slugs", {})
        return slugs.get(row.tenant_id, "")


class Request(UsageRow):
    """A request with the decision that routed it and its attempts. A refused one has status `refused` and no cost."""

    status = serializers.CharField(read_only=True, help_text="A usage row's status, or `refused`.")
    status_code = serializers.IntegerField(read_only=True)
    billing_day = serializers.DateField(read_only=True, allow_null=True)
    decision = serializers.JSONField(read_only=True, help_text="Why this model: candidates, rejections, fallbacks.")
    attempts = serializers.JSONField(
        read_only=True, help_text="Each with provider, model, key_source, status, code and latency_ms."
    )

    class Meta(UsageRow.Meta):
        fields = [*UsageRow.Meta.fields, "decision", "attempts"]
        read_only_fields = fields


class Measures(serializers.Serializer[Any]):
    """The figures of a group of requests. Adjustments count in the money only."""

    requests = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    cost_usd = Usd(help_text="The providers' list price.")
    billed_usd = Usd(help_text="What is owed to the platform.")
    avg_cost_usd = Usd()
    avg_latency_ms = serializers.IntegerField()
    byok_requests = serializers.IntegerField()
    # DRF takes fields out of the class, so the property of that name stays what it is.
    errors = serializers.IntegerField(help_text="Answered with status 400 or above.")  # type: ignore[assignment]

    def to_representation(self, instance: dict[str, Any]) -> dict[str, Any]:
        """What DRF makes of it, without its search for the columns that a row does not have: half the time of a report
        of a thousand rows."""
        values = {name: instance[name] for name, field in self.fields.items() if name in instance or field.required}
        return {
            name: None if value is None else self.fields[name].to_representation(value)
            for name, value in values.items()
        }


@extend_schema_field({"type": "string", "format": "uuid", "nullable": True})
class IdOrNull(serializers.UUIDField):
    """An id that may be null, in a column that may be missing: `allow_null` would make DRF fill it in everywhere."""


class SummaryRow(Measures):
    """The figures of one group. Of the columns before them only the one asked for by `group_by` is there."""

    day = serializers.DateField(required=False)
    month = serializers.CharField(required=False, help_text="As 2026-11.")
    model = serializers.CharField(required=False, help_text="provider/model_id")
    provider = serializers.CharField(required=False)
    key = IdOrNull(required=False)
    key_name = serializers.CharField(required=False, help_text="With `key`: the key's name.")
    config = IdOrNull(required=False)
    user = serializers.CharField(required=False)
    power_level = serializers.CharField(required=False)
    task_type = serializers.CharField(required=False)
    byok = serializers.BooleanField(required=False)
    credential = IdOrNull(required=False, help_text="A provider key: one's own, or the platform's.")


class Summary(serializers.Serializer[Any]):
    """A page of summary rows, with the whole span's total."""

    count = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    since = serializers.DateField()
    until = serializers.DateField()
    group_by = serializers.CharField()
    total = Measures(help_text="Over all rows, not only this page.")
    results = SummaryRow(many=True)

    def get_fields(self) -> dict[str, Any]:
        return from_and_to(super().get_fields(), "since", "until")


class TopModel(Measures):
    """One model's figures."""

    model = serializers.CharField(help_text="provider/model_id")
    provider = serializers.CharField(help_text="The provider's slug.")


class TopModels(serializers.Serializer[Any]):
    """The dearest models of a span of billing days."""

    count = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = TopModel(many=True)


class MeTenant(serializers.Serializer[Any]):
    """The tenant a key belongs to."""

    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()
    tier = serializers.CharField()
    timezone = serializers.CharField()


class MeKey(serializers.Serializer[Any]):
    """The key that asks."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField())
    expires_at = serializers.DateTimeField(allow_null=True)
    rate_limit_rpm = serializers.IntegerField(allow_null=True)
    rate_limit_tpm = serializers.IntegerField(allow_null=True)


class Limit(serializers.Serializer[Any]):
    """A budget: USD. Without a limit, `limit` and `left` are null."""

    scope = serializers.CharField(help_text="`key`, `config` or `tenant`.")
    period = serializers.CharField(help_text="`day` or `month`, in the tenant's time zone.")
    limit = Usd(allow_null=True)
    spent = Usd()
    held = Usd(help_text="Promised to requests under way.")
    left = Usd(allow_null=True)
    resets_at = serializers.DateTimeField()
    expected = Usd(help_text="What the period will come to at its present pace: spent / elapsed x its length.")
    runs_out_at = serializers.DateTimeField(
        allow_null=True, help_text="When the limit is reached at this pace; null if not before it resets."
    )


class Me(serializers.Serializer[Any]):
    """Who a key is, and what it may still spend."""

    tenant = MeTenant()
    tier = serializers.CharField()
    key = MeKey()
    limits = Limit(many=True)
