"""Trying a subscription out: the one thing about alerts that needs HTTP, so it is llm's."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.alerts import AdminSubscriptionViewSet, SubscriptionViewSet
from llm import alerts


class TestedSerializer(serializers.Serializer[Any]):
    """What came of a test."""

    ok = serializers.BooleanField()
    message = serializers.CharField(help_text="What came back, in words.")
    response_status = serializers.IntegerField(allow_null=True, help_text="The HTTP status, if one came.")


class SubscriptionTest(SubscriptionViewSet):
    """Trying one of the tenant's subscriptions out."""

    @extend_schema(request=None, responses=TestedSerializer)
    def test(self, request: Request, subscription: str) -> Response:
        """Send a test event now, once, and say what came back. It takes up to ten seconds."""
        outcome = alerts.send_test(subscription=self.get_object(), now=timezone.now())
        ok = not outcome.error
        answer = {"ok": ok, "message": outcome.error or "It arrived.", "response_status": outcome.response_status}
        return Response(TestedSerializer(answer).data)


class AdminSubscriptionTest(SubscriptionTest, AdminSubscriptionViewSet):
    """The same for staff."""
