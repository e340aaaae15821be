"""The proof that the money adds up: usage + adjustments == windows == roll-ups == statements, to the last digit, also
under traffic; and of prepaid credit: what was granted less what was drawn is what is left.

It reads the rows again in its own way, in one snapshot of the database, and reports each figure that differs. The
ledger changes usage, windows and holds in one commit, so no snapshot can fall between them. Where a day's usage is
pruned, the charges of its roll-up stand for it: they must agree with windows, statements and the day's other roll-up.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum

from billing import charges, prepaid, rollup, slices, windows
from billing.credit_models import CreditEntry
from billing.models import Adjustment, BudgetWindow, DailyUsage, Hold, RolledDay, UsageRecord
from billing.periods import days_of
from billing.rollup import NOT_OF_ADJUSTMENTS, is_closed
from billing.rollup_models import COUNTS, DailyCharge, DailySlice, DailyUserUsage, OpenDay, RolledMonth
from billing.snapshot import snapshot
from billing.statement_models import Statement

ZERO = Decimal(0)
_SCOPES = (("tenant", "tenant_id"), ("key", "key_id"), ("config", "config_id"))
_MONEY = ("cost_total_usd", "billed_usd", "budget_usd")
_STATED = ("cost_total_usd", "billed_usd")
# What days have in common with months, and `DailyUsage` with `DailyCharge`.
# In the order of `charges.Place`, after the tenant.
_COARSE = ("tenant_id", "billing_day", "key_id", "config_id", "provider_slug", "model_name", "used_byok")
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "total_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure that does not add up. USD, or a number of requests, tokens or rows."""

    figure: str
    where: str
    expected: Decimal
    found: Decimal

    def __str__(self) -> str:
        return (
            f"{self.figure} of {self.where}: expected {self.expected.normalize():f}, found {self.found.normalize():f}"
        )


def check(*, now: datetime) -> list[Difference]:
    """Every figure that does not add up; none is good. Must not be called inside a transaction.

    Windows spent and held, prepaid credit, roll-ups of marked days and months, marks on days still open, and holds of
    requests already settled. A day that is not rolled up yet, or a month without a statement, is no difference.
    """
    with snapshot():
        found = [*_spent(), *_held(), *_credits(), *_rolled_days(now), *_rolled_months(now), *_settled_and_held()]
        return [*found, *_statements()]


def _kept() -> list[QuerySet[Any]]:
    """All usage and adjustments, each once: of days whose usage is pruned, the charges of their roll-up."""
    pruned = list(RolledDay.objects.filter(pruned_at__isnull=False).values_list("billing_day", flat=True))
    usage = UsageRecord.objects.exclude(billing_day__in=pruned) if pruned else UsageRecord.objects.all()
    kept = DailyCharge.objects.filter(billing_day__in=pruned)
    return [rows.order_by() for rows in (usage, kept, Adjustment.objects.all())]


def _spent() -> Iterator[Difference]:
    expected: dict[str, Decimal] = defaultdict(Decimal)
    for kind, column in _SCOPES:
        for rows in _kept():
            named = rows.filter(**{f"{column}__isnull": False})
            sums = named.values_list(column, "billing_day").annotate(spent=Sum("budget_usd"))
            for scope_id, day, spent in sums.iterator():
                for window in windows.windows_of(windows.Scope(kind, scope_id), day):
                    expected[window.key] += spent
    found = dict(BudgetWindow.objects.exclude(scope_kind="credit").values_list("pk", "spent").iterator())
    return _compare("spent", expected, found)


