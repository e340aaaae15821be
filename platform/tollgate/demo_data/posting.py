"""Demo requests into the books: the ledger's own reserve and settle, a batch in one transaction."""

from collections.abc import Iterable, Iterator
from itertools import islice

from django.db import transaction

from billing.ledger import Ledger, Settle
from tollgate.demo_data.traffic import Exchange

BATCH = 500


def post(exchanges: Iterable[Exchange]) -> Iterator[int]:
    """Book them all; yields how many are booked after each batch. Raises what the ledger refuses one for."""
    ledger, waiting, done = Ledger(), iter(exchanges), 0
    while batch := list(islice(waiting, BATCH)):
        with transaction.atomic():
            holds = ledger.apply([exchange.ask for exchange in batch])
            for hold in holds:
                if isinstance(hold, Exception):
                    raise hold
            ledger.apply(
                [
                    Settle(hold=hold, usage=exchange.closing(hold), now=exchange.ask.now)
                    for exchange, hold in zip(batch, holds, strict=True)
                ]
            )
        done += len(batch)
        yield done
