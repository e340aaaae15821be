"""plan(): which models, with which keys, in which order, and why. Pure: no clock, no I/O, the same answer every time.

The journey: look up what is wished (resolve), walk the candidates through the filters (search), order them (balancing
or scoring), add what may step in, and say why. DESIGN.md section 6 is the law; docs/routing.md tells it at length.
"""

from collections.abc import Iterable
from datetime import datetime
from itertools import chain

from llm.errors import NoRoute
from llm.routing import refusal, scoring
from llm.routing.index import RuleSet, models_of, named_groups, rules_for, sandbox_models
from llm.routing.question import CONFIG, NAMED, PINNED, RANKED, RULES, AllowList, Entry, Question, salt
from llm.routing.resolve import AUTO, wish_of
from llm.routing.search import (
    BYOK,
    CANDIDATES_KEPT,
    Search,
    candidate,
    keys_of,
    ordered,
    targets_of,
)
from llm.types import (
    Candidate,
    Decision,
    Model,
    RouteCaller,
    RouteRequest,
    RoutingState,
    Snapshot,
    Target,
    TenantState,
)

TARGETS = 5
KEYS_PER_MODEL = 3  # where only one model is left, its other keys may step in
TRICKLE = 20  # one request in so many goes on when everything looks down, so that recovery is seen

# Rejections that are nobody's wish: after them even a named model may be stood in for, where the tenant allows it.
TROUBLE = frozenset(
    {"provider_down", "no_credential", "byok_required", "byok_not_validated", "dialect_unsupported", "unpriced"}
)


def plan(
    snapshot: Snapshot,
    caller: RouteCaller,
    tenant: TenantState,
    request: RouteRequest,
    *,
    state: RoutingState,
    now: datetime,
) -> Decision:
    """The route of one request, at most TARGETS long.

    Raises NoRoute (with the decision, all rejections in it), ModelNotFound and InvalidRequest.
    """
    question = _question(snapshot, caller, tenant, request, state, now)
    found = _Found(question)
    found.look()
    if not found.route and found.search.down and request.request_id.int % TRICKLE == 0:
        question.trust_health = False
        second = _Found(question)
        second.look()
        if second.route:
            found = second
            question.notes.append("Everything looks down; this request is one of the few that still try.")
    if not found.route:
        raise _no_route(found)
    return _decision(found, _targets(found))


def _question(
    snapshot: Snapshot,
    caller: RouteCaller,
    tenant: TenantState,
    request: RouteRequest,
    state: RoutingState,
    now: datetime,
) -> Question:
    wish = wish_of(snapshot, caller, tenant, request)
    config = wish.config
    policy = snapshot.policies.get(wish.level)
    by_level = wish.kind == RULES or (wish.kind == RANKED and wish.level_named)
    asked = request.max_tokens
    if config is not None and asked is not None and asked > config.max_tokens:
        wish.notes.append(f"max_tokens was lowered from {asked:,} to {config.max_tokens:,}, the config's limit.")
        asked = config.max_tokens
    return Question(
        snapshot=snapshot,
        caller=caller,
        tenant=tenant,
        request=request,
        state=state,
        now=now,
        today=now.date(),
        wish=wish,
        policy=policy,
        key_allows=AllowList.of(snapshot, caller.allowed_models),
        config_allows=None if config is None else AllowList.of(snapshot, config.allowed_models),
        price_cap=policy.max_price_per_1m_usd if policy is not None and by_level else None,
        asked_cap=asked,
        notes=wish.notes,
    )


