"""Usage over HTTP, for tenants and for staff. Translates; `billing.reports` answers."""

import uuid
from datetime import date, datetime, timedelta
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from billing import reports, windows
from billing.api import serializers
from billing.api.pages import NewestFirst
from billing.models import UsageRecord
from tenants import scoping
from tenants.api.audited import caller_of
from tenants.auth import IsStaffKey
from tenants.errors import InvalidValue, PermissionDenied
from tenants.models import ApiKey, Tenant

SPAN = timedelta(days=29)  # what a summary shows if nobody says: 30 days, today included
# Somewhere it is tomorrow already: what staff see of all tenants goes to the last calendar day there is.
FURTHEST_ZONE = timedelta(hours=14)


def asked(query: type[Serializer[Any]], request: Request) -> dict[str, Any]:
    """The query parameters, parsed. Raises DRF's ValidationError naming the first bad one."""
    given = query(data=request.query_params.dict())
    given.is_valid(raise_exception=True)
    return dict(given.validated_data)


def own_tenant(request: Request) -> uuid.UUID:
    """The tenant of the key that asks. `HasScope` has let in no other kind of key."""
    tenant_id = caller_of(request).tenant_id
    if tenant_id is None:
        raise PermissionDenied("This is a staff key. Use a tenant's key here.")
    return tenant_id


def tenant_id_of(reference: str | None) -> uuid.UUID | None:
    """The tenant staff ask for by id or slug. Raises InvalidValue if no tenant has that slug."""
    if reference is None:
        return None
    try:
        return uuid.UUID(reference)
    except ValueError:
        found = Tenant.objects.filter(slug=reference).values_list("pk", flat=True).first()
    if found is None:
        raise InvalidValue(f"There is no tenant “{reference}”. Give a tenant's id or slug.", param="tenant")
    return found


def span_of(given: dict[str, Any], *, today: date) -> tuple[date, date]:
    """First and last billing day asked for. Raises InvalidValue if they are the wrong way round."""
    end: date = given.get("to", today)
    # `min`: the default of a `to` in the first month of the calendar would begin before the calendar does.
    start: date = given.get("from", end - min(SPAN, end - date.min))
    if start > end:
        raise InvalidValue("from is later than to.", param="from")
    return start, end


def wanted_of(given: dict[str, Any]) -> reports.Wanted:
    return reports.Wanted(
        since=given.get("from"),
        until=given.get("to"),
        model=given.get("model"),
        provider=given.get("provider"),
        status=given.get("status"),
        key_id=given.get("key"),
        config_id=given.get("config"),
    )


def last_day_anywhere(now: datetime) -> date:
    return (now + FURTHEST_ZONE).date()


class UsageList(generics.ListAPIView[UsageRecord]):
    """The tenant's requests, newest first."""

    scope = "usage:read"
    serializer_class: Any = serializers.UsageRow
    query: ClassVar[type[Serializer[Any]]] = serializers.UsageQuery
    pagination_class = NewestFirst
    filter_backends = ()
    queryset = UsageRecord.objects.none()

    @extend_schema(operation_id="usage_list", parameters=[serializers.UsageQuery])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[Any]:
        given = asked(self.query, self.request)
        page = self.paginator.wanted(self.request)  # type: ignore[union-attr]  # DRF's base class has no such thing
        rows = reports.usage_rows(tenant_id=self.tenant_id(given), wanted=wanted_of(given), page=page)
        # Plain tuples: half of a long page's time would be making model objects.
        return rows.values_list(*self.serializer_class.sources(), named=True)

    def tenant_id(self, _given: dict[str, Any]) -> uuid.UUID | None:
        return own_tenant(self.request)


