"""plan(): names, power levels, configs, order, fallbacks. Rejections are in test_routing_filters.py."""

import uuid
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from llm.errors import InvalidRequest, ModelNotFound, NoRoute
from llm.routing.explain import explain
from llm.types import RoutingState
from tests.llm.routing_world import (
    NOW,
    POLICIES,
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

OPENAI, AZURE, GROQ, ANTHROPIC = provider("openai"), provider("azure"), provider("groq"), provider("anthropic")
SANDBOX = provider("sandbox", dialect="sandbox", auth_type="none", credentials=())
GPT = model(OPENAI, "gpt-4o", family="gpt-4o", prices=(card("2.50", "10"),), power_level_priority=10)
GPT_AZURE = model(AZURE, "our-gpt-4o", family="gpt-4o", prices=(card("2.50", "10"),), power_level_priority=5)
MINI = model(OPENAI, "gpt-4o-mini", prices=(card("0.15", "0.60"),), power_level="eco", quality_tier="basic")
LLAMA = model(GROQ, "llama", prices=(card("0.05", "0.08"),), power_level="eco", speed_tier="fast")
SONNET = model(ANTHROPIC, "sonnet", prices=(card("2", "10"),), quality_tier="best", speed_tier="slow")
ECHO = model(SANDBOX, "echo", prices=(card("0.25", "0.50"),), power_level="eco")
ALL = (GPT, GPT_AZURE, MINI, LLAMA, SONNET, ECHO)


def without_keys(*models):
    return [replace(one, provider=replace(one.provider, credentials=())) for one in models]


class TestNames:
    def test_a_reference_pins_one_row_and_needs_no_rule(self):
        decision = route(snapshot(ALL), "openai/gpt-4o")
        assert names(decision) == ["openai/gpt-4o"]
        assert decision.pinned
        assert decision.reason == "openai/gpt-4o was named."
        assert decision.targets[0].key_source == "platform"

    def test_a_bare_model_id_finds_it_and_its_family_the_exact_one_first(self):
        decision = route(snapshot(ALL), "gpt-4o")
        assert names(decision) == ["openai/gpt-4o", "azure/our-gpt-4o"]
        assert not decision.pinned

    def test_a_model_id_with_a_slash_is_the_resellers_unless_the_prefix_is_a_provider_that_has_it(self):
        resold = model(provider("openrouter"), "openai/gpt-4o")
        assert names(route(snapshot([resold]), "openai/gpt-4o")) == ["openrouter/openai/gpt-4o"]
        assert names(route(snapshot([resold, GPT]), "openai/gpt-4o")) == ["openai/gpt-4o"]

    def test_a_power_level_as_model_is_a_power_level(self):
        decision = route(snapshot(ALL, [rule(MINI, power_level="eco")]), "eco")
        assert names(decision) == ["openai/gpt-4o-mini"]
        assert decision.power_level == "eco"
        assert not decision.pinned

    @pytest.mark.parametrize("asked", [None, "auto"])
    def test_auto_and_no_model_are_balanced_where_no_config_has_a_primary_model(self, asked):
        decision = route(
            snapshot(ALL, [rule(SONNET), rule(MINI, power_level="eco")]), asked, of=tenant(default=config())
        )
        assert (names(decision), decision.power_level, decision.requested) == (["anthropic/sonnet"], "balanced", "auto")

    @pytest.mark.parametrize("asked", [None, "auto"])
    def test_auto_is_the_default_configs_primary_model(self, asked):
        mine = config(primary_model_id=SONNET.id)
        decision = route(snapshot(ALL, [rule(MINI)]), asked, of=tenant(mine, default=mine))
        assert names(decision) == ["anthropic/sonnet"]
        assert decision.reason == "It is the primary model of the config default."

    def test_a_config_can_be_named_as_model(self):
        mine = config("fast", primary_model_id=LLAMA.id)
        decision = route(snapshot(ALL), "config/fast", of=tenant(mine))
        assert (names(decision), decision.config) == (["groq/llama"], mine)

    def test_an_unknown_model_is_404_with_the_closest_names_the_caller_may_use(self):
        with pytest.raises(ModelNotFound) as error:
            route(snapshot(ALL), "gpt-4o-minni", allowed_models=("openai/*",))
        assert (error.value.status, error.value.code, error.value.param) == (404, "model_not_found", "model")
        assert error.value.message == (
            "The model `gpt-4o-minni` does not exist or you may not use it. Did you mean gpt-4o-mini or gpt-4o? GET"
            " /v1/models lists what this key may call."
        )

    def test_a_name_that_is_only_anothers_is_not_offered(self):
        with pytest.raises(ModelNotFound) as error:
            route(snapshot(ALL), "sonett", allowed_models=("openai/*",))
        assert "sonnet" not in error.value.message

    def test_another_tenants_config_reads_like_a_missing_one(self):
        with pytest.raises(ModelNotFound) as error:
            route(snapshot(ALL), "config/theirs", of=tenant(config("a")))
        assert error.value.message == (
            "The model `config/theirs` does not exist or you may not use it. GET /v1/models lists what this key may"
            " call."
        )

    @pytest.mark.parametrize(
        ("field", "value"),
        [("power_level", "turbo"), ("task_type", "poetry"), ("priority", "best"), ("config", "theirs")],
    )
    def test_an_unknown_routing_value_is_400_naming_the_parameter(self, field, value):
        with pytest.raises(InvalidRequest) as error:
            route(snapshot(ALL), request("openai/gpt-4o", **{field: value}))
        assert (error.value.status, error.value.code, error.value.param) == (400, "invalid_value", field)
        assert value in error.value.message


class TestPrecedence:
    RULES = (rule(MINI, power_level="eco"), rule(SONNET))
    CODER = config(primary_model_id=GPT.id, routing_rules={"code": {"model_id": "anthropic/sonnet"}})

    def test_an_explicit_model_beats_power_level_task_rule_and_priority(self):
        asked = request("openai/gpt-4o", power_level="eco", task_type="code", priority="cost")
        assert names(route(snapshot(ALL, self.RULES), asked, of=tenant(default=self.CODER))) == ["openai/gpt-4o"]

    def test_a_configs_task_rule_names_the_model_and_its_primary_stands_by(self):
        decision = route(snapshot(ALL), request(task_type="code"), of=tenant(default=self.CODER))
        assert names(decision) == ["anthropic/sonnet", "openai/gpt-4o"]
        assert decision.reason == "The config default has it for code."

    def test_a_task_rule_may_name_its_model_by_id(self):
        mine = config(routing_rules={"code": {"model_id": str(LLAMA.id)}})
        assert names(route(snapshot(ALL), request(task_type="code"), of=tenant(default=mine))) == ["groq/llama"]

    def test_a_detected_task_finds_the_configs_rule_too(self):
        asked = request(text="```python\ndef f(): pass\n``` please debug this function")
        decision = route(snapshot(ALL), asked, of=tenant(default=self.CODER))
        assert (names(decision)[0], decision.task_type) == ("anthropic/sonnet", "code")

    def test_a_power_level_the_request_gives_beats_the_configs_primary_model(self):
        decision = route(snapshot(ALL, self.RULES), request(power_level="eco"), of=tenant(default=self.CODER))
        assert names(decision) == ["openai/gpt-4o-mini"]

    def test_a_rule_that_names_no_model_is_said_and_skipped(self):
        mine = config(primary_model_id=GPT.id, routing_rules={"code": {"model_id": "gone/gone"}})
        decision = route(snapshot(ALL), request(task_type="code"), of=tenant(default=mine))
        assert names(decision) == ["openai/gpt-4o"]
        assert decision.notes == ("The config's rule for code names a model that does not exist; it is skipped.",)

    def test_a_named_config_is_used_instead_of_the_default(self):
        other = config("other", primary_model_id=LLAMA.id)
        decision = route(snapshot(ALL), request(config="other"), of=tenant(other, default=self.CODER))
        assert names(decision) == ["groq/llama"]


class TestRules:
    def test_rules_match_the_tier_exactly_or_all(self):
        rules = [
            rule(GPT, user_tier="enterprise"),
            rule(SONNET, user_tier="professional", priority=2),
            rule(MINI, priority=1),
        ]
        assert names(route(snapshot(ALL, rules))) == ["openai/gpt-4o-mini", "anthropic/sonnet"]

    def test_the_own_task_comes_before_general_and_general_before_any(self):
        rules = [
            rule(GPT),
            rule(SONNET, task_type="general"),
            rule(LLAMA, task_type="code"),
            rule(MINI, task_type="chat"),
        ]
        decision = route(snapshot(ALL, rules), request(task_type="code"))
        assert names(decision) == ["groq/llama", "anthropic/sonnet", "openai/gpt-4o"]

    def test_a_general_request_uses_general_rules_then_those_for_any_task(self):
        rules = [rule(GPT), rule(SONNET, task_type="general"), rule(LLAMA, task_type="code")]
        assert names(route(snapshot(ALL, rules))) == ["anthropic/sonnet", "openai/gpt-4o"]

    def test_no_rule_for_the_tier_is_503_and_says_what_to_do(self):
        with pytest.raises(NoRoute) as error:
            route(snapshot(ALL, [rule(GPT, user_tier="enterprise")]))
        assert (error.value.status, error.value.code) == (503, "no_provider_available")
        assert error.value.message == (
            "No routing rule of power level balanced gives your tier a model for `auto`. Name a model, or ask the"
            " operator to add a routing rule for your tier."
        )

    def test_rule_priority_orders_then_power_level_priority(self):
        one, two, three = (
            model(OPENAI, name, power_level_priority=place) for name, place in (("c", 3), ("b", 1), ("a", 2))
        )
        rules = [rule(one, priority=1), rule(three, priority=2), rule(two, priority=2)]
        decision = route(snapshot([one, two, three], rules))
        assert names(decision) == ["openai/c", "openai/b", "openai/a"]
        assert [candidate.score for candidate in decision.candidates] == [1, 1 / 2, 1 / 3]
        assert decision.candidates[0].parts == {"rule_priority": 1, "power_level_priority": 3, "weight": 100}
        assert decision.reason == (
            "A rule of power level balanced for any task has it at priority 1: the first of 3 that can serve it."
        )

    def test_own_keys_come_before_rule_priority(self):
        own = {ANTHROPIC.id: (credential(source="byok"),)}
        decision = route(snapshot(ALL, [rule(GPT, priority=1), rule(SONNET, priority=9)]), of=tenant(byok=own))
        assert names(decision) == ["anthropic/sonnet", "openai/gpt-4o"]
        assert [target.key_source for target in decision.targets] == ["byok", "platform"]
        assert decision.candidates[0].parts["byok"] == 2
        assert decision.candidates[0].score > decision.candidates[1].score

    def test_equals_with_a_cheaper_cached_price_come_first_where_the_level_prefers_them(self):
        cached = model(GROQ, "z", prices=(card("1", "2", cache_read="0.1"),))
        plain = model(GROQ, "a")
        assert names(route(snapshot([plain, cached], [rule(plain), rule(cached)])))[0] == "groq/z"

    def test_what_is_slow_is_ranked_lower_and_the_decision_says_so(self):
        world = snapshot(ALL, [rule(GPT, priority=1), rule(SONNET, priority=2)])
        decision = route(world, state=RoutingState(ttft_ms={GPT.id: 6200.0, SONNET.id: 4000.0}))
        assert names(decision) == ["anthropic/sonnet", "openai/gpt-4o"]
        assert decision.notes == (
            "Latency penalty: the median time to first token of openai/gpt-4o is 6,200 ms, balanced promises 5,000 ms.",
        )
        assert decision.candidates[1].parts["latency_penalty"] == -1

    def test_the_first_target_without_its_penalty_stands_when_only_slow_ones_are_there(self):
        decision = route(snapshot(ALL, [rule(GPT)]), state=RoutingState(ttft_ms={GPT.id: 60_000.0}))
        assert names(decision) == ["openai/gpt-4o"]

    def test_a_rule_of_weight_zero_is_never_first(self):
        world = snapshot([GPT_AZURE, replace(GPT, power_level_priority=5)], [rule(GPT_AZURE, weight=0), rule(GPT)])
        firsts = {names(route(world, request(number=number)))[0] for number in range(1, 200)}
        assert firsts == {"openai/gpt-4o"}

    def test_weights_share_requests_and_a_session_stays(self):
        one, two = model(OPENAI, "a"), model(GROQ, "b")
        world = snapshot([one, two], [rule(one, weight=75), rule(two, weight=25)])
        firsts = [names(route(world, request(number=number)))[0] for number in range(1, 2001)]
        assert 1420 <= firsts.count("openai/a") <= 1580
        stay = {names(route(world, request(number=number, session_id="s1")))[0] for number in range(1, 50)}
        assert len(stay) == 1

    def test_the_same_model_by_two_rules_is_one_target(self):
        assert names(route(snapshot(ALL, [rule(GPT, priority=1), rule(GPT, priority=2), rule(MINI, priority=3)]))) == [
            "openai/gpt-4o",
            "openai/gpt-4o-mini",
        ]


class TestPriorities:
    @pytest.mark.parametrize(
        ("priority", "best"), [("cost", "groq/llama"), ("quality", "anthropic/sonnet"), ("speed", "groq/llama")]
    )
    def test_a_priority_ranks_every_model_the_tenant_may_use(self, priority, best):
        decision = route(snapshot(ALL), request(priority=priority))
        assert names(decision)[0] == best
        assert len(decision.candidates) == 5
        assert "sandbox/echo" not in names(decision)
        scores = [candidate.score for candidate in decision.candidates]
        assert scores == sorted(scores, reverse=True)

    def test_the_score_is_the_documented_sum_of_its_parts(self):
        decision = route(snapshot([SONNET, LLAMA]), request(priority="balanced"))
        sonnet = next(one for one in decision.candidates if one.model == "anthropic/sonnet")
        assert sonnet.parts == {"cost": round(0.0575 / 4, 4), "speed": 0.2, "quality": 1.0}
        assert sonnet.score == pytest.approx(0.4 * 0.0575 / 4 + 0.2 * 0.2 + 0.4)

    def test_a_power_level_with_a_priority_keeps_its_price_cap(self):
        decision = route(snapshot(ALL), request(priority="quality", power_level="eco"))
        assert set(names(decision)) == {"openai/gpt-4o-mini", "groq/llama"}

    def test_a_priority_orders_who_serves_a_named_family(self):
        cheap = replace(GPT_AZURE, prices=(card("1", "2"),))
        assert names(route(snapshot([GPT, cheap]), request("gpt-4o", priority="cost")))[0] == "azure/our-gpt-4o"


class TestFallbacks:
    def test_fallback_rules_follow_the_choice_in_their_order_then_the_configs_model_then_the_rest(self):
        rules = [
            rule(GPT, priority=1),
            rule(MINI, priority=2),
            rule(LLAMA, is_fallback=True, fallback_order=2),
            rule(GPT_AZURE, is_fallback=True, fallback_order=1),
        ]
        mine = config(fallback_model_id=SONNET.id)
        decision = route(snapshot(ALL, rules), of=tenant(default=mine))
        assert names(decision) == [
            "openai/gpt-4o",
            "azure/our-gpt-4o",
            "groq/llama",
            "anthropic/sonnet",
            "openai/gpt-4o-mini",
        ]

    def test_a_power_level_without_fallback_has_one_target(self):
        rules = [
            rule(GPT, power_level="precision", priority=1),
            rule(SONNET, power_level="precision", is_fallback=True),
        ]
        assert names(route(snapshot(ALL, rules), "precision")) == ["openai/gpt-4o"]

    def test_a_route_is_at_most_five_long_and_lists_at_most_twenty_candidates(self):
        many = [model(OPENAI, f"m{number:02}") for number in range(30)]
        decision = route(snapshot(many, [rule(one) for one in many]))
        assert (len(decision.targets), len(decision.candidates)) == (5, 20)

    def test_a_pinned_model_is_never_another_model(self):
        rules = [rule(SONNET), rule(MINI, is_fallback=True)]
        assert names(route(snapshot(ALL, rules), "openai/gpt-4o")) == ["openai/gpt-4o"]

    def test_a_pinned_model_may_become_the_configs_fallback_model(self):
        mine = config(fallback_model_id=SONNET.id)
        decision = route(snapshot(ALL, [rule(MINI)]), "openai/gpt-4o", of=tenant(default=mine))
        assert names(decision) == ["openai/gpt-4o", "anthropic/sonnet"]

    def test_a_pinned_model_may_become_others_where_the_tenant_allows_it(self):
        rules = [rule(LLAMA, is_fallback=True), rule(MINI)]
        decision = route(snapshot(ALL, rules), "openai/gpt-4o", allow_model_fallback=True)
        assert names(decision) == ["openai/gpt-4o", "groq/llama", "azure/our-gpt-4o", "openai/gpt-4o-mini"]

    def test_a_pinned_model_that_is_down_is_stood_in_for_by_the_configs_fallback_model(self):
        down = replace(GPT, provider=replace(OPENAI, health_status="down"))
        decision = route(
            snapshot([down, SONNET]), "openai/gpt-4o", of=tenant(default=config(fallback_model_id=SONNET.id))
        )
        assert names(decision) == ["anthropic/sonnet"]
        assert decision.reason == "Nothing asked for can serve it; a fallback does."
        assert codes(decision) == {"openai/gpt-4o": "provider_down"}

    def test_a_pinned_model_that_is_forbidden_is_not_stood_in_for(self):
        mine = config(fallback_model_id=SONNET.id)
        with pytest.raises(NoRoute) as error:
            route(snapshot(ALL), "openai/gpt-4o", of=tenant(default=mine), allowed_models=("anthropic/sonnet",))
        assert error.value.status == 403

    def test_a_fallback_passes_the_same_filters(self):
        mine = config(fallback_model_id=SONNET.id, allowed_models=("openai/*",))
        decision = route(snapshot(ALL), "openai/gpt-4o", of=tenant(default=mine))
        assert names(decision) == ["openai/gpt-4o"]
        assert codes(decision) == {"anthropic/sonnet": "allow_list"}

    def test_a_single_model_has_its_other_keys_as_targets(self):
        keys = (credential("a"), credential("b"), credential("c", weight=0))
        only = replace(GPT, provider=replace(OPENAI, credentials=keys))
        decision = route(snapshot([only]), "openai/gpt-4o")
        assert [target.credential.name for target in decision.targets] in (["a", "b", "c"], ["b", "a", "c"])


class TestSandbox:
    def test_it_answers_when_named_where_it_is_switched_on(self):
        assert names(route(snapshot(ALL), "sandbox/echo", sandbox_enabled=True)) == ["sandbox/echo"]

    def test_it_is_refused_where_it_is_switched_off(self):
        with pytest.raises(NoRoute) as error:
            route(snapshot(ALL), "sandbox/echo")
        assert (error.value.status, error.value.code) == (403, "model_not_allowed")

    @pytest.mark.parametrize("asked", [None, "auto", "eco", "balanced"])
    def test_it_answers_when_nothing_else_can(self, asked):
        world = snapshot([*without_keys(GPT, MINI), ECHO], [rule(GPT), rule(MINI, power_level="eco")])
        decision = route(world, asked, sandbox_enabled=True)
        assert names(decision) == ["sandbox/echo"]
        assert decision.targets[0].key_source == "none"
        assert decision.targets[0].credential is None
        assert decision.reason == "Nothing else can serve it; the sandbox does."
        assert "no_credential" in codes(decision).values()

    def test_it_gives_way_to_anything_else_even_if_a_rule_has_it_first(self):
        world = snapshot(ALL, [rule(ECHO, priority=1), rule(GPT, priority=2)])
        assert names(route(world, sandbox_enabled=True)) == ["openai/gpt-4o"]

    def test_it_never_answers_for_a_named_model(self):
        with pytest.raises(NoRoute) as error:
            route(snapshot([*without_keys(GPT), ECHO]), "gpt-4o", sandbox_enabled=True)
        assert error.value.code == "no_credential"


class TestDeprecation:
    NEW = model(OPENAI, "gpt-5")

    def old(self, **changes):
        return replace(GPT, is_deprecated=True, **changes)

    def test_calls_follow_the_replacement_and_the_decision_says_so(self):
        decision = route(snapshot([self.old(replacement_id=self.NEW.id), self.NEW]), "openai/gpt-4o")
        assert names(decision) == ["openai/gpt-5"]
        assert decision.notes == ("openai/gpt-4o is deprecated; openai/gpt-5 replaces it.",)
        assert codes(decision) == {"openai/gpt-4o": "deprecated"}

    def test_a_chain_of_replacements_is_followed_to_its_end(self):
        middle = model(OPENAI, "gpt-4.5", is_deprecated=True, replacement_id=self.NEW.id)
        world = snapshot([self.old(replacement_id=middle.id), middle, self.NEW], [rule(GPT)])
        assert names(route(world)) == ["openai/gpt-5"]

    def test_a_loop_of_replacements_ends_in_404(self):
        other = model(OPENAI, "other", is_deprecated=True, replacement_id=GPT.id)
        with pytest.raises(NoRoute) as error:
            route(snapshot([self.old(replacement_id=other.id), other]), "openai/gpt-4o")
        assert (error.value.status, error.value.code) == (404, "model_not_found")

    def test_before_its_sunset_it_still_serves_and_says_when_it_stops(self):
        old = self.old(replacement_id=self.NEW.id, deprecation_date=date(2026, 3, 3))
        decision = route(snapshot([old, self.NEW]), "openai/gpt-4o")
        assert names(decision) == ["openai/gpt-4o"]
        assert decision.notes == ("openai/gpt-4o is deprecated and stops on 2026-03-03.",)

    def test_on_its_sunset_date_it_has_stopped(self):
        old = self.old(replacement_id=self.NEW.id, deprecation_date=NOW.date())
        assert names(route(snapshot([old, self.NEW]), "openai/gpt-4o")) == ["openai/gpt-5"]

    def test_a_replacement_passes_the_same_filters(self):
        world = snapshot([self.old(replacement_id=self.NEW.id), self.NEW])
        with pytest.raises(NoRoute) as error:
            route(world, "openai/gpt-4o", allowed_models=("openai/gpt-4o",))
        assert codes(error.value.decision) == {"openai/gpt-4o": "deprecated", "openai/gpt-5": "allow_list"}
        assert error.value.status == 404


class TestOutputCap:
    @pytest.mark.parametrize(
        ("asked", "model_cap", "reasoning", "config_cap", "expected"),
        [
            (None, None, False, None, 4096),
            (None, 2000, False, None, 2000),
            (None, 100_000, False, None, 4096),
            (None, 100_000, True, None, 16_384),
            (None, 100_000, True, 1000, 1000),
            (None, 500, False, 1000, 500),
            (9000, 16_384, False, None, 9000),
            (9000, 16_384, False, 1000, 1000),
        ],
    )
    def test_the_cap_sent_is_the_requests_within_the_configs_else_a_default(
        self, asked, model_cap, reasoning, config_cap, expected
    ):
        one = model(OPENAI, "a", max_output_tokens=model_cap, is_reasoning=reasoning)
        mine = None if config_cap is None else config(max_tokens=config_cap)
        decision = route(snapshot([one]), request("a", max_tokens=asked), of=tenant(default=mine))
        assert decision.targets[0].output_cap == expected

    def test_lowering_a_request_to_its_config_is_said(self):
        decision = route(
            snapshot([GPT]), request("openai/gpt-4o", max_tokens=9000), of=tenant(default=config(max_tokens=1000))
        )
        assert decision.notes == ("max_tokens was lowered from 9,000 to 1,000, the config's limit.",)

    def test_a_default_is_lowered_to_fit_the_window(self):
        small = model(OPENAI, "small", context_window=8192)
        decision = route(snapshot([small]), request("small", input_tokens=8000))
        assert decision.targets[0].output_cap == 192
        assert decision.notes == ("The answer is capped at 192 tokens to fit the context window.",)

    def test_embeddings_have_no_output(self):
        small = model(OPENAI, "embed", kind="embedding", context_window=8192, prices=(card("0.02", "0"),))
        decision = route(snapshot([small]), request("embed", kind="embedding", input_tokens=8192))
        assert decision.targets[0].output_cap == 0


class TestExplain:
    def test_it_names_the_choice_its_cost_and_everything_that_led_to_it(self):
        world = snapshot(ALL, [rule(GPT, priority=1), rule(SONNET, priority=2)])
        shown = explain(route(world, request(max_tokens=1000)), input_tokens=2000)
        assert shown["chosen"] == {
            "provider": "openai",
            "model": "openai/gpt-4o",
            "key_source": "platform",
            "estimated_cost": "0.015",
        }
        assert shown["fallbacks"] == ["anthropic/sonnet"]
        assert [one["model"] for one in shown["candidates"]] == ["openai/gpt-4o", "anthropic/sonnet"]
        assert set(shown["candidates"][0]) == {"model", "score", "parts"}
        assert shown["rejections"] == []

    def test_a_refusal_is_explained_with_nothing_chosen(self):
        with pytest.raises(NoRoute) as error:
            route(snapshot(without_keys(GPT)), "openai/gpt-4o")
        shown = explain(error.value.decision, input_tokens=10)
        assert shown["chosen"] is None
        assert shown["rejections"] == [
            {"model": "openai/gpt-4o", "code": "no_credential", "detail": "there is no key for openai"}
        ]
        assert shown["reason"] == error.value.message


def test_the_shipped_price_caps_are_compared_with_three_parts_input_and_one_output():
    level = POLICIES["eco"]
    at_cap = model(OPENAI, "a", prices=(card("0.50", "0.50"),))
    above = model(OPENAI, "b", prices=(card("0.50", "0.51"),))
    decision = route(
        snapshot([at_cap, above], [rule(at_cap, power_level="eco"), rule(above, power_level="eco")]), "eco"
    )
    assert level.max_price_per_1m_usd == Decimal("0.50")
    assert names(decision) == ["openai/a"]
    assert [(one.code, one.detail) for one in decision.rejections] == [
        ("price_cap", "it costs $0.5025 per 1M tokens, eco allows $0.5")
    ]


def test_a_plan_is_the_same_for_the_same_input():
    world = snapshot(ALL, [rule(GPT), rule(GPT_AZURE), rule(LLAMA), rule(MINI)])
    asked = request(number=uuid.UUID(int=77).int)
    fresh = snapshot(ALL, [one for rules in world.rules.values() for one in rules])
    assert route(world, asked) == route(world, asked) == route(fresh, asked)
