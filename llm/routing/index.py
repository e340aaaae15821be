"""The snapshot's rules, sorted once into what plans look up. Kept in `snapshot.derived`; pure."""

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

from llm.routing.question import SANDBOX, Entry, caches_cheaply, salt
from llm.types import Model, Rule, Snapshot

GENERAL = "general"
Groups = tuple[tuple[Entry, ...], ...]  # equals together, better ones first


class RuleSet:
    """The rules for one power level, tier and task type: stages (own task, `general`, any) and fallbacks in order."""

    __slots__ = ("fallbacks", "stages")

    def __init__(self, stages: tuple[Groups, ...], fallbacks: tuple[Entry, ...]) -> None:
        self.stages = stages
        self.fallbacks = fallbacks


def rules_for(snapshot: Snapshot, level: str, tier: str, task_type: str) -> RuleSet:
    key = (level, tier, task_type)
    found: RuleSet | None = snapshot.derived.get(key)
    if found is None:
        found = snapshot.derived[key] = _sort_rules(snapshot, level, tier, task_type)
    return found


def _sort_rules(snapshot: Snapshot, level: str, tier: str, task_type: str) -> RuleSet:
    policy = snapshot.policies.get(level)
    prefer_cached = policy is not None and policy.prefer_cached
    offered = [
        _entry(rule, snapshot.models[rule.model_id])
        for rule in snapshot.rules.get(level, ())
        if rule.user_tier in (tier, "all") and rule.model_id in snapshot.models
    ]
    offered = [(rule, entry) for rule, entry in offered if entry.model.provider.dialect != SANDBOX]
    stages = []
    tasks = (task_type, None) if task_type == GENERAL else (task_type, GENERAL, None)
    for task in tasks:
        stage = [(rule, entry) for rule, entry in offered if rule.task_type == task and not rule.is_fallback]
        if stage:
            stages.append(_grouped(stage, prefer_cached))
    spares = [(rule, entry) for rule, entry in offered if rule.is_fallback and rule.task_type in tasks]
    spares.sort(key=lambda one: (one[0].fallback_order, tasks.index(one[0].task_type), one[1].model.reference))
    return RuleSet(tuple(stages), tuple(entry for _, entry in spares))


def _entry(rule: Rule, model: Model) -> tuple[Rule, Entry]:
    return rule, Entry(model, rule, rule.weight, salt(model.id))


def _grouped(stage: list[tuple[Rule, Entry]], prefer_cached: bool) -> Groups:
    ranked = [
        ((rule.priority, entry.model.power_level_priority, prefer_cached and not caches_cheaply(entry.model)), entry)
        for rule, entry in stage
    ]
    ranked.sort(key=lambda one: (one[0], one[1].model.reference))
    return tuple(tuple(entry for _, entry in group) for _, group in groupby(ranked, key=itemgetter(0)))


def models_of(snapshot: Snapshot, kind: str) -> tuple[Entry, ...]:
    """Every model of a kind but the sandbox's."""
    key = ("models", kind)
    found: tuple[Entry, ...] | None = snapshot.derived.get(key)
    if found is None:
        models = snapshot.models.values()
        found = _by_reference(one for one in models if one.kind == kind and one.provider.dialect != SANDBOX)
        snapshot.derived[key] = found
    return found


def sandbox_models(snapshot: Snapshot, kind: str) -> tuple[Entry, ...]:
    """The sandbox's models of a kind: they answer when nothing else can."""
    key = ("sandbox", kind)
    found: tuple[Entry, ...] | None = snapshot.derived.get(key)
    if found is None:
        models = snapshot.models.values()
        found = _by_reference(one for one in models if one.kind == kind and one.provider.dialect == SANDBOX)
        snapshot.derived[key] = found
    return found


def _by_reference(models: Iterable[Model]) -> tuple[Entry, ...]:
    ordered = sorted(models, key=lambda one: (one.power_level_priority, one.reference))
    return tuple(Entry(one, salt=salt(one.id)) for one in ordered)


def named_groups(models: tuple[Model, ...], name: str) -> Groups:
    """Those who serve a bare name: an exact model_id before its family, then by power_level_priority."""
    ranked = [((one.model_id != name, one.power_level_priority), Entry(one, salt=salt(one.id))) for one in models]
    ranked.sort(key=lambda one: (one[0], one[1].model.reference))
    return tuple(tuple(entry for _, entry in group) for _, group in groupby(ranked, key=itemgetter(0)))
