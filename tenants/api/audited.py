"""What the views of `/api/v1/` share: who acts, and writes that leave an audit row in the same transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django.db import IntegrityError, transaction
from django.db.models import Model, ProtectedError, RestrictedError
from django.utils import timezone
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from tenants import audit
from tenants.api.parsing import StrictJSONParser
from tenants.auth import Caller, HasScope, IsStaffKey
from tenants.errors import AuthenticationFailed, Conflict


def caller_of(request: Request) -> Caller:
    """The caller that the permission classes let in."""
    if not isinstance(request.auth, Caller):
        raise AuthenticationFailed
    return request.auth


def actor_of(request: Request) -> audit.Actor:
    """The caller as the audit log names it: staff by their user name, tenants by their slug."""
    caller = caller_of(request)
    who = caller.owner.get_username() if caller.is_staff else caller.tenant_slug
    return audit.Actor(
        kind="key",
        id=str(caller.key_id),
        label=f"{who} ({caller.key_name})",
        ip=request.META.get("REMOTE_ADDR") or None,
        request_id=getattr(request, "request_id", ""),
    )


class TenantView(APIView):
    """A view for tenants' keys. It names the scope it asks for; "" asks for none."""

    permission_classes = [HasScope]
    parser_classes = [StrictJSONParser]
    metadata_class = None
    scope: ClassVar[Any] = None


class StaffView(APIView):
    """A view for staff keys. `staff_permission` is a Django permission, with `{verb}` where the method decides."""

    permission_classes = [IsStaffKey]
    parser_classes = [StrictJSONParser]
    metadata_class = None
    staff_permission: str | None = None


class AuditedMixin(GenericAPIView[Any]):
    """Create, update and delete of plain rows: the change and its audit row in one transaction, duplicates a 409."""

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        with _conflicts(serializer):
            row = serializer.save()
            audit.record(actor=actor_of(self.request), action="create", row=row, before={}, now=timezone.now())

    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        if serializer.instance is None:  # an update always has a row; this tells the type checker
            return
        before = audit.state(serializer.instance)
        with _conflicts(serializer):
            row = serializer.save()
            audit.record(actor=actor_of(self.request), action="update", row=row, before=before, now=timezone.now())

    def perform_destroy(self, instance: Model) -> None:
        name = instance._meta.verbose_name
        try:
            with transaction.atomic():
                before = audit.state(instance)
                audit.record(
                    actor=actor_of(self.request), action="delete", row=instance, before=before, now=timezone.now()
                )
                instance.delete()
        except (ProtectedError, RestrictedError) as error:
            raise Conflict(f"This {name} is still in use. Delete what uses it first, or switch it off.") from error


@contextmanager
def _conflicts(serializer: BaseSerializer[Any]) -> Iterator[None]:
    """One transaction; a uniqueness the database refuses becomes a Conflict that names the kind of row."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        model: type[Model] = serializer.Meta.model  # type: ignore[attr-defined]
        raise Conflict(
            f"There is a {model._meta.verbose_name} with this name already. Choose another, or change that one."
        ) from error
