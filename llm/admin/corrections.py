"""Correction runs in the admin: start one from a model or a price, see by tenant what it would change, decide on it."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from llm.admin import prices as price_pages
from llm.catalog import corrections, prices, repricing
from llm.choices import CorrectionState, Meter
from llm.models import CorrectionRun, LLMModel, PriceVersion
from tenants.admin import dress
from tenants.admin.base import ReadOnlyAdmin, action, actor_of, change_url, display
from tenants.admin.pages import ConfirmForm, MomentInput, PageForm, form_page, refused
from tenants.errors import TollgateError

START = "llm.add_correctionrun"
_TONES = {"working": "info", "pending": "warn", "approved": "info", "booked": "good", "rejected": "bad"}
_TENANTS = 200
_FIELDS = {"from": "since", "to": "until"}


class CorrectionForm(PageForm):
    """The right price, and which requests were billed at a wrong one."""

    input_usd = price_pages.usd_field("The right price: USD per million input tokens.", label="Input")
    output_usd = price_pages.usd_field(
        "USD per million output tokens. Embedding models have none.", label="Output", required=False
    )
    cached_usd = price_pages.usd_field(
        "USD per million cached input tokens. Empty: they cost as much as input.", label="Cached input", required=False
    )
    since = forms.DateTimeField(
        widget=MomentInput, label="From (UTC)", help_text="Requests accepted from this moment on."
    )
    until = forms.DateTimeField(
        required=False, widget=MomentInput, label="Until (UTC)", help_text="Excluded. Empty: until now."
    )
    reason = forms.CharField(max_length=1000, help_text="Why. The tenants read it with each adjustment.")
    confirm = forms.BooleanField(
        required=False, help_text="The right price is more than five times above or below the wrong one, and is meant."
    )


class DecisionForm(PageForm):
    """Why it is approved or rejected."""

    reason = forms.CharField(max_length=1000, help_text="Kept with the run and in the audit log.")


def start_page(request: HttpRequest, *, model: LLMModel, version: PriceVersion | None = None) -> HttpResponse:
    """Propose to correct what a model's requests were billed; with `version`, those priced with it."""
    usual, rows = price_pages.initial_of(version or prices.version_at(model))
    if version is not None:
        usual |= {"since": version.effective_from, "until": version.effective_to}
    posted = request.POST if request.method == "POST" else None
    form = CorrectionForm(posted, initial=usual)
    more = price_pages.ComponentFormSet(posted, initial=rows, prefix="more")
    back = change_url(model if version is None else version)
    if form.is_valid() and more.is_valid():
        try:
            run = corrections.propose(
                model=model, wish=_wish(request, form, more, version), actor=actor_of(request), now=timezone.now()
            )
        except TollgateError as error:
            error.message = error.message.replace("Send `confirm: true`", "Switch on “confirm” below")
            refused(form, error, _FIELDS)
        else:
            return HttpResponseRedirect(change_url(run))
    what = f"{model}" if version is None else f"{model} v{version.number}"
    return form_page(
        request, form, title=f"Correct what was billed for {what}", submit="Work it out", back=back, more=more,
        template="llm/admin/price_page.html", opts=CorrectionRun._meta,
        intro="Each request is priced again from its own counts and terms. What that changes is proposed; a second "
        "person decides on it, and only then adjustments are booked. Nothing in the past is edited, and the price "
        "in force stays what it is.",
    )  # fmt: skip


def _wish(request: HttpRequest, form: CorrectionForm, more: Any, version: PriceVersion | None) -> corrections.Wish:
    values = form.cleaned_data
    return corrections.Wish(
        components=list(price_pages.components(form, more)),
        reason=values["reason"],
        since=values["since"],
        until=values["until"],
        version_id=None if version is None else version.pk,
        confirm=values["confirm"],
        person_id=request.user.pk,
    )


