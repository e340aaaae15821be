"""Hostile input on `/v1/messages` and where tokens are counted: always JSON in Anthropic's envelope, never a 5xx, and
a 4xx costs nothing. The values are in `hostile.py`. Half of them go to a vendor that gets the body as it is."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from llm.wire import messages_schema
from tests.journeys import hostile
from tests.journeys.world import ASK, Customer, Json, World

PATHS = ("/v1/messages", "/v1/messages/count_tokens")
SOUND: Json = {"model": "fakeai/m", "max_tokens": 50, "messages": ASK}
EXTRAS = ("power_level", "task_type", "priority", "config", "no_such")
FIELDS = tuple(dict.fromkeys((*messages_schema.CHECKS, *messages_schema.UNBOUNDED, *messages_schema.INSTEAD, *EXTRAS)))
_JSON = {"content-type": "application/json"}
_USER = '[{"role": "user", "content": [@]}]'
_SAID = '[{"role": "user", "content": "x"}, {"role": "assistant", "content": [@]}]'
_CACHE = {"type": "ephemeral"}
# Where in a body: the field, the object whose every key is tried, and the field's value around it.
NESTED: dict[str, tuple[str, Json, str]] = {
    "message": ("messages", {"role": "user", "content": "x", "no_such": 1}, "[@]"),
    "text": ("messages", {"type": "text", "text": "x", "cache_control": _CACHE, "citations": None}, _USER),
    "image": ("messages", {"type": "image", "source": {"type": "url", "url": "https://x/y"}}, _USER),
    "source": (
        "messages",
        {"type": "base64", "media_type": "image/png", "data": "eA==", "url": "https://x/y"},
        _USER.replace("@", '{"type": "image", "source": @}'),
    ),
    "tool result": (
        "messages",
        {"type": "tool_result", "tool_use_id": "t", "content": "x", "is_error": True, "cache_control": _CACHE},
        _USER,
    ),
    "in a tool result": (
        "messages",
        {"type": "text", "text": "x", "source": {}},
        _USER.replace("@", '{"type": "tool_result", "tool_use_id": "t", "content": [@]}'),
    ),
    "tool use": ("messages", {"type": "tool_use", "id": "t", "name": "f", "input": {}, "extra_content": {}}, _SAID),
    "thinking": ("messages", {"type": "thinking", "thinking": "x", "signature": "s"}, _SAID),
    "redacted": ("messages", {"type": "redacted_thinking", "data": "x"}, _SAID),
    "system": ("system", {"type": "text", "text": "x", "cache_control": _CACHE}, "[@]"),
    "tool": (
        "tools",
        {
            "name": "f",
            "description": "d",
            "input_schema": {},
            "type": "custom",
            "strict": True,
            "cache_control": _CACHE,
        },
        "[@]",
    ),
    "schema": (
        "tools",
        {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
        '[{"name": "f", "strict": true, "input_schema": @}]',
    ),
    "tool choice": ("tool_choice", {"type": "tool", "name": "f", "disable_parallel_tool_use": True}, "@"),
    "thinking wanted": ("thinking", {"type": "enabled", "budget_tokens": 2_000}, "@"),
    "output": ("output_config", {"effort": "low", "format": {"type": "json_schema", "schema": {}}}, "@"),
    "format": ("output_config", {"type": "json_schema", "schema": {}}, '{"format": @}'),
    "metadata": ("metadata", {"user_id": "u", "no_such": 1}, "@"),
    "edits": ("context_management", {"type": "clear_tool_uses_20250919"}, '{"edits": [@]}'),
}


@pytest.fixture(scope="module")
def teller(stage: World) -> Iterator[tuple[httpx.Client, Customer]]:
    """One connection to the gateway, as one tenant."""
    customer = stage.customer()
    with customer.http as client:
        yield client, customer


def judged(answer: httpx.Response) -> str:
    """What is wrong with an answer; nothing if it is as it should be."""
    kind = answer.headers.get("content-type", "")
    if answer.status_code == 200 and kind.startswith("text/event-stream"):
        return ""
    if answer.status_code >= 500 or not kind.startswith("application/json"):
        return f"{answer.status_code} {kind} {answer.text[:200]}"
    if answer.status_code >= 400:
        body: Any = answer.json()
        if list(body) != ["type", "error", "request_id"] or set(body["error"]) != {"type", "message"}:
            return f"no envelope: {answer.text[:200]}"
    return ""


def tried(client: httpx.Client, bodies: Iterator[tuple[str, bytes]]) -> list[str]:
    """Complaints about the answers to these bodies."""
    wrong = []
    for name, body in bodies:
        answer = client.post(PATHS[0], content=body, headers=_JSON)
        if complaint := judged(answer):
            wrong.append(f"{name}: {complaint}")
    return wrong


MODELS = pytest.mark.parametrize("model", ["fakeai/m", "fakethropic/m"])


@MODELS
def test_a_hostile_value_in_any_field_is_refused_or_harmless(
    world: World, teller: tuple[httpx.Client, Customer], model: str
) -> None:
    sound = SOUND | {"model": model}
    bodies = (
        (f"{field} {name}", hostile.object_with(sound, field, source))
        for position, field in enumerate(FIELDS)
        for name, source in hostile.values_for(position, thin=True).items()
    )
    assert tried(teller[0], bodies) == []


@MODELS
@pytest.mark.parametrize("inside", NESTED)
def test_a_hostile_value_deep_inside_is_refused_or_harmless(
    world: World, teller: tuple[httpx.Client, Customer], inside: str, model: str
) -> None:
    field, base, around = NESTED[inside]
    sound = SOUND | {"model": model}
    bodies = (
        (f"{key} {name}", hostile.object_with(sound, field, around.replace("@", inner)))
        for position, key in enumerate(base)
        for name, source in hostile.values_for(position, thin=True).items()
        for inner in [hostile.object_with(base, key, source).decode()]
    )
    assert tried(teller[0], bodies) == []


def test_a_body_that_is_no_sound_object_is_refused_and_costs_nothing(
    world: World, teller: tuple[httpx.Client, Customer]
) -> None:
    client, customer = teller
    before = len(customer.rows())
    wrong = []
    for path, (name, body) in itertools.product(PATHS, {**hostile.BODIES, **hostile.ODD_BODIES}.items()):
        answer = client.post(path, content=body, headers=_JSON)
        complaint = judged(answer)
        if complaint or answer.status_code != 400:
            wrong.append(f"{path} {name}: {complaint or answer.status_code}")
    for name, headers in hostile.CONTENT_TYPES.items():
        answer = client.post(PATHS[0], content=json.dumps(SOUND).encode(), headers=headers)
        complaint = judged(answer)
        if complaint or answer.status_code not in {400, 415}:
            wrong.append(f"content type {name}: {complaint or answer.status_code}")
    assert wrong == []
    assert len(customer.rows()) == before
    assert world.fake.bill() == []


def test_a_hostile_query_never_breaks_the_list_of_models(world: World, teller: tuple[httpx.Client, Customer]) -> None:
    client, _ = teller
    wrong = []
    for name in ("limit", "after_id", "before_id"):
        for kind, value in hostile.queries_for(0).items():
            answer = client.get(f"/v1/models?{name}={value}", headers={"anthropic-version": "2023-06-01"})
            if complaint := judged(answer):
                wrong.append(f"{name} {kind}: {complaint}")
    assert wrong == []
