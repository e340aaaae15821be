"""Who gets what at which URL: every URL the resolver knows x both spellings x method x actor x object, from a table.

A URL that the table does not list fails the suite, so that none is added without saying who may use it.
"""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from tenants import auth
from tests import cast
from tests.tenants.crowd import NO_KEY, STAFF, Crowd, Door, permit

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
_VERBS = {"GET": "view", "HEAD": "view", "OPTIONS": "view", "POST": "add", "PUT": "change", "PATCH": "change"}
EVERYBODY = (
    "anonymous", "revoked key", "expired key", "tenant A", "tenant B", "read-only key", "suspended tenant",
    "staff without the permission", "staff with only the permission", "superuser",
)  # fmt: skip
ONE_OF_EACH = ("anonymous", "tenant A", "staff without the permission", "staff with only the permission")
OBJECTS = ("own", "other's", "missing")


@dataclass(frozen=True)
class Row:
    """One URL: the scope (tenants) or Django permission (staff) it asks for, and what each method answers on an own
    object, with which body. Methods left out answer 405, HEAD as GET.
    """

    needs: str
    methods: dict[str, tuple[int, Any]] = field(default_factory=dict)
    also: str = ""  # a second permission, without which the first is not enough
    kind: str = "application/json"  # of a good answer; a refusal is always JSON

    @property
    def for_staff(self) -> bool:
        return "." in self.needs


def _reads(needs: str, kind: str = "application/json") -> Row:
    return Row(needs, {"GET": (200, None)}, kind=kind)


_HOOK = {"kind": "webhook", "target": "https://hooks.example.com/in"}
_MODEL = {"provider": "openai", "model_id": "gpt-4o"}
_OWN_KEY = {"provider": "openai", "name": "new", "api_key": "sk-new-0123456789abcdef"}
_DECISIONS = {"ids": [str(uuid.UUID(int=7))], "reason": "x"}
_OWN_PRICE = {"model": "openai/gpt-4o", "components": {"input": "2", "output": "8"}, "reason": "contract"}
_CORRECTION = _OWN_PRICE | {"from": "2026-01-01T00:00:00Z", "confirm": True}
_RULE = {"model": "openai/gpt-4o", "power_level": "balanced"}
_LEVEL = {"max_price_per_1m_usd": "5", "max_latency_ms": 1, "allow_fallback": True, "prefer_cached": True}

