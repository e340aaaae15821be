"""`manage.py roll_up`: rebuild roll-ups from usage and adjustments."""

import argparse
import time
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from billing import rollup


class Command(BaseCommand):
    help = (
        "Rebuilds the roll-ups of every day that has usage or adjustments, then of months. Any number of times, in any "
        "order, beside traffic: each day is one transaction. Days whose usage is pruned keep theirs."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--from", type=date.fromisoformat, default=date.min, dest="first", metavar="2026-11-01")
        parser.add_argument("--to", type=date.fromisoformat, default=date.max, dest="last", metavar="2026-11-30")

    def handle(self, *_args: Any, **options: Any) -> None:
        now, days = timezone.now(), rollup.days_with_rows()
        days = [day for day in days if options["first"] <= day <= options["last"]]
        for number, day in enumerate(days, start=1):
            began = time.monotonic()
            rows = rollup.roll_up_day(day=day, now=now)
            self.stdout.write(f"{day}: {rows} rows, {time.monotonic() - began:.1f} s ({number} of {len(days)})")
        for month, rows in rollup.roll_up_months(now=now).items():
            self.stdout.write(f"{month}: {rows} rows")
