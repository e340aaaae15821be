"""The catalog for staff: providers and their keys, models and their prices, rules, power levels."""

import uuid
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

from django.db.models import Count, Q, QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, viewsets
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from llm.api import filters, routing_serializers, serializers
from llm.api.price_views import APPROVE, who
from llm.catalog import credentials, lifecycle, model_import, prices, probes, references, validation
from llm.choices import HealthStatus, PowerLevel
from llm.models import (
    LLMModel,
    LLMProvider,
    LLMRoutingRule,
    PowerLevelPolicy,
    ProviderCredential,
    ProviderHealthCheck,
)
from tenants import scoping
from tenants.api.audited import AuditedMixin, StaffView, actor_of, caller_of
from tenants.errors import NotFound, PermissionDenied

_SHOWN_CHECKS = 20


class AdminProviderViewSet(StaffView, AuditedMixin, viewsets.ModelViewSet[LLMProvider]):
    """Providers."""

    staff_permission = "llm.{verb}_llmprovider"
    serializer_class = serializers.ProviderSerializer
    queryset = LLMProvider.objects.annotate(
        model_count=Count("models", distinct=True),
        platform_keys=Count(
            "credentials", filter=Q(credentials__tenant__isnull=True, credentials__is_active=True), distinct=True
        ),
    ).order_by("slug")
    filterset_class = filters.ProviderFilter
    search_fields: ClassVar[Any] = ["slug", "name", "display_name", "description", "base_url"]
    ordering_fields: ClassVar[Any] = [
        "slug",
        "name",
        "display_name",
        "number",
        "health_status",
        "model_count",
        "created_at",
    ]

    def get_object(self) -> LLMProvider:
        found: LLMProvider = self.get_queryset().get(pk=references.provider(self.kwargs["provider"]).pk)
        return found

    def perform_create(self, serializer: BaseSerializer[LLMProvider]) -> None:
        super().perform_create(serializer)
        serializer.instance = self.get_queryset().get(pk=serializer.instance.pk)  # type: ignore[union-attr]

    def perform_destroy(self, instance: Any) -> None:
        if instance.is_system_provider:
            raise PermissionDenied(
                "A system provider cannot be deleted. Set is_active to false to stop using it.",
                code="system_provider",
            )
        super().perform_destroy(instance)

    @extend_schema(responses=routing_serializers.HealthSerializer)
    def health(self, request: Request, provider: str) -> Response:
        """What the last probes found. `POST .../test` makes a new one."""
        row = references.provider(provider)
        checks = list(ProviderHealthCheck.objects.filter(provider=row).order_by("-id")[:_SHOWN_CHECKS])
        last = checks[0] if checks else None
        answer = {
            "provider": row.slug,
            "status": row.health_status,
            "checked_at": row.health_checked_at,
            "response_time_ms": row.health_response_time_ms,
            "status_code": None if last is None else last.status_code,
            "error": "" if last is None else last.error,
            "message": probes.in_words(last),
            "checks": checks,
        }
        return Response(routing_serializers.HealthSerializer(answer).data)

    @extend_schema(request=None, responses=routing_serializers.TestResultSerializer)
    def test(self, request: Request, provider: str) -> Response:
        """Probe the provider now, with the platform's key: it asks for its list of models, which costs nothing."""
        row = references.provider(provider)
        check = probes.probe(provider=row, now=timezone.now())
        ok = check.status == HealthStatus.HEALTHY
        answer = {
            "ok": ok,
            "status": check.status,
            "message": probes.in_words(check),
            "response_time_ms": check.response_time_ms,
            "status_code": check.status_code,
            "checked_at": check.checked_at,
        }
        return Response(routing_serializers.TestResultSerializer(answer).data)

    @extend_schema(request=routing_serializers.ImportSerializer, responses=routing_serializers.ImportReportSerializer)
    def import_models(self, request: Request, provider: str) -> Response:
        """Make the models of the provider's own list that are missing. Those that are there stay as they are. More than
        one price that is copied is a change in bulk: they wait for a second person, and the message says so."""
        row = references.provider(provider)
        given = routing_serializers.ImportSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        person = caller_of(request).owner
        wish = model_import.Wish(
            **given.validated_data,
            may_price=person.has_perm("llm.add_priceversion"),
            second_person=not person.has_perm(APPROVE),
            person_id=person.pk,
        )
        report = model_import.import_models(provider=row, wish=wish, actor=actor_of(request), now=timezone.now())
        answer = {
            "dry_run": wish.dry_run,
            "message": model_import.in_words(report, provider=row, wish=wish),
            "created": [one.model_id for one in report.created],
            "known": report.known,
            "skipped": [{"model_id": one.model_id, "why": one.unusable} for one in report.skipped],
            "priced": [{"model_id": one.model_id, "copied_from": one.price.source} for one in report.priced],
            "unpriced": [{"model_id": one.model_id, "why": one.price.why_not} for one in report.unpriced],
        }
        return Response(routing_serializers.ImportReportSerializer(answer).data)


