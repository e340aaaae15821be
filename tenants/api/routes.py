"""URLs of `/api/v1/`: each answers with and without a trailing slash, and is documented once."""

from typing import Any

from django.urls import URLPattern, path


def route(pattern: str, view: Any, actions: dict[str, str] | None = None, **attributes: Any) -> list[URLPattern]:
    """A view (with `actions`, a view set) at `pattern` and at `pattern/`; `attributes` are set on the view."""
    first = () if actions is None else (actions,)
    return [
        path(pattern, view.as_view(*first, **attributes)),
        path(f"{pattern}/", view.as_view(*first, **attributes, schema=None)),
    ]
