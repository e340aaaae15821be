"""The price review queue: what is proposed, what it changes and would have cost; approve or reject, one or many."""

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeNumericFilter, RelatedDropdownFilter
from unfold.enums import ActionVariant

from llm.admin.models import refused
from llm.admin.prices import APPROVE, component_in_words
from llm.catalog import proposals
from llm.catalog.components import from_json
from llm.models import OverrideComponent, PriceProposal, PriceVersion
from tenants.admin import dress
from tenants.admin.base import ReadOnlyAdmin, action, actor_of, change_url, display
from tenants.admin.pages import MomentInput, PageForm, bulk_page, form_page
from tenants.errors import TollgateError

_TONES = {"pending": "warn", "approved": "good", "rejected": "bad", "superseded": "plain"}
_SHOWN = 3
_MANY_PERCENT = 20
_TENANTS = 200


class RejectForm(PageForm):
    """Why these prices are not wanted."""

    reason = forms.CharField(max_length=1000, help_text="Kept with the proposal and in the audit log.")


class ApproveForm(RejectForm):
    """Why, and from when."""

    effective_from = forms.DateTimeField(
        required=False,
        widget=MomentInput,
        help_text="In force from this moment on, in UTC. Empty: from the proposed moment, or now if that is past.",
    )
    confirm = forms.BooleanField(
        required=False,
        help_text="Approve although a price goes up or down more than five times, another is scheduled (which is then "
        "cancelled), or the price has changed since this was proposed.",
    )


