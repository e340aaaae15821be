"""The price book: every price of every model through time. To read; what has not begun can be taken back."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateTimeFilter, RelatedDropdownFilter

from llm.admin import corrections
from llm.admin.models import refused
from llm.admin.prices import APPROVE, CONFIRM, component_in_words, state
from llm.catalog import price_book, proposals
from llm.models import PriceVersion
from tenants.admin import dress
from tenants.admin.base import ReadOnlyAdmin, action, actor_of, change_url, display, reason_of
from tenants.admin.pages import ConfirmForm, bulk_page
from tenants.errors import TollgateError


class FinishForm(ConfirmForm):
    """Are you sure, why, and is an unusual change meant."""

    confirm = forms.BooleanField(required=False, help_text=CONFIRM)


class MomentFilter(admin.SimpleListFilter):
    """Where a price stands now, whatever status is stored."""

    title = "now"
    parameter_name = "now"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("force", "In force"), ("scheduled", "Scheduled"), ("past", "Past")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[PriceVersion]) -> QuerySet[PriceVersion]:
        now = timezone.now()
        decided = Q(status__in=("approved", "active", "superseded"))
        begun, over = Q(effective_from__lte=now), Q(effective_to__lte=now)
        where = {"force": begun & ~over, "scheduled": ~begun, "past": over}.get(self.value() or "")
        return queryset if where is None else queryset.filter(decided & where)


@admin.register(PriceVersion)
class PriceVersionAdmin(ReadOnlyAdmin):
    """Append-only: a price that was approved is ended by the next one, never edited."""

    list_display = ["model_", "state_now", "says", "begins", "ends", "entered", "confirmed"]
    list_display_links = ["model_"]
    list_filter = [
        MomentFilter,
        ("status", ChoicesDropdownFilter),
        ("source", ChoicesDropdownFilter),
        ("model__provider", RelatedDropdownFilter),
        ("effective_from", RangeDateTimeFilter),
    ]
    list_select_related = ["model__provider"]
    search_fields = ["model__model_id", "model__name", "model__provider__slug", "author", "reason"]
    search_help_text = "Model, provider, author or a word of the reason."
    ordering = ["-recorded_at", "-number"]
    actions = ["cancel_selected", "propose_selected"]
    actions_detail = ["correct"]
    fields = [("model_", "state_now"), "says", ("begins", "ends"), "reason", ("entered", "confirmed")]
    readonly_fields = ["model_", "state_now", "says", "begins", "ends", "entered", "confirmed"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[PriceVersion]:
        found: QuerySet[PriceVersion] = super().get_queryset(request).prefetch_related("components")
        return found

    def has_set_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("llm.add_priceversion")

    def has_correct_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm(corrections.START)

    @action(description="Correct what it billed", url_path="correct", icon="history", permissions=["correct"])
    def correct(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Propose adjustments for what was billed with this price, which was wrong."""
        row = get_object_or_404(self.get_queryset(request).select_related("model__provider"), pk=object_id)
        return corrections.start_page(request, model=row.model, version=row)

    @display(description="Model", ordering="model__model_id")
    def model_(self, obj: PriceVersion) -> SafeString:
        return dress.stack(obj.model.reference, f"v{obj.number}")

    @display(description="State")
    def state_now(self, obj: PriceVersion) -> SafeString:
        return state(obj)

    @display(description="Price")
    def says(self, obj: PriceVersion) -> SafeString:
        return dress.lines(component_in_words(one) for one in obj.components.all())

    @display(description="From (UTC)", ordering="effective_from")
    def begins(self, obj: PriceVersion) -> str:
        return dress.moment(obj.effective_from)

    @display(description="Until", ordering="effective_to")
    def ends(self, obj: PriceVersion) -> str:
        return dress.moment(obj.effective_to)

    @display(description="Entered (UTC)", ordering="recorded_at")
    def entered(self, obj: PriceVersion) -> SafeString:
        return dress.stack(dress.moment(obj.recorded_at), f"{obj.author} ({obj.source})")

    @display(description="Confirmed", ordering="confirmed_at")
    def confirmed(self, obj: PriceVersion) -> str:
        return dress.ago(obj.confirmed_at, timezone.now())

    @admin.action(description="Cancel: it never comes…", permissions=["set"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[PriceVersion]) -> HttpResponse | None:
        def cancel(row: PriceVersion) -> None:
            price_book.cancel(
                version_id=row.pk,
                may_approve=request.user.has_perm(APPROVE),
                reason=reason_of(request),
                actor=actor_of(request),
                now=timezone.now(),
            )

        intro = (
            "Scheduled prices that have not begun, and drafts. The price before a scheduled one goes on, so one person "
            "is enough; it is decided, so it takes the right to approve prices."
        )
        return self.each(request, queryset, cancel, verb="Cancel these prices", intro=intro, done="cancelled")

    @admin.action(description="Finish drafts…", permissions=["set"])
    def propose_selected(self, request: HttpRequest, queryset: QuerySet[PriceVersion]) -> HttpResponse | None:
        # Several at once are a bulk change, which one person does not decide alone.
        alone = request.user.has_perm(APPROVE) and settings.PRICE_FOUR_EYES != "all" and queryset.count() == 1

        def propose(row: PriceVersion) -> None:
            proposals.propose_draft(
                version_id=row.pk,
                person_id=request.user.pk,
                second_person=not alone,
                confirm=bool(request.POST.get("confirm")),
                actor=actor_of(request),
                now=timezone.now(),
            )

        intro = "It is in force from its moment on." if alone else "They wait for a second person's approval."
        words = {"verb": "Finish these drafts", "intro": intro, "done": "finished"}
        return self.each(request, queryset, propose, form=FinishForm if alone else ConfirmForm, **words)

    def each(
        self, request: HttpRequest, queryset: QuerySet[PriceVersion], change: Callable[[PriceVersion], None],
        form: type[ConfirmForm] = ConfirmForm, **words: str,
    ) -> HttpResponse | None:  # fmt: skip
        """One after another, each in its own transaction; the first that is refused ends it, said in words."""
        rows = list(queryset.select_related("model__provider").order_by("model_id", "pk"))
        filled = form(request.POST if "_apply" in request.POST else None)
        done = 0
        if filled.is_valid():
            try:
                for row in rows:
                    change(row)
                    done += 1
            except TollgateError as error:
                refused(filled, error)
                if done:
                    messages.error(request, error.message)
        if not done:
            return bulk_page(request, filled, queryset, title=words["verb"], submit=words["verb"], intro=words["intro"])
        self.message_user(request, f"{done} {words['done']}.")
        return None

    def url_of(self, row: Any) -> str:
        return change_url(row)
