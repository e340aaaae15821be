"""Prepaid credit and adjustments over HTTP: tenants read their own, staff read and enter them."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response

from billing import adjustments, granting
from billing.api import credit_serializers as shapes
from billing.api.pages import NewestFirst
from billing.api.views import own_tenant
from billing.credit_models import CreditEntry
from billing.models import Adjustment
from tenants import scoping
from tenants.api.audited import StaffView, TenantView, actor_of
from tenants.api.views import id_of, tenant_of
from tenants.models import Tenant


class OwnCredits(TenantView):
    """The tenant's prepaid credit: what is left, what is held, its grants and when they expire."""

    scope: ClassVar[Any] = "usage:read"

    @extend_schema(operation_id="credits", responses=shapes.Credits)
    def get(self, request: Request) -> Response:
        tenant = Tenant.objects.get(pk=own_tenant(request))
        picture = granting.picture(tenant_id=tenant.pk, now=timezone.now())
        return Response(shapes.Credits(shapes.shown(tenant, picture)).data)


class TenantCredits(StaffView):
    """A tenant's prepaid credit, for staff."""

    staff_permission = "billing.{verb}_creditentry"

    @extend_schema(operation_id="admin_tenant_credits", responses=shapes.AdminCredits)
    def get(self, request: Request, tenant: str) -> Response:
        """What is left, what is held, and every grant."""
        row = tenant_of(tenant)
        picture = granting.picture(tenant_id=row.pk, now=timezone.now())
        return Response(shapes.AdminCredits(shapes.shown(row, picture)).data)

    @extend_schema(
        operation_id="admin_tenant_credits_grant",
        request=shapes.NewGrantSerializer,
        responses={201: shapes.CreditEntryRow},
    )
    def post(self, request: Request, tenant: str) -> Response:
        """Give credit. Requests of a prepaid tenant may draw it at once."""
        row = tenant_of(tenant)
        given = shapes.NewGrantSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        entry = granting.grant(tenant=row, wish=given.wish(), actor=actor_of(request), now=timezone.now())
        return Response(shapes.CreditEntryRow(entry).data, status=201)


class CorrectGrant(StaffView):
    """A correction of a grant, for staff."""

    staff_permission = "billing.add_creditentry"

    @extend_schema(
        operation_id="admin_tenant_credits_correct",
        request=shapes.CorrectGrantSerializer,
        responses={201: shapes.CreditEntryRow},
    )
    def post(self, request: Request, tenant: str, grant: str) -> Response:
        """Change what a grant gave, by a signed amount."""
        entry = scoping.one(CreditEntry, tenant_id=tenant_of(tenant).pk, pk=id_of(grant, CreditEntry), kind="grant")
        given = shapes.CorrectGrantSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        made = granting.correct(entry=entry, **given.validated_data, actor=actor_of(request), now=timezone.now())
        return Response(shapes.CreditEntryRow(made).data, status=201)


class OwnAdjustments(TenantView, generics.ListAPIView[Adjustment]):
    """Corrections of what the tenant owes, newest first, each with its reason."""

    scope: ClassVar[Any] = "usage:read"
    serializer_class: Any = shapes.AdjustmentRow
    pagination_class = NewestFirst
    filter_backends = ()
    queryset = Adjustment.objects.none()

    @extend_schema(operation_id="adjustments_list")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[Adjustment]:
        return scoping.rows(Adjustment, tenant_id=own_tenant(self.request))


class TenantAdjustments(StaffView, generics.ListAPIView[Adjustment]):
    """A tenant's adjustments, for staff."""

    staff_permission = "billing.{verb}_adjustment"
    serializer_class: Any = shapes.AdminAdjustmentRow
    pagination_class = NewestFirst
    filter_backends = ()
    queryset = Adjustment.objects.none()

    @extend_schema(operation_id="admin_tenant_adjustments_list")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[Adjustment]:
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        return scoping.rows(Adjustment, tenant_id=tenant_of(self.kwargs["tenant"]).pk)

    @extend_schema(
        operation_id="admin_tenant_adjustments_enter",
        request=shapes.NewAdjustmentSerializer,
        responses={201: shapes.AdminAdjustmentRow},
    )
    def post(self, request: Request, tenant: str) -> Response:
        """Enter a correction. A finalised period's goes into the next open one."""
        row = tenant_of(tenant)
        given = shapes.NewAdjustmentSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        made = adjustments.enter(tenant=row, correction=given.correction(), actor=actor_of(request), now=timezone.now())
        return Response(shapes.AdminAdjustmentRow(made).data, status=201)
