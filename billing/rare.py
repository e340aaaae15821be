"""Lists by what is seldom used. A list is read from the newest request on until a page is full, which by a rare model
is the whole table; roll-ups know on which days there is something to find.
"""

import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

from django.db.models import Min, Q, QuerySet, Sum

from billing import periods
from billing.models import RolledDay, UsageRecord
from billing.sums import Days, days_of, rolled_up
from tenants import scoping
from tenants.ids import uuid7_of

# So many are looked up by their ids.
FEW = 2_000
# So many rows are passed by on the way to a full page sooner than ids are looked up.
PASSED = 10_000
# How far from midnight in UTC a date begins and ends around the world, and an hour.
_NEAR = {"gte": timedelta(hours=-15), "lte": timedelta(hours=37)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is shown of a list, newest first: so many rows, and of those before that request if one is named."""

    rows: int
    before: uuid.UUID | None = None

    def up_to(self, pk: uuid.UUID) -> "Page":
        """Of those before that request, too."""
        return Page(rows=self.rows, before=pk if self.before is None else min(pk, self.before))


def id_near(moment: date | datetime, operator: str) -> uuid.UUID:
    """A request id that is surely beyond those of the days or times asked for. Lists are read in the order of ids, and
    ids are ordered by time: without such a bound, a week long ago is looked for from the newest request on."""
    try:
        day = moment.astimezone(UTC).date() if isinstance(moment, datetime) else moment
        near = datetime.combine(day, datetime.min.time(), tzinfo=UTC) + _NEAR[operator]
        return uuid7_of(max(0, round(near.timestamp() * 1000)), 0 if operator == "gte" else 1 << 73)
    except (OverflowError, ValueError):  # the ends of the calendar
        return uuid.UUID(int=0 if operator == "gte" else (1 << 128) - 1)


def id_bound(moment: date | datetime, operator: str, *, tenant_id: uuid.UUID | None) -> uuid.UUID:
    """Where a list of these days or times begins (`lte`) or ends (`gte`): `last_id` where it can be, else `id_near`."""
    if operator == "lte" and tenant_id is not None and not isinstance(moment, datetime):
        return last_id(tenant_id=tenant_id, day=moment)
    return id_near(moment, operator)


def last_id(*, tenant_id: uuid.UUID, day: date) -> uuid.UUID:
    """A request id that none of the tenant's on that day or before it is beyond: the last one of these, where there is
    one. `id_near` is up to 13 hours after it, in which other tenants, and this one on its next day, ask much."""
    try:
        bounds = [id_near(day - timedelta(days=2), "lte")]  # before midnight of the day in every time zone
        days = (day, day - timedelta(days=1))
    except OverflowError:  # the beginning of the calendar
        return id_near(day, "lte")
    rows = scoping.rows(UsageRecord, tenant_id=tenant_id).order_by("-pk").values_list("pk", flat=True)
    for one in days:
        bounds += rows.filter(billing_day=one)[:1]
    return max(bounds)


def narrowed(
    rows: QuerySet[UsageRecord], *, tenant_id: uuid.UUID | None, only: Q, page: Page | None = None
) -> QuerySet[UsageRecord]:
    """The same rows, by their ids if they are few; of a `page`, if those of the newest days that fill it are few: then
    perhaps without older ones. `rows` are already those of `only`, which asks for dimensions of roll-ups.

    What is in no roll-up yet, the newest requests included, is looked for in the rows.
    """
    columns = set(_columns(only))
    if "model_name" in columns:
        columns.add("provider_slug")  # with the provider, the index on models finds it
    if not RolledDay.objects.exists():
        return rows.filter(provider_slug__in=_slugs()) if "model_name" in columns else rows
    until = date.max
    if page is not None and page.before is not None:
        rows = rows.filter(pk__lt=page.before)
        until = _day_of(page.before)
    counts = _Counts(rows=rows, columns=columns, only=only, tenant_id=tenant_id, days=days_of(date.min, until))
    if page is not None:
        newest = counts.newest(2 * page.rows)
        if newest and counts.all_since(newest[-1].day) * page.rows <= PASSED * _number(newest):
            return rows
        ids = counts.ids(newest)
        if ids is not None and (_number(newest) < 2 * page.rows or _is_full(page, newest, ids)):
            return rows.filter(pk__in=ids)
    elif counts.of_months > FEW:
        return rows
    ids = counts.ids(counts.newest(FEW + 1))
    return rows if ids is None else rows.filter(pk__in=ids)


@dataclass(frozen=True, slots=True)
class _Found:
    """A day with something, of that provider if the list is by one."""

    day: date
    slugs: tuple[str, ...]
    number: int


class _Counts:
    """How many of a list's rows each day has, by its roll-ups: those of days in whole months are asked for late."""

    def __init__(
        self, *, rows: QuerySet[UsageRecord], columns: Collection[str], only: Q, tenant_id: uuid.UUID | None, days: Days
    ) -> None:
        self.rows, self.columns, self.only, self.tenant_id, self.days = rows, columns, only, tenant_id, days
        self._of_days, of_months = rolled_up(columns, tenant_id=tenant_id, days=days)
        months = of_months.filter(days.months, only).values_list("month").annotate(number=Sum("requests"))
        self._months: dict[date, int] = {month: number for month, number in months if number}

    @property
    def of_months(self) -> int:
        """How many whole months have."""
        return sum(self._months.values())

    def newest(self, most: int) -> list[_Found]:
        """The newest days that have `most` of them together; all days, if there are not so many."""
        opened: list[date] = []
        number = 0
        for month in sorted(self._months, reverse=True):
            if number + sum(found.number for found in self._rest if found.day > month) >= most:
                break
            number += self._months[month]
            opened += periods.days_of(month)
        found = self._rest + (self._by_day(Q(billing_day__in=opened) & self.days.rolled) if opened else [])
        chosen: list[_Found] = []
        for one in sorted(found, key=lambda one: one.day, reverse=True):
            if chosen and one.day != chosen[-1].day and _number(chosen) >= most:
                break
            chosen.append(one)
        return chosen

    def all_since(self, day: date) -> int:
        """How many requests there are since that day, of the list's tenant, whatever they are of."""
        of_days, _ = rolled_up((), tenant_id=self.tenant_id, days=self.days)
        since = of_days.filter(self.days.rolled, billing_day__gte=day)
        return since.aggregate(number=Sum("requests"))["number"] or 0

    @cached_property
    def _rest(self) -> list[_Found]:
        return self._by_day(self.days.rest)

    def _by_day(self, within: Q) -> list[_Found]:
        slug = ("provider_slug",) if "provider_slug" in self.columns else ()
        found = self._of_days.filter(within, self.only).values_list("billing_day", *slug)
        counted = found.annotate(number=Sum("requests"))
        return [_Found(day, tuple(slugs), number) for day, *slugs, number in counted if number]

    def ids(self, found: Collection[_Found]) -> set[uuid.UUID] | None:
        """The ids of the rows of these days, and of those in no roll-up. None if they are not few."""
        if _number(found) > FEW:
            return None
        on_days = self.rows.filter(billing_day__in={one.day for one in found})
        if "provider_slug" in self.columns:
            on_days = on_days.filter(provider_slug__in={slug for one in found for slug in one.slugs})
        ids: set[uuid.UUID] = set()
        for part in (on_days, *self.days.of_rows(self.rows)):
            ids.update(part.order_by().values_list("pk", flat=True)[: FEW + 1])
        return None if len(ids) > FEW else ids


def _number(found: Iterable[_Found]) -> int:
    return sum(one.number for one in found)


def _is_full(page: Page, newest: Sequence[_Found], ids: Iterable[uuid.UUID]) -> bool:
    """Whether the ids of these days fill the page, whatever was asked on the days before them: what is newer than all
    of that counts."""
    edge = id_near(newest[-1].day - timedelta(days=1), "lte")
    return sum(pk > edge for pk in ids) >= page.rows


def _day_of(pk: uuid.UUID) -> date:
    """The last billing day on which a request with this id, or an older one, may be."""
    try:
        return (datetime.fromtimestamp((pk.int >> 80) / 1000, UTC) - _NEAR["gte"]).date()
    except (OverflowError, ValueError):  # the end of the calendar
        return date.max


def _columns(asked: Q) -> Iterator[str]:
    for one in asked.children:
        if isinstance(one, Q):
            yield from _columns(one)
        elif isinstance(one, tuple):
            yield one[0].partition("__")[0]


def _slugs() -> list[str]:
    """Every provider that ever served a request: one step of the index on models each, however many rows there are."""
    found: list[str] = []
    slug: str | None = UsageRecord.objects.aggregate(first=Min("provider_slug"))["first"]
    while slug is not None:
        found.append(slug)
        slug = UsageRecord.objects.filter(provider_slug__gt=slug).aggregate(first=Min("provider_slug"))["first"]
    return found
