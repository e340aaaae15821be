"""`catalog load` brings the shipped catalog into the database; `catalog check` compares it with public prices."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from llm.catalog import check, feed, loader, shipped
from llm.catalog.table import CatalogError


class Command(BaseCommand):
    """Load the shipped catalog, or check it against the public price feed."""

    help = "load: create and update catalog rows, keeping what staff changed. check: compare with genai-prices."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=("load", "check"))

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["action"] == "load":
                self._load()
            else:
                self._check()
        except CatalogError as error:
            raise CommandError(f"The shipped catalog is wrong: {error}") from error

    def _load(self) -> None:
        report = loader.load_catalog(now=timezone.now())
        touched = [f"{count} {what}" for what, count in report.counts.items() if count]
        self.stdout.write(f"Catalog: {', '.join(touched)}." if touched else "Catalog: up to date, nothing changed.")

    def _check(self) -> None:
        catalog = shipped.load()
        differences = check.compare(catalog, feed.lookup)
        for one in differences:
            reason = one.reason or "NOT EXPLAINED"
            ours, theirs = one.ours or "none", one.theirs or "none"
            self.stdout.write(f"{one.model}  {one.field}  ours {ours}  feed {theirs}  {reason}")
        open_ones = len(check.unexplained(differences))
        self.stdout.write(
            f"{len(catalog.models)} models compared, {len(differences)} differences, {open_ones} not explained. "
            f"Prices last read on {catalog.checked_on}."
        )
        if open_ones:
            raise CommandError("Correct the shipped data, or explain each difference in data/differences.toml.")
