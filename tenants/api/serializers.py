"""Tenants and their keys as staff see them."""

from typing import Any, ClassVar

from rest_framework import serializers

from tenants.api.fields import Percent, StrictModelSerializer, StrictSerializer, Text, Usd, Whole
from tenants.keys import KeySpec
from tenants.models import ApiKey, Scope, Tenant, valid_model_list

_MOST_MODELS = 1000


class StringList(serializers.ListField):
    """A list of strings, bounded."""

    child = Text(max_length=300)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_length": _MOST_MODELS} | kwargs)


class TenantSerializer(StrictModelSerializer):
    """A tenant. `name` defaults to the slug; limits are USD per calendar day or month, null for none."""

    name = Text(max_length=200, required=False)
    markup_percent = Percent(required=False)
    byok_fee_percent = Percent(required=False)

    class Meta:
        model = Tenant
        fields: ClassVar[Any] = [
            "id",
            "slug",
            "name",
            "tier",
            "timezone",
            "budget_limit_daily",
            "budget_limit_monthly",
            "is_active",
            "markup_percent",
            "byok_fee_percent",
            "sandbox_enabled",
            "allow_model_fallback",
            "created_at",
            "updated_at",
        ]

    def create(self, validated_data: dict[str, Any]) -> Tenant:
        return Tenant.objects.create(**{"name": validated_data["slug"]} | validated_data)


class KeySerializer(serializers.ModelSerializer[ApiKey]):
    """A key as it may be read for ever: never the key itself."""

    key = serializers.CharField(source="masked", read_only=True, help_text="Its beginning and its end.")

    class Meta:
        model = ApiKey
        fields: ClassVar[Any] = [
            "id",
            "name",
            "key",
            "scopes",
            "allowed_models",
            "budget_limit_daily",
            "budget_limit_monthly",
            "rate_limit_rpm",
            "rate_limit_tpm",
            "max_concurrency",
            "expires_at",
            "revoked_at",
            "last_used_at",
            "created_at",
        ]
        read_only_fields: ClassVar[Any] = fields
        extra_kwargs: ClassVar[Any] = {}

    budget_limit_daily = Usd(read_only=True, allow_null=True)
    budget_limit_monthly = Usd(read_only=True, allow_null=True)
    scopes = serializers.ListField(child=serializers.CharField(), read_only=True)
    allowed_models = serializers.ListField(child=serializers.CharField(), read_only=True, allow_null=True)


class NewKeySerializer(StrictSerializer):
    """A key to make. Scopes left out are `completions` and `usage:read`; a null limit is none, 0 allows nothing."""

    name = Text(max_length=100)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices), required=False, max_length=20)
    budget_limit_daily = Usd(required=False, allow_null=True)
    budget_limit_monthly = Usd(required=False, allow_null=True)
    allowed_models = StringList(required=False, allow_null=True, validators=[valid_model_list])
    rate_limit_rpm = Whole(required=False, allow_null=True, min_value=0)
    rate_limit_tpm = Whole(required=False, allow_null=True, min_value=0)
    max_concurrency = Whole(required=False, min_value=1)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)

    def spec(self) -> KeySpec:
        """What was asked for, once it is valid."""
        return KeySpec(**self.validated_data)


class IssuedKeySerializer(serializers.Serializer[Any]):
    """A new key: the only time it is shown."""

    id = serializers.UUIDField()
    key = serializers.CharField()


class ReasonSerializer(StrictSerializer):
    """Why, for the audit log."""

    reason = Text(required=False, allow_blank=True, max_length=1000)