class AdminUsageList(UsageList):
    """Requests of all tenants, or of one, newest first."""

    permission_classes = [IsStaffKey]
    staff_permission = "billing.view_usagerecord"
    serializer_class = serializers.AdminUsageRow
    query = serializers.AdminUsageQuery

    @extend_schema(operation_id="admin_usage_list", parameters=[serializers.AdminUsageQuery])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    def tenant_id(self, given: dict[str, Any]) -> uuid.UUID | None:
        return tenant_id_of(given.get("tenant"))

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        rows = args[0] if args and isinstance(args[0], list) else []
        tenants = Tenant.objects.filter(pk__in={row.tenant_id for row in rows}).values_list("pk", "slug")
        kwargs["context"] = {**self.get_serializer_context(), "slugs": dict(tenants)}
        return self.serializer_class(*args, **kwargs)


class UsageSummary(generics.GenericAPIView[Any]):
    """What the tenant used and what it cost, summed over a span of billing days."""

    scope = "usage:read"
    serializer_class: Any = serializers.Summary
    filter_backends = ()
    queryset = UsageRecord.objects.none()
    page_size = 1000

    @extend_schema(operation_id="usage_summary", parameters=[serializers.SummaryQuery], responses=serializers.Summary)
    def get(self, request: Request) -> Response:
        given = asked(serializers.SummaryQuery, request)
        today = windows.billing_day(timezone.now(), caller_of(request).timezone)
        return self.answer(given, tenant_id=own_tenant(request), span=span_of(given, today=today))

    def answer(self, given: dict[str, Any], *, tenant_id: uuid.UUID | None, span: tuple[date, date]) -> Response:
        start, end = span
        rows, total = reports.summary_and_total(tenant_id=tenant_id, start=start, end=end, group_by=given["group_by"])
        self.paginator.page_size = self.page_size  # type: ignore[union-attr]  # a report is wanted whole if it can be
        page = self.paginate_queryset(rows)
        response = self.get_paginated_response(serializers.SummaryRow(page, many=True).data)
        response.data |= {
            "from": start.isoformat(),
            "to": end.isoformat(),
            "group_by": given["group_by"],
            "total": serializers.Measures(total).data,
        }
        return response


class AdminUsageSummary(UsageSummary):
    """The same over all tenants, or one."""

    permission_classes = [IsStaffKey]
    staff_permission = "billing.view_usagerecord"

    @extend_schema(
        operation_id="admin_usage_summary", parameters=[serializers.AdminSummaryQuery], responses=serializers.Summary
    )
    def get(self, request: Request) -> Response:
        given = asked(serializers.AdminSummaryQuery, request)
        span = span_of(given, today=last_day_anywhere(timezone.now()))
        return self.answer(given, tenant_id=tenant_id_of(given.get("tenant")), span=span)


class AdminTopModels(APIView):
    """The models that cost most, dearest first."""

    permission_classes = [IsStaffKey]
    staff_permission = "billing.view_usagerecord"

    @extend_schema(
        operation_id="admin_usage_top_models",
        parameters=[serializers.TopModelsQuery],
        responses=serializers.TopModels,
    )
    def get(self, request: Request) -> Response:
        given = asked(serializers.TopModelsQuery, request)
        start, end = span_of(given, today=last_day_anywhere(timezone.now()))
        rows = reports.top_models(
            start=start, end=end, limit=given["limit"], tenant_id=tenant_id_of(given.get("tenant"))
        )
        page = {"count": len(rows), "next": None, "previous": None, "results": rows}
        return Response({**serializers.TopModels(page).data, "from": start.isoformat(), "to": end.isoformat()})


class WhoAmI(APIView):
    """The key that asks, its tenant, and what is left of each budget."""

    scope = "usage:read"

    @extend_schema(operation_id="me", responses=serializers.Me)
    def get(self, request: Request) -> Response:
        key = scoping.one(ApiKey, tenant_id=own_tenant(request), pk=caller_of(request).key_id)
        tenant = Tenant.objects.get(pk=own_tenant(request))
        scopes = [
            reports.Limited(kind=kind, id=row.pk, daily=row.budget_limit_daily, monthly=row.budget_limit_monthly)
            for kind, row in (("key", key), ("tenant", tenant))
        ]
        limits = reports.limits_of(scopes=scopes, timezone=tenant.timezone, now=timezone.now())
        me = {"tenant": tenant, "tier": tenant.tier, "key": key, "limits": limits}
        return Response(serializers.Me(me).data)
