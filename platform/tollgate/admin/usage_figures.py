"""What the usage page says of what was found: figures, charts and rows, each number with the list behind it. Pure."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from billing import breakdown
from billing.breakdown import Group, Times
from billing.sums import Totals
from tenants.admin import dress
from tollgate.admin import period
from tollgate.admin.charts import BAD, PALETTE, REST, Cell, Chart, Series
from tollgate.admin.dashboard import Figure, between, share, usage_url
from tollgate.admin.period import Question

MOST_ROWS = 100
TOP = 8
# What the charts and figures are made of, and the dearest models. Two cuts of the roll-ups: together they would be each
# day's models, thirty times as many rows.
BY_DAY = ("billing_day", "provider_slug")
BY_MODEL = breakdown.COLUMNS["model"]
ZERO = Decimal(0)
_DRAWN = Decimal("0.000001")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the page is made of. `by_day` is by BY_DAY, `by_model` by BY_MODEL, `totals` by the question's columns;
    `shown` are the groups that get a row, in their order, and `times` theirs. `tenants` names them by id; `adjusted` is
    what adjustments changed the cost by: in the money, and in no request. `members` names users who are members of
    their tenant; others are what clients call them."""

    question: Question
    tenant_id: uuid.UUID | None
    tenants: Mapping[uuid.UUID, str]
    by_day: Mapping[Group, Totals]
    by_model: Mapping[Group, Totals]
    of_days: Mapping[Group, Times]
    totals: Mapping[Group, Totals]
    shown: Sequence[Group]
    times: Mapping[Group, Times]
    adjusted: Decimal | None
    members: Mapping[tuple[uuid.UUID, str], str]

    def url(self, **filters: str) -> str:
        """The requests of the span and the tenant, with these filters, which may name other days."""
        tenant = {} if self.tenant_id is None else {"tenant": str(self.tenant_id)}
        return usage_url(**{**between(self.question.start, self.question.end), **tenant, **filters})


def context(found: Found) -> dict[str, Any]:
    """The template's variables."""
    whole, slow = Totals(), Times()
    for totals in found.by_day.values():
        whole.include(totals)
    for times in found.of_days.values():
        slow.add(times)
    question = found.question
    days = {"billing_day_from": str(question.start), "billing_day_to": str(question.end)}
    return {
        "figures": _figures(found, whole, slow),
        "charts": _charts(found),
        "rows": _rows(found),
        "more": len(found.totals) - len(found.shown),
        "total": _cells(totals=whole, times=slow, url=found.url, filters={}),
        "by_name": period.BY[question.by],
        "top_models": [] if question.by == "model" else _top_models(found, whole),
        "models_url": question.url(by="model"),
        "adjusted": dress.usd(found.adjusted) if found.adjusted else "",
        "adjustments_url": f"{reverse('admin:billing_adjustment_changelist')}?{urlencode(days)}",
    }


def _figures(found: Found, whole: Totals, slow: Times) -> list[Figure]:
    said = slow.percentiles()
    return [
        Figure(
            label="Spend",
            value=dress.usd_round(whole.cost_total_usd),
            note=f"{dress.usd_round(whole.billed_usd)} billed to tenants",
            url=found.url(),
        ),
        Figure(label="Requests", value=f"{whole.requests:,}", note=f"{whole.total_tokens:,} tokens", url=found.url()),
        Figure(
            label="Errors",
            value=share(whole.errors, whole.requests),
            note=f"{whole.errors:,} requests",
            url=found.url(answer="error"),
            tone="bad" if whole.errors * 20 > whole.requests else "",
        ),
        Figure(
            label="Median latency",
            value=ms(said["latency_p50"]),
            note=f"95 % within {ms(said['latency_p95'])}",
            url=found.url(),
        ),
        Figure(
            label="Median first token",
            value=ms(said["ttft_p50"]),
            note=f"95 % within {ms(said['ttft_p95'])}",
            url=found.url(),
        ),
        Figure(
            label="Own keys (BYOK)",
            value=share(whole.byok_requests, whole.requests),
            note=f"{whole.byok_requests:,} requests",
            url=found.url(used_byok__exact="1"),
        ),
    ]


def ms(value: int | None) -> str:
    """A time for reading at a glance."""
    if value is None:
        return dress.NONE
    return f"{value:,} ms" if value < 10_000 else f"{value / 1000:,.1f} s"


