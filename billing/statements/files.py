"""A statement as an HTTP answer: JSON as it is stored, CSV, or the page for printing."""

import json
from datetime import date

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse

from billing.statements import printed, sheet
from billing.statements.document import sha256

TYPES = {"json": "application/json", "csv": "text/csv; charset=utf-8", "html": "text/html; charset=utf-8"}
# The page needs nothing but its own stylesheet.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def answer(text: bytes, *, kind: str, month: date, download: bool = False) -> HttpResponseBase:
    """`text` is the canonical document; `kind` one of TYPES."""
    document = json.loads(text)
    final = document["status"] == "final"
    response: HttpResponseBase
    if kind == "csv":
        response = StreamingHttpResponse(sheet.rows(document), content_type=TYPES[kind])
    elif kind == "html":
        page = printed.page(document, sha256=sha256(text) if final else None)
        response = HttpResponse(page, content_type=TYPES[kind])
        response["Content-Security-Policy"] = _POLICY
    else:
        response = HttpResponse(text, content_type=TYPES[kind])
    if final:
        response["X-Statement-SHA256"] = sha256(text)
    if download or kind == "csv":
        status = "" if final else "-draft"
        name = f"statement-{document['tenant']['slug']}-{month:%Y-%m}{status}.{kind}"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "private, no-cache"
    return response