TABLE = {
    "me": _reads("usage:read"),
    "keys": Row("manage", {"GET": (200, None), "POST": (201, {"name": "new"})}),
    "keys/<key>": Row("manage", {"GET": (200, None), "DELETE": (204, None)}),
    "keys/<key>/usage": _reads("usage:read"),
    "keys/<key>/rotate": Row("manage", {"POST": (201, {})}),
    "members": Row("manage", {"GET": (200, None), "POST": (201, {"username": "newcomer"})}),
    "members/<member>": Row("manage", {"GET": (200, None), "PATCH": (200, {"role": "viewer"}), "DELETE": (204, None)}),
    "llm/byok/keys": Row("configs", {"GET": (200, None), "POST": (201, _OWN_KEY)}),
    "llm/byok/keys/<own_key>": Row(
        "configs",
        {"GET": (200, None), "PUT": (200, {"name": "new"}), "PATCH": (200, {"weight": 5}), "DELETE": (204, None)},
    ),
    "llm/byok/keys/<own_key>/usage": _reads("usage:read"),
    "llm/byok/keys/<own_key>/validate": Row("configs", {"POST": (200, None)}),
    # Nobody answers at its provider, so the new secret cannot be asked about.
    "llm/byok/keys/<own_key>/rotate": Row("configs", {"POST": (503, {"api_key": "sk-new-0123456789abcdef"})}),
    "statements": _reads("usage:read"),
    "statements/<month>": _reads("usage:read"),
    "admin/statements": _reads("billing.view_statement"),
    "admin/tenants/<tenant>/statements/<month>": _reads("billing.view_statement"),
    "admin/tenants/<tenant>/statements/<month>/finalise": Row("billing.add_statement", {"POST": (201, None)}),
    "llm/usage": _reads("usage:read"),
    "llm/usage/summary": _reads("usage:read"),
    "llm/usage/export": _reads("usage:read", "text/csv"),
    "llm/requests/<request_id>": _reads("usage:read"),
    "llm/credits": _reads("usage:read"),
    "llm/adjustments": _reads("usage:read"),
    "llm/chat/completions": Row("completions", {"POST": (400, {})}),  # served: test_the_wires_serve_whom_they_should
    "llm/routing/explain": Row("completions", {"POST": (200, {"model": "openai/gpt-4o"})}),
    "llm/providers": _reads(""),
    "llm/providers/<provider>": _reads(""),
    "llm/models": _reads(""),
    "llm/models/<model>": _reads(""),
    "llm/configs": Row("configs", {"GET": (200, None), "POST": (201, {"name": "new"})}),
    "llm/configs/<config>": Row(
        "configs",
        {"GET": (200, None), "PUT": (200, {"name": "new"}), "PATCH": (200, {"name": "new"}), "DELETE": (204, None)},
    ),
    "admin/tenants": Row("tenants.{verb}_tenant", {"GET": (200, None), "POST": (201, {"slug": "newco"})}),
    "admin/tenants/<tenant>": Row(
        "tenants.{verb}_tenant",
        {"GET": (200, None), "PUT": (200, {"slug": "renamed"}), "PATCH": (200, {"tier": "free"})},
    ),
    "admin/tenants/<tenant>/suspend": Row("tenants.change_tenant", {"POST": (200, {})}),
    "admin/tenants/<tenant>/resume": Row("tenants.change_tenant", {"POST": (200, {})}),
    "admin/tenants/<tenant>/keys": Row("tenants.{verb}_apikey", {"GET": (200, None), "POST": (201, {"name": "new"})}),
    "admin/tenants/<tenant>/keys/<key>": Row("tenants.{verb}_apikey", {"GET": (200, None), "DELETE": (204, None)}),
    "admin/tenants/<tenant>/keys/<key>/usage": _reads("billing.view_usagerecord"),
    "admin/tiers": _reads("tenants.{verb}_tierterms"),
    "admin/tiers/<tier>": Row(
        "tenants.{verb}_tierterms",
        {
            "GET": (200, None),
            "PUT": (200, {"markup_percent": "5", "byok_fee_percent": "1"}),
            "PATCH": (200, {"markup_percent": "5"}),
        },
    ),
    "admin/tenants/<tenant>/credits": Row(
        "billing.{verb}_creditentry", {"GET": (200, None), "POST": (201, {"amount": "5", "reason": "paid"})}
    ),
    "admin/tenants/<tenant>/credits/<grant>/correct": Row(
        "billing.add_creditentry", {"POST": (201, {"amount": "-1", "reason": "typed twice"})}
    ),
    "admin/tenants/<tenant>/adjustments": Row(
        "billing.{verb}_adjustment", {"GET": (200, None), "POST": (201, {"billed_usd": "-1", "reason": "goodwill"})}
    ),
    "admin/tenants/<tenant>/prices": Row("llm.{verb}_priceoverride", {"GET": (200, None), "POST": (201, _OWN_PRICE)}),
    "admin/tenants/<tenant>/prices/<price>": Row(
        "llm.{verb}_priceoverride", {"GET": (200, None), "DELETE": (204, None)}
    ),
    "alerts": _reads("configs"),
    "alerts/subscriptions": Row("configs", {"GET": (200, None), "POST": (201, _HOOK)}),
    "alerts/subscriptions/<subscription>": Row(
        "configs", {"GET": (200, None), "PATCH": (200, {"is_active": False}), "DELETE": (204, None)}
    ),
    "alerts/subscriptions/<subscription>/rotate-secret": Row("configs", {"POST": (200, None)}),
    "alerts/subscriptions/<subscription>/test": Row("configs", {"POST": (200, None)}),
    "admin/alerts": _reads("billing.view_alert"),
    "admin/alerts/subscriptions": Row(
        "billing.{verb}_alertsubscription", {"GET": (200, None), "POST": (201, _HOOK | {"tenant": "acme"})}
    ),
    "admin/alerts/subscriptions/<subscription>": Row(
        "billing.{verb}_alertsubscription",
        {"GET": (200, None), "PATCH": (200, {"is_active": False}), "DELETE": (204, None)},
    ),
    "admin/alerts/subscriptions/<subscription>/rotate-secret": Row(
        "billing.change_alertsubscription", {"POST": (200, None)}
    ),
    "admin/alerts/subscriptions/<subscription>/test": Row("billing.change_alertsubscription", {"POST": (200, None)}),
    "admin/usage": _reads("billing.view_usagerecord"),
    "admin/usage/summary": _reads("billing.view_usagerecord"),
    "admin/usage/export": _reads("billing.view_usagerecord", "text/csv"),
    "admin/usage/top-models": _reads("billing.view_usagerecord"),
    "admin/llm/providers": Row(
        "llm.{verb}_llmprovider", {"GET": (200, None), "POST": (201, {"slug": "new", "base_url": "http://x/v1"})}
    ),
    "admin/llm/providers/<provider>": Row(
        "llm.{verb}_llmprovider",
        {
            "GET": (200, None),
            "PUT": (200, {"slug": "openai", "base_url": "http://x/v1"}),
            "PATCH": (200, {"description": "x"}),
            "DELETE": (409, None),  # it has models
        },
    ),
    "admin/llm/providers/<provider>/health": _reads("llm.{verb}_llmprovider"),
    "admin/llm/providers/<provider>/test": Row("llm.change_llmprovider", {"POST": (200, None)}),
    # The provider of the matrix cannot be reached; what is imported is tests/llm/test_model_import.py's.
    "admin/llm/providers/<provider>/import-models": Row("llm.add_llmmodel", {"POST": (409, {})}),
    "admin/llm/providers/<provider>/credentials": Row(
        "llm.{verb}_providercredential",
        {"GET": (200, None), "POST": (201, {"name": "new", "api_key": "sk-new-0123456789abcdef"})},
    ),
    "admin/llm/providers/<provider>/credentials/<credential>": Row(
        "llm.{verb}_providercredential", {"DELETE": (204, None)}
    ),
    "admin/llm/breakers": _reads("llm.view_llmprovider"),
    "admin/llm/breakers/<breaker>/reset": Row("llm.change_llmprovider", {"POST": (200, None)}),
    "admin/llm/models": Row("llm.{verb}_llmmodel", {"GET": (200, None), "POST": (201, _MODEL | {"model_id": "new"})}),
    "admin/llm/models/by-power/<level>": _reads("llm.{verb}_llmmodel"),
    "admin/llm/models/<model>": Row(
        "llm.{verb}_llmmodel",
        {"GET": (200, None), "PUT": (200, _MODEL), "PATCH": (200, {"family": "x"}), "DELETE": (204, None)},
    ),
    "admin/llm/models/<model>/deprecate": Row("llm.change_llmmodel", {"POST": (200, {})}),
    "admin/llm/models/<model>/prices": Row(
        "llm.{verb}_priceversion", {"GET": (200, None), "POST": (201, {"components": {"input": "2.6", "output": "10"}})}
    ),
    "admin/llm/models/<model>/prices/<version>/cancel": Row(
        "llm.add_priceversion", {"POST": (200, {})}, also="llm.approve_prices"
    ),
    "admin/llm/models/<model>/prices/<version>/propose": Row("llm.add_priceversion", {"POST": (200, None)}),
    "admin/llm/corrections": Row("llm.{verb}_correctionrun", {"GET": (200, None), "POST": (201, _CORRECTION)}),
    "admin/llm/corrections/<correction>": _reads("llm.{verb}_correctionrun"),
    "admin/llm/corrections/<correction>/approve": Row("llm.approve_prices", {"POST": (200, {"reason": "x"})}),
    "admin/llm/corrections/<correction>/reject": Row("llm.approve_prices", {"POST": (200, {"reason": "x"})}),
    "admin/llm/corrections/<correction>/cancel": Row("llm.add_correctionrun", {"POST": (200, {})}),
    "admin/llm/corrections/<correction>/work-out": Row("llm.add_correctionrun", {"POST": (200, None)}),
    "admin/llm/price-proposals": _reads("llm.{verb}_priceproposal"),
    # Those that the bodies name do not exist: what several get is tests/llm/test_price_api.py's.
    "admin/llm/price-proposals/approve": Row("llm.approve_prices", {"POST": (404, _DECISIONS)}),
    "admin/llm/price-proposals/reject": Row("llm.approve_prices", {"POST": (404, _DECISIONS)}),
    "admin/llm/price-proposals/<proposal>": _reads("llm.{verb}_priceproposal"),
    "admin/llm/price-proposals/<proposal>/approve": Row("llm.approve_prices", {"POST": (200, {"reason": "x"})}),
    "admin/llm/price-proposals/<proposal>/reject": Row("llm.approve_prices", {"POST": (200, {"reason": "x"})}),
    "admin/llm/price-policy": Row(
        "llm.{verb}_pricepolicy",
        {"GET": (200, None), "PATCH": (200, {"stale_after_days": 7})},
        also="llm.approve_prices",
    ),
    "admin/llm/price-tasks": _reads("llm.{verb}_pricetask"),
    "admin/llm/price-tasks/<task>": Row("llm.{verb}_pricetask", {"GET": (200, None), "PATCH": (200, {"note": "x"})}),
    "admin/llm/price-tasks/<task>/confirm": Row("llm.approve_prices", {"POST": (200, None)}),
    "admin/llm/routing-rules": Row("llm.{verb}_llmroutingrule", {"GET": (200, None), "POST": (201, _RULE)}),
    "admin/llm/routing-rules/<rule>": Row(
        "llm.{verb}_llmroutingrule",
        {"GET": (200, None), "PUT": (200, _RULE), "PATCH": (200, {"weight": 5}), "DELETE": (204, None)},
    ),
    "admin/llm/power-levels": _reads("llm.{verb}_powerlevelpolicy"),
    "admin/llm/power-levels/<level>": Row(
        "llm.{verb}_powerlevelpolicy",
        {"GET": (200, None), "PUT": (200, _LEVEL), "PATCH": (200, {"max_latency_ms": 7})},
    ),
}
# Open to all, and saying nothing about anybody.
OPEN = {"health/live": 200, "health/ready": 200, "api/schema": 200, "api/docs": 200, "": 302}


