"""`/api/v1/admin/tenants` and what is under it."""

from django.urls import URLPattern, URLResolver

from tenants.api import schema  # noqa: F401  # registers how our keys are documented
from tenants.api.routes import route
from tenants.api.views import KeyViewSet, TenantViewSet

_CHANGE = "tenants.change_tenant"

urlpatterns: list[URLPattern | URLResolver] = [
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
