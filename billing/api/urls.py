"""Usage, credits, adjustments, statements, alerts and subscriptions; each URL answers with and without a slash."""

from django.urls import URLPattern, URLResolver

from billing.api import alerts, credits, exports, key_usage, statements, views  # noqa: A004 - named for what it serves
from tenants.api.routes import route

_ALL = {"get": "list", "post": "create"}
_ONE = {"get": "retrieve", "patch": "partial_update", "delete": "destroy"}
_ROTATE = {"post": "rotate_secret"}
_SUBSCRIPTION = "alerts/subscriptions/<str:subscription>"

urlpatterns: list[URLPattern | URLResolver] = [
    *route("me", views.WhoAmI),
    *route("llm/usage", views.UsageList),
    *route("llm/usage/summary", views.UsageSummary),
    *route("llm/usage/export", exports.UsageExport),
    *route("keys/<str:key>/usage", key_usage.OwnKeyUsage),
    *route("admin/tenants/<str:tenant>/keys/<str:key>/usage", key_usage.TenantKeyUsage),
    *route("llm/credits", credits.OwnCredits),
    *route("llm/adjustments", credits.OwnAdjustments),
    *route("admin/tenants/<str:tenant>/credits", credits.TenantCredits),
    *route("admin/tenants/<str:tenant>/credits/<str:grant>/correct", credits.CorrectGrant),
    *route("admin/tenants/<str:tenant>/adjustments", credits.TenantAdjustments),
    *route("admin/usage", views.AdminUsageList),
    *route("admin/usage/summary", views.AdminUsageSummary),
    *route("admin/usage/export", exports.AdminUsageExport),
    *route("admin/usage/top-models", views.AdminTopModels),
    *route("statements", statements.StatementList),
    *route("statements/<str:month>", statements.StatementView),
    *route("admin/statements", statements.AdminStatementList),
    *route("admin/tenants/<str:tenant>/statements/<str:month>", statements.AdminStatementView),
    *route("admin/tenants/<str:tenant>/statements/<str:month>/finalise", statements.AdminFinalise),
    *route("alerts", alerts.AlertList),
    *route("alerts/subscriptions", alerts.SubscriptionViewSet, _ALL),
    *route(_SUBSCRIPTION, alerts.SubscriptionViewSet, _ONE),
    *route(f"{_SUBSCRIPTION}/rotate-secret", alerts.SubscriptionViewSet, _ROTATE),
    *route("admin/alerts", alerts.AdminAlertList),
    *route("admin/alerts/subscriptions", alerts.AdminSubscriptionViewSet, _ALL),
    *route(f"admin/{_SUBSCRIPTION}", alerts.AdminSubscriptionViewSet, _ONE),
    *route(
        f"admin/{_SUBSCRIPTION}/rotate-secret",
        alerts.AdminSubscriptionViewSet,
        _ROTATE,
        staff_permission="billing.change_alertsubscription",
    ),
]
