"""What one key has used, over HTTP: a tenant's API key, or a provider key of its own, for the tenant and for staff."""

import uuid
from datetime import date
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import key_usage, windows
from billing.api.serializers import Measures, SpanQuery, Usd, from_and_to
from billing.api.views import asked, own_tenant, span_of
from tenants import scoping
from tenants.api.audited import StaffView, TenantView, caller_of
from tenants.api.views import id_of, tenant_of
from tenants.models import ApiKey


class KeyMeasures(Measures):
    """The figures of some requests of the key."""

    byok_share = Usd(help_text="The part of its requests that own provider keys answered, 0 to 1.")


class OfProvider(KeyMeasures):
    """Of one provider."""

    provider = serializers.CharField(help_text="Its slug.")


class OfModel(KeyMeasures):
    """Of one model."""

    model = serializers.CharField(help_text="provider/model_id")


class OfPowerLevel(KeyMeasures):
    """Of one power level."""

    power_level = serializers.CharField(help_text="Empty: the request named a model.")


class OfDay(KeyMeasures):
    """Of one billing day."""

    day = serializers.DateField()


class KeyUsage(serializers.Serializer[Any]):
    """What a key has used in a span of billing days. Lists are dearest first; days in order, empty ones left out."""

    key = serializers.UUIDField()
    since = serializers.DateField()
    until = serializers.DateField()
    total = KeyMeasures()
    by_provider = OfProvider(many=True)
    by_model = OfModel(many=True)
    by_power_level = OfPowerLevel(many=True)
    by_day = OfDay(many=True)

    def get_fields(self) -> dict[str, Any]:
        return from_and_to(super().get_fields(), "since", "until")


def answer(
    request: Request, *, tenant_id: uuid.UUID, column: key_usage.KeyColumn, key: uuid.UUID, today: date
) -> Response:
    """The key's figures in the span that the query names; without one, 30 days to `today`."""
    start, end = span_of(asked(SpanQuery, request), today=today)
    found = key_usage.of_key(tenant_id=tenant_id, column=column, key=key, start=start, end=end)
    return Response(KeyUsage({"key": key, "from": start, "to": end, **found}).data)


class OwnKeyUsage(TenantView):
    """What one of the tenant's keys has used: in all, by provider, model, power level and day."""

    scope = "usage:read"

    @extend_schema(operation_id="key_usage", parameters=[SpanQuery], responses=KeyUsage)
    def get(self, request: Request, key: str) -> Response:
        tenant_id = own_tenant(request)
        row = scoping.one(ApiKey, tenant_id=tenant_id, pk=id_of(key, ApiKey))
        today = windows.billing_day(timezone.now(), caller_of(request).timezone)
        return answer(request, tenant_id=tenant_id, column="key_id", key=row.pk, today=today)


class TenantKeyUsage(StaffView):
    """The same for staff."""

    staff_permission = "billing.view_usagerecord"

    @extend_schema(operation_id="admin_key_usage", parameters=[SpanQuery], responses=KeyUsage)
    def get(self, request: Request, tenant: str, key: str) -> Response:
        row = tenant_of(tenant)
        found = scoping.one(ApiKey, tenant_id=row.pk, pk=id_of(key, ApiKey))
        today = windows.billing_day(timezone.now(), row.timezone)
        return answer(request, tenant_id=row.pk, column="key_id", key=found.pk, today=today)