def _credits() -> Iterator[Difference]:
    """Of each tenant's prepaid credit: what was drawn, by its rows and by its window; what was granted, by its entries
    and by its window; and the balance, grant by grant and as granted less drawn."""
    drawn: dict[Any, Decimal] = defaultdict(Decimal)
    for rows in _kept():
        if rows.model is DailyCharge:
            sums = rows.exclude(prepaid_usd=ZERO).values_list("tenant_id").annotate(billed=Sum("prepaid_usd"))
        else:
            sums = rows.filter(is_prepaid=True).values_list("tenant_id").annotate(billed=Sum("billed_usd"))
        for tenant_id, billed in sums.iterator():
            drawn[tenant_id] += billed
    entries: dict[Any, list[CreditEntry]] = defaultdict(list)
    for entry in CreditEntry.objects.order_by("tenant_id", "number").iterator():
        entries[entry.tenant_id].append(entry)
    found = {row.scope_id: row for row in BudgetWindow.objects.filter(scope_kind="credit").iterator()}
    for tenant_id in sorted({*drawn, *entries, *found}):
        window = found.get(tenant_id)
        account = prepaid.replay(entries[tenant_id], spent=drawn[tenant_id])
        spent, granted = (ZERO, ZERO) if window is None else (window.spent, window.granted or ZERO)
        given = sum((entry.amount for entry in entries[tenant_id]), ZERO)
        for figure, expected, there in (
            ("drawn", drawn[tenant_id], spent),
            ("granted", given, granted),
            ("balance", given - drawn[tenant_id], account.balance),
        ):
            if expected != there:
                where = f"the prepaid credit of tenant {tenant_id}"
                yield Difference(figure=figure, where=where, expected=expected, found=there)


def _held() -> Iterator[Difference]:
    expected: dict[str, Decimal] = defaultdict(Decimal)
    for amount, credit, keys in Hold.objects.values_list("amount", "credit", "windows").iterator():
        for key in keys:
            expected[key] += (credit or ZERO) if key.startswith("credit:") else amount
    found = dict(BudgetWindow.objects.exclude(held=ZERO).values_list("pk", "held").iterator())
    return _compare("held", expected, found)


def _settled_and_held() -> Iterator[Difference]:
    for pk in Hold.objects.filter(pk__in=UsageRecord.objects.order_by().values("pk")).values_list("pk", flat=True):
        yield Difference(figure="holds", where=f"request {pk}, which is settled", expected=ZERO, found=Decimal(1))


def _statements() -> Iterator[Difference]:
    """Finalised statements, a month at a time: requests and each column that they speak of."""
    for month in Statement.objects.order_by("month").values_list("month", flat=True).distinct():
        stated = {
            statement.tenant_id: {name: Decimal(getattr(statement, name)) for name in ("requests", *_STATED)}
            for statement in Statement.objects.filter(month=month)
        }
        ledger: dict[Any, dict[str, Any]] = {tenant_id: defaultdict(Decimal) for tenant_id in stated}
        for rows in _kept():
            mine = rows.filter(billing_day__in=days_of(month), tenant_id__in=stated)
            sums: dict[str, Any] = {f"sum_{name}": Sum(name) for name in _STATED}
            number = Sum("requests") if rows.model is DailyCharge else Count("pk")
            found: dict[str, Any]
            for found in mine.values("tenant_id").annotate(count_rows=number, **sums):
                if rows.model is not Adjustment:
                    ledger[found["tenant_id"]]["requests"] += found["count_rows"]
                for name in _STATED:
                    ledger[found["tenant_id"]][name] += found[f"sum_{name}"]
        for tenant_id, figures in stated.items():
            where = {f"{name} (tenant_id={tenant_id})": value for name, value in figures.items()}
            right = {f"{name} (tenant_id={tenant_id})": ledger[tenant_id][name] for name in figures}
            yield from _compare(f"statement {month:%Y-%m}", right, where)


def _rolled_days(now: datetime) -> Iterator[Difference]:
    """One day at a time, so that years of roll-ups do not have to fit in memory."""
    for mark in RolledDay.objects.order_by("pk"):
        if not is_closed(day=mark.billing_day, now=now):
            where = f"the open day {mark.billing_day}"
            yield Difference(figure="roll-up marks", where=where, expected=ZERO, found=Decimal(1))
            continue
        yield from of_day(mark)
    for day, upto in OpenDay.objects.order_by("pk").values_list("pk", "upto"):
        for model in (DailyUsage, DailyUserUsage):
            yield from _compare(f"roll-up {day}", _of_rows(day, model, upto), _of_roll_up(day, model.DIMENSIONS, model))
        yield from _slices(day)


