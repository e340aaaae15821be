"""Subscriptions to alerts, and alerts with what became of them, as `/api/v1/` carries them."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing.alert_models import MOST_THRESHOLDS, Alert, AlertDelivery, AlertSubscription, Event
from tenants.api.fields import Choice, StrictModelSerializer, Text, Whole
from tenants.api.views import tenant_of
from tenants.errors import NotFound
from tenants.models import Tenant

_FIELDS = ["id", "kind", "target", "events", "thresholds", "is_active", "created_by", "created_at", "updated_at"]
_FIXED = "It cannot be changed. Delete this subscription and make another."


@extend_schema_field({"type": "string", "nullable": True, "description": "A UUID or a slug; read as the slug."})
class TenantReference(serializers.Field[Any, Any, Any, Any]):
    """A tenant by UUID or slug."""

    def to_internal_value(self, data: Any) -> Tenant:
        if not isinstance(data, str):
            raise serializers.ValidationError("Not a reference: a string is wanted.")
        try:
            return tenant_of(data)
        except NotFound as error:
            raise serializers.ValidationError(error.message) from error

    def to_representation(self, value: Tenant) -> str:
        return value.slug


class SubscriptionSerializer(StrictModelSerializer):
    """A subscription of the tenant: an e-mail address or a webhook, and what it is told of."""

    kind = Choice(choices=AlertSubscription.Kind.choices)
    target = Text(max_length=500, help_text="An e-mail address, or an https URL on port 443 of a public host.")
    events = serializers.ListField(
        child=Choice(choices=Event.choices),
        required=False,
        allow_empty=False,
        max_length=len(Event.values),
        help_text="What it is told of. Left out: all that it may be (the platform's own events, for the platform).",
    )
    thresholds = serializers.ListField(
        child=Whole(min_value=1, max_value=100),
        required=False,
        allow_empty=False,
        max_length=MOST_THRESHOLDS,
        help_text="At which percentages of a budget it is told. Left out: 50, 80 and 100.",
    )

    class Meta:
        model = AlertSubscription
        fields: ClassVar[Any] = _FIELDS
        read_only_fields: ClassVar[Any] = ["created_by"]

    def validate_kind(self, kind: str) -> str:
        return str(self._fixed("kind", kind))

    def validate_events(self, events: list[str]) -> list[str]:
        return list(dict.fromkeys(events))

    def validate_thresholds(self, thresholds: list[int]) -> list[int]:
        return sorted(set(thresholds))

    def _fixed(self, name: str, value: Any) -> Any:
        """What another subscription would be."""
        if self.instance is not None and getattr(self.instance, name) != value:
            raise serializers.ValidationError(_FIXED)
        return value


class AdminSubscriptionSerializer(SubscriptionSerializer):
    """A subscription of a tenant, or (without one) of the platform, whose URL may be http and private."""

    tenant = TenantReference(required=False, allow_null=True, help_text="Whose events. Null: the platform's.")

    class Meta(SubscriptionSerializer.Meta):
        fields: ClassVar[Any] = ["tenant", *_FIELDS]

    def validate_tenant(self, tenant: Tenant | None) -> Tenant | None:
        fixed: Tenant | None = self._fixed("tenant", tenant)
        return fixed


class WithSecretMixin(serializers.Serializer[Any]):
    """The only time the secret is shown."""

    secret = serializers.CharField(
        read_only=True, allow_null=True, help_text="What webhooks are signed with, shown this once. Null for e-mail."
    )


class NewSubscriptionSerializer(WithSecretMixin, SubscriptionSerializer):
    """A new subscription with its secret."""

    class Meta(SubscriptionSerializer.Meta):
        fields: ClassVar[Any] = [*SubscriptionSerializer.Meta.fields, "secret"]


class AdminNewSubscriptionSerializer(WithSecretMixin, AdminSubscriptionSerializer):
    """The same for staff."""

    class Meta(AdminSubscriptionSerializer.Meta):
        fields: ClassVar[Any] = [*AdminSubscriptionSerializer.Meta.fields, "secret"]


class SecretSerializer(serializers.Serializer[Any]):
    """A new secret: the only time it is shown."""

    id = serializers.UUIDField()
    secret = serializers.CharField()


class DeliverySerializer(serializers.ModelSerializer[AlertDelivery]):
    """An alert on its way to one subscription."""

    kind = serializers.CharField(source="subscription.kind", read_only=True)
    target = serializers.CharField(source="subscription.target", read_only=True)

    class Meta:
        model = AlertDelivery
        fields: ClassVar[Any] = [
            "id",
            "subscription",
            "kind",
            "target",
            "status",
            "attempts",
            "response_status",
            "last_error",
            "next_try_at",
            "delivered_at",
        ]
        read_only_fields: ClassVar[Any] = fields


class AlertSerializer(serializers.ModelSerializer[Alert]):
    """Something that happened, and what became of telling it. `ended_at` is null while it lasts."""

    tenant = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True, allow_null=True)
    message = serializers.CharField(source="title", read_only=True)
    deliveries = DeliverySerializer(many=True, read_only=True)

    class Meta:
        model = Alert
        fields: ClassVar[Any] = ["id", "event", "tenant", "message", "data", "created_at", "ended_at", "deliveries"]
        read_only_fields: ClassVar[Any] = fields


class AlertQuery(serializers.Serializer[Any]):
    """The filters of the list of alerts."""

    event = serializers.ChoiceField(Event.choices, required=False)


class AdminAlertQuery(AlertQuery):
    """The same for staff."""

    tenant = serializers.CharField(required=False, max_length=64, help_text="A tenant's id or slug.")
