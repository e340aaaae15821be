"""asgi.py, health, middleware and `serve`: what answers which path, and when the process says it is not ready."""

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection
from django.test import Client, override_settings

from llm.models import LLMProvider
from tollgate import asgi, health
from tollgate.supervisor import answers

ROOT = Path(__file__).resolve().parent.parent
Message = MutableMapping[str, Any]


@pytest.fixture(autouse=True)
def _fresh_health() -> Iterator[None]:
    health.reset()
    yield
    health.reset()


async def ask(
    path: str,
    *,
    headers: dict[str, str] | None = None,
    chunks: tuple[bytes, ...] = (b"",),
    method: str = "GET",
    client: str | None = "127.0.0.1",
) -> tuple[int, dict[str, str], bytes]:
    """One request through the ASGI application."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(k.lower().encode(), v.encode()) for k, v in {"host": "testserver", **(headers or {})}.items()],
        "client": None if client is None else (client, 1),
        "server": ("127.0.0.1", 8084),
    }
    parts = [{"type": "http.request", "body": c, "more_body": i + 1 < len(chunks)} for i, c in enumerate(chunks)]
    sent: list[Message] = []

    async def receive() -> Message:
        if parts:
            return parts.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    await asgi.application(scope, receive, send)
    answered = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:])


def add_provider() -> None:
    """A catalog, written by a thread that leaves no connection open (the test database could not be dropped)."""
    LLMProvider.objects.create(slug="p", name="p", base_url="http://127.0.0.1:9")
    connection.close()


async def test_live_answers_whatever_the_host_header_and_without_a_database() -> None:
    status, headers, body = await ask("/health/live", headers={"host": "10.1.2.3:8084"})
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    assert headers["x-request-id"]


@pytest.mark.django_db(transaction=True)
async def test_ready_needs_a_catalog() -> None:
    status, _, body = await ask("/health/ready")
    assert (status, json.loads(body)["failing"]) == (503, ["catalog"])
    await sync_to_async(add_provider, thread_sensitive=False)()
    status, headers, body = await ask("/health/ready")
    assert (status, json.loads(body)["status"]) == (200, "ok")
    assert headers["cache-control"] == "no-store"


@pytest.mark.django_db(transaction=True)
async def test_ready_says_no_from_the_moment_of_the_stop_signal() -> None:
    await sync_to_async(add_provider, thread_sensitive=False)()
    heard: list[int] = []
    drained: list[bool] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    try:
        health.drain_on_stop_signal(lambda: drained.append(True))
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
        status, _, body = await ask("/health/ready")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (heard, drained) == ([signal.SIGTERM], [True])
    assert (status, json.loads(body)["failing"]) == (503, ["draining"])
    assert (await ask("/health/live"))[0] == 200


@pytest.mark.django_db(transaction=True)
async def test_ready_names_unapplied_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "unapplied_migrations", lambda: ["llm.0002_more"])
    status, _, body = await ask("/health/ready")
    assert status == 503
    assert json.loads(body)["checks"]["migrations"] == "1 unapplied, first llm.0002_more: run manage.py migrate"


async def test_ready_without_a_database_answers_within_the_deadline_and_tells_no_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused() -> list[str]:
        raise OperationalError("could not connect to db.internal as tollgate")

    monkeypatch.setattr(health, "unapplied_migrations", refused)
    status, _, body = await ask("/health/ready")
    assert (status, json.loads(body)["checks"]["database"]) == (503, "unreachable")
    assert b"db.internal" not in body

    monkeypatch.setattr(health, "DATABASE_DEADLINE_S", 0.1)
    monkeypatch.setattr(health, "_look", lambda: time.sleep(0.5))
    began = time.monotonic()
    status, _, body = await ask("/health/ready")
    assert (status, json.loads(body)["checks"]["database"]) == (503, "no answer within 0.1 s")
    assert time.monotonic() - began < 0.4


@pytest.mark.parametrize(
    ("headers", "chunks"),
    [({"content-length": "3000"}, (b"",)), ({}, (b"x" * 1500, b"x" * 1500))],
    ids=["declared", "counted"],
)
async def test_a_body_over_the_limit_is_refused_before_a_view_sees_it(
    headers: dict[str, str], chunks: tuple[bytes, ...]
) -> None:
    with override_settings(MAX_BODY_API=2000):
        status, _, body = await ask("/api/v1/nothing", headers=headers, chunks=chunks, method="POST")
    assert status == 413
    assert json.loads(body)["error"]["code"] == "body_too_large"


TOKEN = "of-the-scraper-9Kd83hQz6Vw1x"
NEAR = ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1")
FAR = ("192.0.2.7", "10.0.0.1", "2001:db8::7", "::ffff:192.0.2.7", "::", "0.0.0.0", "unknown", None)
# What a request that came through a proxy carries, whoever wrote it: it claims to come from here, which counts nothing.
FORWARDED = [
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-For": ""},
    {"Forwarded": "for=127.0.0.1"},
    {"X-Real-IP": "127.0.0.1"},
    {"X-Forwarded-Host": "localhost"},
    {"X-Forwarded-Proto": "http"},
    {"Via": "1.1 proxy"},
]
WRONG = ["", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN[:-1]}é"]


async def metrics_status(token: str, **request: Any) -> tuple[int, str | None]:
    """Status, and the error's code, if it is one."""
    with override_settings(METRICS_TOKEN=token):
        status, headers, body = await ask("/metrics", **request)
    if status == 200:
        assert headers["cache-control"] == "no-store"
        assert b"tollgate_database_up" in body
        return 200, None
    assert (headers["content-type"], headers["x-should-retry"]) == ("application/json", "false")
    assert len(headers["x-request-id"]) == 36
    assert b"tollgate_" not in body
    assert TOKEN not in body.decode()
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return status, error["code"]


