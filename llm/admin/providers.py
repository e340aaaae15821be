"""Providers: who can be called, how they are, and with which keys."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.forms import BaseModelFormSet, ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from llm import breakers
from llm.admin import imports, keys
from llm.catalog import credentials, probes
from llm.choices import AuthType, Dialect, HealthStatus
from llm.models import LLMProvider, ProviderCredential, ProviderHealthCheck
from tenants.admin import dress
from tenants.admin.base import ModelAdmin, ReadOnlyInline, action, audited, change_url, display, switched

HEALTH = {"healthy": "good", "degraded": "warn", "down": "bad", "unknown": "plain"}
CHECKS_SHOWN = 10


def health(provider: LLMProvider) -> SafeString:
    """The badge with its age: an old answer says so."""
    label = dress.badge(provider.get_health_status_display(), HEALTH.get(provider.health_status, "plain"))
    below = dress.ago(provider.health_checked_at, timezone.now(), none="never probed")
    if provider.health_response_time_ms is not None:
        below = f"{below}, {provider.health_response_time_ms:,} ms"
    return dress.stack(label, below)


def in_words(check: ProviderHealthCheck) -> str:
    """A probe's outcome as a sentence."""
    status = HealthStatus(check.status).label.lower()
    took = "" if check.response_time_ms is None else f" in {check.response_time_ms:,} ms"
    answer = f"It answered {check.status_code}{took}." if check.status_code is not None else ""
    return " ".join(part for part in (f"{check.provider.display_name} is {status}.", answer, check.error) if part)


class ProviderForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """Names may be left empty: they default as in the API."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("name", "display_name"):
            if name in self.fields:
                self.fields[name].required = False

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        values["name"] = values.get("name") or values.get("slug", "")
        values["display_name"] = values.get("display_name") or values["name"]
        return values


class HealthInline(ReadOnlyInline):
    """The last probes."""

    model = ProviderHealthCheck
    verbose_name_plural = "Last probes"
    tab = True
    fields = ["when", "outcome", "response_time_ms", "status_code", "error"]
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProviderHealthCheck]:
        found: QuerySet[ProviderHealthCheck] = super().get_queryset(request)
        object_id = (request.resolver_match.kwargs if request.resolver_match else {}).get("object_id")
        newest = found.filter(provider_id=object_id).order_by("-id").values("pk")[:CHECKS_SHOWN] if object_id else []
        return found.filter(pk__in=[row["pk"] for row in newest]).select_related("provider").order_by("-id")

    @display(description="When (UTC)")
    def when(self, obj: ProviderHealthCheck) -> str:
        return dress.moment(obj.checked_at)

    @display(description="Outcome")
    def outcome(self, obj: ProviderHealthCheck) -> SafeString:
        return dress.badge(obj.get_status_display(), HEALTH.get(obj.status, "plain"))


@admin.register(LLMProvider)
class LLMProviderAdmin(ModelAdmin):
    """Vendors, and machines of our own that speak a vendor's dialect."""

    form = ProviderForm
    list_display = [
        "slug",
        "display_name",
        "health_badge",
        "active",
        "model_count",
        "dialect",
        "key_state",
        "min_tier_required",
    ]
    list_display_links = ["slug"]
    list_filter = [
        "is_active",
        ("health_status", ChoicesDropdownFilter),
        ("dialect", ChoicesDropdownFilter),
        ("min_tier_required", ChoicesDropdownFilter),
        "is_system_provider",
    ]
    ordering = ["slug"]
    search_fields = ["slug", "name", "display_name", "base_url"]
    search_help_text = "Slug, name or address."
    actions = ["probe_selected", "activate", "disable"]
    actions_detail = ["import_models"]
    inlines = [keys.CredentialInline, HealthInline]
    change_form_outer_before_template = "llm/admin/provider_state.html"
    fieldsets = [
        (None, {"fields": [("slug", "name", "display_name"), "description", "is_active"]}),
        (
            "How it is called",
            {
                "fields": ["base_url", ("dialect", "auth_type"), "env_keys", "api_key_format", "quirks"],
                "description": "A placeholder in the base URL, such as {region}, is filled by you, or by a quirk of "
                'that name: {"region": "eu-central-1"}.',
            },
        ),
        ("What it can do", {"fields": [("supports_streaming", "supports_function_calling", "supports_vision")]}),
        ("Who may use it", {"fields": [("min_tier_required", "is_byok_supported")]}),
        ("What it allows us", {"fields": [("rate_limit_rpm", "rate_limit_tpm", "rate_limit_rpd")]}),
        ("Links", {"fields": ["documentation_url", "pricing_url", "status_page_url"], "classes": ["collapse"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[LLMProvider]:
        found: QuerySet[LLMProvider] = super().get_queryset(request)
        platform = Q(credentials__tenant__isnull=True, credentials__is_active=True)
        return found.annotate(
            models_there=Count("models", distinct=True),
            models_active=Count("models", filter=Q(models__is_active=True), distinct=True),
            keys_stored=Count("credentials", filter=platform, distinct=True),
        )

    def get_urls(self) -> list[URLPattern]:
        test = path("<path:object_id>/test/", self.admin_site.admin_view(self.test), name="llm_llmprovider_test")
        return [test, *super().get_urls()]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Shipped providers are switched off, never deleted; the list's bulk deletion asks this for each row too.
        if isinstance(obj, LLMProvider) and obj.is_system_provider:
            return False
        return bool(super().has_delete_permission(request, obj))

    @method_decorator(sensitive_post_parameters())
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return super().changeform_view(request, *args, **kwargs)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> Any:
        provider = kwargs.get("obj")
        if isinstance(provider, LLMProvider) and not provider._state.adding:
            context |= {
                "health": health(provider),
                "key": self.key_state(provider),
                "breakers": breakers.open_at(provider, timezone.now()),
                "breaker_list": reverse("admin:llm_llmbreaker_changelist"),
                "model_list": f"{reverse('admin:llm_llmmodel_changelist')}?provider__id__exact={provider.pk}",
                "model_count": getattr(provider, "models_there", 0),
            }
        return super().render_change_form(request, context, **kwargs)

    def save_formset(
        self, request: HttpRequest, form: "ModelForm[Any]", formset: "BaseModelFormSet[Any, Any]", change: bool
    ) -> None:
        if formset.model is ProviderCredential:
            keys.save(request, formset)
        else:
            super().save_formset(request, form, formset, change)

    def related_history(self, row: Any) -> Q:
        if row is None:
            return super().related_history(row)
        ids = [str(pk) for pk in row.credentials.filter(tenant__isnull=True).values_list("pk", flat=True)]
        return Q(object_type=ProviderCredential._meta.label, object_id__in=ids)

    @display(description="Health", ordering="health_status")
    def health_badge(self, obj: LLMProvider) -> SafeString:
        return health(obj)

    @display(description="Active", boolean=True, ordering="is_active")
    def active(self, obj: LLMProvider) -> bool:
        return obj.is_active

    @display(description="Models", ordering="models_there")
    def model_count(self, obj: LLMProvider) -> SafeString:
        url = f"{reverse('admin:llm_llmmodel_changelist')}?provider__id__exact={obj.pk}"
        there, active = getattr(obj, "models_there", 0), getattr(obj, "models_active", 0)
        return dress.link(url, there if there == active else f"{active} of {there}")

    @display(description="Platform key")
    def key_state(self, obj: LLMProvider) -> SafeString:
        stored = getattr(obj, "keys_stored", 0)
        if obj.dialect == Dialect.SANDBOX or obj.auth_type == AuthType.NONE:
            return dress.badge("needs none", "plain")
        if stored:
            return dress.badge("stored" if stored == 1 else f"{stored} stored", "good")
        variable = credentials.environment_name(obj)
        if variable:
            return dress.stack(dress.badge("from the environment", "good"), variable)
        return dress.badge("none", "warn", "Only tenants with their own key can use it.")

    @admin.action(description="Probe now", permissions=["change"])
    def probe_selected(self, request: HttpRequest, queryset: QuerySet[LLMProvider]) -> None:
        for provider in queryset:
            self.probe(request, provider)

    @admin.action(description="Activate", permissions=["change"])
    def activate(self, request: HttpRequest, queryset: QuerySet[LLMProvider]) -> None:
        self.switch(request, queryset, active=True)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[LLMProvider]) -> None:
        self.switch(request, queryset, active=False)

    def switch(self, request: HttpRequest, queryset: QuerySet[LLMProvider], *, active: bool) -> None:
        rows = list(LLMProvider.objects.filter(pk__in=queryset.values("pk")).exclude(is_active=active))
        with transaction.atomic():
            for provider in rows:
                with audited(request, provider, "activate" if active else "deactivate"):
                    LLMProvider.objects.filter(pk=provider.pk).update(is_active=active, updated_at=timezone.now())
        self.message_user(request, switched(len(rows), active))

    def test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The Test button: probe now and say in words what came back."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        provider: LLMProvider = self.one(request, object_id)
        self.probe(request, provider)
        return HttpResponseRedirect(change_url(provider))

    def has_import_models_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        # Not by its name on the action: unfold looks that up in the database, which a first migration does not have.
        return bool(request.user.has_perm("llm.add_llmmodel"))

    @action(description="Import models", url_path="import-models", icon="playlist_add", permissions=["import_models"])
    def import_models(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What the provider's own list of models would make; sent back, it is made."""
        provider: LLMProvider = self.one(request, object_id)
        return imports.page(request, provider, opts=self.opts)

    def probe(self, request: HttpRequest, provider: LLMProvider) -> None:
        check = probes.probe(provider=provider, now=timezone.now())
        level = messages.SUCCESS if check.status == HealthStatus.HEALTHY else messages.WARNING
        self.message_user(request, in_words(check), level)
