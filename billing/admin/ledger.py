"""Windows, holds, roll-ups and adjustments, to look at. Only the ledger and the roll-up write them."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateFilter

from billing.admin.usage import ByRequestId, TenantFilter, with_tenant
from billing.models import Adjustment, BudgetWindow, DailyUsage, Hold
from tenants.admin import dress
from tenants.admin.base import ReadOnlyAdmin, display


@admin.register(BudgetWindow)
class BudgetWindowAdmin(ReadOnlyAdmin):
    """What each tenant, key and config has spent and holds, by calendar day and month."""

    list_display = ["starts_on", "period", "scope_kind", "scope_id", "spent_usd", "held_usd"]
    list_display_links = ["starts_on"]
    list_filter = [("period", ChoicesDropdownFilter), ("starts_on", RangeDateFilter)]
    search_fields = ["scope_id"]
    search_help_text = "The id of a tenant, key or config."
    ordering = ["-starts_on", "id"]
    actions = None

    @display(description="Spent", ordering="spent")
    def spent_usd(self, obj: BudgetWindow) -> str:
        return dress.usd(obj.spent)

    @display(description="Held", ordering="held")
    def held_usd(self, obj: BudgetWindow) -> str:
        return dress.usd(obj.held)


@admin.register(Hold)
class HoldAdmin(ByRequestId, ReadOnlyAdmin):
    """Requests under way, each with the worst case it may cost."""

    list_display = ["id", "tenant", "held_usd", "age", "owner"]
    list_filter = [TenantFilter]
    search_fields = ["id"]
    search_help_text = "A request id."
    ordering = ["-id"]
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Hold]:
        return with_tenant(super().get_queryset(request))

    @display(description="Tenant")
    def tenant(self, obj: Hold) -> str:
        return str(getattr(obj, "tenant_slug", None) or obj.tenant_id)

    @display(description="Held", ordering="amount")
    def held_usd(self, obj: Hold) -> str:
        return dress.usd(obj.amount)

    @display(description="Since", ordering="created_at")
    def age(self, obj: Hold) -> str:
        return dress.ago(obj.created_at, timezone.now())


@admin.register(DailyUsage)
class DailyUsageAdmin(ReadOnlyAdmin):
    """A day's usage of one combination of key, config, user and model, rebuilt from the request log every hour."""

    list_display = ["billing_day", "tenant", "served_by", "requests", "errors", "total_tokens", "cost"]
    list_display_links = ["billing_day"]
    list_filter = [TenantFilter, ("billing_day", RangeDateFilter), "used_byok"]
    ordering = ["-billing_day", "id"]
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[DailyUsage]:
        return with_tenant(super().get_queryset(request))

    @display(description="Tenant")
    def tenant(self, obj: DailyUsage) -> str:
        return str(getattr(obj, "tenant_slug", None) or obj.tenant_id)

    @display(description="Model")
    def served_by(self, obj: DailyUsage) -> SafeString:
        return dress.stack(f"{obj.provider_slug}/{obj.model_name}", obj.power_level)

    @display(description="Cost", ordering="cost_total_usd")
    def cost(self, obj: DailyUsage) -> SafeString:
        return dress.stack(dress.usd(obj.cost_total_usd), f"billed {dress.usd(obj.billed_usd)}")


@admin.register(Adjustment)
class AdjustmentAdmin(ReadOnlyAdmin):
    """Signed corrections of what tenants owe, each with its reason. Entered on a tenant's page, or by the ledger."""

    list_display = ["when", "tenant", "kind", "amount", "billing_day", "reason", "author"]
    list_display_links = ["when"]
    list_filter = [TenantFilter, ("kind", ChoicesDropdownFilter), ("billing_day", RangeDateFilter)]
    list_select_related = ["tenant"]
    search_fields = ["reason", "author"]
    ordering = ["-id"]
    actions = None

    @display(description="When (UTC)", ordering="id")
    def when(self, obj: Adjustment) -> str:
        return dress.moment(obj.created_at)

    @display(description="Billed", ordering="billed_usd")
    def amount(self, obj: Adjustment) -> SafeString:
        prepaid = ", of its credits" if obj.is_prepaid else ""
        return dress.stack(dress.usd(obj.billed_usd), f"budgets {dress.usd(obj.budget_usd)}{prepaid}")
