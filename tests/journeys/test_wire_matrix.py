"""Who gets what on the wires of `/v1` and at the completions of `/api/v1`, over real HTTP: path x method x actor."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm.wire import app
from tenants import auth
from tests.journeys.world import ASK, World
from tests.tenants.crowd import NO_KEY, STAFF, Crowd, gather

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
CHAT = {"model": "openai/gpt-4o", "messages": ASK}
MESSAGES = CHAT | {"max_tokens": 100}
# A sound body for those that take no chat.
BODIES = {
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": MESSAGES,
    "/v1/responses": {"model": "openai/gpt-4o", "input": "Say hello"},
    "/v1/embeddings": {"model": "openai/gpt-4o", "input": "Say hello"},
    "/v1/completions": {"model": "openai/gpt-4o", "prompt": "Say hello"},
}
# Path: (the scope it asks for, its one method, the status on success).
WIRES = {
    "/v1/chat/completions": ("completions", "POST", 200),
    "/v1/chat/completions/": ("completions", "POST", 200),
    "/api/v1/llm/chat/completions": ("completions", "POST", 200),
    "/api/v1/llm/chat/completions/": ("completions", "POST", 200),
    "/v1/messages": ("completions", "POST", 200),
    "/v1/messages/": ("completions", "POST", 200),
    "/v1/messages/count_tokens": ("completions", "POST", 200),
    "/v1/messages/count_tokens/": ("completions", "POST", 200),
    "/v1/responses": ("completions", "POST", 200),
    "/v1/responses/": ("completions", "POST", 200),
    "/v1/embeddings": ("completions", "POST", 400),  # the model is for chats
    "/v1/completions": ("completions", "POST", 400),
    "/v1/models": ("", "GET", 200),
    "/v1/models/": ("", "GET", 200),
    "/v1/models/openai/gpt-4o": ("", "GET", 200),
    "/v1/models/openai%2Fgpt-4o": ("", "GET", 200),
    "/v1/models/off/hidden": ("", "GET", 404),
    "/v1/models/config/canary-globex-llmconfig-name": ("", "GET", 200),  # of tenant B; of nobody else
    "/v1/models/config/nobody": ("", "GET", 404),
}
NOWHERE = ("/v1", "/v1/", "/v1/nowhere", "/v1/modelsx", "/v1/../admin/", "/v1/%2e%2e/admin/", "/v1//chat/completions")


@pytest.fixture(scope="module")
def crowd(stage: World) -> Crowd:
    made = gather(stage.fake.base_url, levels=False)
    stage.refresh()
    auth.CALLERS.clear()
    return made


def test_every_path_the_data_path_knows_is_in_the_table() -> None:
    known = set(re.findall(r'"(/v1/[a-z/]+)"', Path(app.__file__).read_text()))
    assert known
    assert {path for path in known if not any(row.startswith(path) for row in WIRES)} == set()


def envelope(path: str) -> set[str]:
    return {"type", "error", "request_id"} if path.startswith("/v1/messages") else {"error"}


def expected(path: str, method: str, actor: str) -> int:
    scope, only, status = WIRES[path]
    drf = path.startswith("/api/")
    allowed = method == only or (method == "HEAD" and only == "GET")
    if not allowed and not drf:
        return 405  # the data path looks at the method first
    if actor in NO_KEY:
        return 401
    if actor in STAFF or actor == "suspended tenant" or (scope and actor == "read-only key"):
        return 403
    if not allowed:
        return 405
    return 404 if "globex" in path and actor != "tenant B" else status


def test_the_wires_serve_whom_they_should_and_say_no_to_the_rest(world: World, crowd: Crowd) -> None:
    wrong: list[str] = []
    bodies: dict[tuple[str, str, str], str] = {}
    with httpx.Client(base_url=world.gateway.url, timeout=20, verify=False, trust_env=False) as client:
        for path in WIRES:
            for method in METHODS:
                for actor, secret in crowd.actors.items():
                    answer = _ask(client, method, path, secret)
                    cell = f"{method} {path} as {actor}"
                    # A refusal may repeat what was asked for.
                    bodies[path, method, actor] = answer.text.replace(path, "PATH")
                    if answer.status_code != (wanted := expected(path, method, actor)):
                        wrong.append(f"{cell}: {answer.status_code}, not {wanted}: {answer.text[:200]}")
                    if "html" in answer.headers["content-type"] or "x-request-id" not in answer.headers:
                        wrong.append(f"{cell}: {answer.headers}")
                    if answer.status_code >= 400 and method != "HEAD" and set(answer.json()) != envelope(path):
                        wrong.append(f"{cell}: no envelope: {answer.text[:200]}")
                    shown = answer.text.replace(path, "PATH") + str(answer.headers)
                    wrong += [f"{cell} shows {mark}" for mark in _forbidden(crowd, actor) if mark in shown]
    for method in METHODS:
        theirs, nobodys = "/v1/models/config/canary-globex-llmconfig-name", "/v1/models/config/nobody"
        for actor in set(crowd.actors) - {"tenant B"}:
            if bodies[theirs, method, actor] != bodies[nobodys, method, actor]:
                wrong.append(f"{method} as {actor}: another's config differs from a missing one")
    assert not wrong, "\n".join(wrong[:40])


@pytest.mark.parametrize("path", NOWHERE)
def test_elsewhere_under_v1_is_a_json_404_for_everybody(world: World, crowd: Crowd, path: str) -> None:
    with httpx.Client(base_url=world.gateway.url, timeout=20, verify=False, trust_env=False) as client:
        for secret in ("", crowd.actors["tenant A"], crowd.actors["superuser"]):
            for method in METHODS:
                answer = client.send(
                    client.build_request(method, httpx.URL(world.gateway.url + path), headers=_key(secret))
                )
                if answer.request.url.path.startswith("/v1"):
                    assert answer.status_code == 404
                    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("header", ["X-LLM-Config", "model"])
def test_another_tenants_config_cannot_be_named_on_the_wire(world: World, crowd: Crowd, header: str) -> None:
    answers = []
    for name in ("canary-globex-llmconfig-name", "canary-gl0bex-llmconfig-name"):
        headers = {header: name} if header != "model" else {}
        body = CHAT if header != "model" else CHAT | {"model": f"config/{name}"}
        answer = httpx.post(
            f"{world.gateway.url}/v1/chat/completions", json=body, headers=_key(crowd.actors["tenant A"]) | headers
        )
        answers.append((answer.status_code, answer.text.replace(name, "NAME")))
    assert answers[0] == answers[1]
    assert answers[0][0] in {400, 404}
    assert world.fake.bill() == []


def test_an_idempotency_key_of_one_tenant_replays_nothing_for_another(world: World, crowd: Crowd) -> None:
    url = f"{world.gateway.url}/v1/chat/completions"
    ids = {
        httpx.post(url, json=CHAT, headers=_key(crowd.actors[who]) | {"Idempotency-Key": "same"}).headers[
            "x-request-id"
        ]
        for who in ("tenant A", "tenant B")
    }
    assert len(ids) == 2
    assert len(world.fake.bill()) == 2


def _ask(client: httpx.Client, method: str, path: str, secret: str) -> httpx.Response:
    body: Any = BODIES.get(path.rstrip("/"), CHAT) if method in {"POST", "PUT", "PATCH"} else None
    return client.request(method, path, json=body, headers=_key(secret))


def _key(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"} if secret else {}


def _forbidden(crowd: Crowd, actor: str) -> list[str]:
    mine = {"tenant A": crowd.acme, "read-only key": crowd.acme, "tenant B": crowd.globex}.get(actor)
    return [mark for house in (crowd.acme, crowd.globex) if house is not mine for mark in house.marks]
