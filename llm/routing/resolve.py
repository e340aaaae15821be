"""From the names in a request to models: which config, which power level, which task, which model. Pure.

What the request says beats what a config says: an explicit model (or power level in its place), then a task the
request names and the config has a rule for, then a power level or a priority, then the config's rule for a task that
was only detected, then its primary model, then `balanced`.
"""

import uuid
from difflib import get_close_matches
from typing import Any

from llm.choices import PowerLevel, Priority, TaskType
from llm.errors import InvalidRequest, ModelNotFound
from llm.routing.question import CONFIG, NAMED, PINNED, RANKED, RULES, SANDBOX, AllowList, Wish
from llm.routing.task_type import detect
from llm.types import Config, Model, RouteCaller, RouteRequest, Snapshot, TenantState
from tenants.tiers import reaches

AUTO = "auto"
BALANCED = PowerLevel.BALANCED.value
CONFIG_PREFIX = "config/"
SURE_ENOUGH = 0.5  # from this confidence on a detected task may pick a config's rule
SHOWN = 100  # characters of a client's own words in a message
CLOSEST, COMPARED = 3, 64  # names offered, and the longest name worth comparing

LEVELS = frozenset(PowerLevel.values)
TASKS = frozenset(TaskType.values)
PRIORITIES = frozenset(Priority.values)


def wish_of(snapshot: Snapshot, caller: RouteCaller, tenant: TenantState, request: RouteRequest) -> Wish:
    """Raises InvalidRequest (an unknown power level, task type, priority or config) and ModelNotFound."""
    _check(request)
    config = _config_of(tenant, request)
    if request.task_type is not None:
        task_type, confidence = request.task_type, 1.0
    else:
        task_type, confidence = detect(request.text, request.needs)
    wish = Wish(
        kind=RULES,
        models=(),
        config=config,
        level=request.power_level or BALANCED,
        level_named=request.power_level is not None,
        task_type=task_type,
        confidence=confidence,
        why="",
    )
    name = request.model
    if name is None or name == AUTO:
        _open_choice(snapshot, wish, request)
    elif name in snapshot.by_reference:
        _explicit(wish, PINNED, (snapshot.by_reference[name],), f"{name} was named.")
    elif serving := _serving(snapshot, name):
        _explicit(wish, NAMED, serving, f"{name} was named.")
    elif name in LEVELS:
        wish.level, wish.level_named = name, True
        wish.kind = RULES if request.priority is None else RANKED
    elif name.startswith(CONFIG_PREFIX) and name[len(CONFIG_PREFIX) :] in tenant.configs:
        wish.config = tenant.configs[name[len(CONFIG_PREFIX) :]]
        _open_choice(snapshot, wish, request)
    else:
        raise _unknown(snapshot, caller, tenant, wish.config, name)
    return wish


def _serving(snapshot: Snapshot, name: str) -> tuple[Model, ...]:
    """Every row with this bare model_id or of this family."""
    named = snapshot.by_model_id.get(name, ())
    family = snapshot.by_family.get(name, ())
    if not family:
        return named
    known = {one.reference for one in named}
    return (*named, *(one for one in family if one.reference not in known))


def _check(request: RouteRequest) -> None:
    if request.power_level is not None and request.power_level not in LEVELS:
        raise _not_one_of("power_level", request.power_level, LEVELS)
    if request.task_type is not None and request.task_type not in TASKS:
        raise _not_one_of("task_type", request.task_type, TASKS)
    if request.priority is not None and request.priority not in PRIORITIES:
        raise _not_one_of("priority", request.priority, PRIORITIES)


def _not_one_of(param: str, value: str, known: frozenset[str]) -> InvalidRequest:
    names = ", ".join(sorted(known))
    return InvalidRequest(f"`{value[:SHOWN]}` is not a {param.replace('_', ' ')}. Use one of: {names}.", param=param)


def _config_of(tenant: TenantState, request: RouteRequest) -> Config | None:
    if request.config is None:
        return tenant.default_config
    found = tenant.configs.get(request.config)
    if found is None:
        raise InvalidRequest(
            f"There is no config `{request.config[:SHOWN]}`. GET /api/v1/llm/configs lists yours.", param="config"
        )
    return found


