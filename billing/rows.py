"""Usage rows and windows as SQL, on both databases, without the ORM's cost per row. Used by the ledger alone."""

import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import orjson
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models

from billing import libpq
from billing.models import Adjustment, BudgetWindow, Hold, UsageRecord
from tenants.fields import UsdField, to_column

Convert = Callable[[Any], Any]
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


def as_json(value: Any) -> str:
    return _json(value).decode()


def _json(value: Any) -> bytes:
    """Compact JSON text; decimals as strings; without NUL, which PostgreSQL's text cannot hold."""
    payload = orjson.dumps(value, default=_plain)
    if b"\\u0000" in payload:
        payload = _NUL.sub(rb"\1", payload)
    return payload


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return DjangoJSONEncoder().default(value)


def _converter(field: Any) -> Convert | None:
    """How a Python value becomes what SQLite's driver takes. None: as it is."""
    if isinstance(field, models.ForeignKey):
        return _converter(field.target_field)
    if isinstance(field, models.JSONField):
        return as_json
    if isinstance(field, UsdField):
        return lambda value: to_column(value, "sqlite")
    if isinstance(field, models.UUIDField):
        return lambda value: value.hex
    if isinstance(field, models.DateTimeField):
        return moment
    if isinstance(field, models.DateField):
        return day
    return None


@cache
def on_postgres() -> bool:
    """Asked once: Django looks the connection up anew each time, which a batch would pay for hundreds of times."""
    return connection.vendor == "postgresql"


def cursor_of() -> Any:
    """A cursor on this thread's connection, with server-side parameters on PostgreSQL."""
    connection.ensure_connection()
    if on_postgres():
        import psycopg  # heavy, and not needed on SQLite

        return psycopg.Cursor(connection.connection)
    return connection.cursor()


def among(statement: str, values: Iterable[Any], tail: str = "") -> list[Any]:
    """The rows of `statement` with "is one of `values`" behind it, which are ids or window keys. Values as the database
    writes them: `usd`, `truth`, `as_uuid` and `as_moment` read them."""
    listed = list(values)
    if on_postgres():
        return libpq.rows(f"{statement} = ANY($1){tail}", [libpq.array(listed)])
    query = f"{statement} IN ({', '.join(['%s'] * len(listed))}){tail}"
    cursor = connection.cursor()
    cursor.execute(query, [key(one) for one in listed])
    found: list[Any] = cursor.fetchall()
    return found


def truth(value: Any) -> bool:
    """A boolean column's raw value."""
    return value in ("t", 1)


def usd(value: Any) -> Decimal:
    """A USD column's raw value."""
    return Decimal(value) if on_postgres() else Decimal(value).scaleb(-10)


def column(value: Decimal) -> Any:
    return to_column(value, connection.vendor)


def key(value: uuid.UUID | str) -> Any:
    """A UUID, or a window's key, as a column's parameter."""
    return value if on_postgres() or isinstance(value, str) else value.hex


def day(value: date) -> Any:
    return value if on_postgres() else value.isoformat()


