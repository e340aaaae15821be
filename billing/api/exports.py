"""Usage as CSV, row by row while it is read: what a tenant takes into its own books, however much it is."""

import csv
import io
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
from asgiref.sync import sync_to_async
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from billing import reports
from billing.api import serializers
from billing.api.views import AdminUsageList, UsageList, asked, wanted_of
from billing.models import UsageRecord
from billing.statements.document import usd
from billing.statements.sheet import inert

PAGE = 500  # rows read at once: as long as the other requests of this process have to wait for them
_CSV = {(200, "text/csv"): OpenApiTypes.STR}


class UsageExport(UsageList):
    """The tenant's requests as CSV, newest first: the columns and filters of the list, without pages. `price_lines` and
    `terms` are JSON; a text that a spreadsheet would take for a formula begins with an apostrophe."""

    columns: Sequence[str] = [name for name in serializers.UsageRow.Meta.fields if name != "model"]

    @extend_schema(operation_id="usage_export", parameters=[serializers.UsageQuery], responses=_CSV)
    def get(self, request: Request, *_args: Any, **_kwargs: Any) -> Any:
        given = asked(self.query, request)
        rows = reports.usage_rows(tenant_id=self.tenant_id(given), wanted=wanted_of(given))
        chunks: Any = _chunks(rows, self.columns)
        if hasattr(
            request, "scope"
        ):  # served by ASGI, where a plain iterator would be read whole before its first byte is sent
            chunks = _threaded(chunks)
        answer = StreamingHttpResponse(chunks, content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = 'attachment; filename="usage.csv"'
        return answer


class AdminUsageExport(AdminUsageList, UsageExport):
    """The same of all tenants, or of one, and what failed attempts cost the platform."""

    columns = [*UsageExport.columns, "lost_cost_usd"]

    @extend_schema(operation_id="admin_usage_export", parameters=[serializers.AdminUsageQuery], responses=_CSV)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        return UsageExport.get(self, request, *args, **kwargs)


def _chunks(rows: QuerySet[UsageRecord], columns: Sequence[str]) -> Iterator[bytes]:
    """The head, then a page of rows at a time. Each page is a query of its own, from the last id down: no transaction
    stays open while a slow client reads, and what is accepted meanwhile is not in it."""
    yield _text([columns])
    fields = ["id", *(serializers.SOURCES.get(name, name) for name in columns)]
    last: uuid.UUID | None = None
    while True:
        older = rows if last is None else rows.filter(pk__lt=last)
        page = list(older.order_by("-pk").values_list(*fields)[:PAGE])
        if page:
            yield _text([_cell(value) for value in row[1:]] for row in page)
            last = page[-1][0]
        if len(page) < PAGE:
            return


async def _threaded(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    following = sync_to_async(lambda: next(chunks, None))
    while (chunk := await following()) is not None:
        yield chunk


def _text(rows: Any) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode()


def _cell(value: Any) -> Any:
    """As the list's JSON has it: plain decimals, ISO 8601 in UTC, true and false."""
    if isinstance(value, str):
        return inert(value)
    if isinstance(value, Decimal):
        return usd(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, (list, dict)):
        return orjson.dumps(value).decode()
    return value
