"""Hostile input at `/v1/responses`: a 4xx in the envelope of errors or a harmless 200; see `hostile.py`."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from llm.wire import chat_schema, responses_schema
from tests.journeys import hostile
from tests.journeys.test_hostile_input import _JSON, _bytes, contents, judged_wire
from tests.journeys.world import World

PATH = "/v1/responses"
SOUND = {"model": "fakeai/m", "input": "Say hello to the world"}
FIELDS = (
    *responses_schema.CHECKS,
    *responses_schema.UNSUPPORTED,
    *responses_schema.MOVED,
    *chat_schema.UNBOUNDED,
    *("power_level", "task_type", "priority", "config", "no_such"),
)
_CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc", "status": "completed"}
_TEXT = {"type": "input_text", "text": "x", "image_url": "https://x/y", "no_such": 1}
# What is nested: the field it is in, a sound object, and where it stands in that field.
NESTED: dict[str, tuple[str, dict[str, Any], str]] = {
    "message": ("input", {"type": "message", "role": "user", "content": "x", "id": "m", "status": "s"}, "[@]"),
    "answer": ("input", {"role": "assistant", "content": "x", "phase": None}, '[@, {"role": "user", "content": "x"}]'),
    "content part": ("input", _TEXT, '[{"role": "user", "content": [@]}]'),
    "answer part": ("input", {"type": "output_text", "text": "x", "annotations": [], "logprobs": [], "refusal": "x"},
                    '[{"role": "assistant", "content": [@]}, {"role": "user", "content": "x"}]'),
    "image": ("input", {"type": "input_image", "image_url": "https://x/y", "detail": "low", "file_id": None},
              '[{"role": "user", "content": [@]}]'),
    "file": ("input", {"type": "input_file", "file_data": "data:application/pdf;base64,AA", "filename": "a"},
             '[{"role": "user", "content": [@]}]'),
    "call": ("input", _CALL, "[@]"),
    "call output": ("input", {"type": "function_call_output", "call_id": "c", "output": "x"}, "[@]"),
    "reasoning": ("input", {"type": "reasoning", "id": "rs", "summary": [], "content": None, "encrypted_content": None},
                  '[{"role": "user", "content": "x"}, @]'),
    "tool": ("tools", {"type": "function", "name": "f", "parameters": {}, "strict": False, "description": "d",
                       "format": None, "defer_loading": None}, "[@]"),
    "tool choice": ("tool_choice", {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "f"}]}, "@"),
    "format": ("text", {"type": "json_schema", "name": "n", "schema": {}, "strict": True}, '{"format": @}'),
    "reasoning effort": ("reasoning", {"effort": "low", "summary": "auto", "mode": None, "context": None}, "@"),
}  # fmt: skip


@pytest.fixture(scope="module")
def client(stage: World) -> Iterator[httpx.Client]:
    with stage.customer().http as client:
        yield client


def test_a_hostile_value_in_any_field_is_refused_by_name_or_harmless(world: World, client: httpx.Client) -> None:
    wrong = []
    for position, field in enumerate(dict.fromkeys(FIELDS)):
        for name, source in hostile.values_for(position).items():
            answer = client.post(PATH, content=hostile.object_with(SOUND, field, source), headers=_JSON)
            if complaint := judged_wire(answer, field=field):
                wrong.append(f"{field} {name}: {complaint}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:60])


@pytest.mark.parametrize("model", ["fakeai/m", "fakethropic/m"])
@pytest.mark.parametrize("inside", NESTED)
def test_a_hostile_value_deep_inside_is_refused_by_name_or_harmless(
    world: World, client: httpx.Client, inside: str, model: str
) -> None:
    field, base, template = NESTED[inside]
    tools = {} if inside == "tool" else {"tools": [{"type": "function", "name": "f"}]}
    wrong = []
    for position, key in enumerate(base, start=1):
        for name, source in hostile.values_for(position).items():
            inner = hostile.object_with(base, key, source).decode()
            body = hostile.object_with(SOUND | tools | {"model": model}, field, template.replace("@", inner))
            answer = client.post(PATH, content=body, headers=_JSON)
            if complaint := judged_wire(answer):
                wrong.append(f"{inside} {key} {name}: {complaint}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:60])


SEALED: dict[str, tuple[list[dict[str, Any]], int]] = {
    "nested lists": ([{"type": "thinking", "signature": "s", "thinking": [[[]]]}], 400),
    "a hidden cache write": ([{"type": "thinking", "signature": "s", "thinking": "x", "cache_control": {}}], 400),
    "a tool": ([{"type": "tool_use", "id": "x", "name": "f", "input": {}}], 400),
    "no type": ([{"signature": "s"}], 200),
    "many": ([{"type": "redacted_thinking", "data": "d"}] * 1_000, 200),
}


@pytest.mark.parametrize("model", ["fakeai/m", "fakethropic/m"])
@pytest.mark.parametrize("name", SEALED)
def test_forged_reasoning_is_refused_or_harmless(world: World, client: httpx.Client, name: str, model: str) -> None:
    blocks, status = SEALED[name]
    content = base64.b64encode(json.dumps({"thinking_blocks": blocks}).encode()).decode()
    item = {"type": "reasoning", "summary": [], "encrypted_content": content}
    answer = client.post(PATH, json=SOUND | {"model": model, "input": [{"role": "user", "content": "x"}, item]})
    assert judged_wire(answer) == ""
    assert answer.status_code == status


def test_a_body_that_is_no_sound_object_is_refused_and_costs_nothing(world: World, client: httpx.Client) -> None:
    before = contents()
    wrong = []
    for name, body in {**hostile.BODIES, **hostile.ODD_BODIES}.items():
        answer = client.post(PATH, content=body, headers=_JSON)
        if complaint := judged_wire(answer) or ("" if answer.status_code == 400 else str(answer.status_code)):
            wrong.append(f"{name}: {complaint}")
    for name, headers in hostile.CONTENT_TYPES.items():
        answer = client.post(PATH, content=json.dumps(SOUND).encode(), headers=headers)
        if complaint := judged_wire(answer) or ("" if answer.status_code in {400, 415} else str(answer.status_code)):
            wrong.append(f"content type {name}: {complaint}")
    assert not wrong, "\n".join(wrong)
    assert world.fake.bill() == []
    assert contents() == before


def test_hostile_headers_are_refused_or_harmless(world: World, client: httpx.Client) -> None:
    wrong = []
    for table, wanted in ((hostile.HEADERS, 400), (hostile.HARMLESS_HEADERS, 200)):
        for name, headers in table.items():
            answer = client.post(PATH, json=SOUND, headers=_bytes(headers))
            if complaint := judged_wire(answer) or ("" if answer.status_code == wanted else answer.text[:200]):
                wrong.append(f"{name}: {complaint}")
    assert not wrong, "\n".join(wrong)
