"""`manage.py reconcile --check`: prove that usage, windows and roll-ups agree to the last digit."""

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from billing import reconcile


class Command(BaseCommand):
    help = (
        "Compares usage and adjustments with budget windows, holds, roll-ups and statements, in one snapshot of the "
        "database; safe at any time, also under traffic. Prints each difference. With --check it exits 1 if there is "
        "one."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="Exit 1 if anything differs.")

    def handle(self, *_args: Any, **options: Any) -> None:
        differences = reconcile.check(now=timezone.now())
        for difference in differences:
            self.stdout.write(str(difference))
        if not differences:
            self.stdout.write(
                "Usage, adjustments, budget windows, holds, roll-ups and statements agree to the last digit."
            )
            return
        self.stderr.write(f"{len(differences)} figures do not add up.")
        if options["check"]:
            sys.exit(1)
