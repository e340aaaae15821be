"""A chat request as Gemini's: exact bodies, addresses and headers, and what cannot be said."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from llm.calls import Call
from llm.errors import InvalidRequest, UpstreamFailed
from llm.fields import Secret
from llm.providers.google import ADAPTER
from tests.llm.test_provider_registry import KEY, NOW, a_call

HI = {"role": "user", "content": "Hi"}
PNG = "data:image/png;base64,iVBORw0KGgo="
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "Does f",
        "parameters": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    },
}
OTHER = {"type": "function", "function": {"name": "g"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": "b"}'}}
BUDGETED: dict[str, Any] = {"thinking": "budget"}


def both(messages: list[Any] | None = None, *, how: dict[str, Any] | None = None, **body: Any) -> Any:
    given = {"model": "x", "messages": [HI] if messages is None else messages} | body
    before = orjson.dumps(given)
    upstream = ADAPTER.build(a_call(given, dialect="google", **(how or {})))
    assert orjson.dumps(given) == before
    return orjson.loads(upstream.body), upstream.dropped


def sent(messages: list[Any] | None = None, **body: Any) -> Any:
    return both(messages, **body)[0]


def config(*, quirks: dict[str, Any] | None = None, how: dict[str, Any] | None = None, **body: Any) -> Any:
    found = both(how=(how or {}) | {"quirks": quirks}, **body)[0]["generationConfig"]
    assert found.pop("maxOutputTokens") == 1000
    return found


def contents(*messages: Any, quirks: dict[str, Any] | None = None) -> Any:
    return both(list(messages), how={"quirks": quirks or BUDGETED})[0]["contents"]


# Addresses and keys


def test_a_plain_request_goes_out_exactly_so() -> None:
    base = "https://generativelanguage.googleapis.com/v1beta/"
    upstream = ADAPTER.build(a_call(dialect="google", auth_type="api_key", base_url=base, temperature="0.7"))
    assert upstream.url == "https://generativelanguage.googleapis.com/v1beta/models/m-1:generateContent"
    assert upstream.headers == {
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "x-goog-api-key": KEY,
    }
    assert upstream.dropped == ()
    assert orjson.loads(upstream.body) == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "generationConfig": {"maxOutputTokens": 1000, "temperature": 0.7},
    }


def test_a_stream_is_another_method_and_asked_for_as_events() -> None:
    upstream = ADAPTER.build(a_call(dialect="google", stream=True))
    assert upstream.url == "https://vendor.example/v1/models/m-1:streamGenerateContent?alt=sse"
    assert upstream.headers["accept"] == "text/event-stream"
    assert "stream" not in orjson.loads(upstream.body)


def vertex(base_url: str, *, own: str = "acme-1", key_source: str = "platform", **quirks: Any) -> Call:
    call = a_call(dialect="google", auth_type="oauth", base_url=base_url, key_source=key_source, quirks=quirks)
    credential = call.target.credential
    assert credential is not None
    return replace(call, target=replace(call.target, credential=replace(credential, project=own)))


@pytest.mark.parametrize(
    ("host", "location"),
    [
        ("europe-west4-aiplatform.googleapis.com", "europe-west4"),
        ("aiplatform.googleapis.com", "global"),
        ("aiplatform.eu.rep.googleapis.com", "eu"),
    ],
)
def test_vertex_has_project_and_location_in_its_paths_and_the_host_tells_the_location(host: str, location: str) -> None:
    upstream = ADAPTER.build(vertex(f"https://{host}/v1"))
    assert upstream.url == (
        f"https://{host}/v1/projects/acme-1/locations/{location}/publishers/google/models/m-1:generateContent"
    )
    assert upstream.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("own", "key_source", "said", "project"),
    [
        ("acme-1", "platform", "", "acme-1"),
        ("acme-1", "platform", "ours-2", "ours-2"),
        ("acme-1", "byok", "ours-2", "acme-1"),
        ("", "byok", "ours-2", "ours-2"),
    ],
)
def test_staff_name_the_project_but_a_tenants_own_key_goes_to_its_own(
    own: str, key_source: str, said: str, project: str
) -> None:
    call = vertex("https://x.example/v1", own=own, key_source=key_source, project=said, location="us-central1")
    assert f"/projects/{project}/locations/us-central1/publishers/" in ADAPTER.build(call).url


@pytest.mark.parametrize("own", ["", "../../evil", "a/b", "A", "x" * 200, "a?b"])
def test_a_project_that_is_none_goes_nowhere(own: str) -> None:
    with pytest.raises(UpstreamFailed, match="not set up completely"):
        ADAPTER.build(vertex("https://aiplatform.googleapis.com/v1", own=own))


def test_vertex_without_a_known_location_goes_nowhere() -> None:
    with pytest.raises(UpstreamFailed, match="location"):
        ADAPTER.build(vertex("https://proxy.example/v1"))


def test_vertex_with_a_key_needs_no_project() -> None:
    call = a_call(dialect="google", auth_type="api_key", base_url="https://aiplatform.googleapis.com/v1",
                  quirks={"vertex": True})  # fmt: skip
    assert ADAPTER.build(call).url == (
        "https://aiplatform.googleapis.com/v1/publishers/google/models/m-1:generateContent"
    )


@pytest.mark.parametrize(
    ("auth_type", "url"),
    [("api_key", "https://vendor.example/v1/models"),
     ("oauth", "https://vendor.example/v1beta1/publishers/google/models")],
)  # fmt: skip
def test_the_list_of_models_is_the_cheapest_true_call(auth_type: str, url: str) -> None:
    provider = a_call(dialect="google", auth_type=auth_type).target.model.provider
    asked = ADAPTER.models_request(provider, Secret(KEY), now=NOW)
    assert (asked.url, KEY in str(asked.headers.values())) == (url, True)
    assert ADAPTER.models_request(provider, None, now=NOW, path="?pageSize=5").url == f"{url}?pageSize=5"


# Messages


def test_system_and_developer_messages_are_the_instruction_wherever_they_stand() -> None:
    messages = [
        {"role": "system", "content": "A"},
        HI,
        {"role": "developer", "content": [{"type": "text", "text": "B"}]},
    ]
    body = sent(messages)
    assert body["systemInstruction"] == {"parts": [{"text": "A"}, {"text": "B"}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "Hi"}]}]
    alone = sent([{"role": "system", "content": "A"}])
    assert alone["contents"] == [{"role": "user", "parts": [{"text": "A"}]}]
    assert "systemInstruction" not in alone


def test_images_go_inline_or_by_address_and_documents_inline() -> None:
    pdf = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}
    image = {"type": "image_url", "image_url": {"url": PNG}}
    linked = {"type": "image_url", "image_url": {"url": "https://x.example/a.webp?b=c"}}
    unclear = {"type": "image_url", "image_url": {"url": "https://x.example/picture"}}
    assert contents({"role": "user", "content": [image, linked, unclear, pdf]})[0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
        {"fileData": {"fileUri": "https://x.example/a.webp?b=c", "mimeType": "image/webp"}},
        {"fileData": {"fileUri": "https://x.example/picture", "mimeType": "image/jpeg"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
    ]


def test_a_conversation_with_parallel_tools_alternates_and_names_each_result() -> None:
    calls = [CALL, CALL | {"id": "call_2", "function": {"name": "g", "arguments": ""}}]
    turns = contents(
        {"role": "assistant", "content": "Before"},
        HI,
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_2", "content": "plain words"},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"b": 1}'},
        {"role": "user", "content": "And?"},
    )
    assert turns == [
        {"role": "user", "parts": [{"text": "."}]},
        {"role": "model", "parts": [{"text": "Before"}]},
        {"role": "user", "parts": [{"text": "Hi"}]},
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "call_1", "name": "f", "args": {"a": "b"}}},
                {"functionCall": {"id": "call_2", "name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "call_2", "name": "g", "response": {"output": "plain words"}}},
                {"functionResponse": {"id": "call_1", "name": "f", "response": {"b": 1}}},
                {"text": "And?"},
            ],
        },
    ]


def test_a_failed_tool_an_image_as_a_result_and_broken_arguments() -> None:
    broken = CALL | {"function": {"name": "f", "arguments": "{a"}}
    parts = [{"type": "text", "text": "no"}, {"type": "image_url", "image_url": {"url": PNG}}]
    turns = contents(
        HI,
        {"role": "assistant", "tool_calls": [broken]},
        {"role": "tool", "tool_call_id": "call_1", "is_error": True, "content": parts},
    )
    assert turns[1]["parts"] == [{"functionCall": {"id": "call_1", "name": "f", "args": {"arguments": "{a"}}}]
    assert turns[2]["parts"] == [
        {"functionResponse": {"id": "call_1", "name": "f", "response": {"error": "no"}}},
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
    ]


# Thought signatures


def signed(signature: str) -> dict[str, Any]:
    return {"extra_content": {"google": {"thought_signature": signature}}}


def test_signatures_go_back_where_they_came_from() -> None:
    turns = contents(
        HI,
        {"role": "assistant", "content": "Let me see", "tool_calls": [CALL | signed("sigA"), CALL | {"id": "call_2"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "x"},
        {"role": "assistant", "content": "Done"} | signed("sigB"),
        quirks={"thinking": "level"},
    )
    text, first, second = turns[1]["parts"]
    assert text == {"text": "Let me see"}
    assert first["thoughtSignature"] == "sigA"
    assert "thoughtSignature" not in second
    assert turns[3]["parts"] == [{"text": "Done", "thoughtSignature": "sigB"}]


@pytest.mark.parametrize(
    ("quirks", "signature"), [({"thinking": "level"}, "skip_thought_signature_validator"), (BUDGETED, None)]
)
def test_a_call_without_a_signature_says_so_where_one_is_asked_for(
    quirks: dict[str, Any], signature: str | None
) -> None:
    block = {"type": "thinking", "thinking": "Hm", "signature": "another vendor's"}
    said = {"role": "assistant", "tool_calls": [CALL, CALL | {"id": "call_2"}], "thinking_blocks": [block]}
    turns = contents(HI, said, {"role": "tool", "tool_call_id": "call_1", "content": "x"}, quirks=quirks)
    assert [part.get("thoughtSignature") for part in turns[1]["parts"]] == [signature, None]


# Tools


def test_tools_are_declared_with_their_schemas_as_json_schema() -> None:
    assert sent(tools=[TOOL, OTHER])["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "f",
                    "description": "Does f",
                    "parametersJsonSchema": {
                        "type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"],
                    },
                },
                {"name": "g"},
            ]
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("choice", "calling", "left"),
    [
        (None, None, ["f", "g"]),
        ("auto", {"mode": "AUTO"}, ["f", "g"]),
        ("none", {"mode": "NONE"}, ["f", "g"]),
        ("required", {"mode": "ANY"}, ["f", "g"]),
        ({"type": "function", "function": {"name": "g"}}, {"mode": "ANY", "allowedFunctionNames": ["g"]}, ["f", "g"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [OTHER]}},
         {"mode": "ANY", "allowedFunctionNames": ["g"]}, ["f", "g"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [OTHER]}}, {"mode": "AUTO"}, ["g"]),
    ],
)  # fmt: skip
def test_tool_choices(choice: Any, calling: Any, left: list[str]) -> None:
    body = sent(tools=[TOOL, OTHER], tool_choice=choice)
    assert body.get("toolConfig", {}).get("functionCallingConfig") == calling
    assert [one["name"] for one in body["tools"][0]["functionDeclarations"]] == left


# What cannot be said


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
         "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/a.png"}}]}]},
         "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
         "messages[0].content[0]"),
        ({"messages": [HI, {"role": "tool", "tool_call_id": "nobody", "content": "x"}]}, "messages[1].tool_call_id"),
        ({"messages": [HI, {"role": "assistant", "function_call": {"name": "f"}}]}, "messages[1].function_call"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0]"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "h"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"n": 9}, "n"),
        ({"stop": ["a", "b", "c", "d", "e", "f"]}, "stop"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"thinking": "hard"}, "thinking"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages"),
    ],
)  # fmt: skip
def test_what_the_dialect_cannot_express_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    given = {"model": "x", "messages": [HI]} | body
    with pytest.raises(InvalidRequest) as caught:
        ADAPTER.build(a_call(given, dialect="google"))
    assert caught.value.param == param
