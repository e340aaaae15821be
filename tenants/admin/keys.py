"""API keys: issued (shown once), rotated, revoked. Limits may be edited; the key itself can never be read."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from tenants import audit, keys
from tenants.admin import dress
from tenants.admin.base import ModelAdmin, ReadOnlyInline, action, actor_of, audited, change_url, display, told
from tenants.admin.pages import ConfirmForm, MomentInput, PageForm, form_page
from tenants.models import ApiKey, Scope, Tenant

EXPIRES_SOON = timedelta(days=14)
OVERLAPS = [("0", "None: the old key stops at once"), ("1", "1 hour"), ("24", "1 day"), ("168", "7 days")]


def key_state(key: ApiKey, now: datetime) -> SafeString:
    if key.revoked_at is not None:
        return dress.badge("revoked", "bad")
    if key.expires_at is not None and key.expires_at <= now:
        return dress.badge("expired", "bad")
    if key.replaced_by_id is not None:
        return dress.badge("rotated", "warn", "A successor exists; this one ends soon.")
    if key.expires_at is not None and key.expires_at - now < EXPIRES_SOON:
        return dress.badge("expires soon", "warn")
    return dress.badge("active", "good")


class KeyForm(PageForm):
    """What a new key may do."""

    name = forms.CharField(max_length=100, help_text="What it is for, such as nightly batch.")
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices,
        initial=[Scope.COMPLETIONS, Scope.USAGE_READ],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="What it may do.",
    )
    budget_limit_daily = forms.DecimalField(
        required=False,
        min_value=0,
        decimal_places=10,
        max_digits=20,
        help_text="USD a day. Empty: no limit of its own.",
    )
    budget_limit_monthly = forms.DecimalField(
        required=False,
        min_value=0,
        decimal_places=10,
        max_digits=20,
        help_text="USD a month. Empty: no limit of its own.",
    )
    allowed_models = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="One a line, such as openai/gpt-4o or anthropic/*. Empty: all.",
    )
    rate_limit_rpm = forms.IntegerField(required=False, min_value=1, help_text="Requests a minute. Empty: no limit.")
    rate_limit_tpm = forms.IntegerField(required=False, min_value=1, help_text="Tokens a minute. Empty: no limit.")
    expires_at = forms.DateTimeField(required=False, widget=MomentInput, help_text="In UTC. Empty: never.")
    owner = forms.ModelChoiceField(
        queryset=User.objects.none(),
        required=False,
        help_text="The member whose usage its requests are counted as. Empty: nobody's.",
    )

    def spec(self) -> keys.KeySpec:
        values = dict(self.cleaned_data)
        references = values.pop("allowed_models").split()
        owner = values.pop("owner", None)
        return keys.KeySpec(allowed_models=references or None, owner_id=owner and owner.pk, **values)


class RotateForm(PageForm):
    overlap = forms.ChoiceField(
        choices=OVERLAPS, initial="24", help_text="How long the old key goes on working beside its successor."
    )


def shown_once(request: HttpRequest, key: ApiKey, secret: str, back: str, note: str = "") -> HttpResponse:
    """The only page a key is ever on. It is the answer to a POST and is not to be stored."""
    context = {
        **admin.site.each_context(request),
        "title": "The new key",
        "key": key,
        "secret": secret,
        "note": note,
        "back": back,
        "back_label": "Done",
    }
    response = TemplateResponse(request, "tenants/admin/key_once.html", context)
    response["Cache-Control"] = "no-store"
    return response


def issue_page(request: HttpRequest, *, tenant: Tenant | None, back: str) -> HttpResponse:
    """Issue a key: to a tenant, or (without one) to the staff member at the browser."""
    if not request.user.has_perm("tenants.add_apikey"):
        raise PermissionDenied
    form = KeyForm(request.POST or None)
    if tenant is None:
        del form.fields["scopes"], form.fields["owner"]
    else:
        members: Any = form.fields["owner"]
        members.queryset = User.objects.filter(memberships__tenant=tenant).order_by("username")
    if form.is_valid():
        try:
            with transaction.atomic():
                spec = form.spec()
                if tenant is None:
                    spec = keys.KeySpec(name=spec.name, owner_id=request.user.pk, expires_at=spec.expires_at)
                key, secret = keys.issue(tenant=tenant, spec=spec)
                audit.record(actor=actor_of(request), action="issue", row=key, before={}, now=timezone.now())
        except ValidationError as error:
            for field, problems in error.message_dict.items():
                form.add_error(field if field in form.fields else None, problems)
        else:
            return shown_once(request, key, secret, back)
    whom = f"for {tenant}" if tenant else "for yourself: a staff key, for /api/v1/admin/ only"
    return form_page(
        request, form, title=f"Issue a key {whom}", submit="Issue the key", back=back, opts=ApiKey._meta,
        intro="The key is shown once, on the next page.",
    )  # fmt: skip


class KeyStateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("good", "Works now"), ("gone", "Revoked or expired")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        gone = Q(revoked_at__isnull=False) | Q(expires_at__lte=timezone.now())
        if self.value() == "good":
            return queryset.exclude(gone)
        return queryset.filter(gone) if self.value() == "gone" else queryset


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    """Keys of all tenants, and of staff."""

    list_display = ["name", "shown", "whose", "state", "limits", "last_used"]
    list_filter = [KeyStateFilter, "tenant__tier"]
    list_select_related = ["tenant", "owner"]
    search_fields = ["name", "tenant__slug", "last_four", "prefix", "owner__username"]
    search_help_text = "Name, tenant, owner, or the first or last characters of a key."
    autocomplete_fields = ["owner"]
    actions_list = ["issue_staff_key"]
    actions_detail = ["rotate", "revoke"]
    readonly_fields = ["tenant", "shown", "state", "last_used_at", "revoked_at", "created_at"]
    fieldsets = [
        (None, {"fields": [("name", "tenant"), ("shown", "state"), "owner", "scopes", "allowed_models"]}),
        (
            "Limits",
            {
                "fields": [
                    ("budget_limit_daily", "budget_limit_monthly"),
                    ("rate_limit_rpm", "rate_limit_tpm", "max_concurrency"),
                    "expires_at",
                ]
            },
        ),
        ("When", {"fields": [("created_at", "last_used_at", "revoked_at")]}),
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        # A key is issued on a page of its own, which shows it once.
        return False

    def has_issue_key_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("tenants.add_apikey")

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        # A staff key acts as its owner: others look at it, and may revoke it, which only takes away.
        own = obj is None or obj.tenant_id is not None or obj.owner_id == request.user.pk
        return own and super().has_change_permission(request, obj)

    def has_rotate_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.has_change_permission(request, None if object_id is None else self.get_object(request, object_id))

    def has_revoke_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.has_change_permission(request)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[str]:
        # Whose staff key it is was said when it was issued: else it would act as whoever is chosen here.
        fixed = ["owner"] if obj is not None and obj.tenant_id is None else []
        return [*super().get_readonly_fields(request, obj), *fixed]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Usage names keys: they are revoked and stay.
        return False

    @display(description="Key")
    def shown(self, obj: ApiKey) -> str:
        return obj.masked

    @display(description="Whose", ordering="tenant__slug")
    def whose(self, obj: ApiKey) -> SafeString | str:
        if obj.tenant is None:
            return dress.stack(dress.badge("staff", "info"), obj.owner or "nobody")
        return dress.stack(obj.tenant.slug, obj.owner or "")

    @display(description="State")
    def state(self, obj: ApiKey) -> SafeString:
        return key_state(obj, timezone.now())

    @display(description="Limits")
    def limits(self, obj: ApiKey) -> SafeString | str:
        return limits_in_words(obj)

    @display(description="Last used", ordering="last_used_at")
    def last_used(self, obj: ApiKey) -> str:
        return dress.ago(obj.last_used_at, timezone.now())

    @action(description="Issue a staff key", url_path="issue", icon="key", permissions=["issue_key"])
    def issue_staff_key(self, request: HttpRequest) -> HttpResponse:
        return issue_page(request, tenant=None, back=reverse("admin:tenants_apikey_changelist"))

    @action(description="Rotate", url_path="rotate", icon="autorenew", permissions=["rotate"])
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key: ApiKey = self.one(request, object_id)
        form = RotateForm(request.POST or None)
        if form.is_valid():
            hours = int(form.cleaned_data["overlap"])
            with told(request), audited(request, key, "rotate"):
                successor, secret = keys.rotate(
                    key=key, overlap=timedelta(hours=hours), now=timezone.now(), person_id=request.user.pk
                )
                self.record(request, successor, "issue", {})
                return shown_once(request, successor, secret, change_url(successor), f"It replaces {key.masked}.")
            return HttpResponseRedirect(change_url(key))
        return form_page(
            request, form, title=f"Rotate {key}", submit="Rotate", back=change_url(key), opts=self.opts,
            intro="Makes a successor with the same rights and limits, shown once on the next page.",
        )  # fmt: skip

    @action(description="Revoke", url_path="revoke", icon="block", variant=ActionVariant.DANGER, permissions=["revoke"])
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = get_object_or_404(self.get_queryset(request), pk=object_id)
        form = ConfirmForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            with audited(request, key, "revoke"):
                keys.revoke(key=key, now=timezone.now())
            self.message_user(request, f"{key} is revoked: refused everywhere within a second.")
            return HttpResponseRedirect(change_url(key))
        return form_page(
            request, form, title=f"Revoke {key}", submit="Revoke the key", back=change_url(key), opts=self.opts,
            intro="Whoever uses it is refused from now on. This cannot be undone; issue a new key instead.",
        )  # fmt: skip


def limits_in_words(key: ApiKey) -> SafeString | str:
    words = []
    if key.budget_limit_daily is not None:
        words.append(f"{dress.usd(key.budget_limit_daily)} a day")
    if key.budget_limit_monthly is not None:
        words.append(f"{dress.usd(key.budget_limit_monthly)} a month")
    if key.rate_limit_rpm is not None:
        words.append(f"{key.rate_limit_rpm:,} requests a minute")
    if key.rate_limit_tpm is not None:
        words.append(f"{key.rate_limit_tpm:,} tokens a minute")
    return dress.lines(words) if words else dress.NONE


class KeyInline(ReadOnlyInline):
    """A tenant's keys, newest first."""

    model = ApiKey
    fk_name = "tenant"
    verbose_name_plural = "API keys"
    tab = True
    fields = ["called", "shown", "state", "limits", "last_used"]
    readonly_fields = fields
    ordering = ["-created_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        found: QuerySet[ApiKey] = super().get_queryset(request).select_related("owner", "tenant")
        return found

    @display(description="Name")
    def called(self, obj: ApiKey) -> SafeString:
        return dress.stack(dress.link(change_url(obj), obj.name), ", ".join(obj.scopes))

    @display(description="Key")
    def shown(self, obj: ApiKey) -> str:
        return obj.masked

    @display(description="State")
    def state(self, obj: ApiKey) -> SafeString:
        return key_state(obj, timezone.now())

    @display(description="Limits")
    def limits(self, obj: ApiKey) -> SafeString | str:
        return limits_in_words(obj)

    @display(description="Last used")
    def last_used(self, obj: ApiKey) -> str:
        return dress.ago(obj.last_used_at, timezone.now())
