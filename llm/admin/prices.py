"""Prices in the admin: a model's price history in words, and the forms that set a new one."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from llm.catalog import prices
from llm.choices import Meter, PriceStatus, ServiceTier
from llm.models import LLMModel, OverrideComponent, PriceComponent, PriceVersion
from tenants.admin import dress
from tenants.admin.base import ReadOnlyInline, actor_of, display
from tenants.admin.pages import MomentInput, PageForm

APPROVE = "llm.approve_prices"
# Of a price's status, in words and tone, as it stands now.
STATES = {
    PriceStatus.DRAFT: ("draft", "plain"),
    PriceStatus.PROPOSED: ("proposed", "warn"),
    PriceStatus.APPROVED: ("scheduled", "info"),
    PriceStatus.ACTIVE: ("in force", "good"),
    PriceStatus.SUPERSEDED: ("past", "plain"),
    PriceStatus.CANCELLED: ("cancelled", "bad"),
}
PLAIN = {Meter.INPUT: "input_usd", Meter.OUTPUT: "output_usd", Meter.CACHE_READ: "cached_usd"}
CONFIRM = (
    "Set it although a price goes up or down more than five times, or although another price is scheduled already for "
    "later (which is then cancelled)."
)
MORE_ROWS = 4


def who(request: HttpRequest) -> dict[str, Any]:
    """The person behind a price change: one who may not approve prices needs somebody who may."""
    return {"person_id": request.user.pk, "second_person": not request.user.has_perm(APPROVE)}


def state(version: PriceVersion) -> SafeString:
    """The badge of a price as it stands now."""
    return dress.badge(*STATES[version.status_at(timezone.now())])


def usd_field(help_text: str, **options: Any) -> forms.DecimalField:
    """An amount in USD, not negative."""
    return forms.DecimalField(
        min_value=0,
        max_digits=20,
        decimal_places=10,
        help_text=help_text,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "min": "0"}),
        **options,
    )


def component_in_words(component: PriceComponent | OverrideComponent) -> str:
    """Such as `Input tokens: $3.00 per 1M above 200,000 prompt tokens`."""
    quantity = "1M" if component.unit_quantity == 1_000_000 else f"{component.unit_quantity:,}"
    tier = f" above {component.above_tokens:,} prompt tokens" if component.above_tokens else ""
    if isinstance(component, PriceComponent) and component.service_tier != ServiceTier.STANDARD:
        tier += f" ({component.get_service_tier_display().lower()})"
    return f"{component.get_meter_display()}: {dress.usd(component.unit_price_usd)} per {quantity}{tier}"


class PriceInline(ReadOnlyInline):
    """Every price the model has had and will have. Prices are never edited: a change makes a new version."""

    model = PriceVersion
    verbose_name_plural = "Price history"
    fields = ["called", "state", "components_in_words", "begins", "ends", "reason", "who"]
    readonly_fields = fields
    ordering = ["-effective_from", "-number"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[PriceVersion]:
        found: QuerySet[PriceVersion] = super().get_queryset(request).prefetch_related("components")
        return found

    @display(description="Version")
    def called(self, obj: PriceVersion) -> str:
        return f"v{obj.number}"

    @display(description="State")
    def state(self, obj: PriceVersion) -> SafeString:
        return state(obj)

    @display(description="Price")
    def components_in_words(self, obj: PriceVersion) -> SafeString:
        return dress.lines(component_in_words(component) for component in obj.components.all())

    @display(description="From (UTC)")
    def begins(self, obj: PriceVersion) -> str:
        return dress.moment(obj.effective_from)

    @display(description="Until")
    def ends(self, obj: PriceVersion) -> str:
        return dress.moment(obj.effective_to)

    @display(description="Entered by")
    def who(self, obj: PriceVersion) -> SafeString:
        return dress.stack(obj.author, f"{obj.source}, {dress.ago(obj.recorded_at, timezone.now())}")


class PriceForm(PageForm):
    """A new price of one model: the three usual figures, and rows for anything else."""

    input_usd = usd_field("USD per million input tokens.", label="Input")
    output_usd = usd_field("USD per million output tokens. Embedding models have none.", label="Output", required=False)
    cached_usd = usd_field(
        "USD per million cached input tokens. Empty: they cost as much as input.", label="Cached input", required=False
    )
    effective_from = forms.DateTimeField(
        required=False, widget=MomentInput, help_text="In force from this moment on, in UTC. Empty: now."
    )
    reason = forms.CharField(max_length=500, help_text="Why it changes. Kept in the price history and the audit log.")
    confirm = forms.BooleanField(required=False, help_text=CONFIRM)
    draft = forms.BooleanField(
        required=False, help_text="Only keep it. Drafts are finished or thrown away in the price book."
    )


class ComponentForm(PageForm):
    """One more row: another meter, or a price that holds above a number of prompt tokens."""

    meter = forms.ChoiceField(choices=[("", "–"), *Meter.choices], required=False)
    usd_per_1m = usd_field("USD per million.", required=False, label="Price")
    above_tokens = forms.IntegerField(
        required=False, min_value=0, help_text="Strictly above this many prompt tokens. Empty or 0: always."
    )
    service_tier = forms.ChoiceField(
        choices=ServiceTier.choices, required=False, initial=ServiceTier.STANDARD,
        help_text="Flex and priority are served to requests that ask for them. Flex and batch cost as much as standard "
        "in what they leave out; priority must have a price for all that standard has. Batch is kept and shown.",
    )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if bool(values.get("meter")) != (values.get("usd_per_1m") is not None):
            raise forms.ValidationError("A row needs both a meter and a price, or neither.")
        return values


ComponentFormSet = forms.formset_factory(ComponentForm, extra=MORE_ROWS)


def initial_of(version: PriceVersion | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The price in force as the form's starting values: the usual three, and the other rows."""
    usual: dict[str, Any] = {}
    more: list[dict[str, Any]] = []
    for component in [] if version is None else prices.components_of(version):
        name = PLAIN.get(Meter(component.meter))
        amount = f"{component.usd_per_1m.normalize():f}"
        if name and component.key == (component.meter, 0, ServiceTier.STANDARD):
            usual[name] = amount
        else:
            tiers = {"above_tokens": component.above_tokens or None, "service_tier": component.service_tier}
            more.append({"meter": component.meter, "usd_per_1m": amount, **tiers})
    return usual, more


