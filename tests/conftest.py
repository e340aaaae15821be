"""Fixtures that every folder of tests shares. The database comes from tests/postgres_plugin.py (`--db=`)."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from django.test import Client

from tenants import auth
from tenants.models import Tenant
from tests import cast
from tests.fakes import FakeProvider


class Api:
    """`/api/v1` as one key sees it: `api.get("llm/models")` answers (status, JSON body)."""

    def __init__(self, secret: str | None) -> None:
        self._client = Client(headers={} if secret is None else {"Authorization": f"Bearer {secret}"})

    def call(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None) -> tuple[int, Any]:
        """One request; a body that is None sends none, and an answer without one is None."""
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        kind = {"content_type": "application/json"} if content else {}
        answer = self._client.generic(method, f"/api/v1/{path}", content, **kind)
        if not answer.content:
            return answer.status_code, None
        assert answer.headers["content-type"].startswith("application/json"), answer.content[:200]
        return answer.status_code, json.loads(answer.content)

    def get(self, path: str) -> tuple[int, Any]:
        return self.call("GET", path)

    def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        return self.call("POST", path, body)

    def put(self, path: str, body: Any) -> tuple[int, Any]:
        return self.call("PUT", path, body)

    def patch(self, path: str, body: Any) -> tuple[int, Any]:
        return self.call("PATCH", path, body)

    def delete(self, path: str) -> tuple[int, Any]:
        return self.call("DELETE", path)


class Gateway:
    """The whole application on a socket: `gateway.url` is `http://127.0.0.1:<port>`."""

    def __init__(self) -> None:
        # Imported here: asgi.py sets Django up, and tests that need no server should not wait for the data path.
        from tollgate.asgi import application
        from tollgate.protocol import Protocol

        config = uvicorn.Config(
            application, host="127.0.0.1", port=0, http=Protocol, lifespan="on", log_config=None, access_log=False,
            timeout_graceful_shutdown=5,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="gateway", daemon=True)

    @property
    def url(self) -> str:
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def start(self) -> None:
        """Returns when it listens."""
        self._thread.start()
        until = time.monotonic() + 20
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                self._server.should_exit = True
                raise RuntimeError("the gateway did not start")
            time.sleep(0.005)

    def stop(self) -> None:
        """Ends as on SIGTERM: no new connections, requests under way finish, lifespan shutdown."""
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive(), "the gateway did not stop"


@pytest.fixture(autouse=True)
def fresh_caches() -> Iterator[None]:
    """What one test's keys were must not be remembered in the next."""
    auth.CALLERS.clear()
    yield
    auth.CALLERS.clear()


@pytest.fixture
def gateway(transactional_db: None) -> Iterator[Gateway]:
    """A running server. Rows must be committed before a request can see them, hence transactional_db."""
    # Imported here: most tests need no data path.
    from llm.engine import runtime

    runtime.reset()
    running = Gateway()
    running.start()
    try:
        yield running
    finally:
        running.stop()
        runtime.reset()


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    """A vendor on a real socket, with its own bill."""
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def acme(db: None) -> Tenant:
    return cast.make_tenant("acme", tier="professional")


@pytest.fixture
def globex(db: None) -> Tenant:
    return cast.make_tenant("globex", tier="free")


@pytest.fixture
def initech(db: None) -> Tenant:
    return cast.make_tenant("initech", tier="enterprise")


@pytest.fixture
def staff(db: None) -> Api:
    """The API as a superuser's staff key sees it."""
    return Api(cast.make_staff()[1])


@pytest.fixture
def tenant(acme: Tenant) -> Api:
    """The API as a key of Acme with every scope sees it."""
    return Api(cast.make_key(acme)[1])


@pytest.fixture
def stranger(globex: Tenant) -> Api:
    """The API as a key of Globex with every scope sees it."""
    return Api(cast.make_key(globex)[1])
