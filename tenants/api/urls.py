"""`/api/v1/keys` and `/members` for tenants, `/api/v1/admin/tenants` and what is under it for staff."""

from django.urls import URLPattern, URLResolver

from tenants.api import own_views, schema  # noqa: F401  # registers how our keys are documented
from tenants.api.routes import route
from tenants.api.views import KeyViewSet, TenantViewSet, TierViewSet

_CHANGE = "tenants.change_tenant"

urlpatterns: list[URLPattern | URLResolver] = [
    *route("keys", own_views.OwnKeyViewSet, {"get": "list", "post": "create"}),
    *route("keys/<str:key>", own_views.OwnKeyViewSet, {"get": "retrieve", "delete": "destroy"}),
    *route("keys/<str:key>/rotate", own_views.OwnKeyViewSet, {"post": "rotate"}),
    *route("members", own_views.MemberViewSet, {"get": "list", "post": "create"}),
    *route(
        "members/<str:member>",
        own_views.MemberViewSet,
        {"get": "retrieve", "patch": "partial_update", "delete": "destroy"},
    ),
    *route("admin/tiers", TierViewSet, {"get": "list"}),
    *route(
        "admin/tiers/<str:tier>",
        TierViewSet,
        {"get": "retrieve", "put": "update", "patch": "partial_update"},
    ),
    *route("admin/tenants", TenantViewSet, {"get": "list", "post": "create"}),
    *route(
        "admin/tenants/<str:tenant>",
        TenantViewSet,
        {"get": "retrieve", "put": "update", "patch": "partial_update"},
    ),
    *route("admin/tenants/<str:tenant>/suspend", TenantViewSet, {"post": "suspend"}, staff_permission=_CHANGE),
    *route("admin/tenants/<str:tenant>/resume", TenantViewSet, {"post": "resume"}, staff_permission=_CHANGE),
    *route("admin/tenants/<str:tenant>/keys", KeyViewSet, {"get": "list", "post": "create"}),
    *route("admin/tenants/<str:tenant>/keys/<str:key>", KeyViewSet, {"get": "retrieve", "delete": "destroy"}),
]
