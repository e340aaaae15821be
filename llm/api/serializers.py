"""Providers, models and their prices: as staff write them and as tenants read them."""

import re
from decimal import Decimal
from typing import Any, ClassVar

from rest_framework import serializers

from llm.api.fields import ComponentsField, ModelReference, PriceField, ProviderReference
from llm.catalog import addresses, credentials, lifecycle, prices
from llm.choices import Dialect, Kind
from llm.models import LLMModel, LLMProvider, PriceVersion
from llm.models.catalog import PER_1K
from tenants.api.fields import Flag, StrictModelSerializer, StrictSerializer, Text
from tenants.errors import InvalidValue


class AgreementMixin:
    """The `supports_*` flags can be read and written one by one and as one object; both given, they must agree."""

    flags_object: ClassVar[str]

    def to_internal_value(self, data: Any) -> Any:
        flags = data.get(self.flags_object) if isinstance(data, dict) else None
        for name, value in flags.items() if isinstance(flags, dict) else ():
            if data.get(f"supports_{name}", value) != value:
                raise serializers.ValidationError({f"supports_{name}": [f"{self.flags_object}.{name} says otherwise."]})
        return super().to_internal_value(data)  # type: ignore[misc]


class ProviderFeatures(StrictSerializer):
    """What a provider can do."""

    streaming = Flag(source="supports_streaming", required=False)
    function_calling = Flag(source="supports_function_calling", required=False)
    vision = Flag(source="supports_vision", required=False)


_PROVIDER_PUBLIC = [
    "id",
    "number",
    "slug",
    "name",
    "display_name",
    "description",
    "dialect",
    "auth_type",
    "supports_streaming",
    "supports_function_calling",
    "supports_vision",
    "supported_features",
    "is_active",
    "is_byok_supported",
    "is_system_provider",
    "api_key_format",
    "documentation_url",
    "pricing_url",
    "status_page_url",
    "min_tier_required",
    "health_status",
    "health_checked_at",
    "health_response_time_ms",
    "model_count",
]


class ProviderSerializer(AgreementMixin, StrictModelSerializer):
    """A provider, for staff. `provider_slug` and `provider_name` are accepted for `slug` and `name`."""

    aliases: ClassVar[Any] = {"provider_slug": "slug", "provider_name": "name"}
    flags_object = "supported_features"

    name = Text(max_length=100, required=False)
    display_name = Text(max_length=100, required=False)
    supported_features = ProviderFeatures(source="*", required=False)
    is_system_provider = Flag(required=False)
    model_count = serializers.IntegerField(read_only=True)
    platform_key = serializers.SerializerMethodField(help_text="Where the platform's key comes from; never the key.")

    class Meta:
        model = LLMProvider
        fields: ClassVar[Any] = [
            *_PROVIDER_PUBLIC,
            "base_url",
            "quirks",
            "env_keys",
            "rate_limit_rpm",
            "rate_limit_tpm",
            "rate_limit_rpd",
            "platform_key",
            "created_at",
            "updated_at",
        ]
        # env_keys names variables of this process: who could write them could have any of them sent anywhere.
        read_only_fields: ClassVar[Any] = [
            "number",
            "env_keys",
            "health_status",
            "health_checked_at",
            "health_response_time_ms",
        ]

    def get_platform_key(self, provider: LLMProvider) -> str:
        stored = getattr(provider, "platform_keys", 0)
        return f"{stored} stored" if stored else credentials.environment_display(provider)

    def validate_base_url(self, url: str) -> str:
        objection = addresses.objection(url)
        if objection:
            raise serializers.ValidationError(objection)
        return url.rstrip("/")

    def validate_api_key_format(self, pattern: str) -> str:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise serializers.ValidationError("Not a regular expression.") from error
        return pattern

    def validate_slug(self, slug: str) -> str:
        if slug.isdigit():
            raise serializers.ValidationError("Not digits only: those are the numbers in URLs.")
        return slug

    def validate_is_system_provider(self, value: bool) -> bool:
        if isinstance(self.instance, LLMProvider) and self.instance.is_system_provider and not value:
            raise serializers.ValidationError("A system provider stays one. Switch it off with is_active instead.")
        return value

    def create(self, validated_data: dict[str, Any]) -> LLMProvider:
        """The names default to the slug; the dialect to the slug's own, where there is one."""
        slug = validated_data["slug"]
        validated_data.setdefault("name", slug)
        validated_data.setdefault("display_name", slug)
        validated_data.setdefault("dialect", slug if slug in Dialect.values else Dialect.OPENAI)
        return LLMProvider.objects.create(**validated_data)


class PublicProviderSerializer(ProviderSerializer):
    """A provider as tenants see it: without where it is and what it allows us."""

    platform_key = None  # type: ignore[assignment]

    class Meta(ProviderSerializer.Meta):
        fields: ClassVar[Any] = _PROVIDER_PUBLIC
        read_only_fields: ClassVar[Any] = _PROVIDER_PUBLIC


class ModelCapabilities(StrictSerializer):
    """What a model can do."""

    streaming = Flag(source="supports_streaming", required=False)
    function_calling = Flag(source="supports_function_calling", required=False)
    vision = Flag(source="supports_vision", required=False)
    json_mode = Flag(source="supports_json_mode", required=False)


