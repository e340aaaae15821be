"""Everything that staff and jobs do to the money while a storm goes on: prices, markups, adjustments, sweeps, roll-ups.

python -m tests.faults.meddler meddle SEED     print `ready`, meddle until standard input ends, then print how often
                                               it did what, as JSON
python -m tests.faults.meddler close           roll up and finalise the month as if it were over; prints the document
"""

import itertools
import json
import random
import select
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import django

from tests.faults.webs import say

if TYPE_CHECKING:
    from llm.models import PriceOverride

BY = "meddler"
PAUSE_S = 0.02


class Meddler:
    """One pair of hands, with a seed."""

    def __init__(self, seed: int) -> None:
        from django.utils import timezone

        from llm.models import LLMModel
        from tenants.audit import system
        from tenants.models import Tenant

        self.random = random.Random(seed)
        self.actor = system(BY)
        self.now: Callable[[], datetime] = timezone.now
        self.tenant = Tenant.objects.get()
        self.model = LLMModel.objects.get(model_id="m")
        self.own: PriceOverride | None = None

    def components(self, **usd: tuple[int, int]) -> list[Any]:
        """A random price of each meter: whole cents a million, and a remainder that makes bills need rounding."""
        from llm.catalog.prices import Component

        odd = Decimal(self.random.randrange(1000)).scaleb(-7)
        return [Component(meter, Decimal(self.random.randrange(*cents)) / 100 + odd) for meter, cents in usd.items()]

    def price(self) -> None:
        from llm.catalog import prices

        change = prices.PriceChange(components=self.components(input=(100, 250), output=(400, 1000)), confirm=True)
        prices.set_price(model=self.model, change=change, actor=self.actor, now=self.now())

    def own_price(self) -> None:
        from llm.catalog import overrides

        wish = overrides.NewOverride(
            components=self.components(input=(50, 240), output=(300, 990)), reason=BY, confirm=True
        )
        made = overrides.set_override(tenant=self.tenant, model=self.model, wish=wish, actor=self.actor, now=self.now())
        self.last = made

    def list_price_again(self) -> None:
        from llm.catalog import overrides

        if self.own is not None:
            overrides.end_override(override=self.own, actor=self.actor, now=self.now(), confirm=True)

    def markup(self) -> None:
        type(self.tenant).objects.update(markup_percent=Decimal(self.random.randrange(3000)) / 100)

    def adjust(self) -> None:
        from billing import adjustments
        from billing.models import UsageRecord

        about = None
        if self.random.random() < 0.7:
            about = UsageRecord.objects.order_by("-id").values_list("pk", flat=True).first()
        amount = Decimal(self.random.randrange(-2_000_000, 1_000_000) or 1).scaleb(-10)
        wish = adjustments.Correction(billed=amount, cost=amount * 2, reason=BY, request_id=about)
        adjustments.enter(tenant=self.tenant, correction=wish, actor=self.actor, now=self.now())

    def sweep(self) -> None:
        """As if all had been silent for a minute: who lives settles late, and that becomes an adjustment."""
        from billing import ledger
        from billing.models import LedgerLease

        LedgerLease.objects.update(renewed_at=self.now() - timedelta(minutes=1))
        ledger.sweep(now=self.now())

    def roll_up(self) -> None:
        from billing import rollup

        rollup.roll_up(now=self.now())

    def prove(self) -> None:
        from billing import reconcile

        found = reconcile.check(now=self.now())
        assert found == [], [str(one) for one in found]

    def meddle(self) -> dict[str, int]:
        """Each deed once a round, in an order of its own, until standard input ends."""
        from django.db import OperationalError

        deeds = [self.price, self.own_price, self.list_price_again, self.markup, self.adjust, self.sweep]
        deeds += [self.roll_up, self.prove]
        done: Counter[str] = Counter()
        say("ready")
        for deed in itertools.chain.from_iterable(self.random.sample(deeds, len(deeds)) for _ in itertools.count()):
            if select.select([sys.stdin], [], [], PAUSE_S)[0]:
                return dict(done)
            try:
                deed()
            except OperationalError:  # SQLite has one writer, and the storm is it
                done["busy"] += 1
            else:
                done[deed.__name__] += 1
        raise AssertionError("there is always another round")


def close() -> dict[str, Any]:
    """The month over: rolled up, its statement final and worked out again, and everything proven."""
    from django.utils import timezone

    from billing import periods, reconcile, rollup
    from billing.statements import closing
    from tenants.audit import system
    from tenants.models import Tenant

    tenant = Tenant.objects.get()
    month = periods.current(timezone=tenant.timezone, now=timezone.now())
    later = periods.ends_at(month=month, timezone=tenant.timezone) + timedelta(days=40)
    rolled = rollup.roll_up(now=later)
    statement = closing.finalise(tenant=tenant, month=month, actor=system(BY), now=later)
    return {
        "rolled": rolled,
        "document": json.loads(closing.text_of(statement)),
        "unlike": [str(one) for one in closing.verify(statement)],
        "differences": [str(one) for one in reconcile.check(now=later)],
    }


def main() -> None:
    django.setup()
    found = close() if sys.argv[1] == "close" else Meddler(int(sys.argv[2])).meddle()
    say(json.dumps(found))


if __name__ == "__main__":
    main()