def _explicit(wish: Wish, kind: str, models: tuple[Model, ...], why: str) -> None:
    wish.kind, wish.models, wish.why = kind, models, why
    if not wish.level_named:
        wish.level = models[0].power_level


def _open_choice(snapshot: Snapshot, wish: Wish, request: RouteRequest) -> None:
    """No model was named: the config's task rule, a priority, the config's primary model, or rules."""
    config = wish.config
    rule = None if config is None else config.routing_rules.get(wish.task_type)
    asked = wish.level_named or request.priority is not None
    if config is not None and rule is not None and _rule_counts(wish, request, asked):
        model = _referenced(snapshot, rule)
        if model is None:
            wish.notes.append(
                f"The config's rule for {wish.task_type} names a model that does not exist; it is skipped."
            )
        else:
            primary = snapshot.models.get(config.primary_model_id) if config.primary_model_id else None
            spare = () if primary is None or primary is model else (primary,)
            _explicit(wish, CONFIG, (model, *spare), f"The config {config.name} has it for {wish.task_type}.")
            return
    if request.priority is not None:
        wish.kind = RANKED
    elif config is not None and config.primary_model_id is not None and not asked:
        model = snapshot.models.get(config.primary_model_id)
        if model is not None:
            _explicit(wish, CONFIG, (model,), f"It is the primary model of the config {config.name}.")


def _rule_counts(wish: Wish, request: RouteRequest, asked: bool) -> bool:
    """A task the request names always finds its rule; a detected one only if nothing else was asked for."""
    if request.task_type is not None:
        return True
    return not asked and (wish.confidence >= SURE_ENOUGH or wish.task_type == TaskType.GENERAL.value)


def _referenced(snapshot: Snapshot, rule: Any) -> Model | None:
    """The model of `{"model_id": <reference>}`: `provider/model_id`, a UUID, or a bare model_id."""
    reference = rule.get("model_id") if isinstance(rule, dict) else rule
    if not isinstance(reference, str):
        return None
    found = snapshot.by_reference.get(reference)
    if found is not None:
        return found
    bare = snapshot.by_model_id.get(reference)
    if bare:
        return bare[0]
    try:
        return snapshot.models.get(uuid.UUID(reference))
    except ValueError:
        return None


def _unknown(
    snapshot: Snapshot, caller: RouteCaller, tenant: TenantState, config: Config | None, name: str
) -> ModelNotFound:
    closest = _closest(snapshot, caller, tenant, config, name)
    step = f"Did you mean {' or '.join(closest)}? " if closest else ""
    return ModelNotFound(
        f"The model `{name[:SHOWN]}` does not exist or you may not use it. {step}GET /v1/models lists what this key may"
        " call.",
        param="model",
    )


def _closest(
    snapshot: Snapshot, caller: RouteCaller, tenant: TenantState, config: Config | None, name: str
) -> list[str]:
    """Up to three names like this one that the caller may use. Only those with the same initial are compared: a
    comparison costs microseconds, and anyone can send unknown names."""
    if len(name) > COMPARED:
        return []
    if name.startswith(CONFIG_PREFIX):
        close = get_close_matches(name[len(CONFIG_PREFIX) :], tenant.configs, CLOSEST)
        return [CONFIG_PREFIX + one for one in close]
    lists = (
        AllowList.of(snapshot, caller.allowed_models),
        AllowList.of(snapshot, None if config is None else config.allowed_models),
    )
    names = [*sorted(LEVELS), AUTO]
    names += [
        model.reference if "/" in name else model.model_id
        for model in snapshot.models.values()
        if model.is_active
        and model.provider.is_active
        and reaches(caller.tier, model.min_tier)
        and reaches(caller.tier, model.provider.min_tier)
        and (caller.sandbox_enabled or model.provider.dialect != SANDBOX)
        and all(one is None or one.allows(model) for one in lists)
    ]
    return get_close_matches(name, [one for one in dict.fromkeys(names) if one[:1] == name[:1]], CLOSEST)