def objects(row: str, crowd: Crowd, actor: str, which: str) -> dict[str, str]:
    """What stands for each `<name>` of a URL: `other's` is a row that exists and is out of this actor's reach."""
    mine, theirs = (crowd.globex, crowd.acme) if actor == "tenant B" else (crowd.acme, crowd.globex)
    missing = str(uuid.UUID(int=7))
    seen_by_staff = row.startswith("admin/")
    own = {
        "request_id": mine.usage.pk,
        "config": mine.config.pk,
        "subscription": mine.subscription.pk,
        "provider": "openai",
        "model": "openai/priced" if "<version>" in row else "openai/gpt-4o",
        "tenant": "acme",
        "key": crowd.acme.key.pk if seen_by_staff else mine.key.pk,
        "member": mine.member.pk,
        "own_key": mine.credential.pk,
        "credential": crowd.platform_credential.pk,
        "rule": crowd.rule_id,
        "breaker": crowd.breaker_id,
        "proposal": crowd.proposal_id,
        "correction": crowd.correction_id,
        "version": crowd.draft_id,
        "task": crowd.task_id,
        "level": "balanced",
        "month": "2020-01",
        "tier": "starter",
        "grant": crowd.acme.grant.pk,
        "price": crowd.acme.price.pk,
    }
    others = {
        "request_id": theirs.usage.pk,
        "config": theirs.config.pk,
        "subscription": theirs.subscription.pk,
        "provider": "off",
        "model": "off/hidden",
        "key": crowd.globex.key.pk if seen_by_staff else theirs.key.pk,
        "member": theirs.member.pk,
        "own_key": theirs.credential.pk,
        "credential": crowd.acme.credential.pk,
        "grant": crowd.globex.grant.pk,
        "price": crowd.globex.price.pk,
    }
    if which == "other's":
        last = re.findall(r"<(\w+)>", row)[-1:]
        changed = {name: others[name] for name in last if name in others and not (seen_by_staff and name in _CATALOG)}
    else:
        changed = dict.fromkeys(re.findall(r"<(\w+)>", row)[-1:], missing) if which == "missing" else {}
    return {name: str(value) for name, value in (own | changed).items()}


