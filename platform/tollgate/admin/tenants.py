"""A tenant's page with all that is known of it: keys, configs, members, its budgets as bars, its credit, its prices."""

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone

from billing.admin import budgets, credits  # noqa: A004 - named for what it shows
from llm.admin import overrides
from llm.admin.configs import ConfigInline
from llm.models import LLMConfig
from tenants import terms
from tenants.admin.base import action
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
    return [budgets.Budget.of(kind, row) for kind, row in rows]


def _limited(rows: Any) -> Any:
    return rows.exclude(budget_limit_daily__isnull=True, budget_limit_monthly__isnull=True)[:SCOPES_SHOWN]


def _tenant(object_id: str) -> Tenant:
    """Raises Http404."""
    found = Tenant.objects.filter(pk=object_id).first()
    if found is None:
        raise Http404
    return found


@admin.register(Tenant)
class TenantAdmin(BaseTenantAdmin):
    """Customers: tier, budgets, keys, configs, members, credit and prices."""

    inlines = [KeyInline, ConfigInline, MemberInline]
    actions_detail = ["issue_key", "grant_credits", "adjust", "set_price", "suspend", "resume"]
    change_form_outer_before_template = "tollgate/admin/tenant_state.html"

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        return list(self.inlines) if obj is not None else []

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> Any:
        tenant = kwargs.get("obj")
        if isinstance(tenant, Model) and not tenant._state.adding and not context.get("errors"):
            now = timezone.now()
            stored = Tenant.objects.get(pk=tenant.pk)  # the form's row may carry what was typed
            context["budgets"] = budgets.panel(tenant=stored, scopes=scopes(stored), now=now)
            if request.user.has_perm("billing.view_creditentry"):
                context["credits"] = credits.panel(stored, now=now)
            if request.user.has_perm("llm.view_priceoverride"):
                context["own_prices"] = overrides.in_force(stored)
            context["owes"] = terms.of(stored)
        return super().render_change_form(request, context, **kwargs)

    def has_grant_credits_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("billing.add_creditentry")

    def has_adjust_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("billing.add_adjustment")

    def has_set_price_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("llm.add_priceoverride")

    @action(description="Grant credits", url_path="grant-credits", icon="add_card", permissions=["grant_credits"])
    def grant_credits(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return credits.grant_page(request, tenant=_tenant(object_id))

    @action(description="Adjust", url_path="adjust", icon="exposure", permissions=["adjust"])
    def adjust(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return credits.adjust_page(request, tenant=_tenant(object_id))

    @action(description="Set a price", url_path="set-price", icon="sell", permissions=["set_price"])
    def set_price(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return overrides.set_page(request, tenant=_tenant(object_id))
