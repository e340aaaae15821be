"""Tenants' configs: which models their requests use, with what defaults and limits."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RelatedDropdownFilter

from billing.admin import budgets
from llm.models import LLMConfig
from tenants.admin import dress
from tenants.admin.base import ModelAdmin, ReadOnlyInline, change_url, display


@admin.register(LLMConfig)
class LLMConfigAdmin(ModelAdmin):
    """Named settings, by tenant. A request names one by `X-LLM-Config`, or gets its tenant's default."""

    list_display = ["name", "tenant", "default", "primary_model", "fallback_model", "own_key", "daily", "monthly"]
    list_filter = [("tenant", RelatedDropdownFilter), "is_tenant_default", "use_platform_key"]
    list_select_related = ["tenant", "primary_model__provider", "fallback_model__provider", "credential"]
    search_fields = ["name", "tenant__slug", "primary_model__model_id"]
    autocomplete_fields = ["tenant", "primary_model", "fallback_model"]
    readonly_fields = ["own_key"]
    change_form_outer_before_template = "billing/admin/own_budgets.html"
    fieldsets = [
        (None, {"fields": [("tenant", "name"), "is_tenant_default"]}),
        (
            "Models",
            {
                "fields": [
                    ("primary_model", "fallback_model"),
                    "routing_rules",
                    "allowed_models",
                    "allow_model_fallback",
                ]
            },
        ),
        ("Defaults of a request", {"fields": [("temperature", "max_tokens")]}),
        ("Provider keys", {"fields": [("use_platform_key", "own_key")]}),
        ("Budgets", {"fields": [("budget_limit_daily", "budget_limit_monthly")]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[LLMConfig]:
        found: QuerySet[LLMConfig] = super().get_queryset(request)
        return found.defer("credential__sealed")

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> Any:
        config = kwargs.get("obj")
        if config is not None and request.user.has_perm("billing.view_usagerecord"):
            stored = LLMConfig.objects.select_related("tenant").get(pk=config.pk)  # the form's may carry what was typed
            own = [budgets.Budget.of("config", stored)]
            context["budgets"] = budgets.panel(tenant=stored.tenant, scopes=own, now=timezone.now())
        return super().render_change_form(request, context, **kwargs)

    @display(description="Default", boolean=True, ordering="is_tenant_default")
    def default(self, obj: LLMConfig) -> bool:
        return obj.is_tenant_default

    @display(description="Own key")
    def own_key(self, obj: LLMConfig) -> str:
        return dress.NONE if obj.credential is None else obj.credential.masked

    @display(description="Daily budget", ordering="budget_limit_daily")
    def daily(self, obj: LLMConfig) -> str:
        return dress.usd(obj.budget_limit_daily, none="no limit")

    @display(description="Monthly budget", ordering="budget_limit_monthly")
    def monthly(self, obj: LLMConfig) -> str:
        return dress.usd(obj.budget_limit_monthly, none="no limit")


class ConfigInline(ReadOnlyInline):
    """A tenant's configs, each a link to its page."""

    model = LLMConfig
    verbose_name_plural = "Configs"
    tab = True
    fields = ["called", "default", "primary_model", "fallback_model", "daily", "monthly"]
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[LLMConfig]:
        found: QuerySet[LLMConfig] = super().get_queryset(request)
        return found.select_related("tenant", "primary_model__provider", "fallback_model__provider")

    @display(description="Name")
    def called(self, obj: LLMConfig) -> SafeString:
        return dress.link(change_url(obj), obj.name)

    @display(description="Default", boolean=True)
    def default(self, obj: LLMConfig) -> bool:
        return obj.is_tenant_default

    @display(description="Daily budget")
    def daily(self, obj: LLMConfig) -> str:
        return dress.usd(obj.budget_limit_daily, none="no limit")

    @display(description="Monthly budget")
    def monthly(self, obj: LLMConfig) -> str:
        return dress.usd(obj.budget_limit_monthly, none="no limit")