_CATALOG = {"provider", "model"}  # staff see the switched off ones too: nothing here is another's to them


def expected(row: Row, method: str, actor: str, which: str) -> int:
    """The status the table stands for."""
    if actor in NO_KEY:
        return 401
    if row.for_staff != (actor in STAFF) or actor in {"suspended tenant", "staff without the permission"}:
        return 403
    if actor == "read-only key" and row.needs not in {"", "usage:read"}:
        return 403
    named = "GET" if method == "HEAD" else method
    if named not in row.methods:
        return 405
    return row.methods[named][0] if which == "own" else 404


def patterns(resolver: Any = None, prefix: str = "") -> Iterator[str]:
    """Every URL pattern as a path: `api/v1/llm/configs/<config>`. What ends in `/?$` comes in both spellings."""
    for one in (resolver or get_resolver()).url_patterns:
        if isinstance(one, URLResolver):
            yield from patterns(one, prefix + str(one.pattern))
        else:
            assert isinstance(one, URLPattern)
            text = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"<\1>", str(one.pattern)).removeprefix("^")
            text = re.sub(r"<\w+:(\w+)>", r"<\1>", text)
            spellings = [text[:-3], text[:-2]] if text.endswith("/?$") else [text.removesuffix("$")]
            yield from (prefix + spelling.removesuffix("?") for spelling in spellings)


