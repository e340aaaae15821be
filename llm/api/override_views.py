"""Tenants' own prices, for staff."""

import uuid
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from llm.api.fields import ComponentsField, ModelReference
from llm.catalog import overrides, prices
from llm.models import PriceOverride
from llm.models.prices import PER_MILLION
from tenants import scoping
from tenants.api.audited import StaffView, actor_of
from tenants.api.fields import StrictSerializer, Text
from tenants.api.views import id_of, tenant_of


class OverrideSerializer(serializers.ModelSerializer[PriceOverride]):
    """One tenant's own price of one model. No markup is added to it."""

    model = ModelReference(read_only=True)
    components = serializers.SerializerMethodField()

    class Meta:
        model = PriceOverride
        fields: ClassVar[Any] = [
            *("id", "number", "model", "components", "effective_from", "effective_to"),
            *("reason", "author", "recorded_at"),
        ]
        read_only_fields: ClassVar[Any] = fields

    @extend_schema_field(ComponentsField)
    def get_components(self, row: PriceOverride) -> Any:
        rows = [
            prices.Component(one.meter, one.unit_price_usd * PER_MILLION / one.unit_quantity, one.above_tokens)
            for one in row.components.all()
        ]
        return ComponentsField().to_representation(rows)


class NewOverrideSerializer(StrictSerializer):
    """A price for one tenant. Without `effective_from` it begins now, without `effective_to` it holds for good."""

    model = ModelReference()
    components = ComponentsField()
    effective_from = serializers.DateTimeField(required=False, allow_null=True)
    effective_to = serializers.DateTimeField(required=False, allow_null=True)
    reason = Text(max_length=2000, help_text="Why, such as the contract it is from.")


class OverrideViewSet(StaffView, mixins.ListModelMixin, viewsets.GenericViewSet[PriceOverride]):
    """A tenant's own prices through time, newest first. They are added to and ended, never edited."""

    staff_permission = "llm.{verb}_priceoverride"
    serializer_class = OverrideSerializer
    queryset = PriceOverride.objects.none()
    filterset_fields: ClassVar[Any] = ["model"]
    ordering_fields: ClassVar[Any] = ["effective_from", "recorded_at"]

    def get_queryset(self) -> QuerySet[PriceOverride]:
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        mine = scoping.rows(PriceOverride, tenant_id=tenant_of(self.kwargs["tenant"]).pk)
        return mine.select_related("model__provider").prefetch_related("components").order_by("-recorded_at", "-number")

    def get_object(self) -> PriceOverride:
        price: uuid.UUID = id_of(self.kwargs["price"], PriceOverride)
        return scoping.one(PriceOverride, tenant_id=tenant_of(self.kwargs["tenant"]).pk, pk=price)

    @extend_schema(request=NewOverrideSerializer, responses={201: OverrideSerializer})
    def create(self, request: Request, tenant: str) -> Response:
        """Set a price for this tenant, from now or from a date. The one in force ends there."""
        row = tenant_of(tenant)
        given = NewOverrideSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        model = values.pop("model")
        made = overrides.set_override(
            tenant=row, model=model, wish=overrides.NewOverride(**values), actor=actor_of(request), now=timezone.now()
        )
        return Response(self.get_serializer(made).data, status=201)

    def retrieve(self, request: Request, tenant: str, price: str) -> Response:
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, tenant: str, price: str) -> Response:
        """End the price: from now on the list price and the markup count again. It stays in the history."""
        overrides.end_override(override=self.get_object(), actor=actor_of(request), now=timezone.now())
        return Response(status=204)
