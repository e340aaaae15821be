"""Two tenants whose every string is a canary, and everybody who may come to the door, for the matrix of access."""

import json
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.db import models, transaction
from django.db.models import Q
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from billing import granting
from billing.alert_models import Alert, AlertDelivery, AlertSubscription
from billing.credit_models import CreditEntry
from billing.models import Adjustment, BudgetWindow, DailyUsage, Hold, UsageRecord
from llm.catalog import corrections, prices
from llm.choices import HealthStatus
from llm.models import LLMConfig, LLMModel, LLMProvider, PriceOverride, PriceTask, ProviderCredential, RouteRefusal
from tenants import audit, auth
from tenants.ids import uuid7
from tenants.models import ApiKey, AuditEvent, Membership, Tenant
from tests import cast

NO_KEY = {"anonymous", "revoked key", "expired key"}
STAFF = {"staff without the permission", "staff with only the permission", "superuser"}
# Strings that the rows cannot do without: what routing, Django and the constraints read.
_KEPT = {"id", "slug", "timezone", "tier", "digest", "pepper_id", "status", "scope_kind", "period", "actor_kind",
         "role", "key_source", "power_level", "kind", "prefix", "last_four", "suffix", "fingerprint",
         "target"}  # fmt: skip


@dataclass
class House:
    """A tenant with a row in every table that tenants have rows in. `marks` never belong in anybody else's answer."""

    tenant: Tenant
    secret: str
    key: ApiKey
    config: LLMConfig
    usage: UsageRecord
    refusal: RouteRefusal
    credential: ProviderCredential
    subscription: AlertSubscription
    member: Membership
    grant: CreditEntry
    price: PriceOverride
    marks: list[str] = field(default_factory=list)


@dataclass
class Crowd:
    """The rows of the matrix and the secret of each actor ("" for nobody's)."""

    acme: House
    globex: House
    actors: dict[str, str]
    permitted: User
    lacking: User
    platform_credential: ProviderCredential
    rule_id: uuid.UUID
    breaker_id: uuid.UUID
    proposal_id: uuid.UUID
    draft_id: uuid.UUID
    task_id: uuid.UUID
    correction_id: uuid.UUID


def gather(base_url: str = cast.UNREACHABLE, *, levels: bool = True) -> Crowd:
    """Write it all to the database, the power levels too unless they are there."""
    if levels:
        cast.make_power_levels()
    cast.make_sandbox()
    openai = cast.make_provider("openai", base_url)
    LLMProvider.objects.filter(pk=openai.pk).update(health_status=HealthStatus.HEALTHY)
    model = cast.make_model(openai)
    cast.make_model(LLMProvider.objects.get(slug="sandbox"), "echo", input="0", output="0")
    cast.make_model(cast.make_provider("off", is_active=False), "hidden")
    rule = cast.make_rule(model)
    platform = cast.make_credential(openai)
    acme, globex = _house("acme", model), _house("globex", model)
    initech = cast.make_tenant("initech", is_active=False)
    _, suspended = cast.make_key(initech)
    _, revoked = cast.make_key(acme.tenant, "revoked")
    _, expired = cast.make_key(acme.tenant, "expired", expires_at=timezone.now() - timedelta(seconds=1))
    ApiKey.objects.filter(name="revoked").update(revoked_at=timezone.now())
    proposal_id, draft_id = _price_work(openai)
    lacking, lacking_secret = cast.make_staff("lacking", superuser=False)
    permitted, permitted_secret = cast.make_staff("permitted", superuser=False)
    return Crowd(
        acme=acme,
        globex=globex,
        actors={
            "anonymous": "",
            "revoked key": revoked,
            "expired key": expired,
            "tenant A": acme.secret,
            "tenant B": globex.secret,
            "read-only key": cast.make_key(acme.tenant, "reader", scopes=["usage:read"])[1],
            "suspended tenant": suspended,
            "staff without the permission": lacking_secret,
            "staff with only the permission": permitted_secret,
            "superuser": cast.make_staff("grace")[1],
        },
        permitted=permitted,
        lacking=lacking,
        platform_credential=platform,
        rule_id=rule.pk,
        breaker_id=cast.make_breaker(model).pk,
        proposal_id=proposal_id,
        draft_id=draft_id,
        task_id=_price_task(model),
        correction_id=_correction(model),
    )


