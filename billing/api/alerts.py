"""Alerts and subscriptions to them over HTTP. Translates; `billing.subscriptions` changes the rows."""

import uuid
from typing import Any, ClassVar

from django.db.models import Prefetch, QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics, mixins, viewsets
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from billing import subscriptions
from billing.alert_models import TENANT_EVENTS, Alert, AlertDelivery, AlertSubscription, Event
from billing.api import alert_serializers as serializers
from billing.api.pages import NewestFirst
from billing.api.views import asked, own_tenant, tenant_id_of
from tenants import scoping
from tenants.api.audited import StaffView, TenantView, actor_of
from tenants.auth import IsStaffKey

_PLATFORM_EVENTS = [event for event in Event.values if event not in TENANT_EVENTS]


class SubscriptionViewSet(
    TenantView,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    viewsets.GenericViewSet[AlertSubscription],
):
    """The tenant's subscriptions to alerts."""

    scope = "configs"
    serializer_class: Any = serializers.SubscriptionSerializer
    queryset = AlertSubscription.objects.none()
    filterset_fields: ClassVar[Any] = ["kind", "is_active"]
    search_fields: ClassVar[Any] = ["target"]
    ordering_fields: ClassVar[Any] = ["target", "created_at"]

    def get_queryset(self) -> QuerySet[AlertSubscription]:
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        return scoping.rows(AlertSubscription, tenant_id=own_tenant(self.request))

    def get_object(self) -> AlertSubscription:
        try:
            found = self.get_queryset().filter(pk=uuid.UUID(self.kwargs["subscription"])).first()
        except ValueError:
            found = None
        if found is None:
            raise scoping.missing(AlertSubscription)
        return found

    def whose(self, values: dict[str, Any]) -> uuid.UUID | None:
        """The tenant of a new one."""
        return own_tenant(self.request)

    @extend_schema(responses={201: serializers.NewSubscriptionSerializer})
    def create(self, request: Request) -> Response:
        """Subscribe. The answer is the only time a webhook's secret is shown."""
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        tenant_id = self.whose(values)
        values.setdefault("events", _PLATFORM_EVENTS if tenant_id is None else list(TENANT_EVENTS))
        made, secret = subscriptions.create(
            subscription=AlertSubscription(tenant_id=tenant_id, **values),
            actor=actor_of(request),
            now=timezone.now(),
        )
        return Response({**self.get_serializer(made).data, "secret": secret or None}, status=201)

    def partial_update(self, request: Request, subscription: str) -> Response:
        row = self.get_object()
        given = self.get_serializer(row, data=request.data, partial=True)
        given.is_valid(raise_exception=True)
        row = subscriptions.update(
            subscription=row, values=given.validated_data, actor=actor_of(request), now=timezone.now()
        )
        return Response(self.get_serializer(row).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, subscription: str) -> Response:
        """Unsubscribe. What still waits to be sent is dropped."""
        subscriptions.delete(subscription=self.get_object(), actor=actor_of(request), now=timezone.now())
        return Response(status=204)

    @extend_schema(request=None, responses=serializers.SecretSerializer)
    def rotate_secret(self, request: Request, subscription: str) -> Response:
        """Make a new secret, shown this once. From now on it alone signs what is sent."""
        row = self.get_object()
        secret = subscriptions.rotate_secret(subscription=row, actor=actor_of(request), now=timezone.now())
        return Response({"id": str(row.pk), "secret": secret})


class AdminSubscriptionViewSet(SubscriptionViewSet):
    """Subscriptions of the platform, and of all tenants."""

    permission_classes = StaffView.permission_classes
    staff_permission = "billing.{verb}_alertsubscription"
    serializer_class = serializers.AdminSubscriptionSerializer
    filterset_fields: ClassVar[Any] = ["kind", "is_active", "tenant"]
    search_fields: ClassVar[Any] = ["target", "tenant__slug"]

    def get_queryset(self) -> QuerySet[AlertSubscription]:
        return AlertSubscription.objects.select_related("tenant")

    @extend_schema(responses={201: serializers.AdminNewSubscriptionSerializer})
    def create(self, request: Request) -> Response:
        """Subscribe. The answer is the only time a webhook's secret is shown."""
        return super().create(request)

    def whose(self, values: dict[str, Any]) -> uuid.UUID | None:
        tenant = values.pop("tenant", None)
        return None if tenant is None else tenant.pk


class AlertList(generics.ListAPIView[Alert]):
    """What the tenant was, or should have been, told of, newest first."""

    scope = "configs"
    serializer_class = serializers.AlertSerializer
    query: ClassVar[type[Serializer[Any]]] = serializers.AlertQuery
    pagination_class = NewestFirst
    filter_backends = ()
    queryset = Alert.objects.none()

    @extend_schema(operation_id="alerts_list", parameters=[serializers.AlertQuery])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[Alert]:
        given = asked(self.query, self.request)
        rows = self.rows(given)
        return rows.filter(event=given["event"]) if "event" in given else rows

    def rows(self, _given: dict[str, Any]) -> QuerySet[Alert]:
        tenant_id = own_tenant(self.request)
        # Whom else the gateway tells of a tenant's budgets is not the tenant's business.
        own = AlertDelivery.objects.filter(subscription__tenant_id=tenant_id)
        return _with_deliveries(scoping.rows(Alert, tenant_id=tenant_id), own)


class AdminAlertList(AlertList):
    """Alerts of the platform and of all tenants, or of one."""

    permission_classes = [IsStaffKey]
    staff_permission = "billing.view_alert"
    query = serializers.AdminAlertQuery

    @extend_schema(operation_id="admin_alerts_list", parameters=[serializers.AdminAlertQuery])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    def rows(self, given: dict[str, Any]) -> QuerySet[Alert]:
        tenant_id = tenant_id_of(given.get("tenant"))
        rows = Alert.objects.all() if tenant_id is None else Alert.objects.filter(tenant_id=tenant_id)
        return _with_deliveries(rows, AlertDelivery.objects.all())


def _with_deliveries(alerts: QuerySet[Alert], deliveries: QuerySet[AlertDelivery]) -> QuerySet[Alert]:
    told = Prefetch("deliveries", deliveries.select_related("subscription").order_by("pk"))
    return alerts.select_related("tenant").prefetch_related(told)
