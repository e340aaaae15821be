"""Whatever the catalog, the caller and the request: what a plan may and may not do."""

from contextlib import suppress
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.errors import ModelNotFound, NoRoute
from llm.routing import filters
from llm.routing.plan import plan
from llm.routing.question import AllowList, Entry, Question
from llm.routing.resolve import wish_of
from llm.types import Block, RouteCaller, RouteRequest, RoutingState, TenantState, number_of
from tests.llm.routing_world import NOW, TENANT, card, config, credential, identity, model, provider, rule, snapshot

TIERS = ["free", "starter", "professional", "enterprise"]
LEVELS = ["eco", "balanced", "precision"]
NAMES = [f"m{number}" for number in range(6)]
SLUGS = ["alpha", "beta", "gamma", "sandbox"]
FAMILIES = ["", "f1", "f2"]
CARDS = [card("0.1", "0.3"), card("2", "8"), card("90", "200"), card("0", "0")]
REFERENCES = [f"{slug}/{name}" for slug in SLUGS for name in NAMES]
LISTS = st.one_of(st.none(), st.lists(st.sampled_from([*REFERENCES, *NAMES, "f1", "alpha/*"]), max_size=8).map(tuple))


@st.composite
def providers(draw, slug):
    sandbox = slug == "sandbox"
    keys = [credential(f"{slug}{number}", weight=draw(st.sampled_from([0, 1, 100]))) for number in range(2)]
    return provider(
        slug,
        dialect="sandbox" if sandbox else draw(st.sampled_from(["openai", "anthropic", "openai", "cohere"])),
        auth_type="none" if sandbox else draw(st.sampled_from(["bearer", "bearer", "none"])),
        credentials=() if sandbox else tuple(keys[: draw(st.integers(0, 2))]),
        min_tier=draw(st.sampled_from(["free", *TIERS])),
        is_active=draw(st.sampled_from([True, True, True, False])),
        health_status=draw(st.sampled_from(["healthy", "healthy", "unknown", "down"])),
    )


@st.composite
def worlds(draw):
    at = [draw(providers(slug)) for slug in SLUGS]
    models = [
        model(
            draw(st.sampled_from(at)),
            name,
            family=draw(st.sampled_from(FAMILIES)),
            context_window=draw(st.sampled_from([1000, 8192, 128_000])),
            max_output_tokens=draw(st.sampled_from([None, 500, 16_384])),
            supports=frozenset(draw(st.sets(st.sampled_from(["streaming", "tools", "vision"])))) | {"streaming"},
            min_tier=draw(st.sampled_from(["free", "free", *TIERS])),
            is_active=draw(st.sampled_from([True, True, True, False])),
            is_deprecated=draw(st.sampled_from([False, False, True])),
            deprecation_date=draw(st.sampled_from([None, date(2026, 3, 1), date(2026, 4, 1)])),
            power_level=draw(st.sampled_from(LEVELS)),
            power_level_priority=draw(st.integers(1, 2)),
            prices=draw(st.sampled_from([(), *((one,) for one in CARDS)])),
        )
        for name in NAMES
    ]
    ids = st.sampled_from([None, *(one.id for one in models)])
    models = [replace(one, replacement_id=draw(ids)) for one in models]
    rules = [
        rule(
            draw(st.sampled_from(models)),
            id=identity(f"rule {number}"),
            power_level=draw(st.sampled_from(LEVELS)),
            user_tier=draw(st.sampled_from(["all", "all", *TIERS])),
            task_type=draw(st.sampled_from([None, "general", "code"])),
            priority=draw(st.integers(1, 3)),
            weight=draw(st.sampled_from([0, 1, 100])),
            min_tokens=draw(st.sampled_from([None, None, 50])),
            requires_byok=draw(st.sampled_from([False, False, True])),
            is_fallback=draw(st.sampled_from([False, False, True])),
        )
        for number in range(draw(st.integers(0, 10)))
    ]
    return snapshot(models, rules)


