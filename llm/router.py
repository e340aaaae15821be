"""The Python interface of the guide: a thin, synchronous face of routing, pricing and the ledger.

`LLMRouter` chooses by a tenant's config, `LLMRoutingEngine` for a user by power level. Both ask the same `plan()` as
the wires do and give back catalog rows (`model.provider.provider_name`). The guide's user is a tenant member: the user
id of one, or a tenant's own id; `user_tier` is given by the caller. Prices and costs are USD.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone

from billing import ledger, pricing, reports
from billing.models import UsageRecord
from llm.calls import Usage
from llm.engine import bookkeeping, runtime, snapshot, tenant_state
from llm.engine.explain import caller_of
from llm.errors import InvalidRequest, ModelNotFound, NoRoute
from llm.models import LLMModel
from llm.routing.plan import plan
from llm.types import Config, Decision, Model, Rejection, RouteCaller, RouteRequest, TenantState
from tenants.ids import uuid7
from tenants.models import Membership, Tenant
from tenants.tiers import RANK

Identifier = uuid.UUID | str | int
NOBODY = uuid.UUID(int=0)


class LLMRouter:
    """Chooses a model by a tenant's config."""

    def select_model(
        self,
        tenant_id: Identifier,
        task_type: str | None = None,
        priority: str = "balanced",
        config_id: Identifier | None = None,
    ) -> LLMModel:
        """The config's rule for the task, then its primary model; a priority other than balanced ranks the models that
        the config allows. Without `config_id` the tenant's default config.

        Raises ValueError (no such config), NoRoute, InvalidRequest (an unknown task type or priority).
        """
        tenant = _tenant(tenant_id)
        state = None if tenant is None else tenant_state.load(tenant.pk)
        config = None if state is None else _config(state, config_id)
        if tenant is None or state is None or config is None:
            raise ValueError("No LLM config found")
        request = RouteRequest(
            request_id=uuid7(),
            config=config.name,
            task_type=task_type,
            priority=None if priority == "balanced" else priority,
        )
        return _row(_plan(caller_of(tenant.pk), state, request).targets[0].model)

    def estimate_cost(self, model: LLMModel, input_tokens: int, output_tokens: int) -> Decimal:
        """The provider's list price. Raises billing.pricing.Unpriced, ValueError (a negative count)."""
        return _cost(model, Usage(prompt_tokens=input_tokens, completion_tokens=output_tokens)).total


class LLMRoutingEngine:
    """Chooses a model for a user by power level, and books what other code has sent.

    `last_rejections` says why the last `select_model` found nothing, or what it passed over.
    """

    def __init__(self) -> None:
        self.last_rejections: tuple[Rejection, ...] = ()

    def select_model(  # noqa: PLR0913, PLR0917 - the guide's signature
        self,
        user_id: Identifier,
        user_tier: str,
        power_level: str = "balanced",
        task_type: str | None = None,
        estimated_tokens: int | None = None,
        require_streaming: bool = False,
        require_function_calling: bool = False,
        require_vision: bool = False,
    ) -> tuple[LLMModel, str | None, str] | tuple[None, None, None]:
        """(model, api_key, "system" or "byok"), or (None, None, None). The key is None where the provider needs none.

        Raises InvalidRequest for an unknown tier, power level or task type.
        """
        if user_tier not in RANK:
            raise InvalidRequest(f"`{user_tier}` is not a tier. Use one of: {', '.join(RANK)}.", param="user_tier")
        wanted = {"streaming": require_streaming, "tools": require_function_calling, "vision": require_vision}
        member = _Member.of(user_id, user_tier)
        request = RouteRequest(
            request_id=uuid7(),
            model=power_level,
            power_level=power_level,
            task_type=task_type,
            input_tokens=estimated_tokens or 0,
            needs=frozenset(need for need, wants in wanted.items() if wants),
        )
        try:
            decision = _plan(member.caller, member.state, request)
        except NoRoute as refusal:
            self.last_rejections = refusal.decision.rejections
            return None, None, None
        self.last_rejections = decision.rejections
        target = decision.targets[0]
        secret = None if target.credential is None else target.credential.secret.reveal()
        return _row(target.model), secret, "byok" if target.key_source == "byok" else "system"

    def calculate_cost(
        self, model: LLMModel, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0
    ) -> dict[str, Any]:
        """What these tokens cost at the price in force; `cached_tokens` are part of `prompt_tokens`.

        Raises billing.pricing.Unpriced, ValueError (a negative count, more cached than prompt tokens).
        """
        cost = _cost(
            model, Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cached_tokens=cached_tokens)
        )
        return {
            "cost_input_usd": cost.input,
            "cost_output_usd": cost.output,
            "cost_total_usd": cost.total,
            "total_tokens": prompt_tokens + completion_tokens,
        }

    def log_usage(  # noqa: PLR0913, PLR0917 - the guide's signature
        self,
        user_id: Identifier,
        model: LLMModel,
        request_id: Identifier,
        power_level: str,
        task_type: str | None,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int,
        cost_breakdown: Mapping[str, Any],
        used_byok: bool,
        user_key_id: Identifier | None,
        latency_ms: int,
        status_code: int,
        request_ip: str | None = None,
        user_agent: str | None = None,
    ) -> uuid.UUID:
        """Book a call that other code made: a usage row, counted on the tenant's budgets. The id of the row.

        `request_id` is kept as the client's. Raises ValueError for a user who belongs to no tenant.
        """
        member = _Member.of(user_id, "free")
        if member.tenant is None:
            raise ValueError(f"No tenant found for user {user_id}")
        _check_counts(prompt_tokens, completion_tokens, cached_tokens)
        used = Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cached_tokens=cached_tokens)
        request = _reservation(member.tenant, prepaid=member.state.prepaid)
        usage = {
            **_money(cost_breakdown, used, member, model, byok=used_byok, at=request.now),
            **_model_facts(model),
            "id": request.request_id,
            "tenant_id": request.tenant_id,
            "user_id": str(user_id),
            "credential_id": None if user_key_id is None else uuid.UUID(str(user_key_id)),
            "power_level": power_level,
            "task_type": task_type or "general",
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "cached_tokens": cached_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "used_byok": used_byok,
            "key_source": "byok" if used_byok else "platform",
            "latency_ms": latency_ms,
            "status": UsageRecord.Status.COMPLETED if status_code < 400 else UsageRecord.Status.FAILED,
            "status_code": status_code,
            "request_ip": request_ip,
            "user_agent": user_agent or "",
            "client_request_id": str(request_id),
            "billing_day": request.billing_day,
            "created_at": request.now,
        }
        return ledger.record(request=request, usage=usage)

    def get_user_usage_stats(self, user_id: Identifier, days: int = 30) -> dict[str, Any]:
        """Requests, tokens, cost and the like of a user's last days, by model too; see billing.reports."""
        tenant = _tenant_of_user(user_id, "free")
        known = None if tenant is None else tenant.pk
        return reports.user_stats(user_id=str(user_id), days=days, now=timezone.now(), tenant_id=known)


