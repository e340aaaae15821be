"""From the shipped catalog into the database: creates what is missing, follows what changed, keeps what staff changed.

Each row remembers the facts last loaded into it (`shipped`). A field that still has that value follows the catalog; one
that differs is staff's and stays. A row that staff made themselves remembers nothing, so all of it is staff's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar

import structlog
from django.db import transaction

from llm.catalog import litellm, prices, shipped
from llm.catalog.components import rows_of
from llm.choices import PowerLevel, PriceStatus, RuleTier, TaskType
from llm.models import LLMModel, LLMProvider, LLMRoutingRule, PowerLevelPolicy, PriceComponent, PriceVersion
from llm.models.catalog import next_number
from tenants import audit

ACTOR = audit.system("catalog load")
_PROVIDER_FACTS = (
    "slug", "name", "display_name", "description", "base_url", "dialect", "auth_type", "env_keys", "quirks",
    "supports_streaming", "supports_function_calling", "supports_vision", "is_active", "is_byok_supported",
    "is_system_provider", "api_key_format", "documentation_url", "pricing_url", "status_page_url", "min_tier_required",
)  # fmt: skip
_MODEL_FACTS = (
    "model_id", "name", "display_name", "description", "kind", "family", "context_window", "max_output_tokens",
    "supports_streaming", "supports_function_calling", "supports_vision", "supports_json_mode", "is_reasoning",
    "quirks", "speed_tier", "quality_tier", "size_category", "power_level", "power_level_priority", "min_tier_required",
    "is_deprecated", "deprecation_date",
)  # fmt: skip
_REPLACEMENT = "replacement_model"
# DESIGN section 6: USD per million, milliseconds, fallback, prefers cached.
_POLICIES = {
    PowerLevel.ECO: (Decimal("0.50"), 10_000, True, True),
    PowerLevel.BALANCED: (Decimal("5.00"), 5_000, True, True),
    PowerLevel.PRECISION: (Decimal("100.00"), 2_000, False, False),
}

Row = TypeVar("Row", LLMProvider, LLMModel)
Facts = dict[str, Any]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """How many rows a load touched, by kind and by what it did to them; a second load touches none."""

    counts: Mapping[str, int]

    @property
    def changed(self) -> int:
        return sum(self.counts.values())


def load_catalog(*, now: datetime, catalog: shipped.Catalog | None = None) -> LoadReport:
    """Bring the database up to the catalog shipped with this code, in one transaction. Raises CatalogError."""
    wanted = shipped.load() if catalog is None else catalog
    with transaction.atomic():
        providers, new_providers, changed_providers = _load_providers(wanted.providers, now)
        models, new_models, changed_models = _load_models(wanted.models, providers, now)
        new_prices = _load_prices(wanted.models, models, now)
        new_rules, retired_rules = _load_rules(wanted, models, {row.pk for row in new_models}, now)
        new_levels = _load_power_levels(now)
    return LoadReport(
        counts={
            "providers created": len(new_providers),
            "providers updated": changed_providers,
            "models created": len(new_models),
            "models updated": changed_models,
            "prices created": new_prices,
            "rules created": new_rules,
            "rules retired": retired_rules,
            "power levels created": new_levels,
        }
    )


def _load_providers(
    wanted: Sequence[shipped.ShippedProvider], now: datetime
) -> tuple[dict[str, LLMProvider], list[LLMProvider], int]:
    """Providers by their shipped slug (staff may have renamed one), the new ones, and how many were updated."""
    rows = {row.shipped.get("slug", row.slug): row for row in LLMProvider.objects.select_for_update()}
    facts = {one.slug: _provider_facts(one) for one in wanted}
    changed = _follow([(rows[slug], fact) for slug, fact in facts.items() if slug in rows], now)
    number = next_number(LLMProvider)
    missing = [fact for slug, fact in facts.items() if slug not in rows]
    new = [LLMProvider(number=number + index, shipped=fact, **fact) for index, fact in enumerate(missing)]
    LLMProvider.objects.bulk_create(new)
    _audit_new(new, now)
    rows |= {row.slug: row for row in new}
    return {slug: rows[slug] for slug in facts}, new, changed


def _provider_facts(provider: shipped.ShippedProvider) -> Facts:
    facts = {name: _json(getattr(provider, name)) for name in _PROVIDER_FACTS}
    return facts | litellm.facts() if provider.slug == litellm.SLUG else facts


def follow_litellm(*, now: datetime) -> None:
    """Switch the LiteLLM provider on or off as the environment says now, unless staff did. A server calls it when it
    starts, since the variables may have changed after the last load.
    """
    if litellm.problem():
        log.warning("litellm_not_used", why=litellm.problem())
    facts = _provider_facts(shipped.load_provider(litellm.SLUG))
    with transaction.atomic():
        row = LLMProvider.objects.select_for_update().filter(shipped__slug=litellm.SLUG).first()
        due = {name: facts[name] for name in ("is_active", "base_url")}
        if row is not None and _follow([(row, due)], now, reason=litellm.reason()):
            log.warning("litellm_switched", on=row.is_active, why=litellm.reason())


def _load_models(
    wanted: Sequence[shipped.ShippedModel], providers: Mapping[str, LLMProvider], now: datetime
) -> tuple[dict[str, LLMModel], list[LLMModel], int]:
    """Models by their shipped reference, the new ones, and how many were updated."""
    slug_of = {row.pk: slug for slug, row in providers.items()}
    rows: dict[str, LLMModel] = {}
    for row in LLMModel.objects.select_for_update().filter(provider__in=providers.values()):
        row.provider = providers[slug_of[row.provider_id]]
        rows[f"{slug_of[row.provider_id]}/{row.shipped.get('model_id', row.model_id)}"] = row
    facts = {one.ref: {name: _json(getattr(one, name)) for name in _MODEL_FACTS} for one in wanted}
    changed = _follow([(rows[ref], fact) for ref, fact in facts.items() if ref in rows], now)
    number = next_number(LLMModel)
    new: list[LLMModel] = []
    for one in wanted:
        if one.ref not in rows:
            fact = facts[one.ref]
            values = fact | {"deprecation_date": one.deprecation_date}
            row = LLMModel(provider=providers[one.provider], number=number + len(new), shipped=fact, **values)
            rows[one.ref] = row
            new.append(row)
    LLMModel.objects.bulk_create(new)
    _load_replacements(wanted, rows)
    _audit_new(new, now)
    return rows, new, changed


def _load_replacements(wanted: Sequence[shipped.ShippedModel], rows: Mapping[str, LLMModel]) -> None:
    """Link deprecated models to what replaces them, once all of them exist; staff's own choice stays."""
    reference_of = {row.pk: reference for reference, row in rows.items()}
    changed = []
    for one in wanted:
        row = rows[one.ref]
        current = None if row.replacement_model_id is None else reference_of.get(row.replacement_model_id, "elsewhere")
        if not row.shipped or current != row.shipped.get(_REPLACEMENT) or one.replacement_model == current:
            continue
        row.shipped = row.shipped | {_REPLACEMENT: one.replacement_model}
        row.replacement_model = None if one.replacement_model is None else rows[one.replacement_model]
        changed.append(row)
    LLMModel.objects.bulk_update(changed, [_REPLACEMENT, "shipped"], batch_size=50)


