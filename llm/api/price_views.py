"""Prices and proposed prices for staff: set, finish, cancel; look through, approve, reject."""

import uuid
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from llm.api import filters, price_serializers, serializers
from llm.catalog import price_book, prices, proposals, references
from llm.models import PriceProposal, PriceVersion
from tenants import scoping
from tenants.api.audited import StaffView, actor_of, caller_of
from tenants.api.serializers import ReasonSerializer

APPROVE = "llm.approve_prices"


def who(request: Request) -> dict[str, Any]:
    """The person behind a price change: one who may not approve prices needs somebody who may."""
    person = caller_of(request).owner
    return {"person_id": person.pk, "second_person": not person.has_perm(APPROVE)}


class PriceViewSet(StaffView, mixins.ListModelMixin, viewsets.GenericViewSet[PriceVersion]):
    """The prices of a model through time, newest first. They are added to, never edited."""

    staff_permission = "llm.{verb}_priceversion"
    serializer_class = serializers.PriceSerializer
    queryset = PriceVersion.objects.none()
    filterset_fields: ClassVar[Any] = ["status", "source"]
    ordering_fields: ClassVar[Any] = ["number", "effective_from"]

    def get_queryset(self) -> QuerySet[PriceVersion]:
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        model = references.model(self.kwargs["model"])
        return PriceVersion.objects.filter(model=model).prefetch_related("components").order_by("-number")

    @extend_schema(request=price_serializers.PriceChangeSerializer, responses={201: serializers.PriceSerializer})
    def create(self, request: Request, model: str) -> Response:
        """Set a new price, from now or from a date. More than five times up or down asks for `confirm: true`. Of those
        who may not approve prices it waits for somebody who may: its status is then `proposed`."""
        row = references.model(model)
        given = price_serializers.PriceChangeSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        change = given.change(**who(request))
        version = prices.set_price(model=row, change=change, actor=actor_of(request), now=timezone.now())
        return Response(self.get_serializer(version).data, status=201)

    @extend_schema(request=ReasonSerializer, responses=serializers.PriceSerializer)
    def cancel(self, request: Request, model: str, version: str) -> Response:
        """Take back a price that has not begun: the one before it goes on. A draft is thrown away. Only who may approve
        prices takes back one that is decided."""
        given = ReasonSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        reason = given.validated_data.get("reason", "")
        pk = self._version(model, version)
        may_approve = caller_of(request).owner.has_perm(APPROVE)
        price_book.cancel(
            version_id=pk, may_approve=may_approve, reason=reason, actor=actor_of(request), now=timezone.now()
        )
        return Response(self.get_serializer(self.get_queryset().get(pk=pk)).data)

    @extend_schema(request=price_serializers.FinishSerializer, responses=serializers.PriceSerializer)
    def propose(self, request: Request, model: str, version: str) -> Response:
        """Finish a draft: it is decided at once by who may approve prices, else it waits for them. More than five times
        up or down asks for `confirm: true` of who decides."""
        given = price_serializers.FinishSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        pk = self._version(model, version)
        person = who(request)
        alone = not prices.waits(prices.PriceChange(components=[], second_person=person["second_person"]))
        proposals.propose_draft(
            version_id=pk,
            person_id=person["person_id"],
            second_person=not alone,
            confirm=given.validated_data["confirm"],
            actor=actor_of(request),
            now=timezone.now(),
        )
        return Response(self.get_serializer(self.get_queryset().get(pk=pk)).data)

    def _version(self, model: str, version: str) -> uuid.UUID:
        """The id of one of the model's prices, by its own or by its number. Raises NotFound."""
        rows = PriceVersion.objects.filter(model=references.model(model))
        found = rows.filter(number=int(version)) if version.isdecimal() and len(version) < 9 else None
        pk = _uuid(version) if found is None else found.values_list("pk", flat=True).first()
        if pk is None or not rows.filter(pk=pk).exists():
            raise scoping.missing(PriceVersion)
        return pk


class ProposalViewSet(StaffView, mixins.ListModelMixin, viewsets.GenericViewSet[PriceProposal]):
    """Proposed prices, newest first. A second person decides: the proposer cannot."""

    staff_permission = "llm.{verb}_priceproposal"
    serializer_class = price_serializers.ProposalSerializer
    queryset = PriceProposal.objects.select_related("model__provider", "version", "tenant").prefetch_related(
        "version__components"
    )
    filterset_class = filters.ProposalFilter
    search_fields: ClassVar[Any] = ["model__model_id", "model__name", "model__provider__slug", "proposer"]
    ordering_fields: ClassVar[Any] = ["created_at", "decided_at", "largest_percent", "impact_usd"]
    ordering: ClassVar[Any] = ["-id"]

    @extend_schema(operation_id="admin_llm_price_proposals_retrieve")
    def retrieve(self, request: Request, proposal: str) -> Response:
        """One proposal, with the last 30 days' traffic at its price, in total and by tenant."""
        return Response(self.get_serializer(self._one(proposal)).data)

    @extend_schema(request=price_serializers.ApprovalSerializer)
    def approve(self, request: Request, proposal: str) -> Response:
        """The price is in force from its moment on."""
        given = price_serializers.ApprovalSerializer(data=request.data)
        return self._decided(request, proposals.approve, given, [self._one(proposal).pk])[0]

    @extend_schema(request=price_serializers.RejectionSerializer)
    def reject(self, request: Request, proposal: str) -> Response:
        """The price is not wanted. What the feed proposed comes again only when the feed says something else."""
        given = price_serializers.RejectionSerializer(data=request.data)
        return self._decided(request, proposals.reject, given, [self._one(proposal).pk])[0]

    @extend_schema(
        operation_id="admin_llm_price_proposals_approve_several",
        request=price_serializers.BulkApprovalSerializer,
        responses=price_serializers.ProposalSerializer(many=True),
        filters=False,
    )
    def approve_all(self, request: Request) -> Response:
        """Approve several, all or none."""
        given = price_serializers.BulkApprovalSerializer(data=request.data)
        return self._decided(request, proposals.approve, given, None)[1]

    @extend_schema(
        operation_id="admin_llm_price_proposals_reject_several",
        request=price_serializers.BulkRejectionSerializer,
        responses=price_serializers.ProposalSerializer(many=True),
        filters=False,
    )
    def reject_all(self, request: Request) -> Response:
        """Reject several, all or none."""
        given = price_serializers.BulkRejectionSerializer(data=request.data)
        return self._decided(request, proposals.reject, given, None)[1]

    def _decided(
        self, request: Request, decide: Any, given: price_serializers.RejectionSerializer, ids: list[uuid.UUID] | None
    ) -> tuple[Response, Response]:
        """(the first alone, all of them) after the decision."""
        given.is_valid(raise_exception=True)
        chosen = given.validated_data["ids"] if ids is None else ids
        decision = given.decision(caller_of(request).owner.pk)
        decide(ids=chosen, decision=decision, actor=actor_of(request), now=timezone.now())
        rows = self.get_serializer(self.get_queryset().filter(pk__in=chosen).order_by("-id"), many=True).data
        return Response(rows[0]), Response(rows)

    def _one(self, reference: str) -> PriceProposal:
        pk = _uuid(reference)
        found = None if pk is None else self.get_queryset().filter(pk=pk).first()
        if found is None:
            raise scoping.missing(PriceProposal)
        return found


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