@admin.register(CorrectionRun)
class CorrectionRunAdmin(ReadOnlyAdmin):
    """What a wrong price charged wrongly. Started on the page of a model or a price; a second person decides."""

    list_display = ["model_", "span", "state_", "requests_", "change", "proposed"]
    list_display_links = ["model_"]
    list_filter = [("state", ChoicesDropdownFilter)]
    search_fields = ["provider_slug", "model_name", "reason", "proposer"]
    search_help_text = "Model, provider, proposer or a word of the reason."
    ordering = ["-id"]
    actions = None
    actions_detail = ["approve_one", "reject_one", "work_out_one", "cancel_one"]
    fields = [
        ("model_", "state_"), ("span", "proposed"), "reason", "right_price", ("requests_", "left"), "change",
        "by_tenant", "progress", "decision",
    ]  # fmt: skip
    readonly_fields = [
        "model_", "state_", "span", "proposed", "right_price", "requests_", "left", "change", "by_tenant", "progress",
        "decision",
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[CorrectionRun]:
        """Of the list without what it is by tenant, which may be long."""
        found: QuerySet[CorrectionRun] = super().get_queryset(request)
        match = request.resolver_match
        if match is not None and match.url_name == "llm_correctionrun_changelist":
            return found.defer("tenants")
        return found

    def has_approve_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm(price_pages.APPROVE)

    def has_start_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm(START)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """What is decided is not decided again; what is still worked out can only be cancelled."""
        state = CorrectionRun.objects.filter(pk=object_id).values_list("state", flat=True).first()
        found: list[Any] = super().get_actions_detail(request, object_id)
        if state == CorrectionState.PENDING:
            return found
        return [one for one in found if state == CorrectionState.WORKING and one.action_name.endswith("cancel_one")]

    @display(description="Model", ordering="model_name")
    def model_(self, obj: CorrectionRun) -> SafeString:
        version = obj.price_version_number
        return dress.stack(obj.reference, "any price" if version is None else f"priced with v{version}")

    @display(description="State", ordering="state")
    def state_(self, obj: CorrectionRun) -> SafeString:
        label = dress.badge(obj.get_state_display().lower(), _TONES.get(obj.state, "plain"))
        return dress.stack(label, obj.decider or _how_far(obj))

    @display(description="Accepted (UTC)", ordering="since")
    def span(self, obj: CorrectionRun) -> SafeString:
        return dress.stack(f"from {dress.moment(obj.since)}", f"until {dress.moment(obj.until)}")

    @display(description="Requests", ordering="affected")
    def requests_(self, obj: CorrectionRun) -> SafeString:
        return dress.stack(f"{obj.affected:,} to correct", f"of {obj.requests:,}")

    @display(description="Left alone")
    def left(self, obj: CorrectionRun) -> SafeString | str:
        said = [
            (obj.no_lines, "without price lines: swept after a crash, or booked by other code"),
            (obj.no_meter, "used a meter that the right price has no figure for"),
            (obj.no_terms, "have terms that do not say how they were billed"),
        ]
        return dress.lines(f"{count:,} {what}" for count, what in said if count) if obj.left_alone else "none"

    @display(description="Change", ordering="billed_usd")
    def change(self, obj: CorrectionRun) -> SafeString | str:
        if obj.state == CorrectionState.WORKING:
            return dress.muted("being worked out")
        below = f"list price {_signed(obj.cost_usd)}, budgets {_signed(obj.budget_usd)}"
        return dress.stack(f"billed {_signed(obj.billed_usd)}", below)

    @display(description="Proposed (UTC)", ordering="created_at")
    def proposed(self, obj: CorrectionRun) -> SafeString:
        return dress.stack(obj.proposer, dress.moment(obj.created_at))

    @display(description="The right price")
    def right_price(self, obj: CorrectionRun) -> SafeString:
        return dress.lines(
            f"{Meter(one.meter).label}: {dress.usd(one.usd_per_1m)} per 1M"
            + (f" above {one.above_tokens:,} prompt tokens" if one.above_tokens else "")
            for one in repricing.components_of(obj)
        )

    @display(description="By tenant")
    def by_tenant(self, obj: CorrectionRun) -> SafeString | str:
        if not obj.tenants:
            return "Still being worked out." if obj.state == CorrectionState.WORKING else "No request is affected."
        rows = [
            (one["tenant"], f"{one['requests']:,}", f"{one['adjusted_requests']:,}",
             *(_signed(Decimal(one[name])) for name in _CHANGES))
            for one in obj.tenants[:_TENANTS]
        ]  # fmt: skip
        if len(obj.tenants) > _TENANTS:
            rows.append((f"and {len(obj.tenants) - _TENANTS:,} more, over the API", "", "", "", "", ""))
        head = ["Tenant", "Requests", "Adjusted before", "List price", "Billed", "Budgets"]
        return dress.table(head, rows)

    @display(description="Progress")
    def progress(self, obj: CorrectionRun) -> SafeString | str:
        if not obj.decided_at:
            return _how_far(obj) or "worked out; nothing is booked"
        if not obj.booked:
            return "nothing is booked"
        found = f"{reverse('admin:billing_adjustment_changelist')}?correction_id={obj.pk}"
        over = f"{obj.passed_over:,} passed over: adjusted by somebody else meanwhile" if obj.passed_over else ""
        return dress.stack(dress.link(found, f"{obj.booked:,} of {obj.affected:,} adjustments booked"), over)

    @display(description="Decision")
    def decision(self, obj: CorrectionRun) -> SafeString | str:
        if obj.decided_at is None:
            return dress.NONE
        return dress.stack(obj.decision_reason, f"{obj.decider}, {dress.moment(obj.decided_at)} UTC")

    @action(
        description="Approve", url_path="approve", icon="check", variant=ActionVariant.PRIMARY, permissions=["approve"]
    )
    def approve_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.decide_one(request, object_id, "Approve", corrections.approve)

    @action(description="Reject", url_path="reject", icon="close", permissions=["approve"])
    def reject_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.decide_one(request, object_id, "Reject", corrections.reject)

    @action(description="Work out again", url_path="work-out", icon="refresh", permissions=["start"])
    def work_out_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def work_out(run: CorrectionRun, form: forms.Form) -> None:
            corrections.work_out_again(run_id=run.pk, actor=actor_of(request), now=timezone.now())

        return self.page(request, object_id, PageForm, "Work out again", work_out)

    @action(
        description="Cancel the run",
        url_path="cancel",
        icon="delete",
        variant=ActionVariant.DANGER,
        permissions=["start"],
    )
    def cancel_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def cancel(run: CorrectionRun, form: forms.Form) -> None:
            reason = form.cleaned_data["reason"]
            corrections.cancel(run_id=run.pk, reason=reason, actor=actor_of(request), now=timezone.now())

        return self.page(request, object_id, ConfirmForm, "Cancel the run", cancel)

    def decide_one(self, request: HttpRequest, object_id: str, verb: str, decide: Callable[..., Any]) -> HttpResponse:
        if not request.user.has_perm(price_pages.APPROVE):
            raise PermissionDenied

        def decided(run: CorrectionRun, form: forms.Form) -> None:
            decision = corrections.Decision(reason=form.cleaned_data["reason"], person_id=request.user.pk)
            decide(run_id=run.pk, decision=decision, actor=actor_of(request), now=timezone.now())

        return self.page(request, object_id, DecisionForm, verb, decided)

    def page(
        self, request: HttpRequest, object_id: str, kind: type[PageForm], verb: str,
        change: Callable[[CorrectionRun, forms.Form], None],
    ) -> HttpResponse:  # fmt: skip
        """A form of one's own for one step of a run; what is refused is said on it."""
        run: CorrectionRun | None = self.get_object(request, object_id)
        if run is None:
            raise Http404
        form = kind(request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                change(run, form)
            except TollgateError as error:
                refused(form, error)
            else:
                return HttpResponseRedirect(change_url(run))
        return form_page(
            request, form, title=f"{verb}: {run.reference}", submit=verb, back=change_url(run), opts=self.opts,
            intro=_INTROS[verb],
        )  # fmt: skip


_CHANGES = ("cost_usd", "billed_usd", "budget_usd")
_INTROS = {
    "Approve": "An adjustment is booked for each request, with the reason of this run, which the tenants read; budgets "
    "follow in the same moment. Tenants that were refused for money come first, then the requests of this month. 2,000 "
    "are booked now, the rest by a worker that begins at once. Those of finalised months count in the next one.",
    "Reject": "Nothing is booked.",
    "Work out again": "What was found is forgotten, and each request is compared again with the ledger as it is now.",
    "Cancel the run": "Nothing is booked. It stays in the list.",
}


def _how_far(run: CorrectionRun) -> str:
    if run.state != CorrectionState.WORKING:
        return ""
    return f"{run.requests:,} requests so far" + (f", up to {dress.moment(run.reached_at)}" if run.reached_at else "")


def _signed(amount: Decimal) -> str:
    return ("+" if amount > 0 else "") + dress.usd(amount)