def _price_task(model: LLMModel) -> uuid.UUID:
    now = timezone.now()
    return PriceTask.objects.create(kind="stale", model=model, opened_at=now, seen_at=now).pk


def _price_work(provider: LLMProvider) -> tuple[uuid.UUID, uuid.UUID]:
    """A price that waits for a second person, and one that is only a draft: their ids."""
    model, now = cast.make_model(provider, "priced"), timezone.now()
    actor = audit.Actor(kind="user", label="ada")
    components = prices.flat(input_usd=Decimal(3), output_usd=Decimal(10), cached_usd=None)
    change = prices.PriceChange(components=components, second_person=True)
    waiting = prices.set_price(model=model, change=change, actor=actor, now=now)
    change = prices.PriceChange(components=components, draft=True)
    draft = prices.set_price(model=model, change=change, actor=actor, now=now)
    return waiting.proposal.pk, draft.pk


def _correction(model: LLMModel) -> uuid.UUID:
    """A correction run that waits for a second person: its id."""
    components = prices.flat(input_usd=Decimal(3), output_usd=Decimal(10), cached_usd=None)
    wish = corrections.Wish(components=components, reason="x", since=timezone.now() - timedelta(days=1))
    actor = audit.Actor(kind="user", label="ada")
    return corrections.propose(model=model, wish=wish, actor=actor, now=timezone.now()).pk


def permit(user: User, *, only: str | None = None, all_but: str | None = None, also: str = "") -> None:
    """Give a staff member exactly one permission (`app.codename`) and the one it needs beside it, or every one except
    it."""
    everything = Permission.objects.filter(content_type__app_label__in=["tenants", "billing", "llm"])
    named = (only or all_but or "").partition(".")
    this = Q(content_type__app_label=named[0], codename=named[2])
    user.user_permissions.set(everything.filter(this if only else ~this))
    if also:
        app, _, codename = also.partition(".")
        user.user_permissions.add(everything.get(content_type__app_label=app, codename=codename))


