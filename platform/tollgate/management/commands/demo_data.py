"""`manage.py demo_data`: believable traffic, to see the dashboards with something on them."""

import argparse
import time
from datetime import datetime, timedelta
from random import Random
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse
from django.utils import timezone

from billing import periods, rollup
from billing.statement_models import Statement
from llm.engine import snapshot
from tenants.errors import TollgateError
from tollgate.demo_data import posting, probes, stage
from tollgate.demo_data.personas import PERSONAS
from tollgate.demo_data.traffic import Traffic
from tollgate.supervisor import reachable_host

_BAR = 30


class Command(BaseCommand):
    help = (
        "Writes believable requests of made-up tenants (their slugs begin with demo-) through the real ledger, at the "
        "catalog's prices, rolls them up, and adds two days of probes. Windows, usage and roll-ups agree to the last "
        "digit. It cannot be undone: usage is append-only. A second run adds to the first. No provider is called."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--requests", type=_positive, default=200_000, help="How many (200000).")
        parser.add_argument("--days", type=_positive, default=45, help="Over how many days until now (45).")
        parser.add_argument("--seed", type=int, default=1, help="The same seed gives the same requests (1).")
        parser.add_argument("--yes", action="store_true", help="Do it in production too.")

    def handle(self, *_args: Any, **options: Any) -> None:
        if settings.PRODUCTION and not options["yes"]:
            raise CommandError(
                "This is production, and usage once written stays: reports, health and catalog pages would show it for "
                "ever. If you mean it, say --yes."
            )
        number, now, begun = options["requests"], timezone.now(), time.monotonic()
        self._refuse_finalised(now - timedelta(days=options["days"] + 1))
        rng = Random(options["seed"])  # noqa: S311 - not a secret
        try:
            traffic = self._traffic(now=now, days=options["days"], rng=rng)
            for done in posting.post(traffic.exchanges(number)):
                self._progress(done, number, time.monotonic() - begun)
        except TollgateError as error:
            raise CommandError(error.message) from error
        rolled = rollup.roll_up(now=timezone.now())
        stage.set_budgets(traffic.actors, now=now)
        slugs = {target.model.provider.slug for target in traffic.targets}
        checks = probes.write(slugs=slugs, incidents=traffic.incidents, now=now, rng=rng)
        host = reachable_host(settings.HOST)
        self.stdout.write(
            f"{number:,} requests of {len(PERSONAS)} tenants over {options['days']} days, "
            f"{sum(rolled.values()):,} rows of daily usage, {checks:,} probes, in {time.monotonic() - begun:.0f} s.\n"
            f"Look at them: http://{host}:{settings.PORT}{reverse('admin:usage')} (usage) and "
            f"{reverse('admin:health')} (health).\n"
            "Prove the books: manage.py reconcile --check"
        )

    def _refuse_finalised(self, since: datetime) -> None:
        """Traffic of the past must not land in a month that is on paper."""
        slugs = [persona.slug for persona in PERSONAS]
        closed = Statement.objects.filter(tenant_slug__in=slugs, month__gte=periods.month_of(since.date()))
        if closed.exists():
            raise CommandError(
                "A month of the demo tenants is finalised, and nothing may land in it. Use fewer --days."
            )

    def _traffic(self, *, now: datetime, days: int, rng: Random) -> Traffic:
        catalog = snapshot.build()
        wanted = {name for persona in PERSONAS for use in persona.uses for name in use.models}
        priced = {name for name, model in catalog.by_reference.items() if model.card_at(now) is not None}
        if wanted - priced:
            raise CommandError(
                f"The catalog has no price for {', '.join(sorted(wanted - priced))}. "
                "Load it: manage.py bootstrap --no-demo"
            )
        return Traffic(catalog=catalog, actors=stage.actors(now=now), now=now, days=days, rng=rng)

    def _progress(self, done: int, number: int, elapsed_s: float) -> None:
        """A bar on a terminal; elsewhere a line for every tenth."""
        said = f"{done:,} of {number:,} requests, {done / elapsed_s:,.0f} a second"
        if self.stdout.isatty():
            filled = _BAR * done // number
            bar = f"\r[{'#' * filled:<{_BAR}}] {100 * done // number:3} %  {said} "
            self.stdout.write(bar, ending="\n" if done == number else "")
            self.stdout.flush()
        elif 10 * done // number > 10 * (done - posting.BATCH) // number:
            self.stdout.write(said)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