# --- rows -------------------------------------------------------------------------------------------------------------


def shown(totals: Mapping[Group, Totals], *, by: str) -> list[Group]:
    """The groups that get a row: all days, newest first; of all else the dearest."""
    if by == "day":
        return sorted(totals, reverse=True)
    groups = sorted(totals.items(), key=lambda pair: (-pair[1].cost_total_usd, -pair[1].requests, str(pair[0])))
    return [group for group, _ in groups[:MOST_ROWS]]


def _rows(found: Found) -> list[tuple[Cell, str, list[Cell]]]:
    """(name, what is below it, the columns) of each group shown."""
    rows = []
    for group in found.shown:
        totals = found.totals[group]
        values = dict(zip(breakdown.COLUMNS[found.question.by], group, strict=True))
        name, below = _name(found, values)
        filters = _filters(values)
        cells = _cells(totals=totals, times=found.times.get(group, Times()), url=found.url, filters=filters)
        rows.append((Cell(text=name, url=_further(found, values)), below, cells))
    return rows


def _name(found: Found, values: Mapping[str, Any]) -> tuple[str, str]:
    """What a group is called, and within what."""
    if "billing_day" in values:
        return str(values["billing_day"]), ""
    tenant = found.tenants.get(values["tenant_id"], str(values["tenant_id"])) if "tenant_id" in values else ""
    if "user_id" in values:
        user = values["user_id"]
        return found.members.get((values["tenant_id"], user), user) or "no user", tenant
    if "model_name" in values:
        return values["model_name"] or "no model", values["provider_slug"]
    return tenant or next(iter(values.values())) or "none", ""


def _further(found: Found, values: Mapping[str, Any]) -> str:
    """A tenant's name leads to its own usage by model, a day's to that day; others to nothing more."""
    if found.question.by == "tenant":
        return found.question.url(tenant=found.tenants.get(values["tenant_id"], ""), by="model")
    if found.question.by == "day":
        day = str(values["billing_day"])
        return found.question.url(**{"span": "custom", "from": day, "to": day, "by": "model"})
    return ""


def _filters(values: Mapping[str, Any]) -> dict[str, str]:
    """The request log's filters for one group. Its own take an empty text for no filter; a plain `exact` does not."""
    filters: dict[str, str] = {}
    for name, value in values.items():
        if name == "billing_day":
            filters |= between(value, value)
        elif name == "tenant_id":
            filters["tenant"] = str(value)
        else:
            filters[name if value else f"{name}__exact"] = value
    return filters


def _cells(*, totals: Totals, times: Times, url: Callable[..., str], filters: Mapping[str, str]) -> list[Cell]:
    """Requests, errors, tokens, cost, billed, own key, and the four percentiles."""
    behind = url(**filters)
    said = times.percentiles()
    of_errors = url(**filters, answer="error") if totals.errors else ""
    of_own_keys = url(**{**filters, "used_byok__exact": "1"}) if totals.byok_requests else ""
    return [
        Cell(text=f"{totals.requests:,}", url=behind),
        Cell(text=_part(totals.errors, totals.requests), url=of_errors),
        Cell(text=f"{totals.total_tokens:,}", url=behind),
        Cell(text=dress.usd_round(totals.cost_total_usd), url=behind),
        Cell(text=dress.usd_round(totals.billed_usd), url=behind),
        Cell(text=_part(totals.byok_requests, totals.requests), url=of_own_keys),
        *(Cell(text=ms(said[name]), url=behind if said[name] is not None else "") for name in said),
    ]


def _part(part: int, whole: int) -> str:
    return f"{part:,} ({share(part, whole)})" if part else "0"


def _top_models(found: Found, whole: Totals) -> list[tuple[str, str, str, str]]:
    """(model, cost, share of all cost, URL) of the dearest."""
    models = ((pair, totals.cost_total_usd) for pair, totals in found.by_model.items())
    dearest = sorted(models, key=lambda pair: (-pair[1], pair[0]))[:TOP]
    return [
        (
            "/".join(part for part in pair if part) or "no model",
            dress.usd_round(cost),
            f"{100 * cost / whole.cost_total_usd:.1f} %" if whole.cost_total_usd > 0 else dress.NONE,
            found.url(**_filters({"provider_slug": pair[0], "model_name": pair[1]})),
        )
        for pair, cost in dearest
    ]


