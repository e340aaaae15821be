"""Ask the database in plain SQL, as the guide's readers do."""

from typing import Any

from django.db import connection


def ask(query: str) -> list[dict[str, Any]]:
    """The rows of one query, by column."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        columns = [column[0] for column in cursor.description]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