class CredentialViewSet(StaffView, mixins.ListModelMixin, viewsets.GenericViewSet[ProviderCredential]):
    """The platform's keys for a provider. They go in and never come out."""

    staff_permission = "llm.{verb}_providercredential"
    serializer_class = routing_serializers.CredentialSerializer
    queryset = ProviderCredential.objects.none()
    filterset_fields: ClassVar[Any] = ["is_active"]
    ordering_fields: ClassVar[Any] = ["key_name", "weight", "created_at"]

    def get_queryset(self) -> QuerySet[ProviderCredential]:
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        provider = references.provider(self.kwargs["provider"])
        mine = ProviderCredential.objects.filter(provider=provider, tenant__isnull=True).select_related("provider")
        return credentials.with_last_use(mine)

    @extend_schema(
        request=routing_serializers.NewCredentialSerializer, responses={201: routing_serializers.CredentialSerializer}
    )
    def create(self, request: Request, provider: str) -> Response:
        """Store a platform key, and ask the provider whether it takes it."""
        row = references.provider(provider)
        given = routing_serializers.NewCredentialSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        now = timezone.now()
        added = credentials.add(
            provider=row,
            key=credentials.NewKey(**given.validated_data, owner_id=caller_of(request).owner.pk),
            actor=actor_of(request),
            now=now,
        )
        validated = validation.validate(credential=added, actor=actor_of(request), now=now)
        return Response(self.get_serializer(validated).data, status=201)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, provider: str, credential: str) -> Response:
        """Forget a key. Requests under way with it finish."""
        try:
            found = self.get_queryset().filter(pk=uuid.UUID(credential)).first()
        except ValueError:
            found = None
        if found is None:
            raise scoping.missing(ProviderCredential)
        credentials.remove(credential=found, actor=actor_of(request), now=timezone.now())
        return Response(status=204)


class AdminModelViewSet(StaffView, AuditedMixin, viewsets.ModelViewSet[LLMModel]):
    """Models."""

    staff_permission = "llm.{verb}_llmmodel"
    serializer_class = serializers.ModelSerializer
    queryset = prices.with_prices(LLMModel.objects.select_related("provider", "replacement_model__provider"))
    filterset_class = filters.ModelFilter
    search_fields: ClassVar[Any] = filters.MODEL_SEARCH
    ordering_fields: ClassVar[Any] = filters.MODEL_ORDERING

    def get_object(self) -> LLMModel:
        found: LLMModel = self.get_queryset().get(pk=references.model(self.kwargs["model"]).pk)
        return found

    def perform_create(self, serializer: BaseSerializer[LLMModel]) -> None:
        price = serializer.first_price()  # type: ignore[attr-defined]
        if price is not None:
            _require(self.request, "llm.add_priceversion")
            price = replace(price, **who(self.request))
        added = lifecycle.add(
            values=serializer.validated_data, price=price, actor=actor_of(self.request), now=timezone.now()
        )
        serializer.instance = self.get_queryset().get(pk=added.pk)

    def perform_update(self, serializer: BaseSerializer[LLMModel]) -> None:
        super().perform_update(serializer)
        serializer.instance = self.get_queryset().get(pk=serializer.instance.pk)  # type: ignore[union-attr]

    @extend_schema(request=serializers.DeprecationSerializer, responses=serializers.ModelSerializer)
    def deprecate(self, request: Request, model: str) -> Response:
        """Say that a model is going away, and what answers in its place."""
        row = self.get_object()
        given = serializers.DeprecationSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        lifecycle.deprecate(model=row, **given.validated_data, actor=actor_of(request), now=timezone.now())
        return Response(self.get_serializer(self.get_object()).data)


