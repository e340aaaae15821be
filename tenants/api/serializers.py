"""Tenants, their keys and their members, as staff and as tenants themselves write and read them."""

from datetime import timedelta
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from tenants import members, terms
from tenants.api.fields import Choice, Percent, StrictModelSerializer, StrictSerializer, Text, Usd, Whole, usd
from tenants.auth import Caller
from tenants.errors import NotFound
from tenants.keys import KeySpec
from tenants.models import DEFAULT_SCOPES, ApiKey, Membership, Scope, Tenant, TierTerms, valid_model_list

_MOST_MODELS = 1000
_MOST_OVERLAP_H = 168
SOURCES = [("tenant", "The tenant's own"), ("tier", "Its tier's")]


class StringList(serializers.ListField):
    """A list of strings, bounded."""

    child = Text(max_length=300)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_length": _MOST_MODELS} | kwargs)


class TenantSerializer(StrictModelSerializer):
    """A tenant. `name` defaults to the slug; limits are USD per calendar day or month, null for none.

    The percentages read as they are in force: the tenant's own, else its tier's. Writing one makes it the tenant's own,
    null gives it back to the tier.
    """

    name = Text(max_length=200, required=False)
    markup_percent = Percent(required=False, allow_null=True)
    byok_fee_percent = Percent(required=False, allow_null=True)
    markup_source = serializers.ChoiceField(choices=SOURCES, read_only=True)
    byok_fee_source = serializers.ChoiceField(choices=SOURCES, read_only=True)
    _tiers: dict[str, TierTerms] | None = None

    class Meta:
        model = Tenant
        fields: ClassVar[Any] = [
            "id",
            "slug",
            "name",
            "tier",
            "timezone",
            "budget_limit_daily",
            "budget_limit_monthly",
            "is_active",
            "markup_percent",
            "markup_source",
            "byok_fee_percent",
            "byok_fee_source",
            "prepaid",
            "sandbox_enabled",
            "allow_model_fallback",
            "created_at",
            "updated_at",
        ]

    def to_representation(self, instance: Tenant) -> Any:
        if self._tiers is None:
            self._tiers = terms.of_tiers()  # one query for a whole list
        owed = terms.of(instance, self._tiers)
        instance.markup_source = "tenant" if owed.own_markup else "tier"  # type: ignore[attr-defined]  # read below
        instance.byok_fee_source = "tenant" if owed.own_fee else "tier"  # type: ignore[attr-defined]
        shown = super().to_representation(instance)
        shown["markup_percent"], shown["byok_fee_percent"] = usd(owed.markup_percent), usd(owed.byok_fee_percent)
        return shown

    def to_internal_value(self, data: Any) -> Any:
        values = super().to_internal_value(data)
        if isinstance(self.instance, Tenant):
            owed = terms.of(self.instance)
            for name, source in (("markup_percent", "markup_source"), ("byok_fee_percent", "byok_fee_source")):
                # Sent back as it was read: the tier's, and it stays so.
                if data.get(source) == "tier" and values.get(name) == getattr(owed, name):
                    values[name] = None
        return values

    def create(self, validated_data: dict[str, Any]) -> Tenant:
        return Tenant.objects.create(**{"name": validated_data["slug"]} | validated_data)


class TierSerializer(StrictSerializer):
    """What tenants of a tier owe unless they have terms of their own, in percent of the provider's price."""

    tier = serializers.CharField(read_only=True)
    markup_percent = Percent(help_text="Added with a platform key.")
    byok_fee_percent = Percent(help_text="The fee for requests with the tenant's own provider key.")


