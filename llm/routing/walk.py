"""One walk from a wish to a route: its candidates in their order, and who stands by. Pure."""

from collections.abc import Iterable
from itertools import chain

from llm.routing import scoring
from llm.routing.index import RuleSet, entry_of, models_of, named_groups, rules_for, sandbox_models
from llm.routing.question import CONFIG, NAMED, PINNED, RANKED, RULES, Entry, Question
from llm.routing.search import BYOK, CANDIDATES_KEPT, Search, keys_of, listed, ordered, slow_models
from llm.types import Candidate, Config, Model

TARGETS = 5  # the longest route; the engine tries at most three of them

# Rejections that are nobody's wish: after them even a named model may be stood in for, where the tenant allows it.
TROUBLE = frozenset(
    {"provider_down", "no_credential", "byok_required", "byok_not_validated", "dialect_unsupported", "unpriced"}
)


def names_only(question: Question) -> bool:
    """The request names its model and the tenant lets no other step in."""
    config, kind = question.config, question.wish.kind
    return kind in (PINNED, NAMED) and not any_other(question) and (config is None or config.fallback_model_id is None)


def any_other(question: Question) -> bool:
    """The tenant lets other models answer for a named one."""
    config: Config | None = question.config
    return question.caller.allow_model_fallback or (config is not None and config.allow_model_fallback)


