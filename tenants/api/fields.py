"""What serializers of `/api/v1/` are made of: fields that take the right JSON type, bodies without unknown keys.

DRF is lenient where a gateway must not be: it takes "yes" for true, 5 for "5", and drops what it does not know.
"""

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, ClassVar

from django.db import models
from rest_framework import serializers
from rest_framework.validators import UniqueValidator

from tenants.fields import MAX_USD, PLACES, UsdField

MAX_WHOLE = 2**31 - 1


class Text(serializers.CharField):
    """A string. A number is an error, not its digits."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("Not a string.")
        return super().to_internal_value(data)


class Flag(serializers.BooleanField):
    """true or false, nothing that looks like it."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise serializers.ValidationError("Not true or false.")
        return data


class Whole(serializers.IntegerField):
    """A JSON integer of 32 bits: the same range on every database."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs["max_value"] = min(kwargs.get("max_value") or MAX_WHOLE, MAX_WHOLE)
        kwargs["min_value"] = max(kwargs.get("min_value", -MAX_WHOLE), -MAX_WHOLE)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            raise serializers.ValidationError("Not a whole number.")
        return data


class Usd(serializers.DecimalField):
    """An amount in USD: a decimal string, or a number. Answered as a string without trailing zeros."""

    def __init__(self, **kwargs: Any) -> None:
        given: dict[str, Any] = {"min_value": Decimal(0), "max_value": MAX_USD} | kwargs
        given |= {"max_digits": 20, "decimal_places": PLACES}
        super().__init__(**given)

    def to_internal_value(self, data: Any) -> Decimal:
        if isinstance(data, bool) or not isinstance(data, (str, int, float)):
            raise serializers.ValidationError('Not an amount in USD, such as "2.50".')
        return super().to_internal_value(data)

    def to_representation(self, value: Any) -> Any:
        return usd(value)


class Percent(serializers.DecimalField):
    """A percentage, answered as a string without trailing zeros."""

    def __init__(self, **kwargs: Any) -> None:
        given: dict[str, Any] = {"min_value": Decimal(0)} | kwargs
        super().__init__(**given | {"max_digits": 7, "decimal_places": 4})

    def to_representation(self, value: Any) -> Any:
        return usd(value)


class Web(serializers.URLField):
    """An http or https address."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("Not a string.")
        return super().to_internal_value(data)


class Choice(serializers.ChoiceField):
    """One of a list of strings."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            raise serializers.ValidationError("Not a string.")
        return super().to_internal_value(data)


def usd(amount: Decimal | None) -> str | None:
    """An amount as JSON carries it: a decimal string without trailing zeros, never an exponent."""
    return None if amount is None else f"{amount.normalize():f}"


class StrictMixin:
    """Refuses keys the serializer does not know, so that a typing error does not vanish.

    A read-only key may be sent back with the value that was read (GET, change, PUT), nothing else; one of `live`, which
    changes by itself, with any. `aliases` maps other names that are accepted on writing to the fields they stand for.
    """

    aliases: ClassVar[Mapping[str, str]] = {}
    live: ClassVar[Collection[str]] = ()

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            raise serializers.ValidationError({"non_field_errors": ["A JSON object is wanted here."]})
        values = self._unaliased(data)
        fields: Mapping[str, serializers.Field[Any, Any, Any, Any]] = self.fields  # type: ignore[attr-defined]
        problems: dict[str, list[str]] = {}
        current: Mapping[str, Any] | None = None
        for name in values:
            if name not in fields:
                problems[name] = ["There is no such field."]
            elif fields[name].read_only and name not in self.live:
                if current is None:
                    current = self._current()
                if name not in current or current[name] != values[name]:
                    problems[name] = ["This field is read-only."]
        if problems:
            raise serializers.ValidationError(problems)
        return super().to_internal_value(values)  # type: ignore[misc]

    def _unaliased(self, data: dict[str, Any]) -> dict[str, Any]:
        values = dict(data)
        for alias, name in self.aliases.items():
            if alias not in values:
                continue
            value = values.pop(alias)
            if values.setdefault(name, value) != value:
                raise serializers.ValidationError({alias: [f"It differs from {name}, which means the same."]})
        return values

    def _current(self) -> Mapping[str, Any]:
        instance = getattr(self, "instance", None)
        return {} if instance is None else self.to_representation(instance)  # type: ignore[attr-defined]


class StrictSerializer(StrictMixin, serializers.Serializer[Any]):
    """A body that is no row."""


class StrictModelSerializer(StrictMixin, serializers.ModelSerializer[Any]):
    """A row. Duplicates are for the database to refuse (409), so serializers do not look for them (400)."""

    serializer_field_mapping = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.CharField: Text,
        models.TextField: Text,
        models.SlugField: serializers.SlugField,
        models.BooleanField: Flag,
        models.IntegerField: Whole,
        models.PositiveIntegerField: Whole,
        models.URLField: Web,
        UsdField: Usd,
    }
    serializer_choice_field = Choice

    def build_standard_field(self, field_name: str, model_field: Any) -> Any:
        field_class, kwargs = super().build_standard_field(field_name, model_field)
        validators = kwargs.get("validators")
        if validators:
            kwargs["validators"] = [one for one in validators if not isinstance(one, UniqueValidator)]
        return field_class, kwargs

    def update(self, instance: Any, validated_data: Any) -> Any:
        """Write the given fields only: what probes and others changed meanwhile stays."""
        for name, value in validated_data.items():
            setattr(instance, name, value)
        instance.save(update_fields=[*validated_data, "updated_at"])
        return instance

    def get_unique_together_validators(self) -> list[Any]:
        return []

    def get_unique_for_date_validators(self) -> list[Any]:
        return []
