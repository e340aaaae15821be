"""Tenants' own provider keys (BYOK) over HTTP. Translates; `llm.catalog` stores, asks providers and rotates."""

import uuid
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from billing import reports, windows
from billing.api.key_usage import KeyUsage, answer
from billing.api.serializers import SpanQuery
from billing.api.views import own_tenant
from llm.api import filters
from llm.api.byok_serializers import OwnKeySerializer, RotateOwnKeySerializer
from llm.catalog import credentials, validation
from llm.models import ProviderCredential
from tenants import scoping
from tenants.api.audited import AuditedMixin, TenantView, actor_of, caller_of
from tenants.api.views import id_of
from tenants.models import Tenant


class OwnKeyViewSet(TenantView, AuditedMixin, viewsets.ModelViewSet[ProviderCredential]):
    """The tenant's own provider keys: used before the platform's, at the vendor's bill to the tenant."""

    scope = "configs"
    serializer_class = OwnKeySerializer
    queryset = ProviderCredential.objects.none()
    filterset_class = filters.OwnKeyFilter
    search_fields: ClassVar[Any] = ["key_name", "provider__slug"]
    ordering_fields: ClassVar[Any] = ["key_name", "weight", "created_at", "last_validated_at"]

    def get_queryset(self) -> QuerySet[ProviderCredential]:
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        mine = scoping.rows(ProviderCredential, tenant_id=own_tenant(self.request))
        # Without the secrets: they are read only where one is opened.
        return credentials.with_last_use(mine).select_related("provider").defer("sealed", "previous_sealed")

    def get_object(self) -> ProviderCredential:
        try:
            identity = uuid.UUID(self.kwargs["own_key"])
        except ValueError as error:
            raise scoping.missing(ProviderCredential) from error
        found = self.get_queryset().filter(pk=identity).first()
        if found is None:
            raise scoping.missing(ProviderCredential)
        return found

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """With the totals of the keys that are to be shown."""
        shown = args[0] if args else None
        ids = [key.pk for key in ([shown] if isinstance(shown, ProviderCredential) else shown or [])]
        kwargs["context"] = {**self.get_serializer_context(), "totals": reports.of_credentials(ids) if ids else {}}
        return self.serializer_class(*args, **kwargs)

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Store a key and ask its provider about it at once; one that is refused is kept, not used, and says why."""
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        caller, now, actor = caller_of(request), timezone.now(), actor_of(request)
        asked = given.validated_data
        key = credentials.NewKey(
            name=asked["key_name"],
            api_key=asked["api_key"],
            weight=asked.get("weight", 100),
            is_active=asked.get("is_active", True),
            tenant=Tenant.objects.get(pk=own_tenant(request)),
            owner_id=None if caller.owner is None else caller.owner.pk,
        )
        added = credentials.add(provider=asked["provider"], key=key, actor=actor, now=now)
        validation.validate(credential=added, actor=actor, now=now)
        return self._shown(added.pk, status=201)

    @extend_schema(request=None, responses=OwnKeySerializer)
    def validate(self, request: Request, own_key: str) -> Response:
        """Ask the provider about the key now. `validation_error` says what is wrong, if anything."""
        row = self.get_object()
        validation.validate(credential=row, actor=actor_of(request), now=timezone.now())
        return self._shown(row.pk)

    @extend_schema(request=RotateOwnKeySerializer, responses=OwnKeySerializer)
    def rotate(self, request: Request, own_key: str) -> Response:
        """Put another secret into the key's place, once the provider has accepted it; id, configs and totals stay."""
        row = self.get_object()
        given = RotateOwnKeySerializer(data=request.data)
        given.is_valid(raise_exception=True)
        validation.rotate(
            credential=row,
            api_key=given.validated_data["api_key"],
            overlap=given.validated_data["overlap_hours"],
            actor=actor_of(request),
            now=timezone.now(),
        )
        return self._shown(row.pk)

    def perform_update(self, serializer: Any) -> None:
        super().perform_update(serializer)
        serializer.instance = self.get_queryset().get(pk=serializer.instance.pk)

    def _shown(self, pk: uuid.UUID, status: int = 200) -> Response:
        """The key as it is now."""
        row = self.get_queryset().filter(pk=pk).first()
        if row is None:
            raise scoping.missing(ProviderCredential)
        return Response(self.get_serializer(row).data, status=status)


class OwnKeyUsage(TenantView):
    """What one of the tenant's own provider keys has served: in all, by provider, model, power level and day."""

    scope = "usage:read"

    @extend_schema(operation_id="byok_key_usage", parameters=[SpanQuery], responses=KeyUsage)
    def get(self, request: Request, own_key: str) -> Response:
        tenant_id = own_tenant(request)
        row = scoping.one(ProviderCredential, tenant_id=tenant_id, pk=id_of(own_key, ProviderCredential))
        today = windows.billing_day(timezone.now(), caller_of(request).timezone)
        return answer(request, tenant_id=tenant_id, column="credential_id", key=row.pk, today=today)
