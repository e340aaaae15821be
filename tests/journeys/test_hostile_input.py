"""Hostile input at every door: always JSON in the envelope of errors, never a 5xx, and a 4xx changes nothing.

The tables are in `hostile.py`. `/v1` and whole bodies go over real HTTP; fields, queries and ids of `/api/v1` through
Django's client, each request taken back afterwards.
"""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from django.apps import apps
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from billing import granting
from billing.alert_models import AlertSubscription
from billing.api import alert_serializers as alerts
from billing.api import credit_serializers
from billing.api import serializers as usage
from llm.api import (
    byok_serializers,
    correction_views,
    filters,
    override_views,
    price_serializers,
    routing_serializers,
    serializers,
)
from llm.models import PriceProposal
from llm.wire import chat_schema
from tenants import audit, auth
from tenants.api import serializers as tenants
from tenants.models import Membership, Tenant
from tests import cast
from tests.admin import rows as made
from tests.fakes import FakeProvider
from tests.journeys import hostile
from tests.journeys.world import ASK, Customer, World

STAFF, TENANT = "staff", "tenant"
CONFIGS = tuple(routing_serializers.ConfigSerializer().fields)
PROVIDERS = tuple(serializers.ProviderSerializer().fields)
MODELS = tuple(serializers.ModelSerializer().fields)
CONFIG = {"name": "c", "primary_model": "openai/gpt-4o"}
HOOK = {"kind": "webhook", "target": "https://hooks.example.com/in"}
OWN_KEYS = tuple(byok_serializers.OwnKeySerializer(context={"totals": {}}).fields)
OWN_KEY = {"provider": "vendor", "name": "n", "api_key": "sk-0123456789abcdef"}
PROVIDER = {"slug": "new", "base_url": "http://127.0.0.1:9/v1"}
MODEL = {"provider": "openai", "model_id": "new"}
RULE = {"model": "openai/gpt-4o", "power_level": "balanced"}
DECISIONS = {"reason": "x", "ids": ["00000000-0000-0000-0000-000000000007"]}
PRICE = {"components": {"input": "2.5", "output": "10"}}
CORRECTION = {**PRICE, "model": "openai/gpt-4o", "reason": "r", "from": "2026-01-01T00:00:00Z"}
EXPLAIN = ("model", "power_level", "task_type", "priority", "config", "session_id", "text", "needs",
           "estimated_input_tokens", "max_tokens", "unknown")  # fmt: skip

