"""A model's life: added with its first price, switched on and off, deprecated in favour of another."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from django.db import IntegrityError, transaction

from llm.catalog import prices
from llm.models import LLMModel
from tenants import audit
from tenants.errors import Conflict, InvalidValue

_LONGEST_CHAIN = 20


def add(*, values: Mapping[str, Any], price: prices.PriceChange | None, actor: audit.Actor, now: datetime) -> LLMModel:
    """A new model, with its first price if one is given. Names default to the provider's own id of it.

    Raises Conflict if its provider has it already, and whatever `prices.set_price` raises.
    """
    filled = dict(values)
    filled.setdefault("name", filled["model_id"])
    filled.setdefault("display_name", filled["name"])
    check_replacement(model=LLMModel(kind=filled.get("kind", "chat")), replacement=filled.get("replacement_model"))
    with transaction.atomic():
        model = LLMModel(**filled)
        try:
            with transaction.atomic():
                model.save(force_insert=True)
        except IntegrityError as error:
            raise Conflict(
                "This provider has a model with this model_id already. Change that one instead.", param="model_id"
            ) from error
        audit.record(actor=actor, action="create", row=model, before={}, now=now)
        if price is not None:
            prices.set_price(model=model, change=price, actor=actor, now=now)
    return model


def deprecate(
    *, model: LLMModel, replacement: LLMModel | None, sunset_date: date | None, actor: audit.Actor, now: datetime
) -> LLMModel:
    """Say that a model is going away. Without a date it stops at once and calls follow the replacement.

    Raises InvalidValue(param="replacement") for a replacement that cannot stand in.
    """
    check_replacement(model=model, replacement=replacement)
    return _change(
        model=model,
        values={"is_deprecated": True, "deprecation_date": sunset_date, "replacement_model": replacement},
        action="deprecate",
        actor=actor,
        now=now,
    )


def restore(*, model: LLMModel, actor: audit.Actor, now: datetime) -> LLMModel:
    """Take a deprecation back."""
    values = {"is_deprecated": False, "deprecation_date": None, "replacement_model": None}
    return _change(model=model, values=values, action="restore", actor=actor, now=now)


def activate(*, model: LLMModel, actor: audit.Actor, now: datetime) -> LLMModel:
    """Requests for it are answered again."""
    return _change(model=model, values={"is_active": True}, action="activate", actor=actor, now=now)


def deactivate(*, model: LLMModel, actor: audit.Actor, now: datetime) -> LLMModel:
    """Requests for it are answered 404 from now on."""
    return _change(model=model, values={"is_active": False}, action="deactivate", actor=actor, now=now)


def check_replacement(*, model: LLMModel, replacement: LLMModel | None) -> None:
    """Raises InvalidValue(param="replacement") if requests for `model` could not end at `replacement`."""
    if replacement is None:
        return
    if replacement.kind != model.kind:
        raise _no_replacement(f"{replacement} is for {replacement.kind}, not for {model.kind}.")
    following: LLMModel | None = replacement
    for _ in range(_LONGEST_CHAIN):
        if following is None:
            return
        if following.pk == model.pk:
            raise _no_replacement("A model cannot replace itself, not by way of others either.")
        following = following.replacement_model
    raise _no_replacement("The replacement leads through too many other models.")


def _no_replacement(message: str) -> InvalidValue:
    return InvalidValue(message, param="replacement")


def _change(*, model: LLMModel, values: Mapping[str, Any], action: str, actor: audit.Actor, now: datetime) -> LLMModel:
    with transaction.atomic():
        row = LLMModel.objects.select_for_update(of=("self",)).select_related("provider").get(pk=model.pk)
        before = audit.state(row)
        for name, value in values.items():
            setattr(row, name, value)
        if audit.state(row) != before:
            row.save(update_fields=[*values, "updated_at"])
            audit.record(actor=actor, action=action, row=row, before=before, now=now)
    return row
