"""Fields of the catalog's serializers: references to providers and models, and prices read off the version in force."""

from abc import ABC, abstractmethod
from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from llm.catalog import prices, references
from llm.choices import ServiceTier
from llm.models import LLMModel, LLMProvider, PriceVersion
from llm.models.prices import PER_MILLION
from tenants.api.fields import Usd, usd
from tenants.errors import NotFound
from tenants.scoping import missing


class _Reference(serializers.Field[Any, Any, Any, Any], ABC):
    """What a row is called by in bodies. What names nothing is a 400 that names the field."""

    @abstractmethod
    def find(self, text: str) -> Any:
        """The row of that name. Raises NotFound."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, (str, int)):
            raise serializers.ValidationError("Not a reference: a string is wanted.")
        try:
            return self.find(str(data))
        except NotFound as error:
            raise serializers.ValidationError(error.message) from error


@extend_schema_field({"type": "string", "description": "A UUID or a slug; read as the slug."})
class ProviderReference(_Reference):
    """A provider by UUID or slug. With `active_only`, one that tenants may see."""

    def __init__(self, *, active_only: bool = False, **kwargs: Any) -> None:
        self.active_only = active_only
        super().__init__(**kwargs)

    def find(self, text: str) -> LLMProvider:
        found = references.provider(text)
        if self.active_only and not found.is_active:
            raise missing(LLMProvider)
        return found

    def to_representation(self, value: LLMProvider) -> str:
        return value.slug


@extend_schema_field({"type": "string", "description": "A UUID or `provider/model_id`; read as `provider/model_id`."})
class ModelReference(_Reference):
    """A model by UUID or `provider/model_id`. With `active_only`, one that tenants may see."""

    def __init__(self, *, active_only: bool = False, **kwargs: Any) -> None:
        self.active_only = active_only
        super().__init__(**kwargs)

    def find(self, text: str) -> LLMModel:
        found = references.model(text)
        if self.active_only and not (found.is_active and found.provider.is_active):
            raise missing(LLMModel)
        return found

    def to_representation(self, value: LLMModel) -> str:
        return value.reference


class PriceField(Usd):
    """One meter of the price in force, times `factor`; on writing, USD per million."""

    def __init__(self, *, meter: str, factor: Decimal = Decimal(1), **kwargs: Any) -> None:
        self.meter = meter
        self.factor = factor
        super().__init__(**{"max_value": prices.MAX_USD_PER_1M, "allow_null": True} | kwargs)

    def get_attribute(self, instance: Any) -> Any:
        version: PriceVersion | None = instance.price_now
        price = None if version is None else version.base_price(self.meter)
        return None if price is None else price * self.factor

    def to_representation(self, value: Any) -> Any:
        return usd(value)


_ONE_COMPONENT = {
    "type": "object",
    "required": ["meter", "usd_per_1m"],
    "properties": {
        "meter": {"type": "string", "example": "input"},
        "usd_per_1m": {"type": "string", "format": "decimal", "example": "2.50"},
        "above_tokens": {"type": "integer", "default": 0},
        "service_tier": {"type": "string", "default": "standard", "enum": ServiceTier.values},
    },
}


@extend_schema_field({"type": "array", "items": _ONE_COMPONENT})
class ComponentsField(serializers.Field[Any, Any, Any, Any]):
    """The components of a price: `[{"meter", "usd_per_1m", "above_tokens"}]`, or for short `{"input": "2.50", ...}`.

    `unit_price_usd` with `unit_quantity` (default a million) says the same as `usd_per_1m`. `service_tier` is said
    where it is not `standard`. Flex and batch cost as much as standard in what they leave out; priority must price all
    that standard does.
    """

    most = 100
    names = frozenset({"meter", "usd_per_1m", "above_tokens", "service_tier", "unit_price_usd", "unit_quantity"})

    def to_internal_value(self, data: Any) -> list[prices.Component]:
        rows = [{"meter": meter, "usd_per_1m": usd} for meter, usd in data.items()] if isinstance(data, dict) else data
        if not isinstance(rows, list) or not rows or len(rows) > self.most:
            raise serializers.ValidationError(f"Not a list of 1 to {self.most} components.")
        return [self._component(row) for row in rows]

    def _component(self, row: Any) -> prices.Component:
        if not isinstance(row, dict) or not isinstance(row.get("meter"), str):
            raise serializers.ValidationError('Each component is {"meter": "input", "usd_per_1m": "2.50"}.')
        unknown = sorted(row.keys() - self.names)
        if unknown:
            raise serializers.ValidationError(f"A component has no field {unknown[0]}.")
        quantity = self._whole(row.get("unit_quantity", PER_MILLION), least=1)
        given = [row[name] for name in ("usd_per_1m", "unit_price_usd") if name in row]
        if len(given) != 1 or ("unit_quantity" in row and "usd_per_1m" in row):
            raise serializers.ValidationError("A component has usd_per_1m, or unit_price_usd and unit_quantity.")
        amount = Usd(max_value=prices.MAX_USD_PER_1M).run_validation(given[0])
        tier = row.get("service_tier", ServiceTier.STANDARD)
        if tier not in ServiceTier.values:
            raise serializers.ValidationError(f"service_tier is one of {', '.join(ServiceTier.values)}.")
        above = self._whole(row.get("above_tokens", 0), least=0)
        return prices.Component(row["meter"], amount * PER_MILLION / quantity, above, tier)

    def _whole(self, value: Any, *, least: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= prices.MAX_TOKENS:
            raise serializers.ValidationError(f"Not a whole number from {least} to {prices.MAX_TOKENS}.")
        return value

    def to_representation(self, value: Any) -> Any:
        return [
            {"meter": one.meter, "usd_per_1m": usd(one.usd_per_1m), "above_tokens": one.above_tokens}
            | ({} if one.service_tier == ServiceTier.STANDARD else {"service_tier": one.service_tier})
            for one in value
        ]