# Method, path, who, a body that is taken, and the fields: every one the serializer has, and one that it has not.
WRITES: dict[str, tuple[str, str, str, dict[str, Any], tuple[str, ...]]] = {
    "make a config": ("POST", "llm/configs", TENANT, CONFIG, CONFIGS),
    "change a config": ("PATCH", "llm/configs/{config}", TENANT, {}, CONFIGS),
    "add an own key": ("POST", "llm/byok/keys", TENANT, OWN_KEY, OWN_KEYS),
    "change an own key": ("PATCH", "llm/byok/keys/{own_key}", TENANT, {}, OWN_KEYS),
    "rotate an own key": ("POST", "llm/byok/keys/{own_key}/rotate", TENANT, {"api_key": "sk-9876543210fedcba"},
                          tuple(byok_serializers.RotateOwnKeySerializer().fields)),
    "explain": ("POST", "llm/routing/explain", TENANT, {"model": "openai/gpt-4o"}, EXPLAIN),
    "subscribe": ("POST", "alerts/subscriptions", TENANT, HOOK, tuple(alerts.SubscriptionSerializer().fields)),
    "change a subscription": ("PATCH", "alerts/subscriptions/{subscription}", TENANT, {},
                              tuple(alerts.SubscriptionSerializer().fields)),
    "subscribe for a tenant": ("POST", "admin/alerts/subscriptions", STAFF, HOOK,
                               tuple(alerts.AdminSubscriptionSerializer().fields)),
    "change a tenant's subscription": ("PATCH", "admin/alerts/subscriptions/{subscription}", STAFF, {},
                                       tuple(alerts.AdminSubscriptionSerializer().fields)),
    "make a key of one's own": ("POST", "keys", TENANT, {"name": "k"}, tuple(tenants.OwnKeySpecSerializer().fields)),
    "rotate a key of one's own": ("POST", "keys/{key}/rotate", TENANT, {}, ("overlap_hours",)),
    "add a member": ("POST", "members", TENANT, {"username": "new"}, tuple(tenants.MemberSerializer().fields)),
    "change a member": ("PATCH", "members/{member}", TENANT, {"role": "viewer"}, ("role",)),
    "make a tenant": ("POST", "admin/tenants", STAFF, {"slug": "new"}, tuple(tenants.TenantSerializer().fields)),
    "change a tenant": ("PATCH", "admin/tenants/acme", STAFF, {}, tuple(tenants.TenantSerializer().fields)),
    "suspend": ("POST", "admin/tenants/acme/suspend", STAFF, {}, ("reason", "unknown")),
    "resume": ("POST", "admin/tenants/acme/resume", STAFF, {}, ("reason", "unknown")),
    "change a tier": ("PATCH", "admin/tiers/starter", STAFF, {}, (*tenants.TierSerializer().fields, "unknown")),
    "grant credits": ("POST", "admin/tenants/acme/credits", STAFF, {"amount": "5", "reason": "r"},
                      (*credit_serializers.NewGrantSerializer().fields, "unknown")),
    "correct a grant": ("POST", "admin/tenants/acme/credits/{grant}/correct", STAFF, {"amount": "-1", "reason": "r"},
                        (*credit_serializers.CorrectGrantSerializer().fields, "unknown")),
    "adjust": ("POST", "admin/tenants/acme/adjustments", STAFF, {"billed_usd": "1", "reason": "r"},
               (*credit_serializers.NewAdjustmentSerializer().fields, "unknown")),
    "set a tenant's price": ("POST", "admin/tenants/acme/prices", STAFF,
                             {**PRICE, "model": "openai/gpt-4o", "reason": "r"},
                             (*override_views.NewOverrideSerializer().fields, "unknown")),
    "make a key": ("POST", "admin/tenants/acme/keys", STAFF, {"name": "k"}, tuple(tenants.NewKeySerializer().fields)),
    "make a provider": ("POST", "admin/llm/providers", STAFF, PROVIDER, PROVIDERS),
    "change a provider": ("PATCH", "admin/llm/providers/openai", STAFF, {}, PROVIDERS),
    "add a credential": ("POST", "admin/llm/providers/openai/credentials", STAFF,
                         {"name": "n", "api_key": "sk-0123456789abcdef"},
                         tuple(routing_serializers.NewCredentialSerializer().fields)),
    "import models": ("POST", "admin/llm/providers/openai/import-models", STAFF, {},
                      ("dry_run", "activate", "unknown")),
    "make a model": ("POST", "admin/llm/models", STAFF, MODEL, MODELS),
    "change a model": ("PATCH", "admin/llm/models/openai/gpt-4o", STAFF, {}, MODELS),
    "deprecate": ("POST", "admin/llm/models/openai/gpt-4o/deprecate", STAFF, {},
                  tuple(serializers.DeprecationSerializer().fields)),
    "set a price": ("POST", "admin/llm/models/openai/gpt-4o/prices", STAFF, PRICE,
                    tuple(price_serializers.PriceChangeSerializer().fields)),
    "cancel a price": ("POST", "admin/llm/models/openai/rising/prices/{price}/cancel", STAFF, {},
                       tuple(tenants.ReasonSerializer().fields)),
    "approve a price": ("POST", "admin/llm/price-proposals/{proposal}/approve", STAFF, {"reason": "x"},
                        tuple(price_serializers.ApprovalSerializer().fields)),
    "reject a price": ("POST", "admin/llm/price-proposals/{proposal}/reject", STAFF, {"reason": "x"},
                       tuple(price_serializers.RejectionSerializer().fields)),
    "approve prices": ("POST", "admin/llm/price-proposals/approve", STAFF, DECISIONS,
                       tuple(price_serializers.BulkApprovalSerializer().fields)),
    "reject prices": ("POST", "admin/llm/price-proposals/reject", STAFF, DECISIONS,
                      tuple(price_serializers.BulkRejectionSerializer().fields)),
    "correct past bills": ("POST", "admin/llm/corrections", STAFF, CORRECTION,
                           tuple(correction_views.NewCorrectionSerializer().fields)),
    "approve a correction": ("POST", "admin/llm/corrections/{correction}/approve", STAFF, {"reason": "x"},
                             tuple(correction_views.CorrectionDecisionSerializer().fields)),
    "make a rule": ("POST", "admin/llm/routing-rules", STAFF, RULE, tuple(routing_serializers.RuleSerializer().fields)),
    "change a rule": ("PATCH", "admin/llm/routing-rules/{rule}", STAFF, {},
                      tuple(routing_serializers.RuleSerializer().fields)),
    "change a power level": ("PATCH", "admin/llm/power-levels/balanced", STAFF, {},
                             tuple(routing_serializers.PowerLevelSerializer().fields)),
}  # fmt: skip
_PAGES = ("page", "page_size", "search", "ordering", "unknown")
# Every list, who reads it, and its parameters.
LISTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "llm/usage": (TENANT, (*usage.UsageQuery().fields, "cursor", "page_size")),
    "llm/usage/summary": (TENANT, (*usage.SummaryQuery().fields, *_PAGES)),
    "llm/configs": (TENANT, ("name", "is_tenant_default", *_PAGES)),
    "alerts": (TENANT, (*alerts.AlertQuery().fields, "cursor", "page_size")),
    "alerts/subscriptions": (TENANT, ("kind", "is_active", *_PAGES)),
    "admin/alerts": (STAFF, (*alerts.AdminAlertQuery().fields, "cursor", "page_size")),
    "admin/alerts/subscriptions": (STAFF, ("kind", "is_active", "tenant", *_PAGES)),
    "llm/byok/keys": (TENANT, (*filters.OwnKeyFilter.base_filters, *_PAGES)),
    "keys": (TENANT, ("name", *_PAGES)),
    "members": (TENANT, ("role", *_PAGES)),
    "llm/providers": (TENANT, (*filters.ProviderFilter.base_filters, *_PAGES)),
    "llm/models": (TENANT, (*filters.ModelFilter.base_filters, *_PAGES)),
    "admin/usage": (STAFF, (*usage.AdminUsageQuery().fields, "cursor", "page_size")),
    "admin/usage/summary": (STAFF, (*usage.AdminSummaryQuery().fields, *_PAGES)),
    "admin/usage/top-models": (STAFF, tuple(usage.TopModelsQuery().fields)),
    "admin/tenants": (STAFF, ("slug", "tier", "is_active", "sandbox_enabled", *_PAGES)),
    "admin/tenants/acme/keys": (STAFF, ("name", *_PAGES)),
    "admin/tenants/acme/adjustments": (STAFF, ("cursor", "page_size")),
    "admin/tenants/acme/prices": (STAFF, ("model", *_PAGES)),
    "llm/adjustments": (TENANT, ("cursor", "page_size")),
    "admin/llm/providers": (STAFF, (*filters.ProviderFilter.base_filters, *_PAGES)),
    "admin/llm/providers/openai/credentials": (STAFF, ("is_active", *_PAGES)),
    "admin/llm/breakers": (STAFF, ("kind", "state", *_PAGES)),
    "admin/llm/models": (STAFF, (*filters.ModelFilter.base_filters, *_PAGES)),
    "admin/llm/models/by-power/eco": (STAFF, _PAGES),
    "admin/llm/models/openai/gpt-4o/prices": (STAFF, ("status", "source", *_PAGES)),
    "admin/llm/price-proposals": (STAFF, (*filters.ProposalFilter.base_filters, *_PAGES)),
    "admin/llm/corrections": (STAFF, (*filters.CorrectionFilter.base_filters, *_PAGES)),
    "admin/llm/routing-rules": (STAFF, (*filters.RuleFilter.base_filters, *_PAGES)),
    "admin/llm/power-levels": (STAFF, _PAGES),
}
# Every URL with an id in it, and what can be done there.
DETAILS: dict[str, tuple[str, tuple[str, ...]]] = {
    "llm/requests/{}": (TENANT, ("GET",)),
    "admin/tiers/{}": (STAFF, ("GET", "PATCH")),
    "admin/tenants/{}/credits": (STAFF, ("GET", "POST")),
    "admin/tenants/acme/credits/{}/correct": (STAFF, ("POST",)),
    "admin/tenants/{}/adjustments": (STAFF, ("GET", "POST")),
    "admin/tenants/{}/prices": (STAFF, ("GET", "POST")),
    "admin/tenants/acme/prices/{}": (STAFF, ("GET", "DELETE")),
    "llm/configs/{}": (TENANT, ("GET", "PATCH", "DELETE")),
    "alerts/subscriptions/{}": (TENANT, ("GET", "PATCH", "DELETE")),
    "alerts/subscriptions/{}/test": (TENANT, ("POST",)),
    "alerts/subscriptions/{}/rotate-secret": (TENANT, ("POST",)),
    "admin/alerts/subscriptions/{}": (STAFF, ("GET", "PATCH", "DELETE")),
    "admin/alerts/subscriptions/{}/test": (STAFF, ("POST",)),
    "admin/alerts/subscriptions/{}/rotate-secret": (STAFF, ("POST",)),
    "llm/byok/keys/{}": (TENANT, ("GET", "PATCH", "DELETE")),
    "llm/byok/keys/{}/validate": (TENANT, ("POST",)),
    "llm/byok/keys/{}/rotate": (TENANT, ("POST",)),
    "keys/{}": (TENANT, ("GET", "DELETE")),
    "keys/{}/rotate": (TENANT, ("POST",)),
    "members/{}": (TENANT, ("GET", "PATCH", "DELETE")),
    "llm/providers/{}": (TENANT, ("GET",)),
    "llm/models/{}": (TENANT, ("GET",)),
    "llm/models/openai/{}": (TENANT, ("GET",)),
    "admin/tenants/{}": (STAFF, ("GET", "PATCH")),
    "admin/tenants/{}/suspend": (STAFF, ("POST",)),
    "admin/tenants/{}/keys": (STAFF, ("GET", "POST")),
    "admin/tenants/acme/keys/{}": (STAFF, ("GET", "DELETE")),
    "admin/llm/providers/{}": (STAFF, ("GET", "PATCH", "DELETE")),
    "admin/llm/providers/{}/health": (STAFF, ("GET",)),
    "admin/llm/providers/{}/test": (STAFF, ("POST",)),
    "admin/llm/providers/{}/import-models": (STAFF, ("POST",)),
    "admin/llm/providers/{}/credentials": (STAFF, ("GET", "POST")),
    "admin/llm/providers/openai/credentials/{}": (STAFF, ("DELETE",)),
    "admin/llm/breakers/{}/reset": (STAFF, ("POST",)),
    "admin/llm/models/by-power/{}": (STAFF, ("GET",)),
    "admin/llm/models/{}": (STAFF, ("GET", "PATCH", "DELETE")),
    "admin/llm/models/{}/deprecate": (STAFF, ("POST",)),
    "admin/llm/models/{}/prices": (STAFF, ("GET", "POST")),
    "admin/llm/models/openai/gpt-4o/prices/{}/cancel": (STAFF, ("POST",)),
    "admin/llm/models/openai/gpt-4o/prices/{}/propose": (STAFF, ("POST",)),
    "admin/llm/price-proposals/{}": (STAFF, ("GET",)),
    "admin/llm/price-proposals/{}/approve": (STAFF, ("POST",)),
    "admin/llm/price-proposals/{}/reject": (STAFF, ("POST",)),
    "admin/llm/corrections/{}": (STAFF, ("GET",)),
    "admin/llm/corrections/{}/approve": (STAFF, ("POST",)),
    "admin/llm/corrections/{}/reject": (STAFF, ("POST",)),
    "admin/llm/corrections/{}/cancel": (STAFF, ("POST",)),
    "admin/llm/corrections/{}/work-out": (STAFF, ("POST",)),
    "admin/llm/routing-rules/{}": (STAFF, ("GET", "PATCH", "DELETE")),
    "admin/llm/power-levels/{}": (STAFF, ("GET", "PATCH")),
}