@extend_schema_field({"type": "string", "nullable": True, "description": "A member's user id or user name."})
class MemberReference(serializers.Field[Any, Any, Any, Any]):
    """A member of the tenant in the serializer's context, by user name or user id; the user's id within."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, (str, int)):
            raise serializers.ValidationError("Not a member: a user name or user id is wanted.")
        try:
            return members.find(tenant_id=self.context["tenant_id"], reference=str(data)).user_id
        except NotFound as error:
            raise serializers.ValidationError("No member of the tenant is called so.") from error


class KeySerializer(serializers.ModelSerializer[ApiKey]):
    """A key as it may be read for ever: never the key itself."""

    key = serializers.CharField(source="masked", read_only=True, help_text="Its beginning and its end.")
    owner = serializers.CharField(source="owner.username", read_only=True, default=None, allow_null=True)
    user_id = serializers.CharField(
        source="owner_id", read_only=True, allow_null=True, help_text="Whose usage its requests are counted as."
    )

    class Meta:
        model = ApiKey
        fields: ClassVar[Any] = [
            "id",
            "name",
            "key",
            "owner",
            "user_id",
            "scopes",
            "allowed_models",
            "budget_limit_daily",
            "budget_limit_monthly",
            "rate_limit_rpm",
            "rate_limit_tpm",
            "max_concurrency",
            "expires_at",
            "revoked_at",
            "last_used_at",
            "created_at",
        ]
        read_only_fields: ClassVar[Any] = fields
        extra_kwargs: ClassVar[Any] = {}

    budget_limit_daily = Usd(read_only=True, allow_null=True)
    budget_limit_monthly = Usd(read_only=True, allow_null=True)
    scopes = serializers.ListField(child=serializers.CharField(), read_only=True)
    allowed_models = serializers.ListField(child=serializers.CharField(), read_only=True, allow_null=True)


class NewKeySerializer(StrictSerializer):
    """A key to make. Scopes left out are `completions` and `usage:read`; a null limit is none, 0 allows nothing."""

    name = Text(max_length=100)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices), required=False, max_length=20)
    budget_limit_daily = Usd(required=False, allow_null=True)
    budget_limit_monthly = Usd(required=False, allow_null=True)
    allowed_models = StringList(required=False, allow_null=True, validators=[valid_model_list])
    rate_limit_rpm = Whole(required=False, allow_null=True, min_value=0)
    rate_limit_tpm = Whole(required=False, allow_null=True, min_value=0)
    max_concurrency = Whole(required=False, min_value=1)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    owner = MemberReference(source="owner_id", required=False, allow_null=True)

    def spec(self) -> KeySpec:
        """What was asked for, once it is valid."""
        return KeySpec(**self.validated_data)


class OwnKeySpecSerializer(StrictSerializer):
    """A key that a tenant makes: no more than the calling key may do itself. Without an owner it is the caller's."""

    name = Text(max_length=100)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices), required=False, max_length=20)
    allowed_models = StringList(required=False, allow_null=True, validators=[valid_model_list])
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    owner = MemberReference(source="owner_id", required=False, allow_null=True)

    def validate_scopes(self, scopes: list[str]) -> list[str]:
        lacking = [scope for scope in scopes if scope not in self._caller.scopes]
        if lacking:
            raise serializers.ValidationError(f"The calling key lacks the scope `{lacking[0]}`, so it cannot give it.")
        return scopes

    def validate_allowed_models(self, references: list[str] | None) -> list[str] | None:
        if not within(references, self._caller.allowed_models):
            raise serializers.ValidationError(
                "The calling key may not use all of these models, so it cannot give them."
            )
        return references

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "scopes" not in attrs and not self._caller.scopes & set(DEFAULT_SCOPES):
            raise serializers.ValidationError({"scopes": ["Name them: the calling key has none of the usual ones."]})
        return attrs

    def spec(self) -> KeySpec:
        """What was asked for, once it is valid; what was left out is the caller's own."""
        caller = self._caller
        unsaid: dict[str, Any] = {
            "scopes": [scope for scope in DEFAULT_SCOPES if scope in caller.scopes],
            "allowed_models": None if caller.allowed_models is None else list(caller.allowed_models),
            "owner_id": None if caller.owner is None else caller.owner.pk,
        }
        return KeySpec(**unsaid | self.validated_data)

    @property
    def _caller(self) -> Caller:
        caller: Caller = self.context["caller"]
        return caller


def within(references: list[str] | None, allowed: tuple[str, ...] | None) -> bool:
    """Whether one allow-list lets through no more than another. None allows all; `provider/*` a provider's models."""
    if allowed is None:
        return True
    if references is None:
        return False
    return all(one in allowed or ("/" in one and f"{one.partition('/')[0]}/*" in allowed) for one in references)


class RotateKeySerializer(StrictSerializer):
    """For how many hours the old key goes on working beside its successor."""

    overlap_hours = Whole(required=False, min_value=0, max_value=_MOST_OVERLAP_H, default=24)

    def validate_overlap_hours(self, hours: int) -> timedelta:
        return timedelta(hours=hours)


class MemberSerializer(StrictModelSerializer):
    """A member: a user, and their role in the tenant. Who is new is made, without a password."""

    username = Text(source="user.username", max_length=150)
    email = serializers.EmailField(source="user.email", required=False, allow_blank=True, max_length=254)
    user_id = serializers.CharField(read_only=True)
    role = Choice(choices=Membership.Role.choices, required=False)

    class Meta:
        model = Membership
        fields: ClassVar[Any] = ["id", "user_id", "username", "email", "role", "created_at"]

    def new_member(self) -> members.NewMember:
        """Who was asked for, once it is valid."""
        given = dict(self.validated_data)
        return members.NewMember(**given.pop("user"), **given)


class RoleSerializer(StrictSerializer):
    """A member's new role."""

    role = Choice(choices=Membership.Role.choices)


class IssuedKeySerializer(serializers.Serializer[Any]):
    """A new key: the only time it is shown."""

    id = serializers.UUIDField()
    key = serializers.CharField()


class ReasonSerializer(StrictSerializer):
    """Why, for the audit log."""

    reason = Text(required=False, allow_blank=True, max_length=1000)
