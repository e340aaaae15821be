"""Tenants' own prices in the admin: what is in force, and the page that sets one."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.enums import ActionVariant

from llm.admin import prices as price_pages
from llm.admin.models import refused
from llm.catalog import overrides, prices
from llm.models import LLMModel, PriceOverride, PriceProposal
from tenants.admin import dress
from tenants.admin.base import ReadOnlyAdmin, action, actor_of, change_url, display
from tenants.admin.pages import ConfirmForm, MomentInput, PageForm, form_page
from tenants.errors import TollgateError
from tenants.models import Tenant

WAITS = "It waits for a second person: see Price proposals."


class OverrideForm(PageForm):
    """A price for one tenant; other meters are the API's."""

    model = forms.ModelChoiceField(
        queryset=LLMModel.objects.select_related("provider").order_by("provider__slug", "model_id"),
        help_text="The model it is for, at this provider.",
    )
    input_usd = price_pages.usd_field("USD per million input tokens.", label="Input")
    output_usd = price_pages.usd_field(
        "USD per million output tokens. Embedding models have none.", label="Output", required=False
    )
    cached_usd = price_pages.usd_field(
        "USD per million cached input tokens. Empty: they cost as much as input.", label="Cached input", required=False
    )
    effective_from = forms.DateTimeField(
        required=False, widget=MomentInput, label="From (UTC)", help_text="In force from this moment on. Empty: now."
    )
    effective_to = forms.DateTimeField(
        required=False,
        widget=MomentInput,
        label="Until (UTC)",
        help_text="Then the list price counts again. Empty: for good.",
    )
    reason = forms.CharField(max_length=1000, help_text="Why, such as the contract. Kept in the audit log too.")
    confirm = forms.BooleanField(
        required=False, help_text="Set it although it is more than five times more or less than what the tenant pays."
    )

    def wish(self) -> overrides.NewOverride:
        values = self.cleaned_data
        components = prices.flat(
            input_usd=values["input_usd"], output_usd=values["output_usd"], cached_usd=values["cached_usd"]
        )
        return overrides.NewOverride(
            components=components,
            reason=values["reason"],
            effective_from=values["effective_from"],
            effective_to=values["effective_to"],
            confirm=values["confirm"],
        )


class EndForm(ConfirmForm):
    """Are you sure, why, and is an unusual change meant."""

    confirm = forms.BooleanField(
        required=False, help_text="End it although the tenant will then pay more than five times more or less."
    )


def set_page(request: HttpRequest, *, tenant: Tenant) -> HttpResponse:
    """Set a price for a tenant."""
    form = OverrideForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        model: LLMModel = form.cleaned_data["model"]
        try:
            made = prices.set_own_price(
                tenant=tenant,
                model=model,
                wish=form.wish(),
                person_id=request.user.pk,
                actor=actor_of(request),
                now=timezone.now(),
            )
        except TollgateError as error:
            refused(form, error)
        else:
            done = f"{tenant} has its own price of {model}."
            messages.success(request, WAITS if isinstance(made, PriceProposal) else done)
            return HttpResponseRedirect(change_url(tenant))
    return form_page(
        request, form, title=f"Set a price for {tenant}", submit="Set the price", back=change_url(tenant),
        opts=Tenant._meta,
        intro="What the tenant owes for this model with the platform's key, instead of the list price and its markup: "
        "nothing is added to it. It holds for requests accepted from its moment on.",
    )  # fmt: skip


@admin.register(PriceOverride)
class PriceOverrideAdmin(ReadOnlyAdmin):
    """What single tenants pay for single models instead of the list price. Set on a tenant's page, never edited."""

    list_display = ["tenant", "model", "state", "figures", "begins", "ends", "reason", "author"]
    list_display_links = ["tenant"]
    list_filter = [("tenant", RelatedDropdownFilter)]
    list_select_related = ["tenant", "model__provider"]
    search_fields = ["tenant__slug", "model__model_id", "model__provider__slug", "reason"]
    search_help_text = "A tenant, a model, a provider, or a word of the reason."
    ordering = ["-recorded_at"]
    actions = None
    actions_detail = ["end"]
    fields = ["tenant", "model", "number", "state", "figures", "begins", "ends", "reason", "author", "recorded_at"]
    readonly_fields = ["state", "figures", "begins", "ends"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[PriceOverride]:
        found: QuerySet[PriceOverride] = super().get_queryset(request).prefetch_related("components")
        return found

    @display(description="State")
    def state(self, obj: PriceOverride) -> SafeString:
        now = timezone.now()
        if obj.effective_to == obj.effective_from:
            return dress.badge("cancelled", "plain")
        if obj.effective_from > now:
            return dress.badge("scheduled", "info")
        return (
            dress.badge("past", "plain")
            if obj.effective_to and obj.effective_to <= now
            else dress.badge("in force", "good")
        )

    @display(description="Price")
    def figures(self, obj: PriceOverride) -> SafeString:
        return dress.lines(price_pages.component_in_words(component) for component in obj.components.all())

    @display(description="From (UTC)", ordering="effective_from")
    def begins(self, obj: PriceOverride) -> str:
        return dress.moment(obj.effective_from)

    @display(description="Until", ordering="effective_to")
    def ends(self, obj: PriceOverride) -> str:
        return dress.moment(obj.effective_to)

    def has_end_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("llm.delete_priceoverride")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Only what has not ended can be ended."""
        ended = PriceOverride.objects.filter(pk=object_id, effective_to__lte=timezone.now()).exists()
        return [] if ended else list(super().get_actions_detail(request, object_id))

    @action(description="End", url_path="end", icon="event_busy", variant=ActionVariant.DANGER, permissions=["end"])
    def end(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """From now on the list price counts again."""
        row = PriceOverride.objects.filter(pk=object_id).select_related("tenant", "model__provider").first()
        if row is None:
            raise Http404
        form = EndForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            wish = {**form.cleaned_data, "person_id": request.user.pk}
            try:
                ended = prices.end_own_price(override=row, **wish, actor=actor_of(request), now=timezone.now())
            except TollgateError as error:
                refused(form, error)
            else:
                done = f"{row.tenant} pays the list price of {row.model} again."
                self.message_user(request, WAITS if isinstance(ended, PriceProposal) else done)
                return HttpResponseRedirect(change_url(row))
        return form_page(
            request, form, title=f"End the price of {row.model} for {row.tenant}", submit="End it",
            back=change_url(row), opts=self.opts,
            intro="Requests accepted from now on are billed at the list price and the tenant's markup. "
            "A price that has not begun is cancelled.",
        )  # fmt: skip


def in_force(tenant: Tenant) -> list[tuple[str, LLMModel, list[str], PriceOverride]]:
    """The tenant's own prices that are in force or scheduled, for its page."""
    rows = overrides.mattering(tenant_id=tenant.pk, now=timezone.now()).select_related("model__provider")
    return [
        (change_url(row), row.model, [price_pages.component_in_words(one) for one in row.components.all()], row)
        for row in rows
    ]
