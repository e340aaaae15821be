"""The staff site as a whole: the dashboard, the sidebar, and the pages that more than one app has a say in."""

from django.contrib import admin

from tollgate.admin import jobs, people, tenants

admin.site.index_template = "tollgate/admin/index.html"
admin.site.index_title = "Overview"

__all__ = ["jobs", "people", "tenants"]
