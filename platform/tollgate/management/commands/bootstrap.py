"""`manage.py bootstrap`: make a fresh machine ready to answer. `make run` calls it each time."""

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from tollgate import demo


class Command(BaseCommand):
    help = (
        "Migrates, loads the catalog, and makes a staff user, a demo tenant, keys and schedules if they are missing. "
        "Changes nothing that exists."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print one JSON object, alone on standard output.")
        parser.add_argument("--new-keys", action="store_true", help="Issue new keys; the old ones go on working.")
        parser.add_argument(
            "--no-demo",
            action="store_true",
            help="Only migrate and load catalog and schedules: what a production installation runs on every release.",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["no_demo"]:
            demo.prepare(now=timezone.now())
            return
        made = demo.bootstrap(new_keys=options["new_keys"], now=timezone.now())
        if options["json"]:
            self.stdout.write(json.dumps(made))
            return
        width = max(len(name) for name in made)
        for name, value in made.items():
            self.stdout.write(f"{name:<{width}}  {value}")
