"""What one demo request was: who asked for what, which model answered, how long it took and how it ended.

The rows themselves are made by the data path's own bookkeeping, from prices of the catalog.
"""

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import Any

from billing.ledger import Reserve
from llm.calls import Usage
from llm.engine import bookkeeping
from llm.engine.bookkeeping import NOTHING_USED, Attempt, Result, Status
from llm.engine.tokens import PER_MESSAGE, Size
from llm.types import Candidate, ChatRequest, ClientFacts, Decision, Model, RouteRequest, Snapshot, Target, TenantState
from tenants.ids import uuid7_of
from tollgate.demo_data import calendar
from tollgate.demo_data.personas import Use
from tollgate.demo_data.stage import Actor

_AGENTS = ("openai-python/2.8.1", "openai-node/6.9.0", "langchain-openai/1.0.3", "anthropic-python/0.74.0")
_FAILURES = {
    "upstream_error": (502, "The provider failed. Try again."),
    "upstream_rate_limited": (429, "The provider limits requests. Try again later."),
    "upstream_timeout": (504, "The provider did not answer in time."),
}
_REJECTED = (400, "upstream_rejected", "The provider refused the request: the messages are not in a valid order.")
_FAILS, _REFUSED, _LEAVES, _CUT = 0.008, 0.006, 0.015, 0.003
_MAX_OUTPUT = 4096
# By the model's speed tier: median ms to the first token, tokens a second.
_SPEED = {"fast": (260, 140), "standard": (520, 75), "slow": (1100, 45)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request: what the ledger is asked, and what it is told in the end."""

    ask: Reserve
    opening: Mapping[str, Any]
    target: Target
    state: TenantState
    decision: Decision
    result: Result

    def closing(self, hold: Any) -> dict[str, Any]:
        """The usage row at its true cost."""
        row, _ = bookkeeping.closing_row(
            self.opening,
            target=self.target,
            tenant=self.state,
            decision=self.decision,
            result=self.result,
            day=hold.billing_day,
        )
        return row


class Traffic:
    """The requests of all tenants in the order in which they came, the same for the same seed, catalog and moment."""

    def __init__(self, *, catalog: Snapshot, actors: list[Actor], now: datetime, days: int, rng: Random) -> None:
        self.catalog = catalog
        self.actors = actors
        self.now = now
        self.days = days
        self.rng = rng
        self.incidents = calendar.incidents(now=now)
        self._targets: dict[tuple[str, str], Target] = {}

    @property
    def targets(self) -> list[Target]:
        """What requests were sent to so far."""
        return list(self._targets.values())

    def exchanges(self, number: int) -> Iterator[Exchange]:
        """`number` requests, oldest first."""
        counts = _shared(number, [actor.persona.share for actor in self.actors])
        streams = [self._of(actor, count) for actor, count in zip(self.actors, counts, strict=True)]
        for at, actor in heapq.merge(*streams, key=lambda pair: pair[0]):
            yield self._exchange(actor, at)

    def _of(self, actor: Actor, number: int) -> Iterator[tuple[datetime, Actor]]:
        rng = Random(self.rng.random())  # noqa: S311 - one of its own, so that the order of tenants does not matter
        counts = calendar.hours(actor.persona, number=number, now=self.now, days=self.days, rng=rng)
        for back in sorted(counts, reverse=True):
            for at in sorted(calendar.moments(counts[back], back, now=self.now, rng=rng)):
                yield at, actor

    def _exchange(self, actor: Actor, at: datetime) -> Exchange:
        rng = self.rng
        use = rng.choices(actor.persona.uses, [one.share for one in actor.persona.uses])[0]
        names = list(use.models)
        first = rng.choices(names, list(use.models.values()))[0]
        others = [name for name in names if name != first] if use.level in {"eco", "balanced"} else []
        targets = tuple(self._target(actor, name) for name in (first, *others))
        request = self._request(actor, use, at, first)
        decision = _decision(actor, use, targets)
        target, result = self._ending(use, targets, request)
        caller = actor.callers[use.key]
        worst = max(
            (bookkeeping.worst_case(one, request, actor.state) for one in (targets[0], target)),
            key=lambda charge: charge.budget,
        )
        opening = bookkeeping.opening_facts(request, caller, decision, target, worst)
        ask = Reserve(
            request_id=request.id,
            tenant_id=actor.tenant.pk,
            key_id=caller.key_id,
            config_id=actor.config.id,
            timezone=caller.timezone,
            amount=worst.budget,
            facts=opening,
            now=at,
        )
        return Exchange(ask=ask, opening=opening, target=target, state=actor.state, decision=decision, result=result)

    def _request(self, actor: Actor, use: Use, at: datetime, first: str) -> ChatRequest:
        rng = self.rng
        estimate = max(12, round(use.prompt * rng.lognormvariate(0, 0.55)))
        caller = actor.callers[use.key]
        # Few customers ask much, most of them little.
        customer = int(actor.persona.users * rng.random() ** 2.2)
        identity = uuid7_of(round(at.timestamp() * 1000), rng.getrandbits(74))
        return ChatRequest(
            id=identity,
            body={},
            stream=rng.random() < use.streamed,
            route=RouteRequest(request_id=identity, model=use.level or first, max_tokens=_MAX_OUTPUT),
            size=Size(estimate=estimate, text_bytes=5 * estimate, messages=1 + estimate // (4 * PER_MESSAGE)),
            cache_writes=False,
            client=ClientFacts(
                ip=f"203.0.113.{1 + customer % 250}",
                user_agent=rng.choice(_AGENTS),
                end_user="" if caller.user_id else f"customer-{customer:04d}",
            ),
            idempotency=None,
            received=0.0,
            now=at,
        )

    def _target(self, actor: Actor, reference: str) -> Target:
        known = self._targets.get((actor.tenant.slug, reference))
        if known is None:
            model = self.catalog.by_reference[reference]
            # Days before the catalog's prices began are priced at the first of them.
            card = model.card_at(self.now)
            assert card is not None, reference
            byok = actor.byok.get(model.provider.slug)
            cap = min(model.max_output_tokens or _MAX_OUTPUT, _MAX_OUTPUT)
            source = "platform" if byok is None else "byok"
            known = Target(model=model, credential=byok, key_source=source, output_cap=cap, card=card)
            self._targets[actor.tenant.slug, reference] = known
        return known

    # --- how it ended -------------------------------------------------------------------------------------------------

    def _ending(self, use: Use, targets: tuple[Target, ...], request: ChatRequest) -> tuple[Target, Result]:
        """Try the targets in order, as the journey does."""
        attempts: list[Attempt] = []
        passed = 0
        for target in targets:
            failing, slower = self._state_of(target.model, request.now)
            if self.rng.random() >= failing:
                return target, self._answer(use, target, request, attempts, passed, slower)
            code = self.rng.choices(list(_FAILURES), (70, 20, 10))[0]
            took = 60_000 if code == "upstream_timeout" else round(self.rng.lognormvariate(6.2, 0.8))
            lost = bookkeeping.lost_cost(target, request) if target.key_source != "byok" else bookkeeping.ZERO
            status = _FAILURES[code][0]
            attempts.append(
                Attempt(target, status, code, took, bookkeeping.ZERO if code == "upstream_rate_limited" else lost)
            )
            passed += took
        status, message = _FAILURES[attempts[-1].code]
        return targets[-1], Result(
            status=Status.FAILED,
            status_code=status,
            usage=NOTHING_USED,
            error_code=attempts[-1].code,
            error_message=message,
            latency_ms=passed,
            attempts=attempts,
        )

    def _state_of(self, model: Model, at: datetime) -> tuple[float, float]:
        """The share of calls that fail, and how much slower it is, at this moment."""
        for incident in self.incidents:
            if incident.provider == model.provider.slug and incident.since <= at < incident.until:
                return incident.failing, incident.slower
        return (0.0, 1.0) if model.provider.dialect == "sandbox" else (_FAILS, 1.0)

    def _answer(
        self, use: Use, target: Target, request: ChatRequest, attempts: list[Attempt], passed: int, slower: float
    ) -> Result:
        rng = self.rng
        first_ms, speed = _SPEED[target.model.speed_tier]
        if rng.random() < _REFUSED:
            status, code, message = _REJECTED
            took = round(first_ms * rng.lognormvariate(-0.5, 0.4))
            attempts.append(Attempt(target, status, code, took))
            return Result(
                status=Status.FAILED, status_code=status, usage=NOTHING_USED, error_code=code, error_message=message,
                latency_ms=passed + took, attempts=attempts,
            )  # fmt: skip
        usage = _usage(use, target, request, rng)
        ttft = slower * first_ms * rng.lognormvariate(0, 0.45) * (1 + request.size.estimate / 30_000)
        writing = slower * 1000 * usage.completion_tokens / (speed * rng.lognormvariate(0, 0.25))
        took = round(ttft + writing)
        attempts.append(Attempt(target, 200, "", took))
        result = Result(
            status=Status.COMPLETED,
            status_code=200,
            usage=usage,
            ttft_ms=passed + (round(ttft) if request.stream else took),
            latency_ms=passed + took,
            attempts=attempts,
        )
        return self._cut_short(result) if request.stream else result

    def _cut_short(self, result: Result) -> Result:
        """Now and then a reader leaves, or the provider stops, half way through a stream."""
        dice = self.rng.random()
        if dice > _LEAVES + _CUT:
            return result
        part = self.rng.uniform(0.1, 0.9)
        produced = max(1, round(result.usage.completion_tokens * part))
        usage = replace(result.usage, completion_tokens=produced, reasoning_tokens=0, estimated=True)
        ttft = result.ttft_ms or 0
        took = ttft + round((result.latency_ms - ttft) * part)
        ending: dict[str, Any] = {"status": Status.CANCELLED, "status_code": 499, "error_code": "client_gone"}
        if dice > _LEAVES:
            ending = {
                "status": Status.PARTIAL,
                "status_code": 200,
                "error_code": "upstream_error",
                "error_message": "The provider broke off its answer.",
            }
        return replace(result, usage=usage, latency_ms=took, **ending)


def _usage(use: Use, target: Target, request: ChatRequest, rng: Random) -> Usage:
    prompt = max(8, round(request.size.estimate * rng.uniform(0.9, 1.06)))
    completion = min(target.output_cap, max(1, round(use.completion * rng.lognormvariate(0, 0.7))))
    cached = prompt * 3 // 4 // 128 * 128 if rng.random() < use.cached else 0
    reasoning = completion * 2 // 5 if target.model.is_reasoning else 0
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached, reasoning_tokens=reasoning)


def _decision(actor: Actor, use: Use, targets: tuple[Target, ...]) -> Decision:
    references = [target.model.reference for target in targets]
    return Decision(
        targets=targets,
        reason=f"the first rule of {use.level}" if use.level else "the request names it",
        requested=use.level or references[0],
        config=actor.config,
        power_level=use.level,
        task_type=use.task,
        task_confidence=0.8,
        priority="balanced",
        pinned=not use.level,
        candidates=tuple(
            Candidate(model=name, score=1 - place / 10, parts={"priority": 100.0 + 10 * place})
            for place, name in enumerate(references)
        ),
        rejections=(),
        notes=(),
    )


def _shared(number: int, weights: list[int]) -> list[int]:
    """`number` in whole parts by weight; none is lost."""
    whole, parts, given = sum(weights), [], 0
    for place in range(1, len(weights) + 1):
        upto = number * sum(weights[:place]) // whole
        parts.append(upto - given)
        given = upto
    return parts