def test_the_tables_hold_what_the_promise_says() -> None:
    assert hostile.count() >= 150


# --- through Django's client ------------------------------------------------------------------------------------------


class Desk:
    """`/api/v1` for a tenant and for staff; what a request changes is taken back, and a 4xx must change nothing."""

    def __init__(self, base_url: str) -> None:
        cast.make_power_levels()
        model = cast.make_model(cast.make_provider("openai", base_url))
        acme = cast.make_tenant()
        hook = AlertSubscription.objects.create(tenant=acme, events=["budget.threshold"], **HOOK)
        # Who answers to every key: an own one can be added and rotated.
        vendor = cast.make_provider("vendor", "sandbox://local", "sandbox")
        cast.make_member(acme, "owner-of-acme")
        cast.make_member(acme, "member-of-acme", role="developer")
        rising = cast.make_model(model.provider, "rising")
        waiting = made.proposal(cast.make_model(model.provider, "waiting"))
        PriceProposal.objects.filter(pk=waiting.pk).update(id=DECISIONS["ids"][0])
        self.names = {
            "proposal": DECISIONS["ids"][0],
            "correction": str(made.correction(model, reason="r").pk),
            "price": cast.make_price(rising, timezone.now() + timedelta(days=9), input="3", output="10").pk,
            "config": cast.make_config(acme).pk,
            "subscription": hook.pk,
            "rule": cast.make_rule(model).pk,
            "grant": self.granted(acme),
            "own_key": cast.make_credential(vendor, "sk-own-0123456789", acme).pk,
            "key": cast.make_key(acme, "other")[0].pk,
            "member": Membership.objects.get(user__username="member-of-acme").pk,
        }
        keys = {TENANT: cast.make_key(acme)[1], STAFF: cast.make_staff()[1]}
        self.clients = {
            who: Client(headers={"Authorization": f"Bearer {key}"}, raise_request_exception=False)
            for who, key in keys.items()
        }
        for key in keys.values():
            auth.CALLERS.get_now(key)
        self.before = contents()
        self.asked = 0
        self.wrong: list[str] = []

    @staticmethod
    def granted(tenant: Tenant) -> Any:
        """The id of a grant of credit."""
        wish = granting.NewGrant(amount=Decimal(5), reason="r")
        return granting.grant(tenant=tenant, wish=wish, actor=audit.system("test"), now=timezone.now()).pk

    def ask(self, who: str, method: str, path: str, body: bytes = b"", *, name: str, field: str | None = None) -> int:
        self.asked += 1
        wrote: list[str] = []

        def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            if sql.startswith(("INSERT", "UPDATE", "DELETE")):
                wrote.append(sql)
            return execute(sql, params, many, context)

        with transaction.atomic(), connection.execute_wrapper(watch):
            answer = self.clients[who].generic(
                method, f"/api/v1/{path.format(**self.names)}", body, content_type="application/json"
            )
            if wrote and 400 <= answer.status_code < 500 and not connection.needs_rollback:
                # A database that refused a statement has taken back all of it already.
                with contextlib.suppress(Exception):
                    if contents() != self.before:
                        self.wrong.append(f"{method} {path} {name}: {answer.status_code}, and it changed something")
            transaction.set_rollback(True)
        complaint = judged(answer.status_code, answer.headers.get("content-type", ""), answer.content, field=field)
        if complaint:
            self.wrong.append(f"{method} {path} {field or ''} {name}: {complaint}")
        return answer.status_code

    def verdict(self) -> None:
        assert not self.wrong, f"{len(self.wrong)} of {self.asked}:\n" + "\n".join(self.wrong[:60])
        assert contents() == self.before


