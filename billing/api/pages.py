"""Pages of usage: newest first by cursor, so that a page costs the same however far back it is."""

import uuid
from base64 import b64decode
from typing import Any

from django.core.exceptions import ValidationError
from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request

from billing.rare import Page
from tenants.errors import InvalidValue


class NewestFirst(CursorPagination):
    """`count` (null: it would mean counting millions), `next, previous, results`; `page_size` up to 1,000."""

    ordering = "-id"  # ids are ordered by time
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 1000

    def get_page_size(self, request: Request) -> int:
        """Raises InvalidValue where DRF would fall back silently."""
        text = request.query_params.get("page_size")
        if text is None:
            return self.page_size
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
            raise InvalidValue("page_size is a whole number from 1 to 1000.", param="page_size")
        return min(int(text), self.max_page_size)

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except ValidationError as error:  # a cursor whose position is no id
            raise _bad_cursor() from error

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Raises InvalidValue for whatever was not made by us; DRF would show the first page for some of it."""
        encoded = request.query_params.get(self.cursor_query_param)
        if encoded is None:
            return None
        try:
            b64decode(encoded, validate=True)
            cursor = super().decode_cursor(request)
        except (NotFound, ValueError) as error:
            raise _bad_cursor() from error
        if cursor is None or cursor.position is None:  # ids differ, so each of our cursors has a position
            raise _bad_cursor()
        return cursor

    def wanted(self, request: Request) -> Page | None:
        """Which rows the page is of. None of one that is read backwards (`previous`)."""
        cursor = self.decode_cursor(request)
        if cursor is not None and cursor.reverse:
            return None
        try:
            before = None if cursor is None else uuid.UUID(str(cursor.position))
        except ValueError as error:
            raise _bad_cursor() from error
        return Page(rows=self.get_page_size(request) + 1, before=before)  # one more: whether there is a `next`

    def get_paginated_response(self, data: Any) -> Any:
        response = super().get_paginated_response(data)
        response.data = {"count": None, **response.data}
        return response

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        shape = super().get_paginated_response_schema(schema)
        always_null = {"type": "integer", "nullable": True, "description": "Always null: pages go by cursor."}
        shape["properties"] = {"count": always_null, **shape["properties"]}
        return shape


def _bad_cursor() -> InvalidValue:
    return InvalidValue("This cursor is not one of ours. Follow `next` and `previous` as given.", param="cursor")