def of_day(mark: RolledDay) -> Iterator[Difference]:
    """Where the roll-ups of a marked day differ from its rows; of a pruned day, from each other. Ask in a snapshot."""
    day, rolled = mark.billing_day, charges.rolled_up(tenant_id=None, days=[mark.billing_day])
    if mark.pruned_at is not None:
        yield from _compare(f"roll-up {day}", _of_charges(day, rolled), _of_roll_up(day, _COARSE))
    else:
        for model in (DailyUsage, DailyUserUsage):
            yield from _compare(f"roll-up {day}", _of_rows(day, model), _of_roll_up(day, model.DIMENSIONS, model))
        if mark.charges is not None:
            live = charges.of_rows(tenant_id=None, days=[day])
            yield from _compare(f"charges {day}", _flat(live), _flat(rolled))
    if mark.slices is not None:
        yield from _slices(day)


def _slices(day: date) -> Iterator[Difference]:
    """Each cut of a day, of each tenant and of all, against its `DailyUsage`, histograms included."""
    expected: dict[str, Decimal] = defaultdict(Decimal)
    found: dict[str, Decimal] = defaultdict(Decimal)
    usage, sliced = (model._default_manager.filter(billing_day=day).order_by() for model in (DailyUsage, DailySlice))
    row: Any
    for row in usage.values().iterator():
        for cut, columns in slices.CUTS.items():
            values = ", ".join(str(row[name]) for name in columns)
            _count(expected, f"{cut}: {values} (tenant_id={row['tenant_id']})", row)
            if cut in slices.SHARED:
                _count(expected, f"{cut}: {values} (tenant_id=None)", row)
    for row in sliced.values().iterator():
        values = ", ".join(str(row[name]) for name in slices.CUTS.get(row["cut"], ()))
        _count(found, f"{row['cut']}: {values} (tenant_id={row['tenant_id']})", row)
    return _compare(f"slices {day}", expected, found)


def _count(figures: dict[str, Decimal], where: str, row: dict[str, Any]) -> None:
    for name in (*COUNTS, *_MONEY):
        figures[f"{name} of {where}"] += row[name]
    for name in ("latency_histogram", "ttft_histogram"):
        for bucket, count in row[name].items():
            figures[f"{name} {bucket} of {where}"] += count


def _rolled_months(now: datetime) -> Iterator[Difference]:
    """Each rolled month against the roll-ups of its days, a month at a time."""
    names = (*COUNTS, *_MONEY)
    for month in RolledMonth.objects.order_by("pk").values_list("pk", flat=True):
        if not rollup.is_complete(month=month, now=now):
            where = f"{month:%Y-%m}, of which a day has none"
            yield Difference(figure="roll-up marks", where=where, expected=ZERO, found=Decimal(1))
        for monthly, daily in rollup.OF_MONTHS:
            expected: dict[str, Decimal] = defaultdict(Decimal)
            found: dict[str, Decimal] = defaultdict(Decimal)
            of_days: Any = daily._default_manager.filter(billing_day__in=days_of(month))
            of_month: Any = monthly._default_manager.filter(month=month)
            same = [name for name in monthly.DIMENSIONS if name != "month"]
            for figures, rows in ((expected, of_days), (found, of_month)):
                sums: dict[str, Any] = {f"sum_{name}": Sum(name) for name in names}
                for row in rows.order_by().values(*same).annotate(**sums).iterator():
                    _add(figures, row, names)
            yield from _compare(f"roll-up {month:%Y-%m}", expected, found)


