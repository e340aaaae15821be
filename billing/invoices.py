"""A provider's invoice as CSV, read into cost by model and day. Columns are named by whoever gives the file."""

import csv
import io
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation

from billing.pricing import rounded
from tenants.errors import InvalidValue

# The names that a column goes by if nobody says: the first that the file has.
DAYS = ("day", "date", "usage_date", "start_time", "timestamp")
MODELS = ("model", "model_id", "model_name", "sku", "line_item", "description")
COSTS = ("cost", "cost_usd", "amount", "amount_usd", "amount_value", "total")
MOST_BYTES = 32 * 1024 * 1024
_MOST_USD = Decimal(100_000_000)
_LONGEST = 200

ByModelAndDay = dict[tuple[str, date | None], Decimal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column holds what ("": look for a usual name), and which of our models a name of theirs means."""

    day: str = ""
    model: str = ""
    cost: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)


def read(content: bytes, *, month: date, columns: Columns) -> ByModelAndDay:
    """USD by model and day (UTC) of the rows of that month. Without a column of days: by model alone, under None.

    Raises InvalidValue naming the line that cannot be read: half an invoice proves nothing.
    """
    rows = _rows(content)
    head = [name.strip() for name in rows[0]] if rows else []
    model_at = _place(head, columns.model, MODELS, what="model")
    cost_at = _place(head, columns.cost, COSTS, what="cost")
    day_at = _place(head, columns.day, DAYS, what="day") if columns.day or _has(head, DAYS) else None
    found: ByModelAndDay = defaultdict(Decimal)
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(model_at, cost_at, day_at or 0):
            raise InvalidValue(f"Line {number} of the invoice has only {len(row)} cells.", param="invoice")
        day = None if day_at is None else _day(row[day_at], number)
        if day is not None and day.replace(day=1) != month:
            continue
        name = row[model_at].strip()[:_LONGEST]
        found[columns.aliases.get(name, name), day] += _usd(row[cost_at], number)
    return dict(found)


def _rows(content: bytes) -> list[list[str]]:
    if len(content) > MOST_BYTES:
        raise InvalidValue(f"The invoice is larger than {MOST_BYTES // 1024**2} MiB. Split it.", param="invoice")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidValue("The invoice is not UTF-8 text. Export it as CSV.", param="invoice") from error
    first = text.partition("\n")[0]
    delimiter = max((",", ";", "\t"), key=first.count)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise InvalidValue(f"The invoice is not CSV: {error}.", param="invoice") from error


def _has(head: list[str], names: tuple[str, ...]) -> bool:
    return any(name.lower() in names for name in head)


def _place(head: list[str], given: str, usual: tuple[str, ...], *, what: str) -> int:
    if given:
        if given in head:
            return head.index(given)
        raise InvalidValue(f"The invoice has no column “{given}”, but: {_listed(head)}.", param=what)
    lowered = [name.lower() for name in head]
    for name in usual:
        if name in lowered:
            return lowered.index(name)
    raise InvalidValue(f"Say which column holds the {what}. The invoice has: {_listed(head)}.", param=what)


def _listed(head: list[str]) -> str:
    return ", ".join(head)[:_LONGEST] or "nothing"


def _day(text: str, number: int) -> date:
    """A day, a moment (its day in UTC), or seconds since 1970, as OpenAI's cost exports have."""
    text = text.strip()
    try:
        if text.isascii() and text.isdigit() and len(text) in (10, 13):
            return datetime.fromtimestamp(int(text[:10]), tz=UTC).date()
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC).date() if moment.tzinfo else moment.date()
    except (ValueError, OverflowError) as error:
        raise InvalidValue(
            f"Line {number} of the invoice: “{text[:40]}” is not a day such as 2026-11-22.", param="invoice"
        ) from error


def _usd(text: str, number: int) -> Decimal:
    """USD. Credits are negative or in parentheses; a dollar sign and commas between thousands are passed over."""
    plain = text.strip().replace("$", "").replace(",", "").replace(" ", "")
    if plain.startswith("(") and plain.endswith(")"):
        plain = f"-{plain[1:-1]}"
    try:
        amount = Decimal(plain or "0")
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or abs(amount) > _MOST_USD:
        raise InvalidValue(f"Line {number} of the invoice: “{text[:40]}” is not an amount in USD.", param="invoice")
    return rounded(amount)