class StateFilter(admin.SimpleListFilter):
    """What waits for somebody is shown unless another state is asked for."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("approved", "Approved"), ("rejected", "Rejected"), ("superseded", "Superseded"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        shown = iter(super().choices(changelist))
        next(shown)
        pending = changelist.get_query_string(remove=["state"])
        yield {"selected": self.value() is None, "query_string": pending, "display": "Pending"}
        yield from shown

    def queryset(self, request: HttpRequest, queryset: QuerySet[PriceProposal]) -> QuerySet[PriceProposal]:
        chosen = self.value()
        return queryset if chosen == "all" else queryset.filter(state=chosen or "pending")


@admin.register(PriceProposal)
class PriceProposalAdmin(ReadOnlyAdmin):
    """Proposed prices have no effect. A second person decides: who proposed one cannot."""

    list_display = ["model_", "what_changes", "percent", "re_costed", "origin", "created", "state_"]
    list_display_links = ["model_"]
    list_filter = [
        StateFilter,
        ("source", ChoicesDropdownFilter),
        "is_informational",
        ("tenant", RelatedDropdownFilter),
        ("largest_percent", RangeNumericFilter),
    ]
    list_select_related = ["model__provider", "version", "base", "tenant"]
    search_fields = ["model__model_id", "model__name", "model__provider__slug", "proposer", "batch", "tenant__slug"]
    search_help_text = "Model, provider, tenant or proposer."
    ordering = ["-id"]
    actions = ["approve_selected", "reject_selected"]
    actions_detail = ["approve_one", "reject_one"]
    fields = [
        ("model_", "state_"), ("origin", "created"), ("wished", "percent"), "price_table", "proposed_price",
        ("re_costed", "re_costed_span"), "by_tenant", "why", "note", ("decision",),
    ]  # fmt: skip
    readonly_fields = [
        "model_", "state_", "origin", "created", "wished", "percent", "price_table", "proposed_price", "re_costed",
        "re_costed_span", "by_tenant", "why", "decision",
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[PriceProposal]:
        """Of the list without the traffic by tenant, which may be long."""
        found: QuerySet[PriceProposal] = super().get_queryset(request)
        match = request.resolver_match
        if match is not None and match.url_name == "llm_priceproposal_changelist":
            return found.defer("impact")
        return found.prefetch_related("version__components")

    def has_approve_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm(APPROVE)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        waiting = PriceProposal.objects.filter(pk=object_id, state="pending").values_list("is_informational", flat=True)
        informational = waiting.first()
        if informational is None or not request.user.has_perm(APPROVE):
            return []
        found: list[Any] = super().get_actions_detail(request, object_id)
        return [item for item in found if not (informational and item.action_name.endswith("approve_one"))]

    def related_history(self, row: Any) -> Q:
        """The proposed price's own events too."""
        if row is None:
            return super().related_history(row)
        return Q(object_type=PriceVersion._meta.label, object_id=str(row.version_id))

    @display(description="Model", ordering="model__model_id")
    def model_(self, obj: PriceProposal) -> SafeString:
        return dress.stack(obj.model.reference, obj.called)

    @display(description="State", ordering="state")
    def state_(self, obj: PriceProposal) -> SafeString:
        if obj.is_informational and obj.state == "pending":
            return dress.stack(dress.badge("information", "info"), "staff set this price")
        return dress.stack(dress.badge(obj.get_state_display().lower(), _TONES[obj.state]), obj.decider)

    @display(description="Change, USD per 1M")
    def what_changes(self, obj: PriceProposal) -> SafeString:
        rows = [f"{one['name']} {_usd(one['old'])} → {_usd(one['new'])}" for one in obj.changes[:_SHOWN]]
        more = len(obj.changes) - _SHOWN
        return dress.lines([*rows, *([f"and {more} more"] if more > 0 else [])])

    @display(description="Percent", ordering="largest_percent")
    def percent(self, obj: PriceProposal) -> SafeString:
        return percent_badge(obj.largest_percent)

    @display(description="30 days re-costed", ordering="impact_usd")
    def re_costed(self, obj: PriceProposal) -> SafeString | str:
        if obj.impact_usd is None:
            return dress.muted("being worked out") if obj.version else dress.NONE
        sign = "+" if obj.impact_usd > 0 else ""
        return f"{sign}{dress.usd_round(obj.impact_usd)}"

    @display(description="From", ordering="source")
    def origin(self, obj: PriceProposal) -> SafeString:
        return dress.stack(obj.source_version or obj.proposer, obj.source if not obj.source_version else obj.proposer)

    @display(description="Proposed (UTC)", ordering="created_at")
    def created(self, obj: PriceProposal) -> str:
        return dress.moment(obj.created_at)

    @display(description="Wished from (UTC)")
    def wished(self, obj: PriceProposal) -> str:
        return dress.moment(obj.version.effective_from if obj.version else moment_of(obj, "effective_from"))

    @display(description="Changes")
    def price_table(self, obj: PriceProposal) -> SafeString:
        rows = [
            (one["name"], _usd(one["old"]), _usd(one["new"]),
             percent_badge(None if one["percent"] is None else Decimal(one["percent"])))
            for one in obj.changes
        ]  # fmt: skip
        return dress.table(["Meter", "Old, USD per 1M", "New, USD per 1M", "Change"], rows)

    @display(description="The whole proposed price")
    def proposed_price(self, obj: PriceProposal) -> SafeString:
        """Of a tenant's own price until when, too."""
        if obj.version:
            return dress.lines(component_in_words(one) for one in obj.version.components.all())
        parts = [component_in_words(one) for one in own_parts(obj)] or ["The list price and its markup count again."]
        until = moment_of(obj, "effective_to")
        return dress.lines(parts if until is None else [*parts, f"until {dress.moment(until)} UTC"])

    @display(description="Re-costed")
    def re_costed_span(self, obj: PriceProposal) -> str:
        if obj.impact is None:
            return dress.NONE
        kept = obj.impact["unchanged_requests"]
        return (
            f"{obj.impact['requests']:,} requests from {obj.impact['since'][:10]} to {obj.impact['until'][:10]}, each "
            "priced again; list price, before markups" + (f"; {kept:,} could not be and kept theirs" if kept else "")
        )

    @display(description="By tenant")
    def by_tenant(self, obj: PriceProposal) -> SafeString | str:
        if obj.tenant:
            return f"It is for {obj.tenant} alone, and not re-costed."
        if not obj.impact or not obj.impact["tenants"]:
            return "No requests of these 30 days are affected."
        total = [{"tenant": "all", **obj.impact}]
        rows = [
            (one["tenant"], f"{one['requests']:,}", *(dress.usd(Decimal(one[name])) for name in _COSTS))
            for one in [*total, *obj.impact["tenants"][:_TENANTS]]
        ]
        return dress.table(["Tenant", "Requests", "Was", "Would be", "Change"], rows)

    @display(description="Why it is proposed")
    def why(self, obj: PriceProposal) -> str:
        return obj.why or dress.NONE

    @display(description="Decision")
    def decision(self, obj: PriceProposal) -> SafeString | str:
        if obj.decided_at is None:
            return dress.NONE
        return dress.stack(obj.decision_reason, f"{obj.decider}, {dress.moment(obj.decided_at)} UTC")

    @action(description="Approve", url_path="approve", icon="check", variant=ActionVariant.PRIMARY)
    def approve_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.decide_one(request, object_id, ApproveForm, "Approve")

    @action(description="Reject", url_path="reject", icon="close")
    def reject_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.decide_one(request, object_id, RejectForm, "Reject")

    def decide_one(self, request: HttpRequest, object_id: str, kind: type[RejectForm], verb: str) -> HttpResponse:
        row = self.waiting(request, object_id)
        form = kind(request.POST if request.method == "POST" else None)
        if form.is_valid() and self.decided(request, [row.pk], form, verb):
            return HttpResponseRedirect(change_url(row))
        return form_page(
            request, form, title=f"{verb} the price of {row.model}", submit=verb, back=change_url(row), opts=self.opts,
            intro=_INTROS[verb],
        )  # fmt: skip

    def waiting(self, request: HttpRequest, object_id: str) -> PriceProposal:
        """The proposal of a page of its own, or 404; 403 for those who may not decide."""
        if not request.user.has_perm(APPROVE):
            raise PermissionDenied
        row: PriceProposal | None = self.get_object(request, object_id)
        if row is None:
            raise Http404
        return row

    @admin.action(description="Approve…", permissions=["approve"])
    def approve_selected(self, request: HttpRequest, queryset: QuerySet[PriceProposal]) -> HttpResponse | None:
        return self.decide_all(request, queryset, ApproveForm, "Approve")

    @admin.action(description="Reject…", permissions=["approve"])
    def reject_selected(self, request: HttpRequest, queryset: QuerySet[PriceProposal]) -> HttpResponse | None:
        return self.decide_all(request, queryset, RejectForm, "Reject")

    def decide_all(
        self, request: HttpRequest, queryset: QuerySet[PriceProposal], kind: type[RejectForm], verb: str
    ) -> HttpResponse | None:
        rows = queryset.select_related("model__provider", "version")
        form = kind(request.POST if "_apply" in request.POST else None)
        if form.is_valid() and self.decided(request, [row.pk for row in rows], form, verb):
            return None
        return bulk_page(
            request, form, rows, title=f"{verb} these prices", submit=verb, intro=f"{_INTROS[verb]} All or none."
        )

    def decided(self, request: HttpRequest, ids: Sequence[uuid.UUID], form: forms.Form, verb: str) -> bool:
        """False: refused, said on the form."""
        decide: Callable[..., Any] = proposals.approve if verb == "Approve" else proposals.reject
        decision = proposals.Decision(**form.cleaned_data, person_id=request.user.pk)
        try:
            done = decide(ids=ids, decision=decision, actor=actor_of(request), now=timezone.now())
        except TollgateError as error:
            refused(form, error)
            return False
        self.message_user(request, f"{len(done)} {'approved' if verb == 'Approve' else 'rejected'}.")
        return True