@pytest.fixture
def desk(db: None, fake: FakeProvider) -> Desk:
    return Desk(fake.base_url)


def judged(status: int, content_type: str, body: bytes, *, field: str | None = None) -> str:
    """What is wrong with an answer; "" if nothing. `field`: the one that was tampered with."""
    shown = f"{status} {content_type} {body[:200]!r}"
    if status >= 500 or 300 <= status < 400:
        return shown
    if body and not content_type.startswith("application/json"):
        return f"not JSON: {shown}"
    if status < 400:
        return ""
    error = json.loads(body).get("error", {})
    if set(error) != {"message", "type", "param", "code"} or not error["message"] or not error["code"]:
        return f"no envelope: {shown}"
    if len(body) > 2_000:
        return f"too long: {shown}"
    if field is not None and error["code"] == "invalid_value" and not _names(error["param"], field):
        return f"param {error['param']} instead of {field}: {shown}"
    return ""


def _names(param: str | None, field: str) -> bool:
    return param is not None and re.split(r"[.\[]", param)[0] in {field, _TWINS.get(field)}


def contents() -> str:
    """The whole database as text, but for when keys were last used and what is only remembered of refusals."""
    rows = []
    for model in apps.get_models():
        if model._meta.label in {"llm.RouteRefusal", "billing.LedgerLease", "admin.LogEntry", "auth.Permission",
                                 "contenttypes.ContentType"} or not model._meta.managed:  # fmt: skip
            continue
        for row in model._default_manager.order_by("pk").values():
            row.pop("last_used_at", None)
            rows.append((model._meta.label, row))
    return str(rows)


