"""A statement as CSV: a row for each price line, and for what else makes up the bill. Both columns of money add up.

`list_usd` sums to the statement's `cost_usd`, `billed_usd` to its own. Kinds of rows:

    usage         a meter at a unit price; billed at list price with the platform's keys, not at all with own keys
    unitemised    requests without price lines
    rounding      what rounding each request once makes of it
    markup        what is billed above the list price
    own_key_fee   what is billed for requests with the tenant's own provider keys
    adjustment    a correction
"""

import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from billing.statements.document import usd

COLUMNS = (
    "kind", "day", "key_id", "key_name", "config_id", "config_name", "provider", "model", "own_key", "requests",
    "meter", "quantity", "unit_price_usd", "unit_quantity", "list_usd", "billed_usd", "request_id", "note",
)  # fmt: skip
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - spreadsheets read these too
_TYPED = frozenset({"key_name", "config_name", "provider", "model", "meter", "note"})


def inert(text: str) -> str:
    """A text that a spreadsheet shows and never runs."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULAS) else text


def rows(document: dict[str, Any]) -> Iterator[str]:
    """The lines of the CSV, the head first."""
    yield _line(COLUMNS)
    for row in _rows(document):
        yield _line([inert(str(row.get(name, ""))) if name in _TYPED else row.get(name, "") for name in COLUMNS])


def _line(values: Any) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(values)
    return buffer.getvalue()


def _rows(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    names = {kind: {row[f"{kind}_id"]: row["name"] for row in document[f"{kind}s"]} for kind in ("key", "config")}
    for detail in document["details"]:
        place = _place(detail, names)
        first: dict[str, Any] = {"requests": detail["requests"]}  # said once, so that the column adds up
        for row in _charges(detail):
            yield {**place, **first, **row}
            first = {}
        if first:
            yield {**place, **first, "kind": "usage", "list_usd": "0", "billed_usd": "0"}
    for one in document["adjustments"]:
        yield {
            **_place(one, names),
            "kind": "adjustment",
            "list_usd": one["list_usd"],
            "billed_usd": one["billed_usd"],
            "request_id": one["request_id"] or "",
            "note": one["reason"] if one["count"] == 1 else f"{one['reason']} ({one['count']} adjustments)",
        }


def _place(row: dict[str, Any], names: dict[str, dict[str | None, str]]) -> dict[str, Any]:
    return {
        "day": row["day"],
        "key_id": row["key_id"] or "",
        "key_name": names["key"].get(row["key_id"], ""),
        "config_id": row["config_id"] or "",
        "config_name": names["config"].get(row["config_id"], ""),
        "provider": row["provider"],
        "model": row["model"],
        "own_key": {True: "yes", False: "no", None: ""}[row.get("own_key")],
    }


def _charges(detail: dict[str, Any]) -> Iterator[dict[str, Any]]:
    own = detail["own_key"]

    def at_list(kind: str, amount: str, **more: Any) -> dict[str, Any]:
        return {"kind": kind, "list_usd": amount, "billed_usd": "0" if own else amount, **more}

    for line in detail["lines"]:
        facts = {name: line[name] for name in ("meter", "quantity", "unit_price_usd", "unit_quantity")}
        notes = [] if line["meter"] == line["priced_as"] else [f"at the price of {line['priced_as']}"]
        notes += [f"service tier {line['service_tier']}"] if "service_tier" in line else []
        yield at_list("usage", line["amount_usd"], **facts, note=", ".join(notes))
    for kind in ("unitemised", "rounding"):
        if detail[f"{kind}_usd"] != "0":
            yield at_list(kind, detail[f"{kind}_usd"])
    billed = Decimal(detail["billed_usd"])
    extra = billed if own else billed - Decimal(detail["list_usd"])
    if extra:
        yield {"kind": "own_key_fee" if own else "markup", "list_usd": "0", "billed_usd": usd(extra)}