API = "api/v1/"
ADMIN = "admin/"


def test_the_table_lists_every_url_of_the_api_in_both_spellings() -> None:
    found = sorted(path.removeprefix(API) for path in patterns() if path.startswith(API))
    assert found == sorted(spelling for path in TABLE for spelling in (path, f"{path}/"))


def test_what_is_neither_api_nor_admin_is_listed_as_open() -> None:
    found = {path.removesuffix("/") for path in patterns() if not path.startswith((API, ADMIN))}
    assert found == set(OPEN)


def cells(path: str) -> Iterator[tuple[str, str, str, str]]:
    """(spelling, method, actor, object) of every cell of a row: the second spelling with one actor of each kind."""
    kinds = OBJECTS if "<" in path else ("own",)
    for spelling, actors in ((path, EVERYBODY), (f"{path}/", ONE_OF_EACH)):
        for method in METHODS:
            for actor in actors:
                for which in kinds:
                    if which != "other's" or actor in NO_KEY or has_others(path):
                        yield spelling, method, actor, which


def has_others(path: str) -> bool:
    """Whether some row exists that this URL's rightful users must not reach through it."""
    last = re.findall(r"<(\w+)>", path)[-1]
    if path.startswith("admin/"):
        return last in {"key", "credential", "grant", "price"}
    return last in {"request_id", "config", "provider", "model", "subscription", "key", "member", "own_key"}


def test_the_matrix_has_several_thousand_cells() -> None:
    assert sum(1 for path in TABLE for _ in cells(path)) > 5_000


def _fill(spelling: str, names: dict[str, str]) -> str:
    return re.sub(r"<(\w+)>", lambda found: names[found[1]], spelling)


def _permit(crowd: Crowd, row: Row, method: str) -> None:
    auth.CALLERS.clear()
    if row.for_staff:
        needed = row.needs.format(verb=_VERBS.get(method, "delete"))
        permit(crowd.permitted, only=needed, also=row.also)
        permit(crowd.lacking, all_but=needed)


