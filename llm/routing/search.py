"""The walk over candidates of one plan: who passes the filters, who is rejected and why. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import cast

from billing.pricing import PriceCard
from llm import service_tiers
from llm.routing import balancing
from llm.routing.filters import PASSED, first_rejection, has_stopped, key_block, output_cap, successor_of
from llm.routing.index import Groups, listing
from llm.routing.keys import keys_at
from llm.routing.question import Entry, Keys, Question, salt
from llm.types import Candidate, Credential, Rejection, Target

CANDIDATES_KEPT = 20
REJECTIONS_KEPT = 50
BYOK = "byok"


class Search:
    """What a plan has found so far. `deciding` is the rejection of the candidate that passed most filters."""

    __slots__ = ("deciding", "down", "question", "rejections", "seen", "taken")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.rejections: list[Rejection] = []
        self.deciding: Rejection | None = None
        self.down = False
        self.seen: set[str] = set()  # reference and code of those rejected
        self.taken: set[str] = set()

    def admit(self, entry: Entry) -> Entry | None:
        """The entry if all filters let it pass, or the replacement that takes its place, or None."""
        rejection = first_rejection(self.question, entry)
        if rejection is None:
            passed = entry
        else:
            self.reject(rejection)
            successor = self._follow(entry) if rejection.code == "deprecated" else None
            if successor is None:
                return None
            passed = successor
        reference = passed.model.reference
        if reference in self.taken:
            return None
        self.taken.add(reference)
        return passed

    def admitted(self, entries: Iterable[Entry], limit: int) -> list[Entry]:
        """Those who pass, in the order given, until there are `limit`."""
        found: list[Entry] = []
        for entry in entries:
            if entry.model.reference in self.taken:
                continue
            passed = self.admit(entry)
            if passed is not None:
                found.append(passed)
                if len(found) >= limit:
                    break
        return found

    def _follow(self, entry: Entry) -> Entry | None:
        """What replaces a stopped model, along the chain, if it passes every filter."""
        model, visited = entry.model, {entry.model.reference}
        while has_stopped(self.question, model):
            successor = successor_of(self.question, model)
            if successor is None or successor.reference in visited:
                return None
            visited.add(successor.reference)
            model = successor
        passed = Entry(model, entry.rule, entry.weight, salt(model.id.bytes), replaces=entry.model.reference)
        rejection = first_rejection(self.question, passed)
        if rejection is None:
            return passed
        self.reject(rejection)
        return None

    def reject(self, rejection: Rejection) -> None:
        """Keeps the first REJECTIONS_KEPT, and always the one that decides the status."""
        code = rejection.code
        mark = rejection.model + " " + code
        if mark in self.seen:
            return
        self.seen.add(mark)
        if code == "provider_down":
            self.down = True
        leads = self.deciding is None or PASSED[code] > PASSED[self.deciding.code]
        if leads:
            self.deciding = rejection
        if len(self.rejections) < REJECTIONS_KEPT:
            self.rejections.append(rejection)
        elif leads:
            self.rejections[-1] = rejection


def ordered(question: Question, groups: Groups) -> Iterator[Entry]:
    """Every entry in its order: own keys first, slow ones last among those, then the groups, each by weight."""
    own, slow = own_providers(question), slow_models(question)
    if own or slow:
        groups = _regrouped(groups, own, slow)
    for group in groups:
        if len(group) == 1:
            yield group[0]
        else:
            yield from balancing.entries(question.seed, group)


def own_providers(question: Question) -> frozenset[str]:
    """The slugs of providers where the tenant's own keys are used."""
    if question.own is None:
        providers = question.snapshot.providers
        question.own = frozenset(
            slug for slug in question.touched if keys_at(question, providers[slug], requires_byok=False).source == BYOK
        )
    return question.own


def slow_models(question: Question) -> frozenset[str]:
    """The references of models whose median time to first token is above what the power level promises."""
    if question.slow is None:
        state, snapshot, policy = question.state, question.snapshot, question.policy
        promised = inf if policy is None else policy.max_latency_ms
        known = ("slow", promised, snapshot.version)
        if known not in state.derived:
            late = [identifier for identifier, median in state.ttft_ms.items() if median > promised]
            models = snapshot.models
            state.derived[known] = frozenset(models[one].reference for one in late if one in models)
        question.slow = state.derived[known]
    return question.slow


def _regrouped(groups: Groups, own: frozenset[str], slow: frozenset[str]) -> Groups:
    shelves: dict[tuple[bool, bool, int], list[Entry]] = {}
    for place, group in enumerate(groups):
        for entry in group:
            model = entry.model
            shelf = (model.provider.slug not in own, model.reference in slow, place)
            if shelf in shelves:
                shelves[shelf].append(entry)
            else:
                shelves[shelf] = [entry]
    return tuple(tuple(shelves[shelf]) for shelf in sorted(shelves))


def keys_of(question: Question, entry: Entry) -> Keys:
    rule = entry.rule
    return keys_at(question, entry.model.provider, requires_byok=rule is not None and rule.requires_byok)


def targets_of(question: Question, entry: Entry, most: int) -> list[Target]:
    """The ways to call an admitted model: one for each of at most `most` keys, by weight."""
    keys = keys_of(question, entry)
    usable = keys.credentials
    if question.state.key_blocks:
        usable = tuple(one for one in usable if key_block(question, entry.model, one) is None)
    credentials: Sequence[Credential | None] = usable or (None,)
    if len(credentials) > 1:
        credentials = balancing.credentials(question.seed, usable)[:most]
    cap = cast("int", output_cap(question, entry.model))  # an admitted entry has passed context_window
    card = cast("PriceCard", entry.model.card_at(question.now))  # ... and unpriced
    tiers = service_tiers.candidates(entry.model, card, question.request.service_tier)
    return [
        Target(
            model=entry.model, credential=one, key_source=keys.source, output_cap=cap, card=card, service_tiers=tiers
        )
        for one in credentials
    ]


def listed(question: Question, entries: Sequence[Entry]) -> list[Candidate]:
    """Survivors with what ordered them, where there is no score of a priority: equals score the same, up to 1; 2 is
    added for an own key, 1 taken for slowness."""
    own, slow = own_providers(question), slow_models(question)
    candidates = []
    for entry in entries:
        plain = entry.listed or listing(entry, 0)
        with_own, is_slow = entry.model.provider.slug in own, entry.model.reference in slow
        if with_own or is_slow:
            parts = {**plain.parts, **({"byok": 2} if with_own else {}), **({"latency_penalty": -1} if is_slow else {})}
            plain = Candidate(model=plain.model, score=plain.score + 2 * with_own - is_slow, parts=parts)
        candidates.append(plain)
    return candidates
