"""Routing rules and power levels (staff), and configs (tenants)."""

from typing import Any, ClassVar

from django.utils import timezone
from rest_framework import serializers
from rest_framework.fields import empty

from billing.api.serializers import Limit
from llm import configs
from llm.api.fields import ModelReference
from llm.catalog import references
from llm.choices import TaskType
from llm.configs import KeyChange
from llm.fields import Secret
from llm.models import LLMConfig, LLMModel, LLMRoutingRule, PowerLevelPolicy, ProviderCredential, ProviderHealthCheck
from tenants.api.fields import Choice, Flag, StrictModelSerializer, StrictSerializer, Text, Whole
from tenants.api.serializers import StringList
from tenants.errors import NotFound
from tenants.models import valid_model_list
from tenants.scoping import missing


class RuleSerializer(StrictModelSerializer):
    """A routing rule. `model_id` is accepted for `model`; both take a UUID or `provider/model_id`."""

    aliases: ClassVar[Any] = {"model_id": "model"}

    model = ModelReference()
    model_uuid = serializers.UUIDField(source="model_id", read_only=True)
    task_type = Choice(choices=TaskType.choices, required=False, allow_null=True)

    class Meta:
        model = LLMRoutingRule
        fields: ClassVar[Any] = [
            "id",
            "model",
            "model_uuid",
            "power_level",
            "user_tier",
            "task_type",
            "priority",
            "weight",
            "min_tokens",
            "max_tokens",
            "requires_byok",
            "is_fallback",
            "fallback_order",
            "is_active",
            "created_at",
            "updated_at",
        ]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        least = attrs.get("min_tokens", getattr(self.instance, "min_tokens", None))
        most = attrs.get("max_tokens", getattr(self.instance, "max_tokens", None))
        if least is not None and most is not None and most < least:
            raise serializers.ValidationError({"max_tokens": ["It is less than min_tokens: no request would fit."]})
        return attrs


class PowerLevelSerializer(StrictModelSerializer):
    """What a power level promises. Prices are USD per million tokens, (3 x input + output) / 4; times milliseconds."""

    class Meta:
        model = PowerLevelPolicy
        fields: ClassVar[Any] = [
            "power_level",
            "max_price_per_1m_usd",
            "max_latency_ms",
            "allow_fallback",
            "prefer_cached",
            "updated_at",
        ]
        read_only_fields: ClassVar[Any] = ["power_level"]


class CredentialSerializer(serializers.ModelSerializer[ProviderCredential]):
    """A provider key as it may be read: never the key."""

    provider = serializers.CharField(source="provider.slug", read_only=True)
    name = serializers.CharField(source="key_name", read_only=True)
    key = serializers.CharField(source="masked", read_only=True, help_text="Its first and last four characters.")
    last_used_at = serializers.DateTimeField(read_only=True, allow_null=True)

    class Meta:
        model = ProviderCredential
        fields: ClassVar[Any] = [
            "id",
            "provider",
            "name",
            "key",
            "weight",
            "is_active",
            "is_validated",
            "validation_error",
            "last_validated_at",
            "last_used_at",
            "last_rotated_at",
            "created_at",
        ]
        read_only_fields: ClassVar[Any] = fields


class SecretField(serializers.CharField):
    """A provider's key on its way in. It is never read back and never quoted in an error."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("write_only", True)
        kwargs.setdefault("style", {"input_type": "password"})
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            raise serializers.ValidationError("Not a string.")
        return Secret(data)

    def run_validation(self, data: Any = empty) -> Any:
        """A Secret, or None for a blank, which a text field would let through as it came."""
        return super().run_validation(data) or None

    def run_validators(self, value: Any) -> None:
        """None of a text's: a secret is no text. `llm.catalog.credentials` checks its length and format."""


class NewCredentialSerializer(StrictSerializer):
    """A platform key to store."""

    name = Text(max_length=100)
    api_key = SecretField()
    weight = Whole(required=False, min_value=0, default=100)