@pytest.mark.parametrize("path", TABLE)
def test_every_actor_gets_what_the_table_says_and_others_rows_look_missing(path: str, door: Door) -> None:
    row = TABLE[path]
    answers: dict[tuple[str, str, str, str], Any] = {}
    wrong: list[str] = []
    for spelling, method, actor, which in sorted(cells(path), key=lambda cell: METHODS.index(cell[1])):
        if not any(seen[1] == method for seen in answers):
            _permit(door.crowd, row, method)
        body = row.methods.get(method, (0, {}))[1]
        filled = _fill(spelling, objects(path, door.crowd, actor, which))
        answer = door.ask(method, API + filled, actor, body)
        answers[spelling, method, actor, which] = answer
        cell = f"{method} /{API}{filled} as {actor}, {which}"
        if answer.status_code != (wanted := expected(row, method, actor, which)):
            wrong.append(f"{cell}: {answer.status_code}, not {wanted}: {answer.content[:200]!r}")
        kind = row.kind if answer.status_code < 400 else "application/json"
        if answer.content and not answer.headers["content-type"].startswith(kind):
            wrong.append(f"{cell}: not {kind}")
        if answer.status_code >= 400 and method != "HEAD" and set(answer.json()) != {"error"}:
            wrong.append(f"{cell}: no error envelope")
        text = answer.content.decode() + str(dict(answer.headers))
        wrong += [f"{cell} shows {mark}" for mark in door.marks_forbidden_to(actor) if mark in text]
    for (spelling, method, actor, which), answer in answers.items():
        if which == "other's":
            missing = answers[spelling, method, actor, "missing"]
            if _face(answer) != _face(missing):
                wrong.append(f"{method} {spelling} as {actor}: another's differs from missing: {answer.content!r}")
    assert not wrong, "\n".join(wrong[:60])


def _face(answer: Any) -> tuple[int, bytes, dict[str, str]]:
    """All of an answer but its request id."""
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "x-request-id"}
    return answer.status_code, answer.content, headers


# --- the admin --------------------------------------------------------------------------------------------------------

ADMIN_MODELS = {
    "tenants/tenant", "tenants/tierterms", "tenants/apikey", "tenants/auditevent",
    "billing/alert", "billing/alertsubscription",
    "billing/usagerecord", "billing/budgetwindow", "billing/hold", "billing/dailyusage", "billing/adjustment",
    "billing/statement",
    "billing/creditentry", "llm/priceoverride",
    "llm/llmbreaker", "llm/llmconfig", "llm/llmmodel", "llm/providercredential", "llm/llmprovider", "llm/routerefusal",
    "llm/llmroutingrule", "llm/powerlevelpolicy",
    "llm/priceproposal", "llm/priceversion", "llm/pricetask", "llm/pricepolicy", "llm/correctionrun",
    "django_celery_beat/periodictask", "django_celery_beat/intervalschedule", "django_celery_beat/solarschedule",
    "django_celery_beat/crontabschedule", "django_celery_beat/clockedschedule", "django_celery_results/taskresult",
    "auth/user", "auth/group",
}  # fmt: skip
_PAGES = ("", "add/", "<object_id>/history/", "<object_id>/delete/", "<object_id>/change/", "<object_id>/")
ADMIN_EXTRAS = {
    "tenants/apikey/issue/", "tenants/apikey/<object_id>/rotate/", "tenants/apikey/<object_id>/revoke/",
    "llm/llmmodel/<object_id>/price/", "llm/llmmodel/<object_id>/deprecate/", "llm/llmmodel/<object_id>/restore/",
    "llm/llmprovider/<object_id>/import-models/", "llm/llmroutingrule/simulate/", "auth/user/<id>/password/",
    "usage/", "health/", "health/probe/", "drift/", "billing/statement/months/",
    "billing/statement/document/<tenant_id>/<month>/<kind>/",
    "tenants/tenant/<object_id>/issue-key/", "tenants/tenant/<object_id>/suspend/",
    "tenants/tenant/<object_id>/resume/", "tenants/tenant/<object_id>/grant-credits/",
    "tenants/tenant/<object_id>/adjust/", "tenants/tenant/<object_id>/set-price/",
    "billing/creditentry/<object_id>/correct/", "llm/priceoverride/<object_id>/end/",
    "billing/alertsubscription/<object_id>/test/", "billing/alertsubscription/<object_id>/rotate-secret/",
    "llm/providercredential/<object_id>/rotate/",
    "llm/priceproposal/<object_id>/approve/", "llm/priceproposal/<object_id>/reject/",
    "llm/llmmodel/<object_id>/correct/", "llm/priceversion/<object_id>/correct/",
    "llm/correctionrun/<object_id>/approve/", "llm/correctionrun/<object_id>/reject/",
    "llm/correctionrun/<object_id>/cancel/", "llm/correctionrun/<object_id>/work-out/",
}  # fmt: skip
# Pages of no model: (what staff without any permission get for GET, for POST).
ADMIN_PLAIN = {
    "": (200, 200), "search/": (200, 200), "logout/": (405, 302), "password_change/": (200, 200),
    "password_change/done/": (200, 405), "autocomplete/": (403, 405), "jsi18n/": (200, 405),
    "r/<content_type_id>/<object_id>/": (404, 404), "<url>": (404, 404),
    "<app_label>/": (404, 404), "llm/llmprovider/<object_id>/test/": (405, 403),
}  # fmt: skip


