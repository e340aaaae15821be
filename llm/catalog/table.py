"""Strict reading of TOML tables: fields are asked for by name and type; what nobody asked for is an error too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any


class CatalogError(ValueError):
    """A data file is wrong. Says which file, which field and what is the matter with it."""

    def __init__(self, file: str, field: str, problem: str) -> None:
        super().__init__(f"{file}: {field} {problem}" if field else f"{file}: {problem}")
        self.file = file
        self.field = field
        self.problem = problem


class Table:
    """One TOML table with the place it came from, so that every complaint can name its file and field."""

    def __init__(self, file: str, place: str, values: Mapping[str, Any]) -> None:
        self._file = file
        self._place = place
        self._values = dict(values)
        self._seen: set[str] = set()

    def error(self, key: str, problem: str) -> CatalogError:
        """An error about one key of this table, to be raised by the caller."""
        return CatalogError(self._file, f"{self._place}.{key}" if self._place else key, problem)

    def done(self) -> None:
        """Raise if the table has a key that was never read: most likely a misspelling."""
        unknown = sorted(self._values.keys() - self._seen)
        if unknown:
            raise self.error(unknown[0], "is not a known field")

    def text(self, key: str, *, blank: bool = False) -> str:
        value = self._get(key, str)
        if not value and not blank:
            raise self.error(key, "must not be empty")
        return str(value)

    def optional_text(self, key: str) -> str | None:
        return self.text(key) if key in self._values else None

    def texts(self, key: str) -> tuple[str, ...]:
        values = self._get(key, list)
        if not all(isinstance(value, str) and value for value in values):
            raise self.error(key, "must be a list of strings")
        return tuple(values)

    def flag(self, key: str) -> bool:
        return bool(self._get(key, bool))

    def number(self, key: str, *, at_least: int = 0) -> int:
        value = self._get(key, int)
        # TOML's true is a Python int as well.
        if isinstance(value, bool) or value < at_least:
            raise self.error(key, f"must be a whole number of at least {at_least}")
        return int(value)

    def choice(self, key: str, choices: Sequence[str]) -> str:
        value = self.text(key)
        if value not in choices:
            raise self.error(key, f"is {value!r}, not one of {', '.join(choices)}")
        return value

    def day(self, key: str) -> date | None:
        """A calendar day, written as a TOML date or as text (YYYY-MM-DD); None if absent."""
        if key not in self._values:
            return None
        value = self._get(key, (date, str))
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            raise self.error(key, f"is {value!r}, not a date (YYYY-MM-DD)") from None

    def usd(self, key: str) -> Decimal:
        """An exact amount. Written as text, since a TOML number is a float and a float near money is a wrong bill."""
        value = self.text(key)
        try:
            amount = Decimal(value)
        except InvalidOperation:
            raise self.error(key, f"is {value!r}, not a decimal number") from None
        if not amount.is_finite() or amount < 0:
            raise self.error(key, f"is {value!r}, not an amount of zero or more")
        return amount

    def mapping(self, key: str) -> Mapping[str, Any]:
        """A free-form table; absent means empty."""
        return dict(self._get(key, dict)) if key in self._values else {}

    def table(self, key: str) -> Table:
        return Table(self._file, key, self._get(key, dict))

    def tables(self, key: str) -> list[Table]:
        """A list of tables, absent meaning none; each is named in errors by its id, or its position."""
        if key not in self._values:
            return []
        values = self._get(key, list)
        if not all(isinstance(value, dict) for value in values):
            raise self.error(key, "must be a list of tables")
        place = f"{self._place}.{key}" if self._place else key
        return [
            Table(self._file, f"{place}[{value.get('model_id', index)}]", value) for index, value in enumerate(values)
        ]

    def _get(self, key: str, kind: type | tuple[type, ...]) -> Any:
        if key not in self._values:
            raise self.error(key, "is missing")
        self._seen.add(key)
        value = self._values[key]
        if not isinstance(value, kind):
            wanted = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise self.error(key, f"must be {wanted}, not {type(value).__name__}")
        return value