class Walk:
    """`route` in the order it is tried; `survivors` are the candidates that passed, as they were ranked."""

    __slots__ = ("question", "route", "scored", "search", "survivors", "why")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.search = Search(question)
        self.survivors: list[Entry] = []
        self.route: list[Entry] = []
        self.scored: list[Candidate] | None = None
        self.why = question.wish.why

    def go(self) -> None:
        question, wish = self.question, self.question.wish
        self.survivors = self._wished()
        standing_by = self._standing_by()
        left = self.survivors[1:] if self._others_may_follow() or wish.kind == NAMED else []
        if standing_by:
            known = {entry.model.reference for entry in standing_by}
            left = [entry for entry in left if entry.model.reference not in known]
        self.route = [*self.survivors[:1], *standing_by, *left]
        if self.survivors:
            return
        if self.route:
            self.why = "Nothing asked for can serve it; a fallback does."
        elif question.caller.sandbox_enabled and wish.kind not in (PINNED, NAMED):
            entries = sandbox_models(question.snapshot, question.request.kind)
            self.route = self.survivors = self.search.admitted(entries, TARGETS)
            self.scored = None
            self.why = "Nothing else can serve it; the sandbox does."

    def candidates(self) -> list[Candidate]:
        """The survivors, then those who only stand by."""
        if self.scored is not None:
            known = {one.model for one in self.scored}
            others = [entry for entry in self.route if entry.model.reference not in known]
            return [*self.scored, *listed(self.question, others)]
        shown = self.survivors
        if len(self.route) > len(shown) or not shown:
            known = {entry.model.reference for entry in shown}
            shown = [*shown, *(entry for entry in self.route if entry.model.reference not in known)]
        return listed(self.question, shown[:CANDIDATES_KEPT])

    def _wished(self) -> list[Entry]:
        """The survivors among the candidates themselves, best first."""
        question, wish = self.question, self.question.wish
        if wish.kind == RULES:
            return self._by_rules(_rules(question))
        if wish.kind == RANKED:
            return self._ranked(models_of(question.snapshot, question.request.kind))
        if wish.kind == NAMED:
            if question.request.priority is not None:
                return self._ranked([entry_of(question.snapshot, one) for one in wish.models])
            groups = named_groups(wish.models, question.request.model or "")
            return self.search.admitted(ordered(question, groups), CANDIDATES_KEPT)
        first = self.search.admit(entry_of(question.snapshot, wish.models[0]))
        return [] if first is None else [first]

    def _by_rules(self, rules: RuleSet) -> list[Entry]:
        """Stage by stage: rules for other tasks only add what the own task's leave wanting."""
        found: list[Entry] = []
        enough = TARGETS if self._others_may_follow() else 1
        for groups in rules.stages:
            found += self.search.admitted(ordered(self.question, groups), CANDIDATES_KEPT - len(found))
            if len(found) >= enough:
                break
        return found

    def _ranked(self, entries: Iterable[Entry]) -> list[Entry]:
        """All who pass, by score; then own keys first, power_level_priority and slug."""
        question, slow = self.question, slow_models(self.question)
        priced = []
        for entry in self.search.admitted(entries, len(question.snapshot.models)):
            _, _, price = question.price_of(entry.model)
            if price is not None:
                priced.append((entry, price))
        lowest = scoring.cheapest([price for _, price in priced])
        ranked = []
        for entry, price in priced:
            model = entry.model
            score, parts = scoring.score(question, model, price, lowest, slow=model.reference in slow)
            own = keys_of(question, entry).source == BYOK
            if own:
                parts["byok"] = 1
            ranked.append(((-score, not own, model.power_level_priority, model.reference), entry, parts))
        ranked.sort(key=lambda one: one[0])
        del ranked[CANDIDATES_KEPT:]
        self.scored = [
            Candidate(
                model=entry.model.reference,
                score=-place[0],
                parts={name: round(part, 4) for name, part in parts.items()},
            )
            for place, entry, parts in ranked
        ]
        return [entry for _, entry, _ in ranked]

    def _others_may_follow(self) -> bool:
        """The power level lets another model step in. One that the request did not ask for forbids nothing."""
        wish, policy = self.question.wish, self.question.policy
        asked = wish.level_named or wish.kind in (RULES, RANKED)
        return policy is None or policy.allow_fallback or not asked

    def _standing_by(self) -> list[Entry]:
        """Who steps in: fallback rules by their order, then the config's fallback model, then what the wish leaves."""
        question, wish = self.question, self.question.wish
        if names_only(question) or not self._others_may_follow() or not (self.survivors or self._may_be_replaced()):
            return []
        spare_id = None if question.config is None else question.config.fallback_model_id
        model = None if spare_id is None else question.snapshot.models.get(spare_id)
        spare = [] if model is None else [entry_of(question.snapshot, model)]
        named = wish.kind in (PINNED, NAMED)
        if named and not any_other(question):
            return self._stepping_in(spare)
        rules = _rules(question)
        if not named:
            primary = wish.models[1:] if wish.kind == CONFIG else ()
            return self._stepping_in(
                chain((entry_of(question.snapshot, one) for one in primary), rules.fallbacks, spare)
            )
        offered = (entry for groups in rules.stages for entry in ordered(question, groups))
        return self._stepping_in(chain(rules.fallbacks, spare, self._elsewhere(), offered))

    def _stepping_in(self, others: Iterable[Entry]) -> list[Entry]:
        self.search.taken = {entry.model.reference for entry in self.survivors[:1]}  # other survivors may move up
        return self.search.admitted(others, TARGETS - 1 if self.survivors else TARGETS)

    def _may_be_replaced(self) -> bool:
        """Without a survivor a named model may be stood in for only if that was no fault of the request."""
        if self.question.wish.kind not in (PINNED, NAMED):
            return True
        deciding = self.search.deciding
        return deciding is not None and deciding.code in TROUBLE

    def _elsewhere(self) -> Iterable[Entry]:
        """The pinned model at other providers."""
        pinned: Model = self.question.wish.models[0]
        if self.question.wish.kind != PINNED or not pinned.family:
            return ()
        family = self.question.snapshot.by_family.get(pinned.family, ())
        return ordered(self.question, named_groups((one for one in family if one is not pinned), pinned.model_id))


def _rules(question: Question) -> RuleSet:
    return rules_for(question.snapshot, question.wish.level, question.caller.tier, question.wish.task_type)