class PublicPriceSerializer(serializers.ModelSerializer[PriceVersion]):
    """One price of a model: USD per million of each meter, from a moment until another (null: still)."""

    components = serializers.SerializerMethodField()

    class Meta:
        model = PriceVersion
        fields: ClassVar[Any] = ["id", "number", "effective_from", "effective_to", "components"]
        read_only_fields: ClassVar[Any] = fields

    def get_components(self, version: PriceVersion) -> list[dict[str, str | int]]:
        represented: list[dict[str, str | int]] = ComponentsField().to_representation(prices.components_of(version))
        return represented


class PriceSerializer(PublicPriceSerializer):
    """The same for staff: also its state, where it came from, who entered it and why."""

    class Meta(PublicPriceSerializer.Meta):
        fields: ClassVar[Any] = [
            *PublicPriceSerializer.Meta.fields,
            "status",
            "source",
            "reason",
            "author",
            "recorded_at",
        ]
        read_only_fields: ClassVar[Any] = fields


_COSTS = {
    "cost_per_1m_input_tokens": "input",
    "cost_per_1m_output_tokens": "output",
    "cost_per_1m_cached_tokens": "cache_read",
}
_MODEL_PUBLIC = [
    "id",
    "number",
    "provider",
    "provider_id",
    "model_id",
    "reference",
    "name",
    "display_name",
    "description",
    "kind",
    "family",
    "context_window",
    "max_output_tokens",
    "supports_streaming",
    "supports_function_calling",
    "supports_vision",
    "supports_json_mode",
    "capabilities",
    "is_reasoning",
    "speed_tier",
    "quality_tier",
    "size_category",
    "power_level",
    "power_level_priority",
    "min_tier_required",
    "is_active",
    "is_deprecated",
    "deprecation_date",
    "replacement_model",
    *_COSTS,
    "input_cost_per_1k",
    "output_cost_per_1k",
    "price_version",
]


class ModelSerializer(AgreementMixin, StrictModelSerializer):
    """A model, for staff. The costs are its first price when it is created; later prices go to `.../prices`."""

    flags_object = "capabilities"

    provider = ProviderReference()
    provider_id = serializers.UUIDField(read_only=True)
    reference = serializers.CharField(read_only=True)
    name = Text(max_length=200, required=False)
    display_name = Text(max_length=200, required=False)
    capabilities = ModelCapabilities(source="*", required=False)
    replacement_model = ModelReference(required=False, allow_null=True)
    cost_per_1m_input_tokens = PriceField(meter="input", required=False)
    cost_per_1m_output_tokens = PriceField(meter="output", required=False)
    cost_per_1m_cached_tokens = PriceField(meter="cache_read", required=False)
    input_cost_per_1k = PriceField(meter="input", factor=PER_1K, read_only=True)
    output_cost_per_1k = PriceField(meter="output", factor=PER_1K, read_only=True)
    price_version = PriceSerializer(source="price_now", read_only=True, allow_null=True)

    class Meta:
        model = LLMModel
        fields: ClassVar[Any] = [*_MODEL_PUBLIC, "quirks", "created_at", "updated_at"]
        read_only_fields: ClassVar[Any] = ["number"]

    def to_representation(self, instance: LLMModel) -> Any:
        instance.price_now = prices.version_at(instance)  # type: ignore[attr-defined]  # read by the price fields
        return super().to_representation(instance)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        model = self.instance
        if not isinstance(model, LLMModel):
            return attrs
        if "replacement_model" in attrs:
            lifecycle.check_replacement(model=model, replacement=attrs["replacement_model"])
        version = prices.version_at(model)
        for name, meter in _COSTS.items():
            if name in attrs and attrs.pop(name) != (None if version is None else version.base_price(meter)):
                raise serializers.ValidationError({name: ["Prices are set by POST .../prices, from a date."]})
        return attrs

    def first_price(self) -> prices.PriceChange | None:
        """Takes the costs out of the validated data; None if there are none."""
        costs: list[Decimal | None] = [self.validated_data.pop(name, None) for name in _COSTS]
        if all(cost is None for cost in costs):
            return None
        if costs[0] is None:
            raise InvalidValue(
                "Give the input price too; an explicit 0 makes it free.", param="cost_per_1m_input_tokens"
            )
        if costs[1] is None and self.validated_data.get("kind", Kind.CHAT) == Kind.CHAT:
            raise InvalidValue(
                "Give the output price too; an explicit 0 makes it free.", param="cost_per_1m_output_tokens"
            )
        components = prices.flat(input_usd=costs[0], output_usd=costs[1], cached_usd=costs[2])
        return prices.PriceChange(components=components, reason="first price")


class PublicModelSerializer(ModelSerializer):
    """A model as tenants see it: without who priced it, and why."""

    price_version = PublicPriceSerializer(  # type: ignore[assignment]  # less of the same
        source="price_now", read_only=True, allow_null=True
    )

    class Meta(ModelSerializer.Meta):
        fields: ClassVar[Any] = _MODEL_PUBLIC
        read_only_fields: ClassVar[Any] = _MODEL_PUBLIC


class DeprecationSerializer(StrictSerializer):
    """No date: routing stops at once, and calls follow the replacement."""

    replacement = ModelReference(required=False, allow_null=True, default=None)
    sunset_date = serializers.DateField(required=False, allow_null=True, default=None)
