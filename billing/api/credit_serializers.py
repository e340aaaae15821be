"""Prepaid credit and adjustments, as the API reads and writes them."""

from typing import Any

from rest_framework import serializers

from billing.adjustments import ZERO, Correction
from billing.api.serializers import Usd
from billing.credit_models import CreditEntry
from billing.granting import NewGrant, Picture
from billing.models import Adjustment
from billing.prepaid import Grant
from tenants.api.fields import Choice, StrictSerializer, Text
from tenants.api.fields import Usd as Amount
from tenants.fields import MAX_USD
from tenants.models import Tenant


class GrantRow(serializers.Serializer[Any]):
    """One grant and what became of it. USD: `amount + corrected - drawn - expired` is `left`."""

    id = serializers.UUIDField()
    amount = Usd()
    corrected = Usd(help_text="Corrections of it, signed.")
    drawn = Usd(help_text="What requests took of it. The grant that expires first is drawn first.")
    expired = Usd()
    left = Usd()
    # DRF takes fields out of the class, so the attribute of that name stays what it is.
    source = serializers.ChoiceField(CreditEntry.Source.choices)  # type: ignore[assignment]
    reason = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class AdminGrantRow(GrantRow):
    """The same for staff: also who gave it."""

    author = serializers.CharField()


class NextExpiry(serializers.Serializer[Any]):
    """What expires next, if it is not drawn before."""

    at = serializers.DateTimeField()
    amount = Usd()


class Credits(serializers.Serializer[Any]):
    """A tenant's prepaid credit. USD: `granted - drawn` is `balance`, `balance - held` is `available`."""

    prepaid = serializers.BooleanField(help_text="Whether requests are paid from it.")
    balance = Usd()
    held = Usd(help_text="Promised to requests under way.")
    available = Usd(help_text="What the next request may cost at most.")
    granted = Usd(help_text="All that was ever given, less corrections and what has expired.")
    drawn = Usd(help_text="What requests and adjustments took, all in all.")
    expired = Usd()
    next_expiry = NextExpiry(allow_null=True)
    grants = GrantRow(many=True, help_text="Newest first.")


class AdminCredits(Credits):
    """The same for staff."""

    grants = AdminGrantRow(many=True, help_text="Newest first.")


def shown(tenant: Tenant, picture: Picture) -> dict[str, Any]:
    """What `Credits` and `AdminCredits` show."""
    account = picture.account
    soon = account.next_expiry
    grants = sorted(account.grants.values(), key=lambda grant: -grant.entry.number)
    return {
        "prepaid": tenant.prepaid,
        "balance": account.balance,
        "held": picture.held,
        "available": account.balance - picture.held,
        "granted": account.granted,
        "drawn": account.drawn,
        "expired": sum((grant.expired for grant in grants), ZERO),
        "next_expiry": None if soon is None else {"at": soon.entry.expires_at, "amount": soon.left},
        "grants": [grant_row(grant) for grant in grants],
    }


def grant_row(grant: Grant) -> dict[str, Any]:
    entry = grant.entry
    facts = {name: getattr(entry, name) for name in ("id", "amount", "source", "reason", "author")}
    sums = {name: getattr(grant, name) for name in ("corrected", "drawn", "expired", "left")}
    return facts | sums | {"expires_at": entry.expires_at, "created_at": entry.created_at}


class NewGrantSerializer(StrictSerializer):
    """Credit to be given. Without `expires_at` it never expires."""

    amount = Amount(help_text="USD, more than 0.")
    reason = Text(max_length=1000, help_text="Why; the tenant can read it.")
    source = Choice(choices=CreditEntry.Source.choices, required=False)  # type: ignore[assignment]  # as above
    expires_at = serializers.DateTimeField(required=False, allow_null=True)

    def wish(self) -> NewGrant:
        """What was asked for, once it is valid."""
        return NewGrant(**self.validated_data)


class CorrectGrantSerializer(StrictSerializer):
    """A signed change of what a grant gave."""

    amount = Amount(min_value=-MAX_USD, help_text="USD; below zero takes credit back.")
    reason = Text(max_length=1000, help_text="Why; the tenant can read it.")


class CreditEntryRow(serializers.ModelSerializer[CreditEntry]):
    """One entry, as it was written."""

    amount = Usd()

    class Meta:
        model = CreditEntry
        fields = ["id", "number", "kind", "amount", "grant", "source", "reason", "author", "expires_at", "created_at"]
        read_only_fields = fields


class AdjustmentRow(serializers.ModelSerializer[Adjustment]):
    """A signed correction of what a tenant owes."""

    model = serializers.SerializerMethodField(help_text="provider/model_id of the request it corrects.")
    billed_usd = Usd(help_text="Correction of what the tenant owes.")
    budget_usd = Usd(help_text="Correction of what counts against budgets.")
    cost_total_usd = Usd(help_text="Correction of the provider's list price.")

    class Meta:
        model = Adjustment
        fields = [
            *("id", "kind", "billed_usd", "budget_usd", "cost_total_usd", "is_prepaid", "request_id", "key_id"),
            *("config_id", "model", "reason", "billing_day", "created_at"),
        ]
        read_only_fields = fields

    def get_model(self, row: Adjustment) -> str:
        return "/".join(part for part in (row.provider_slug, row.model_name) if part)


class AdminAdjustmentRow(AdjustmentRow):
    """The same for staff: also who entered it, or which correction run it is of."""

    class Meta(AdjustmentRow.Meta):
        fields = [*AdjustmentRow.Meta.fields, "author", "correction_id"]
        read_only_fields = fields


class NewAdjustmentSerializer(StrictSerializer):
    """A correction to be booked. USD, signed: below zero the tenant owes less."""

    billed_usd = Amount(min_value=-MAX_USD, help_text="What the tenant owes more, or less.")
    budget_usd = Amount(
        min_value=-MAX_USD, required=False, allow_null=True, help_text="What budgets count. Left out: as billed_usd."
    )
    cost_total_usd = Amount(min_value=-MAX_USD, required=False, help_text="Of the provider's list price. Default: 0.")
    request_id = serializers.UUIDField(required=False, allow_null=True, help_text="The request it corrects, if one.")
    billing_day = serializers.DateField(
        required=False, allow_null=True, help_text="Left out: the request's, else today. A closed period's goes on."
    )
    reason = Text(max_length=1000, help_text="Why; the tenant can read it.")

    def correction(self) -> Correction:
        """What was asked for, once it is valid."""
        given = dict(self.validated_data)
        return Correction(
            billed=given["billed_usd"],
            budget=given.get("budget_usd"),
            cost=given.get("cost_total_usd", ZERO),
            request_id=given.get("request_id"),
            day=given.get("billing_day"),
            reason=given["reason"],
        )
