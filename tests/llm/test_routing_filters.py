"""The filters one by one: the code, the words, and the status when nothing is left."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from llm.errors import NoRoute
from llm.types import Block, RoutingState, number_of
from tests.llm.routing_world import (
    NOW,
    card,
    codes,
    config,
    credential,
    model,
    names,
    provider,
    request,
    route,
    rule,
    snapshot,
    tenant,
)

OPENAI = provider("openai")
GPT = model(OPENAI, "gpt-4o", family="gpt-4o")
OWN = {OPENAI.id: (credential(source="byok"),)}
KEYLESS = replace(GPT, provider=replace(OPENAI, credentials=()))


def refusal(world, asked="openai/gpt-4o", **how):
    with pytest.raises(NoRoute) as error:
        route(world, asked, **how)
    return error.value


def block(seconds, *, limited=False):
    return Block(detail="it failed", until=NOW.timestamp() + seconds, limited=limited)


def told(error):
    return error.status, error.type, error.code, error.retryable


class TestAllowLists:
    @pytest.mark.parametrize("entry", ["openai/gpt-4o", "gpt-4o", "openai/*"])
    def test_a_model_is_allowed_by_reference_model_id_or_provider(self, entry):
        assert names(route(snapshot([GPT]), "openai/gpt-4o", allowed_models=("x", entry))) == ["openai/gpt-4o"]

    def test_a_family_allows_whoever_serves_it(self):
        azure = model(provider("azure"), "ours", family="gpt-4o")
        assert names(route(snapshot([azure]), "azure/ours", allowed_models=("gpt-4o",))) == ["azure/ours"]

    @pytest.mark.parametrize("entries", [(), ("openai",), ("gpt-4",), ("azure/*",), ("openai/gpt",)])
    def test_any_other_list_forbids_it_with_403(self, entries):
        error = refusal(snapshot([GPT]), allowed_models=entries)
        assert told(error) == (403, "permission_error", "model_not_allowed", False)
        assert error.message == (
            "No model can serve `openai/gpt-4o` now: openai/gpt-4o: this key's allow-list does not have it"
            " (allow_list). Choose a model that GET /v1/models lists for this key, or ask for access."
        )

    def test_a_reference_does_not_allow_a_resellers_model_of_that_id(self):
        resold = model(provider("openrouter"), "openai/gpt-4o")
        error = refusal(snapshot([GPT, resold]), "openrouter/openai/gpt-4o", allowed_models=("openai/gpt-4o",))
        assert codes(error.decision) == {"openrouter/openai/gpt-4o": "allow_list"}

    def test_the_keys_list_and_the_configs_must_both_allow(self):
        mine = tenant(default=config(allowed_models=("openai/*",)))
        assert names(route(snapshot([GPT]), "gpt-4o", of=mine, allowed_models=("gpt-4o",))) == ["openai/gpt-4o"]
        error = refusal(snapshot([GPT]), of=tenant(default=config(allowed_models=())))
        assert error.decision.rejections[0].detail == "the config's allow-list does not have it"


@pytest.mark.parametrize("where", ["model", "provider"])
def test_a_tier_below_the_floor_of_model_or_provider_is_403(where):
    floor = {"min_tier": "enterprise"}
    one = replace(GPT, **floor) if where == "model" else replace(GPT, provider=replace(OPENAI, **floor))
    error = refusal(snapshot([one]))
    assert told(error) == (403, "permission_error", "model_not_allowed", False)
    assert error.decision.rejections[0].detail == "it needs the tier enterprise; yours is professional"
    assert names(route(snapshot([one]), "openai/gpt-4o", tier="enterprise")) == ["openai/gpt-4o"]


@pytest.mark.parametrize(
    "one", [replace(GPT, is_active=False), replace(GPT, provider=replace(OPENAI, is_active=False))]
)
def test_what_is_switched_off_is_404(one):
    error = refusal(snapshot([one]))
    assert told(error) == (404, "invalid_request_error", "model_not_found", False)
    assert codes(error.decision) == {"openai/gpt-4o": "inactive"}


def test_a_deprecated_model_without_replacement_is_404():
    error = refusal(snapshot([replace(GPT, is_deprecated=True)]))
    assert told(error) == (404, "invalid_request_error", "model_not_found", False)
    assert error.decision.rejections[0].detail == "it is deprecated and has no replacement"


class TestDown:
    DOWN = replace(GPT, provider=replace(OPENAI, health_status="down"))

    def test_a_provider_that_is_down_is_503_and_worth_a_retry(self):
        error = refusal(snapshot([self.DOWN]))
        assert told(error) == (503, "api_error", "no_provider_available", True)
        assert error.retry_after == 5.0

    def test_an_open_breaker_takes_out_one_model(self):
        other = model(OPENAI, "other")
        state = RoutingState(blocks={"openai/gpt-4o": Block(detail="it failed", until=0)})
        decision = route(snapshot([GPT, other], [rule(GPT), rule(other)]), state=state)
        assert (names(decision), codes(decision)) == (["openai/other"], {"openai/gpt-4o": "provider_down"})

    def test_of_several_keys_only_the_open_one_is_left_out(self):
        good, bad = credential("good"), credential("bad")
        one = replace(GPT, provider=replace(OPENAI, credentials=(good, bad)))
        for name in ("openai", "openai/gpt-4o"):
            state = RoutingState(key_blocks={(name, number_of(bad)): block(5)})
            decision = route(snapshot([one]), "openai/gpt-4o", state=state)
            assert [target.credential for target in decision.targets] == [good]
            state = RoutingState(key_blocks={**state.key_blocks, ("openai/gpt-4o", number_of(good)): block(9)})
            error = refusal(snapshot([one]), state=state)
            assert (told(error), error.retry_after) == ((503, "api_error", "no_provider_available", True), 5.0)

    def test_an_own_keys_breaker_never_brings_in_the_platforms_key(self):
        own = credential("own", source="byok")
        of = tenant(byok={OPENAI.id: (own,)})
        state = RoutingState(key_blocks={("openai/gpt-4o", number_of(own)): block(60, limited=True)})
        error = refusal(snapshot([GPT]), of=of, state=state)
        assert (told(error), error.retry_after) == ((429, "rate_limit_error", "upstream_rate_limited", True), 60.0)
        assert names(route(snapshot([GPT]), "openai/gpt-4o", state=state)) == ["openai/gpt-4o"]

    def test_the_wait_is_until_the_first_candidate_has_all_its_breakers_behind_it(self):
        other = model(provider("groq"), "gpt-4o")
        blocks = {"openai": block(40), "openai/gpt-4o": block(20), "groq": block(30)}
        error = refusal(snapshot([GPT, other]), "gpt-4o", state=RoutingState(blocks=blocks))
        assert (error.status, error.retry_after) == (503, 30.0)

    def test_one_limit_and_one_failure_are_not_only_limits(self):
        other = model(provider("groq"), "gpt-4o")
        limit = {("openai/gpt-4o", number_of(credential())): block(30, limited=True)}
        state = RoutingState(blocks={"groq": block(40)}, key_blocks=limit)
        error = refusal(snapshot([GPT, other]), "gpt-4o", state=state)
        assert (error.status, error.code, error.retry_after) == (503, "no_provider_available", 30.0)

    def test_the_trickle_passes_a_breaker_but_not_a_wish_to_wait(self):
        asked = request("openai/gpt-4o", number=20)
        decision = route(snapshot([GPT]), asked, state=RoutingState(blocks={"openai": block(40)}))
        assert (names(decision), decision.trickle) == (["openai/gpt-4o"], True)
        limit = {("openai/gpt-4o", number_of(credential())): block(30, limited=True)}
        state = RoutingState(blocks={"openai": block(40)}, key_blocks=limit)
        assert refusal(snapshot([GPT]), asked, state=state).status == 503

    @pytest.mark.parametrize("health", ["healthy", "degraded", "unknown"])
    def test_any_other_health_stays_in(self, health):
        one = replace(GPT, provider=replace(OPENAI, health_status=health))
        assert names(route(snapshot([one]), "openai/gpt-4o")) == ["openai/gpt-4o"]

    def test_a_trickle_of_one_in_twenty_goes_on_when_everything_looks_down(self):
        decision = route(snapshot([self.DOWN]), request("openai/gpt-4o", number=20))
        assert names(decision) == ["openai/gpt-4o"]
        assert decision.notes == ("Everything looks down; this request is one of the few that still try.",)

    def test_the_trickle_does_not_start_while_something_is_up(self):
        up = model(provider("groq"), "llama")
        decision = route(snapshot([self.DOWN, up], [rule(self.DOWN), rule(up)]), request(number=20))
        assert names(decision) == ["groq/llama"]


class TestCredentials:
    def test_no_key_at_all_is_503_and_not_worth_a_retry(self):
        error = refusal(snapshot([KEYLESS]))
        assert told(error) == (503, "api_error", "no_credential", False)
        assert error.message == (
            "No model can serve `openai/gpt-4o` now: openai/gpt-4o: there is no key for openai (no_credential). Choose"
            " a model of another provider, add your own key for this one, or ask the operator to add one."
        )

    def test_a_provider_that_needs_none_has_the_source_none(self):
        local = model(provider("ollama", auth_type="none", credentials=()), "llama")
        target = route(snapshot([local]), "llama").targets[0]
        assert (target.key_source, target.credential) == ("none", None)

    def test_an_own_key_is_used_before_the_platforms(self):
        target = route(snapshot([GPT]), "openai/gpt-4o", of=tenant(byok=OWN)).targets[0]
        assert (target.key_source, target.credential) == ("byok", OWN[OPENAI.id][0])

    def test_an_own_key_serves_where_the_platform_has_none(self):
        assert route(snapshot([KEYLESS]), "openai/gpt-4o", of=tenant(byok=OWN)).targets[0].key_source == "byok"

    def test_a_config_that_refuses_the_platforms_key_never_gets_it(self):
        mine = tenant(default=config(use_platform_key=False))
        error = refusal(snapshot([GPT]), of=mine)
        assert (told(error), codes(error.decision)) == (
            (503, "api_error", "no_credential", False),
            {"openai/gpt-4o": "byok_required"},
        )

    def test_a_rule_that_asks_for_an_own_key_never_gets_the_platforms(self):
        error = refusal(snapshot([GPT], [rule(GPT, requires_byok=True)]), None)
        assert codes(error.decision) == {"openai/gpt-4o": "byok_required"}
        served = route(snapshot([GPT], [rule(GPT, requires_byok=True)]), of=tenant(byok=OWN))
        assert served.targets[0].key_source == "byok"

    def test_an_own_key_that_is_not_validated_is_named_where_nothing_else_is_usable(self):
        unusable = tenant(byok_unusable=frozenset({OPENAI.id}))
        error = refusal(snapshot([KEYLESS]), of=unusable)
        assert codes(error.decision) == {"openai/gpt-4o": "byok_not_validated"}
        assert error.message.endswith("Validate your own key for the provider again, replace it, or switch it off.")

    def test_the_platforms_key_never_steps_in_for_an_own_one_that_is_not_validated(self):
        error = refusal(snapshot([GPT]), "openai/gpt-4o", of=tenant(byok_unusable=frozenset({OPENAI.id})))
        assert (told(error), codes(error.decision)) == (
            (503, "api_error", "no_credential", False),
            {"openai/gpt-4o": "byok_not_validated"},
        )

    def test_a_configs_own_key_is_the_only_one_it_uses(self):
        keys = (credential("a", source="byok"), credential("b", source="byok"))
        mine = config(primary_model_id=GPT.id, credential_id=keys[1].id)
        decision = route(snapshot([GPT]), of=tenant(default=mine, byok={OPENAI.id: keys}))
        assert [target.credential.name for target in decision.targets] == ["b"]

    def test_a_configs_own_key_that_is_not_usable_is_not_replaced_by_another_own_key(self):
        mine = config(primary_model_id=GPT.id, credential_id=credential("gone").id, use_platform_key=False)
        error = refusal(snapshot([GPT]), None, of=tenant(default=mine, byok=OWN))
        assert codes(error.decision) == {"openai/gpt-4o": "byok_not_validated"}

    def test_one_tenants_keys_do_not_leak_into_the_next_plan(self):
        world = snapshot([KEYLESS])
        assert route(world, "openai/gpt-4o", of=tenant(byok=OWN)).targets[0].key_source == "byok"
        assert refusal(world).code == "no_credential"
        assert route(world, "openai/gpt-4o", of=tenant(byok=OWN)).targets[0].key_source == "byok"


def test_a_dialect_whose_adapter_is_not_built_is_503():
    one = model(provider("wire", dialect="telegraph"), "nova")
    error = refusal(snapshot([one]), "nova")
    assert told(error) == (503, "api_error", "no_credential", False)
    assert codes(error.decision) == {"wire/nova": "dialect_unsupported"}


class TestCapabilities:
    def test_what_a_model_cannot_do_is_400_and_named(self):
        error = refusal(snapshot([GPT]), request("openai/gpt-4o", needs=frozenset({"vision", "tools"})))
        assert told(error) == (400, "invalid_request_error", "unsupported_parameter", False)
        assert error.decision.rejections[0].detail == "it has no vision"

    def test_an_embedding_model_does_not_chat(self):
        error = refusal(snapshot([replace(GPT, kind="embedding")]))
        assert error.code == "unsupported_parameter"
        assert error.decision.rejections[0].detail == "it is for embedding, and this is a request for chat"


class TestLength:
    SMALL = model(OPENAI, "small", context_window=8192, max_output_tokens=4096)

    @pytest.mark.parametrize(
        ("tokens", "asked", "detail"),
        [
            (8192, None, "about 8,192 tokens and 16 for the answer are more than its context window of 8,192"),
            (8177, None, "about 8,177 tokens and 16 for the answer are more than its context window of 8,192"),
            (8000, 193, "about 8,000 tokens and 193 for the answer are more than its context window of 8,192"),
            (10, 4097, "it answers with at most 4,096 tokens, and max_tokens is 4,097"),
        ],
    )
    def test_what_does_not_fit_is_400(self, tokens, asked, detail):
        error = refusal(snapshot([self.SMALL]), request("small", input_tokens=tokens, max_tokens=asked))
        assert told(error) == (400, "invalid_request_error", "context_length_exceeded", False)
        assert error.decision.rejections[0].detail == detail

    @pytest.mark.parametrize(("tokens", "asked"), [(8176, None), (8000, 192), (10, 4096)])
    def test_what_just_fits_is_served(self, tokens, asked):
        assert names(route(snapshot([self.SMALL]), request("small", input_tokens=tokens, max_tokens=asked)))


@pytest.mark.parametrize(
    ("limits", "detail"),
    [
        ({"min_tokens": 1001}, "its rule starts at 1,001 tokens; this is about 1,000"),
        ({"max_tokens": 999}, "its rule ends at 999 tokens; this is about 1,000"),
    ],
)
def test_a_rule_for_another_length_is_400(limits, detail):
    error = refusal(snapshot([GPT], [rule(GPT, **limits)]), request(input_tokens=1000))
    assert told(error) == (400, "invalid_request_error", "invalid_value", False)
    assert [(one.code, one.detail) for one in error.decision.rejections] == [("rule_tokens", detail)]


def test_a_rule_includes_both_its_ends():
    assert names(route(snapshot([GPT], [rule(GPT, min_tokens=1000, max_tokens=1000)]), request(input_tokens=1000)))


def test_above_the_power_levels_price_is_400():
    dear = replace(GPT, prices=(card("5", "10"),))
    error = refusal(snapshot([dear], [rule(dear)]), "balanced")
    assert told(error) == (400, "invalid_request_error", "invalid_value", False)
    assert error.decision.rejections[0].detail == "it costs $6.25 per 1M tokens, balanced allows $5"


SOLD = replace(card("1", "2"), services={"flex": card("0.5", "1").tiers, "priority": card("5", "10").tiers})
TIERED = replace(GPT, prices=(SOLD,))


@pytest.mark.parametrize(
    ("asked", "tiers"),
    [
        ("", ("standard",)),
        ("standard", ("standard",)),
        ("flex", ("flex", "standard")),
        ("auto", None),  # it may come to priority, which is too dear for balanced
        ("priority", None),
    ],
)
def test_the_price_cap_holds_for_the_dearest_service_tier_that_may_be_billed(asked, tiers):
    world = snapshot([TIERED], [rule(TIERED)])
    wish = request("balanced", service_tier=asked)
    if tiers is None:
        error = refusal(world, wish)
        assert (error.code, error.decision.rejections[0].code) == ("invalid_value", "price_cap")
        assert "it costs $6.25 per 1M tokens" in error.message
    else:
        assert route(world, wish).targets[0].service_tiers == tiers
    named = route(world, request("openai/gpt-4o", service_tier=asked)).targets[0]  # which no cap holds for
    assert set(named.service_tiers) >= {"standard", *({asked} - {"", "auto"})}


def test_a_model_without_the_service_tier_is_400_and_names_the_field():
    error = refusal(snapshot([GPT], [rule(GPT)]), request(service_tier="flex"))
    assert told(error) == (400, "invalid_request_error", "unsupported_parameter", False)
    assert (error.param, codes(error.decision)) == ("service_tier", {"openai/gpt-4o": "service_tier"})
    unasked = replace(TIERED, quirks={"unsupported_params": ["service_tier"]})
    assert "cannot be asked" in refusal(snapshot([unasked], [rule(unasked)]), request(service_tier="flex")).message
    assert route(snapshot([unasked], [rule(unasked)]), request(service_tier="auto")).targets[0].service_tiers == (
        "standard",
    )


class TestPrices:
    def test_an_unpriced_model_is_503_never_free(self):
        error = refusal(snapshot([replace(GPT, prices=())]))
        assert told(error) == (503, "api_error", "model_unpriced", False)
        assert codes(error.decision) == {"openai/gpt-4o": "unpriced"}
        assert error.message.endswith(
            "openai/gpt-4o: it has no price now (unpriced). Choose another model, or have the operator add a price: in "
            "the admin under Models, “Change price”, or by POST /api/v1/admin/llm/models/openai/gpt-4o/prices."
        )

    def test_a_price_that_is_not_in_force_yet_is_none(self):
        later = replace(card(), effective_from=datetime(2026, 3, 3, tzinfo=UTC))
        assert refusal(snapshot([replace(GPT, prices=(later,))])).code == "model_unpriced"

    def test_the_price_in_force_is_the_targets(self):
        later = replace(card("9", "9"), effective_from=datetime(2026, 3, 3, tzinfo=UTC))
        now = card("1", "2")
        assert route(snapshot([replace(GPT, prices=(later, now))]), "openai/gpt-4o").targets[0].card is now

    def test_a_price_without_output_is_not_a_price_for_chat(self):
        half = card()
        half = replace(half, tiers=(replace(half.tiers[0], rates={"input": half.tiers[0].rates["input"]}),))
        assert refusal(snapshot([replace(GPT, prices=(half,))])).code == "model_unpriced"

    def test_an_explicit_zero_is_a_price(self):
        assert names(route(snapshot([replace(GPT, prices=(card("0", "0"),))]), "openai/gpt-4o"))


class TestNothingLeft:
    def test_the_candidate_that_passed_most_filters_decides_the_status(self):
        forbidden = model(OPENAI, "forbidden", min_tier="enterprise")
        small = model(OPENAI, "small", context_window=100)
        off = model(OPENAI, "off", is_active=False)
        world = snapshot([forbidden, small, off], [rule(forbidden), rule(small), rule(off)])
        error = refusal(world, request(input_tokens=1000))
        assert error.code == "context_length_exceeded"
        assert codes(error.decision) == {
            "openai/forbidden": "tier",
            "openai/small": "context_window",
            "openai/off": "inactive",
        }

    def test_the_message_lists_at_most_eight_and_says_how_many_more(self):
        many = [model(OPENAI, f"m{number:02}", is_active=False) for number in range(12)]
        error = refusal(snapshot(many, [rule(one) for one in many]), None)
        assert error.message.count("(inactive)") == 8
        assert "; and 4 more. " in error.message
        assert len(error.decision.rejections) == 12
        assert error.decision.targets == ()
        assert error.decision.trace()["chosen"] is None

    def test_at_most_fifty_rejections_are_kept_and_the_deciding_one_among_them(self):
        many = [model(OPENAI, f"m{number:02}", is_active=False) for number in range(60)]
        last = model(OPENAI, "z", context_window=10)
        error = refusal(
            snapshot([*many, last], [*map(rule, many), rule(last, priority=999)]), request(input_tokens=100)
        )
        assert len(error.decision.rejections) == 50
        assert error.code == "context_length_exceeded"
        assert error.decision.rejections[-1].model == "openai/z"
