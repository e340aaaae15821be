"""Prepaid credit and adjustments in the admin: what is left, granting, correcting, and entering an adjustment."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateTimeFilter
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from billing import adjustments, granting
from billing.admin.usage import TenantFilter
from billing.credit_models import CreditEntry
from tenants.admin import dress
from tenants.admin.base import ReadOnlyAdmin, action, actor_of, change_url, display
from tenants.admin.pages import DayInput, MomentInput, PageForm, form_page, refused
from tenants.errors import TollgateError
from tenants.fields import MAX_USD
from tenants.models import Tenant

TONES = {"grant": "good", "correction": "warn", "expiry": "plain"}


def amount_field(help_text: str, *, signed: bool = False, **options: Any) -> forms.DecimalField:
    """An amount in USD."""
    least = "" if signed else "0"
    return forms.DecimalField(
        min_value=-MAX_USD if signed else Decimal(0),
        max_value=MAX_USD,
        max_digits=20,
        decimal_places=10,
        help_text=help_text,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "min": least} if least else {"step": "any"}),
        **options,
    )


def reason_field() -> forms.CharField:
    return forms.CharField(max_length=1000, help_text="Why. The tenant can read it; it is in the audit log too.")


class GrantForm(PageForm):
    """Credit to be given to a tenant."""

    amount = amount_field("USD to add to the balance.")
    source = forms.ChoiceField(choices=CreditEntry.Source.choices, help_text="Where it comes from.")
    expires_at = forms.DateTimeField(
        required=False,
        widget=MomentInput,
        label="Expires (UTC)",
        help_text="From this moment on what is left of it is gone. Empty: never. What expires first is drawn first.",
    )
    reason = reason_field()


class CorrectForm(PageForm):
    """A signed change of what a grant gave."""

    amount = amount_field("USD, signed: -5 takes five dollars back, 5 gives five more.", signed=True)
    reason = reason_field()


class AdjustForm(PageForm):
    """A signed correction of what a tenant owes."""

    billed_usd = amount_field(
        "USD, signed: what the tenant owes more. -5 takes five dollars off its statement.", signed=True, label="Billed"
    )
    budget_usd = amount_field(
        "USD, signed: what its budgets count. Empty: the same, so that a tenant that was blocked is free at once.",
        signed=True,
        required=False,
        label="Budgets",
    )
    cost_total_usd = amount_field(
        "USD, signed: only where the provider's list price itself was recorded wrongly.",
        signed=True,
        required=False,
        label="List price",
    )
    request_id = forms.UUIDField(
        required=False, help_text="The request it is about: it counts for that request's key, config, model and day."
    )
    billing_day = forms.DateField(
        required=False,
        widget=DayInput,
        help_text="Empty: the request's day, else today. One of a closed period goes into the next open one.",
    )
    reason = reason_field()


def panel(tenant: Tenant, *, now: datetime) -> SafeString | str:
    """A tenant's credit as staff see it on its page; nothing for one that neither pays in advance nor has any."""
    picture = granting.picture(tenant_id=tenant.pk, now=now)
    account = picture.account
    if not tenant.prepaid and not picture.entries:
        return ""
    soon = account.next_expiry
    grants = [
        (change_url(grant.entry), grant, dress.usd(grant.left), dress.usd(grant.entry.amount + grant.corrected))
        for grant in account.in_order
        if grant.left > 0
    ]
    return render_to_string(
        "billing/admin/credits.html",
        {
            "tenant": tenant,
            "balance": dress.usd(account.balance),
            "empty": account.balance <= 0,
            "held": dress.usd(picture.held) if picture.held else "",
            "drawn": dress.usd(account.drawn),
            "granted": dress.usd(account.granted),
            "soon": None if soon is None else (dress.usd(soon.left), dress.moment(soon.entry.expires_at)),
            "grants": grants,
            "entries": reverse("admin:billing_creditentry_changelist") + f"?tenant={tenant.pk}",
        },
    )


def grant_page(request: HttpRequest, *, tenant: Tenant) -> HttpResponse:
    """Give credit to a tenant."""
    form = GrantForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            entry = granting.grant(
                tenant=tenant, wish=granting.NewGrant(**form.cleaned_data), actor=actor_of(request), now=timezone.now()
            )
        except TollgateError as error:
            refused(form, error)
        else:
            messages.success(request, f"{dress.usd(entry.amount)} are granted to {tenant}.")
            return HttpResponseRedirect(change_url(tenant))
    later = "" if tenant.prepaid else " This tenant pays later: its requests draw nothing until “prepaid” is on."
    return form_page(
        request, form, title=f"Grant credits to {tenant}", submit="Grant", back=change_url(tenant),
        opts=Tenant._meta, intro=f"Requests may draw it at once.{later}",
    )  # fmt: skip


