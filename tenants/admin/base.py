"""What every admin page of Tollgate shares: one AuditEvent per change, in its transaction, and history read from them.

Django's own log entries are not written: the audit log is the one source of history.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, TypeVar

import unfold.admin
import unfold.decorators
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.db.models import Model, Q, QuerySet
from django.forms import BaseModelFormSet, ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminTextareaWidget

from tenants import audit
from tenants.errors import TollgateError
from tenants.models import AuditEvent

F = TypeVar("F", bound=Callable[..., Any])
HISTORY_LENGTH = 200
# Where the column's name does not read well.
LABELS = {
    "is_active": "Active",
    "is_tenant_default": "Default of the tenant",
    "is_byok_supported": "Tenants' own keys",
    "is_fallback": "Fallback",
    "is_reasoning": "Reasoning model",
    "base_url": "Base URL",
    "documentation_url": "Documentation",
    "pricing_url": "Prices",
    "status_page_url": "Status page",
    "env_keys": "Environment variables",
    "api_key_format": "Key format",
    "auth_type": "Authentication",
    "model_id": "Model id",
    "min_tier_required": "Lowest tier",
    "supports_json_mode": "Supports JSON",
    "rate_limit_rpm": "Requests a minute",
    "rate_limit_tpm": "Tokens a minute",
    "rate_limit_rpd": "Requests a day",
    "budget_limit_daily": "Daily budget, USD",
    "budget_limit_monthly": "Monthly budget, USD",
    "markup_percent": "Markup, percent",
    "byok_fee_percent": "Fee for own keys, percent",
    "max_price_per_1m_usd": "Highest price, USD per 1M",
    "max_latency_ms": "First token within, ms",
    "timezone": "Time zone",
    "requires_byok": "Only with the tenant's own key",
}


def display(**options: Any) -> Callable[[F], F]:
    """unfold's `display`, typed."""
    decorate: Callable[[F], F] = unfold.decorators.display(**options)
    return decorate


def action(**options: Any) -> Callable[[F], F]:
    """unfold's `action`, typed."""
    decorate: Callable[[F], F] = unfold.decorators.action(**options)
    return decorate


def actor_of(request: HttpRequest) -> audit.Actor:
    """The person at the browser."""
    return audit.Actor(
        kind="user",
        id=str(request.user.pk),
        label=request.user.get_username(),
        ip=request.META.get("REMOTE_ADDR") or None,
        request_id=getattr(request, "request_id", ""),
    )


def reason_of(request: HttpRequest) -> str:
    """Why, as typed below the form or on the page of an action."""
    return (request.POST.get("change_reason") or request.POST.get("reason") or "").strip()[:1000]


def stored(row: Model) -> dict[str, Any]:
    """The row as the database has it now; {} if it is new."""
    found = type(row)._default_manager.filter(pk=row.pk).first()
    return {} if found is None else audit.state(found)


@contextmanager
def audited(request: HttpRequest, row: Model, verb: str, reason: str = "") -> Iterator[None]:
    """Run a change of `row` and its audit row in one transaction; the row is read again before it is compared."""
    with transaction.atomic():
        before = stored(row)
        yield
        if verb != "delete":
            row.refresh_from_db()
        audit.record(
            actor=actor_of(request),
            action=verb,
            row=row,
            before=before,
            now=timezone.now(),
            reason=reason or reason_of(request),
        )


@contextmanager
def told(request: HttpRequest) -> Iterator[None]:
    """Say a domain error in words at the top of the next page. What raised it has rolled its transaction back."""
    try:
        yield
    except TollgateError as error:
        messages.error(request, error.message)


