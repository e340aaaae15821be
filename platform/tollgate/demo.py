"""From an empty database to a gateway that answers: migrations, catalog, schedules, a staff user, a demo tenant, keys.

Idempotent: what exists stays as it is. The keys made here are kept in `bootstrap.json` in TOLLGATE_DATA_DIR (mode
0600), since the database has only their HMAC; whoever can read that folder can read the other secrets too.
"""

import fcntl
import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import transaction

from llm.catalog import litellm, model_import
from llm.catalog.loader import follow_litellm, load_catalog
from tenants import audit, keys
from tenants.errors import TollgateError
from tenants.models import ApiKey, Scope, Tenant
from tenants.tiers import Tier
from tollgate.roles import ensure_roles
from tollgate.schedules import ensure_schedules
from tollgate.supervisor import reachable_host

STAFF = "admin"
TENANT = "demo"
KEPT = "bootstrap.json"
_STAFF_KEY, _TENANT_KEY = "staff_api_key", "tenant_api_key"
_ACTOR = audit.system("bootstrap")

log = structlog.get_logger(__name__)


def bootstrap(*, new_keys: bool, now: datetime) -> dict[str, str]:
    """Make whatever is missing, and say how to get in.

    Returns base_url, staff_username, staff_password (only when the user was made by this call), staff_api_key,
    tenant_api_key and tenant_slug. The keys are those of the last call while they are good, else new ones; `new_keys`
    always makes new ones and leaves the old ones working. Two calls at once take turns.
    """
    with _turn(settings.TOLLGATE_DATA_DIR / ".bootstrap.lock"):
        prepare(now=now)
        staff, password = _staff_user()
        tenant = _demo_tenant(now)
        pair = _keys(staff=staff, tenant=tenant, new_keys=new_keys, now=now)
    host = reachable_host(settings.HOST)
    answer = {
        "base_url": f"http://{f'[{host}]' if ':' in host else host}:{settings.PORT}",
        "staff_username": STAFF,
        **pair,
        "tenant_slug": tenant.slug,
    }
    return answer if password is None else {**answer, "staff_password": password}


def prepare(*, now: datetime) -> None:
    """Migrate, load the catalog, ensure the schedules: what every installation needs, without anything of the demo."""
    call_command("migrate", interactive=False, verbosity=0, stdout=sys.stderr, stderr=sys.stderr)
    follow_litellm(now=now)
    report = load_catalog(now=now)
    log.info("catalog_loaded", **{name.replace(" ", "_"): number for name, number in report.counts.items()})
    ensure_schedules()
    ensure_roles()
    _import_litellm_models(now)


def _import_litellm_models(now: datetime) -> None:
    """The models of the LiteLLM proxy of the environment, if there is one. A proxy that is down delays them only."""
    provider = litellm.provider()
    if provider is None:
        return
    wish = model_import.Wish()
    try:
        report = model_import.import_models(provider=provider, wish=wish, actor=_ACTOR, now=now)
    except TollgateError as error:
        log.warning("litellm_models_not_imported", why=f"{error.message} The next bootstrap tries again.")
    else:
        log.info("litellm_models_imported", outcome=model_import.in_words(report, provider=provider, wish=wish))


def _staff_user() -> tuple[Any, str | None]:
    """The staff user, and the password if this call made it. One that exists is not touched, whatever became of it."""
    users = get_user_model()
    found = users._default_manager.filter(username=STAFF).first()
    if found is not None:
        if not (found.is_active and found.is_staff):
            log.warning("staff_user_cannot_log_in", username=STAFF)
        return found, None
    password = secrets.token_urlsafe(16)
    return users._default_manager.create_superuser(username=STAFF, email=None, password=password), password


def _demo_tenant(now: datetime) -> Tenant:
    with transaction.atomic():
        tenant, created = Tenant.objects.get_or_create(
            slug=TENANT,
            defaults={"name": "Demo", "tier": Tier.PROFESSIONAL, "sandbox_enabled": True},
        )
        if created:
            audit.record(actor=_ACTOR, action="create", row=tenant, before={}, now=now, reason="Demo tenant")
    return tenant


def _keys(*, staff: Any, tenant: Tenant, new_keys: bool, now: datetime) -> dict[str, str]:
    path = settings.TOLLGATE_DATA_DIR / KEPT
    kept = {} if new_keys else _read(path)
    wanted = {
        _STAFF_KEY: (None, keys.KeySpec(name="bootstrap staff", owner_id=staff.pk)),
        _TENANT_KEY: (tenant, keys.KeySpec(name="bootstrap tenant", scopes=list(Scope.values))),
    }
    made = {}
    with transaction.atomic():
        for name, (owner, spec) in wanted.items():
            if not _is_good(kept.get(name, ""), tenant=owner, now=now):
                made[name] = _issue(tenant=owner, spec=spec, now=now)
    if made:
        _write(path, {**kept, **made})
    return {name: made.get(name) or kept[name] for name in wanted}


def _issue(*, tenant: Tenant | None, spec: keys.KeySpec, now: datetime) -> str:
    key, secret = keys.issue(tenant=tenant, spec=spec)
    audit.record(actor=_ACTOR, action="create", row=key, before={}, now=now, reason="Issued by bootstrap")
    return secret


def _is_good(secret: str, *, tenant: Tenant | None, now: datetime) -> bool:
    """Whether the key is in this database, of this tenant, not revoked and not expired."""
    if not keys.well_formed(secret):
        return False
    digests = [digest for _, digest in keys.digests(secret)]
    found = ApiKey.objects.filter(digest__in=digests, tenant=tenant, revoked_at__isnull=True).first()
    return found is not None and (found.expires_at is None or found.expires_at > now)


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # closing drops the lock


def _read(path: Path) -> dict[str, str]:
    """The kept keys. A file that is missing or broken holds none: unlike other secrets, new ones do as well."""
    try:
        kept = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(kept, dict):
        return {}
    return {name: value for name, value in kept.items() if isinstance(value, str)}


def _write(path: Path, kept: dict[str, str]) -> None:
    """Replace the file whole, so that nobody reads half of it."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(kept, file, indent=2)
    fresh.replace(path)