_COSTS = ("old_usd", "new_usd", "change_usd")
_INTROS = {
    "Approve": "The new price holds for requests accepted from its moment on. What has been billed stays as it is.",
    "Reject": "The price in force goes on. What the feed proposed comes again only when the feed says something else.",
}


def own_parts(row: PriceProposal) -> list[OverrideComponent]:
    """What a tenant's own price would be, as rows that are not saved."""
    return [
        OverrideComponent(meter=one.meter, unit_price_usd=one.usd_per_1m, above_tokens=one.above_tokens)
        for one in from_json((row.wanted or {}).get("components", ()))
    ]


def moment_of(row: PriceProposal, name: str) -> datetime | None:
    """When a tenant's own price is wanted to begin or end."""
    text = (row.wanted or {}).get(name)
    return datetime.fromisoformat(text) if text else None


def percent_badge(percent: Decimal | None) -> SafeString:
    """Such as `+12.5 %`: dearer is amber, much dearer red, cheaper green."""
    if percent is None:
        return dress.badge("new", "info")
    tone = "good" if percent < 0 else "bad" if percent > _MANY_PERCENT else "warn"
    return dress.badge(f"{percent.normalize():+f} %", tone)


def _usd(amount: str | None) -> str:
    return dress.usd(None if amount is None else Decimal(amount), none="none")