class Temperature(serializers.DecimalField):
    """0 to 2, two decimal places; answered as a number."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_digits": 3, "decimal_places": 2, "min_value": 0, "max_value": 2} | kwargs)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, (int, float)):
            raise serializers.ValidationError("Not a number.")
        return super().to_internal_value(data)

    def to_representation(self, value: Any) -> Any:
        return float(value)


class ConfigList(serializers.ListSerializer[Any]):
    """Configs of a tenant, whose budgets are looked up together."""

    def to_representation(self, data: Any) -> list[Any]:
        rows = list(data)
        for config, limits in zip(rows, configs.limits_of(rows, now=timezone.now()), strict=True):
            config.limits = limits
        return super().to_representation(rows)


class ConfigSerializer(StrictModelSerializer):
    """A config. `api_key` is write-only: kept, encrypted, for the primary model's provider; null forgets it."""

    live = ("limits",)

    primary_model = ModelReference(required=False, allow_null=True, active_only=True)
    fallback_model = ModelReference(required=False, allow_null=True, active_only=True)
    temperature = Temperature(required=False)
    routing_rules = serializers.DictField(required=False)
    allowed_models = StringList(required=False, allow_null=True, validators=[valid_model_list])
    api_key = SecretField(required=False, allow_null=True, allow_blank=True)
    credential = CredentialSerializer(read_only=True, allow_null=True, help_text="The own key, masked, and its state.")
    limits = Limit(many=True, read_only=True, help_text="Its budgets, as `/api/v1/me` says those of key and tenant.")

    class Meta:
        model = LLMConfig
        list_serializer_class = ConfigList
        fields: ClassVar[Any] = [
            "id",
            "name",
            "is_tenant_default",
            "primary_model",
            "fallback_model",
            "use_platform_key",
            "temperature",
            "max_tokens",
            "routing_rules",
            "budget_limit_daily",
            "budget_limit_monthly",
            "limits",
            "allowed_models",
            "allow_model_fallback",
            "api_key",
            "credential",
            "created_at",
            "updated_at",
        ]

    def to_representation(self, instance: LLMConfig) -> Any:
        if not hasattr(instance, "limits"):
            [instance.limits] = configs.limits_of([instance], now=timezone.now())  # type: ignore[attr-defined]
        return super().to_representation(instance)

    def validate_name(self, name: str) -> str:
        if not name.isprintable():
            raise serializers.ValidationError("Not a name that a header could carry.")
        return name

    def validate_routing_rules(self, rules: dict[str, Any]) -> dict[str, Any]:
        """`{"code": {"model_id": reference}}`: known tasks, and models that exist."""
        for task, rule in rules.items():
            if task not in TaskType.values:
                raise serializers.ValidationError(f"“{task}” is no task type. They are: {', '.join(TaskType.values)}.")
            if not isinstance(rule, dict) or rule.keys() != {"model_id"} or not isinstance(rule["model_id"], str):
                raise serializers.ValidationError(f'The rule for {task} is not {{"model_id": "provider/model"}}.')
            _visible(rule["model_id"], task)
        return rules

    def split(self, *, owner_id: int | None) -> tuple[dict[str, Any], KeyChange | None]:
        """The validated fields of the row, and what is to happen to its key (None: nothing)."""
        values = dict(self.validated_data)
        if "api_key" not in values:
            return values, None
        secret: Secret | None = values.pop("api_key")
        given = secret is not None and bool(secret.reveal().strip())
        return values, KeyChange(api_key=secret if given else None, owner_id=owner_id)


def _visible(reference: str, task: str) -> LLMModel:
    try:
        found = references.model(reference)
    except NotFound as error:
        raise serializers.ValidationError(f"The rule for {task}: {error.message}") from error
    if not (found.is_active and found.provider.is_active):
        raise serializers.ValidationError(f"The rule for {task}: {missing(LLMModel).message}")
    return found


class HealthCheckSerializer(serializers.ModelSerializer[ProviderHealthCheck]):
    """One probe."""

    class Meta:
        model = ProviderHealthCheck
        fields: ClassVar[Any] = ["status", "response_time_ms", "status_code", "error", "checked_at"]
        read_only_fields: ClassVar[Any] = fields


class HealthSerializer(serializers.Serializer[Any]):
    """A provider's health: the last probe, and those before it, newest first."""

    provider = serializers.CharField()
    status = serializers.CharField(help_text="healthy, degraded, down or unknown.")
    checked_at = serializers.DateTimeField(allow_null=True)
    response_time_ms = serializers.IntegerField(allow_null=True)
    status_code = serializers.IntegerField(allow_null=True)
    error = serializers.CharField(help_text="What was wrong, in words; empty if nothing.")
    message = serializers.CharField(help_text="What was found, in words.")
    checks = HealthCheckSerializer(many=True)


class TestResultSerializer(serializers.Serializer[Any]):
    """What a probe just found."""

    ok = serializers.BooleanField()
    status = serializers.CharField(help_text="healthy, degraded, down or unknown.")
    message = serializers.CharField(help_text="What was found, in words.")
    response_time_ms = serializers.IntegerField(allow_null=True)
    status_code = serializers.IntegerField(allow_null=True)
    checked_at = serializers.DateTimeField()


class ImportSerializer(StrictSerializer):
    """What to do with the provider's list of models."""

    dry_run = Flag(required=False, default=False, help_text="Only say what would be made.")
    activate = Flag(required=False, default=True, help_text="What is made can be called at once.")


class NotedModelSerializer(serializers.Serializer[Any]):
    """A model of the list, and why it was skipped or has no price."""

    model_id = serializers.CharField()
    why = serializers.CharField()


class PricedModelSerializer(serializers.Serializer[Any]):
    """A model whose price was copied, and from where."""

    model_id = serializers.CharField()
    copied_from = serializers.CharField(help_text="A model of the catalog, as provider/model_id.")


class ImportReportSerializer(serializers.Serializer[Any]):
    """What became of each model of the list. Prices come from the catalog only, never from the list."""

    dry_run = serializers.BooleanField()
    message = serializers.CharField(help_text="The same in words, with what to do next.")
    created = serializers.ListField(child=serializers.CharField())
    known = serializers.ListField(child=serializers.CharField(), help_text="There already, and left as they are.")
    skipped = NotedModelSerializer(many=True)
    priced = PricedModelSerializer(many=True)
    unpriced = NotedModelSerializer(many=True, help_text="Of those created: refused until a price is set.")
