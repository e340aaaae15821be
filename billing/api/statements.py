"""Statements over HTTP, for tenants and staff. Translates; `billing.statements` answers."""

from datetime import date
from typing import Any

from django.http import HttpResponseBase
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import periods
from billing.api import statement_serializers as serializers
from billing.api.views import asked, own_tenant, tenant_id_of
from billing.models import UsageRecord
from billing.statement_models import Statement
from billing.statements import closing, files
from tenants.api.audited import StaffView, actor_of
from tenants.api.views import tenant_of
from tenants.auth import IsStaffKey
from tenants.errors import InvalidValue, NotFound
from tenants.models import Tenant

_FORMAT = OpenApiParameter(
    "format", enum=list(files.TYPES), description="Without it `Accept` decides: JSON, `text/csv` or `text/html`."
)
_ANSWERS: Any = {
    (200, "application/json"): serializers.StatementDocument,
    (200, "text/csv"): OpenApiTypes.STR,
    (200, "text/html"): OpenApiTypes.STR,
}


class ErrorsAsJson(BaseContentNegotiation):
    """`format` and `Accept` are the view's to read: errors are JSON whatever they say."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return next(iter(parsers), None)

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


def month_asked(text: str) -> date:
    """The month in a URL. Raises NotFound for what is none."""
    try:
        return periods.parse(text.removesuffix("/"))
    except InvalidValue as error:
        raise NotFound("There is no such statement. Its address ends with a month, as 2026-11.") from error


def kind_asked(request: Request) -> str:
    """json, csv or html. Raises InvalidValue for another `format`."""
    given = request.query_params.get("format")
    if given is not None:
        if given not in files.TYPES:
            raise InvalidValue(f"format is one of: {', '.join(files.TYPES)}.", param="format")
        return given
    types = {media.partition(";")[0]: kind for kind, media in files.TYPES.items()}
    preferred = request._request.get_preferred_type(list(types))  # noqa: SLF001 - DRF has no other name for it
    return types.get(preferred or "", "json")


def _month(month: date, statement: Statement | None) -> dict[str, Any]:
    return {
        "month": f"{month:%Y-%m}",
        "status": "draft" if statement is None else "final",
        "finalised_at": None if statement is None else statement.finalised_at,
        "requests": None if statement is None else statement.requests,
        "cost_usd": None if statement is None else statement.cost_total_usd,
        "billed_usd": None if statement is None else statement.billed_usd,
        "sha256": None if statement is None else statement.sha256,
    }


def _staff_row(statement: Statement) -> dict[str, Any]:
    return {
        **_month(statement.month, statement),
        "id": statement.pk,
        "tenant_id": statement.tenant_id,
        "tenant": statement.tenant_slug,
        "timezone": statement.timezone,
        "finalised_by": statement.finalised_by,
    }


class StatementList(generics.GenericAPIView[Any]):
    """The tenant's months, newest first: finalised ones with their totals, the others as drafts."""

    scope = "usage:read"
    serializer_class = serializers.StatementMonth
    filter_backends = ()
    queryset = UsageRecord.objects.none()

    @extend_schema(operation_id="statements_list", responses=serializers.StatementMonth(many=True))
    def get(self, request: Request) -> Response:
        tenant = Tenant.objects.get(pk=own_tenant(request))
        months = closing.months(tenant=tenant, now=timezone.now())
        page = self.paginate_queryset([_month(*one) for one in months])
        return self.get_paginated_response(serializers.StatementMonth(page, many=True).data)


class StatementView(APIView):
    """A month of the tenant, whole."""

    scope = "usage:read"
    content_negotiation_class = ErrorsAsJson

    @extend_schema(operation_id="statements_retrieve", parameters=[_FORMAT], responses=_ANSWERS)
    def get(self, request: Request, month: str) -> HttpResponseBase:
        """Final, or a draft worked out now."""
        kind, asked_for = kind_asked(request), month_asked(month)
        tenant = Tenant.objects.get(pk=own_tenant(request))
        text = closing.document(tenant=tenant, month=asked_for, now=timezone.now())
        return files.answer(text, kind=kind, month=asked_for)


class AdminStatementList(generics.GenericAPIView[Statement]):
    """Finalised statements of all tenants, newest month first."""

    permission_classes = [IsStaffKey]
    staff_permission = "billing.view_statement"
    serializer_class = serializers.AdminStatement
    filter_backends = ()
    queryset = Statement.objects.none()

    @extend_schema(
        operation_id="admin_statements_list",
        parameters=[serializers.AdminStatementQuery],
        responses=serializers.AdminStatement(many=True),
    )
    def get(self, request: Request) -> Response:
        given = asked(serializers.AdminStatementQuery, request)
        rows = Statement.objects.all()
        if "tenant" in given:
            rows = rows.filter(tenant_id=tenant_id_of(given["tenant"]))
        if "month" in given:
            rows = rows.filter(month=periods.parse(given["month"]))
        page = self.paginate_queryset(rows) or []
        shown = [_staff_row(statement) for statement in page]
        return self.get_paginated_response(serializers.AdminStatement(shown, many=True).data)


class AdminStatementView(StaffView):
    """A month of a tenant, whole."""

    staff_permission = "billing.view_statement"
    content_negotiation_class = ErrorsAsJson

    @extend_schema(operation_id="admin_statements_retrieve", parameters=[_FORMAT], responses=_ANSWERS)
    def get(self, request: Request, tenant: str, month: str) -> HttpResponseBase:
        """Final, or a draft worked out now."""
        kind, asked_for = kind_asked(request), month_asked(month)
        text = closing.document(tenant=tenant_of(tenant), month=asked_for, now=timezone.now())
        return files.answer(text, kind=kind, month=asked_for)


class AdminFinalise(StaffView):
    """Closing a month."""

    staff_permission = "billing.add_statement"

    @extend_schema(operation_id="admin_statements_finalise", request=None, responses={201: serializers.AdminStatement})
    def post(self, request: Request, tenant: str, month: str) -> Response:
        """Close the month for good. 409 until 12:05 UTC of the next 1st, when it is over in every time zone,
        and while requests of it go on."""
        statement = closing.finalise(
            tenant=tenant_of(tenant), month=month_asked(month), actor=actor_of(request), now=timezone.now()
        )
        return Response(serializers.AdminStatement(_staff_row(statement)).data, status=201)
