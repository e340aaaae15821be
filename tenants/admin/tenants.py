"""Tenants and their members. The project's admin adds what other apps know of a tenant: configs and budgets."""

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import Case, Count, IntegerField, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.safestring import SafeString
from unfold.enums import ActionVariant

from tenants.admin import dress
from tenants.admin.base import ModelAdmin, TabularInline, action, audited, change_url, display
from tenants.admin.keys import KeyInline, issue_page
from tenants.admin.pages import ConfirmForm, form_page
from tenants.models import Membership, Tenant, TierTerms
from tenants.tiers import RANK

ZERO = Decimal(0)


class MemberInline(TabularInline):
    """People who may enter the tenant's console."""

    model = Membership
    verbose_name_plural = "Members"
    tab = True
    fields = ["user", "role", "created_at"]
    readonly_fields = ["created_at"]
    autocomplete_fields = ["user"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        found: QuerySet[Membership] = super().get_queryset(request).select_related("user")
        return found


def set_active(request: HttpRequest, tenants: QuerySet[Tenant], *, active: bool) -> int:
    """Suspend or resume; how many were changed."""
    changed = 0
    with transaction.atomic():
        for tenant in tenants.exclude(is_active=active):
            with audited(request, tenant, "resume" if active else "suspend"):
                Tenant.objects.filter(pk=tenant.pk).update(is_active=active)
            changed += 1
    return changed


class TenantAdmin(ModelAdmin):
    """Customers: tier, budgets, keys, members."""

    list_display = ["slug", "name", "tier", "state", "key_count", "daily", "monthly", "owes"]
    list_filter = ["is_active", "tier", "prepaid", "sandbox_enabled"]
    ordering = ["slug"]
    search_fields = ["slug", "name"]
    actions = ["suspend_selected", "resume_selected"]
    actions_detail = ["issue_key", "suspend", "resume"]
    inlines = [KeyInline, MemberInline]
    fieldsets = [
        (None, {"fields": [("slug", "name"), ("tier", "timezone"), "is_active"]}),
        ("Budgets", {"fields": [("budget_limit_daily", "budget_limit_monthly")]}),
        ("What the tenant owes", {"fields": [("markup_percent", "byok_fee_percent"), "prepaid"]}),
        ("Routing", {"fields": [("sandbox_enabled", "allow_model_fallback")]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        found: QuerySet[Tenant] = super().get_queryset(request)
        tier = TierTerms.objects.filter(tier=OuterRef("tier"))
        return found.annotate(
            live_keys=Count("keys", filter=Q(keys__revoked_at__isnull=True), distinct=True),
            markup=Coalesce("markup_percent", Subquery(tier.values("markup_percent")[:1]), Value(ZERO)),
        )

    def has_issue_key_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("tenants.add_apikey")

    @display(description="State", ordering="is_active")
    def state(self, obj: Tenant) -> SafeString:
        return dress.badge("active", "good") if obj.is_active else dress.badge("suspended", "bad")

    @display(description="Keys")
    def key_count(self, obj: Tenant) -> int:
        return int(getattr(obj, "live_keys", 0))

    @display(description="Daily budget", ordering="budget_limit_daily")
    def daily(self, obj: Tenant) -> str:
        return dress.usd(obj.budget_limit_daily, none="no limit")

    @display(description="Monthly budget", ordering="budget_limit_monthly")
    def monthly(self, obj: Tenant) -> str:
        return dress.usd(obj.budget_limit_monthly, none="no limit")

    @display(description="Markup", ordering="markup")
    def owes(self, obj: Tenant) -> SafeString:
        share: Decimal = getattr(obj, "markup", ZERO)
        said = "own" if obj.markup_percent is not None else "as its tier"
        return dress.stack(f"{share.normalize():f} %", "prepaid, " + said if obj.prepaid else said)

    @admin.action(description="Suspend the selected tenants", permissions=["change"])
    def suspend_selected(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        self.message_user(request, f"{set_active(request, queryset, active=False)} suspended.")

    @admin.action(description="Resume the selected tenants", permissions=["change"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        self.message_user(request, f"{set_active(request, queryset, active=True)} resumed.")

    @action(description="Issue a key", url_path="issue-key", icon="key", permissions=["issue_key"])
    def issue_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        tenant: Tenant = self.one(request, object_id)
        return issue_page(request, tenant=tenant, back=change_url(tenant))

    @action(description="Suspend", url_path="suspend", icon="pause", variant=ActionVariant.DANGER)
    def suspend(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.switch(request, object_id, active=False)

    @action(description="Resume", url_path="resume", icon="play_arrow")
    def resume(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.switch(request, object_id, active=True)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Of Suspend and Resume only the one that changes something."""
        active = Tenant.objects.filter(pk=object_id).values_list("is_active", flat=True).first()
        idle = "resume" if active else "suspend"
        return [item for item in super().get_actions_detail(request, object_id) if not item.action_name.endswith(idle)]

    def switch(self, request: HttpRequest, object_id: str, *, active: bool) -> HttpResponse:
        tenant: Tenant = self.one(request, object_id)
        form = ConfirmForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            changed = set_active(request, Tenant.objects.filter(pk=tenant.pk), active=active)
            state = "active" if active else "suspended"
            self.message_user(request, f"{tenant} is {state}." if changed else f"{tenant} was {state} already.")
            return HttpResponseRedirect(change_url(tenant))
        verb = "Resume" if active else "Suspend"
        intro = (
            "Its keys work again within a second."
            if active
            else "Every request with its keys is refused within a second. What is under way is finished and charged."
        )
        return form_page(
            request, form, title=f"{verb} {tenant}", submit=verb, back=change_url(tenant), opts=self.opts, intro=intro
        )


@admin.register(TierTerms)
class TierTermsAdmin(ModelAdmin):
    """What tenants of each tier owe unless they have terms of their own. A change is live within two seconds."""

    list_display = ["tier", "markup", "fee", "followers"]
    fields = ["tier", ("markup_percent", "byok_fee_percent")]
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[TierTerms]:
        found: QuerySet[TierTerms] = super().get_queryset(request)
        same = Tenant.objects.filter(tier=OuterRef("tier"), markup_percent__isnull=True).order_by().values("tier")
        return found.annotate(following=Subquery(same.annotate(number=Count("pk")).values("number")))

    def get_ordering(self, request: HttpRequest) -> list[Any]:
        """The lowest tier first."""
        return [Case(*(When(tier=tier, then=rank) for tier, rank in RANK.items()), output_field=IntegerField())]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """There is a row for each tier already."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [] if obj is None else ["tier"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Markup", ordering="markup_percent")
    def markup(self, obj: TierTerms) -> str:
        return f"{obj.markup_percent.normalize():f} %"

    @display(description="Fee for own keys", ordering="byok_fee_percent")
    def fee(self, obj: TierTerms) -> str:
        return f"{obj.byok_fee_percent.normalize():f} %"

    @display(description="Tenants without a markup of their own")
    def followers(self, obj: TierTerms) -> int:
        return int(getattr(obj, "following", None) or 0)
