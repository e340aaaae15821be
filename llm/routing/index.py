"""The snapshot's rules, sorted once into what plans look up. Kept in `snapshot.derived`; pure."""

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

from llm.routing.question import SANDBOX, Entry, caches_cheaply, salt
from llm.types import Candidate, Model, Rule, Snapshot

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
    stages: list[Groups] = []
    places = 0
    tasks = (task_type, None) if task_type == GENERAL else (task_type, GENERAL, None)
    for task in tasks:
        ranked = [
            (_rank(rule, entry.model, prefer_cached), entry)
            for rule, entry in offered
            if rule.task_type == task and not rule.is_fallback
        ]
        if ranked:
            stages.append(_grouped(ranked, places))
            places += len(stages[-1])
    spares = [(rule, entry) for rule, entry in offered if rule.is_fallback and rule.task_type in tasks]
    spares.sort(key=lambda one: (one[0].fallback_order, tasks.index(one[0].task_type), one[1].model.reference))
    for place, (_, entry) in enumerate(spares, places):
        entry.listed = listing(entry, place)
    return RuleSet(tuple(stages), tuple(entry for _, entry in spares))


def _rank(rule: Rule, model: Model, prefer_cached: bool) -> tuple[int, ...]:
    return rule.priority, model.power_level_priority, prefer_cached and not caches_cheaply(model)


def listing(entry: Entry, place: int) -> Candidate:
    """How an entry of the group at `place` (from 0) looks among the candidates, if nothing of the caller's moves it."""
    parts: dict[str, float] = {"power_level_priority": entry.model.power_level_priority}
    rule = entry.rule
    if rule is not None:
        parts |= {"rule_priority": rule.priority, "weight": rule.weight}
        if rule.is_fallback:
            parts["fallback_order"] = rule.fallback_order
    return Candidate(model=entry.model.reference, score=1 / (1 + place), parts=parts)


def entry_of(snapshot: Snapshot, model: Model) -> Entry:
    """A model as a candidate of its own."""
    found: Entry | None = snapshot.derived.get(model.reference)
    if found is None:
        found = snapshot.derived[model.reference] = Entry(model, salt=salt(model.id.bytes))
        found.listed = listing(found, 0)
    return found


def _entry(rule: Rule, model: Model) -> tuple[Rule, Entry]:
    return rule, Entry(model, rule, rule.weight, salt(model.id.bytes))


def _grouped(ranked: list[tuple[tuple[int, ...], Entry]], start: int = 0) -> Groups:
    """Equals together, in the order of their ranks, each group by reference; they score from the place `start` on."""
    ranked.sort(key=lambda one: (one[0], one[1].model.reference))
    groups = tuple(tuple(entry for _, entry in group) for _, group in groupby(ranked, key=itemgetter(0)))
    for place, group in enumerate(groups, start):
        for entry in group:
            entry.listed = listing(entry, place)
    return groups


def models_of(snapshot: Snapshot, kind: str) -> tuple[Entry, ...]:
    """Every model of a kind but the sandbox's."""
    return _all(snapshot, kind, sandbox=False)


def sandbox_models(snapshot: Snapshot, kind: str) -> tuple[Entry, ...]:
    """The sandbox's models of a kind: they answer when nothing else can."""
    return _all(snapshot, kind, sandbox=True)


def _all(snapshot: Snapshot, kind: str, *, sandbox: bool) -> tuple[Entry, ...]:
    key = ("models", kind, sandbox)
    found: tuple[Entry, ...] | None = snapshot.derived.get(key)
    if found is None:
        models = [
            one for one in snapshot.models.values() if one.serves(kind) and (one.provider.dialect == SANDBOX) == sandbox
        ]
        models.sort(key=lambda one: (one.power_level_priority, one.reference))
        found = snapshot.derived[key] = tuple(entry_of(snapshot, one) for one in models)
    return found


def named_groups(models: Iterable[Model], name: str) -> Groups:
    """Those who serve a bare name: an exact model_id before its family, then by power_level_priority."""
    return _grouped(
        [((one.model_id != name, one.power_level_priority), Entry(one, salt=salt(one.id.bytes))) for one in models]
    )
