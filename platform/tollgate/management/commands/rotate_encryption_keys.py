"""`manage.py rotate_encryption_keys`: re-encrypt every stored provider key under the first key of ENCRYPTION_KEY."""

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand

from llm.catalog import resealing
from llm.models import ProviderCredential

WIDTH = 40


class Command(BaseCommand):
    help = (
        "Re-encrypts every stored provider key, the secrets before a rotation too, under the first key of "
        "ENCRYPTION_KEY. Safe under traffic; can be stopped and run again. Afterwards the old keys may be taken out of "
        "ENCRYPTION_KEY. Exits 1 if a provider key cannot be opened, naming it; all others are done all the same."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Say what would be done, and change nothing.")

    def handle(self, *_args: Any, **options: Any) -> None:
        total = ProviderCredential.objects.count()
        changed, seen, problems = 0, 0, []
        for seen, outcome in enumerate(resealing.reseal_all(dry_run=options["dry_run"]), start=1):
            changed += outcome.changed
            if outcome.problem:
                problems.append(f"{outcome.credential_id}: {outcome.problem}")
            self._progress(seen, total)
        verb = "would be re-encrypted" if options["dry_run"] else "re-encrypted"
        self.stdout.write(f"{changed} provider keys {verb}, {seen - changed - len(problems)} were up to date.")
        for problem in problems:
            self.stderr.write(f"Provider key {problem}")
        if problems:
            self.stderr.write(f"{len(problems)} provider keys could not be opened and stay as they are.")
            sys.exit(1)

    def _progress(self, seen: int, total: int) -> None:
        """A bar, on a terminal only: logs are spared."""
        if not self.stderr.isatty():
            return
        filled = WIDTH if seen >= total else WIDTH * seen // total
        end = "\n" if seen >= total else ""
        self.stderr.write(f"\r[{'#' * filled}{'.' * (WIDTH - filled)}] {seen} of {total}", ending=end)