@st.composite
def tenants(draw, world):
    ids = [one.id for one in world.providers.values()]
    owned = draw(st.sets(st.sampled_from(ids)))
    own = {one: (credential(str(one)[:4], source="byok"),) for one in owned}
    models = st.sampled_from([None, None, *world.models])
    default = config(
        primary_model_id=draw(models),
        fallback_model_id=draw(models),
        use_platform_key=draw(st.booleans()),
        max_tokens=draw(st.sampled_from([100, 4096])),
        allowed_models=draw(LISTS),
        allow_model_fallback=draw(st.booleans()),
        routing_rules={"code": {"model_id": draw(st.sampled_from(REFERENCES))}},
    )
    unusable = draw(st.sets(st.sampled_from(ids))) - owned
    return TenantState(
        configs={"default": default},
        default_config=draw(st.sampled_from([None, default])),
        byok=own if draw(st.booleans()) else {},
        byok_unusable=frozenset(unusable),
    )


@st.composite
def cases(draw):
    world = draw(worlds())
    caller = RouteCaller(
        tenant_id=TENANT,
        tier=draw(st.sampled_from(TIERS)),
        allowed_models=draw(LISTS),
        sandbox_enabled=draw(st.booleans()),
        allow_model_fallback=draw(st.booleans()),
    )
    known = [*world.by_reference, *world.by_model_id, *world.by_family, *LEVELS, "auto", "config/default"]
    request = RouteRequest(
        request_id=draw(st.uuids()),
        model=draw(st.sampled_from([None, None, *known])),
        power_level=draw(st.sampled_from([None, None, *LEVELS])),
        task_type=draw(st.sampled_from([None, "code", "chat"])),
        priority=draw(st.sampled_from([None, None, "cost", "speed", "quality", "balanced"])),
        session_id=draw(st.sampled_from(["", "s1"])),
        input_tokens=draw(st.sampled_from([0, 10, 990, 100_000])),
        max_tokens=draw(st.sampled_from([None, None, 1, 600, 20_000])),
        needs=frozenset(draw(st.sets(st.sampled_from(["streaming", "tools", "vision"])))),
    )
    slow = dict.fromkeys(draw(st.sets(st.sampled_from(list(world.models)), max_size=2)), 99_000.0)
    block = Block(detail="it failed", until=0)
    broken = dict.fromkeys(draw(st.sets(st.sampled_from([*world.by_reference, *world.providers]), max_size=1)), block)
    keys = [(slug, number_of(one)) for slug, found in world.providers.items() for one in found.credentials]
    barred = dict.fromkeys(draw(st.sets(st.sampled_from(keys), max_size=2)) if keys else (), block)
    state = RoutingState(ttft_ms=slow, blocks=broken, key_blocks=barred)
    return world, caller, draw(tenants(world)), request, state


def decide(case, *, derived=None):
    world, caller, tenant, request, state = case
    if derived is not None:
        world = replace(world, derived=derived)
    try:
        return plan(world, caller, tenant, request, state=state, now=NOW)
    except NoRoute as error:
        return error.decision


def question_of(case):
    world, caller, tenant, request, state = case
    question = Question(world, caller, tenant, request)
    question.ask(wish_of(world, caller, tenant, request), state, NOW)
    return question


@settings(max_examples=300, deadline=None)
@given(cases())
def test_every_target_passes_every_filter_but_health_for_the_trickle(case):
    decision = decide(case)
    question = question_of(case)
    trickle = any("still try" in note for note in decision.notes)
    for target in decision.targets:
        refusals = [check(question, Entry(target.model)) for check in filters.FILTERS]
        left = {refusal[0] for refusal in refusals if refusal is not None}
        assert left <= ({"provider_down"} if trickle else set())


@settings(max_examples=300, deadline=None)
@given(cases())
def test_no_target_is_one_that_key_or_config_forbids_or_uses_a_key_the_config_forbids(case):
    world, caller, tenant, _, _ = case
    decision = decide(case)
    lists = [caller.allowed_models, None if decision.config is None else decision.config.allowed_models]
    for target in decision.targets:
        for allowed in (AllowList.of(world, entries) for entries in lists):
            assert allowed is None or allowed.allows(target.model)
        assert caller.sandbox_enabled or target.model.provider.dialect != "sandbox"
        own = tenant.byok.get(target.model.provider.id, ())
        if target.key_source == "byok":
            assert target.credential in own
        elif target.key_source == "platform":
            assert target.credential in target.model.provider.credentials
            assert not own
            assert target.model.provider.id not in tenant.byok_unusable
            assert decision.config is None or decision.config.use_platform_key
        else:
            assert (target.key_source, target.credential) == ("none", None)
            assert target.model.provider.auth_type == "none"


