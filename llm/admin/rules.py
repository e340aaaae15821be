"""Routing rules, power levels, and the simulator that says what would be chosen and why."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from billing.admin.trace import decision
from llm.admin import reach
from llm.catalog import prices
from llm.choices import PowerLevel, Priority, TaskType
from llm.engine.explain import explain
from llm.models import LLMModel, LLMRoutingRule, PowerLevelPolicy, ProviderCredential
from tenants.admin import dress
from tenants.admin.base import ModelAdmin, action, audited, display, switched
from tenants.admin.pages import PageForm, form_page
from tenants.errors import TollgateError
from tenants.models import Tenant

NEEDS = [("streaming", "Streaming"), ("tools", "Tools"), ("vision", "Images"), ("json", "JSON")]


def facts_of(rule: LLMRoutingRule) -> reach.Facts:
    """Read what `reach` puts into words."""
    others = LLMRoutingRule.objects.filter(
        power_level=rule.power_level, user_tier__in={rule.user_tier, "all"}, is_active=True, is_fallback=False
    ).exclude(pk=rule.pk)
    tasks = frozenset(task for task in others.values_list("task_type", flat=True) if task)
    keys = ProviderCredential.objects.filter(provider=rule.model.provider, is_active=True).aggregate(
        stored=Count("pk", filter=Q(tenant__isnull=True)),
        own=Count("pk", filter=Q(tenant__isnull=False, is_validated=True)),
    )
    return reach.Facts(
        tenants=dict(Tenant.objects.filter(is_active=True).order_by().values_list("tier").annotate(number=Count("pk"))),
        tasks=tasks,
        has_general=TaskType.GENERAL in tasks,
        policy=PowerLevelPolicy.objects.filter(pk=rule.power_level).first(),
        version=prices.version_at(rule.model),
        stored_keys=keys["stored"],
        own_keys=keys["own"],
    )


class SimulatorForm(PageForm):
    """A request that is not sent: only its route is asked for."""

    tenant = forms.ModelChoiceField(queryset=Tenant.objects.all(), help_text="Whose request it would be.")
    model = forms.CharField(
        required=False,
        max_length=300,
        help_text="provider/model, a bare model id, a family, eco, balanced, precision or auto. Empty: as auto.",
    )
    power_level = forms.ChoiceField(choices=[("", "Not given"), *PowerLevel.choices], required=False)
    task_type = forms.ChoiceField(choices=[("", "Not given"), *TaskType.choices], required=False)
    priority = forms.ChoiceField(choices=[("", "Not given"), *Priority.choices], required=False)
    estimated_input_tokens = forms.IntegerField(min_value=0, initial=1000, help_text="How long the prompt is.")
    max_tokens = forms.IntegerField(
        min_value=1, required=False, help_text="The most it may answer with. Empty: the default."
    )
    needs = forms.MultipleChoiceField(
        choices=NEEDS,
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="What the request uses.",
    )

    def body(self) -> dict[str, Any]:
        """The body of `/routing/explain`, without what is not given."""
        values = {key: value for key, value in self.cleaned_data.items() if key != "tenant"}
        return {key: value for key, value in values.items() if value not in ("", None, [])}


@admin.register(LLMRoutingRule)
class LLMRoutingRuleAdmin(ModelAdmin):
    """For one power level, tier and task: use this model. Lower priority first; equals share by weight."""

    list_display = ["power_level", "model", "tier", "task", "order", "size", "active"]
    list_display_links = ["power_level", "model"]
    list_filter = [
        ("power_level", ChoicesDropdownFilter),
        ("user_tier", ChoicesDropdownFilter),
        ("task_type", ChoicesDropdownFilter),
        ("model__provider", RelatedDropdownFilter),
        "is_active",
        "is_fallback",
        "requires_byok",
    ]
    list_select_related = ["model__provider"]
    search_fields = ["model__model_id", "model__provider__slug"]
    search_help_text = "Model or provider."
    ordering = ["power_level", "user_tier", "is_fallback", "priority", "pk"]
    autocomplete_fields = ["model"]
    actions = ["activate", "disable"]
    actions_list = ["simulate"]
    change_form_outer_before_template = "llm/admin/reach.html"
    fieldsets = [
        ("Whom it serves", {"fields": [("power_level", "user_tier", "task_type"), ("min_tokens", "max_tokens")]}),
        ("What it uses", {"fields": ["model", ("priority", "weight"), ("requires_byok", "is_active")]}),
        ("As a fallback", {"fields": [("is_fallback", "fallback_order")]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[LLMRoutingRule]:
        found: QuerySet[LLMRoutingRule] = super().get_queryset(request)
        return found.select_related("model__provider", "model__replacement_model__provider")

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> Any:
        rule = kwargs.get("obj")
        # With errors on the form the row is what was typed, not what is stored: nothing to explain yet.
        if isinstance(rule, LLMRoutingRule) and not rule._state.adding and not context.get("errors"):
            context["reach"] = reach.of(rule, facts_of(rule))
        return super().render_change_form(request, context, **kwargs)

    @display(description="Tier", ordering="user_tier")
    def tier(self, obj: LLMRoutingRule) -> str:
        return obj.get_user_tier_display()

    @display(description="Task", ordering="task_type")
    def task(self, obj: LLMRoutingRule) -> str:
        return obj.get_task_type_display() or "any"

    @display(description="Order", ordering="priority")
    def order(self, obj: LLMRoutingRule) -> SafeString:
        if obj.is_fallback:
            return dress.stack(dress.badge("fallback", "info"), f"number {obj.fallback_order}")
        return dress.stack(obj.priority, f"weight {obj.weight}")

    @display(description="Tokens")
    def size(self, obj: LLMRoutingRule) -> str:
        if obj.min_tokens is None and obj.max_tokens is None:
            return "any"
        return f"{obj.min_tokens or 0:,} to {'any' if obj.max_tokens is None else f'{obj.max_tokens:,}'}"

    @display(description="Active", boolean=True, ordering="is_active")
    def active(self, obj: LLMRoutingRule) -> bool:
        return obj.is_active

    @admin.action(description="Activate", permissions=["change"])
    def activate(self, request: HttpRequest, queryset: QuerySet[LLMRoutingRule]) -> None:
        self.switch(request, queryset, active=True)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[LLMRoutingRule]) -> None:
        self.switch(request, queryset, active=False)

    def switch(self, request: HttpRequest, queryset: QuerySet[LLMRoutingRule], *, active: bool) -> None:
        with transaction.atomic():
            rows = list(queryset.exclude(is_active=active))
            for rule in rows:
                with audited(request, rule, "activate" if active else "deactivate"):
                    LLMRoutingRule.objects.filter(pk=rule.pk).update(is_active=active, updated_at=timezone.now())
        self.message_user(request, switched(len(rows), active))

    @action(description="Simulate a route", url_path="simulate", icon="alt_route")
    def simulate(self, request: HttpRequest) -> HttpResponse:
        """What would be chosen, and why; nothing is sent and nothing is held."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = SimulatorForm(request.GET if "tenant" in request.GET else None)
        outcome: SafeString | None = None
        if form.is_valid():
            try:
                answer = explain(tenant_id=form.cleaned_data["tenant"].pk, body=form.body())
                outcome = decision(answer)
            except TollgateError as error:
                form.add_error(None, error.message)
        return form_page(
            request, form, title="Simulate a route", submit="Explain", back=".", back_label="Clear", method="get",
            intro="Which model would answer such a request, and why. Nothing is sent and nothing is held.",
            template="llm/admin/simulator.html", outcome=outcome, opts=self.opts,
        )  # fmt: skip


