"""A provider's invoice as CSV, read into cost by model and day. Columns are named by whoever gives the file.

Nothing is guessed: an amount that can mean two, and a sum that its lines do not come to, are refused by their line.
"""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal

from billing.pricing import rounded
from tenants.errors import InvalidValue

# The names that a column goes by if nobody says: the first that the file has.
DAYS = ("day", "date", "usage_date", "start_time", "timestamp")
MODELS = ("model", "model_id", "model_name", "sku", "line_item", "description")
COSTS = ("cost", "cost_usd", "amount", "amount_usd", "amount_value", "total")
MOST_BYTES = 32 * 1024 * 1024
_MOST_USD = Decimal(100_000_000)
_LONGEST = 200
_CENT = Decimal("0.01")
# What stands in place of a model where a line sums up others.
_TOTAL = re.compile(r"((grand|sub)[ -]?)?totals?\b|sum\b|$", re.IGNORECASE)
# Digits, all together or in groups of three; a decimal mark with what follows it; an exponent.
_AMOUNT = re.compile(
    r"(?P<sign>[-+]?) ?"
    r"(?P<whole>[1-9]\d{0,2}(?P<between>[., '’\u00a0\u202f])\d{3}(?:(?P=between)\d{3})*|\d*)"
    r"(?:(?P<mark>[.,])(?P<part>\d*))?"
    r"(?P<exponent>(?:[eE][-+]?\d{1,3})?)",
    re.ASCII,
)
_OTHER = {",": ".", ".": ","}
_CALLED = {",": "a decimal comma", ".": "a decimal point"}

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

    Lines that sum up others (“Total”, or no model) are held to them and left out. Raises InvalidValue naming the line
    that cannot be read: half an invoice proves nothing.
    """
    rows, delimiter = _rows(content)
    head = [name.strip() for name in rows[0]] if rows else []
    model_at = _place(head, columns.model, MODELS, what="model")
    cost_at = _place(head, columns.cost, COSTS, what="cost")
    day_at = _place(head, columns.day, DAYS, what="day") if columns.day or _has(head, DAYS) else None
    amounts, sums = _Amounts(column=head[cost_at], usual="," if delimiter == ";" else "."), _Sums()
    found: ByModelAndDay = defaultdict(Decimal)
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(model_at, cost_at, day_at or 0):
            raise InvalidValue(f"Line {number} of the invoice has only {len(row)} cells.", param="invoice")
        name, usd = row[model_at].strip()[:_LONGEST], amounts.read(row[cost_at], number)
        if name not in columns.aliases and _TOTAL.match(name):
            sums.check(usd, name, number)
            continue
        sums.add(usd)
        day = None if day_at is None else _day(row[day_at], number)
        if day is None or day.replace(day=1) == month:
            found[columns.aliases.get(name, name), day] += usd
    return dict(found)


@dataclass(slots=True, kw_only=True)
class _Amounts:
    """The amounts of one column, which all have the same decimal mark. `usual`: the one that a file like this has;
    `mark`: the one that an amount had, first in line `line`."""

    column: str
    usual: str
    mark: str = ""
    line: int = 0

    def read(self, text: str, line: int) -> Decimal:
        """USD; nothing is 0. Credits are negative or in parentheses, a dollar sign is passed over. Raises InvalidValue
        for what is no amount, or can be two."""
        plain = text.replace("$", "").strip()
        if plain.startswith("(") and plain.endswith(")"):
            plain = f"-{plain[1:-1].strip()}"
        found = _AMOUNT.fullmatch(plain or "0")
        if found is None or not any(found.group("whole", "part")) or found["mark"] == (found["between"] or ""):
            raise self._refused(line, text, "is not an amount in USD.")
        whole, between, mark, part = found.group("whole", "between", "mark", "part")
        if between in _OTHER and mark is None and whole.count(between) == 1:
            if between != self.usual:
                one, other = whole.replace(between, ""), whole.replace(between, self.usual)
                said = f"can be {one} or {other}. Write {one} or {one}{self.usual}00, or else {other}0."
                raise self._refused(line, text, said)
            mark = between
            whole, part = whole.split(mark)
        self._agree(line, text, mark or _OTHER.get(between or "", ""))
        digits = re.sub(r"\D", "", whole) or "0"
        amount = Decimal(f"{found['sign']}{digits}.{part or ''}{found['exponent']}")
        if abs(amount) > _MOST_USD:
            raise self._refused(line, text, "is not an amount in USD.")
        return rounded(amount)

    def _agree(self, line: int, text: str, mark: str) -> None:
        if mark and self.mark and mark != self.mark:
            said = f"has {_CALLED[mark]}, line {self.line} has {_CALLED[self.mark]}. Write all amounts alike."
            raise self._refused(line, text, said)
        if mark and not self.mark:
            self.mark, self.line = mark, line

    def _refused(self, line: int, text: str, said: str) -> InvalidValue:
        where = f"Line {line} of the invoice, column “{self.column}”"
        return InvalidValue(f"{where}: “{text.strip()[:40]}” {said}", param="invoice")


@dataclass(slots=True, kw_only=True)
class _Sums:
    """What the lines come to: all so far, and those since the last sum."""

    all: Decimal = Decimal(0)
    last: Decimal = Decimal(0)

    def add(self, usd: Decimal) -> None:
        self.all += usd
        self.last += usd

    def check(self, usd: Decimal, name: str, line: int) -> None:
        """A line without a model is the sum of those before it, to a cent, or nothing. Raises InvalidValue."""
        if usd and min(abs(usd - self.all), abs(usd - self.last)) > _CENT:
            what = f"“{name}”" if name else "no model"
            raise InvalidValue(
                f"Line {line} of the invoice has {what} and {usd.normalize():f}, but the lines before it come to "
                f"{self.all.normalize():f}. Take it out, or name the model that it is of.",
                param="invoice",
            )
        self.last = Decimal(0)


def _rows(content: bytes) -> tuple[list[list[str]], str]:
    """The cells, and what was between them."""
    if len(content) > MOST_BYTES:
        raise InvalidValue(f"The invoice is larger than {MOST_BYTES // 1024**2} MiB. Split it.", param="invoice")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidValue("The invoice is not UTF-8 text. Export it as CSV.", param="invoice") from error
    first = text.partition("\n")[0]
    delimiter = max((",", ";", "\t"), key=first.count)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)), delimiter
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
