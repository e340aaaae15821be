"""Breakers for staff: which are open at a provider, and closing one before its time."""

from datetime import datetime, timedelta

from django.db import transaction

from llm.choices import BreakerState
from llm.engine import breaker
from llm.engine.breaker_redis import store
from llm.engine.breaker_store import StoreAway
from llm.models import LLMBreaker, LLMProvider
from tenants import audit
from tenants.errors import Unavailable


def open_at(provider: LLMProvider, now: datetime) -> list[LLMBreaker]:
    """Those that keep requests from the provider, its models or its keys, or wait for a probe."""
    alive = now - timedelta(seconds=breaker.LAPSE_S)
    rows = LLMBreaker.objects.filter(until__gt=alive).exclude(state=BreakerState.CLOSED).order_by("key")
    return [row for row in rows if breaker.slug_of(row.key) == provider.slug]


def reset(*, row: LLMBreaker, actor: audit.Actor, now: datetime) -> LLMBreaker:
    """Close a breaker, in every process within a second. If its provider still fails it opens again.

    Raises Unavailable where the store that processes share does not answer: then nothing has changed.
    """
    with transaction.atomic():
        before = audit.state(row)
        try:
            store().write([breaker.Record(key=row.key, what=row.what, state=breaker.CLOSED)], now.timestamp())
        except StoreAway as error:
            raise Unavailable(f"The breaker could not be reset ({error}). Try again shortly.") from error
        row.refresh_from_db()
        audit.record(actor=actor, action="reset", row=row, before=before, now=now)
    return row