def components(form: PageForm, more: Any) -> Iterator[prices.Component]:
    values = form.cleaned_data
    yield from prices.flat(
        input_usd=values["input_usd"], output_usd=values.get("output_usd"), cached_usd=values.get("cached_usd")
    )
    for row in more.cleaned_data:
        if row.get("meter"):
            tier = row.get("service_tier") or ServiceTier.STANDARD.value
            yield prices.Component(row["meter"], row["usd_per_1m"], row.get("above_tokens") or 0, tier)


def change_of(request: HttpRequest, form: PriceForm, more: Any) -> prices.PriceChange:
    """What the forms ask for, and by whom."""
    values = form.cleaned_data
    return prices.PriceChange(
        components=list(components(form, more)),
        effective_from=values["effective_from"],
        reason=values["reason"],
        confirm=values["confirm"],
        draft=values["draft"],
        **who(request),
    )


class PercentForm(PageForm):
    """Every price of the chosen models, up or down by a percentage."""

    percent = forms.DecimalField(
        max_digits=7,
        decimal_places=3,
        min_value=-100,
        help_text="10 makes them ten percent dearer, -10 ten percent cheaper.",
    )
    effective_from = forms.DateTimeField(
        required=False, widget=MomentInput, help_text="From this moment on, in UTC. Empty: now."
    )
    reason = forms.CharField(max_length=500, help_text="Kept in the price history and the audit log.")
    confirm = forms.BooleanField(required=False, help_text=CONFIRM)


def scaled(version: PriceVersion, percent: Decimal) -> list[prices.Component]:
    """The components of a version, each `percent` dearer, exact to 1e-10 USD."""
    factor = 1 + percent / 100
    return [replace(one, usd_per_1m=prices.stored(one.usd_per_1m * factor)) for one in prices.components_of(version)]


def change_all(request: HttpRequest, models: QuerySet[LLMModel], form: PercentForm, now: datetime) -> tuple[int, int]:
    """Propose it for all or none: (models, models without a price). What is done in bulk waits for a second person,
    whoever does it.

    `models` came through `prices.with_prices`. Raises what `prices.set_price` raises.
    """
    values = form.cleaned_data
    changed = unpriced = 0
    batch = uuid.uuid4()
    with transaction.atomic():
        for model in models:
            version = prices.version_at(model, values["effective_from"] or now)
            if version is None:
                unpriced += 1
                continue
            change = prices.PriceChange(
                components=scaled(version, values["percent"]),
                effective_from=values["effective_from"],
                reason=values["reason"],
                confirm=values["confirm"],
                second_person=True,
                person_id=request.user.pk,
                batch=batch,
            )
            prices.set_price(model=model, change=change, actor=actor_of(request), now=now)
            changed += 1
    return changed, unpriced
