"""The request log: what was asked, which model answered, why, and what it cost. To read only."""

import uuid
from datetime import date
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ORDER_VAR, PAGE_VAR
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.dateparse import parse_date
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, RangeDateFilter, TextFilter

from billing import rare
from billing.admin.trace import cost_lines, decision
from billing.models import Adjustment, UsageRecord
from tenants.admin import dress
from tenants.admin.base import ReadOnlyAdmin, change_url, display
from tenants.models import Tenant

TONES = {"completed": "good", "partial": "warn", "cancelled": "warn", "failed": "bad", "expired": "bad"}
MOST_TENANTS = 500


class TenantFilter(DropdownFilter):  # type: ignore[misc]  # unfold has no types
    """By tenant; usage keeps plain ids, so this is not a foreign key's filter."""

    title = "tenant"
    parameter_name = "tenant"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        found = Tenant.objects.order_by("slug").values_list("pk", "slug")[:MOST_TENANTS]
        return [(str(pk), slug) for pk, slug in found]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        try:
            return queryset.filter(tenant_id=uuid.UUID(self.value())) if self.value() else queryset
        except ValueError:
            return queryset.none()


class AnswerFilter(DropdownFilter):  # type: ignore[misc]  # unfold has no types
    """What reports count as an error, whatever the status is called: the client saw an error, or had left."""

    title = "answer"
    parameter_name = "answer"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("good", "Answered"), ("error", "Error, or the client left")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        bounds = {"good": {"status_code__lt": 400}, "error": {"status_code__gte": 400}}
        return queryset.filter(**bounds[self.value()]) if self.value() in bounds else queryset


def exactly(field: str, label: str) -> type[Any]:
    """A filter for one exact text: an index or a walk from the newest row finds it, where `contains` reads all."""

    def queryset(self: Any, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{field: self.value()}) if self.value() else queryset

    return type(
        f"{field.title()}Filter", (TextFilter,), {"title": label, "parameter_name": field, "queryset": queryset}
    )


class ByRequestId:
    """Search that finds one request by its id, through the primary key, and nothing else."""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term:
            return queryset, False
        try:
            return queryset.filter(pk=uuid.UUID(search_term.strip())), False
        except ValueError:
            messages.warning(request, "Search takes a whole request id, as in the x-request-id header.")
            return queryset.none(), False


# Filters of the log that roll-ups have as dimensions.
_DIMENSIONS = ("provider_slug", "model_name", "power_level")


def _day(text: str) -> date | None:
    try:
        return parse_date(text)
    except ValueError:
        return None


