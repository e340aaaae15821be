"""The public price feed read into proposals, never into active prices. Run daily, and by `manage.py sync_prices`.

For each active model what the feed says is compared with the price that goes on (the scheduled one, if there is one).
Where they agree the price is confirmed. Where not, a proposal waits for a person, unless the same words of the feed
wait already or were rejected. Each model is a transaction of its own: a run that dies half way is finished by the next.
"""

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction

from llm.catalog import check, price_book, prices, proposals, shipped
from llm.catalog.components import Component, MeterChange, changes, components_of, stored
from llm.catalog.feed import FeedModel
from llm.catalog.price_book import PriceChange
from llm.choices import ProposalState, ServiceTier
from llm.models import LLMModel, PricePolicy, PriceProposal, PriceVersion
from llm.models.prices import IN_THE_BOOK
from tenants import audit
from tenants.errors import InvalidValue

ACTOR = audit.system("sync_prices")
INEXACT = "The feed has no entry of this very name: these are the prices of the one it belongs to."
# What became of a model.
CONFIRMED, PROPOSED, INFORMATION, APPROVED = "confirmed", "proposed", "informational", "approved by the band"
WAITING, REJECTED, UNUSABLE, UNKNOWN = "waiting", "rejected before", "unusable", "not in the feed"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of one model, and what the feed would change."""

    model: str
    outcome: str
    changes: Sequence[MeterChange] = ()
    detail: str = ""

    def __str__(self) -> str:
        words = self.detail or proposals.in_words(self.changes)
        return f"{self.model}: {self.outcome}" + (f": {words}" if words else "")


@dataclass(frozen=True, kw_only=True)
class Feed:
    """A price feed: how a model is looked up in it, and which version of it this is."""

    lookup: check.Lookup
    version: str
    known_differences: tuple[shipped.KnownDifference, ...] = ()


def sync(*, feed: Feed, now: datetime, dry_run: bool = False) -> list[Finding]:
    """Compare every active model with the feed, in the order of their names. A dry run only says what it would do."""
    models = LLMModel.objects.filter(is_active=True).select_related("provider").order_by("provider__slug", "model_id")
    latest = _latest()
    findings, right = [], []
    for model in prices.with_prices(models):
        said = feed.lookup(model.provider.slug, model.model_id)
        if said is None:
            findings.append(Finding(model=model.reference, outcome=UNKNOWN))
            continue
        last = _last(model.price_versions.all())
        ours = [] if last is None else components_of(last)
        wanted = _merged(model.reference, ours, said, feed.known_differences)
        found = changes(ours, wanted)
        if last is not None and not found:
            findings.append(Finding(model=model.reference, outcome=CONFIRMED))
            right.append(last)
            if not dry_run and model.pk in latest and latest[model.pk].state == ProposalState.PENDING:
                _withdraw(model, now)
            continue
        word = proposals.FeedWord(version=feed.version, digest=_digest(said), note="" if said.is_exact else INEXACT)
        outcome, detail = _propose(model, wanted, word, now, dry_run=dry_run)
        findings.append(Finding(model=model.reference, outcome=outcome, changes=found, detail=detail))
    if not dry_run:
        price_book.confirm(right, now=now)
        proposals.recost_waiting(now=now)
    return findings


def policy() -> PricePolicy:
    """What staff set, or the shipped defaults: nothing is approved by itself."""
    return PricePolicy.objects.first() or PricePolicy()


def _merged(
    reference: str, ours: Sequence[Component], said: FeedModel, known: tuple[shipped.KnownDifference, ...]
) -> list[Component]:
    """The feed's price, but ours where a difference is explained (data/differences.toml), and our other service tiers,
    of which the feed knows nothing."""
    standard = {one.key[:2]: one for one in ours if one.service_tier == ServiceTier.STANDARD}
    theirs = {(one.meter, one.above): Component(one.meter, stored(one.usd_per_1m), one.above) for one in said.prices}
    merged = [one for one in ours if one.service_tier != ServiceTier.STANDARD]
    for key in sorted(standard.keys() | theirs.keys()):
        meter, above = key
        field = f"price.{meter}" + (f">{above}" if above else "")
        chosen = standard.get(key) if check.reason_for(known, reference, field) else theirs.get(key)
        merged += [] if chosen is None else [chosen]
    return merged


def _digest(said: FeedModel) -> str:
    words = sorted(f"{one.meter}>{one.above}={one.usd_per_1m.normalize():f}" for one in said.prices)
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _latest() -> Mapping[uuid.UUID, PriceProposal]:
    """The feed's newest proposal of each model."""
    rows = PriceProposal.objects.filter(source=proposals.FEED).order_by("version__number")
    return {row.model_id: row for row in rows}


def _last(versions: Iterable[PriceVersion]) -> PriceVersion | None:
    decided = [row for row in versions if row.status in IN_THE_BOOK]
    return max(decided, key=lambda row: (row.effective_from, row.number), default=None)


def _withdraw(model: LLMModel, now: datetime) -> None:
    with transaction.atomic():
        proposals.overtake_feed(price_book.locked(model.pk, now), actor=ACTOR)


def _propose(
    model: LLMModel, wanted: list[Component], word: proposals.FeedWord, now: datetime, *, dry_run: bool
) -> tuple[str, str]:
    """Propose what the feed says, unless it waits or was rejected: (outcome, detail)."""
    try:
        prices.check(wanted, kind=model.kind)
    except InvalidValue as error:
        return UNUSABLE, error.message
    with transaction.atomic():
        book = price_book.locked(model.pk, now)
        last = book.last()
        rows = PriceProposal.objects.filter(model=model, source=proposals.FEED)
        newest = rows.order_by("-version__number").first()
        if newest is not None and newest.digest == word.digest:
            if newest.state == ProposalState.REJECTED:
                return REJECTED, ""
            # Of a price that was changed since it is compared with, the percentages are compared anew.
            if newest.state == ProposalState.PENDING and newest.base_id == (None if last is None else last.pk):
                return WAITING, ""
        manual = last is not None and last.source == proposals.MANUAL
        if dry_run:
            return (INFORMATION if manual else PROPOSED), ""
        change = PriceChange(components=wanted, source=proposals.FEED, reason=f"{word.version} says so")
        made = proposals.propose(book, change, start=now, actor=ACTOR, feed=word)
        if made.is_informational:
            return INFORMATION, ""
        if settings.PRICE_FOUR_EYES != "all" and proposals.in_band(made, policy()):
            proposals.approve_in_band(book, made)
        return (APPROVED if made.state == ProposalState.APPROVED else PROPOSED), ""
