"""Tenants' own provider keys (BYOK) as the API takes and shows them: the key goes in and never comes out."""

from datetime import timedelta
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing.api.serializers import Usd
from llm.api.fields import ProviderReference
from llm.api.routing_serializers import SecretField
from llm.models import ProviderCredential
from tenants.api.fields import StrictModelSerializer, StrictSerializer, Text, Whole

MOST_OVERLAP_H = 168


class RotationSerializer(serializers.Serializer[Any]):
    """How long the secret before the last rotation comes back if the new one is refused; null: it is gone."""

    previous_until = serializers.DateTimeField(allow_null=True)


class KeyTotalsSerializer(serializers.Serializer[Any]):
    """What a key has served since it was added."""

    requests = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    cost_usd = Usd(source="cost_total_usd", help_text="The provider's list price.")
    # DRF takes fields out of the class, so the property of that name stays what it is.
    errors = serializers.IntegerField(help_text="Answered with status 400 or above.")  # type: ignore[assignment]


class OwnKeySerializer(StrictModelSerializer):
    """An own provider key. `key_name` is accepted for `name`; another secret for it goes to `.../rotate`."""

    aliases: ClassVar[Any] = {"key_name": "name"}

    provider = ProviderReference(active_only=True)
    provider_id = serializers.UUIDField(read_only=True)
    name = Text(source="key_name", max_length=100)
    api_key = SecretField()
    weight = Whole(required=False, min_value=0, help_text="The share of requests among your keys of a provider.")
    masked = serializers.CharField(read_only=True, help_text="Its first and last four characters.")
    last_used_at = serializers.DateTimeField(read_only=True, allow_null=True)
    rotation = RotationSerializer(source="*", read_only=True)
    user_id = serializers.CharField(read_only=True, allow_null=True, help_text="Whose key to Tollgate added it.")
    totals = serializers.SerializerMethodField()

    class Meta:
        model = ProviderCredential
        fields: ClassVar[Any] = [
            *("id", "provider", "provider_id", "name", "api_key", "weight", "is_active"),
            *("masked", "prefix", "suffix", "fingerprint"),
            *("is_validated", "validation_error", "last_validated_at", "last_used_at", "last_rotated_at", "rotation"),
            *("user_id", "created_at", "totals"),
        ]
        read_only_fields: ClassVar[Any] = [
            *("prefix", "suffix", "fingerprint", "is_validated", "validation_error"),
            *("last_validated_at", "last_rotated_at"),
        ]

    def get_fields(self) -> dict[str, Any]:
        """A change may leave out what cannot change."""
        fields = super().get_fields()
        if isinstance(self.instance, ProviderCredential):
            fields["provider"].required = fields["api_key"].required = False
        return fields

    @extend_schema_field(KeyTotalsSerializer)
    def get_totals(self, key: ProviderCredential) -> Any:
        return KeyTotalsSerializer(self.context["totals"][key.pk]).data

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        key = self.instance
        if not isinstance(key, ProviderCredential):
            return attrs
        if "api_key" in attrs:
            where = f"POST /api/v1/llm/byok/keys/{key.pk}/rotate"
            raise serializers.ValidationError({"api_key": [f"Another secret is put in its place by {where}."]})
        if attrs.pop("provider", key.provider) != key.provider:
            raise serializers.ValidationError({"provider": ["A key stays with its provider. Add another key instead."]})
        return attrs


class RotateOwnKeySerializer(StrictSerializer):
    """The new secret, and for how many hours the one before it may come back."""

    api_key = SecretField()
    overlap_hours = Whole(required=False, min_value=0, max_value=MOST_OVERLAP_H, default=24)

    def validate_overlap_hours(self, hours: int) -> timedelta:
        return timedelta(hours=hours)
