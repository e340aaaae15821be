"""Tenants and their keys, for staff."""

import uuid
from typing import Any, ClassVar

from django.db.models import Model, QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from tenants import scoping, standing, terms
from tenants.api import serializers
from tenants.api.audited import AuditedMixin, StaffView, actor_of
from tenants.errors import NotFound
from tenants.models import ApiKey, Tenant, TierTerms
from tenants.tiers import Tier


def tenant_of(reference: str) -> Tenant:
    """The tenant with this id or slug. Raises NotFound."""
    text = reference.removesuffix("/")
    try:
        found = Tenant.objects.filter(pk=uuid.UUID(text)).first()
    except ValueError:
        found = None
    if found is None and text.isprintable() and len(text) <= 64:
        found = Tenant.objects.filter(slug=text).first()
    if found is None:
        raise scoping.missing(Tenant)
    return found


class TenantViewSet(
    StaffView,
    AuditedMixin,
    mixins.ListModelMixin,
    mixins.CreateModelMixin,
    mixins.RetrieveModelMixin,
    mixins.UpdateModelMixin,
    viewsets.GenericViewSet[Tenant],
):
    """Tenants. They are suspended, never deleted: their usage is what statements are made of."""

    staff_permission = "tenants.{verb}_tenant"
    queryset = Tenant.objects.all()
    serializer_class = serializers.TenantSerializer
    filterset_fields: ClassVar[Any] = ["slug", "tier", "is_active", "sandbox_enabled"]
    search_fields: ClassVar[Any] = ["slug", "name"]
    ordering_fields: ClassVar[Any] = ["slug", "name", "tier", "created_at"]

    def get_object(self) -> Tenant:
        return tenant_of(self.kwargs["tenant"])

    @extend_schema(request=serializers.ReasonSerializer, responses=serializers.TenantSerializer)
    def suspend(self, request: Request, tenant: str) -> Response:
        """Refuse every request of this tenant, within a second."""
        row, reason = self.get_object(), _reason(request)
        row = standing.suspend(tenant=row, actor=actor_of(request), now=timezone.now(), reason=reason)
        return Response(self.get_serializer(row).data)

    @extend_schema(request=serializers.ReasonSerializer, responses=serializers.TenantSerializer)
    def resume(self, request: Request, tenant: str) -> Response:
        """Answer this tenant's requests again."""
        row, reason = self.get_object(), _reason(request)
        row = standing.resume(tenant=row, actor=actor_of(request), now=timezone.now(), reason=reason)
        return Response(self.get_serializer(row).data)


class TierViewSet(StaffView, viewsets.ViewSet):
    """What tenants of each tier owe, unless they have terms of their own."""

    staff_permission = "tenants.{verb}_tierterms"

    @extend_schema(operation_id="admin_tiers_list", responses=serializers.TierSerializer(many=True))
    def list(self, request: Request) -> Response:
        """The four tiers, the lowest first."""
        rows = serializers.TierSerializer(list(terms.of_tiers().values()), many=True).data
        return Response({"count": len(rows), "next": None, "previous": None, "results": rows})

    @extend_schema(operation_id="admin_tiers_retrieve", responses=serializers.TierSerializer)
    def retrieve(self, request: Request, tier: str) -> Response:
        return Response(serializers.TierSerializer(self.row(tier)).data)

    @extend_schema(request=serializers.TierSerializer, responses=serializers.TierSerializer)
    def update(self, request: Request, tier: str) -> Response:
        """Live within two seconds; what was billed stays billed."""
        return self.change(request, tier, partial=False)

    @extend_schema(request=serializers.TierSerializer, responses=serializers.TierSerializer)
    def partial_update(self, request: Request, tier: str) -> Response:
        """The same for some of the fields."""
        return self.change(request, tier, partial=True)

    def change(self, request: Request, tier: str, *, partial: bool) -> Response:
        given = serializers.TierSerializer(self.row(tier), data=request.data, partial=partial)
        given.is_valid(raise_exception=True)
        row = terms.change(
            tier=tier.removesuffix("/"), values=given.validated_data, actor=actor_of(request), now=timezone.now()
        )
        return Response(serializers.TierSerializer(row).data)

    def row(self, tier: str) -> TierTerms:
        found = terms.of_tiers().get(tier.removesuffix("/"))
        if found is None:
            raise NotFound(f"There is no such tier. They are: {', '.join(Tier.values)}.")
        return found


def _reason(request: Request) -> str:
    given = serializers.ReasonSerializer(data=request.data or {})
    given.is_valid(raise_exception=True)
    return str(given.validated_data.get("reason", ""))


class KeyViewSet(StaffView, mixins.ListModelMixin, viewsets.GenericViewSet[ApiKey]):
    """A tenant's keys to Tollgate."""

    staff_permission = "tenants.{verb}_apikey"
    serializer_class = serializers.KeySerializer
    queryset = ApiKey.objects.none()
    filterset_fields: ClassVar[Any] = ["name"]
    search_fields: ClassVar[Any] = ["name", "last_four"]
    ordering_fields: ClassVar[Any] = ["name", "created_at", "last_used_at", "expires_at"]

    def get_queryset(self) -> QuerySet[ApiKey]:
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        return scoping.rows(ApiKey, tenant_id=tenant_of(self.kwargs["tenant"]).pk).select_related("owner")

    def get_object(self) -> ApiKey:
        return scoping.one(ApiKey, tenant_id=tenant_of(self.kwargs["tenant"]).pk, pk=id_of(self.kwargs["key"], ApiKey))

    @extend_schema(request=serializers.NewKeySerializer, responses={201: serializers.IssuedKeySerializer})
    def create(self, request: Request, tenant: str) -> Response:
        """Make a key. The answer is the only time it is shown."""
        row = tenant_of(tenant)
        given = serializers.NewKeySerializer(data=request.data, context={"tenant_id": row.pk})
        given.is_valid(raise_exception=True)
        key, secret = standing.issue_key(tenant=row, spec=given.spec(), actor=actor_of(request), now=timezone.now())
        return Response({"id": str(key.pk), "key": secret}, status=201)

    def retrieve(self, request: Request, tenant: str, key: str) -> Response:
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, tenant: str, key: str) -> Response:
        """Revoke the key: refused within a second."""
        standing.revoke_key(key=self.get_object(), actor=actor_of(request), now=timezone.now())
        return Response(status=204)


def id_of(text: str, model: type[Model]) -> uuid.UUID:
    """The id in a path. Raises NotFound for what is none."""
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise scoping.missing(model) from error
