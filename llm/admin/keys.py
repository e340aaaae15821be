"""Provider keys in the admin: they go in and never come out. Shown of them are a name and a few characters."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.forms import BaseModelFormSet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.forms import PaginationInlineFormSet
from unfold.widgets import UnfoldAdminPasswordWidget

from billing.admin.usage import TenantFilter
from llm.catalog import credentials, validation
from llm.fields import Secret
from llm.models import ProviderCredential
from tenants import audit
from tenants.admin import dress
from tenants.admin.base import ModelAdmin, TabularInline, action, actor_of, audited, change_url, display, told
from tenants.admin.keys import OVERLAPS
from tenants.admin.pages import PageForm, form_page
from tenants.errors import TollgateError

SECRETS = ("sealed", "previous_sealed")  # lists and pages never need them


def key_state(credential: ProviderCredential) -> SafeString:
    now = timezone.now()
    if not credential.is_active:
        return dress.badge("off", "plain")
    if credential.is_validated:
        tone, below = "good", dress.ago(credential.last_validated_at, now)
        if credential.validation_error:  # the last time the provider could not be asked, or took an older secret
            tone, below = "warn", credential.validation_error
        return dress.stack(dress.badge("accepted", tone), below)
    if credential.validation_error:
        return dress.stack(dress.badge("refused", "bad"), credential.validation_error)
    return dress.badge("not tested", "plain")


def last_use(credential: ProviderCredential) -> str:
    """When the newest request with it came in."""
    return dress.ago(credential.last_used_at, timezone.now())


class CredentialForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """A name, a weight, and a key that is never shown again."""

    api_key = forms.CharField(
        required=False,
        strip=True,
        label="Key",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password", "placeholder": "paste a key"}),
        help_text="Encrypted when it is saved, and never shown again. Empty keeps the key that is there. Amazon "
        "Bedrock: an API key, or ACCESS_KEY_ID:SECRET_ACCESS_KEY[:SESSION_TOKEN], or those as a JSON object. "
        "Vertex AI: a service account's whole JSON.",
    )

    class Meta:
        model = ProviderCredential
        fields = ["key_name", "weight", "is_active"]

    def clean_api_key(self) -> Secret | None:
        given = self.cleaned_data["api_key"]
        return Secret(given) if given else None


class RotateForm(PageForm):
    """Another secret for a key that stays."""

    api_key = forms.CharField(
        strip=True,
        label="New key",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password", "placeholder": "paste the new key"}),
        help_text="The provider is asked about it first. Encrypted, and never shown again.",
    )
    overlap = forms.ChoiceField(
        choices=OVERLAPS,
        initial="24",
        help_text="If the provider refuses the new key within this time, the one before it is used again.",
    )


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
        own = found.filter(tenant__isnull=True).defer(*SECRETS).select_related("provider")
        return credentials.with_last_use(own)

    @display(description="Stored")
    def shown(self, obj: ProviderCredential) -> str:
        return obj.masked if not obj._state.adding else dress.NONE

    @display(description="State")
    def state(self, obj: ProviderCredential) -> SafeString | str:
        return key_state(obj) if not obj._state.adding else dress.NONE

    @display(description="Last used")
    def used(self, obj: ProviderCredential) -> str:
        return last_use(obj) if not obj._state.adding else dress.NONE


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
    """All provider keys, the platform's and tenants' own: how they are, who uses them; validate, rotate, switch off.

    New platform keys are added and replaced on their provider's page; tenants add their own.
    """

    list_display = ["key_name", "provider", "whose", "shown", "state", "weight", "used"]
    list_filter = [
        TenantFilter,
        ("provider", RelatedDropdownFilter),
        "is_active",
        "is_validated",
        ("tenant", admin.EmptyFieldListFilter),
    ]
    list_select_related = ["provider", "tenant"]
    search_fields = ["key_name", "provider__slug", "tenant__slug", "suffix"]
    actions = ["validate_selected", "deactivate_selected"]
    actions_detail = ["rotate"]
    fields = [
        ("key_name", "shown"),
        ("provider", "whose"),
        ("weight", "is_active"),
        "state",
        ("used", "last_rotated_at", "previous_until"),
    ]
    readonly_fields = ["provider", "whose", "shown", "state", "used", "last_rotated_at", "previous_until"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProviderCredential]:
        found: QuerySet[ProviderCredential] = super().get_queryset(request)
        return credentials.with_last_use(found).defer(*SECRETS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @method_decorator(sensitive_post_parameters())
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return super().changeform_view(request, *args, **kwargs)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """The platform's keys are replaced on their provider's page."""
        own = ProviderCredential.objects.filter(pk=object_id, tenant__isnull=False).exists()
        return super().get_actions_detail(request, object_id) if own else []

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
        return last_use(obj)

    @admin.action(description="Validate now", permissions=["change"])
    def validate_selected(self, request: HttpRequest, queryset: QuerySet[ProviderCredential]) -> None:
        """Ask each key's provider; what one refuses is no longer used."""
        for key in queryset:
            with told(request):
                asked = validation.validate(credential=key, actor=actor_of(request), now=timezone.now())
                level = messages.SUCCESS if not asked.validation_error else messages.WARNING
                said = asked.validation_error or "accepted."
                self.message_user(request, f"{asked.provider.display_name}, {asked}: {said}", level)

    @admin.action(description="Deactivate", permissions=["change"])
    def deactivate_selected(self, request: HttpRequest, queryset: QuerySet[ProviderCredential]) -> None:
        rows = list(queryset.filter(is_active=True))
        with transaction.atomic():
            for key in rows:
                with audited(request, key, "deactivate"):
                    ProviderCredential.objects.filter(pk=key.pk).update(is_active=False, updated_at=timezone.now())
        self.message_user(request, f"{len(rows)} deactivated. No request uses them within 2 seconds.")

    @action(description="Rotate", url_path="rotate", icon="autorenew")
    @method_decorator(sensitive_post_parameters())
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key: ProviderCredential = self.one(request, object_id)
        if key.tenant is None:
            messages.error(request, "A platform key is replaced on its provider's page.")
            return HttpResponseRedirect(change_url(key))
        form = RotateForm(request.POST or None)
        if form.is_valid():
            with told(request):
                validation.rotate(
                    credential=key,
                    api_key=Secret(form.cleaned_data["api_key"]),
                    overlap=timedelta(hours=int(form.cleaned_data["overlap"])),
                    actor=actor_of(request),
                    now=timezone.now(),
                )
                self.message_user(request, f"{key.key_name} is rotated: the new key is used within a second.")
            return HttpResponseRedirect(change_url(key))
        return form_page(
            request, form, title=f"Rotate {key}", submit="Rotate", back=change_url(key), opts=self.opts,
            intro=f"Puts another secret into this key of {key.tenant}; configs and totals stay.",
        )  # fmt: skip
