"""Who is told of alerts. Here rather than with billing's pages because a test is sent over HTTP."""

import re
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from billing import subscriptions
from billing.admin.usage import TenantFilter
from billing.alert_models import THRESHOLDS, AlertSubscription, Event
from llm import alerts
from tenants.admin import dress
from tenants.admin.base import ModelAdmin, action, actor_of, change_url, display, reason_of, told
from tenants.admin.pages import ConfirmForm, PageForm, form_page


class PercentsField(forms.Field):
    """Percentages with commas between them."""

    widget = UnfoldAdminTextInputWidget

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(str(percent) for percent in value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[int]:
        if isinstance(value, list):
            return value
        parts = [part for part in re.split(r"[\s,]+", value or "") if part]
        if not all(re.fullmatch(r"[0-9]{1,3}", part) for part in parts):
            raise ValidationError("Whole percentages with commas between them, such as 50, 80, 100.")
        return sorted({int(part) for part in parts})


class SubscriptionForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """Events to tick, thresholds to type."""

    events = forms.MultipleChoiceField(
        choices=Event.choices,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="What they are told of. A tenant can be told of its budgets and own keys only.",
    )
    thresholds = PercentsField(
        initial=list(THRESHOLDS), help_text="At which percentages of a budget they are told, such as 50, 80, 100."
    )

    class Meta:
        model = AlertSubscription
        fields = ["tenant", "kind", "target", "events", "thresholds", "is_active"]


def shown_once(request: HttpRequest, subscription: AlertSubscription, secret: str) -> HttpResponse:
    """The only page a webhook's secret is ever on. It is the answer to a POST and is not to be stored."""
    context = {
        **admin.site.each_context(request),
        "title": "The webhook's secret",
        "subscription": subscription,
        "secret": secret,
        "back": change_url(subscription),
    }
    response = TemplateResponse(request, "llm/admin/secret_once.html", context)
    response["Cache-Control"] = "no-store"
    return response


@admin.register(AlertSubscription)
class AlertSubscriptionAdmin(ModelAdmin):
    """E-mail addresses and webhooks, of the platform and of tenants, and what each is told of."""

    form = SubscriptionForm
    list_display = ["target", "kind", "whose", "events_told", "state", "created_by"]
    list_filter = [("kind", ChoicesDropdownFilter), "is_active", TenantFilter, ("tenant", admin.EmptyFieldListFilter)]
    list_select_related = ["tenant"]
    search_fields = ["target", "tenant__slug"]
    autocomplete_fields = ["tenant"]
    actions_detail = ["send_test", "rotate_secret"]
    fields = [("tenant", "kind"), "target", "events", "thresholds", "is_active"]

    def get_readonly_fields(self, request: HttpRequest, obj: AlertSubscription | None = None) -> list[str]:
        return [] if obj is None else ["tenant", "kind"]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        with told(request):
            answer: HttpResponse = super().add_view(request, form_url, extra_context)
            return answer
        return HttpResponseRedirect(reverse("admin:billing_alertsubscription_changelist"))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        # Kept with the row in memory for the one page that shows it: response_add's.
        _, obj.shown_secret = subscriptions.create(
            subscription=obj, actor=actor_of(request), now=timezone.now(), reason=reason_of(request)
        )

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        if obj.shown_secret:
            return shown_once(request, obj, obj.shown_secret)
        answer: HttpResponse = super().response_add(request, obj, post_url_continue)
        return answer

    @display(description="Whose", ordering="tenant__slug")
    def whose(self, obj: AlertSubscription) -> SafeString | str:
        return dress.badge("platform", "info") if obj.tenant is None else obj.tenant.slug

    @display(description="Told of")
    def events_told(self, obj: AlertSubscription) -> SafeString:
        percents = ", ".join(f"{percent} %" for percent in obj.thresholds)
        return dress.stack(", ".join(obj.events), percents if Event.BUDGET_THRESHOLD in obj.events else "")

    @display(description="State")
    def state(self, obj: AlertSubscription) -> SafeString:
        return dress.badge("on", "good") if obj.is_active else dress.badge("off", "plain")

    @action(description="Send a test", url_path="test", icon="send")
    def send_test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        subscription: AlertSubscription = self.one(request, object_id)
        if request.method == "POST":
            outcome = alerts.send_test(subscription=subscription, now=timezone.now())
            level = messages.WARNING if outcome.error else messages.SUCCESS
            self.message_user(request, outcome.error or "The test arrived.", level)
            return HttpResponseRedirect(change_url(subscription))
        return form_page(
            request, PageForm(), title=f"Send a test: {subscription}", submit="Send it", opts=self.opts,
            back=change_url(subscription), intro="An event of type “test” is sent now, once; it is kept nowhere.",
        )  # fmt: skip

    @action(description="Rotate secret", url_path="rotate-secret", icon="autorenew")
    def rotate_secret(self, request: HttpRequest, object_id: str) -> HttpResponse:
        subscription: AlertSubscription = self.one(request, object_id)
        form = ConfirmForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            with told(request):
                secret = subscriptions.rotate_secret(
                    subscription=subscription, actor=actor_of(request), now=timezone.now(), reason=reason_of(request)
                )
                return shown_once(request, subscription, secret)
            return HttpResponseRedirect(change_url(subscription))
        return form_page(
            request, form, title=f"Rotate the secret: {subscription}", submit="Rotate", opts=self.opts,
            back=change_url(subscription),
            intro="Makes a new secret, shown once on the next page. The old one signs nothing from now on.",
        )  # fmt: skip
