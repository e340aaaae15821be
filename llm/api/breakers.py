"""The breakers for staff: which providers, models and keys are left alone for now, and an end to that."""

import uuid
from contextlib import suppress
from typing import Any, ClassVar

import django_filters
from django.db.models import Q, QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from llm import breakers
from llm.choices import BreakerState
from llm.models import LLMBreaker
from tenants import scoping
from tenants.api.audited import StaffView, actor_of


class BreakerSerializer(serializers.ModelSerializer[LLMBreaker]):
    """A breaker that is open, or was."""

    state = serializers.SerializerMethodField(help_text="Now. Half-open: the next request tries, and decides.")

    class Meta:
        model = LLMBreaker
        fields: ClassVar[Any] = [
            "id",
            "kind",
            "what",
            "state",
            "opened_at",
            "until",
            "failures",
            "openings",
            "reason",
            "probe_until",
            "updated_at",
        ]
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=BreakerState.choices))
    def get_state(self, row: LLMBreaker) -> str:
        return row.state_at(timezone.now()).value


class BreakerFilter(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    """Breakers by kind, and by what they are now."""

    state = django_filters.ChoiceFilter(choices=BreakerState.choices, method="by_state")

    class Meta:
        model = LLMBreaker
        fields: ClassVar[Any] = ["kind"]

    def by_state(self, rows: QuerySet[LLMBreaker], name: str, value: str) -> QuerySet[LLMBreaker]:
        if value == BreakerState.CLOSED:
            return rows.filter(state=value)
        due = Q(until__lte=timezone.now())
        return rows.exclude(state=BreakerState.CLOSED).filter(due if value == BreakerState.HALF_OPEN else ~due)


class BreakerViewSet(StaffView, mixins.ListModelMixin, viewsets.GenericViewSet[LLMBreaker]):
    """Breakers, the last changed first."""

    staff_permission = "llm.view_llmprovider"
    serializer_class = BreakerSerializer
    queryset = LLMBreaker.objects.order_by("-updated_at", "key")
    filterset_class = BreakerFilter
    search_fields: ClassVar[Any] = ["what", "reason"]
    ordering_fields: ClassVar[Any] = ["kind", "what", "opened_at", "until", "updated_at"]

    @extend_schema(request=None, responses=BreakerSerializer)
    def reset(self, request: Request, breaker: str) -> Response:
        """Close it now, in every process within a second. If its provider still fails it opens again."""
        found: LLMBreaker | None = None
        with suppress(ValueError):
            found = self.get_queryset().filter(pk=uuid.UUID(breaker)).first()
        if found is None:
            raise scoping.missing(LLMBreaker)
        closed = breakers.reset(row=found, actor=actor_of(request), now=timezone.now())
        return Response(self.get_serializer(closed).data)