# Where a wrong value of one field is rightly blamed on another.
_TWINS = {
    "cost_per_1m_input_tokens": "cost_per_1m_output_tokens",
    "cost_per_1m_output_tokens": "cost_per_1m_input_tokens",
    "cost_per_1m_cached_tokens": "cost_per_1m_input_tokens",
}


@pytest.mark.parametrize("name", WRITES)
def test_a_hostile_value_in_any_field_is_refused_by_name_or_harmless(name: str, desk: Desk) -> None:
    method, path, who, base, fields = WRITES[name]
    assert desk.ask(who, method, path, json.dumps(base).encode(), name="sound") in {200, 201}
    for position, field in enumerate((*fields, "no_such_field")):
        for value, source in hostile.values_for(position, thin=method == "PATCH").items():
            desk.ask(who, method, path, hostile.object_with(base, field, source), name=value, field=field)
    desk.verdict()


@pytest.mark.parametrize("name", WRITES)
def test_a_body_that_is_no_sound_object_is_refused_everywhere(name: str, desk: Desk) -> None:
    method, path, who, *_ = WRITES[name]
    empty_is_fine = (
        {"empty", "blank"} if name in {"suspend", "resume", "rotate a key of one's own"} or method == "PATCH" else set()
    )
    for kind, body in hostile.bodies_for(list(WRITES).index(name)).items():
        status = desk.ask(who, method, path, body, name=kind)
        if status < 400 and kind not in empty_is_fine | _FINE.get(name, set()):
            desk.wrong.append(f"{name}: {kind} was taken: {status}")
    for kind, body in hostile.ODD_BODIES.items():
        desk.ask(who, method, path, body, name=kind)
    desk.verdict()


