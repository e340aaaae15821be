"""Ask the database in plain SQL, as the guide's readers do; and what its values are on the two databases."""

import re
import uuid
from decimal import Decimal
from typing import Any

from django.db import connection

from tenants.fields import from_column


def for_sqlite(query: str) -> str:
    """A query of the guide with the one change that docs/troubleshooting.md asks for on SQLite."""
    return re.sub(r"NOW\(\) - INTERVAL '(\d+ days)'", r"datetime('now', '-\1')", query)


def ask(query: str) -> list[dict[str, Any]]:
    """The rows of one query, by column; on PostgreSQL exactly as it is written."""
    with connection.cursor() as cursor:
        cursor.execute(query if connection.vendor == "postgresql" else for_sqlite(query))
        columns = [column[0] for column in cursor.description]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def usd(value: Any) -> Decimal:
    """An amount; an average of SQLite's integers is a float."""
    return from_column(value, connection.vendor)


def stored(identity: uuid.UUID) -> uuid.UUID | str:
    """An id as the column has it."""
    return identity if connection.vendor == "postgresql" else identity.hex
