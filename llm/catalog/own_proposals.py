"""A proposal about a tenant's own price: what it wants, what that changes of what the tenant pays, carrying it out."""

from datetime import datetime
from typing import Any

from llm.catalog import overrides
from llm.catalog.components import MeterChange, as_json, changes, from_json
from llm.models import LLMModel, PriceOverride, PriceProposal
from tenants import audit
from tenants.errors import Conflict, InvalidValue
from tenants.models import Tenant


def to_set(wish: overrides.NewOverride) -> dict[str, Any]:
    """What a proposal keeps of a price to be set."""
    return {
        "components": as_json(wish.components),
        "effective_from": _text(wish.effective_from),
        "effective_to": _text(wish.effective_to),
        "reason": wish.reason,
        "ends": None,
    }


def to_end(override: PriceOverride, reason: str) -> dict[str, Any]:
    """What a proposal keeps of a price to be ended."""
    nothing = dict.fromkeys(("effective_from", "effective_to"))
    return {"components": [], **nothing, "reason": reason, "ends": str(override.pk)}


def changed(*, tenant: Tenant, model: LLMModel, wanted: dict[str, Any], now: datetime) -> list[MeterChange]:
    """Each meter of what the tenant pays before and after; list prices with its markup."""
    if wanted["ends"]:
        return changes(*overrides.ended_at(_named(wanted), now))
    start = moment(wanted, now)
    listed = overrides.listed_at(tenant=tenant, model=model, at=start)
    paid = overrides.paid_at(tenant=tenant, model=model, at=start)
    return changes(paid, overrides.beside(from_json(wanted["components"]), listed))


def moment(wanted: dict[str, Any], now: datetime) -> datetime:
    """When it is to begin: the wished moment, or now if that is past."""
    return max(_moment(wanted["effective_from"]) or now, now)


def carry_out(
    row: PriceProposal, *, effective_from: datetime | None, confirm: bool, actor: audit.Actor, now: datetime
) -> None:
    """Set or end the price, in the transaction that approves it. `effective_from` None: at the wished moment.

    Raises what `overrides.set_override` and `end_override` do, Conflict (`price_base_changed`: the tenant pays
    something else than the proposal was compared with) and InvalidValue (`effective_from` of an end).
    """
    assert row.tenant is not None
    assert row.wanted is not None
    wanted = row.wanted | ({} if effective_from is None else {"effective_from": _text(effective_from)})
    if wanted["ends"] and effective_from is not None:
        raise InvalidValue("A tenant's own price ends when that is approved. Leave it out.", param="effective_from")
    found = [one.as_json() for one in changed(tenant=row.tenant, model=row.model, wanted=wanted, now=now)]
    if not confirm and found != row.changes:
        raise Conflict(
            f"What {row.tenant} pays for {row.model} has changed since this was proposed: the percentages shown are of "
            "before. Send `confirm: true` if it is meant all the same.",
            code="price_base_changed",
            param="confirm",
        )
    if wanted["ends"]:
        overrides.end_override(override=_named(wanted), actor=actor, now=now, reason=wanted["reason"], confirm=confirm)
        return
    wish = overrides.NewOverride(
        components=from_json(wanted["components"]),
        reason=wanted["reason"],
        effective_from=moment(wanted, now),
        effective_to=_moment(wanted["effective_to"]),
        confirm=confirm,
        author=f"{row.proposer}, {actor.label}",
    )
    overrides.set_override(tenant=row.tenant, model=row.model, wish=wish, actor=actor, now=now)


def _named(wanted: dict[str, Any]) -> PriceOverride:
    found: PriceOverride = PriceOverride.objects.select_related("tenant", "model").get(pk=wanted["ends"])
    return found


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
