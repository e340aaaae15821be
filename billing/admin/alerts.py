"""The log of alerts: what happened, who was told, and what did not arrive. To read only."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateTimeFilter

from billing.admin.usage import TenantFilter
from billing.alert_models import LASTING_EVENTS, Alert, AlertDelivery
from tenants.admin import dress
from tenants.admin.base import ReadOnlyAdmin, ReadOnlyInline, display

_TONES = {"provider.up": "good", "budget.threshold": "warn", "budget.forecast": "warn"}
_STATES = {"pending": "info", "delivered": "good", "given_up": "bad"}


def delivery_state(delivery: AlertDelivery) -> SafeString:
    """The badge of a delivery, with why its last attempt failed below it."""
    return dress.stack(
        dress.badge(delivery.get_status_display().lower(), _STATES[delivery.status]), delivery.last_error
    )


class DeliveryInline(ReadOnlyInline):
    """Whom it went to, and what came back."""

    model = AlertDelivery
    verbose_name_plural = "Deliveries"
    fields = ["whom", "state", "attempts", "answer", "next_try", "delivered"]
    readonly_fields = fields
    ordering = ["pk"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AlertDelivery]:
        found: QuerySet[AlertDelivery] = super().get_queryset(request).select_related("subscription__tenant")
        return found

    @display(description="To")
    def whom(self, obj: AlertDelivery) -> SafeString:
        return dress.stack(obj.subscription.target, obj.subscription.tenant or "the platform's")

    @display(description="State")
    def state(self, obj: AlertDelivery) -> SafeString:
        return delivery_state(obj)

    @display(description="HTTP status")
    def answer(self, obj: AlertDelivery) -> str:
        return dress.NONE if obj.response_status is None else str(obj.response_status)

    @display(description="Next try")
    def next_try(self, obj: AlertDelivery) -> str:
        return dress.ago(obj.next_try_at, timezone.now(), none=dress.NONE)

    @display(description="Delivered (UTC)")
    def delivered(self, obj: AlertDelivery) -> str:
        return dress.moment(obj.delivered_at)


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """Everything that was worth an alert, told to somebody or not."""

    list_display = ["when", "what", "title", "whose", "lasts", "told"]
    list_display_links = ["when"]
    list_filter = [
        ("event", ChoicesDropdownFilter),
        ("deliveries__status", ChoicesDropdownFilter),
        TenantFilter,
        ("created_at", RangeDateTimeFilter),
    ]
    list_select_related = ["tenant"]
    search_fields = ["title"]
    ordering = ["-id"]
    actions = None
    inlines = [DeliveryInline]
    fields = ["title", ("when", "what", "whose", "lasts"), "particulars"]
    readonly_fields = ["when", "what", "whose", "lasts", "particulars"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alert]:
        found: QuerySet[Alert] = super().get_queryset(request)
        return found.prefetch_related("deliveries")

    @display(description="When (UTC)", ordering="id")
    def when(self, obj: Alert) -> str:
        return dress.moment(obj.created_at)

    @display(description="Event")
    def what(self, obj: Alert) -> SafeString:
        return dress.badge(obj.event, _TONES.get(obj.event, "bad"))

    @display(description="Whose", ordering="tenant__slug")
    def whose(self, obj: Alert) -> SafeString | str:
        return dress.badge("platform", "info") if obj.tenant is None else obj.tenant.slug

    @display(description="Lasts")
    def lasts(self, obj: Alert) -> SafeString | str:
        if obj.event not in LASTING_EVENTS:
            return dress.NONE
        if obj.ended_at is None:
            return dress.badge("still", "bad")
        return dress.span(int((obj.ended_at - obj.created_at).total_seconds()))

    @display(description="Told")
    def told(self, obj: Alert) -> SafeString | str:
        states = [delivery.status for delivery in obj.deliveries.all()]
        if not states:
            return dress.muted("nobody subscribed")
        labels = dict(AlertDelivery.Status.choices)
        return dress.lines(
            dress.badge(f"{states.count(state)} {labels[state].lower()}", tone)
            for state, tone in _STATES.items()
            if state in states
        )

    @display(description="Particulars")
    def particulars(self, obj: Alert) -> SafeString:
        return dress.pairs(obj.data)
