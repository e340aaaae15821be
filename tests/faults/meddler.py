"""Everything that staff and jobs do to the money while a storm goes on: prices, markups, credit, adjustments,
correction runs, sweeps, roll-ups.

python -m tests.faults.meddler meddle SEED     make more tenants and print their keys, meddle until standard input ends,
                                               then sweep and print how often it did what; both as JSON
python -m tests.faults.meddler close           roll up and finalise the month as if it were over; prints the documents
"""

import json
import random
import select
import sys
import time
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
TURN = timedelta(seconds=1.5)  # web processes look at a tenant's prices once a second
PREPAID = {"slug": "ahead", "timezone": "Pacific/Kiritimati", "prepaid": True}
OWN_KEY = {"slug": "own", "timezone": "America/St_Johns"}


class Meddler:
    """One pair of hands, with a seed. The first tenant has prices of its own, one pays in advance, one has its own
    provider key; each has a time zone, a markup and a fee."""

    def __init__(self, seed: int) -> None:
        from django.utils import timezone

        from llm.models import LLMModel
        from tenants.audit import system
        from tenants.models import Tenant

        self.random = random.Random(seed)
        self.actor = system(BY)
        self.now: Callable[[], datetime] = timezone.now
        self.model = LLMModel.objects.select_related("provider").get(model_id="m")
        self.tenant = Tenant.objects.get()
        self.own: PriceOverride | None = None
        self.turned = self.now()

    def prepare(self) -> list[str]:
        """The other tenants, and two people. The secrets of their keys."""
        from tenants.models import ApiKey
        from tests import cast

        self.prepaid, self.own_key = cast.make_tenant(**PREPAID), cast.make_tenant(**OWN_KEY)
        self.tenants = [self.tenant, self.prepaid, self.own_key]
        cast.make_credential(self.model.provider, "sk-own-0123456789", tenant=self.own_key)
        self.grant(Decimal(100_000), lasts=None)
        self.ada, self.grace = (cast.make_staff(name)[0].pk for name in ("ada", "grace"))
        secrets = [cast.make_key(tenant, name=str(number))[1] for tenant in self.tenants[1:] for number in range(2)]
        ApiKey.objects.update(max_concurrency=100_000)
        return secrets

    def components(self, **usd: tuple[int, int]) -> list[Any]:
        """A random price of each meter: whole cents a million, and a remainder that makes bills need rounding."""
        from llm.catalog.prices import Component

        odd = Decimal(self.random.randrange(1000)).scaleb(-7)
        return [Component(meter, Decimal(self.random.randrange(*cents)) / 100 + odd) for meter, cents in usd.items()]

    def price(self) -> None:
        from llm.catalog import prices

        new = self.components(input=(100, 250), cache_read=(20, 90), output=(400, 1000))
        prices.set_price(
            model=self.model, change=prices.PriceChange(components=new, confirm=True), actor=self.actor, now=self.now()
        )

    def own_price(self) -> None:
        """A price of the first tenant's own, and the list price again, in turns."""
        from llm.catalog import overrides

        if self.now() < self.turned:
            return
        if self.own is not None:
            overrides.end_override(override=self.own, actor=self.actor, now=self.now(), confirm=True)
            self.own = None
        else:
            new = self.components(input=(50, 240), cache_read=(10, 80), output=(300, 990))
            wish = overrides.NewOverride(components=new, reason=BY, confirm=True)
            self.own = overrides.set_override(
                tenant=self.tenant, model=self.model, wish=wish, actor=self.actor, now=self.now()
            )
        self.turned = self.now() + TURN

    def markup(self) -> None:
        from tenants.models import Tenant

        for tenant in self.tenants:
            markup, fee = (Decimal(self.random.randrange(3000)) / 100 for _ in range(2))
            Tenant.objects.filter(pk=tenant.pk).update(markup_percent=markup, byok_fee_percent=fee)

    def credit(self) -> None:
        """A small grant that soon expires; the last one was a little too large, or too small."""
        from billing import granting
        from billing.credit_models import CreditEntry

        last = CreditEntry.objects.filter(tenant=self.prepaid, kind="grant").order_by("-number").first()
        assert last is not None
        amount = Decimal(self.random.randrange(-9_000, 9_000) or 1).scaleb(-7)
        granting.correct(entry=last, amount=amount, reason=BY, actor=self.actor, now=self.now())
        self.grant(Decimal(self.random.randrange(1, 1000)) / 300, lasts=timedelta(seconds=self.random.random() + 0.2))

    def grant(self, amount: Decimal, *, lasts: timedelta | None) -> None:
        from billing import granting

        expires_at = None if lasts is None else self.now() + lasts
        wish = granting.NewGrant(amount=round(amount, 10), reason=BY, expires_at=expires_at)
        granting.grant(tenant=self.prepaid, wish=wish, actor=self.actor, now=self.now())

    def adjust(self) -> None:
        from billing import adjustments
        from billing.models import UsageRecord

        tenant, about = self.random.choice(self.tenants), None
        if self.random.random() < 0.7:
            mine = UsageRecord.objects.filter(tenant_id=tenant.pk)
            about = mine.order_by("-id").values_list("pk", flat=True).first()
        amount = Decimal(self.random.randrange(-2_000_000, 1_000_000) or 1).scaleb(-10)
        wish = adjustments.Correction(billed=amount, cost=amount * 2, reason=BY, request_id=about)
        adjustments.enter(tenant=tenant, correction=wish, actor=self.actor, now=self.now())

    def correct(self) -> None:
        """A correction run over the last second, proposed by one person and approved by another. Requests that settle
        late meanwhile have it worked out again."""
        from llm.catalog import corrections
        from tenants.errors import Conflict

        right = self.components(input=(60, 250), cache_read=(20, 90), output=(200, 1000))
        since = self.now() - timedelta(seconds=0.5 + self.random.random())
        wish = corrections.Wish(components=right, reason=BY, since=since, confirm=True, person_id=self.ada)
        run = corrections.propose(model=self.model, wish=wish, actor=self.actor, now=self.now())
        decision = corrections.Decision(reason=BY, person_id=self.grace)
        while True:
            try:
                corrections.approve(run_id=run.pk, decision=decision, actor=self.actor, now=self.now())
            except Conflict as refused:
                if refused.code != "correction_base_changed":
                    raise
                corrections.work_out_again(run_id=run.pk, actor=self.actor, now=self.now())
            else:
                return

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
        """Each deed once a round, in an order of its own, and own prices by the clock, until standard input ends."""
        from django.db import OperationalError

        deeds = [self.price, self.markup, self.credit, self.adjust, self.correct, self.sweep, self.roll_up, self.prove]
        done: Counter[str] = Counter()
        say(json.dumps({"keys": self.prepare()}))
        while not select.select([sys.stdin], [], [], 0)[0]:
            for deed in self.random.sample(deeds, len(deeds)):
                time.sleep(PAUSE_S)
                try:
                    self.own_price()
                    deed()
                except OperationalError:  # SQLite has one writer, and the storm is it
                    done["busy"] += 1
                else:
                    done[deed.__name__] += 1
        self.sweep()  # who was killed last is not waited for
        return dict(done)


