"""Statements as the API describes them. The document itself is answered as it is stored, byte by byte."""

from typing import Any

from rest_framework import serializers

from billing.api.serializers import Usd


class StatementMonth(serializers.Serializer[Any]):
    """A month of the tenant. Of a draft only the month is known without working it out: the rest is null."""

    month = serializers.CharField(help_text="As 2026-11.")
    status = serializers.CharField(help_text="`final`, or `draft` until it is finalised.")
    finalised_at = serializers.DateTimeField(allow_null=True)
    requests = serializers.IntegerField(allow_null=True)
    cost_usd = Usd(allow_null=True, help_text="The providers' list price, adjustments included.")
    billed_usd = Usd(allow_null=True, help_text="What is owed to the platform, adjustments included.")
    sha256 = serializers.CharField(allow_null=True, help_text="Of the JSON document, byte by byte.")


class AdminStatement(StatementMonth):
    """A finalised statement."""

    id = serializers.UUIDField()
    tenant_id = serializers.UUIDField()
    tenant = serializers.CharField(help_text="The tenant's slug when it was finalised.")
    timezone = serializers.CharField()
    finalised_by = serializers.CharField()


class AdminStatementQuery(serializers.Serializer[Any]):
    """The filters of the list of statements."""

    tenant = serializers.CharField(required=False, max_length=64, help_text="A tenant's id or slug. Without: all.")
    month = serializers.CharField(required=False, max_length=7, help_text="As 2026-11.")


class StatementLine(serializers.Serializer[Any]):
    """A meter at one unit price: USD for `unit_quantity` units."""

    meter = serializers.CharField()
    priced_as = serializers.CharField(help_text="Differs from `meter` where a missing price fell back as declared.")
    quantity = serializers.IntegerField()
    unit_price_usd = serializers.CharField()
    unit_quantity = serializers.IntegerField()
    amount_usd = serializers.CharField()
    service_tier = serializers.CharField(required=False, help_text="Said where it is not `standard`.")


class StatementSums(serializers.Serializer[Any]):
    """`billed_usd` = list - own keys' list - list of what has own prices + own prices + markup + fee + adjustments;
    `cost_usd` = list + adjustments of it. Own prices and what was prepaid are in no `tollgate-statement/1`."""

    requests = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    list_usd = serializers.CharField()
    own_key_list_usd = serializers.CharField(help_text="The part of it that own provider keys paid.")
    own_price_list_usd = serializers.CharField(
        required=False, help_text="The part of it that is billed at the tenant's own prices instead."
    )
    own_price_usd = serializers.CharField(required=False, help_text="What that comes to.")
    markup_usd = serializers.CharField()
    own_key_fee_usd = serializers.CharField()
    adjustments_list_usd = serializers.CharField()
    adjustments_usd = serializers.CharField()
    cost_usd = serializers.CharField()
    billed_usd = serializers.CharField()
    prepaid_usd = serializers.CharField(required=False, help_text="The part of it that prepaid credit paid.")
    due_usd = serializers.CharField(required=False, help_text="The rest.")


class Itemised(serializers.Serializer[Any]):
    """The lines of a charge, and what they leave of its list price."""

    lines = StatementLine(many=True, help_text="At the providers' list prices.")
    unitemised_usd = serializers.CharField(help_text="Requests without price lines.")
    rounding_usd = serializers.CharField(help_text="What rounding each request once makes of it.")
    own_price_lines = StatementLine(many=True, required=False, help_text="At the tenant's own prices.")
    own_price_unitemised_usd = serializers.CharField(required=False)
    own_price_rounding_usd = serializers.CharField(required=False)


class StatementDay(StatementSums):
    """A billing day."""

    day = serializers.DateField()


class StatementKey(StatementSums):
    """An API key; null: what belongs to none."""

    key_id = serializers.UUIDField(allow_null=True)
    name = serializers.CharField()


class StatementConfig(StatementSums):
    """A config; null: what belongs to none."""

    config_id = serializers.UUIDField(allow_null=True)
    name = serializers.CharField()


class StatementModel(Itemised, StatementSums):
    """A model, by whose key paid the provider."""

    provider = serializers.CharField()
    model = serializers.CharField()
    own_key = serializers.BooleanField()


class StatementDetail(Itemised):
    """A model on one day with one key and config."""

    day = serializers.DateField()
    key_id = serializers.UUIDField(allow_null=True)
    config_id = serializers.UUIDField(allow_null=True)
    provider = serializers.CharField()
    model = serializers.CharField()
    own_key = serializers.BooleanField()
    requests = serializers.IntegerField()
    list_usd = serializers.CharField()
    billed_usd = serializers.CharField()
    own_price_list_usd = serializers.CharField(required=False)
    own_price_usd = serializers.CharField(required=False)
    prepaid_usd = serializers.CharField(required=False)


class StatementAdjustment(serializers.Serializer[Any]):
    """A correction, or (`count` above 1) several that say the same."""

    day = serializers.DateField()
    kind = serializers.CharField(help_text="`staff` or `system`.")
    count = serializers.IntegerField()
    request_id = serializers.UUIDField(allow_null=True)
    key_id = serializers.UUIDField(allow_null=True)
    config_id = serializers.UUIDField(allow_null=True)
    provider = serializers.CharField()
    model = serializers.CharField()
    reason = serializers.CharField()
    list_usd = serializers.CharField()
    billed_usd = serializers.CharField()
    prepaid_usd = serializers.CharField(required=False)


class StatementTenant(serializers.Serializer[Any]):
    """Whose statement it is."""

    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()


class StatementDocument(serializers.Serializer[Any]):
    """A month, whole. Amounts are decimal strings in USD; finalised ones never change by a byte."""

    format = serializers.CharField()
    tenant = StatementTenant()
    month = serializers.CharField()
    first_day = serializers.DateField()
    last_day = serializers.DateField()
    timezone = serializers.CharField()
    currency = serializers.CharField()
    status = serializers.CharField(help_text="`final`, or `draft` until it is finalised.")
    finalised_at = serializers.DateTimeField(allow_null=True)
    totals = StatementSums()
    days = StatementDay(many=True)
    keys = StatementKey(many=True)
    configs = StatementConfig(many=True)
    models = StatementModel(many=True)
    adjustments = StatementAdjustment(many=True)
    details = StatementDetail(many=True)