def _follow(pairs: Iterable[tuple[Row, Facts]], now: datetime, *, reason: str = "catalog changed") -> int:
    """Update, in each row, the fields that staff left as they were loaded. Returns how many rows changed."""
    changed = 0
    for row, facts in pairs:
        due: list[str] = [
            name
            for name, fact in facts.items()
            if name in row.shipped and _json(getattr(row, name)) == row.shipped[name] != fact
        ]
        if not due:
            continue
        before = audit.state(row)
        for name in due:
            setattr(row, name, _python(name, facts[name]))
        row.shipped = row.shipped | {name: facts[name] for name in due}
        row.save(update_fields=[*due, "shipped", "updated_at"])
        audit.record(actor=ACTOR, action="update", row=row, before=before, now=now, reason=reason)
        changed += 1
    return changed


def _load_prices(wanted: Sequence[shipped.ShippedModel], models: Mapping[str, LLMModel], now: datetime) -> int:
    """First prices of models that have none, and new ones where the catalog's own last price is no longer its price."""
    latest: dict[Any, PriceVersion] = {}
    versions = PriceVersion.objects.filter(model__in=models.values())
    known = set(versions.values_list("model_id", flat=True))
    for version in versions.filter(status__in=prices.IN_THE_BOOK).order_by("number").prefetch_related("components"):
        latest[version.model_id] = version
    first: list[tuple[LLMModel, list[prices.Component]]] = []
    changed = 0
    for one in wanted:
        model = models[one.ref]
        components = [_component(price) for price in one.prices]
        last = latest.get(model.pk)
        if model.pk not in known:
            first.append((model, components))
        elif last is not None and last.source == "catalog" and set(prices.components_of(last)) != set(components):
            change = prices.PriceChange(
                components=components, reason="the shipped catalog changed", confirm=True, source="catalog"
            )
            prices.set_price(model=model, change=change, actor=ACTOR, now=now)
            changed += 1
    _first_prices(first, now)
    return len(first) + changed


