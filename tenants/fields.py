"""UsdField: exact money on both databases. It sits here because tenants and keys carry limits in USD."""

from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

PLACES = 10
UNIT = Decimal(1).scaleb(-PLACES)
_SCALE = 10**PLACES
MAX_USD = Decimal(900_000_000)  # SQLite keeps money as a 64-bit integer of 1e-10 USD


def to_column(value: Decimal, vendor: str) -> Decimal | int:
    """`value` (USD) as the column of that database stores it: NUMERIC(20, 10), or on SQLite an integer of 1e-10 USD."""
    return int(value.scaleb(PLACES)) if vendor == "sqlite" else value


def from_column(value: Any, vendor: str) -> Decimal:
    """The column's value as USD. SQLite's sums of integers stay integers, so they stay exact."""
    return Decimal(value).scaleb(-PLACES) if vendor == "sqlite" else value


class UsdField(models.DecimalField):  # type: ignore[type-arg]
    """An amount in USD, exact to 1e-10. SQLite's DECIMAL is a float, so there it is stored as a scaled integer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["max_digits"] = 20
        kwargs["decimal_places"] = PLACES
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        name, path, args, kwargs = super().deconstruct()
        del kwargs["max_digits"], kwargs["decimal_places"]
        return name, path, args, kwargs

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "bigint" if connection.vendor == "sqlite" else f"numeric(20, {PLACES})"

    def rel_db_type(self, connection: BaseDatabaseWrapper) -> str:
        return self.db_type(connection)

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        if isinstance(value, float):
            raise TypeError(f"{self.name}: money is a Decimal, never a float.")
        if value is None or not isinstance(value, (Decimal, int, str)):
            return value
        exact = Decimal(value)
        if exact != exact.quantize(UNIT):
            raise ValidationError(f"{value} has more than {PLACES} decimal places of a dollar.")
        return to_column(exact, connection.vendor)

    get_db_prep_save = get_db_prep_value

    def get_placeholder(self, value: Any, compiler: Any, connection: BaseDatabaseWrapper) -> str:
        """A number inside an UPDATE's expression must say that it is money, or SQLite would add unscaled dollars."""
        for part in value.flatten() if hasattr(value, "flatten") else ():
            if isinstance(part, models.Value) and part.value is not None:
                # What it was declared as, or None.
                kind = part._output_field_or_none  # type: ignore[attr-defined]  # noqa: SLF001
                if not isinstance(kind, UsdField):
                    raise TypeError(f"{self.name}: write Value(amount, output_field=UsdField()).")
        return "%s"

    def get_db_converters(self, connection: BaseDatabaseWrapper) -> list[Any]:
        # Django's own converter for SQLite's DECIMAL goes through a float; ours does not.
        return [self.from_db_value]

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Decimal | None:
        return None if value is None else from_column(value, connection.vendor)

    def get_internal_type(self) -> str:
        # Its own type: "DecimalField" would bring SQLite's float converter back for expressions.
        return "UsdField"

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"min_value": None, **kwargs})


def limit_field(what: str) -> UsdField:
    """A budget limit: null is no limit, zero allows nothing, negative is refused."""
    return UsdField(
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal(0))],
        help_text=f"The most {what}, in USD. Empty: no limit. 0: nothing at all.",
    )