class ModelsByPowerView(StaffView, mixins.ListModelMixin, GenericAPIView[LLMModel]):
    """The active models of a power level, in the order they are tried."""

    staff_permission = "llm.{verb}_llmmodel"
    serializer_class = serializers.ModelSerializer
    queryset = AdminModelViewSet.queryset
    filterset_class = filters.ModelFilter
    search_fields = AdminModelViewSet.search_fields
    ordering_fields = AdminModelViewSet.ordering_fields
    ordering: ClassVar[Any] = ["power_level_priority", "provider__slug", "model_id"]

    def get_queryset(self) -> QuerySet[LLMModel]:
        rows = super().get_queryset()
        if getattr(self, "swagger_fake_view", False):
            return rows
        level = self.kwargs["level"]
        if level not in PowerLevel.values:
            raise NotFound(f"There is no such power level. They are: {', '.join(PowerLevel.values)}.")
        return rows.filter(power_level=level, is_active=True)

    @extend_schema(operation_id="admin_llm_models_by_power_list")
    def get(self, request: Request, level: str) -> Response:
        return self.list(request)


class RuleViewSet(StaffView, AuditedMixin, viewsets.ModelViewSet[LLMRoutingRule]):
    """Routing rules."""

    staff_permission = "llm.{verb}_llmroutingrule"
    serializer_class = routing_serializers.RuleSerializer
    queryset = LLMRoutingRule.objects.select_related("model__provider").order_by("power_level", "priority", "id")
    filterset_class = filters.RuleFilter
    search_fields: ClassVar[Any] = ["model__model_id", "model__name", "model__provider__slug"]
    ordering_fields: ClassVar[Any] = ["power_level", "user_tier", "task_type", "priority", "weight", "created_at"]

    def get_object(self) -> LLMRoutingRule:
        found: LLMRoutingRule | None = None
        with suppress(ValueError):
            found = self.get_queryset().filter(pk=uuid.UUID(self.kwargs["rule"])).first()
        if found is None:
            raise scoping.missing(LLMRoutingRule)
        return found


class PowerLevelViewSet(
    StaffView,
    AuditedMixin,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.UpdateModelMixin,
    viewsets.GenericViewSet[PowerLevelPolicy],
):
    """What the three power levels promise."""

    staff_permission = "llm.{verb}_powerlevelpolicy"
    serializer_class = routing_serializers.PowerLevelSerializer
    queryset = PowerLevelPolicy.objects.order_by("max_price_per_1m_usd")

    def get_object(self) -> PowerLevelPolicy:
        level = self.kwargs["level"]
        known = level in PowerLevel.values
        found: PowerLevelPolicy | None = self.get_queryset().filter(pk=level).first() if known else None
        if found is None:
            raise NotFound(f"There is no such power level. They are: {', '.join(PowerLevel.values)}.")
        return found


def _require(request: Request, permission: str) -> None:
    """A write that touches more than its own kind of row asks for that permission too."""
    if not caller_of(request).owner.has_perm(permission):
        raise PermissionDenied("The owner of this staff key may not set prices. Leave the costs out.")
