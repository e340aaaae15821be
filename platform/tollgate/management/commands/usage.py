"""`manage.py usage prune`: delete the usage rows of old days, once nothing needs them."""

import argparse
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from billing import retention
from tenants.errors import InvalidValue


class Command(BaseCommand):
    help = (
        "prune deletes the usage rows of each day older than the retention that is closed, rolled up, without holds, "
        "in a month finalised for every tenant, and that adds up to the last digit. Its roll-ups stay. Safe at any "
        "time; killed, it is finished by the next run. It exits 1 if a day had to be kept, and says why."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        one = verbs.add_parser("prune")
        one.add_argument("--days", type=int, help="Keep so many (USAGE_RETENTION_DAYS).")
        one.add_argument("--dry-run", action="store_true", help="Prove each day and say what would go.")

    def handle(self, *_args: Any, **options: Any) -> None:
        keep_days = options["days"] if options["days"] is not None else settings.USAGE_RETENTION_DAYS
        if not keep_days:
            raise CommandError("Usage is kept for ever. Set USAGE_RETENTION_DAYS, or give --days.")
        rows = kept = 0
        try:
            for one in retention.prune(now=timezone.now(), keep_days=keep_days, dry_run=options["dry_run"]):
                self.stdout.write(
                    f"{one.day}: {one.rows} rows {'kept. ' + one.kept if one.kept else self._word(options)}"
                )
                rows += 0 if one.kept else one.rows
                kept += bool(one.kept)
        except InvalidValue as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{rows} rows {self._word(options)}; {kept} days kept.")
        if kept:
            sys.exit(1)

    @staticmethod
    def _word(options: dict[str, Any]) -> str:
        return "to delete" if options["dry_run"] else "deleted"