def adjust_page(request: HttpRequest, *, tenant: Tenant) -> HttpResponse:
    """Enter an adjustment of what a tenant owes."""
    form = AdjustForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        values = form.cleaned_data
        correction = adjustments.Correction(
            billed=values["billed_usd"],
            budget=values["budget_usd"],
            cost=values["cost_total_usd"] or adjustments.ZERO,
            request_id=values["request_id"],
            day=values["billing_day"],
            reason=values["reason"],
        )
        try:
            row = adjustments.enter(tenant=tenant, correction=correction, actor=actor_of(request), now=timezone.now())
        except TollgateError as error:
            refused(form, error)
        else:
            said = f"An adjustment of {dress.usd(row.billed_usd)} is booked on {row.billing_day}."
            messages.success(request, said)
            return HttpResponseRedirect(change_url(tenant))
    return form_page(
        request, form, title=f"Adjust what {tenant} owes", submit="Book it", back=change_url(tenant),
        opts=Tenant._meta,
        intro="It stands in the ledger beside what it corrects: nothing in the past is edited, and it cannot be taken "
        "back but by another one.",
    )  # fmt: skip


@admin.register(CreditEntry)
class CreditEntryAdmin(ReadOnlyAdmin):
    """Grants, corrections and expiries of prepaid credit. What requests draw is in the request log."""

    list_display = ["when", "tenant", "what", "usd", "expires", "reason", "author"]
    list_display_links = ["when"]
    list_filter = [
        TenantFilter,
        ("kind", ChoicesDropdownFilter),
        ("source", ChoicesDropdownFilter),
        ("expires_at", RangeDateTimeFilter),
    ]
    list_select_related = ["tenant"]
    search_fields = ["reason", "author"]
    search_help_text = "A word of the reason, or an author."
    fields = ["tenant", "what", "usd", "grant", "expires", "reason", "author", "when", "number"]
    readonly_fields = ["what", "usd", "expires", "when"]
    ordering = ["-id"]
    actions = None
    actions_detail = ["correct"]

    @display(description="When (UTC)", ordering="id")
    def when(self, obj: CreditEntry) -> str:
        return dress.moment(obj.created_at)

    @display(description="Entry")
    def what(self, obj: CreditEntry) -> SafeString:
        badge = dress.badge(obj.get_kind_display(), TONES[obj.kind])
        return dress.stack(badge, obj.get_source_display() if obj.source else f"number {obj.number}")

    @display(description="Amount", ordering="amount")
    def usd(self, obj: CreditEntry) -> str:
        return dress.usd(obj.amount)

    @display(description="Expires (UTC)", ordering="expires_at")
    def expires(self, obj: CreditEntry) -> str:
        return dress.moment(obj.expires_at)

    def related_history(self, row: Any) -> Q:
        if row is None:
            return super().related_history(row)
        ids = [str(pk) for pk in row.changes.values_list("pk", flat=True)]
        return Q(object_type=CreditEntry._meta.label, object_id__in=ids)

    def has_correct_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("billing.add_creditentry")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Only grants can be corrected."""
        is_grant = CreditEntry.objects.filter(pk=object_id, kind=CreditEntry.Kind.GRANT).exists()
        return list(super().get_actions_detail(request, object_id)) if is_grant else []

    @action(description="Correct", url_path="correct", icon="exposure", permissions=["correct"])
    def correct(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """A correction of this grant."""
        entry = CreditEntry.objects.filter(pk=object_id, kind=CreditEntry.Kind.GRANT).select_related("tenant").first()
        if entry is None:
            raise Http404
        form = CorrectForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                made = granting.correct(entry=entry, **form.cleaned_data, actor=actor_of(request), now=timezone.now())
            except TollgateError as error:
                refused(form, error)
            else:
                self.message_user(request, f"The grant is corrected by {dress.usd(made.amount)}.")
                return HttpResponseRedirect(change_url(entry.tenant))
        return form_page(
            request, form, title=f"Correct a grant of {dress.usd(entry.amount)} to {entry.tenant}", submit="Correct",
            back=change_url(entry), opts=self.opts,
            intro="What was drawn of it already is then taken from the tenant's other grants, at last from nothing: "
            "its balance may go below zero, and its requests are refused until it is granted more.",
        )  # fmt: skip
