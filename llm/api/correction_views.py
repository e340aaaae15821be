"""Correction runs for staff: propose, look through, approve, reject, cancel."""

import uuid
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from llm.api.fields import ComponentsField, ModelReference
from llm.api.filters import CorrectionFilter
from llm.catalog import corrections, repricing
from llm.models import CorrectionRun
from tenants import scoping
from tenants.api.audited import StaffView, actor_of, caller_of
from tenants.api.fields import Flag, StrictSerializer, Text, Usd
from tenants.api.serializers import ReasonSerializer

_CHANGES = ("cost_usd", "billed_usd", "budget_usd")


def _usd(help_text: str) -> Usd:
    return Usd(min_value=None, read_only=True, help_text=help_text)


class CorrectionTenantSerializer(serializers.Serializer[Any]):
    """One tenant's share of a run. USD, signed: below zero it owes less."""

    tenant = serializers.CharField()
    tenant_id = serializers.UUIDField()
    requests = serializers.IntegerField()
    adjusted_requests = serializers.IntegerField(help_text="Of those: had been adjusted before.")
    cost_usd = serializers.CharField()
    billed_usd = serializers.CharField()
    budget_usd = serializers.CharField()


class CorrectionRowSerializer(serializers.ModelSerializer[CorrectionRun]):
    """A correction run: which requests, at what price, what that changes, and what became of it. USD, signed."""

    model = serializers.CharField(source="reference")
    components = serializers.SerializerMethodField(help_text="The right price.")
    cost_usd = _usd("Change of the providers' list price.")
    billed_usd = _usd("Change of what tenants owe.")
    budget_usd = _usd("Change of what counts against budgets.")
    left_alone = serializers.IntegerField(help_text="Requests that cannot be priced again: the three below.")

    class Meta:
        model = CorrectionRun
        fields: ClassVar[Any] = [
            *("id", "model", "model_id", "price_version_id", "price_version_number", "components", "reason", "state"),
            *("requests", "affected", "adjusted", "left_alone", "no_lines", "no_meter", "no_terms", *_CHANGES),
            *("reached_at", "booked", "passed_over", "booked_at", "proposer", "created_at"),
            *("decider", "decided_at", "decision_reason"),
        ]
        read_only_fields: ClassVar[Any] = fields

    def get_fields(self) -> dict[str, Any]:
        """`from` is a word of Python."""
        found: dict[str, Any] = super().get_fields()
        found["from"] = serializers.DateTimeField(source="since", read_only=True)
        found["to"] = serializers.DateTimeField(source="until", read_only=True)
        return found

    @extend_schema_field(ComponentsField)
    def get_components(self, row: CorrectionRun) -> Any:
        return ComponentsField().to_representation(repricing.components_of(row))


class CorrectionSerializer(CorrectionRowSerializer):
    """The same with each tenant's share, those that get most back first."""

    tenants = CorrectionTenantSerializer(many=True)

    class Meta(CorrectionRowSerializer.Meta):
        fields: ClassVar[Any] = [*CorrectionRowSerializer.Meta.fields, "tenants"]
        read_only_fields: ClassVar[Any] = fields


class NewCorrectionSerializer(StrictSerializer):
    """The right price, and which requests it is for: those accepted `from`...`to` (left out: now), all or those priced
    with one version of the price, whose span is then meant where none is given."""

    model = ModelReference()
    price_version_id = serializers.UUIDField(required=False, allow_null=True, default=None)
    since = serializers.DateTimeField(required=False, allow_null=True, default=None)
    until = serializers.DateTimeField(required=False, allow_null=True, default=None)
    components = ComponentsField()
    reason = Text(max_length=1000, help_text="Why; the tenants read it with each adjustment.")
    confirm = Flag(required=False, default=False)

    def get_fields(self) -> dict[str, Any]:
        """`from` is a word of Python."""
        found: dict[str, Any] = super().get_fields()
        for name, given in (("from", "since"), ("to", "until")):
            found[name] = found.pop(given)
        return found

    def wish(self, person_id: int) -> corrections.Wish:
        """What was asked for, once it is valid, and by whom."""
        values = dict(self.validated_data)
        return corrections.Wish(
            components=values["components"],
            reason=values["reason"],
            since=values["from"],
            until=values["to"],
            version_id=values["price_version_id"],
            confirm=values["confirm"],
            person_id=person_id,
        )


