"""A tenant's own keys to Tollgate and its members, managed by itself. It cannot set limits, only hand on its rights."""

import uuid
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from tenants import members, scoping, standing
from tenants.api import serializers
from tenants.api.audited import TenantView, actor_of, caller_of
from tenants.api.views import id_of
from tenants.errors import PermissionDenied
from tenants.models import ApiKey, Membership, Tenant


def tenant_id_of(request: Request) -> uuid.UUID:
    """The calling key's tenant. `HasScope` has let in no other kind of key."""
    tenant_id = caller_of(request).tenant_id
    if tenant_id is None:
        raise scoping.missing(Tenant)
    return tenant_id


class OwnKeyViewSet(TenantView, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[ApiKey]):
    """The tenant's keys to Tollgate."""

    scope = "manage"
    serializer_class = serializers.KeySerializer
    queryset = ApiKey.objects.none()
    filterset_fields: ClassVar[Any] = ["name"]
    search_fields: ClassVar[Any] = ["name", "last_four"]
    ordering_fields: ClassVar[Any] = ["name", "created_at", "last_used_at", "expires_at"]

    def get_queryset(self) -> QuerySet[ApiKey]:
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        return scoping.rows(ApiKey, tenant_id=tenant_id_of(self.request)).select_related("owner")

    def get_object(self) -> ApiKey:
        return scoping.one(ApiKey, tenant_id=tenant_id_of(self.request), pk=id_of(self.kwargs["key"], ApiKey))

    @extend_schema(request=serializers.OwnKeySpecSerializer, responses={201: serializers.IssuedKeySerializer})
    def create(self, request: Request) -> Response:
        """Make a key. The answer is the only time it is shown."""
        tenant = Tenant.objects.get(pk=tenant_id_of(request))
        context = {"tenant_id": tenant.pk, "caller": caller_of(request)}
        given = serializers.OwnKeySpecSerializer(data=request.data, context=context)
        given.is_valid(raise_exception=True)
        key, secret = standing.issue_key(tenant=tenant, spec=given.spec(), actor=actor_of(request), now=timezone.now())
        return Response({"id": str(key.pk), "key": secret}, status=201)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, key: str) -> Response:
        """Revoke the key: refused within a second."""
        standing.revoke_key(key=self.get_object(), actor=actor_of(request), now=timezone.now())
        return Response(status=204)

    @extend_schema(request=serializers.RotateKeySerializer, responses={201: serializers.IssuedKeySerializer})
    def rotate(self, request: Request, key: str) -> Response:
        """A successor with the same rights, shown this once; the old key goes on for `overlap_hours`."""
        row, caller = self.get_object(), caller_of(request)
        given = serializers.RotateKeySerializer(data=request.data or {})
        given.is_valid(raise_exception=True)
        if not (caller.scopes >= set(row.scopes) and serializers.within(row.allowed_models, caller.allowed_models)):
            raise PermissionDenied("This key may do more than the calling one, which would learn its successor.")
        overlap = given.validated_data["overlap_hours"]
        new, secret = standing.rotate_key(key=row, overlap=overlap, actor=actor_of(request), now=timezone.now())
        return Response({"id": str(new.pk), "key": secret}, status=201)


class MemberViewSet(TenantView, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Membership]):
    """The people of the tenant. The last owner stays one."""

    scope = "manage"
    serializer_class = serializers.MemberSerializer
    queryset = Membership.objects.none()
    filterset_fields: ClassVar[Any] = ["role"]
    search_fields: ClassVar[Any] = ["user__username", "user__email"]
    ordering_fields: ClassVar[Any] = ["user__username", "role", "created_at"]

    def get_queryset(self) -> QuerySet[Membership]:
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        mine = scoping.rows(Membership, tenant_id=tenant_id_of(self.request))
        return mine.select_related("user").order_by("user__username")

    def get_object(self) -> Membership:
        found = self.get_queryset().filter(pk=id_of(self.kwargs["member"], Membership)).first()
        if found is None:
            raise scoping.missing(Membership)
        return found

    def create(self, request: Request) -> Response:
        """Add a user by name; one that there is not yet is made, without a password."""
        given = serializers.MemberSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        tenant = Tenant.objects.get(pk=tenant_id_of(request))
        added = members.add(tenant=tenant, member=given.new_member(), actor=actor_of(request), now=timezone.now())
        return Response(self.get_serializer(added).data, status=201)

    @extend_schema(request=serializers.RoleSerializer, responses=serializers.MemberSerializer)
    def partial_update(self, request: Request, member: str) -> Response:
        """Change the role."""
        row = self.get_object()
        given = serializers.RoleSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        role = given.validated_data["role"]
        changed = members.change_role(membership=row, role=role, actor=actor_of(request), now=timezone.now())
        return Response(self.get_serializer(changed).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, member: str) -> Response:
        """End the membership. Keys made for the member go on working until they are revoked."""
        members.remove(membership=self.get_object(), actor=actor_of(request), now=timezone.now())
        return Response(status=204)
