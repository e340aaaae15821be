"""Requests that were never accepted, each with the decision that says why. To read only."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RangeDateTimeFilter

from billing.admin.trace import decision
from billing.admin.usage import ByRequestId, TenantFilter, exactly, with_tenant
from llm.models import RouteRefusal
from tenants.admin import dress
from tenants.admin.base import ReadOnlyAdmin, display


@admin.register(RouteRefusal)
class RouteRefusalAdmin(ByRequestId, ReadOnlyAdmin):
    """Refused before any provider was called: they cost nothing and are not counted as usage."""

    list_display = ["when", "tenant", "model", "status", "message"]
    list_display_links = ["when"]
    list_filter = [TenantFilter, exactly("code", "code"), ("created_at", RangeDateTimeFilter)]
    search_fields = ["id"]
    search_help_text = "A request id, as in the x-request-id header."
    ordering = ["-id"]
    actions = None
    fields = [("id", "when"), ("tenant", "key_id"), "model", "status", "message", "decision_trace"]
    readonly_fields = ["when", "tenant", "status", "decision_trace"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[RouteRefusal]:
        return with_tenant(super().get_queryset(request))

    @display(description="Refused (UTC)", ordering="id")
    def when(self, obj: RouteRefusal) -> str:
        return dress.moment(obj.created_at)

    @display(description="Tenant")
    def tenant(self, obj: RouteRefusal) -> str:
        return str(getattr(obj, "tenant_slug", None) or obj.tenant_id)

    @display(description="Refused with")
    def status(self, obj: RouteRefusal) -> SafeString:
        return dress.stack(dress.badge(obj.code, "warn"), f"HTTP {obj.status_code}")

    @display(description="Decision")
    def decision_trace(self, obj: RouteRefusal) -> SafeString:
        return decision(obj.decision)