# --- charts -----------------------------------------------------------------------------------------------------------


def _charts(found: Found) -> list[Chart]:
    """Spend by provider, requests and errors, latency, time to first token: each by day."""
    days = found.question.days
    if days[-1] > found.question.today and not any(day == days[-1] for day, _ in found.by_day):
        days.pop()  # it has begun in the far east alone, where nobody asked anything yet
    note = "by billing day"
    times = {day: found.of_days.get((day,), Times()).percentiles() for day in days}
    return [
        Chart(title="Spend by provider", note=f"USD, provider’s list price, {note}", unit="USD", kind="bar",
              days=days, series=_spend(found, days)),
        Chart(title="Requests and errors", note=note, unit="requests", kind="bar", days=days,
              series=_requests(found, days)),
        Chart(title="Latency", note=f"ms, all requests, {note}", unit="ms", kind="line", days=days,
              series=_percentiles(found, times, "latency")),
        Chart(title="Time to first token", note=f"ms, {note}", unit="ms", kind="line", days=days,
              series=_percentiles(found, times, "ttft")),
    ]  # fmt: skip


def _spend(found: Found, days: list[date]) -> list[Series]:
    """A series for each of the dearest providers, and one for the rest together."""
    cost: dict[str, dict[date, Decimal]] = {}
    for (day, slug), totals in found.by_day.items():
        of_provider = cost.setdefault(slug, {})
        of_provider[day] = of_provider.get(day, ZERO) + totals.cost_total_usd
    dearest = sorted(cost, key=lambda slug: (-sum(cost[slug].values()), slug))
    shown, rest = dearest[: len(PALETTE)], dearest[len(PALETTE) :]
    series = [
        _amounts(found, slug, colour, [cost[slug].get(day, ZERO) for day in days], days)
        for slug, colour in zip(shown, PALETTE, strict=False)
    ]
    if rest:
        others = [sum((cost[slug].get(day, ZERO) for slug in rest), ZERO) for day in days]
        series.append(_amounts(found, None, REST, others, days))
    return series


def _amounts(found: Found, slug: str | None, colour: str, amounts: list[Decimal], days: list[date]) -> Series:
    """A provider's spend by day; of several together (None) there is no one list."""
    cells = [
        Cell(
            text=dress.usd_round(amount),
            url=found.url(**_filters({"provider_slug": slug, "billing_day": day}))
            if amount and slug is not None
            else "",
        )
        for day, amount in zip(days, amounts, strict=True)
    ]
    label = "others" if slug is None else slug or "no provider"
    # Decimal strings: Chart.js reads them.
    return Series(label=label, colour=colour, values=[str(amount.quantize(_DRAWN)) for amount in amounts], cells=cells)


def _requests(found: Found, days: list[date]) -> list[Series]:
    of_days: dict[date, Totals] = {day: Totals() for day in days}
    for (day, _), totals in found.by_day.items():
        of_days.setdefault(day, Totals()).include(totals)
    good = [of_days[day].requests - of_days[day].errors for day in days]
    bad = [of_days[day].errors for day in days]
    behind = [found.url(**between(day, day), answer="good") for day in days]
    wrong = [found.url(**between(day, day), answer="error") for day in days]
    return [
        _counts("answered", PALETTE[0], good, behind),
        _counts("errors", BAD, bad, wrong),
    ]


def _counts(label: str, colour: str, counts: list[int], urls: list[str]) -> Series:
    cells = [Cell(text=f"{count:,}", url=url if count else "") for count, url in zip(counts, urls, strict=True)]
    return Series(label=label, colour=colour, values=counts, cells=cells)


def _percentiles(found: Found, times: Mapping[date, Mapping[str, int | None]], name: str) -> list[Series]:
    return [
        Series(
            label=label,
            colour=colour,
            values=[said[key] for said in times.values()],
            cells=[
                Cell(text=ms(said[key]), url=found.url(**between(day, day)) if said[key] is not None else "")
                for day, said in times.items()
            ],
        )
        for label, key, colour in (("median", f"{name}_p50", PALETTE[0]), ("95 %", f"{name}_p95", PALETTE[2]))
    ]
