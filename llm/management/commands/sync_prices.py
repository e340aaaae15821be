"""`manage.py sync_prices`: read the public price feed into proposals. Nothing it finds is in force by itself."""

from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from llm.catalog import feed, price_sync, shipped


class Command(BaseCommand):
    help = (
        "Compares every active model's price with genai-prices and proposes what differs; people approve it in the "
        "admin under Price proposals. A second run of the same feed proposes nothing. --dry-run writes nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be proposed.")

    def handle(self, *_args: Any, **options: Any) -> None:
        source = price_sync.Feed(
            lookup=feed.lookup, version=feed.version(), known_differences=shipped.load().known_differences
        )
        findings = price_sync.sync(feed=source, now=timezone.now(), dry_run=options["dry_run"])
        quiet = {price_sync.CONFIRMED, price_sync.UNKNOWN}
        for one in findings:
            if one.outcome not in quiet or options["verbosity"] > 1:
                self.stdout.write(str(one))
        counts = Counter(one.outcome for one in findings)
        said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "no active models"
        dry = " Nothing was written." if options["dry_run"] else ""
        self.stdout.write(f"{source.version}: {said}.{dry}")
