"""From a key to a Caller, for the data path and for DRF. A Caller is never more than a second old."""

import asyncio
import contextlib
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from tenants import keys
from tenants.errors import AuthenticationFailed, InsufficientScope, PermissionDenied, TenantSuspended, Unavailable
from tenants.models import ApiKey

MAX_AGE_S = 1.0
REFRESH_AGE_S = 0.5
PATIENCE_S = 0.75  # a client is told within a second that the database is away
LEAST_PATIENCE_S = 0.1
CACHE_SIZE = 10_000
MAX_PENDING = 1_000
LAST_USED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sends a request, by its API key: everything the data path needs to know of key and tenant."""

    key_id: uuid.UUID
    key_name: str
    scopes: frozenset[str]
    allowed_models: tuple[str, ...] | None
    rate_limit_rpm: int | None
    rate_limit_tpm: int | None
    max_concurrency: int
    expires_at: datetime | None
    user_id: str
    owner: Any
    tenant_id: uuid.UUID | None
    tenant_slug: str
    tier: str
    timezone: str
    sandbox_enabled: bool
    allow_model_fallback: bool
    tenant_active: bool

    # DRF reads these of a request's user.
    is_authenticated = True
    is_anonymous = False

    @property
    def is_staff(self) -> bool:
        """A key without a tenant is a staff member's."""
        return self.tenant_id is None

    @property
    def pk(self) -> uuid.UUID:
        return self.key_id

    def require(self, scope: str) -> None:
        """Raises TenantSuspended or InsufficientScope. "" asks for no scope, only for a tenant's key."""
        if self.tenant_id is None:
            raise PermissionDenied("This is a staff key, for /api/v1/admin/ only. Use a tenant's key here.")
        if not self.tenant_active:
            raise TenantSuspended
        if scope and scope not in self.scopes:
            raise InsufficientScope(scope)


def load(secret: str, now: datetime) -> Caller | None:
    """Ask the database. None: no such key, or revoked, or expired."""
    if not keys.well_formed(secret):
        return None
    found = (
        ApiKey.objects.select_related("tenant", "owner")
        .filter(digest__in=[digest for _, digest in keys.digests(secret)], revoked_at__isnull=True)
        .first()
    )
    if found is None or (found.expires_at is not None and found.expires_at <= now):
        return None
    if found.tenant is None and (found.owner is None or not found.owner.is_active or not found.owner.is_staff):
        return None
    if found.last_used_at is None or now - found.last_used_at > LAST_USED_EVERY:
        _note_use(found, now)
    return caller_of(found)


def _note_use(key: ApiKey, now: datetime) -> None:
    """Bookkeeping: a lock in its way is passed by. It must not refuse this request, nor, while it lasts, all others,
    which wait for this thread."""
    with contextlib.suppress(DatabaseError), transaction.atomic():
        free = ApiKey.objects.select_for_update(skip_locked=True).filter(pk=key.pk)
        ApiKey.objects.filter(pk__in=free.values("pk")).update(last_used_at=now)


def caller_of(key: ApiKey) -> Caller:
    tenant = key.tenant
    return Caller(
        key_id=key.pk,
        key_name=key.name,
        scopes=frozenset(key.scopes),
        allowed_models=None if key.allowed_models is None else tuple(key.allowed_models),
        rate_limit_rpm=key.rate_limit_rpm,
        rate_limit_tpm=key.rate_limit_tpm,
        max_concurrency=key.max_concurrency,
        expires_at=key.expires_at,
        user_id="" if key.owner_id is None else str(key.owner_id),
        owner=key.owner,
        tenant_id=None if tenant is None else tenant.pk,
        tenant_slug="" if tenant is None else tenant.slug,
        tier="" if tenant is None else tenant.tier,
        timezone="UTC" if tenant is None else tenant.timezone,
        sandbox_enabled=tenant is not None and tenant.sandbox_enabled,
        allow_model_fallback=tenant is not None and tenant.allow_model_fallback,
        tenant_active=tenant is None or tenant.is_active,
    )


def off_the_loop(work: Callable[[], Any]) -> Any:
    """Run ORM work in a pool thread, giving its database connection back afterwards."""
    try:
        return work()
    finally:
        for connection in connections.all(initialized_only=True):
            if connection.vendor != "sqlite":
                connection.close()


_waited_s: ContextVar[float] = ContextVar("waited_s", default=0.0)


def patience_s() -> float:
    """How long this request may wait for the database: its waits share PATIENCE_S, lest they add up to several."""
    return max(LEAST_PATIENCE_S, PATIENCE_S - _waited_s.get())


