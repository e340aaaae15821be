"""One moment of the database: what several queries read together must not change in between."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction


@contextmanager
def snapshot() -> Iterator[None]:
    """A transaction in which every query sees the same moment, and which keeps no writer waiting."""
    if connection.vendor == "sqlite":
        with _deferred():
            yield
        return
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


@contextmanager
def reading() -> Iterator[None]:
    """A snapshot; inside somebody's transaction, that transaction."""
    if connection.in_atomic_block:
        yield
        return
    with snapshot():
        yield


@contextmanager
def _deferred() -> Iterator[None]:
    """SQLite: BEGIN DEFERRED. The settings say IMMEDIATE, which would take the write lock. WAL makes it a snapshot."""
    sqlite: Any = connection  # which has a `transaction_mode` that other databases have not
    sqlite.ensure_connection()
    usual = sqlite.transaction_mode
    sqlite.transaction_mode = "DEFERRED"
    try:
        with transaction.atomic(durable=True):
            yield
    finally:
        sqlite.transaction_mode = usual