@admin.register(PowerLevelPolicy)
class PowerLevelPolicyAdmin(ModelAdmin):
    """What eco, balanced and precision promise."""

    list_display = ["power_level", "price_cap", "latency", "allow_fallback", "prefer_cached", "model_count"]
    fields = [
        "power_level",
        ("max_price_per_1m_usd", "max_latency_ms"),
        ("allow_fallback", "prefer_cached"),
        "over_the_cap",
    ]
    readonly_fields = ["power_level", "over_the_cap"]
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        # There are three; requests name them.
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="At most per 1M", ordering="max_price_per_1m_usd")
    def price_cap(self, obj: PowerLevelPolicy) -> str:
        return dress.usd(obj.max_price_per_1m_usd)

    @display(description="First token within", ordering="max_latency_ms")
    def latency(self, obj: PowerLevelPolicy) -> str:
        return f"{obj.max_latency_ms:,} ms"

    @display(description="Active models")
    def model_count(self, obj: PowerLevelPolicy) -> int:
        return LLMModel.objects.filter(power_level=obj.power_level, is_active=True).count()

    @display(description="Models above the cap")
    def over_the_cap(self, obj: PowerLevelPolicy) -> SafeString | str:
        # unfold's templates ask for a read-only field several times.
        if not hasattr(obj, "dear"):
            obj.dear = self.dear(obj)  # type: ignore[attr-defined]
        return obj.dear  # type: ignore[attr-defined, no-any-return]

    def dear(self, obj: PowerLevelPolicy) -> SafeString | str:
        models = LLMModel.objects.filter(power_level=obj.power_level, is_active=True, kind="chat")
        priced = [(model, prices.version_at(model)) for model in prices.with_prices(models.select_related("provider"))]
        dear = [
            f"{model}: {dress.usd(reach.blended(version))}"
            for model, version in priced
            if version is not None and reach.blended(version) > obj.max_price_per_1m_usd
        ]
        return dress.lines(dear) if dear else "None: every model of this level fits."