def _component(price: shipped.ShippedPrice) -> prices.Component:
    """A shipped price as it is stored. The feed has a few quotients without end: half up at 1e-10 USD per million."""
    return prices.Component(price.meter, prices.stored(price.usd_per_1m), price.above)


def _first_prices(priced: Sequence[tuple[LLMModel, list[prices.Component]]], now: datetime) -> None:
    """The first version of each model. What ships was reviewed before it shipped, so it is in force at once."""
    versions = [
        PriceVersion(
            model=model,
            number=1,
            status=PriceStatus.ACTIVE,
            effective_from=now,
            recorded_at=now,
            source="catalog",
            reason="shipped with Tollgate",
            author=ACTOR.label,
        )
        for model, _ in priced
    ]
    for version in PriceVersion.objects.bulk_create(versions):
        version.entering = True
    PriceComponent.objects.bulk_create(
        row for version, (_, components) in zip(versions, priced, strict=True) for row in rows_of(version, components)
    )
    _audit_new(versions, now)


def _load_rules(
    catalog: shipped.Catalog, models: Mapping[str, LLMModel], new: set[Any], now: datetime
) -> tuple[int, int]:
    """How many rules were created and retired: rules of models that this load created, and of those whose rule for all
    tiers they stand in for. A rule that staff deleted stays deleted.
    """
    wanted = [(models[f"{rule.provider}/{rule.model_id}"], rule) for rule in shipped.rules(catalog)]
    retired = _retire_rules({(model.pk, rule.power_level) for model, rule in wanted}, now)
    replaced = {(rule.model_id, rule.power_level) for rule in retired}
    rules = [
        LLMRoutingRule(
            model=model,
            power_level=rule.power_level,
            user_tier=rule.user_tier,
            task_type=rule.task_type,
            priority=rule.priority,
            shipped=True,
        )
        for model, rule in wanted
        if model.pk in new or (model.pk, rule.power_level) in replaced
    ]
    LLMRoutingRule.objects.bulk_create(rules)
    _audit_new(rules, now)
    return len(rules), len(retired)


def _retire_rules(wanted: set[tuple[Any, str]], now: datetime) -> list[LLMRoutingRule]:
    """Take away the rules for all tiers that Tollgate shipped before there was one for each, as far as staff left them
    as they were and a (model, power level) of `wanted` has its own now.
    """
    as_shipped = LLMRoutingRule.objects.select_related("model__provider").filter(
        shipped=True, user_tier=RuleTier.ALL, task_type=TaskType.GENERAL, priority=shipped.RULE_PRIORITY, weight=100,
        min_tokens=None, max_tokens=None, requires_byok=False, is_fallback=False, is_active=True,
    )  # fmt: skip
    retired = [rule for rule in as_shipped if (rule.model_id, rule.power_level) in wanted]
    for rule in retired:
        reason = "each tier has its own rule now"
        audit.record(actor=ACTOR, action="delete", row=rule, before=audit.state(rule), now=now, reason=reason)
    LLMRoutingRule.objects.filter(pk__in=[rule.pk for rule in retired]).delete()
    return retired


def _load_power_levels(now: datetime) -> int:
    existing = set(PowerLevelPolicy.objects.values_list("power_level", flat=True))
    missing = [
        PowerLevelPolicy(
            power_level=level.value,
            max_price_per_1m_usd=usd,
            max_latency_ms=latency_ms,
            allow_fallback=fallback,
            prefer_cached=cached,
        )
        for level, (usd, latency_ms, fallback, cached) in _POLICIES.items()
        if level.value not in existing
    ]
    PowerLevelPolicy.objects.bulk_create(missing)
    _audit_new(missing, now)
    return len(missing)


def _audit_new(rows: Iterable[Any], now: datetime) -> None:
    for row in rows:
        audit.record(actor=ACTOR, action="create", row=row, before={}, now=now, reason="shipped with Tollgate")


def _python(name: str, fact: Any) -> Any:
    """A fact as its field wants it: dates are the one kind that JSON has no word for."""
    return date.fromisoformat(fact) if name == "deprecation_date" and fact is not None else fact


def _json(value: Any) -> Any:
    """A field's value as `shipped` keeps it."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
