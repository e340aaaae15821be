"""Models of a provider from its own list. Creates what is missing; never changes or deletes a model that is there.

Facts and price of a model that our catalog knows are copied; of the price its source is said. Any other model is made
unpriced, whatever the list says it costs: calls of it are refused (`model_unpriced`) until a person sets a price.

The models are made at once. More than one price that one person wants in one import is a change in bulk, which waits
for a second person; one alone is decided as if it had been typed in. What the system imports (`bootstrap`) is the
operator's.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from llm.catalog import model_list, prices
from llm.catalog.model_list import Listed
from llm.catalog.namesakes import Namesakes, Price
from llm.choices import Kind
from llm.models import LLMModel, LLMProvider
from llm.models.catalog import next_number
from tenants import audit
from tenants.errors import Conflict

_AT_ONCE = 100  # models a transaction: the ledger writes to the same database meanwhile
# What the same model is alike in at every provider.
_ALIKE = (
    "name", "display_name", "description", "kind", "family", "context_window", "max_output_tokens",
    "supports_streaming", "supports_function_calling", "supports_vision", "supports_json_mode", "is_reasoning",
    "speed_tier", "quality_tier", "size_category", "power_level", "power_level_priority", "min_tier_required",
)  # fmt: skip
_SMALLER_WINS = ("context_window", "max_output_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """`dry_run`: only say what would be made. `activate`: what is made can be called at once. `may_price`: who asks may
    set prices; without, all of it is made unpriced. `second_person`: even a single price waits for somebody who may
    approve it, and is not `person_id` (None: the system, which nobody has to follow).
    """

    dry_run: bool = False
    activate: bool = True
    may_price: bool = True
    second_person: bool = False
    person_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """A model to be made: the values of its row, and its price."""

    model_id: str
    values: Mapping[str, Any]
    price: Price


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was made, or would be, as wished: in the order of the list."""

    created: Sequence[NewModel]
    known: Sequence[str]
    skipped: Sequence[Listed]
    wish: Wish
    batch: uuid.UUID

    @property
    def priced(self) -> list[NewModel]:
        return [one for one in self.created if one.price.components]

    @property
    def unpriced(self) -> list[NewModel]:
        return [one for one in self.created if not one.price.components]

    @property
    def waits(self) -> bool:
        """Whether its prices wait for a second person."""
        return bool(self.priced) and prices.waits(self.change(self.priced[0]))

    def change(self, one: NewModel) -> prices.PriceChange:
        """The first price of one of them."""
        in_bulk = self.wish.person_id is not None and len(self.priced) > 1
        return prices.PriceChange(
            components=one.price.components,
            reason=f"copied from {one.price.source} when the list of models was imported",
            source="import",
            second_person=self.wish.second_person or in_bulk,
            person_id=self.wish.person_id,
            batch=self.batch,
        )


def import_models(*, provider: LLMProvider, wish: Wish, actor: audit.Actor, now: datetime) -> Report:
    """Read the provider's list and make the models that are missing. Again: nothing is left to make.

    Raises what `plan` and `make` raise.
    """
    report = plan(provider=provider, wish=wish, now=now)
    if not wish.dry_run:
        make(report=report, provider=provider, actor=actor, now=now)
    return report


def plan(*, provider: LLMProvider, wish: Wish, now: datetime) -> Report:
    """What an import would make. Raises Conflict(`model_list_unavailable`) if there is no list to be had."""
    listed = model_list.read(provider)
    there = set(LLMModel.objects.filter(provider=provider).values_list("model_id", flat=True))
    usable = [one for one in listed if not one.unusable]
    missing = [one for one in usable if one.model_id not in there]
    namesakes = Namesakes(without=provider, now=now)
    return Report(
        created=[_new(one, provider, namesakes, wish) for one in missing],
        known=[one.model_id for one in usable if one.model_id in there],
        skipped=[one for one in listed if one.unusable],
        wish=wish,
        batch=uuid.uuid4(),
    )


def make(*, report: Report, provider: LLMProvider, actor: audit.Actor, now: datetime) -> None:
    """Make what was planned. Raises Conflict if the catalog changed at the same moment: what was made by then stays,
    and the next import makes the rest.
    """
    for start in range(0, len(report.created), _AT_ONCE):
        _create(report, report.created[start : start + _AT_ONCE], provider, actor, now)


def in_words(report: Report, *, provider: LLMProvider, wish: Wish) -> str:
    """What happened, or would, and what a person has to do next."""
    verb = "to make" if wish.dry_run else "made"
    said = f"{len(report.created)} {verb}, {len(report.known)} there already, {len(report.skipped)} skipped."
    if report.waits:
        said += f" Prices that wait for a second person: {len(report.priced)}; until then calls are refused."
    if report.unpriced:
        said += (
            f" Without a price: {len(report.unpriced)}; calls of those are refused (model_unpriced) until you set one, "
            f"in the admin under Models or by POST /api/v1/admin/llm/models/{provider.slug}/<model_id>/prices."
        )
    return said


def _new(one: Listed, provider: LLMProvider, namesakes: Namesakes, wish: Wish) -> NewModel:
    names = one.behind or (one.model_id,)
    twin = next((row for name in names for row in namesakes.of(name)), None)
    told = dict(one.facts)
    known = {} if twin is None else {name: getattr(twin, name) for name in _ALIKE}
    values = {"kind": _kind_of(one.model_id), "name": one.model_id, "display_name": one.model_id} | told | known
    for name in _SMALLER_WINS:
        said = [number for number in (told.get(name), known.get(name)) if number]
        values |= {name: min(said)} if said else {}
    if twin is not None and not one.model_id.endswith(twin.model_id):
        values |= {"name": one.model_id, "display_name": one.model_id}  # a proxy's own name for it
    if twin is not None and twin.provider.dialect == provider.dialect:
        values["quirks"] = twin.quirks
    if wish.may_price:
        price = namesakes.price(names, kind=values["kind"])
    else:
        price = Price(why_not="Prices are set by those who may.")
    return NewModel(model_id=one.model_id, values=values | {"is_active": wish.activate}, price=price)


def _kind_of(model_id: str) -> str:
    """By its name, where neither the list nor the catalog says."""
    return Kind.EMBEDDING if "embed" in model_id.lower() else Kind.CHAT


def _create(report: Report, new: Sequence[NewModel], provider: LLMProvider, actor: audit.Actor, now: datetime) -> None:
    reason = "from the provider's list of models"
    try:
        with transaction.atomic():
            number = next_number(LLMModel)
            rows = [
                LLMModel(provider=provider, model_id=one.model_id, number=number + index, **one.values)
                for index, one in enumerate(new)
            ]
            LLMModel.objects.bulk_create(rows)
            for row, one in zip(rows, new, strict=True):
                audit.record(actor=actor, action="create", row=row, before={}, now=now, reason=reason)
                if one.price.components:
                    prices.set_price(model=row, change=report.change(one), actor=actor, now=now)
    except IntegrityError as error:
        raise Conflict("The catalog changed at the same moment. Import again: what was made stays.") from error