def close() -> dict[str, Any]:
    """The month over: rolled up, every statement final and worked out again, and everything proven."""
    from django.db import transaction
    from django.utils import timezone

    from billing import granting, periods, reconcile, rollup
    from billing.money import plain
    from billing.statements import closing
    from tenants.audit import system
    from tenants.models import Tenant

    later = timezone.now() + timedelta(days=80)
    rollup.roll_up(now=later)
    with transaction.atomic():
        for tenant in Tenant.objects.filter(prepaid=True):
            granting.expire(tenant_id=tenant.pk, now=later)
    found: dict[str, Any] = {"tenants": {}}
    for tenant in Tenant.objects.all():
        month = periods.current(timezone=tenant.timezone, now=timezone.now())
        statement = closing.finalise(tenant=tenant, month=month, actor=system(BY), now=later)
        found["tenants"][tenant.pk.hex] = {
            "zone": tenant.timezone,
            "document": json.loads(closing.text_of(statement)),
            "unlike": [str(one) for one in closing.verify(statement)],
            "credit": plain(granting.picture(tenant_id=tenant.pk, now=later).account.balance),
        }
    return found | {"differences": [str(one) for one in reconcile.check(now=later)]}


def main() -> None:
    django.setup()
    found = close() if sys.argv[1] == "close" else Meddler(int(sys.argv[2])).meddle()
    say(json.dumps(found))


if __name__ == "__main__":
    main()