def _of_rows(day: date, model: Any, upto: uuid.UUID | None = None) -> dict[str, Decimal]:
    """Of an open day: the usage before `upto`, and no adjustments."""
    figures: dict[str, Decimal] = defaultdict(Decimal)
    before = Q() if upto is None else Q(pk__lt=upto)
    usage = UsageRecord.objects.filter(before, billing_day=day).order_by().values(*model.DIMENSIONS)
    sums: dict[str, Any] = {f"sum_{name}": Sum(name) for name in (*_MONEY, *_TOKENS)}
    for found in usage.annotate(sum_requests=Count("pk"), **sums).iterator():
        _add(figures, found, ("requests", *_MONEY, *_TOKENS))
    if upto is not None:
        return figures
    unsaid = {name: NOT_OF_ADJUSTMENTS[name] for name in model.DIMENSIONS if name in NOT_OF_ADJUSTMENTS}
    said = [name for name in model.DIMENSIONS if name not in unsaid]
    adjusted = Adjustment.objects.filter(billing_day=day).order_by().values(*said)
    for found in adjusted.annotate(**{f"sum_{name}": Sum(name) for name in _MONEY}).iterator():
        _add(figures, {**unsaid, **found}, _MONEY)
    return figures


def _of_roll_up(day: date, dimensions: Sequence[str], model: Any = DailyUsage) -> dict[str, Decimal]:
    figures: dict[str, Decimal] = defaultdict(Decimal)
    names = ("requests", *_MONEY, *_TOKENS)
    rows = model.objects.filter(billing_day=day).values(*dimensions)
    for found in rows.annotate(**{f"sum_{name}": Sum(name) for name in names}).iterator():
        _add(figures, found, names)
    return figures


def _of_charges(day: date, rolled: charges.Charges) -> dict[str, Decimal]:
    """What charges and adjustments make of the day by what both roll-ups say."""
    figures: dict[str, Decimal] = defaultdict(Decimal)
    for (tenant_id, place), used in rolled.items():
        found = {"tenant_id": tenant_id, **dict(zip(_COARSE[1:], place, strict=True)), "sum_requests": used.requests}
        money = {f"sum_{column}": getattr(used, name) for name, column in charges.MONEY.items()}
        tokens = {f"sum_{name}": count for name, count in used.tokens.items()}
        _add(figures, found | money | tokens, ("requests", *_MONEY, *_TOKENS))
    adjusted = Adjustment.objects.filter(billing_day=day).order_by().values(*_COARSE)
    for row in adjusted.annotate(**{f"sum_{name}": Sum(name) for name in _MONEY}).iterator():
        _add(figures, row, _MONEY)
    return figures


def _flat(found: charges.Charges) -> dict[str, Decimal]:
    """Every number of the charges under a name, those of each price line included; and each key's and config's name."""
    figures: dict[str, Decimal] = {}
    for (tenant_id, place), used in found.items():
        said = zip(_COARSE, (tenant_id, *place), strict=True)
        where = ", ".join(f"{name}={value}" for name, value in said if value not in {None, ""})
        figures[f"requests ({where})"] = Decimal(used.requests)
        figures |= {f"{name} ({where})": Decimal(count) for name, count in used.tokens.items()}
        figures |= {f"{column} ({where})": getattr(used, name) for name, column in charges.MONEY.items()}
        for kind, units in (("list", used.units), ("own", used.own_units)):
            for unit, quantity in units.items():
                price = f"{unit.meter} as {unit.priced_as} at {kind} price {unit.price:f} per {unit.per}"
                price += f", {unit.service_tier}"
                figures[f"{price} ({where})"] = Decimal(quantity)
        figures[f"names {used.key_name!r}, {used.config_name!r} ({where})"] = Decimal(1)
    return figures


def _add(figures: dict[str, Decimal], found: dict[str, Any], names: tuple[str, ...]) -> None:
    """Add the sums of one combination of dimensions under names that say which combination it is."""
    said = (
        f"{name}={found[name]}"
        for name in (*DailyUsage.DIMENSIONS, "user_id", "cut")
        if found.get(name) not in {None, ""}
    )
    where = ", ".join(said)
    for name in names:
        figures[f"{name} ({where})"] += found[f"sum_{name}"] or 0


def _compare(figure: str, expected: dict[str, Decimal], found: dict[str, Decimal]) -> Iterator[Difference]:
    for where in sorted({*expected, *found}):
        right, there = expected.get(where, ZERO), found.get(where, ZERO)
        if right != there:
            yield Difference(figure=figure, where=where, expected=right, found=there)
