"""Does the shipped catalog still agree with the public price feed? Pure: the feed is a function handed in.

Not every difference is a mistake: the feed lacks some providers and rounds some context windows. Those we know of are
written down with a reason in ``data/differences.toml``; whatever remains without one is for a person to look at, and
fails the check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase

from llm.catalog.feed import FeedModel
from llm.catalog.shipped import Catalog, KnownDifference, ShippedModel

Lookup = Callable[[str, str], FeedModel | None]


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact on which we and the feed disagree.

    `model` is ``provider/model_id``; `field` is ``absent``, ``context_window``, or ``price.<meter>`` with ``>N`` for
    the tier above N prompt tokens. Prices are USD per million, as text; None on a side that does not have the fact.
    `reason` is empty if nobody has explained it.
    """

    model: str
    field: str
    ours: str | None
    theirs: str | None
    reason: str = ""


def compare(catalog: Catalog, lookup: Lookup) -> list[Difference]:
    """Every difference between the catalog and the feed, in catalog order, each with the catalog's reason if any."""
    return [
        Difference(model.ref, field, ours, theirs, reason_for(catalog.known_differences, model.ref, field))
        for model in catalog.models
        for field, ours, theirs in _differences(model, lookup(model.provider, model.model_id))
    ]


def unexplained(differences: list[Difference]) -> list[Difference]:
    """Those for which no reason is written down."""
    return [difference for difference in differences if not difference.reason]


def _differences(model: ShippedModel, feed: FeedModel | None) -> Iterator[tuple[str, str | None, str | None]]:
    if feed is None:
        yield "absent", model.ref, None
        return
    if feed.context_window is not None and feed.context_window != model.context_window:
        yield "context_window", str(model.context_window), str(feed.context_window)
    ours = {(price.meter, price.above): price.usd_per_1m for price in model.prices}
    theirs = {(price.meter, price.above): price.usd_per_1m for price in feed.prices}
    for meter, above in sorted(ours.keys() | theirs.keys()):
        mine, feeds = ours.get((meter, above)), theirs.get((meter, above))
        if mine != feeds:
            yield f"price.{meter}" + (f">{above}" if above else ""), _text(mine), _text(feeds)


def reason_for(known: tuple[KnownDifference, ...], model: str, field: str) -> str:
    """The first reason whose patterns fit, empty if none does; model ids are case-sensitive, so the match is too."""
    for entry in known:
        if fnmatchcase(model, entry.model) and fnmatchcase(field, entry.field):
            return entry.reason
    return ""


def _text(usd: Decimal | None) -> str | None:
    return None if usd is None else f"{usd.normalize():f}"