@pytest.mark.django_db(transaction=True)
async def test_metrics_are_for_this_machine_and_for_whoever_has_the_token() -> None:
    right = {"authorization": f"Bearer {TOKEN}"}
    for near in NEAR:
        assert await metrics_status("", client=near) == (200, None)
        assert await metrics_status(TOKEN, client=near) == (200, None)
    for far in FAR:
        assert await metrics_status("", client=far) == (403, "permission_denied")
        assert await metrics_status(TOKEN, client=far) == (401, "invalid_metrics_token")
        assert await metrics_status(TOKEN, client=far, headers=right) == (200, None)
    for forwarded in FORWARDED:
        assert await metrics_status("", headers=forwarded) == (403, "permission_denied")
        assert await metrics_status(TOKEN, headers=forwarded) == (401, "invalid_metrics_token")
        assert await metrics_status(TOKEN, headers=forwarded | right) == (200, None)
    # A token that is not the right one is refused from anywhere, and any is where none is set.
    for client in ("127.0.0.1", "192.0.2.7"):
        for wrong in WRONG:
            refused = (401, "invalid_metrics_token")
            assert await metrics_status(TOKEN, client=client, headers={"authorization": wrong}) == refused
        assert await metrics_status("", client=client, headers=right) == (401, "invalid_metrics_token")
        assert await metrics_status("", client=client, headers={"authorization": "Bearer "}) == refused


@pytest.mark.django_db(transaction=True)
async def test_metrics_are_only_to_be_read() -> None:
    status, headers, body = await ask("/metrics", method="HEAD", headers={"host": "10.1.2.3:8084"})
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 1000
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        status, headers, body = await ask("/metrics", method=method)
        assert (status, json.loads(body)["error"]["code"]) == (405, "method_not_allowed")
    assert (await ask("/metrics/"))[0] == (await ask("/metrics/tollgate"))[0] == 404


async def test_an_unknown_api_path_is_a_json_404_and_another_is_a_page() -> None:
    status, headers, body = await ask("/api/v1/nothing")
    assert (status, headers["content-type"], headers["x-should-retry"]) == (404, "application/json", "false")
    assert json.loads(body)["error"] == {
        "message": "There is nothing at this URL. See /api/docs/ for what there is.",
        "type": "invalid_request_error",
        "param": None,
        "code": "not_found",
    }
    status, headers, _ = await ask("/nothing")
    assert (status, headers["content-type"]) == (404, "text/html; charset=utf-8")


async def test_a_wrong_host_is_json_under_the_api() -> None:
    status, _, body = await ask("/api/v1/nothing", headers={"host": "evil.example"})
    assert (status, json.loads(body)["error"]["code"]) == (400, "bad_request")


def test_every_answer_carries_a_fresh_request_id() -> None:
    ids = {Client().get("/api/v1/nothing").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


def test_a_page_gets_its_slash_and_an_api_path_keeps_its_body() -> None:
    assert Client().get("/admin").headers["location"] == "/admin/"
    assert Client().post("/api/docs", data={}).status_code == 404


def test_static_files_come_from_the_packages() -> None:
    response = Client().get("/static/unfold/css/styles.css")
    assert (response.status_code, response.headers["content-type"]) == (200, 'text/css; charset="utf-8"')
    assert len(response.content) == int(response.headers["content-length"]) > 1000


def test_garbage_collection_is_tuned_and_can_be_undone() -> None:
    before = gc.get_threshold()
    try:
        asgi.tune_interpreter()
        assert gc.get_threshold() == (50_000, 20, 50)
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


class Server:
    """`manage.py` in a process of its own, on SQLite in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        self.environment = {
            **kept,
            "TOLLGATE_ENV": "test",
            "TOLLGATE_DATA_DIR": str(folder),
            "PORT": str(self.port),
            "GRACE_PERIOD_S": "3",
        }

    def manage(self, *arguments: str, **more: str) -> "subprocess.Popen[str]":
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        return subprocess.Popen(
            command, env={**self.environment, **more}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait_until_up(self, process: "subprocess.Popen[str]") -> None:
        deadline = time.monotonic() + 40
        while not answers("127.0.0.1", self.port, "/health/live"):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_serve_refuses_unmigrated_serves_migrated_and_stops_cleanly(tmp_path: Path) -> None:
    server = Server(tmp_path)
    refused = server.manage("serve")
    output = refused.communicate(timeout=60)[0]
    assert refused.returncode == 1
    assert "unapplied migrations, the first is" in output
    assert "Run `manage.py migrate`" in output

    assert server.manage("migrate", "-v0").wait(120) == 0
    left_over = tmp_path / "metrics" / str(server.port) / "counter_1.db"  # of a server that ran here before
    left_over.parent.mkdir(parents=True)
    left_over.write_bytes(b"nothing that could be read")
    for workers in ("1", "2"):
        serving = server.manage("serve", WEB_WORKERS=workers)
        try:
            server.wait_until_up(serving)
            assert left_over.exists() == (workers == "1")
            second = server.manage("serve")
            assert f"Cannot listen on 127.0.0.1:{server.port}" in second.communicate(timeout=60)[0]
            assert second.returncode == 1
            serving.terminate()
            output = serving.communicate(timeout=20)[0]
            assert serving.returncode == 0, output
            assert "Traceback" not in output
        finally:
            serving.kill()
            serving.wait()