class Audited:
    """Mixed into every ModelAdmin: saves and deletions, inlines and bulk actions too, write an AuditEvent each."""

    model: type[Model]
    admin_site: Any
    opts: Any
    change_form_after_template: str | None = "tenants/admin/reason.html"

    def save_model(self, request: HttpRequest, obj: Model, form: "ModelForm[Any]", change: bool) -> None:
        before = stored(obj) if change else {}
        super().save_model(request, obj, form, change)  # type: ignore[misc]  # a mixin of ModelAdmin
        self.record(request, obj, "update" if change else "create", before)

    def save_formset(
        self, request: HttpRequest, form: "ModelForm[Any]", formset: "BaseModelFormSet[Any, Any]", change: bool
    ) -> None:
        formset.save(commit=False)
        for row in formset.deleted_objects:
            before = audit.state(row)
            self.record(request, row, "delete", before)
            row.delete()
        for row, _ in formset.changed_objects:
            before = stored(row)
            row.save()
            self.record(request, row, "update", before)
        for row in formset.new_objects:
            row.save()
            self.record(request, row, "create", {})
        formset.save_m2m()

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        with transaction.atomic():
            self.record(request, obj, "delete", audit.state(obj))
            obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for row in queryset:
                self.delete_model(request, row)

    def record(self, request: HttpRequest, row: Model, verb: str, before: dict[str, Any]) -> None:
        if verb != "delete":
            # As it is stored: what a form leaves in memory may be spelt otherwise, such as 0 for 0.0000.
            row = type(row)._default_manager.get(pk=row.pk)
        audit.record(
            actor=actor_of(request),
            action=verb,
            row=row,
            before=before,
            now=timezone.now(),
            reason=reason_of(request),
        )

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Nothing: see the module's docstring."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Nothing: see the module's docstring."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Nothing: see the module's docstring."""

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The object's AuditEvents, newest first, each with what changed."""
        row = self.get_object(request, object_id)  # type: ignore[attr-defined]  # a mixin of ModelAdmin
        if not self.has_view_or_change_permission(request, row):  # type: ignore[attr-defined]
            raise PermissionDenied
        concerned = Q(object_type=self.opts.label, object_id=str(object_id)) | self.related_history(row)
        events = AuditEvent.objects.filter(concerned)[:HISTORY_LENGTH]
        context = {
            **self.admin_site.each_context(request),
            "title": f"History of {row or object_id}",
            "opts": self.opts,
            "object": row,
            "events": [(event, changes(event)) for event in events],
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "tenants/admin/history.html", context)

    def related_history(self, row: Any) -> Q:
        """Events of rows that belong to this one, such as a model's prices. `row` is None when it is deleted."""
        return Q(pk__in=())

    def one(self, request: HttpRequest, object_id: str) -> Any:
        """The row of a page of its own, or 404; 403 for those who may not change it, whether there is one or not."""
        if not self.has_change_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        row = get_object_or_404(self.get_queryset(request), pk=object_id)  # type: ignore[attr-defined]
        if not self.has_change_permission(request, row):  # type: ignore[attr-defined]
            raise PermissionDenied
        return row

    def url_of(self, row: Model) -> str:
        return change_url(row)


def switched(number: int, active: bool) -> str:
    """What is said after a bulk activation."""
    return f"{number} {'activated' if active else 'disabled'}. Routing follows within 2 seconds."


def change_url(row: Model) -> str:
    """Where a row is edited."""
    meta = row._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=(row.pk,))


def changes(event: AuditEvent) -> list[tuple[str, Any, Any]]:
    """(field, before, after) of an event, in field order."""
    names = {**event.before, **event.after}
    return [(name, event.before.get(name, ""), event.after.get(name, "")) for name in names]


class PlainDecimal(forms.DecimalField):
    """A decimal without the zeros it is stored with."""

    def prepare_value(self, value: Any) -> Any:
        return f"{value.normalize():f}" if isinstance(value, Decimal) else value


class ModelAdmin(Audited, unfold.admin.ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """The base of every editable list."""

    list_per_page = 50
    list_filter_submit = True
    show_full_result_count = False
    warn_unsaved_form = True
    list_fullwidth = True
    compressed_fields = False
    formfield_overrides = {
        models.DecimalField: {"form_class": PlainDecimal},
        models.URLField: {"assume_scheme": "https"},
        models.JSONField: {"widget": UnfoldAdminTextareaWidget(attrs={"rows": 2})},
        models.TextField: {"widget": UnfoldAdminTextareaWidget(attrs={"rows": 2})},
    }

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name in LABELS:
            field.label = LABELS[db_field.name]
        return field


class ReadOnly:
    """Rows to look at: nobody adds, changes or deletes them here."""

    change_form_after_template: str | None = None

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(ReadOnly, ModelAdmin):
    """A log: read-only, and never counted, because counting a large table takes longer than reading a page of it. Nor
    is it leafed through without end, since the database reads all pages before the one that is shown."""

    paginator = InfinitePaginator
    show_facets = admin.ShowFacets.NEVER
    warn_unsaved_form = False
    most_pages = 2_000

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        page = request.GET.get(PAGE_VAR, "")
        if page.isascii() and page.isdigit() and (len(page) > 9 or int(page) > self.most_pages):
            messages.warning(request, f"A list ends after {self.most_pages:,} pages. Filter it to look further back.")
            asked = request.GET.copy()
            asked[PAGE_VAR] = str(self.most_pages)
            return HttpResponseRedirect(f"{request.path}?{asked.urlencode()}")
        shown: HttpResponse = super().changelist_view(request, extra_context)
        return shown


class TabularInline(unfold.admin.TabularInline):  # type: ignore[misc]  # unfold has no types
    extra = 0
    show_change_link = False
    hide_title = True


class ReadOnlyInline(ReadOnly, TabularInline):
    """Rows of another table, to look at."""

    can_delete = False
    max_num = 0