# Bodies that an endpoint takes for none at all.
_FINE = {
    "suspend": {"null", "empty", "a list"},
    "resume": {"null", "empty", "a list"},
    "rotate a key of one's own": {"null", "empty", "a list"},
    "explain": {"empty"},
    "deprecate": {"empty"},
    "cancel a price": {"empty"},
    "import models": {"empty", "blank"},
}


@pytest.mark.parametrize("path", LISTS)
def test_a_hostile_query_never_breaks_a_list(path: str, desk: Desk) -> None:
    who, names = LISTS[path]
    for position, name in enumerate(dict.fromkeys(names)):
        for kind, value in hostile.queries_for(position).items():
            desk.ask(who, "GET", f"{path}?{name}={value}", name=kind)
    desk.ask(who, "GET", f"{path}?" + "&".join(f"{name}=%00" for name in names), name="all at once")
    desk.ask(who, "GET", f"{path}?" + "&".join(f"k{n}=1" for n in range(2_000)), name="2,000 parameters")
    desk.verdict()


@pytest.mark.parametrize("path", DETAILS)
def test_a_hostile_id_in_a_path_is_a_json_404(path: str, desk: Desk) -> None:
    who, methods = DETAILS[path]
    for method in methods:
        for kind, value in hostile.IDS.items():
            status = desk.ask(who, method, path.replace("{}", value), b"{}", name=kind)
            if status < 400:
                desk.wrong.append(f"{method} {path} {kind}: {status}")
    desk.verdict()


# --- over HTTP --------------------------------------------------------------------------------------------------------

