"""The staff site as a whole: the dashboard, the sidebar, and the pages that more than one app has a say in."""

from django.contrib import admin
from django.urls import URLPattern, path

from billing.admin import drift
from tollgate.admin import health, jobs, keys, people, tenants, usage


def _pages() -> list[URLPattern]:
    """Pages that belong to no list."""
    guarded = admin.site.admin_view
    return [
        path("usage/", guarded(usage.page), name="usage"),
        path("drift/", guarded(drift.page), name="drift"),
        path("health/", guarded(health.page), name="health"),
        path("health/probe/", guarded(health.probe), name="health_probe"),
    ]


admin.site.index_template = "tollgate/admin/index.html"
admin.site.index_title = "Overview"
admin.site.extra_urls = _pages  # type: ignore[attr-defined]  # unfold's site asks for it

__all__ = ["jobs", "keys", "people", "tenants"]
