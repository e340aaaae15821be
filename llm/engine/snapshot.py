"""The catalog frozen in memory, and the watch that swaps it when the database changes, whoever changed it.

Every second a thread asks the database for a fingerprint of the catalog's tables. On PostgreSQL that is the count of
rows and the sum of their `xmin` (the number of the transaction that wrote a row; it only grows, so no edit leaves both
unchanged). On SQLite it is `PRAGMA data_version`, which says that some other connection wrote something, and only then
the rows themselves. Nothing has to remember to tell: admin, API, bulk update, shell and SQL are all seen.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from billing.pricing import PriceCard, Rate, card_tiers
from llm import models
from llm.catalog import addresses
from llm.catalog.credentials import environment_key
from llm.fields import CannotDecrypt
from llm.models.prices import IN_THE_BOOK
from llm.types import Credential, Model, Policy, Provider, Rule, Snapshot

logger = logging.getLogger(__name__)

CHECK_S = 1.0
# A database that is away, a row that cannot be frozen, a read torn by an edit.
_TROUBLE = (
    DatabaseError,
    InterfaceError,
    ImproperlyConfigured,
    RuntimeError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
)
TABLES = {
    "llm_providers": "",
    "llm_models": "",
    "llm_price_versions": "",
    "llm_price_components": "",
    "llm_routing_rules": "",
    "llm_power_levels": "",
    "llm_provider_credentials": " WHERE tenant_id IS NULL",
}

# --- building ---------------------------------------------------------------------------------------------------------


def build() -> Snapshot:
    """Read the whole catalog. Raises DatabaseError."""
    now = timezone.now()
    providers = {row.pk: _provider(row) for row in models.LLMProvider.objects.all()}
    _add_credentials(providers)
    cards = _cards()
    found = {
        row.pk: _model(row, providers[row.provider_id], cards.get(row.pk, ()))
        for row in models.LLMModel.objects.order_by("power_level_priority", "provider__slug", "model_id")
    }
    by_model_id: dict[str, list[Model]] = defaultdict(list)
    by_family: dict[str, list[Model]] = defaultdict(list)
    for model in found.values():
        by_model_id[model.model_id].append(model)
        if model.family:
            by_family[model.family].append(model)
    rules: dict[str, list[Rule]] = defaultdict(list)
    for row in models.LLMRoutingRule.objects.filter(is_active=True).order_by("priority", "pk"):
        rules[row.power_level].append(_rule(row))
    return Snapshot(
        version=now.isoformat(),
        providers={provider.slug: provider for provider in providers.values()},
        models=found,
        by_reference={model.reference: model for model in found.values()},
        by_model_id={name: tuple(group) for name, group in by_model_id.items()},
        by_family={name: tuple(group) for name, group in by_family.items()},
        rules={level: tuple(group) for level, group in rules.items()},
        policies={row.power_level: _policy(row) for row in models.PowerLevelPolicy.objects.all()},
    )


def _provider(row: models.LLMProvider) -> Provider:
    base_url = addresses.filled(row.base_url.rstrip("/"), row.quirks)
    return Provider(
        id=row.pk,
        slug=row.slug,
        name=row.name,
        base_url=base_url,
        dialect=row.dialect,
        auth_type=row.auth_type,
        quirks=row.quirks,
        min_tier=row.min_tier_required,
        # A base URL with {placeholders} is one that staff have yet to complete.
        is_active=row.is_active and "{" not in base_url,
        health_status=row.health_status,
        credentials=_from_environment(row),
    )


def _from_environment(row: models.LLMProvider) -> tuple[Credential, ...]:
    secret = environment_key(row)
    if secret is None:
        return ()
    return (Credential(id=None, name="from the environment", secret=secret, source="platform"),)


def _add_credentials(providers: dict[Any, Provider]) -> None:
    """Stored platform keys stand in for the one of the environment. One that does not open is left out, loudly."""
    stored: dict[Any, list[Credential]] = defaultdict(list)
    for row in models.ProviderCredential.objects.filter(tenant__isnull=True, is_active=True).order_by("pk"):
        try:
            secret = row.open()
        except CannotDecrypt as error:
            logger.error("Platform key %s cannot be used: %s", row.pk, error)
            continue
        stored[row.provider_id].append(
            Credential(id=row.pk, name=row.key_name, secret=secret, source="platform", weight=row.weight)
        )
    for provider_id, credentials in stored.items():
        old = providers[provider_id]
        providers[provider_id] = Provider(
            **{name: getattr(old, name) for name in Provider.__slots__ if name != "credentials"},
            credentials=tuple(credentials),
        )


def _cards() -> dict[Any, tuple[PriceCard, ...]]:
    """Price cards by model, newest first: all that are in force or will be."""
    versions = (
        models.PriceVersion.objects.filter(status__in=IN_THE_BOOK)
        .exclude(effective_to__lt=timezone.now())
        .order_by("-effective_from")
        .prefetch_related("components")
    )
    cards: dict[Any, list[PriceCard]] = defaultdict(list)
    for version in versions:
        cards[version.model_id].append(card_of(version))
    return {model_id: tuple(group) for model_id, group in cards.items()}


def card_of(version: models.PriceVersion) -> PriceCard:
    """The version as bills are made from it."""
    tiers, others = card_tiers(
        (one.service_tier, one.above_tokens, one.meter, Rate(price=one.unit_price_usd, quantity=one.unit_quantity))
        for one in version.components.all()
    )
    return PriceCard(
        version_id=version.pk,
        number=version.number,
        effective_from=version.effective_from,
        effective_to=version.effective_to,
        tiers=tiers,
        services=others,
    )


def _model(row: models.LLMModel, provider: Provider, prices: tuple[PriceCard, ...]) -> Model:
    flags = {
        "streaming": row.supports_streaming,
        "tools": row.supports_function_calling,
        "vision": row.supports_vision,
        "json": row.supports_json_mode,
    }
    return Model(
        id=row.pk,
        provider=provider,
        model_id=row.model_id,
        reference=f"{provider.slug}/{row.model_id}",
        name=row.name,
        kind=row.kind,
        family=row.family,
        context_window=row.context_window,
        max_output_tokens=row.max_output_tokens,
        supports=frozenset(name for name, supported in flags.items() if supported),
        is_reasoning=row.is_reasoning,
        quirks={**provider.quirks, **row.quirks},
        speed_tier=row.speed_tier,
        quality_tier=row.quality_tier,
        power_level=row.power_level,
        power_level_priority=row.power_level_priority,
        min_tier=row.min_tier_required,
        is_active=row.is_active,
        is_deprecated=row.is_deprecated,
        deprecation_date=row.deprecation_date,
        replacement_id=row.replacement_model_id,
        prices=prices,
        created=int(row.created_at.timestamp()),
    )


def _rule(row: models.LLMRoutingRule) -> Rule:
    return Rule(
        id=row.pk,
        model_id=row.model_id,
        power_level=row.power_level,
        user_tier=row.user_tier,
        task_type=row.task_type or None,
        priority=row.priority,
        weight=row.weight,
        min_tokens=row.min_tokens,
        max_tokens=row.max_tokens,
        requires_byok=row.requires_byok,
        is_fallback=row.is_fallback,
        fallback_order=row.fallback_order,
    )


def _policy(row: models.PowerLevelPolicy) -> Policy:
    return Policy(
        power_level=row.power_level,
        max_price_per_1m_usd=row.max_price_per_1m_usd,
        max_latency_ms=row.max_latency_ms,
        allow_fallback=row.allow_fallback,
        prefer_cached=row.prefer_cached,
    )


# --- seeing changes ---------------------------------------------------------------------------------------------------


def fingerprint(last: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """(version, content): the content differs after any change of the catalog.

    `last`: the one before, on a connection that writes nothing itself (SQLite's version does not count own writes).
    """
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_XMINS)
            return None, tuple(cursor.fetchall())
        cursor.execute("PRAGMA data_version")
        version = cursor.fetchone()[0]
        if last is not None and last[0] == version:
            return last
        return version, hash(tuple(_rows(cursor)))


def _rows(cursor: Any) -> Iterable[Any]:
    for statement in _WHOLE:
        cursor.execute(statement)
        yield from cursor.fetchall()


_WHOLE = tuple("SELECT * FROM " + table + where for table, where in TABLES.items())  # noqa: S608 - our own names
_XMINS = " UNION ALL ".join(
    "SELECT count(*), coalesce(sum(xmin::text::bigint), 0) FROM " + table + where  # noqa: S608
    for table, where in TABLES.items()
)


class Watch:
    """The process's snapshot, and the thread that keeps it fresh."""

    def __init__(self) -> None:
        self.current: Snapshot | None = None
        self.looked_at = time.monotonic()  # when the database last confirmed it
        self._heard_at = time.monotonic()  # when the database last answered, whatever it said
        self._seen: tuple[Any, Any] | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def refresh(self, *, only_reads: bool = False) -> Snapshot:
        """Look once, and rebuild if something changed. Raises DatabaseError; the old snapshot stays.

        `only_reads`: this thread's connection writes nothing, see `fingerprint`.
        """
        with self._lock:
            seen = fingerprint(self._seen if only_reads else None)
            self._heard_at = time.monotonic()
            if self.current is None or self._seen is None or seen[1] != self._seen[1]:
                # The fingerprint is older than what is read: a change in between shows in the next one.
                self.current = build()
            self._seen = seen
            self.looked_at = time.monotonic()
            return self.current

    def start(self, beside: Callable[[], None]) -> None:
        """Look every second; `beside` is called after each look, in the same thread with the same connection."""
        if not self.running:
            self._heard_at = time.monotonic()
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, args=(beside,), name="catalog", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)
            self._thread = None

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def silent_s(self) -> float:
        """Seconds since the database last answered the running watch, which asks every second."""
        return time.monotonic() - self._heard_at if self.running else 0.0

    def reset(self) -> None:
        self.current = None
        self._seen = None

    def _run(self, beside: Callable[[], None]) -> None:
        try:
            while not self._stop.wait(CHECK_S):
                self.look()
                beside()
        finally:
            connection.close()

    def look(self) -> None:
        """Refresh, or say in the log why the old snapshot serves on."""
        try:
            self.refresh(only_reads=True)
        except _TROUBLE as error:  # whatever it is, the watch must go on looking
            logger.error("The catalog could not be looked at, the old one serves on: %s", type(error).__name__)
            logger.debug("The catalog could not be looked at", exc_info=True)
            self._seen = None  # SQLite's version means nothing on another connection
            connection.close()


WATCH = Watch()


def current() -> Snapshot:
    """The catalog now. Where no watch runs (commands, jobs, tests) it looks for changes itself."""
    if WATCH.running and WATCH.current is not None:
        return WATCH.current
    return WATCH.refresh()
