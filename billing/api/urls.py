"""The usage API; each URL answers with and without a trailing slash."""

from django.urls import URLPattern, URLResolver

from billing.api import views
from tenants.api.routes import route

urlpatterns: list[URLPattern | URLResolver] = [
    *route("me", views.WhoAmI),
    *route("llm/usage", views.UsageList),
    *route("llm/usage/summary", views.UsageSummary),
    *route("admin/usage", views.AdminUsageList),
    *route("admin/usage/summary", views.AdminUsageSummary),
    *route("admin/usage/top-models", views.AdminTopModels),
]
