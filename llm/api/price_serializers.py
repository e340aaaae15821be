"""Prices and proposed prices, for staff."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from llm.api.fields import ComponentsField
from llm.api.serializers import PriceSerializer
from llm.catalog import prices
from llm.catalog.components import from_json
from llm.catalog.proposals import Decision
from llm.models import PriceProposal
from tenants.api.fields import Flag, StrictSerializer, Text, Usd


class PriceChangeSerializer(StrictSerializer):
    """A new price. `effective_from` left out: now. `draft`: only kept, until it is proposed or cancelled."""

    effective_from = serializers.DateTimeField(required=False, allow_null=True, default=None)
    components = ComponentsField()
    reason = Text(required=False, allow_blank=True, max_length=2000, default="")
    confirm = Flag(required=False, default=False)
    draft = Flag(required=False, default=False)

    def change(self, **who: Any) -> prices.PriceChange:
        """What was asked for, once it is valid, and by whom."""
        return prices.PriceChange(**self.validated_data, **who)


class FinishSerializer(StrictSerializer):
    """A draft is finished. `confirm`: it is meant, although it is more than five times off or cancels a scheduled
    price."""

    confirm = Flag(required=False, default=False)


class RejectionSerializer(StrictSerializer):
    """Why these are not wanted."""

    reason = Text(max_length=2000)

    def decision(self, person_id: int) -> Decision:
        """What was decided, once it is valid."""
        values = {name: value for name, value in self.validated_data.items() if name != "ids"}
        return Decision(**values, person_id=person_id)


class ApprovalSerializer(RejectionSerializer):
    """Why, and from when: left out, from the proposed moment, or now if that is past. `confirm`: it is meant, although
    it is more than five times off, cancels a scheduled price, or the price has changed since it was proposed."""

    effective_from = serializers.DateTimeField(required=False, allow_null=True, default=None)
    confirm = Flag(required=False, default=False)


def _ids() -> Any:
    return serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=1000)


class BulkRejectionSerializer(RejectionSerializer):
    """The same for several, all or none."""

    ids = _ids()


class BulkApprovalSerializer(ApprovalSerializer):
    """The same for several, all or none."""

    ids = _ids()


class MeterChangeSerializer(StrictSerializer):
    """One meter: USD per million before and after; null for none. `percent` is rounded to 0.01."""

    name = serializers.CharField()
    old = serializers.CharField(allow_null=True)
    new = serializers.CharField(allow_null=True)
    percent = serializers.CharField(allow_null=True)


class CostSerializer(StrictSerializer):
    """The same requests at the old and at the new price: list price, exact, in USD."""

    requests = serializers.IntegerField()
    old_usd = serializers.CharField()
    new_usd = serializers.CharField()
    change_usd = serializers.CharField()


class TenantCostSerializer(CostSerializer):
    """One tenant's share of it."""

    tenant = serializers.CharField()
    tenant_id = serializers.UUIDField()


class ImpactSerializer(CostSerializer):
    """The 30 days before it was worked out. `unchanged_requests` could not be priced anew and kept their cost."""

    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    unchanged_requests = serializers.IntegerField()
    tenants = TenantCostSerializer(many=True)


class WantedSerializer(StrictSerializer):
    """What is wanted of a tenant's own price: one to set, or the id of the one that is to end."""

    components = serializers.SerializerMethodField()
    effective_from = serializers.DateTimeField(allow_null=True)
    effective_to = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField()
    ends = serializers.UUIDField(allow_null=True)

    @extend_schema_field(ComponentsField)
    def get_components(self, wanted: dict[str, Any]) -> Any:
        return ComponentsField().to_representation(from_json(wanted["components"]))


class ProposalSerializer(serializers.ModelSerializer[PriceProposal]):
    """A proposed price: what it changes, what that would have cost, and what became of it. Of a list price `version` is
    the price; of a `tenant`'s own price `wanted`, which is not re-costed."""

    model = serializers.CharField(source="model.reference")
    version = PriceSerializer(allow_null=True)
    tenant = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True, allow_null=True)
    wanted = WantedSerializer(allow_null=True)
    changes = MeterChangeSerializer(many=True)
    impact = ImpactSerializer(allow_null=True)
    impact_usd = Usd(min_value=None, allow_null=True)

    class Meta:
        model = PriceProposal
        fields: ClassVar[Any] = [
            "id",
            "model",
            "model_id",
            "version",
            "tenant",
            "wanted",
            "state",
            "source",
            "source_version",
            "is_informational",
            "batch",
            "changes",
            "largest_percent",
            "impact",
            "impact_usd",
            "note",
            "proposer",
            "created_at",
            "decider",
            "decided_at",
            "decision_reason",
        ]
        read_only_fields: ClassVar[Any] = fields
