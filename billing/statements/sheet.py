"""A statement as CSV: a row for each price line, and for what else makes up the bill. Both columns of money add up.

`list_usd` sums to the statement's `cost_usd`, `billed_usd` to its own. Kinds of rows:

    usage         a meter at a unit price; billed at list price with the platform's keys, not at all with own keys
    unitemised    requests without price lines
    rounding      what rounding each request once makes of it
    own_price_list  what of these is billed at the tenant's own prices instead: taken away from what is billed
    own_price, own_price_unitemised, own_price_rounding  what is billed at own prices, in the same three kinds
    markup        what is billed above the list price
    own_key_fee   what is billed for requests with the tenant's own provider keys
    adjustment    a correction

`prepaid_usd`, said once for each place, is the part of billed_usd that prepaid credit paid.
"""

import csv
import io
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from billing.statements.document import usd

COLUMNS = (
    "kind", "day", "key_id", "key_name", "config_id", "config_name", "provider", "model", "own_key", "requests",
    "meter", "quantity", "unit_price_usd", "unit_quantity", "list_usd", "billed_usd", "request_id", "note",
    "prepaid_usd",
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
        # Said once, so that the columns add up.
        first: dict[str, Any] = {"requests": detail["requests"], "prepaid_usd": detail.get("prepaid_usd", "")}
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
            "prepaid_usd": one.get("prepaid_usd", ""),
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
    own_key = detail["own_key"]

    def at_list(kind: str, amount: str, **more: Any) -> dict[str, Any]:
        return {"kind": kind, "list_usd": amount, "billed_usd": "0" if own_key else amount, **more}

    def billed(kind: str, amount: str, **more: Any) -> dict[str, Any]:
        return {"kind": kind, "list_usd": "0", "billed_usd": amount, **more}

    yield from _itemised(detail, "", at_list)
    replaced = Decimal(detail.get("own_price_list_usd", 0))
    if replaced:
        yield billed("own_price_list", usd(-replaced))
    if "own_price_lines" in detail:
        yield from _itemised(detail, "own_price", billed)
    extra = Decimal(detail["billed_usd"]) - Decimal(detail.get("own_price_usd", 0))
    if not own_key:
        extra -= Decimal(detail["list_usd"]) - replaced
    if extra:
        yield billed("own_key_fee" if own_key else "markup", usd(extra))


def _itemised(detail: dict[str, Any], prefix: str, row: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The lines of a charge at list price (no prefix) or at own prices, and what they leave of it."""
    before = f"{prefix}_" if prefix else ""
    for line in detail[f"{before}lines"]:
        facts = {name: line[name] for name in ("meter", "quantity", "unit_price_usd", "unit_quantity")}
        notes = [] if line["meter"] == line["priced_as"] else [f"at the price of {line['priced_as']}"]
        notes += [f"service tier {line['service_tier']}"] if "service_tier" in line else []
        yield row(prefix or "usage", line["amount_usd"], **facts, note=", ".join(notes))
    for kind in (f"{before}unitemised", f"{before}rounding"):
        if detail[f"{kind}_usd"] != "0":
            yield row(kind, detail[f"{kind}_usd"])