class Cache:
    """A read-through cache with one loader thread: at most `MAX_AGE_S` old, refreshed ahead while it is in use.

    Bounded by `CACHE_SIZE`, least recently used first out. Misses are remembered too, as None.
    """

    def __init__(self, load: Callable[[Any], Any]) -> None:
        self._load = load
        self._entries: OrderedDict[Any, tuple[float, Any]] = OrderedDict()
        self._pending: dict[Any, asyncio.Future[Any]] = {}
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cache")
        self._lock = threading.Lock()

    async def get(self, key: Any) -> Any:
        """The value, loaded if it is missing or too old. Raises Unavailable if the database cannot be asked."""
        entry = self._entries.get(key)
        if entry is not None:
            age = time.monotonic() - entry[0]
            if age < REFRESH_AGE_S:
                return entry[1]
            if age < MAX_AGE_S:
                self._start(key)
                return entry[1]
        began = time.monotonic()
        try:
            return await asyncio.wait_for(asyncio.shield(self._start(key)), timeout=patience_s())
        except (DatabaseError, TimeoutError) as error:
            raise Unavailable("The gateway's database is out of reach. Try again shortly.") from error
        finally:
            _waited_s.set(_waited_s.get() + time.monotonic() - began)

    def get_now(self, key: Any) -> Any:
        """The same for synchronous callers, in their own thread."""
        entry = self._entries.get(key)
        if entry is not None and time.monotonic() - entry[0] < MAX_AGE_S:
            return entry[1]
        started = time.monotonic()
        value = self._load(key)
        self._store(key, started, value)
        return value

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._pending.clear()

    def _start(self, key: Any) -> asyncio.Future[Any]:
        pending = self._pending.get(key)
        if pending is None and len(self._pending) >= MAX_PENDING:
            raise Unavailable("Too many keys are being checked at once. Try again shortly.")
        if pending is None or pending.get_loop() is not asyncio.get_running_loop():
            started = time.monotonic()
            loop = asyncio.get_running_loop()
            pending = loop.run_in_executor(self._executor, off_the_loop, lambda: self._load(key))
            self._pending[key] = pending
            pending.add_done_callback(lambda done: self._finish(key, started, done))
        return pending

    def _finish(self, key: Any, started: float, done: asyncio.Future[Any]) -> None:
        self._pending.pop(key, None)
        if not done.cancelled() and done.exception() is None:
            self._store(key, started, done.result())

    def _store(self, key: Any, started: float, value: Any) -> None:
        # Its age counts from before the question: what changed meanwhile may not be in it.
        with self._lock:
            self._entries[key] = (started, value)
            self._entries.move_to_end(key)
            while len(self._entries) > CACHE_SIZE:
                self._entries.popitem(last=False)


CALLERS = Cache(lambda secret: load(secret, timezone.now()))


def secret_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key in `Authorization: Bearer KEY` or `x-api-key: KEY`."""
    found: bytes | None = None
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            found = value[7:].strip()
            break
        if name == b"x-api-key":
            found = value.strip()
    return None if found is None else found.decode("latin-1")


def _still_good(caller: Caller | None) -> Caller:
    if caller is None or (caller.expires_at is not None and caller.expires_at <= datetime.now(UTC)):
        raise AuthenticationFailed
    return caller


async def authenticate(headers: Iterable[tuple[bytes, bytes]]) -> Caller:
    """The caller of a data-path request. Raises AuthenticationFailed: one answer for every kind of bad key."""
    secret = secret_of(headers)
    if secret is None or not keys.well_formed(secret):
        raise AuthenticationFailed
    return _still_good(await known(secret))


async def known(secret: str) -> Caller | None:
    """The caller with this well-formed key, as it was a second ago at most: a request's first wait for the database."""
    _waited_s.set(0.0)  # a pipelined request begins in the context of the one before it
    found: Caller | None = await CALLERS.get(secret)
    return found


class ApiKeyAuthentication(BaseAuthentication):
    """The same keys for DRF. `request.user` and `request.auth` are the Caller."""

    def authenticate(self, request: Request) -> tuple[Any, Caller] | None:
        pairs = [
            (b"authorization", request.headers.get("authorization", "").encode("latin-1", "replace")),
            (b"x-api-key", request.headers.get("x-api-key", "").encode("latin-1", "replace")),
        ]
        secret = secret_of([pair for pair in pairs if pair[1]])
        if secret is None:
            return None
        if not keys.well_formed(secret):
            raise AuthenticationFailed
        # An asynchronous view has loaded it already, off the event loop.
        raw = request._request  # noqa: SLF001 - DRF has no other name for it
        found = raw.tollgate_caller if hasattr(raw, "tollgate_caller") else CALLERS.get_now(secret)
        caller = _still_good(found)
        return caller, caller

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class HasScope(BasePermission):
    """A tenant's key with the scope the view names in `scope`: a string, a dict by method, or "" for any tenant key.

    A view that names none is closed to everybody.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        caller = request.auth
        if not isinstance(caller, Caller):
            raise AuthenticationFailed
        scope = getattr(view, "scope", None)
        if isinstance(scope, dict):
            scope = scope.get(request.method or "")
        if scope is None:
            return False
        caller.require(scope)
        return True


class IsStaffKey(BasePermission):
    """A staff member's key. It may do what its owner may do in the admin (Django permissions)."""

    _verbs = {"GET": "view", "HEAD": "view", "OPTIONS": "view", "POST": "add", "PUT": "change", "PATCH": "change"}

    def has_permission(self, request: Request, view: Any) -> bool:
        caller = request.auth
        if not isinstance(caller, Caller):
            raise AuthenticationFailed
        if not caller.is_staff:
            raise PermissionDenied("Only staff keys may use /api/v1/admin/.")
        needed = getattr(view, "staff_permission", None)
        if needed is None:
            return False
        verb = self._verbs.get(request.method or "", "delete")
        if not caller.owner.has_perm(needed.format(verb=verb)):
            raise PermissionDenied("The owner of this staff key lacks the permission for this.")
        return True
