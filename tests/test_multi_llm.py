"""The guide's Python interface, as its readers will try it: choose a model, price a call, book it, read it back.

The signatures and names are the guide's own; what they do is the same `plan()` and ledger that the wires use.
"""

import inspect
import uuid
from decimal import Decimal

import pytest

from billing.models import BudgetWindow, UsageRecord
from billing.pricing import Unpriced
from llm.engine import snapshot
from llm.errors import InvalidRequest, NoRoute
from llm.models import LLMConfig, LLMModel, LLMProvider, LLMRoutingRule, OverrideComponent, PriceOverride
from llm.router import LLMRouter, LLMRoutingEngine
from tests.cast import (
    LONG_AGO,
    make_config,
    make_credential,
    make_member,
    make_model,
    make_power_levels,
    make_provider,
    make_rule,
    make_tenant,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_snapshot():
    snapshot.WATCH.reset()
    yield
    snapshot.WATCH.reset()


@pytest.fixture
def catalog():
    """openai (a platform key) and anthropic (none); a rule for each power level."""
    make_power_levels()
    openai, anthropic = make_provider("openai"), make_provider("anthropic")
    make_credential(openai, "sk-platform-0123456789")
    mini = make_model(openai, "gpt-4o-mini", "0.15", "0.60", cached="0.075", power_level="eco", quality_tier="basic")
    gpt = make_model(openai, "gpt-4o", "2.50", "10.00", power_level="balanced", supports_vision=False)
    sonnet = make_model(anthropic, "claude-sonnet", "3.00", "15.00", power_level="precision", quality_tier="best")
    for model in (mini, gpt, sonnet):
        make_rule(model)
    return {"mini": mini, "gpt": gpt, "sonnet": sonnet, "openai": openai, "anthropic": anthropic}


@pytest.fixture
def acme():
    return make_tenant("acme")


@pytest.fixture
def ada(acme):
    return str(make_member(acme).pk)


class TestNames:
    """What the guide's readers will look for on the classes."""

    def test_a_provider_has_the_guides_fields(self, catalog):
        provider = LLMProvider.objects.get(slug="openai")
        assert (provider.provider_name, provider.provider_slug, provider.display_name) == ("Openai", "openai", "Openai")
        assert provider.supported_features == {"streaming": True, "function_calling": True, "vision": True}
        for name in ("base_url", "auth_type", "is_active", "is_byok_supported", "is_system_provider", "health_status"):
            assert LLMProvider._meta.get_field(name).name == name

    def test_a_model_has_the_guides_fields(self, catalog):
        model = LLMModel.objects.get(model_id="gpt-4o-mini")
        assert (model.model_name, model.provider.provider_name) == ("gpt-4o-mini", "Openai")
        assert (model.input_cost_per_1k, model.output_cost_per_1k) == (Decimal("0.00015"), Decimal("0.0006"))
        assert model.capabilities == {"streaming": True, "function_calling": True, "vision": True, "json_mode": True}
        assert (model.power_level, model.power_level_priority, model.is_deprecated) == ("eco", 100, False)

    def test_a_config_keeps_its_key_encrypted(self, catalog, acme):
        own = make_credential(catalog["openai"], "sk-own-0123456789abc", tenant=acme)
        config = make_config(acme, primary_model=catalog["gpt"], credential=own)
        assert b"sk-own" not in LLMConfig.objects.get(pk=config.pk).api_key_encrypted
        assert make_config(acme, "without").api_key_encrypted is None

    def test_a_rule_takes_the_guides_arguments(self, catalog):
        rule = LLMRoutingRule.objects.create(
            model_id=catalog["gpt"].pk, power_level="balanced", user_tier="professional", task_type="code",
            priority=1, weight=50, min_tokens=10, max_tokens=1000, requires_byok=False, is_fallback=False,
            is_active=True,
        )  # fmt: skip
        assert LLMRoutingRule.objects.get(pk=rule.pk).model == catalog["gpt"]

    @pytest.mark.parametrize(
        ("function", "names"),
        [
            (LLMRouter.select_model, "tenant_id task_type priority config_id"),
            (LLMRouter.estimate_cost, "model input_tokens output_tokens"),
            (
                LLMRoutingEngine.select_model,
                """user_id user_tier power_level task_type estimated_tokens require_streaming require_function_calling
                require_vision""",
            ),
            (LLMRoutingEngine.calculate_cost, "model prompt_tokens completion_tokens cached_tokens"),
            (
                LLMRoutingEngine.log_usage,
                """user_id model request_id power_level task_type prompt_tokens completion_tokens cached_tokens
                cost_breakdown used_byok user_key_id latency_ms status_code request_ip user_agent""",
            ),
            (LLMRoutingEngine.get_user_usage_stats, "user_id days"),
        ],
    )
    def test_a_function_takes_the_guides_arguments_in_its_order(self, function, names):
        assert list(inspect.signature(function).parameters) == ["self", *names.split()]


class TestRouter:
    def test_without_a_config_it_says_so(self, catalog, acme):
        with pytest.raises(ValueError, match=r"^No LLM config found$"):
            LLMRouter().select_model(acme.pk)

    def test_an_unknown_tenant_or_config_reads_alike(self, catalog, acme):
        make_config(acme, is_tenant_default=True)
        theirs = make_config(make_tenant("globex"), "theirs", is_tenant_default=True)
        for tenant_id, config_id in [
            (uuid.uuid4(), None),
            ("nobody", None),
            (acme.pk, theirs.pk),
            (acme.pk, uuid.uuid4()),
        ]:
            with pytest.raises(ValueError, match=r"^No LLM config found$"):
                LLMRouter().select_model(tenant_id, config_id=config_id)

    def test_the_primary_model_of_the_default_config_is_chosen(self, catalog, acme):
        make_config(acme, is_tenant_default=True, primary_model=catalog["gpt"])
        model = LLMRouter().select_model(str(acme.pk))
        assert (model, model.provider.provider_name) == (catalog["gpt"], "Openai")

    def test_the_configs_rule_for_the_task_comes_before_its_primary_model(self, catalog, acme):
        rules = {"code": {"model_id": "openai/gpt-4o"}}
        config = make_config(acme, "coder", primary_model=catalog["mini"], routing_rules=rules)
        router = LLMRouter()
        assert router.select_model(acme.pk, task_type="code", config_id=config.pk) == catalog["gpt"]
        assert router.select_model(acme.pk, task_type="chat", config_id=config.pk) == catalog["mini"]

    @pytest.mark.parametrize(("priority", "expected"), [("cost", "mini"), ("quality", "gpt"), ("balanced", "gpt")])
    def test_a_priority_ranks_what_the_config_allows(self, catalog, acme, priority, expected):
        make_config(acme, is_tenant_default=True, primary_model=catalog["gpt"], allowed_models=["openai/*"])
        assert LLMRouter().select_model(acme.pk, priority=priority) == catalog[expected]

    def test_a_model_the_config_does_not_allow_is_never_chosen(self, catalog, acme):
        make_config(acme, is_tenant_default=True, primary_model=catalog["mini"], allowed_models=["openai/gpt-4o"])
        assert LLMRouter().select_model(acme.pk, priority="cost") == catalog["gpt"]
        with pytest.raises(NoRoute, match="allow-list"):
            LLMRouter().select_model(acme.pk)

    def test_an_unknown_priority_is_named(self, catalog, acme):
        make_config(acme, is_tenant_default=True)
        with pytest.raises(InvalidRequest, match="`cheap` is not a priority"):
            LLMRouter().select_model(acme.pk, priority="cheap")

    def test_an_estimate_is_the_providers_price(self, catalog):
        assert LLMRouter().estimate_cost(catalog["gpt"], 1000, 500) == Decimal("0.0075")


class TestEngine:
    def test_each_power_level_has_its_model_with_the_platforms_key(self, catalog, ada):
        model, api_key, source = LLMRoutingEngine().select_model(ada, "professional", "eco")
        assert (model, api_key, source) == (catalog["mini"], "sk-platform-0123456789", "system")
        assert LLMRoutingEngine().select_model(ada, "professional")[0] == catalog["gpt"]

    def test_the_guides_call_works_as_written(self, catalog, ada):
        model, api_key, key_source = LLMRoutingEngine().select_model(
            user_id=ada,
            user_tier="professional",
            power_level="balanced",
            task_type="code",
            estimated_tokens=1000,
            require_streaming=True,
        )
        assert (model.provider.provider_name, api_key, key_source) == ("Openai", "sk-platform-0123456789", "system")

    def test_an_own_validated_key_is_used_first(self, catalog, acme, ada):
        make_credential(catalog["anthropic"], "sk-own-0123456789abc", tenant=acme)
        found = LLMRoutingEngine().select_model(ada, "professional", "precision")
        assert found == (catalog["sonnet"], "sk-own-0123456789abc", "byok")

    def test_an_own_key_that_is_not_validated_is_not_used_and_the_rejection_says_why(self, catalog, acme, ada):
        make_credential(catalog["anthropic"], "sk-own-0123456789abc", tenant=acme, is_validated=False)
        engine = LLMRoutingEngine()
        assert engine.select_model(ada, "professional", "precision") == (None, None, None)
        assert [(one.model, one.code) for one in engine.last_rejections] == [
            ("anthropic/claude-sonnet", "byok_not_validated")
        ]

    def test_another_tenants_key_is_never_used(self, catalog, acme, ada):
        make_credential(catalog["anthropic"], "sk-theirs-0123456789", tenant=make_tenant("globex"))
        engine = LLMRoutingEngine()
        assert engine.select_model(ada, "professional", "precision") == (None, None, None)
        assert [one.code for one in engine.last_rejections] == ["no_credential"]

    def test_what_is_required_is_required(self, catalog, ada):
        engine = LLMRoutingEngine()
        assert engine.select_model(ada, "professional", require_vision=True) == (None, None, None)
        assert [one.detail for one in engine.last_rejections] == ["it has no vision"]
        assert engine.select_model(ada, "professional", require_function_calling=True)[0] == catalog["gpt"]

    def test_balanced_refuses_a_model_of_10_and_30_dollars_by_its_cap_of_5(self, catalog, ada):
        LLMRoutingRule.objects.filter(power_level="balanced").delete()
        make_rule(make_model(catalog["openai"], "gpt-4-turbo", "10.00", "30.00"))
        engine = LLMRoutingEngine()
        assert engine.select_model(ada, "professional", "balanced") == (None, None, None)
        assert [(one.model, one.code, one.detail) for one in engine.last_rejections] == [
            ("openai/gpt-4-turbo", "price_cap", "it costs $15 per 1M tokens, balanced allows $5")
        ]

    def test_without_a_rule_nothing_is_chosen_and_there_is_nothing_to_reject(self, catalog, ada):
        LLMRoutingRule.objects.filter(power_level="eco").update(is_active=False)
        engine = LLMRoutingEngine()
        assert engine.select_model(ada, "professional", "eco") == (None, None, None)
        assert engine.last_rejections == ()

    def test_a_tiers_own_rule_is_for_that_tier_alone(self, catalog, ada):
        make_rule(catalog["mini"], "balanced", user_tier="free", priority=1)
        assert LLMRoutingEngine().select_model(ada, "free")[0] == catalog["mini"]
        assert LLMRoutingEngine().select_model(ada, "professional")[0] == catalog["gpt"]

    def test_a_model_above_the_tier_is_passed_over(self, catalog, ada):
        LLMModel.objects.filter(pk=catalog["gpt"].pk).update(min_tier_required="professional")
        engine = LLMRoutingEngine()
        assert engine.select_model(ada, "starter") == (None, None, None)
        assert [one.code for one in engine.last_rejections] == ["tier"]
        assert engine.select_model(ada, "enterprise")[0] == catalog["gpt"]

    def test_a_rule_for_the_task_comes_before_the_general_one(self, catalog, ada):
        make_rule(catalog["mini"], "balanced", task_type="translation", priority=900)
        assert LLMRoutingEngine().select_model(ada, "professional", task_type="translation")[0] == catalog["mini"]
        assert LLMRoutingEngine().select_model(ada, "professional", task_type="code")[0] == catalog["gpt"]

    def test_a_rule_serves_its_range_of_tokens(self, catalog, ada):
        make_rule(catalog["mini"], "balanced", priority=1, max_tokens=1000)
        assert LLMRoutingEngine().select_model(ada, "professional", estimated_tokens=1000)[0] == catalog["mini"]
        assert LLMRoutingEngine().select_model(ada, "professional", estimated_tokens=1001)[0] == catalog["gpt"]

    def test_between_a_platform_key_and_an_own_one_the_own_comes_first_whatever_the_priority(self, catalog, acme, ada):
        haiku = make_model(catalog["anthropic"], "claude-haiku", "1.00", "5.00")
        make_rule(haiku, priority=900)
        assert LLMRoutingEngine().select_model(ada, "professional")[0] == catalog["gpt"]
        make_credential(catalog["anthropic"], "sk-own-0123456789abc", tenant=acme)
        found = LLMRoutingEngine().select_model(ada, "professional")
        assert found == (haiku, "sk-own-0123456789abc", "byok")

    def test_a_user_nobody_knows_has_the_platforms_keys_only(self, catalog):
        assert LLMRoutingEngine().select_model("user-uuid", "free", "eco")[2] == "system"

    def test_the_cost_of_a_call_is_exact_and_cached_tokens_are_cheaper(self, catalog):
        cost = LLMRoutingEngine().calculate_cost(catalog["mini"], 1000, 500, 400)
        assert cost == {
            "cost_input_usd": Decimal("0.00012"),
            "cost_output_usd": Decimal("0.0003"),
            "cost_total_usd": Decimal("0.00042"),
            "total_tokens": 1500,
        }

    def test_an_unpriced_model_has_no_cost(self, catalog):
        unpriced = make_model(catalog["openai"], "new", None)
        with pytest.raises(Unpriced):
            LLMRoutingEngine().calculate_cost(unpriced, 1, 1)

    @pytest.mark.parametrize("counts", [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (10, 0, 11)])
    def test_impossible_counts_are_refused(self, catalog, counts):
        with pytest.raises(ValueError, match="Token counts"):
            LLMRoutingEngine().calculate_cost(catalog["gpt"], *counts)


class TestChanges:
    """A provider and a price can be updated, a model deprecated with a replacement; the next choice knows."""

    def test_a_provider_switched_off_is_not_chosen_until_it_is_on_again(self, catalog, ada, staff):
        engine = LLMRoutingEngine()
        assert staff.patch("admin/llm/providers/openai", {"is_active": False})[0] == 200
        assert engine.select_model(ada, "professional") == (None, None, None)
        assert [one.code for one in engine.last_rejections] == ["inactive"]
        change = {"is_active": True, "provider_name": "OpenAI Europe", "base_url": "https://eu.example/v1"}
        assert staff.patch("admin/llm/providers/openai", change)[0] == 200
        model = engine.select_model(ada, "professional")[0]
        assert (model.provider.provider_name, model.provider.base_url) == ("OpenAI Europe", "https://eu.example/v1")

    def test_a_new_price_is_what_the_next_call_costs_and_what_decides(self, catalog, ada, staff):
        engine = LLMRoutingEngine()
        assert engine.calculate_cost(catalog["gpt"], 1000, 500)["cost_total_usd"] == Decimal("0.0075")
        components = [{"meter": "input", "usd_per_1m": "5.00"}, {"meter": "output", "usd_per_1m": "20.00"}]
        change = {"components": components, "reason": "the vendor's new list"}
        assert staff.post("admin/llm/models/openai/gpt-4o/prices", change)[0] == 201
        assert engine.calculate_cost(catalog["gpt"], 1000, 500)["cost_total_usd"] == Decimal("0.015")
        assert engine.select_model(ada, "professional") == (None, None, None)
        assert [one.detail for one in engine.last_rejections] == ["it costs $8.75 per 1M tokens, balanced allows $5"]

    def test_a_deprecated_models_replacement_is_chosen_in_its_place(self, catalog, ada, staff):
        make_model(catalog["openai"], "gpt-5", "1.25", "10.00")
        answer = staff.post("admin/llm/models/openai/gpt-4o/deprecate", {"replacement": "openai/gpt-5"})
        assert answer[0] == 200
        engine = LLMRoutingEngine()
        assert engine.select_model(ada, "professional")[0].model_id == "gpt-5"
        assert [(one.model, one.code) for one in engine.last_rejections] == [("openai/gpt-4o", "deprecated")]


class TestUsage:
    def log(self, user_id, model, **changes):
        engine = LLMRoutingEngine()
        call = {
            "user_id": user_id,
            "model": model,
            "request_id": "req-1",
            "power_level": "balanced",
            "task_type": "code",
            "prompt_tokens": 1000,
            "completion_tokens": 500,
            "cached_tokens": 0,
            "cost_breakdown": engine.calculate_cost(model, 1000, 500),
            "used_byok": False,
            "user_key_id": None,
            "latency_ms": 850,
            "status_code": 200,
            "request_ip": "10.0.0.1",
            "user_agent": "guide",
        }
        return engine.log_usage(**call | changes)

    def test_a_logged_call_is_one_usage_row_and_counts_on_the_tenants_budgets(self, catalog, acme, ada):
        row = UsageRecord.objects.get(pk=self.log(ada, catalog["gpt"]))
        assert (row.tenant_id, row.user_id, row.client_request_id) == (acme.pk, ada, "req-1")
        assert (row.provider_slug, row.model_name, row.model_id) == ("openai", "gpt-4o", catalog["gpt"].pk)
        assert (row.total_tokens, row.cost_total_usd, row.billed_usd) == (1500, Decimal("0.0075"), Decimal("0.0075"))
        assert (row.key_source, row.status, row.latency_ms) == ("platform", "completed", 850)
        windows = BudgetWindow.objects.filter(scope_kind="tenant", scope_id=acme.pk)
        assert {(window.period, window.spent, window.held) for window in windows} == {
            ("day", Decimal("0.0075"), Decimal(0)),
            ("month", Decimal("0.0075"), Decimal(0)),
        }

    def test_with_an_own_key_the_tenant_owes_the_fee_only(self, catalog, acme, ada):
        own = make_credential(catalog["openai"], tenant=acme)
        row = UsageRecord.objects.get(pk=self.log(ada, catalog["gpt"], used_byok=True, user_key_id=str(own.pk)))
        assert (row.used_byok, row.credential_id, row.billed_usd) == (True, own.pk, Decimal(0))
        assert (row.cost_total_usd, row.budget_usd) == (Decimal("0.0075"), Decimal("0.0075"))

    def test_a_tenants_own_price_is_what_it_owes_as_on_the_wires(self, catalog, acme, ada):
        since = {"effective_from": LONG_AGO, "recorded_at": LONG_AGO}
        price = PriceOverride.objects.create(tenant=acme, model=catalog["gpt"], number=1, reason="contract", **since)
        for meter, usd in (("input", "1"), ("output", "4")):
            OverrideComponent.objects.create(override=price, meter=meter, unit_price_usd=Decimal(usd))
        row = UsageRecord.objects.get(pk=self.log(ada, catalog["gpt"]))
        assert (row.cost_total_usd, row.billed_usd, row.budget_usd) == (
            Decimal("0.0075"), Decimal("0.003"), Decimal("0.003"),
        )  # fmt: skip
        assert row.terms["price_override"] == str(price.pk)
        own = UsageRecord.objects.get(pk=self.log(ada, catalog["gpt"], used_byok=True))
        assert (own.billed_usd, own.budget_usd) == (Decimal(0), Decimal("0.0075"))
        nothing = dict.fromkeys(("cost_input_usd", "cost_output_usd", "cost_total_usd"), Decimal(0))
        failed = self.log(
            ada, catalog["gpt"], prompt_tokens=0, completion_tokens=0, cost_breakdown=nothing, status_code=500
        )
        assert UsageRecord.objects.get(pk=failed).billed_usd == 0

    def test_the_stats_of_a_user_are_the_sums_of_what_was_logged(self, catalog, ada):
        for status in (200, 500):
            self.log(ada, catalog["gpt"], status_code=status)
        stats = LLMRoutingEngine().get_user_usage_stats(ada, days=30)
        assert (stats["total_requests"], stats["total_tokens"]) == (2, 3000)
        assert stats["total_cost_usd"] == Decimal("0.015")

    def test_a_user_without_a_tenant_cannot_be_booked_and_nothing_is_written(self, catalog):
        with pytest.raises(ValueError, match="No tenant found"):
            self.log("user-uuid", catalog["gpt"])
        assert not UsageRecord.objects.exists()
        assert not BudgetWindow.objects.exists()