_COSTS = ("cost_input_usd", "cost_output_usd", "cost_total_usd")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """Whom a user id stands for. Without a tenant: somebody with no own keys and no configs."""

    tenant: Tenant | None
    caller: RouteCaller
    state: TenantState

    @classmethod
    def of(cls, user_id: Identifier, tier: str) -> "_Member":
        tenant = _tenant_of_user(user_id, tier)
        if tenant is None:
            return cls(tenant=None, caller=RouteCaller(tenant_id=NOBODY, tier=tier), state=TenantState())
        caller = RouteCaller(
            tenant_id=tenant.pk,
            tier=tier,
            sandbox_enabled=tenant.sandbox_enabled,
            allow_model_fallback=tenant.allow_model_fallback,
        )
        return cls(tenant=tenant, caller=caller, state=tenant_state.load(tenant.pk))


def _tenant_of_user(user_id: Identifier, tier: str) -> Tenant | None:
    """The tenant a user is a member of; of several the one on that tier, then the oldest membership."""
    text = str(user_id)
    if text.isdecimal() and len(text) < 19:
        found = [
            one.tenant
            for one in Membership.objects.filter(user_id=int(text)).select_related("tenant").order_by("created_at")
        ]
        return min(found, key=lambda tenant: tenant.tier != tier, default=None)
    return _tenant(user_id)


def _tenant(tenant_id: Identifier) -> Tenant | None:
    try:
        return Tenant.objects.filter(pk=str(tenant_id)).first()
    except (ValidationError, ValueError):
        return None


def _config(state: TenantState, config_id: Identifier | None) -> Config | None:
    if config_id is None:
        return state.default_config
    return next((one for one in state.configs.values() if str(one.id) == str(config_id)), None)


def _plan(caller: RouteCaller, state: TenantState, request: RouteRequest) -> Decision:
    now = timezone.now()
    live = runtime.RUNTIME.health.shared_state(now.timestamp())
    return plan(snapshot.current(), caller, state, request, state=live, now=now)


def _row(model: Model) -> LLMModel:
    return LLMModel.objects.select_related("provider").get(pk=model.id)


def _reservation(tenant: Tenant, *, prepaid: bool) -> ledger.Reserve:
    """Names a new row and its windows; nothing is held for what is spent already."""
    return ledger.Reserve(
        request_id=uuid7(),
        tenant_id=tenant.pk,
        key_id=None,
        config_id=None,
        timezone=tenant.timezone,
        amount=Decimal(0),
        facts={},
        now=timezone.now(),
        credit=Decimal(0) if prepaid else None,
    )


def _money(
    costs: Mapping[str, Any], usage: Usage, member: _Member, model: LLMModel, *, byok: bool, at: datetime
) -> dict[str, Any]:
    """A usage row's amounts from a breakdown as `calculate_cost` gives it, charged as the data path charges."""
    money: dict[str, Any] = {name: pricing.rounded(Decimal(str(costs[name]))) for name in _COSTS}
    cost = pricing.Cost(
        lines=(), input=money["cost_input_usd"], output=money["cost_output_usd"], total=money["cost_total_usd"]
    )
    charged = bookkeeping.charge_of(
        cost,
        usage if usage.prompt_tokens or usage.completion_tokens else bookkeeping.NOTHING_USED,
        model=(model.pk, model.reference),
        byok=byok,
        tenant=member.state,
        at=at,
    )
    return {**money, "billed_usd": charged.billed, "budget_usd": charged.budget, "terms": charged.terms}


def _model_facts(model: LLMModel) -> dict[str, Any]:
    return {
        "provider_id": model.provider_id,
        "provider_slug": model.provider.slug,
        "model_id": model.pk,
        "model_name": model.model_id,
    }


def _check_counts(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> None:
    if min(prompt_tokens, completion_tokens, cached_tokens) < 0 or cached_tokens > prompt_tokens:
        raise ValueError("Token counts are not negative, and cached tokens are part of the prompt's.")


def _cost(model: LLMModel, usage: Usage) -> pricing.Cost:
    """Raises Unpriced, ValueError, ModelNotFound."""
    _check_counts(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    known = snapshot.current().models.get(model.pk)
    if known is None:
        raise ModelNotFound(f"The model `{model}` does not exist any more.", param="model")
    card = known.card_at(timezone.now())
    if card is None:
        raise pricing.Unpriced(f"{known.reference} has no price now.")
    return pricing.price(card, usage.meters(), prompt_tokens=usage.prompt_tokens)
