"""plan(): which models, with which keys, in which order, and why. Pure: no clock, no I/O, the same answer every time.

The journey: look up what is wished (resolve), walk the candidates through the filters (search, filters), order them
(balancing or scoring), add who stands by (walk), and say why. DESIGN.md section 6 is the law.

What does not depend on the request is worked out once per snapshot and kept in `snapshot.derived`.
"""

from collections.abc import Sequence
from datetime import datetime

from llm.routing import refusal
from llm.routing.filters import first_rejection
from llm.routing.index import entry_of
from llm.routing.question import PINNED, RANKED, Entry, Question
from llm.routing.resolve import AUTO, wish_of
from llm.routing.search import BYOK, keys_of, listed, slow_models, targets_of
from llm.routing.walk import TARGETS, Walk, names_only
from llm.types import (
    Candidate,
    Decision,
    Rejection,
    RouteCaller,
    RouteRequest,
    RoutingState,
    Snapshot,
    Target,
    TenantState,
)

KEYS_PER_MODEL = 3  # where only one model is left, its other keys may step in
TRICKLE = 20  # one request in so many goes on when everything looks down, so that recovery is seen


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
    question = Question(snapshot, caller, tenant, request)
    question.ask(wish_of(snapshot, caller, tenant, request), state, now)
    if question.wish.kind == PINNED and names_only(question):
        entry = entry_of(snapshot, question.wish.models[0])
        if first_rejection(question, entry) is None:
            targets = targets_of(question, entry, KEYS_PER_MODEL)
            return _decision(question, targets, question.wish.why, listed(question, [entry]), (), [entry])
    walk = Walk(question)
    walk.go()
    if not walk.route and walk.search.down and request.request_id.int % TRICKLE == 0:
        walk = _trickle(walk)
    return _answer(walk)


def _trickle(walk: Walk) -> Walk:
    """The walk once more, this time through what looks down."""
    question = walk.question
    question.distrust_health()
    second = Walk(question)
    second.go()
    if not second.route:
        return walk
    question.notes.append("Everything looks down; this request is one of the few that still try.")
    return second


def _answer(walk: Walk) -> Decision:
    question, search, route = walk.question, walk.search, walk.route
    candidates, rejections = walk.candidates(), search.rejections
    if not route:
        asked = question.request.model or AUTO
        why = refusal.message(asked, question.wish.level, rejections, search.deciding)
        decision = _decision(question, (), why, candidates, rejections, ())
        only, deciding = question.request.only, search.deciding
        in_the_way = only[1] if only is not None and deciding is not None and deciding.code == "capability" else None
        if deciding is not None and deciding.code == "service_tier":
            in_the_way = "service_tier"
        raise refusal.no_route(decision, deciding, question.now, param=in_the_way)
    if len(route) == 1:
        targets = targets_of(question, route[0], KEYS_PER_MODEL)
    else:
        targets = [targets_of(question, entry, 1)[0] for entry in route[:TARGETS]]
    return _decision(question, targets, walk.why or _reason(walk), candidates, rejections, route)


def _decision(
    question: Question,
    targets: Sequence[Target],
    reason: str,
    candidates: Sequence[Candidate],
    rejections: Sequence[Rejection],
    route: Sequence[Entry],
) -> Decision:
    wish, request = question.wish, question.request
    return Decision(
        targets=tuple(targets),
        reason=reason,
        requested=request.model or AUTO,
        config=question.config,
        power_level=wish.level,
        task_type=wish.task_type,
        task_confidence=wish.confidence,
        priority=request.priority or "",
        pinned=wish.kind == PINNED,
        candidates=tuple(candidates),
        rejections=tuple(rejections),
        notes=(*_notes(question, route, targets), *_slow(question, candidates)),
        trickle=not question.trust_health,
    )


def _reason(walk: Walk) -> str:
    """Why the first is first, in a sentence."""
    question, wish, first = walk.question, walk.question.wish, walk.route[0]
    among = "the only one" if len(walk.survivors) == 1 else f"the first of {len(walk.survivors)}"
    if wish.kind == RANKED:
        return f"It has the best {question.request.priority} score: {among} that can serve it."
    rule = first.rule
    task = "any task" if rule is None or rule.task_type is None else f"task {rule.task_type}"
    own = ", with your own key" if keys_of(question, first).source == BYOK else ""
    priority = "" if rule is None else f" at priority {rule.priority}"
    return f"A rule of power level {wish.level} for {task} has it{priority}{own}: {among} that can serve it."


def _notes(question: Question, route: Sequence[Entry], targets: Sequence[Target]) -> list[str]:
    """What a reader should know about the choice: replacements, sunsets and lowered caps."""
    notes = question.notes
    for entry in route[:TARGETS]:
        model = entry.model
        if entry.replaces:
            notes.append(f"{entry.replaces} is deprecated; {model.reference} replaces it.")
        elif model.is_deprecated and model.deprecation_date is not None:
            notes.append(f"{model.reference} is deprecated and stops on {model.deprecation_date.isoformat()}.")
    if targets and question.asked_cap is None and question.request.kind != "embedding":
        first = targets[0]
        if question.request.input_tokens + first.output_cap == first.model.context_window:
            notes.append(f"The answer is capped at {first.output_cap:,} tokens to fit the context window.")
    return notes


def _slow(question: Question, candidates: Sequence[Candidate]) -> list[str]:
    """Which of the first candidates are ranked lower for being slow, chosen or not."""
    policy, slow = question.policy, slow_models(question)
    if policy is None or not slow:
        return []
    median = {one: question.state.ttft_ms[question.snapshot.by_reference[one].id] for one in slow}
    return [
        f"Latency penalty: the median time to first token of {one.model} is {median[one.model]:,.0f} ms,"
        f" {question.wish.level} promises {policy.max_latency_ms:,} ms."
        for one in candidates[:TARGETS]
        if one.model in slow
    ]
