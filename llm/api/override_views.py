"""Tenants' own prices, for staff."""

import uuid
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import mixins, serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from llm.api.fields import ComponentsField, ModelReference
from llm.api.price_serializers import ProposalSerializer
from llm.catalog import overrides, prices
from llm.models import PriceOverride, PriceProposal
from tenants import scoping
from tenants.api.audited import StaffView, actor_of, caller_of
from tenants.api.fields import Flag, StrictSerializer, Text
from tenants.api.views import id_of, tenant_of
from tenants.errors import InvalidValue

_CONFIRM = OpenApiParameter(
    "confirm", bool, description="It is meant, although the tenant will pay more than five times more or less."
)


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
        return ComponentsField().to_representation(overrides.parts_of(row))


class NewOverrideSerializer(StrictSerializer):
    """A price for one tenant. Without `effective_from` it begins now, without `effective_to` it holds for good.
    `confirm`: it is meant, although it is more than five times off what the tenant pays."""

    model = ModelReference()
    components = ComponentsField()
    effective_from = serializers.DateTimeField(required=False, allow_null=True)
    effective_to = serializers.DateTimeField(required=False, allow_null=True)
    reason = Text(max_length=2000, help_text="Why, such as the contract it is from.")
    confirm = Flag(required=False, default=False)


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

    @extend_schema(request=NewOverrideSerializer, responses={201: OverrideSerializer, 202: ProposalSerializer})
    def create(self, request: Request, tenant: str) -> Response:
        """Set a price for this tenant, from now or from a date. The one in force ends there. More than five times off
        what the tenant pays asks for `confirm: true`. 202: it waits for a second person (PRICE_FOUR_EYES=all)."""
        row = tenant_of(tenant)
        given = NewOverrideSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        model = values.pop("model")
        made = prices.set_own_price(
            tenant=row,
            model=model,
            wish=overrides.NewOverride(**values),
            person_id=caller_of(request).owner.pk,
            actor=actor_of(request),
            now=timezone.now(),
        )
        if isinstance(made, PriceProposal):
            return Response(ProposalSerializer(made).data, status=202)
        return Response(self.get_serializer(made).data, status=201)

    def retrieve(self, request: Request, tenant: str, price: str) -> Response:
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(parameters=[_CONFIRM], responses={204: None, 202: ProposalSerializer})
    def destroy(self, request: Request, tenant: str, price: str) -> Response:
        """End the price: from now on the list price and the markup count again. It stays in the history. More than five
        times up or down for the tenant asks for `?confirm=true`. 202: it waits for a second person."""
        confirm = request.query_params.get("confirm", "false")
        if confirm not in ("true", "false"):
            raise InvalidValue("Not true or false.", param="confirm")
        ended = prices.end_own_price(
            override=self.get_object(),
            confirm=confirm == "true",
            person_id=caller_of(request).owner.pk,
            actor=actor_of(request),
            now=timezone.now(),
        )
        if isinstance(ended, PriceProposal):
            return Response(ProposalSerializer(ended).data, status=202)
        return Response(status=204)
