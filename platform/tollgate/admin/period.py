"""Which days, of which tenant, broken down by what: the usage page's question, kept in its URL."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from urllib.parse import urlencode

from django.urls import reverse

from billing.breakdown import COLUMNS

SPANS: Mapping[str, str] = {
    "today": "Today",
    "7d": "7 days",
    "30d": "30 days",
    "month": "This month",
    "last-month": "Last month",
    "custom": "Custom",
}
BY: Mapping[str, str] = {name: name.replace("_", " ").capitalize() for name in COLUMNS}
MOST_DAYS = 400
_USUAL_SPAN, _USUAL_BY = "30d", "day"
_FURTHEST_EAST = timedelta(hours=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Billing days from `start` to `end`, both included; `today` is UTC's. `tenant` is a slug, "" for all.

    `problems` say, by field, what of the URL could not be followed; the usual stands in for it.
    """

    span: str
    today: date
    start: date
    end: date
    by: str
    tenant: str
    problems: Mapping[str, str] = field(default_factory=dict)

    def url(self, **changes: str) -> str:
        """The page with this question, but for `changes`."""
        said = {"span": self.span, "by": self.by, "tenant": self.tenant}
        if changes.get("span", self.span) == "custom":
            said |= {"from": str(self.start), "to": str(self.end)}
        kept = {name: value for name, value in (said | changes).items() if value}
        return f"{reverse('admin:usage')}?{urlencode(kept)}"

    @property
    def days(self) -> list[date]:
        return [self.start + timedelta(days=number) for number in range((self.end - self.start).days + 1)]


def asked(given: Mapping[str, str], *, now: datetime) -> Question:
    """The question that a query string asks: `span`, `from` and `to` (for `custom`), `by`, `tenant`."""
    problems: dict[str, str] = {}
    span = _one_of("span", given.get("span") or _USUAL_SPAN, SPANS, _USUAL_SPAN, problems)
    by = _one_of("by", given.get("by") or _USUAL_BY, BY, _USUAL_BY, problems)
    start, end = _custom(given, problems) if span == "custom" else (None, None)
    if start is None or end is None:
        span = _USUAL_SPAN if span == "custom" else span
        start, end = _days(span, now)
    tenant = given.get("tenant", "").strip()
    return Question(span=span, today=now.date(), start=start, end=end, by=by, tenant=tenant, problems=problems)


def _one_of(name: str, said: str, known: Mapping[str, str], usual: str, problems: dict[str, str]) -> str:
    if said in known:
        return said
    problems[name] = f"{name} is one of: {', '.join(known)}. Shown is {usual}."
    return usual


def _days(span: str, now: datetime) -> tuple[date, date]:
    """First and last day. In the east of UTC tomorrow has begun: only what is called today ends today."""
    today, latest = now.date(), (now + _FURTHEST_EAST).date()
    month = today.replace(day=1)
    ended = month - timedelta(days=1)
    return {
        "today": (today, today),
        "7d": (today - timedelta(days=6), latest),
        "30d": (today - timedelta(days=29), latest),
        "month": (month, latest),
        "last-month": (ended.replace(day=1), ended),
    }[span]


def _custom(given: Mapping[str, str], problems: dict[str, str]) -> tuple[date | None, date | None]:
    start, end = (_day(name, given.get(name, ""), problems) for name in ("from", "to"))
    if start is None or end is None:
        return None, None
    if end < start:
        problems["to"] = "to is before from. Swap them."
    elif (end - start).days >= MOST_DAYS:
        problems["to"] = f"At most {MOST_DAYS} days at once. Choose a nearer day."
    else:
        return start, end
    return None, None


def _day(name: str, text: str, problems: dict[str, str]) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        problems[name] = f"{name} is a day such as 2026-11-22."
        return None
