"""Models: what can be asked for, what it can do, what it costs, and what follows when it goes."""

from datetime import date
from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.enums import ActionVariant

from llm.admin import corrections as correction_pages
from llm.admin import prices as price_pages
from llm.catalog import lifecycle, prices
from llm.models import LLMModel, PriceProposal, PriceVersion
from tenants.admin import dress
from tenants.admin.base import ModelAdmin, action, actor_of, change_url, display, switched, told
from tenants.admin.pages import DayInput, PageForm, bulk_page, form_page
from tenants.errors import TollgateError

ERROR_FIELDS = {name: name for name in ("replacement", "effective_from", "effective_to", "confirm")}


def refused(form: forms.Form, error: TollgateError) -> None:
    """A domain error on the field it is about; what the API calls `confirm: true` is a switch here."""
    field = ERROR_FIELDS.get(error.param or "")
    message = error.message.replace("Send `confirm: true`", "Switch on “confirm” below")
    form.add_error(field if field in form.fields else None, message)


class PricedFilter(admin.SimpleListFilter):
    title = "price"
    parameter_name = "priced"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Priced"), ("no", "Unpriced: refused")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[LLMModel]) -> QuerySet[LLMModel]:
        now = timezone.now()
        in_force = PriceVersion.objects.filter(
            Q(effective_to__isnull=True) | Q(effective_to__gt=now),
            model=OuterRef("pk"),
            status__in=prices.IN_THE_BOOK,
            effective_from__lte=now,
        )
        if self.value() == "yes":
            return queryset.filter(Exists(in_force))
        return queryset.filter(~Exists(in_force)) if self.value() == "no" else queryset


class LLMModelForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """Names default to the provider's own id; a new model may be given its first price at once."""

    input_usd = price_pages.usd_field("USD per million input tokens.", label="Input price", required=False)
    output_usd = price_pages.usd_field("USD per million output tokens.", label="Output price", required=False)
    cached_usd = price_pages.usd_field(
        "USD per million cached input tokens. Empty: as input.", label="Cached input price", required=False
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("name", "display_name"):
            if name in self.fields:
                self.fields[name].required = False

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        values["name"] = values.get("name") or values.get("model_id", "")
        values["display_name"] = values.get("display_name") or values["name"]
        if self.first_price() is not None:
            try:
                prices.check(self.first_price() or [], kind=values.get("kind", "chat"))
            except TollgateError as error:
                raise forms.ValidationError(error.message) from error
        return values

    def first_price(self) -> list[prices.Component] | None:
        given = {name: self.cleaned_data.get(name) for name in ("input_usd", "output_usd", "cached_usd")}
        if all(value is None for value in given.values()):
            return None
        named = [(meter, given[name]) for meter, name in price_pages.PLAIN.items()]
        return [prices.Component(meter.value, value) for meter, value in named if value is not None]


class DeprecateForm(PageForm):
    """What follows a model, and when."""

    replacement = forms.ModelChoiceField(
        queryset=LLMModel.objects.filter(is_active=True).select_related("provider"),
        required=False,
        help_text="Requests for the deprecated model go here. Empty: they are refused once it has stopped.",
    )
    sunset_date = forms.DateField(
        required=False,
        widget=DayInput,
        help_text="Its last day is the day before. Empty: it stops at once and calls follow the replacement.",
    )


@admin.register(LLMModel)
class LLMModelAdmin(ModelAdmin):
    """What clients may name as `model`, and what routing chooses from."""

    form = LLMModelForm
    list_display = ["reference_", "power_level", "input_price", "output_price", "context", "active", "life", "can"]
    list_display_links = ["reference_"]
    list_filter = [
        ("provider", RelatedDropdownFilter),
        ("power_level", ChoicesDropdownFilter),
        ("kind", ChoicesDropdownFilter),
        "is_active",
        "is_deprecated",
        PricedFilter,
        ("min_tier_required", ChoicesDropdownFilter),
        ("quality_tier", ChoicesDropdownFilter),
        ("speed_tier", ChoicesDropdownFilter),
        "supports_vision",
        "supports_function_calling",
    ]
    list_select_related = ["provider", "replacement_model__provider"]
    search_fields = ["model_id", "name", "display_name", "family", "provider__slug"]
    search_help_text = "Model id, name, family or provider."
    ordering = ["provider__slug", "model_id"]
    autocomplete_fields = ["provider"]
    actions = ["activate", "disable", "deprecate_selected", "change_prices_selected"]
    actions_detail = ["change_price", "correct", "deprecate", "restore"]
    inlines = [price_pages.PriceInline]
    readonly_fields = ["life", "number"]
    basic: Any = (
        None,
        {"fields": [("provider", "model_id"), ("name", "display_name"), "description", ("kind", "family")]},
    )
    facts: Any = [
        (
            "What it can do",
            {
                "fields": [
                    ("context_window", "max_output_tokens"),
                    ("supports_streaming", "supports_function_calling"),
                    ("supports_vision", "supports_json_mode", "is_reasoning"),
                    ("speed_tier", "quality_tier", "size_category"),
                    "quirks",
                ]
            },
        ),
        ("Routing", {"fields": [("power_level", "power_level_priority"), ("min_tier_required", "is_active")]}),
    ]
    fieldsets = [basic, *facts, ("Life", {"fields": [("life", "number")]})]
    add_fieldsets = [
        basic,
        (
            "First price",
            {
                "fields": [("input_usd", "output_usd", "cached_usd")],
                "description": "In force at once. Without a price the model is refused, never free.",
            },
        ),
        *facts,
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[LLMModel]:
        found: QuerySet[LLMModel] = super().get_queryset(request)
        return prices.with_prices(found)

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        return list(self.inlines) if obj is not None else []

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Of Deprecate and Restore only the one that changes something."""
        gone = LLMModel.objects.filter(pk=object_id).values_list("is_deprecated", flat=True).first()
        idle = "deprecate" if gone else "restore"
        return [item for item in super().get_actions_detail(request, object_id) if not item.action_name.endswith(idle)]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The list's bulk deletion asks for each row. Elsewhere it would cost each page a look through all usage."""
        allowed = bool(super().has_delete_permission(request, obj))
        match = request.resolver_match
        in_bulk = isinstance(obj, LLMModel) and match is not None and match.url_name == "llm_llmmodel_changelist"
        return allowed and not (in_bulk and obj.was_billed)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """What was billed is switched off, never deleted: said in words."""
        row = LLMModel.objects.filter(pk=object_id).select_related("provider").first()
        if row is not None and self.has_delete_permission(request) and row.was_billed:
            with told(request):
                row.refuse_billed()
            return HttpResponseRedirect(change_url(row))
        found: HttpResponse = super().delete_view(request, object_id, extra_context)
        return found

    def save_model(self, request: HttpRequest, obj: Any, form: "ModelForm[Any]", change: bool) -> None:
        super().save_model(request, obj, form, change)
        components = None if change or not isinstance(form, LLMModelForm) else form.first_price()
        if components is not None:
            price = prices.PriceChange(components=components, reason="its first price", **price_pages.who(request))
            prices.set_price(model=obj, change=price, actor=actor_of(request), now=timezone.now())

    def related_history(self, row: Any) -> Q:
        if row is None:
            return super().related_history(row)
        concerned = Q(pk__in=())
        for kind in (PriceVersion, PriceProposal):
            ids = [str(pk) for pk in kind.objects.filter(model=row).values_list("pk", flat=True)]
            concerned |= Q(object_type=kind._meta.label, object_id__in=ids)
        return concerned

    @display(description="Model", ordering="model_id")
    def reference_(self, obj: LLMModel) -> SafeString:
        return dress.stack(obj.reference, obj.display_name if obj.display_name != obj.model_id else "")

    @display(description="Input per 1M")
    def input_price(self, obj: LLMModel) -> SafeString | str:
        return self.price(obj, "input")

    @display(description="Output per 1M")
    def output_price(self, obj: LLMModel) -> SafeString | str:
        return self.price(obj, "output")

    def price(self, obj: LLMModel, meter: str) -> SafeString | str:
        version = prices.version_at(obj)
        if version is None:
            return dress.badge("unpriced", "bad", "Refused, never free: set a price.")
        return dress.usd(version.base_price(meter))

    @display(description="Context", ordering="context_window")
    def context(self, obj: LLMModel) -> SafeString:
        most = "" if obj.max_output_tokens is None else f"{obj.max_output_tokens:,} out"
        return dress.stack(f"{obj.context_window:,}", most)

    @display(description="Active", boolean=True, ordering="is_active")
    def active(self, obj: LLMModel) -> bool:
        return obj.is_active

    @display(description="Life", ordering="is_deprecated")
    def life(self, obj: LLMModel) -> SafeString:
        if not obj.is_deprecated:
            return dress.badge("current", "good")
        when = f"stops {obj.deprecation_date}" if obj.deprecation_date else "stopped"
        if obj.deprecation_date and obj.deprecation_date <= timezone.now().date():
            when = f"stopped {obj.deprecation_date}"
        if obj.replacement_model is None:
            return dress.stack(dress.badge("deprecated", "warn"), f"{when}, no replacement")
        successor = dress.link(change_url(obj.replacement_model), obj.replacement_model.reference)
        return dress.stack(dress.badge("deprecated", "warn", when), dress.lines([when, successor]))

    @display(description="Can")
    def can(self, obj: LLMModel) -> str:
        words = {"streaming": "stream", "function_calling": "tools", "vision": "vision", "json_mode": "JSON"}
        return ", ".join(words[name] for name, able in obj.capabilities.items() if able) or dress.NONE

    @action(description="Change price", url_path="price", icon="payments", variant=ActionVariant.PRIMARY)
    def change_price(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """A new price version, from a moment on."""
        model: LLMModel = self.one(request, object_id)
        usual, rows = price_pages.initial_of(prices.version_at(model))
        posted = request.POST if request.method == "POST" else None
        form = price_pages.PriceForm(posted, initial=usual)
        more = price_pages.ComponentFormSet(posted, initial=rows, prefix="more")
        if form.is_valid() and more.is_valid():
            change = price_pages.change_of(request, form, more)
            try:
                version = prices.set_price(model=model, change=change, actor=actor_of(request), now=timezone.now())
            except TollgateError as error:
                refused(form, error)
            else:
                waits = " It waits for a second person's approval." if version.status == "proposed" else ""
                self.message_user(request, f"Price v{version.number} of {model} is recorded.{waits}")
                return HttpResponseRedirect(change_url(model))
        return form_page(
            request, form, title=f"Change the price of {model}", submit="Set the price", back=change_url(model),
            intro="The new price holds for requests accepted from its moment on. What has been billed stays as it is.",
            template="llm/admin/price_page.html", more=more, opts=self.opts,
        )  # fmt: skip

    def has_correct_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm(correction_pages.START)

    @action(description="Correct past bills", url_path="correct", icon="history", permissions=["correct"])
    def correct(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Propose adjustments for what was billed at a wrong price."""
        return correction_pages.start_page(request, model=get_object_or_404(self.get_queryset(request), pk=object_id))

    @action(description="Deprecate", url_path="deprecate", icon="event_busy")
    def deprecate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        model: LLMModel = self.one(request, object_id)
        form = DeprecateForm(request.POST if request.method == "POST" else None)
        if form.is_valid() and self.deprecate_all(request, [model], form):
            return HttpResponseRedirect(change_url(model))
        return form_page(
            request, form, title=f"Deprecate {model}", submit="Deprecate", back=change_url(model), opts=self.opts,
            intro="Routing leaves it and follows the replacement, which must pass the same filters.",
        )  # fmt: skip

    @action(description="Restore", url_path="restore", icon="restore")
    def restore(self, request: HttpRequest, object_id: str) -> HttpResponse:
        model: LLMModel = self.one(request, object_id)
        form = PageForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            with told(request):
                lifecycle.restore(model=model, actor=actor_of(request), now=timezone.now())
                self.message_user(request, f"{model} is no longer deprecated.")
            return HttpResponseRedirect(change_url(model))
        return form_page(
            request, form, title=f"Restore {model}", submit="Restore", back=change_url(model), opts=self.opts,
            intro="Takes its deprecation back: it is routed to again, and its replacement is forgotten.",
        )  # fmt: skip

    def deprecate_all(self, request: HttpRequest, models: list[LLMModel], form: DeprecateForm) -> bool:
        """All or none. False: refused, said on the form."""
        replacement: LLMModel | None = form.cleaned_data["replacement"]
        last: date | None = form.cleaned_data["sunset_date"]
        try:
            with transaction.atomic():
                for model in models:
                    lifecycle.deprecate(
                        model=model,
                        replacement=replacement,
                        sunset_date=last,
                        actor=actor_of(request),
                        now=timezone.now(),
                    )
        except TollgateError as error:
            refused(form, error)
            return False
        follows = f"requests follow {replacement}" if replacement else "nothing replaces it"
        names = ", ".join(str(model) for model in models[:5]) + (" and more" if len(models) > 5 else "")
        self.message_user(request, f"{names}: deprecated {f'as of {last}' if last else 'at once'}; {follows}.")
        return True

    @admin.action(description="Activate", permissions=["change"])
    def activate(self, request: HttpRequest, queryset: QuerySet[LLMModel]) -> None:
        self.switch(request, queryset, active=True)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[LLMModel]) -> None:
        self.switch(request, queryset, active=False)

    def switch(self, request: HttpRequest, queryset: QuerySet[LLMModel], *, active: bool) -> None:
        change = lifecycle.activate if active else lifecycle.deactivate
        with transaction.atomic():
            rows = list(queryset.exclude(is_active=active))
            for model in rows:
                change(model=model, actor=actor_of(request), now=timezone.now())
        self.message_user(request, switched(len(rows), active))

    @admin.action(description="Deprecate with a replacement…", permissions=["change"])
    def deprecate_selected(self, request: HttpRequest, queryset: QuerySet[LLMModel]) -> HttpResponse | None:
        form = DeprecateForm(request.POST if "_apply" in request.POST else None)
        if form.is_valid() and self.deprecate_all(request, list(queryset), form):
            return None
        return bulk_page(
            request, form, queryset, title="Deprecate with a replacement", submit="Deprecate",
            intro="Routing leaves these models and follows the replacement.",
        )  # fmt: skip

    @admin.action(description="Change prices by percent…", permissions=["change"])
    def change_prices_selected(self, request: HttpRequest, queryset: QuerySet[LLMModel]) -> HttpResponse | None:
        form = price_pages.PercentForm(request.POST if "_apply" in request.POST else None)
        if form.is_valid():
            try:
                changed, unpriced = price_pages.change_all(request, queryset, form, timezone.now())
            except TollgateError as error:
                refused(form, error)
            else:
                left = f" {unpriced} had no price and still have none." if unpriced else ""
                said = f"{changed} new prices are proposed and wait for a second person, under Price proposals.{left}"
                self.message_user(request, said)
                return None
        return bulk_page(
            request, form, queryset, title="Change prices by percent", submit="Propose the prices",
            intro="Every price of these models changes by the same percentage, all of them or none. What is changed in "
            "bulk waits for a second person's approval, whoever proposes it.",
        )  # fmt: skip