def _id(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def with_tenant(queryset: QuerySet[Any]) -> QuerySet[Any]:
    """Each row with its tenant's slug, in the same query."""
    slug = Tenant.objects.filter(pk=OuterRef("tenant_id")).values("slug")[:1]
    named: QuerySet[Any] = queryset.annotate(tenant_slug=Subquery(slug))
    return named


@admin.register(UsageRecord)
class UsageRecordAdmin(ByRequestId, ReadOnlyAdmin):
    """One row per accepted request, newest first."""

    list_display = ["when", "tenant", "asked", "outcome", "tokens", "cost", "took", "flags"]
    list_display_links = ["when"]
    list_filter = [
        TenantFilter,
        ("status", ChoicesDropdownFilter),
        AnswerFilter,
        exactly("provider_slug", "provider"),
        exactly("model_name", "model"),
        exactly("user_id", "user"),
        exactly("power_level", "power level"),
        ("billing_day", RangeDateFilter),
        "used_byok",
        "was_fallback",
    ]
    search_fields = ["id"]
    search_help_text = "A request id, as in the x-request-id header."
    ordering = ["-id"]
    actions = None
    readonly_fields = [
        "tenant", "asked", "outcome", "cost_table", "adjusted", "decision_trace", "served_by", "price_version", "speed",
        "flags", "tokens_in_words", "request_id", "when", "held", "was_streamed",
    ]  # fmt: skip
    fieldsets = [
        (None, {"fields": [("request_id", "when"), ("tenant", "key_name", "config_name"), ("outcome", "flags")]}),
        ("Cost", {"fields": ["cost_table", "adjusted", ("held", "billing_day", "price_version")]}),
        ("Why this model", {"fields": ["decision_trace"]}),
        (
            "What ran",
            {
                "fields": [
                    ("served_by", "key_source"),
                    ("power_level", "task_type"),
                    ("tokens_in_words", "speed", "was_streamed"),
                    ("error_code", "error_message"),
                ]
            },
        ),
        (
            "Who asked",
            {
                "fields": [
                    ("user_id", "end_user", "session_id"),
                    ("client_request_id", "request_ip"),
                    "user_agent",
                ]
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[UsageRecord]:
        return with_tenant(super().get_queryset(request)).defer("price_lines", "user_agent")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """The last that Django asks before it reads a page, when all filters are in: what is rare is looked up, and
        days long ago are not looked for from the newest request on."""
        found, twice = super().get_search_results(request, queryset, search_term)
        page, tenant = self._page(request), request.GET.get("tenant", "")
        tenant_id = _id(tenant)
        for name, operator in (("billing_day_from", "gte"), ("billing_day_to", "lte")):
            if (day := _day(request.GET.get(name, ""))) is not None:
                found = found.filter(**{f"pk__{operator}": rare.id_bound(day, operator, tenant_id=tenant_id)})
                page = page.up_to(rare.id_near(day, "lte")) if page is not None and operator == "lte" else page
        only = Q(**{name: request.GET[name] for name in _DIMENSIONS if request.GET.get(name)})
        if not only or search_term or (tenant and tenant_id is None):
            return found, twice
        return rare.narrowed(found, tenant_id=tenant_id, only=only, page=page), twice

    def _page(self, request: HttpRequest) -> rare.Page | None:
        """All rows up to the end of the page shown. None if they are sorted otherwise than newest first."""
        number = request.GET.get(PAGE_VAR, "1")
        if ORDER_VAR in request.GET or not (number.isascii() and number.isdigit()):
            return None
        return rare.Page(rows=int(number) * self.list_per_page + 1)

    @display(description="Accepted (UTC)", ordering="id")
    def when(self, obj: UsageRecord) -> str:
        return dress.moment(obj.created_at)

    @display(description="Held for it")
    def held(self, obj: UsageRecord) -> str:
        return dress.usd(obj.held_usd)

    @display(description="Streamed")
    def was_streamed(self, obj: UsageRecord) -> str:
        return "yes" if obj.streamed else "no"

    @display(description="Request id")
    def request_id(self, obj: UsageRecord) -> str:
        return str(obj.pk)

    @display(description="Tenant")
    def tenant(self, obj: UsageRecord) -> SafeString | str:
        slug = getattr(obj, "tenant_slug", None)
        if slug is None:
            return str(obj.tenant_id)
        return dress.stack(dress.link(change_url(Tenant(pk=obj.tenant_id)), slug), obj.key_name)

    @display(description="Model")
    def asked(self, obj: UsageRecord) -> SafeString:
        below = " · ".join(word for word in (obj.power_level, obj.task_type) if word)
        return dress.stack(f"{obj.provider_slug}/{obj.model_name}", below)

    @display(description="Model")
    def served_by(self, obj: UsageRecord) -> str:
        return f"{obj.provider_slug}/{obj.model_name}"

    @display(description="Status")
    def outcome(self, obj: UsageRecord) -> SafeString:
        label = dress.badge(obj.get_status_display(), TONES.get(obj.status, "plain"))
        return dress.stack(label, f"HTTP {obj.status_code} {obj.error_code}".strip())

    @display(description="Tokens")
    def tokens(self, obj: UsageRecord) -> SafeString:
        below = f"{obj.prompt_tokens:,} in, {obj.completion_tokens:,} out"
        return dress.stack(f"{obj.total_tokens:,}", below)

    @display(description="Tokens")
    def tokens_in_words(self, obj: UsageRecord) -> SafeString:
        counted = [
            ("prompt", obj.prompt_tokens),
            ("of them from the cache", obj.cached_tokens),
            ("written to the cache", obj.cache_write_tokens),
            ("completion", obj.completion_tokens),
            ("of them reasoning", obj.reasoning_tokens),
        ]
        return dress.lines(f"{count:,} {what}" for what, count in counted if count or what in {"prompt", "completion"})

    @display(description="Cost")
    def cost(self, obj: UsageRecord) -> SafeString:
        below = "" if obj.billed_usd == obj.cost_total_usd else f"billed {dress.usd(obj.billed_usd)}"
        return dress.stack(dress.usd(obj.cost_total_usd), below)

    @display(description="Took")
    def took(self, obj: UsageRecord) -> SafeString:
        return dress.stack(f"{obj.latency_ms:,} ms", "" if obj.ttft_ms is None else f"first token {obj.ttft_ms:,} ms")

    @display(description="Took")
    def speed(self, obj: UsageRecord) -> SafeString:
        said = [f"{obj.latency_ms:,} ms in all"]
        if obj.ttft_ms is not None:
            said.append(f"{obj.ttft_ms:,} ms to the first token")
        if obj.tokens_per_second is not None:
            said.append(f"{obj.tokens_per_second:,.0f} tokens a second")
        return dress.lines(said)

    @display(description="Flags")
    def flags(self, obj: UsageRecord) -> SafeString | str:
        raised = [
            dress.badge(word, tone, title)
            for is_set, word, tone, title in (
                (obj.used_byok, "own key", "info", "Answered with the tenant's own provider key."),
                (obj.was_fallback, "fallback", "warn", f"Not the first choice: {obj.fallback_reason}"),
                (obj.is_estimated, "estimated", "warn", "The provider gave no usable count; ours stands."),
                (obj.is_overrun, "overrun", "bad", "It cost more than was held."),
            )
            if is_set
        ]
        return dress.lines(raised) if raised else dress.NONE

    @display(description="Price version")
    def price_version(self, obj: UsageRecord) -> str:
        return str(obj.price_version_id or dress.NONE)

    @display(description="Cost lines")
    def cost_table(self, obj: UsageRecord) -> SafeString:
        parts = [
            ("Provider's list price", obj.cost_total_usd),
            (f"Billed to the tenant{_terms(obj)}", obj.billed_usd),
            ("Counted against budgets", obj.budget_usd),
        ]
        if obj.lost_cost_usd:
            parts.append(("Lost on failed attempts (the platform's, never the tenant's)", obj.lost_cost_usd))
        return cost_lines(obj.price_lines, parts=parts)

    @display(description="Adjusted since")
    def adjusted(self, obj: UsageRecord) -> SafeString | str:
        made = Adjustment.objects.filter(request_id=obj.pk)
        said = ("billed_usd", "budget_usd", "cost_total_usd")
        rows = [
            (dress.moment(one.created_at), *(dress.usd(getattr(one, name)) for name in said), one.reason)
            for one in made
        ]
        return dress.table(["When (UTC)", "Billed", "Budgets", "List price", "Why"], rows) if rows else "never"

    @display(description="Decision")
    def decision_trace(self, obj: UsageRecord) -> SafeString:
        return decision(obj.decision, obj.attempts)


def _terms(obj: UsageRecord) -> str:
    """How what is billed follows from the list price, in words."""
    terms = obj.terms if isinstance(obj.terms, dict) else {}
    said = []
    if "markup_percent" in terms:
        said.append(f"markup of {terms['markup_percent']} %")
    if "byok_fee_percent" in terms:
        said.append(f"fee of {terms['byok_fee_percent']} %")
    if "price_override" in terms:
        said.append("at its own price")
    if obj.is_prepaid:
        said.append("of its prepaid credit")
    return f" ({', '.join(said)})" if said else ""
