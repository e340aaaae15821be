"""What tenants see of the catalog, and their configs."""

import uuid
from typing import Any, ClassVar

from django.db.models import Count, Q, QuerySet
from django.utils import timezone
from rest_framework import mixins, viewsets
from rest_framework.serializers import BaseSerializer

from llm import configs
from llm.api import filters, routing_serializers, serializers
from llm.catalog import prices, references
from llm.models import LLMConfig, LLMModel, LLMProvider
from tenants import scoping
from tenants.api.audited import TenantView, actor_of, caller_of


class ProviderViewSet(
    TenantView, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[LLMProvider]
):
    """The providers in service."""

    scope = ""
    serializer_class = serializers.PublicProviderSerializer
    queryset = (
        LLMProvider.objects.filter(is_active=True)
        .annotate(model_count=Count("models", filter=Q(models__is_active=True)))
        .order_by("slug")
    )
    filterset_class = filters.ProviderFilter
    search_fields: ClassVar[Any] = ["slug", "name", "display_name", "description"]
    ordering_fields: ClassVar[Any] = ["slug", "name", "display_name", "number", "health_status", "model_count"]

    def get_object(self) -> LLMProvider:
        found = self.get_queryset().filter(pk=references.provider(self.kwargs["provider"]).pk).first()
        if found is None:
            raise scoping.missing(LLMProvider)
        return found


class ModelViewSet(TenantView, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[LLMModel]):
    """The models in service, whether this key may call them or not."""

    scope = ""
    serializer_class = serializers.PublicModelSerializer
    queryset = prices.with_prices(
        LLMModel.objects.filter(is_active=True, provider__is_active=True).select_related(
            "provider", "replacement_model__provider"
        )
    )
    filterset_class = filters.ModelFilter
    search_fields: ClassVar[Any] = filters.MODEL_SEARCH
    ordering_fields: ClassVar[Any] = filters.MODEL_ORDERING

    def get_object(self) -> LLMModel:
        found = self.get_queryset().filter(pk=references.model(self.kwargs["model"]).pk).first()
        if found is None:
            raise scoping.missing(LLMModel)
        return found


class ConfigViewSet(TenantView, viewsets.ModelViewSet[LLMConfig]):
    """The tenant's configs."""

    scope = "configs"
    serializer_class = routing_serializers.ConfigSerializer
    queryset = LLMConfig.objects.none()
    filterset_fields: ClassVar[Any] = ["name", "is_tenant_default"]
    search_fields: ClassVar[Any] = ["name"]
    ordering_fields: ClassVar[Any] = ["name", "created_at", "updated_at"]

    def get_queryset(self) -> QuerySet[LLMConfig]:
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        related = ("primary_model__provider", "fallback_model__provider", "credential__provider", "tenant")
        return scoping.rows(LLMConfig, tenant_id=self._tenant_id()).select_related(*related)

    def get_object(self) -> LLMConfig:
        try:
            identity = uuid.UUID(self.kwargs["config"])
        except ValueError as error:
            raise scoping.missing(LLMConfig) from error
        found = self.get_queryset().filter(pk=identity).first()
        if found is None:
            raise scoping.missing(LLMConfig)
        return found

    def perform_create(self, serializer: BaseSerializer[LLMConfig]) -> None:
        values, key = self._asked(serializer)
        serializer.instance = configs.create(
            tenant_id=self._tenant_id(), values=values, key=key, actor=actor_of(self.request), now=timezone.now()
        )

    def perform_update(self, serializer: BaseSerializer[LLMConfig]) -> None:
        values, key = self._asked(serializer)
        config = self.get_object()
        serializer.instance = configs.update(
            config=config, values=values, key=key, actor=actor_of(self.request), now=timezone.now()
        )

    def perform_destroy(self, instance: LLMConfig) -> None:
        configs.delete(config=instance, actor=actor_of(self.request), now=timezone.now())

    def _tenant_id(self) -> uuid.UUID:
        tenant_id = caller_of(self.request).tenant_id
        if tenant_id is None:
            raise scoping.missing(LLMConfig)
        return tenant_id

    def _asked(self, serializer: Any) -> tuple[dict[str, Any], configs.KeyChange | None]:
        owner = caller_of(self.request).owner
        asked: tuple[dict[str, Any], configs.KeyChange | None] = serializer.split(
            owner_id=None if owner is None else owner.pk
        )
        return asked