WIRES = ("/v1/chat/completions", "/api/v1/llm/chat/completions")
CHAT = {"model": "fakeai/m", "messages": ASK}
CHAT_FIELDS = (*chat_schema.CHECKS, *chat_schema.UNBOUNDED, "power_level", "task_type", "priority", "config", "no_such")


@pytest.fixture(scope="module")
def teller(stage: World) -> Iterator[tuple[httpx.Client, Customer]]:
    """One connection to the gateway, as one tenant."""
    customer = stage.customer()
    with customer.http as client:
        yield client, customer


@pytest.mark.parametrize("wire", WIRES)
def test_a_hostile_value_in_any_field_of_a_completion_is_refused_by_name_or_harmless(
    world: World, teller: tuple[httpx.Client, Customer], wire: str
) -> None:
    client, _ = teller
    wrong = []
    for position, field in enumerate(CHAT_FIELDS):
        for name, source in hostile.values_for(position).items():
            answer = client.post(wire, content=hostile.object_with(CHAT, field, source), headers=_JSON)
            complaint = judged_wire(answer, field=field)
            if complaint:
                wrong.append(f"{field} {name}: {complaint}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:60])


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("inside", ["message", "content part", "tool", "response_format", "tool call"])
def test_a_hostile_value_deep_in_a_completion_is_refused_by_name_or_harmless(
    world: World, teller: tuple[httpx.Client, Customer], wire: str, inside: str
) -> None:
    client, _ = teller
    field, base, template = _NESTED[inside]
    wrong = []
    for position, key in enumerate(base, start=1):
        for name, source in hostile.values_for(position).items():
            inner = hostile.object_with(base, key, source).decode()
            answer = client.post(
                wire, content=hostile.object_with(CHAT, field, template.replace("@", inner)), headers=_JSON
            )
            complaint = judged_wire(answer, field=field)
            if complaint:
                wrong.append(f"{inside} {key} {name}: {complaint}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:60])


_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_NESTED: dict[str, tuple[str, dict[str, Any], str]] = {
    "message": ("messages", {"role": "user", "content": "x", "name": "n", "tool_calls": None, "tool_call_id": "c",
                             "refusal": None, "function_call": None, "no_such": 1}, "[@]"),
    "content part": ("messages", {"type": "text", "text": "x", "image_url": {"url": "https://x/y"}},
                     '[{"role": "user", "content": [@]}]'),
    "tool": ("tools", {"type": "function", "function": {"name": "f"}}, "[@]"),
    "response_format": ("response_format", {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}, "@"),
    "tool call": ("messages", _CALL, '[{"role": "assistant", "content": null, "tool_calls": [@]}]'),
}  # fmt: skip


@pytest.mark.parametrize("wire", WIRES)
def test_a_body_that_is_no_sound_object_is_refused_by_the_wires_and_costs_nothing(
    world: World, teller: tuple[httpx.Client, Customer], wire: str
) -> None:
    client, _customer = teller
    before = contents()
    wrong = []
    for name, body in {**hostile.BODIES, **hostile.ODD_BODIES}.items():
        answer = client.post(wire, content=body, headers=_JSON)
        complaint = judged_wire(answer)
        if complaint or answer.status_code != 400:
            wrong.append(f"{name}: {complaint or answer.status_code}")
    for name, headers in hostile.CONTENT_TYPES.items():
        answer = client.post(wire, content=json.dumps(CHAT).encode(), headers=headers)
        complaint = judged_wire(answer)
        if complaint or answer.status_code not in {400, 415}:
            wrong.append(f"content type {name}: {complaint or answer.status_code}")
    assert not wrong, "\n".join(wrong)
    assert world.fake.bill() == []
    assert contents() == before


def test_whole_bodies_and_content_types_are_refused_over_http_by_the_management_api_too(
    world: World, teller: tuple[httpx.Client, Customer]
) -> None:
    client, _ = teller
    before = contents()
    wrong = []
    explain = "/api/v1/llm/routing/explain"
    for path in ("/api/v1/llm/configs", explain):
        sound = {"name": "c"} if "configs" in path else {}
        inputs = [(name, body, _JSON) for name, body in hostile.BODIES.items()]
        # A body that is JSON as it stands is taken as such, whatever encoding its header claims.
        types = {name: one for name, one in hostile.CONTENT_TYPES.items() if "content-encoding" not in one}
        inputs += [(name, json.dumps(sound).encode(), headers) for name, headers in types.items()]
        for name, body, headers in inputs:
            answer = client.post(path, content=body, headers=headers)
            complaint = judged_wire(answer)
            if complaint or (answer.status_code not in {400, 415} and (path, name) != (explain, "empty")):
                wrong.append(f"{path} {name}: {complaint or answer.status_code}")
    assert not wrong, "\n".join(wrong)
    assert contents() == before


@pytest.mark.parametrize("wire", WIRES)
def test_hostile_headers_are_refused_or_harmless_on_the_wires(
    world: World, teller: tuple[httpx.Client, Customer], wire: str
) -> None:
    client, _customer = teller
    wrong = []
    for name, headers in hostile.HEADERS.items():
        answer = client.post(wire, json=CHAT, headers=_bytes(headers))
        if complaint := judged_wire(answer) or ("taken" if answer.status_code != 400 else ""):
            wrong.append(f"{name}: {complaint}")
    for name, headers in hostile.HARMLESS_HEADERS.items():
        answer = client.post(wire, json=CHAT, headers=_bytes(headers))
        if complaint := judged_wire(answer) or (answer.text[:200] if answer.status_code != 200 else ""):
            wrong.append(f"{name}: {complaint}")
    assert not wrong, "\n".join(wrong)


def test_hostile_headers_are_harmless_to_a_write_that_leaves_an_audit_row(
    world: World, teller: tuple[httpx.Client, Customer]
) -> None:
    client, _ = teller
    wrong = []
    for name, headers in hostile.HARMLESS_HEADERS.items():
        answer = client.post("/api/v1/llm/configs", json={"name": f"audited {name}"}, headers=_bytes(headers))
        if complaint := judged_wire(answer) or (answer.text[:200] if answer.status_code != 201 else ""):
            wrong.append(f"{name}: {complaint}")
    assert not wrong, "\n".join(wrong)


JUNK_KEYS = ("", " ", "x", "\xff", "tg_live_", "tg_live_" + "A" * 38, "x" * 8_000, "Bearer Bearer", "\t", "tg_live_é")


def test_a_hostile_key_is_always_the_same_401(world: World) -> None:
    answers = set()
    with httpx.Client(base_url=world.gateway.url, verify=False, trust_env=False) as client:
        for key in JUNK_KEYS:
            for header, value in (("authorization", f"Bearer {key}"), ("authorization", key), ("x-api-key", key)):
                for path in ("/v1/models", "/api/v1/llm/models", "/api/v1/admin/tenants"):
                    if value == value.strip():  # no client can send a header that ends in a blank
                        answer = client.get(path, headers=_bytes({header: value}))
                        answers.add((answer.status_code, answer.text))
    assert len(answers) == 1
    assert answers.pop()[0] == 401


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/llm/chat/completions", "/api/v1/llm/configs"])
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_a_body_of_50_megabytes_is_a_413_before_it_is_read(world: World, path: str, chunked: bool) -> None:
    customer = world.customer()
    size = 50 * 1024 * 1024
    host, _, port = world.gateway.url.removeprefix("http://").partition(":")
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {customer.secret}\r\n"
        f"Content-Type: application/json\r\n{length}\r\n\r\n"
    )
    part = b"[" * (1024 * 1024)
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(head.encode())
        with contextlib.suppress(OSError):  # it may hang up as soon as it has refused
            for _ in range(50 if chunked else 0):
                line.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        answer = b""
        with contextlib.suppress(OSError):
            while more := line.recv(65536):
                answer += more
    top, _, body = answer.partition(b"\r\n\r\n")
    assert top.split(b" ")[1] == b"413", answer[:500]
    assert judged(413, "application/json", body) == ""
    customer.untouched()


_JSON = {"content-type": "application/json"}


def _bytes(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


def judged_wire(answer: httpx.Response, *, field: str | None = None) -> str:
    """As `judged`; a stream that was asked for is no JSON."""
    kind = answer.headers.get("content-type", "")
    if answer.status_code == 200 and kind.startswith("text/event-stream"):
        return ""
    return judged(answer.status_code, kind, answer.content, field=field)
