"""The ledger's own statements on PostgreSQL, by libpq itself: text in, text out, prepared once a connection.

A psycopg cursor wraps every round trip in generators and costs three times the CPU (33 us against 11), and the ledger's
thread makes four round trips a commit, each of which waits for the interpreter. Errors are psycopg's.
"""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from django.db import connection

_PREPARED: WeakKeyDictionary[Any, dict[str, bytes]] = WeakKeyDictionary()


def run(statement: str, parameters: Sequence[bytes]) -> Any:
    """The result of a statement with `$1`, `$2` ... on this thread's connection, in its transaction."""
    from psycopg import OperationalError, pq  # heavy, and not needed on SQLite

    connection.ensure_connection()
    raw = connection.connection
    link = raw.pgconn
    if not raw.autocommit and link.transaction_status == pq.TransactionStatus.IDLE:
        _checked(link.exec_(b"BEGIN"))  # as a cursor would
    prepared = _PREPARED.setdefault(raw, {})
    if statement not in prepared:
        name = b"ledger_%d" % len(prepared)
        _checked(link.prepare(name, statement.encode()))
        prepared[statement] = name
    result = link.exec_prepared(prepared[statement], list(parameters))
    if result.error_field(pq.DiagnosticField.SQLSTATE) == b"26000":
        # Somebody said DEALLOCATE ALL. Told like a broken connection: the batch is done again on another.
        raise OperationalError("The ledger's prepared statements are gone.")
    return _checked(result)


def rows(statement: str, parameters: Sequence[bytes]) -> list[tuple[str | None, ...]]:
    """The rows of a query, each value as PostgreSQL writes it, or None."""
    result = run(statement, parameters)
    columns = range(result.nfields)
    return [tuple(_text(result.get_value(row, column)) for column in columns) for row in range(result.ntuples)]


def array(values: Sequence[Any]) -> bytes:
    """An array literal of ids and window keys, none of which has a character that needs quotes."""
    return ("{" + ",".join(map(str, values)) + "}").encode()


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _checked(result: Any) -> Any:
    from psycopg import OperationalError, errors, pq  # as above

    if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        if result.error_field(pq.DiagnosticField.SQLSTATE) is None:
            # Not the server said this, but libpq of a broken connection.
            raise OperationalError("The connection to the database is gone.")
        raise errors.error_from_result(result)
    return result
