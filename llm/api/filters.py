"""What lists of the catalog can be narrowed by."""

import uuid
from typing import Any, ClassVar

import django_filters
from django.db.models import Q, QuerySet

from llm.models import CorrectionRun, LLMModel, LLMProvider, LLMRoutingRule, PriceProposal, ProviderCredential


class ProviderFilter(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    """Providers by their fields; `provider_name` finds the name, the shown name or the slug."""

    provider_name = django_filters.CharFilter(method="by_name")

    class Meta:
        model = LLMProvider
        fields: ClassVar[Any] = [
            "slug",
            "name",
            "dialect",
            "is_active",
            "is_byok_supported",
            "is_system_provider",
            "min_tier_required",
            "health_status",
            "supports_streaming",
            "supports_function_calling",
            "supports_vision",
        ]

    def by_name(self, rows: QuerySet[LLMProvider], name: str, value: str) -> QuerySet[LLMProvider]:
        return rows.filter(Q(name__iexact=value) | Q(display_name__iexact=value) | Q(slug__iexact=value))


class ModelFilter(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    """Models by their fields; `provider` is a slug or UUID, `provider_name` its name."""

    provider = django_filters.CharFilter(method="by_provider")
    provider_name = django_filters.CharFilter(method="by_provider_name")
    min_context_window = django_filters.NumberFilter(method="by_context_window", min_value=0, max_value=2**31 - 1)

    class Meta:
        model = LLMModel
        fields: ClassVar[Any] = [
            "model_id",
            "kind",
            "family",
            "power_level",
            "speed_tier",
            "quality_tier",
            "size_category",
            "min_tier_required",
            "is_active",
            "is_deprecated",
            "is_reasoning",
            "supports_streaming",
            "supports_function_calling",
            "supports_vision",
            "supports_json_mode",
        ]

    def by_provider(self, rows: QuerySet[LLMModel], name: str, value: str) -> QuerySet[LLMModel]:
        return rows.filter(_same_provider("provider", value))

    def by_provider_name(self, rows: QuerySet[LLMModel], name: str, value: str) -> QuerySet[LLMModel]:
        return rows.filter(
            Q(provider__name__iexact=value) | Q(provider__display_name__iexact=value) | Q(provider__slug__iexact=value)
        )

    def by_context_window(self, rows: QuerySet[LLMModel], name: str, value: Any) -> QuerySet[LLMModel]:
        return rows.filter(context_window__gte=int(value))


class RuleFilter(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    """Rules by what they catch and whom they choose."""

    provider = django_filters.CharFilter(method="by_provider")
    model = django_filters.CharFilter(method="by_model")

    class Meta:
        model = LLMRoutingRule
        fields: ClassVar[Any] = ["power_level", "user_tier", "task_type", "is_active", "is_fallback", "requires_byok"]

    def by_provider(self, rows: QuerySet[LLMRoutingRule], name: str, value: str) -> QuerySet[LLMRoutingRule]:
        return rows.filter(_same_provider("model__provider", value))

    def by_model(self, rows: QuerySet[LLMRoutingRule], name: str, value: str) -> QuerySet[LLMRoutingRule]:
        return rows.filter(_same_model(value))


class ProposalFilter(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    """Proposed prices by state, where they came from, the provider (slug or id) or model they are for, and the tenant
    (slug) whose own price it is."""

    provider = django_filters.CharFilter(method="by_provider")
    model = django_filters.CharFilter(method="by_model")
    tenant = django_filters.CharFilter(field_name="tenant__slug")

    class Meta:
        model = PriceProposal
        fields: ClassVar[Any] = ["state", "source", "is_informational", "batch"]

    def by_provider(self, rows: QuerySet[PriceProposal], name: str, value: str) -> QuerySet[PriceProposal]:
        return rows.filter(_same_provider("model__provider", value))

    def by_model(self, rows: QuerySet[PriceProposal], name: str, value: str) -> QuerySet[PriceProposal]:
        return rows.filter(_same_model(value))


class CorrectionFilter(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    """Correction runs by state and model (id or `provider/model_id`)."""

    model = django_filters.CharFilter(method="by_model")

    class Meta:
        model = CorrectionRun
        fields: ClassVar[Any] = ["state"]

    def by_model(self, rows: QuerySet[CorrectionRun], name: str, value: str) -> QuerySet[CorrectionRun]:
        slug, _, model_name = value.partition("/")
        identity = _uuid(value)
        called = Q(provider_slug=slug, model_name=model_name)
        return rows.filter(called if identity is None else Q(model_id=identity))


class OwnKeyFilter(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    """Own provider keys by provider (slug or id), name and state."""

    provider = django_filters.CharFilter(method="by_provider")
    name = django_filters.CharFilter(field_name="key_name")

    class Meta:
        model = ProviderCredential
        fields: ClassVar[Any] = ["is_active", "is_validated"]

    def by_provider(self, rows: QuerySet[ProviderCredential], name: str, value: str) -> QuerySet[ProviderCredential]:
        return rows.filter(_same_provider("provider", value))


def _same_provider(path: str, value: str) -> Q:
    identity = _uuid(value)
    return Q(**{f"{path}__slug": value}) if identity is None else Q(**{f"{path}_id": identity})


def _same_model(value: str) -> Q:
    slug, _, model_id = value.partition("/")
    identity = _uuid(value)
    return Q(model__provider__slug=slug, model__model_id=model_id) if identity is None else Q(model_id=identity)


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


# What a list of models may be searched and sorted by, for tenants and staff alike.
MODEL_SEARCH = ["model_id", "name", "display_name", "family", "provider__slug", "provider__name"]
MODEL_ORDERING = [
    "model_id",
    "name",
    "display_name",
    "context_window",
    "max_output_tokens",
    "power_level",
    "power_level_priority",
    "created_at",
    "number",
    "provider__slug",
]