class _Found:
    """One walk: the route in the order it is tried, and the candidates as they were ranked."""

    __slots__ = ("candidates", "question", "route", "search", "survivors", "why")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.search = Search(question)
        self.survivors: list[Entry] = []
        self.route: list[Entry] = []
        self.candidates: list[Candidate] | None = None
        self.why = question.wish.why

    def look(self) -> None:
        self.survivors = self._wished()
        standing_by = self._standing_by()
        known = {entry.model.reference for entry in standing_by}
        left = [entry for entry in self.survivors[1:] if entry.model.reference not in known]
        if not self._others_may_follow() and self.question.wish.kind != NAMED:
            left = []
        self.route = [*self.survivors[:1], *standing_by, *left]
        if self.survivors:
            return
        if self.route:
            self.why = "Nothing asked for can serve it; a fallback does."
        elif self.question.caller.sandbox_enabled and self.question.wish.kind not in (PINNED, NAMED):
            entries = sandbox_models(self.question.snapshot, self.question.request.kind)
            self.route = self.survivors = self.search.admitted(entries, TARGETS)
            self.why = "Nothing else can serve it; the sandbox does."

    def _wished(self) -> list[Entry]:
        """The survivors among the candidates themselves, best first."""
        question, wish = self.question, self.question.wish
        if wish.kind == RULES:
            return self._by_rules(_rules(question))
        if wish.kind == RANKED:
            return self._ranked(models_of(question.snapshot, question.request.kind))
        if wish.kind == NAMED:
            if question.request.priority is not None:
                return self._ranked(tuple(Entry(one, salt=salt(one.id)) for one in wish.models))
            groups = named_groups(wish.models, question.request.model or "")
            return self.search.admitted(ordered(question, groups), CANDIDATES_KEPT)
        first = self.search.admit(Entry(wish.models[0]))
        return [] if first is None else [first]

    def _by_rules(self, rules: RuleSet) -> list[Entry]:
        """Stage by stage: rules for other tasks only add what the own task's leave wanting."""
        found: list[Entry] = []
        for groups in rules.stages:
            found += self.search.admitted(ordered(self.question, groups), CANDIDATES_KEPT - len(found))
            enough = TARGETS if self._others_may_follow() else 1
            if len(found) >= enough:
                break
        return found

    def _ranked(self, entries: tuple[Entry, ...]) -> list[Entry]:
        """All who pass, by score; then own keys first, power_level_priority and slug."""
        question = self.question
        passed = self.search.admitted(entries, len(entries))
        priced = []
        for entry in passed:
            card = entry.model.card_at(question.now)
            price = None if card is None else question.blended(card)
            if price is not None:
                priced.append((entry, price))
        lowest = scoring.cheapest([price for _, price in priced])
        ranked = []
        for entry, price in priced:
            score, parts = scoring.score(question, entry.model, price, lowest)
            own = keys_of(question, entry).source == BYOK
            if own:
                parts["byok"] = 1
            place = (-score, not own, entry.model.power_level_priority, entry.model.reference)
            ranked.append((place, entry, parts))
        ranked.sort(key=lambda one: one[0])
        del ranked[CANDIDATES_KEPT:]
        self.candidates = [
            Candidate(model=entry.model.reference, score=-place[0], parts=parts) for place, entry, parts in ranked
        ]
        return [entry for _, entry, _ in ranked]

    def _others_may_follow(self) -> bool:
        """Whether the power level lets another model step in; one that nobody asked for by name forbids nothing."""
        wish, policy = self.question.wish, self.question.policy
        asked = wish.level_named or wish.kind in (RULES, RANKED)
        return policy is None or policy.allow_fallback or not asked

    def _standing_by(self) -> list[Entry]:
        """Who steps in: fallback rules by their order, then the config's fallback model, then what the wish leaves."""
        question, wish = self.question, self.question.wish
        config = wish.config
        if not self._others_may_follow() or (not self.survivors and not self._may_be_replaced()):
            return []
        spare_id = None if config is None else config.fallback_model_id
        spare = None if spare_id is None else question.snapshot.models.get(spare_id)
        any_other = question.caller.allow_model_fallback or (config is not None and config.allow_model_fallback)
        if wish.kind in (PINNED, NAMED) and not any_other:
            return [] if spare is None else self._admitted_others([Entry(spare)])
        rules = _rules(question)
        others = chain(
            (Entry(one) for one in wish.models[1:] if wish.kind == CONFIG),
            rules.fallbacks,
            () if spare is None else (Entry(spare),),
            self._like_it() if wish.kind == PINNED else (),
            (entry for groups in rules.stages for entry in ordered(question, groups))
            if wish.kind in (PINNED, NAMED)
            else (),
        )
        return self._admitted_others(others)

    def _admitted_others(self, others: Iterable[Entry]) -> list[Entry]:
        self.search.taken = {entry.model.reference for entry in self.survivors[:1]}  # other survivors may move up
        return self.search.admitted(others, TARGETS - 1 if self.survivors else TARGETS)

    def _may_be_replaced(self) -> bool:
        """Without a survivor a named model may be stood in for only if it was no fault of the request."""
        deciding = self.search.deciding
        named = self.question.wish.kind in (PINNED, NAMED)
        return not named or (deciding is not None and deciding.code in TROUBLE)

    def _like_it(self) -> list[Entry]:
        """The pinned model at other providers."""
        model: Model = self.question.wish.models[0]
        family = self.question.snapshot.by_family.get(model.family, ()) if model.family else ()
        groups = named_groups(tuple(one for one in family if one is not model), model.model_id)
        return list(ordered(self.question, groups))