def _house(slug: str, model: LLMModel) -> House:
    provider = model.provider
    tenant = cast.make_tenant(slug, sandbox_enabled=True)
    member = cast.make_member(tenant, username=f"member-of-{slug}")
    key, secret = cast.make_key(tenant, owner_id=member.pk)
    credential = cast.make_credential(provider, f"sk-own-{slug}-0123456789abcdef", tenant)
    config = cast.make_config(tenant, "main", credential=credential)
    today = timezone.now()
    owned = {"tenant_id": tenant.pk, "created_at": today}
    usage = UsageRecord.objects.create(
        **owned, key_id=key.pk, config_id=config.pk, credential_id=credential.pk, status="completed", status_code=200,
        billing_day=today.date(), price_lines=[{"meter": f"canary-{slug}-line"}],
        decision={"reason": f"canary-{slug}-decision"}, attempts=[{"code": f"canary-{slug}-attempt"}],
    )  # fmt: skip
    refusal = RouteRefusal.objects.create(
        **owned, key_id=key.pk, status_code=503, decision={"reason": f"canary-{slug}-decision"}
    )
    rows: list[models.Model] = [tenant, key, config, credential, usage, refusal]
    rows.append(Adjustment.objects.create(**owned, kind="staff", billing_day=today.date(), request_id=usage.pk))
    rows.append(DailyUsage.objects.create(tenant_id=tenant.pk, key_id=key.pk, billing_day=today.date(), requests=1))
    hold = {"id": uuid7(), "owner": uuid.uuid4(), "amount": 0, "windows": [f"canary-{slug}"], "facts": {"x": slug}}
    rows.append(Hold.objects.create(**owned, billing_day=today.date(), **hold))
    given = granting.NewGrant(amount=Decimal(5), reason="x")
    grant = granting.grant(tenant=tenant, wish=given, actor=audit.system("crowd"), now=today)
    price = PriceOverride.objects.create(
        tenant=tenant, model=model, number=1, effective_from=cast.LONG_AGO, recorded_at=today, reason="x", author="x"
    )
    for meter, usd in (("input", 1), ("output", 4)):
        price.components.create(meter=meter, unit_price_usd=Decimal(usd))
    rows += [grant, price]
    window = f"tenant:{tenant.pk}:day:{today.date()}"
    rows.append(
        BudgetWindow.objects.create(
            id=window, scope_kind="tenant", scope_id=tenant.pk, period="day", starts_on=today.date()
        )
    )
    rows.append(AuditEvent.objects.create(at=today, actor_kind="key", tenant_id=tenant.pk, action="create"))
    membership = Membership.objects.create(tenant=tenant, user=User.objects.create_user(f"canary-{slug}-second"))
    rows.append(membership)
    subscription = AlertSubscription.objects.create(
        tenant=tenant, kind="webhook", target=f"https://canary-{slug}.invalid/", events=["budget.threshold"],
        pepper_id=next(iter(settings.KEY_PEPPERS)),
    )  # fmt: skip
    alert = Alert.objects.create(
        tenant=tenant, event="budget.threshold", data={"scope": f"canary-{slug}"}, created_at=today
    )
    rows += [
        subscription,
        alert,
        AlertDelivery.objects.create(alert=alert, subscription=subscription, created_at=today),
    ]
    for row in rows:
        _mark(row, slug)
    house = House(tenant, secret, key, config, usage, refusal, credential, subscription, membership, grant, price)
    house.marks = [
        f"canary-{slug}",
        slug,
        *(str(row.pk) for row in rows),
        *(str(row.pk).replace("-", "") for row in rows),
    ]
    house.marks = [mark for mark in house.marks if len(mark) > 3] + [f"sk-own-{slug}", secret]
    return house


def _mark(row: models.Model, slug: str) -> None:
    """Every text of a row becomes a canary that names its tenant, table and field."""
    values: dict[str, Any] = {}
    for one in row._meta.concrete_fields:
        texts = isinstance(one, (models.CharField, models.TextField)) and not one.choices
        if not texts or one.name in _KEPT:
            continue
        mark = f"canary-{slug}-{row._meta.model_name}-{one.name}"
        values[one.attname] = mark[: one.max_length] if one.max_length else mark
    if values:
        type(row)._base_manager.filter(pk=row.pk).update(**values)  # prices are not edited by any other
    row.refresh_from_db()


class Door:
    """Django behind one key, each request in a transaction that is rolled back."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.client = Client()

    def ask(self, method: str, path: str, actor: str, body: Any = None, *, keep: bool = False) -> Any:
        """The answer. What it changed is taken back, unless it is to be kept."""
        secret = self.crowd.actors[actor]
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        content = b"" if body is None else json.dumps(body).encode()
        if secret:
            auth.CALLERS.get_now(secret)  # for the async view: its own thread does not see this transaction
        with transaction.atomic():
            answer = self.client.generic(method, f"/{path}", content, content_type="application/json", headers=headers)
            if answer.streaming:
                whole = b"".join(answer.streaming_content)
                answer = HttpResponse(whole, status=answer.status_code, headers=dict(answer.headers))
            transaction.set_rollback(not keep)
        return answer

    def marks_forbidden_to(self, actor: str) -> list[str]:
        """What must not be in an answer to this actor, denied or not. Staff with rights may read all of it."""
        if actor in STAFF - {"staff without the permission"}:
            return []
        mine = {"tenant A": self.crowd.acme, "read-only key": self.crowd.acme, "tenant B": self.crowd.globex}.get(actor)
        return [mark for house in (self.crowd.acme, self.crowd.globex) if house is not mine for mark in house.marks]