@settings(max_examples=300, deadline=None)
@given(cases())
def test_what_is_asked_for_is_never_more_than_request_config_model_or_window_allow(case):
    _, _, _, request, _ = case
    decision = decide(case)
    for target in decision.targets:
        assert target.output_cap >= 1
        assert request.input_tokens + target.output_cap <= target.model.context_window
        assert request.max_tokens is None or target.output_cap <= request.max_tokens
        assert target.model.max_output_tokens is None or target.output_cap <= target.model.max_output_tokens
        assert decision.config is None or target.output_cap <= decision.config.max_tokens
        assert target.card is target.model.card_at(NOW)


@settings(max_examples=200, deadline=None)
@given(cases(), cases())
def test_a_plan_is_the_same_every_time_whatever_the_snapshot_has_worked_out_before(case, other):
    """What a snapshot keeps (`derived`) never changes an answer, nor do other callers' plans on it."""
    fresh = decide(case, derived={})
    world = case[0]
    with suppress(ModelNotFound):
        decide((world, *other[1:]))
    assert decide(case) == decide(case) == fresh


@settings(max_examples=300, deadline=None)
@given(cases())
def test_a_route_has_at_most_five_targets_and_no_model_twice_but_with_another_key(case):
    decision = decide(case)
    pairs = [(target.model.reference, target.credential) for target in decision.targets]
    assert len(pairs) == len(set(pairs)) <= 5
    references = [target.model.reference for target in decision.targets]
    assert len(set(references)) in (1, len(references)) or not references
    listed = {candidate.model for candidate in decision.candidates}
    assert set(references) <= listed


@settings(max_examples=300, deadline=None)
@given(cases())
def test_a_pinned_model_is_another_only_where_the_tenant_or_its_replacement_says_so(case):
    world, caller, _, request, _ = case
    decision = decide(case)
    if not decision.pinned or not decision.targets:
        return
    named = world.by_reference[request.model]
    chain, model_ = {named.reference}, named
    while model_.replacement_id is not None and world.models[model_.replacement_id].reference not in chain:
        model_ = world.models[model_.replacement_id]
        chain.add(model_.reference)
    used = decision.config
    if caller.allow_model_fallback or (used is not None and used.allow_model_fallback):
        return
    allowed = chain if named.is_deprecated else {named.reference}
    spare = None if used is None or used.fallback_model_id is None else world.models[used.fallback_model_id]
    for target in decision.targets:
        if spare is not None and target.model.reference not in allowed:
            assert spare.reference == target.model.reference or spare.is_deprecated
        else:
            assert target.model.reference in allowed


@settings(max_examples=300, deadline=None)
@given(cases())
def test_without_a_target_the_error_follows_the_rejection_that_passed_most_filters(case):
    error = refusal(case)
    if error is None:
        return
    decision = error.decision
    assert (decision.targets, decision.reason) == ((), error.message)
    statuses = {"allow_list": 403, "tier": 403, "inactive": 404, "deprecated": 404, "capability": 400}
    statuses |= {"context_window": 400, "rule_tokens": 400, "price_cap": 400}
    furthest = max((filters.PASSED[one.code] for one in decision.rejections), default=None)
    codes = {one.code for one in decision.rejections if filters.PASSED[one.code] == furthest}
    assert error.status in ({statuses.get(code, 503) for code in codes} or {503})


def refusal(case):
    world, caller, tenant, request, state = case
    try:
        plan(world, caller, tenant, request, state=state, now=NOW)
    except NoRoute as error:
        return error
    return None


@pytest.mark.parametrize("reference", ["nope", "", "alpha/nope", "config/nope", "x" * 10_000, "\ud800"])
def test_any_unknown_name_is_a_404(reference):
    world = snapshot([model(provider("alpha"), "m1")])
    with pytest.raises(Exception, match="does not exist") as error:
        plan(
            world,
            RouteCaller(tenant_id=TENANT, tier="free"),
            TenantState(),
            RouteRequest(request_id=identity("r"), model=reference),
            state=RoutingState(),
            now=NOW,
        )
    assert error.value.status == 404