def _rules(question: Question) -> RuleSet:
    return rules_for(question.snapshot, question.wish.level, question.caller.tier, question.wish.task_type)


def _targets(found: _Found) -> tuple[Target, ...]:
    question, route = found.question, found.route
    if len(route) == 1:
        return tuple(targets_of(question, route[0], KEYS_PER_MODEL))
    return tuple(targets_of(question, entry, 1)[0] for entry in route[:TARGETS])


def _decision(found: _Found, targets: tuple[Target, ...]) -> Decision:
    question, wish, request = found.question, found.question.wish, found.question.request
    listed = found.candidates
    if listed is None:
        ranked = list(found.survivors)
        if len(found.route) > 1 or not ranked:
            ranked += [entry for entry in found.route if entry not in ranked]
        listed = [candidate(question, entry, place) for place, entry in enumerate(ranked[:CANDIDATES_KEPT])]
    elif len(found.route) > len(found.survivors):
        known = {one.model for one in listed}
        others = [entry for entry in found.route if entry.model.reference not in known]
        listed = [*listed, *(candidate(question, entry, 0) for entry in others)]
    return Decision(
        targets=targets,
        reason=found.why or _reason(found),
        requested=request.model or AUTO,
        config=wish.config,
        power_level=wish.level,
        task_type=wish.task_type,
        task_confidence=wish.confidence,
        priority=request.priority or "",
        pinned=wish.kind == PINNED,
        candidates=tuple(listed),
        rejections=tuple(found.search.rejections),
        notes=tuple(_notes(found, targets)),
    )


def _no_route(found: _Found) -> NoRoute:
    question, search = found.question, found.search
    asked, level = question.request.model or AUTO, question.wish.level
    found.why = refusal.message(asked, level, search.rejections, search.deciding)
    return refusal.no_route(_decision(found, ()), search.deciding)


def _reason(found: _Found) -> str:
    """Why the first is first, in a sentence."""
    question, wish, first = found.question, found.question.wish, found.route[0]
    among = "the only one" if len(found.survivors) == 1 else f"the first of {len(found.survivors)}"
    if wish.kind == RANKED:
        return f"It has the best {question.request.priority} score: {among} that can serve it."
    rule = first.rule
    task = "any task" if rule is None or rule.task_type is None else f"task {rule.task_type}"
    own = ", with your own key" if keys_of(question, first).source == BYOK else ""
    priority = "" if rule is None else f" at priority {rule.priority}"
    return f"A rule of power level {wish.level} for {task} has it{priority}{own}: {among} that can serve it."


def _notes(found: _Found, targets: tuple[Target, ...]) -> list[str]:
    """What a reader should know about the choice: replacements, sunsets, lowered caps, keys and slowness."""
    question = found.question
    notes = list(question.notes)
    for entry in found.route[:TARGETS]:
        model = entry.model
        if entry.replaces:
            notes.append(f"{entry.replaces} is deprecated; {model.reference} replaces it.")
        elif model.is_deprecated and model.deprecation_date is not None:
            notes.append(f"{model.reference} is deprecated and stops on {model.deprecation_date.isoformat()}.")
        if question.policy is not None and question.is_slow(model):
            measured, promised = question.state.ttft_ms[model.id], question.policy.max_latency_ms
            notes.append(
                f"Latency penalty: the median time to first token of {model.reference} is {measured:,.0f} ms,"
                f" {question.wish.level} promises {promised:,} ms."
            )
        note = keys_of(question, entry).note
        if note and note not in notes:
            notes.append(note)
    if targets and question.asked_cap is None and question.request.kind == "chat":
        first = targets[0]
        if question.request.input_tokens + first.output_cap == first.model.context_window:
            notes.append(f"The answer is capped at {first.output_cap:,} tokens to fit the context window.")
    return notes