class CorrectionDecisionSerializer(StrictSerializer):
    """Why."""

    reason = Text(max_length=2000)


class CorrectionViewSet(StaffView, mixins.ListModelMixin, viewsets.GenericViewSet[CorrectionRun]):
    """Correction runs, newest first. They propose; a second person decides, and then adjustments are booked."""

    staff_permission = "llm.{verb}_correctionrun"
    serializer_class: Any = CorrectionRowSerializer
    queryset = CorrectionRun.objects.all()
    filterset_class = CorrectionFilter
    search_fields: ClassVar[Any] = ["model_name", "provider_slug", "proposer", "reason"]
    ordering_fields: ClassVar[Any] = ["created_at", "decided_at", "affected", "billed_usd"]
    ordering: ClassVar[Any] = ["-id"]

    def get_queryset(self) -> QuerySet[CorrectionRun]:
        return super().get_queryset().defer("tenants")

    @extend_schema(request=NewCorrectionSerializer, responses={201: CorrectionSerializer})
    def create(self, request: Request) -> Response:
        """Work out what the right price would have come to. More than 2,000 requests are left to a job; the state is
        `working` until then. Nothing is booked before it is approved."""
        given = NewCorrectionSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        run = corrections.propose(
            model=given.validated_data["model"],
            wish=given.wish(caller_of(request).owner.pk),
            actor=actor_of(request),
            now=timezone.now(),
        )
        return Response(CorrectionSerializer(run).data, status=201)

    @extend_schema(operation_id="admin_llm_corrections_retrieve", responses=CorrectionSerializer)
    def retrieve(self, request: Request, correction: str) -> Response:
        """One run, with each tenant's share."""
        return _shown(_one(correction))

    @extend_schema(request=CorrectionDecisionSerializer, responses=CorrectionSerializer)
    def approve(self, request: Request, correction: str) -> Response:
        """Book it: an adjustment for each request, in the ledger, those of tenants that were refused for money first.
        More than 2,000 are left to a worker, which goes on at once; the state is `approved` until all are booked. 409
        `correction_base_changed`: work it out again first."""
        return self._decided(request, corrections.approve, correction)

    @extend_schema(request=CorrectionDecisionSerializer, responses=CorrectionSerializer)
    def reject(self, request: Request, correction: str) -> Response:
        """Nothing is booked. The proposer cannot reject, but cancel."""
        return self._decided(request, corrections.reject, correction)

    @extend_schema(request=ReasonSerializer, responses=CorrectionSerializer)
    def cancel(self, request: Request, correction: str) -> Response:
        """Take it back before somebody decides on it."""
        given = ReasonSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        reason = given.validated_data.get("reason", "")
        run_id = _one(correction).pk
        return _shown(corrections.cancel(run_id=run_id, reason=reason, actor=actor_of(request), now=timezone.now()))

    @extend_schema(request=None, responses=CorrectionSerializer)
    def work_out(self, request: Request, correction: str) -> Response:
        """Work it out again, from the ledger as it is now."""
        run_id = _one(correction).pk
        return _shown(corrections.work_out_again(run_id=run_id, actor=actor_of(request), now=timezone.now()))

    def _decided(self, request: Request, decide: Any, reference: str) -> Response:
        given = CorrectionDecisionSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        decision = corrections.Decision(**given.validated_data, person_id=caller_of(request).owner.pk)
        return _shown(decide(run_id=_one(reference).pk, decision=decision, actor=actor_of(request), now=timezone.now()))


def _shown(run: CorrectionRun) -> Response:
    return Response(CorrectionSerializer(run).data)


def _one(reference: str) -> CorrectionRun:
    try:
        found = CorrectionRun.objects.filter(pk=uuid.UUID(reference)).first()
    except ValueError:
        found = None
    if found is None:
        raise scoping.missing(CorrectionRun)
    return found
