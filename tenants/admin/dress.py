"""How values look in the admin: badges, amounts, ages, bars. All through `format_html`, so every string is inert."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

NONE = "–"
_STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def badge(text: object, tone: str = "plain", title: str = "") -> SafeString:
    """A small label. `tone` is plain, good, warn, bad or info; the text says the same, so colour is never alone."""
    return format_html('<span class="tg-badge tg-{}" title="{}">{}</span>', tone, title, text)


def muted(text: object) -> SafeString:
    return format_html('<span class="tg-muted">{}</span>', text)


def link(url: str, text: object) -> SafeString:
    return format_html('<a class="tg-link" href="{}">{}</a>', url, text)


def stack(first: object, second: object) -> SafeString:
    """A value with a quieter one below it."""
    return format_html('{}<span class="tg-below">{}</span>', first, second)


def lines(items: Iterable[object]) -> SafeString:
    return format_html_join("", '<span class="tg-line">{}</span>', ((item,) for item in items))


def usd(amount: Decimal | None, *, none: str = NONE) -> str:
    """An amount in USD, exact: as many places as it has, at least two."""
    if amount is None:
        return none
    text = f"{amount.normalize():f}" if amount else "0"
    whole, _, part = text.lstrip("-").partition(".")
    return f"{'-' if amount < 0 else ''}${int(whole):,}.{part.ljust(2, '0')}"


def usd_round(amount: Decimal) -> str:
    """An amount in USD for reading at a glance: cents, or more places if it is smaller than a dollar."""
    size = abs(amount)
    places = 2 if size >= 1 or not size else 4 if size >= Decimal("0.01") else 6
    return f"{'-' if amount < 0 else ''}${size:,.{places}f}"


def moment(at: datetime | None) -> str:
    """A moment in UTC, to the second, in an order that sorts."""
    return NONE if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def ago(at: datetime | None, now: datetime, *, none: str = "never") -> str:
    """How long ago, in its largest unit: `3 min ago`."""
    if at is None:
        return none
    seconds = int((now - at).total_seconds())
    if seconds < 0:
        return f"in {span(-seconds)}"
    return f"{span(seconds)} ago"


def span(seconds: int) -> str:
    for size, unit in _STEPS:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def percent_of(part: Decimal, whole: Decimal) -> int:
    """`part` in percent of `whole`, rounded down; a whole of zero is all used up."""
    return 100 if whole <= 0 else int(part * 100 / whole)


def bar(*, spent: Decimal, held: Decimal, limit: Decimal | None) -> SafeString:
    """Spent and held against a limit, as a bar with its figures in words."""
    words = f"{usd_round(spent)} spent"
    if held:
        words += f", {usd_round(held)} held"
    if limit is None:
        return format_html('<span class="tg-budget"><span class="tg-figures">{}; no limit</span></span>', words)
    used = percent_of(spent + held, limit)
    tone = "bad" if used >= 100 else "warn" if used >= 80 else "good"
    return format_html(
        '<span class="tg-budget"><span class="tg-figures">{} of {} ({} %)</span>'
        '<span class="tg-bar" role="img" aria-label="{} percent used">'
        '<i class="tg-fill-{}" style="width:{}%"></i><i class="tg-fill-held" style="width:{}%"></i></span></span>',
        words,
        usd(limit),
        used,
        used,
        tone,
        min(percent_of(spent, limit), 100),
        max(0, min(percent_of(held, limit), 100 - min(percent_of(spent, limit), 100))),
    )


def pairs(values: Mapping[str, Any]) -> SafeString:
    """A JSON object as lines of `key: value`."""
    return lines(f"{key}: {short(value)}" for key, value in values.items())


def short(value: Any, most: int = 300) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> SafeString:
    """A plain table; cells are escaped unless they are already safe."""
    heads = format_html_join("", '<th scope="col">{}</th>', ((text,) for text in head))
    body = format_html_join(
        "", "<tr>{}</tr>", ((format_html_join("", "<td>{}</td>", ((cell,) for cell in row)),) for row in rows)
    )
    return format_html('<table class="tg-table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>', heads, body)
