"""The usage API. `/?$`: every URL answers with and without a trailing slash."""

from django.urls import URLPattern, URLResolver, re_path

from billing.api import views

urlpatterns: list[URLPattern | URLResolver] = [
    re_path(r"^me/?$", views.WhoAmI.as_view(), name="me"),
    re_path(r"^llm/usage/?$", views.UsageList.as_view(), name="usage"),
    re_path(r"^llm/usage/summary/?$", views.UsageSummary.as_view(), name="usage-summary"),
    re_path(r"^admin/usage/?$", views.AdminUsageList.as_view(), name="admin-usage"),
    re_path(r"^admin/usage/summary/?$", views.AdminUsageSummary.as_view(), name="admin-usage-summary"),
    re_path(r"^admin/usage/top-models/?$", views.AdminTopModels.as_view(), name="admin-usage-top-models"),
]
