"""A tenant's page with all that is known of it: keys, configs, members, and its budgets as bars."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone

from billing.admin import budgets
from llm.admin.configs import ConfigInline
from llm.models import LLMConfig
from tenants.admin.keys import KeyInline
from tenants.admin.tenants import MemberInline
from tenants.admin.tenants import TenantAdmin as BaseTenantAdmin
from tenants.models import ApiKey, Tenant

SCOPES_SHOWN = 25


def scopes(tenant: Tenant) -> list[budgets.Budget]:
    """The tenant, and its keys and configs that have limits of their own."""
    rows: list[tuple[str, Any]] = [("tenant", tenant)]
    rows += [("key", key) for key in _limited(ApiKey.objects.filter(tenant=tenant, revoked_at__isnull=True))]
    rows += [("config", config) for config in _limited(LLMConfig.objects.filter(tenant=tenant))]
    return [
        budgets.Budget(
            kind=kind,
            id=row.pk,
            name=str(row),
            daily=row.budget_limit_daily,
            monthly=row.budget_limit_monthly,
        )
        for kind, row in rows
    ]


def _limited(rows: Any) -> Any:
    return rows.exclude(budget_limit_daily__isnull=True, budget_limit_monthly__isnull=True)[:SCOPES_SHOWN]


@admin.register(Tenant)
class TenantAdmin(BaseTenantAdmin):
    """Customers: tier, budgets, keys, configs, members."""

    inlines = [KeyInline, ConfigInline, MemberInline]
    change_form_outer_before_template = "tollgate/admin/tenant_state.html"

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        return list(self.inlines) if obj is not None else []

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> Any:
        tenant = kwargs.get("obj")
        if isinstance(tenant, Tenant) and not tenant._state.adding and not context.get("errors"):
            context["budgets"] = budgets.panel(tenant=tenant, scopes=scopes(tenant), now=timezone.now())
        return super().render_change_form(request, context, **kwargs)
