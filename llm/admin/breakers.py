"""Breakers: what is left alone for now, why and until when. To read, and to reset."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from llm import breakers
from llm.choices import BreakerState
from llm.models import LLMBreaker
from tenants.admin import dress
from tenants.admin.base import ReadOnlyAdmin, actor_of, display, told

TONES = {BreakerState.CLOSED: "good", BreakerState.OPEN: "bad", BreakerState.HALF_OPEN: "warn"}


def state(row: LLMBreaker) -> SafeString:
    """The badge as of now."""
    now_is = row.state_at(timezone.now())
    return dress.badge(now_is.label, TONES[now_is], "The next request tries." if now_is == "half_open" else "")


@admin.register(LLMBreaker)
class LLMBreakerAdmin(ReadOnlyAdmin):
    """A closed one stays a week, to be read. All of it needs what the provider's own page needs."""

    list_display = ["what", "kind", "state_now", "until_when", "reason", "changed"]
    list_display_links = ["what"]
    list_filter = [("kind", ChoicesDropdownFilter), ("state", ChoicesDropdownFilter)]
    search_fields = ["what", "reason"]
    search_help_text = "A provider, a model, or a word of the reason."
    ordering = ["-updated_at"]
    actions = ["reset"]
    fields = [("what", "kind"), ("state_now", "until_when"), "reason", ("failures", "openings"), ("opened", "changed")]
    readonly_fields = ["state_now", "until_when", "opened", "changed"]

    def has_view_permission(self, request: HttpRequest, obj: LLMBreaker | None = None) -> bool:
        return request.user.has_perm("llm.view_llmprovider")

    def has_reset_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("llm.change_llmprovider")

    @admin.action(description="Reset: close now", permissions=["reset"])
    def reset(self, request: HttpRequest, queryset: QuerySet[LLMBreaker]) -> None:
        with told(request):
            for row in queryset:
                breakers.reset(row=row, actor=actor_of(request), now=timezone.now())
            self.message_user(request, f"{len(queryset)} reset. Every process follows within a second.")

    @display(description="State")
    def state_now(self, obj: LLMBreaker) -> SafeString:
        return state(obj)

    @display(description="Until (UTC)", ordering="until")
    def until_when(self, obj: LLMBreaker) -> str:
        return dress.NONE if obj.state == BreakerState.CLOSED else dress.moment(obj.until)

    @display(description="Opened (UTC)", ordering="opened_at")
    def opened(self, obj: LLMBreaker) -> str:
        return dress.moment(obj.opened_at)

    @display(description="Changed (UTC)", ordering="updated_at")
    def changed(self, obj: LLMBreaker) -> str:
        return dress.moment(obj.updated_at)
