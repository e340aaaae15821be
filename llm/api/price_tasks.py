"""The price queue and the price policy for staff: who looks after which price, and which proposals need nobody."""

import uuid
from contextlib import suppress
from typing import Any, ClassVar

import django_filters
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, viewsets
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from llm.api.price_views import APPROVE
from llm.catalog import price_sync, price_tasks
from llm.choices import PriceTaskState
from llm.models import PriceTask
from tenants import scoping
from tenants.api.audited import StaffView, actor_of, caller_of
from tenants.api.fields import Choice, Percent, StrictSerializer, Text, Whole
from tenants.errors import InvalidValue

ME, NOBODY = "me", "nobody"


def _person(name: str | None, request: Request, param: str) -> Any:
    """The staff member of that name (`me`: who asks), or None for none. Raises InvalidValue naming `param`."""
    if name is None:
        return None
    if name == ME:
        return caller_of(request).owner
    found = get_user_model().objects.filter(username=name, is_staff=True, is_active=True).first()
    if found is None:
        raise InvalidValue("There is no such staff member.", param=param)
    return found


class PolicySerializer(StrictSerializer):
    """How prices are watched over. A band that is null is off: then every rise, or every fall, waits for a person."""

    auto_approve_up_percent = Percent(
        max_value=400, allow_null=True, help_text="What the feed proposes is approved if no meter rises by more."
    )
    auto_approve_down_percent = Percent(
        max_value=400, allow_null=True, help_text="What the feed proposes is approved if no meter falls by more."
    )
    stale_after_days = Whole(
        min_value=1, max_value=32_767, help_text="A price that nobody confirmed for so many days joins the price queue."
    )
    task_owner = Text(
        max_length=150,
        allow_null=True,
        help_text="Who looks after what joins the price queue: `me`, a user name of staff, or null for nobody.",
    )
    updated_at = serializers.DateTimeField(read_only=True, allow_null=True)

    def validate(self, attrs: Any) -> Any:
        """To the hundredth of a percent, as it is kept."""
        for name in ("auto_approve_up_percent", "auto_approve_down_percent"):
            if attrs.get(name) is not None and attrs[name] != round(attrs[name], 2):
                raise serializers.ValidationError({name: "Not more than 2 decimal places."})
        return attrs


class PricePolicyView(StaffView):
    """One row. Changing it needs the right to approve prices too: it decides which need nobody."""

    staff_permission = "llm.{verb}_pricepolicy"

    @extend_schema(operation_id="admin_llm_price_policy_retrieve", responses=PolicySerializer)
    def get(self, request: Request) -> Response:
        """The policy in force."""
        return Response(PolicySerializer(price_sync.policy()).data)

    @extend_schema(
        operation_id="admin_llm_price_policy_partial_update", request=PolicySerializer, responses=PolicySerializer
    )
    def patch(self, request: Request) -> Response:
        """Some or all of it. Proposals that wait already are looked at again by the next run of the feed."""
        if not caller_of(request).owner.has_perm(APPROVE):
            raise PermissionDenied("The owner of this staff key may not approve prices.")
        given = PolicySerializer(data=request.data, partial=True)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        if "task_owner" in values:
            values["task_owner"] = _person(values["task_owner"], request, "task_owner")
        row = price_tasks.change_policy(values=values, actor=actor_of(request), now=timezone.now())
        return Response(PolicySerializer(row).data)


class TaskSerializer(serializers.ModelSerializer[PriceTask]):
    """A model whose price somebody should look after."""

    model = serializers.CharField(source="model.reference")
    assignee = serializers.CharField(source="assignee.username", allow_null=True, default=None)

    class Meta:
        model = PriceTask
        fields: ClassVar[Any] = [
            *("id", "kind", "model", "model_id", "state", "assignee", "note", "requests"),
            *("opened_at", "seen_at", "updated_at"),
        ]
        read_only_fields: ClassVar[Any] = fields


class TaskChangeSerializer(StrictSerializer):
    """Who looks after it, how far it is, what was found out."""

    assignee = Text(
        max_length=150,
        allow_null=True,
        required=False,
        help_text="`me`, a user name of staff, or null for nobody.",
    )
    state = Choice(choices=PriceTaskState.choices, required=False)
    note = Text(max_length=10_000, allow_blank=True, required=False)

    def change(self, request: Request) -> dict[str, Any]:
        """The columns to write. Raises InvalidValue for an owner who is no staff member."""
        values = dict(self.validated_data)
        if "assignee" in values:
            values["assignee"] = _person(values["assignee"], request, "assignee")
            if values["assignee"] is not None:
                values.setdefault("state", PriceTaskState.IN_PROGRESS)
        return values


class TaskFilter(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    """Tasks by state, kind and owner (`me`, `nobody` or a user name)."""

    assignee = django_filters.CharFilter(method="by_owner")

    class Meta:
        model = PriceTask
        fields: ClassVar[Any] = ["state", "kind"]

    def by_owner(self, rows: QuerySet[PriceTask], name: str, value: str) -> QuerySet[PriceTask]:
        if value == NOBODY:
            return rows.filter(assignee__isnull=True)
        if value == ME:
            return rows.filter(assignee=caller_of(self.request).owner)
        return rows.filter(assignee__username=value)


class TaskViewSet(StaffView, mixins.ListModelMixin, viewsets.GenericViewSet[PriceTask]):
    """The price queue: models used but unpriced, and prices nobody confirmed for long; those most asked for first."""

    staff_permission = "llm.{verb}_pricetask"
    serializer_class = TaskSerializer
    queryset = PriceTask.objects.select_related("model__provider", "assignee")
    filterset_class = TaskFilter
    search_fields: ClassVar[Any] = ["model__model_id", "model__name", "model__provider__slug", "note"]
    ordering_fields: ClassVar[Any] = ["requests", "opened_at", "seen_at", "updated_at"]
    ordering: ClassVar[Any] = ["-requests", "opened_at", "id"]

    @extend_schema(operation_id="admin_llm_price_tasks_retrieve")
    def retrieve(self, request: Request, task: str) -> Response:
        return Response(self.get_serializer(self._one(task)).data)

    @extend_schema(request=TaskChangeSerializer)
    def partial_update(self, request: Request, task: str) -> Response:
        """Take it, give it to somebody, note what was found out, close it. One that is given to somebody is in progress
        unless `state` says otherwise. What is done by hand and still so comes again as a new task."""
        row = self._one(task)
        given = TaskChangeSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        price_tasks.change(task=row, values=given.change(request), actor=actor_of(request), now=timezone.now())
        return Response(self.get_serializer(self._one(task)).data)

    @extend_schema(request=None)
    def confirm(self, request: Request, task: str) -> Response:
        """The price in force is still right: it counts as confirmed now, and the task is done."""
        row, person = self._one(task), caller_of(request).owner.get_username()
        price_tasks.confirm(task=row, person=person, actor=actor_of(request), now=timezone.now())
        return Response(self.get_serializer(self._one(task)).data)

    def _one(self, reference: str) -> PriceTask:
        found: PriceTask | None = None
        with suppress(ValueError):
            found = self.get_queryset().filter(pk=uuid.UUID(reference.removesuffix("/"))).first()
        if found is None:
            raise scoping.missing(PriceTask)
        return found