def admin_urls() -> dict[str, tuple[int, int]]:
    """Every page of the admin that asks for a log-in, and what staff without any permission get: GET, POST."""
    pages = {f"{model}/{page}": (403, 403) for model in ADMIN_MODELS for page in _PAGES}
    # Django's bare object URL only redirects to the change page, which refuses.
    pages |= {url: (302, 302) for url in pages if url.endswith("/<object_id>/")}
    return pages | dict.fromkeys(ADMIN_EXTRAS, (403, 403)) | ADMIN_PLAIN


def test_the_table_lists_every_url_of_the_admin() -> None:
    found = {path.removeprefix(ADMIN) for path in patterns() if path.startswith(ADMIN)}
    assert found == {*admin_urls(), "login/"}


def test_nobody_but_staff_gets_past_the_admins_door_and_staff_only_where_they_may(door: Door) -> None:
    crowd = door.crowd
    visitors = {
        name: Client(headers={"Authorization": f"Bearer {crowd.actors[name]}"})
        for name in ("anonymous", "tenant A", "superuser")  # keys open no browser's door, whosever they are
    }
    member = visitors["member"] = Client()
    member.force_login(User.objects.get(username="member-of-acme"))
    norma = Client()
    norma.force_login(cast.make_staff("norma", superuser=False)[0])
    known = {"tenants/tenant": crowd.acme.tenant, "tenants/apikey": crowd.acme.key, "llm/llmconfig": crowd.acme.config,
             "billing/usagerecord": crowd.acme.usage, "billing/alertsubscription": crowd.acme.subscription,
             "llm/routerefusal": crowd.acme.refusal,
             "llm/providercredential": crowd.acme.credential}  # fmt: skip
    marks = [*crowd.acme.marks, *crowd.globex.marks]
    wrong: list[str] = []
    for url, (on_get, on_post) in admin_urls().items():
        kind = known.get("/".join(url.split("/")[:2]))
        numbers = ["1" if "auth/" in url else str(uuid.UUID(int=7))] + ([str(kind.pk)] if kind else [])
        for number in numbers:
            names = {"tenant_id": number, "month": "2020-01", "kind": "json"}
            names |= {"object_id": number, "id": "1", "content_type_id": "1", "url": "nowhere", "app_label": "tenants"}
            path = "/admin/" + _fill(url, names)
            for method, wanted in (("GET", on_get), ("POST", on_post)):
                for name, client in visitors.items():
                    answer = client.generic(method, path, b"", "application/x-www-form-urlencoded")
                    where = answer.headers.get("location", "")
                    if answer.status_code != 302 or not where.startswith(
                        ("/admin/login/", "/admin/" if url == "logout/" else "/admin/login/")
                    ):
                        wrong.append(f"{method} {path} as {name}: {answer.status_code} {where}")
                if url == "logout/" and method == "POST":
                    continue  # it would end norma's session
                answer = norma.generic(method, path, b"", "application/x-www-form-urlencoded")
                if answer.status_code != wanted:
                    wrong.append(f"{method} {path} as staff without permissions: {answer.status_code}, not {wanted}")
                text = answer.content.decode()
                shown = text.replace(path, "")  # a page may repeat the address it was asked for
                wrong += [f"{method} {path} shows {mark}" for mark in marks if mark in shown]
    assert not wrong, "\n".join(wrong[:60])
