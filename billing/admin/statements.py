"""Statements in the admin: finalised ones to read and download, months to look at and to finalise."""

from datetime import date
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RangeDateFilter

from billing import periods
from billing.admin.usage import TenantFilter
from billing.statement_models import Statement
from billing.statements import closing, files
from tenants.admin import dress
from tenants.admin.base import ReadOnlyAdmin, action, actor_of, display
from tenants.admin.pages import PageForm, form_page
from tenants.errors import InvalidValue, TollgateError
from tenants.models import Tenant

MOST_TENANTS = 500
_KINDS = (("html", "page for printing"), ("csv", "CSV"), ("json", "JSON"))


class MonthForm(PageForm):
    """Which month."""

    month = forms.CharField(max_length=7, help_text="As 2026-11.")

    def clean_month(self) -> date:
        try:
            return periods.parse(self.cleaned_data["month"])
        except InvalidValue as error:
            raise forms.ValidationError(error.message) from error


def document_url(tenant_id: Any, month: date, kind: str) -> str:
    return reverse("admin:billing_statement_document", args=(tenant_id, f"{month:%Y-%m}", kind))


@admin.register(Statement)
class StatementAdmin(ReadOnlyAdmin):
    """Finalised months, newest first. Nobody changes one: corrections go into the next open month, as adjustments."""

    list_display = ["period", "whose", "used", "list_cost", "billed", "finalised", "documents"]
    list_display_links = ["period"]
    list_filter = [TenantFilter, ("month", RangeDateFilter)]
    search_fields = ["tenant_slug", "tenant_name", "sha256"]
    search_help_text = "Tenant or SHA-256."
    ordering = ["-month", "tenant_slug"]
    actions = None
    actions_list = ["months"]
    fields = [("period", "whose", "timezone"), ("used", "list_cost", "billed"), "finalised", "documents", "sha256"]
    readonly_fields = ["period", "whose", "used", "list_cost", "billed", "finalised", "documents"]

    def get_urls(self) -> list[URLPattern]:
        shown = self.admin_site.admin_view(self.document)
        address = "document/<uuid:tenant_id>/<str:month>/<str:kind>/"
        return [path(address, shown, name="billing_statement_document"), *super().get_urls()]

    @display(description="Month", ordering="month")
    def period(self, obj: Statement) -> str:
        return f"{obj.month:%Y-%m}"

    @display(description="Tenant", ordering="tenant_slug")
    def whose(self, obj: Statement) -> SafeString:
        return dress.stack(obj.tenant_slug, obj.tenant_name)

    @display(description="Requests", ordering="requests")
    def used(self, obj: Statement) -> str:
        return f"{obj.requests:,}"

    @display(description="List price", ordering="cost_total_usd")
    def list_cost(self, obj: Statement) -> str:
        return dress.usd(obj.cost_total_usd)

    @display(description="Billed", ordering="billed_usd")
    def billed(self, obj: Statement) -> str:
        return dress.usd(obj.billed_usd)

    @display(description="Finalised (UTC)", ordering="finalised_at")
    def finalised(self, obj: Statement) -> SafeString:
        return dress.stack(dress.moment(obj.finalised_at), f"by {obj.finalised_by}")

    @display(description="Documents")
    def documents(self, obj: Statement) -> SafeString:
        return dress.lines(dress.link(document_url(obj.tenant_id, obj.month, kind), name) for kind, name in _KINDS)

    def document(self, request: HttpRequest, tenant_id: Any, month: str, kind: str) -> HttpResponseBase:
        """A statement or a draft of it, as a page or a file."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        tenant = get_object_or_404(Tenant, pk=tenant_id)
        try:
            asked = periods.parse(month)
            text = closing.document(tenant=tenant, month=asked, now=timezone.now())
        except TollgateError as error:
            raise Http404(error.message) from error
        if kind not in files.TYPES:
            raise Http404(f"A document is one of: {', '.join(files.TYPES)}.")
        return files.answer(text, kind=kind, month=asked, download=kind != "html")

    @action(description="Open months", url_path="months", icon="event_available")
    def months(self, request: HttpRequest) -> HttpResponse:
        """The tenants that have something in a month and no statement of it: look at each, finalise them."""
        if not self.has_view_permission(request) or (request.method == "POST" and not _may_finalise(request)):
            raise PermissionDenied
        now = timezone.now()
        last = _last_month(now)
        form = MonthForm(request.GET if "month" in request.GET else {"month": f"{last:%Y-%m}"})
        month = form.cleaned_data["month"] if form.is_valid() else last
        tenants = list(closing.open_tenants(month=month)[: MOST_TENANTS + 1])
        if request.method == "POST":
            chosen = set(request.POST.getlist("tenant"))
            _finalise(request, [one for one in tenants if str(one.pk) in chosen], month)
            return HttpResponseRedirect(request.get_full_path())
        shown, ends = [_row(one, month) for one in tenants[:MOST_TENANTS]], periods.ends_at(month)
        return form_page(
            request, form, title=f"Open months: {month:%Y-%m}", submit="Show", method="get",
            back=reverse("admin:billing_statement_changelist"), back_label="Finalised statements",
            template="billing/admin/open_months.html", opts=self.opts, month=month, may_finalise=_may_finalise(request),
            rows=shown, over=now >= ends, ends=dress.moment(ends), more=len(tenants) > MOST_TENANTS,
            intro="A month can be finalised once it is over in every time zone, at 12:05 UTC of the next 1st, and no "
            "request of it is under way. From then on it never changes: what comes late goes into the next open month.",
        )  # fmt: skip


def _may_finalise(request: HttpRequest) -> bool:
    return request.user.has_perm("billing.add_statement")


def _last_month(now: Any) -> date:
    this = periods.current(timezone="UTC", now=now)
    return periods.month_of(date.fromordinal(this.toordinal() - 1))


def _row(tenant: Tenant, month: date) -> dict[str, Any]:
    return {
        "id": tenant.pk,
        "slug": tenant.slug,
        "name": tenant.name,
        "timezone": tenant.timezone,
        "documents": [(document_url(tenant.pk, month, kind), name) for kind, name in _KINDS],
    }


def _finalise(request: HttpRequest, tenants: list[Tenant], month: date) -> None:
    done = 0
    for tenant in tenants:
        try:
            closing.finalise(tenant=tenant, month=month, actor=actor_of(request), now=timezone.now())
            done += 1
        except TollgateError as error:
            messages.error(request, error.message)
    if done:
        messages.success(request, f"{done} finalised.")
    elif not tenants:
        messages.warning(request, "Choose tenants first.")
