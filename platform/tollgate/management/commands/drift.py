"""`manage.py drift`: our cost against what providers said in their answers, or against an invoice."""

import argparse
import sys
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from billing import drift, invoices, periods
from billing.drift import Tolerance
from tenants.errors import InvalidValue

_ROW = "{:<44} {:<10} {:>9} {:>16} {:>16} {:>16} {:>9}  {}"


class Command(BaseCommand):
    help = (
        "Compares our list cost of a month (days in UTC), corrections included, by model and day with the cost that "
        "providers named in their answers or, with --invoice, with a provider's invoice as CSV. It exits 1 if a line "
        "or the total differs by more than the tolerance."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--month", type=_month, help="As 2026-11. Without: the present month.")
        parser.add_argument("--provider", help="A provider's slug. Needed with --invoice.")
        parser.add_argument("--invoice", type=Path, help="A CSV file with a head line.")
        parser.add_argument("--day", default="", help="The column with the day. Without one: by model alone.")
        parser.add_argument("--model", default="", help="The column with the model.")
        parser.add_argument("--cost", default="", help="The column with the cost in USD.")
        parser.add_argument(
            "--alias",
            action="append",
            default=[],
            type=_alias,
            metavar="THEIRS=OURS",
            help="A model's name. Repeat it.",
        )
        parser.add_argument("--tolerance", type=_amount, default=Decimal(1), help="Percent of theirs (1).")
        parser.add_argument("--tolerance-usd", type=_amount, default=Decimal("0.01"), help="And at least (0.01).")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            report = self._report(options)
        except InvalidValue as error:
            raise CommandError(error.message) from error
        self._show(report)
        for words in report.missing:
            self.stderr.write(words)
        if report.beyond:
            self.stderr.write(f"{report.beyond} lines differ by more than the tolerance.")
            sys.exit(1)

    @staticmethod
    def _report(options: dict[str, Any]) -> drift.Report:
        month = options["month"] or periods.current(timezone="UTC", now=timezone.now())
        tolerance = Tolerance(percent=options["tolerance"], usd=options["tolerance_usd"])
        if options["invoice"] is None:
            return drift.reported(month=month, provider=options["provider"], tolerance=tolerance)
        if not options["provider"]:
            raise CommandError("Say whose invoice it is: --provider openai.")
        columns = invoices.Columns(
            day=options["day"], model=options["model"], cost=options["cost"], aliases=dict(options["alias"])
        )
        try:
            invoice = invoices.read(options["invoice"].read_bytes(), month=month, columns=columns)
        except OSError as error:
            raise CommandError(f"The invoice cannot be read: {error.strerror}.") from error
        return drift.invoiced(month=month, provider=options["provider"], invoice=invoice, tolerance=tolerance)

    def _show(self, report: drift.Report) -> None:
        self.stdout.write(
            _ROW.format("model", "day", "requests", "ours", "theirs", "difference", "percent", "").rstrip()
        )
        for row in (*report.rows, report.total):
            percent = "" if row.percent is None else f"{row.percent}"
            sums = [f"{amount:.6f}" for amount in (row.ours, row.theirs, row.difference)]
            day = "" if row.day is None else row.day.isoformat()
            beyond = "BEYOND" if row.beyond else ""
            self.stdout.write(_ROW.format(row.model, day, row.requests, *sums, percent, beyond).rstrip())


def _month(text: str) -> date:
    try:
        return periods.parse(text)
    except InvalidValue as error:
        raise argparse.ArgumentTypeError(error.message) from error


def _alias(text: str) -> tuple[str, str]:
    theirs, equals, ours = text.partition("=")
    if not equals or not theirs or not ours:
        raise argparse.ArgumentTypeError("Give THEIRS=OURS, as gpt-4o-2024-08-06=gpt-4o.")
    return theirs, ours


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        raise argparse.ArgumentTypeError(f"{text} is not a number.") from error
    if not amount.is_finite() or amount < 0:
        raise argparse.ArgumentTypeError("Give a number from 0 on.")
    return amount
