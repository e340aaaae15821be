"""One request over HTTP: what it cost and why it went where it went, also if it was refused."""

import uuid
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework.fields import SerializerMethodField
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.api import serializers
from billing.api.credit_serializers import AdjustmentRow
from billing.api.views import own_tenant
from billing.models import Adjustment, UsageRecord
from llm.models import RouteRefusal
from tenants import scoping
from tenants.errors import NotFound


def find(*, tenant_id: uuid.UUID, request_id: str) -> UsageRecord:
    """The tenant's request; a refused one reads like a usage row that used nothing, with status `refused`.

    Raises NotFound, in the same words whether there is none, it is another tenant's, or the id is no id.
    """
    try:
        wanted = uuid.UUID(request_id)
    except ValueError as error:
        raise _missing() from error
    found = scoping.rows(UsageRecord, tenant_id=tenant_id).filter(pk=wanted).first()
    if found is not None:
        return found
    refused = scoping.rows(RouteRefusal, tenant_id=tenant_id).filter(pk=wanted).first()
    if refused is None:
        raise _missing()
    return UsageRecord(
        id=refused.pk,
        tenant_id=refused.tenant_id,
        key_id=refused.key_id,
        model_name=refused.model,
        status="refused",
        status_code=refused.status_code,
        error_code=refused.code,
        error_message=refused.message,
        decision=refused.decision,
        created_at=refused.created_at,
    )


def _missing() -> NotFound:
    return NotFound("There is no such request. Its id is in the `x-request-id` header of the answer.")


class RequestSerializer(serializers.Request):
    """A request with the decision that routed it, its attempts and what was corrected of it since. A refused one has
    status `refused` and no cost."""

    adjustments = SerializerMethodField(help_text="What was corrected of it since, newest first.")

    class Meta(serializers.Request.Meta):
        fields = [*serializers.Request.Meta.fields, "adjustments"]
        read_only_fields = fields

    @extend_schema_field(AdjustmentRow(many=True))
    def get_adjustments(self, row: UsageRecord) -> Any:
        rows = scoping.rows(Adjustment, tenant_id=row.tenant_id).filter(request_id=row.pk)
        return AdjustmentRow(rows, many=True).data


class RequestDetail(APIView):
    """One request: its usage row with the decision that routed it, every attempt, and its adjustments."""

    scope = "usage:read"

    @extend_schema(
        operation_id="request_detail",
        parameters=[OpenApiParameter("request_id", OpenApiTypes.UUID, OpenApiParameter.PATH)],
        responses=RequestSerializer,
    )
    def get(self, request: Request, request_id: str) -> Response:
        found = find(tenant_id=own_tenant(request), request_id=request_id)
        data: dict[str, Any] = RequestSerializer(found).data
        return Response(data)
