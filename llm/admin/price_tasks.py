"""The price queue, each row with an owner: models used but unpriced, prices nobody confirmed. And the price policy."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from llm.admin.prices import APPROVE
from llm.catalog import price_tasks
from llm.models import PricePolicy, PriceTask
from tenants.admin import dress
from tenants.admin.base import ModelAdmin, actor_of, audited, change_url, display, told

_KINDS = {"unpriced": "bad", "stale": "warn"}
_STATES = {"open": "warn", "in_progress": "info", "ignored": "plain", "done": "good"}


class OwnerFilter(admin.SimpleListFilter):
    title = "owner"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("me", "Mine"), ("nobody", "Nobody's")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[PriceTask]) -> QuerySet[PriceTask]:
        if self.value() == "me":
            return queryset.filter(assignee_id=request.user.pk)
        return queryset.filter(assignee__isnull=True) if self.value() == "nobody" else queryset


class TodoFilter(admin.SimpleListFilter):
    """What is left to do is shown unless something else is asked for."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("ignored", "Ignored"), ("done", "Done"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        shown = iter(super().choices(changelist))
        next(shown)
        yield {"selected": self.value() is None, "query_string": changelist.get_query_string(remove=["state"]),
               "display": "To do"}  # fmt: skip
        yield from shown

    def queryset(self, request: HttpRequest, queryset: QuerySet[PriceTask]) -> QuerySet[PriceTask]:
        if self.value() in {"ignored", "done"}:
            return queryset.filter(state=self.value())
        return queryset if self.value() == "all" else queryset.filter(state__in=("open", "in_progress"))


class NamesPeople(ModelAdmin):
    """People are chosen here; they are made and changed on their own pages."""

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name in {"assignee", "task_owner"} and field is not None:
            for name in ("add", "change", "delete", "view"):
                setattr(field.widget, f"can_{name}_related", False)
        return field


@admin.register(PriceTask)
class PriceTaskAdmin(NamesPeople):
    """Made and closed by a job every five minutes: a model that is priced, or confirmed, leaves the queue."""

    list_display = ["model_", "kind_", "requests", "opened", "owner", "state_", "note", "its_prices"]
    list_display_links = ["model_"]
    list_filter = [TodoFilter, ("kind", ChoicesDropdownFilter), OwnerFilter]
    list_select_related = ["model__provider", "assignee"]
    search_fields = ["model__model_id", "model__name", "model__provider__slug", "note"]
    search_help_text = "Model, provider or a word of the note."
    ordering = ["-requests", "opened_at"]
    actions = ["take", "confirm"]
    fields = [("model_", "kind_", "its_prices"), ("requests", "opened", "seen"), ("assignee", "state"), "note"]
    readonly_fields = ["model_", "kind_", "its_prices", "requests", "opened", "seen"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_confirm_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(APPROVE)

    @display(description="Model", ordering="model__model_id")
    def model_(self, obj: PriceTask) -> str:
        return obj.model.reference

    @display(description="Prices")
    def its_prices(self, obj: PriceTask) -> SafeString:
        return dress.link(change_url(obj.model), "look")

    @display(description="What is the matter", ordering="kind")
    def kind_(self, obj: PriceTask) -> SafeString:
        return dress.badge(obj.get_kind_display().lower(), _KINDS[obj.kind])

    @display(description="Since (UTC)", ordering="opened_at")
    def opened(self, obj: PriceTask) -> str:
        return dress.moment(obj.opened_at)

    @display(description="Last found so (UTC)")
    def seen(self, obj: PriceTask) -> str:
        return dress.moment(obj.seen_at)

    @display(description="Owner", ordering="assignee__username")
    def owner(self, obj: PriceTask) -> str:
        return obj.assignee.get_username() if obj.assignee else "nobody"

    @display(description="State", ordering="state")
    def state_(self, obj: PriceTask) -> SafeString:
        return dress.badge(obj.get_state_display().lower(), _STATES[obj.state])

    @admin.action(description="Assign to me", permissions=["change"])
    def take(self, request: HttpRequest, queryset: QuerySet[PriceTask]) -> None:
        for row in queryset.select_related("model__provider"):
            with audited(request, row, "assign"):
                PriceTask.objects.filter(pk=row.pk).update(assignee_id=request.user.pk, state="in_progress")
        self.message_user(request, f"{len(queryset)} yours.")

    @admin.action(description="The price is still right", permissions=["confirm"])
    def confirm(self, request: HttpRequest, queryset: QuerySet[PriceTask]) -> None:
        person, now, done = request.user.get_username(), timezone.now(), 0
        with told(request):
            for row in queryset:
                price_tasks.confirm(task=row, person=person, actor=actor_of(request), now=now)
                done += 1
        if done:
            self.message_user(request, f"{done} confirmed.")


@admin.register(PricePolicy)
class PricePolicyAdmin(NamesPeople):
    """One row. Changing it needs the right to approve prices: it decides which need nobody."""

    fields = [("auto_approve_up_percent", "auto_approve_down_percent"), ("stale_after_days", "task_owner")]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(APPROVE) and bool(super().has_change_permission(request, obj))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Straight to the one row."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        row, _ = PricePolicy.objects.get_or_create(pk=1)
        return HttpResponseRedirect(change_url(row))
