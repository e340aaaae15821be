"""Provider keys in the admin: they go in and never come out. Shown of them are a name and a few characters."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.forms import BaseModelFormSet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.forms import PaginationInlineFormSet
from unfold.widgets import UnfoldAdminPasswordWidget

from llm.catalog import credentials
from llm.fields import Secret
from llm.models import ProviderCredential
from tenants import audit
from tenants.admin import dress
from tenants.admin.base import ModelAdmin, TabularInline, actor_of, display
from tenants.errors import TollgateError


def key_state(credential: ProviderCredential) -> SafeString:
    now = timezone.now()
    if not credential.is_active:
        return dress.badge("off", "plain")
    if credential.validation_error:
        return dress.stack(dress.badge("refused", "bad"), credential.validation_error)
    if credential.is_validated:
        return dress.stack(dress.badge("accepted", "good"), dress.ago(credential.last_validated_at, now))
    return dress.badge("not tested", "plain")


class CredentialForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """A name, a weight, and a key that is never shown again."""

    api_key = forms.CharField(
        required=False,
        strip=True,
        label="Key",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password", "placeholder": "paste a key"}),
        help_text="Encrypted when it is saved, and never shown again. Empty keeps the key that is there.",
    )

    class Meta:
        model = ProviderCredential
        fields = ["key_name", "weight", "is_active"]

    def clean_api_key(self) -> Secret | None:
        given = self.cleaned_data["api_key"]
        return Secret(given) if given else None


class CredentialFormSet(PaginationInlineFormSet):  # type: ignore[misc]  # unfold has no types
    """Checks each key against the provider as it will be saved."""

    def clean(self) -> None:
        super().clean()
        names: set[str] = set()
        for form in self.forms:
            if not hasattr(form, "cleaned_data") or form.cleaned_data.get("DELETE"):
                continue
            name = form.cleaned_data.get("key_name")
            if name in names:
                form.add_error("key_name", "Another key of this provider has this name.")
            names |= {name} if name else set()
            secret = form.cleaned_data.get("api_key")
            if secret is None:
                if form.has_changed() and form.instance._state.adding and not form.errors:
                    form.add_error("api_key", "Paste the provider's key.")
                continue
            try:
                credentials.check_format(provider=self.instance, api_key=secret)
            except TollgateError as error:
                form.add_error("api_key", error.message)


class CredentialInline(TabularInline):
    """The platform's own keys for a provider."""

    model = ProviderCredential
    form = CredentialForm
    formset = CredentialFormSet
    verbose_name = "platform key"
    verbose_name_plural = "Platform keys"
    hide_title = True
    fields = ["key_name", "api_key", "shown", "weight", "is_active", "state", "used"]
    readonly_fields = ["shown", "state", "used"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProviderCredential]:
        found: QuerySet[ProviderCredential] = super().get_queryset(request)
        return found.filter(tenant__isnull=True).defer("sealed").select_related("provider")

    @display(description="Stored")
    def shown(self, obj: ProviderCredential) -> str:
        return obj.masked if not obj._state.adding else dress.NONE

    @display(description="State")
    def state(self, obj: ProviderCredential) -> SafeString | str:
        return key_state(obj) if not obj._state.adding else dress.NONE

    @display(description="Last used")
    def used(self, obj: ProviderCredential) -> str:
        return dress.ago(obj.last_used_at, timezone.now()) if not obj._state.adding else dress.NONE


def save(request: HttpRequest, formset: "BaseModelFormSet[Any, Any]") -> None:
    """Add, replace, change and remove keys as the inline says: a domain call each."""
    now, actor = timezone.now(), actor_of(request)
    for form in formset.initial_forms:
        if form.cleaned_data.get("DELETE"):
            credentials.remove(credential=form.instance, actor=actor, now=now)
            continue
        secret = form.cleaned_data.get("api_key")
        if secret is not None:
            credentials.replace(credential=form.instance, api_key=secret, actor=actor, now=now)
        plain = [name for name in form.changed_data if name != "api_key"]
        if plain:
            before = audit.state(ProviderCredential.objects.get(pk=form.instance.pk))
            form.instance.save(update_fields=[*plain, "updated_at"])
            row = ProviderCredential.objects.get(pk=form.instance.pk)
            audit.record(actor=actor, action="update", row=row, before=before, now=now)
    for form in formset.extra_forms:
        secret = form.cleaned_data.get("api_key")
        if secret is None or form.cleaned_data.get("DELETE"):
            continue
        key = credentials.NewKey(name=form.cleaned_data["key_name"], api_key=secret, weight=form.cleaned_data["weight"])
        credentials.add(provider=formset.instance, key=key, actor=actor, now=now)  # type: ignore[attr-defined]
    formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []


@admin.register(ProviderCredential)
class ProviderCredentialAdmin(ModelAdmin):
    """All provider keys, the platform's and tenants' own: to see what they are, switch them off or delete them.

    New platform keys are added on their provider's page; tenants add their own.
    """

    list_display = ["key_name", "provider", "whose", "shown", "state", "weight", "used"]
    list_filter = [
        ("provider", RelatedDropdownFilter),
        "is_active",
        "is_validated",
        ("tenant", admin.EmptyFieldListFilter),
    ]
    list_select_related = ["provider", "tenant"]
    search_fields = ["key_name", "provider__slug", "tenant__slug", "suffix"]
    fields = [
        ("key_name", "shown"),
        ("provider", "whose"),
        ("weight", "is_active"),
        "state",
        "last_used_at",
        "last_rotated_at",
    ]
    readonly_fields = ["provider", "whose", "shown", "state", "last_used_at", "last_rotated_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProviderCredential]:
        found: QuerySet[ProviderCredential] = super().get_queryset(request)
        return found.defer("sealed")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @display(description="Whose", ordering="tenant__slug")
    def whose(self, obj: ProviderCredential) -> SafeString | str:
        return dress.badge("platform", "info") if obj.tenant is None else obj.tenant.slug

    @display(description="Key")
    def shown(self, obj: ProviderCredential) -> str:
        return obj.masked

    @display(description="State")
    def state(self, obj: ProviderCredential) -> SafeString:
        return key_state(obj)

    @display(description="Last used", ordering="last_used_at")
    def used(self, obj: ProviderCredential) -> str:
        return dress.ago(obj.last_used_at, timezone.now())