def moment(value: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(value)


def as_uuid(value: Any) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(value)


def as_date(value: Any) -> date:
    return value if isinstance(value, date) else date.fromisoformat(value)


def as_moment(value: Any) -> datetime:
    """A timestamp column's raw value, aware. SQLite stores naive UTC text."""
    parsed = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


_USD_NAMES = frozenset(field.name for field in UsageRecord._meta.concrete_fields if isinstance(field, UsdField))


def typed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as they come back from JSON, with the types a usage row wants."""
    result: dict[str, Any] = {}
    for name, value in facts.items():
        if value is None or name not in _PARSE:
            result[name] = value
        else:
            result[name] = _PARSE[name](value)
    return result


def _parsers() -> dict[str, Any]:
    parsers: dict[str, Any] = {name: lambda value: Decimal(str(value)) for name in _USD_NAMES}
    for column in UsageRecord._meta.concrete_fields:
        if column.get_internal_type() == "UUIDField":
            parsers[column.attname] = as_uuid
        elif column.get_internal_type() == "DateField":
            parsers[column.attname] = as_date
    return parsers


_PARSE = _parsers()
ESSENTIAL = frozenset(_PARSE)  # of a usage row: ids, days and money


class Table:
    """INSERT of many rows into one model's table.

    PostgreSQL takes them as one JSON parameter and unfolds it by the table's own types: a fifth of the CPU of one
    parameter a value. SQLite takes a list of values a row.
    """

    def __init__(self, model: type[models.Model], *, ignore_conflicts: bool = False) -> None:
        fields = list(model._meta.concrete_fields)
        table = model._meta.db_table
        columns = ", ".join(f'"{field.column}"' for field in fields)
        places = ", ".join(["%s"] * len(fields))
        tail = " ON CONFLICT DO NOTHING" if ignore_conflicts else ""
        self._defaults = {field.attname: _default(field) for field in fields}
        self._columns = [(field.attname, field.column, _converter(field)) for field in fields]
        self._renamed = [(name, str(column)) for name, column, _ in self._columns if name != column]
        # Names of our own tables and columns only: no value is ever composed into a statement.
        self._sqlite = f'INSERT INTO "{table}" ({columns}) VALUES ({places}){tail}'  # noqa: S608
        self.postgres = (
            f'INSERT INTO "{table}" ({columns}) SELECT {columns}'  # noqa: S608
            f' FROM json_populate_recordset(NULL::"{table}", %s::json){tail}'
        )

    def insert(self, cursor: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """`rows` by field name; what they leave out takes the field's default."""
        if on_postgres():
            cursor.execute(self.postgres, [self.as_parameter(rows).decode()])
        else:
            cursor.executemany(self._sqlite, [self._values({**self._defaults, **row}) for row in rows])

    def as_parameter(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """All of `rows` as the one parameter of the statement `postgres`."""
        full = [{**self._defaults, **row} for row in rows]
        for row in full:
            for name, column in self._renamed:
                row[column] = row.pop(name)
        return _json(full)

    def _values(self, row: Mapping[str, Any]) -> list[Any]:
        return [
            row[name] if row[name] is None or convert is None else convert(row[name])
            for name, _, convert in self._columns
        ]


def _default(field: Any) -> Any:
    if field.has_default():
        return field.get_default()
    return "" if not field.null and isinstance(field, (models.CharField, models.TextField)) else None


USAGE = Table(UsageRecord)
HOLDS = Table(Hold)
WINDOWS = Table(BudgetWindow, ignore_conflicts=True)
ADJUSTMENTS = Table(Adjustment, ignore_conflicts=True)
CORRECTIONS = Table(Adjustment)  # a second one of a run and request is a mistake, which must not go unnoticed

# One statement for all that a batch changes: the ledger's thread waits for the interpreter after each round trip.
_WRITE = (
    "WITH windows AS (UPDATE billing_windows w SET spent = v.spent, held = v.held"  # noqa: S608 - our own tables only
    " FROM json_to_recordset($1::json) AS v(id text, spent numeric, held numeric) WHERE w.id = v.id),"
    f" holds AS ({HOLDS.postgres.replace('%s', '$2')}) {USAGE.postgres.replace('%s', '$3')}"
)


def write(
    cursor: Any,
    *,
    windows: Sequence[tuple[str, Decimal, Decimal]],
    holds: Sequence[Mapping[str, Any]],
    usage: Sequence[Mapping[str, Any]],
) -> None:
    """Set locked windows, given as (key, spent, held), to what they are to be; add holds and usage rows."""
    if on_postgres():
        changed = _json([{"id": window, "spent": spent, "held": held} for window, spent, held in windows])
        libpq.run(_WRITE, [changed, HOLDS.as_parameter(holds), USAGE.as_parameter(usage)])
        return
    cursor.executemany(
        "UPDATE billing_windows SET spent = %s, held = %s WHERE id = %s",
        [(column(spent), column(held), window) for window, spent, held in windows],
    )
    HOLDS.insert(cursor, holds)
    USAGE.insert(cursor, usage)
