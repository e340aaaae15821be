"""What is sent to Bedrock: Converse requests, whole, and whose key they carry."""

from typing import Any

import orjson
import pytest

from llm.errors import ByokRejected, InvalidRequest, UpstreamAuthFailed
from llm.fields import Secret
from llm.providers.bedrock import ADAPTER
from tests.llm.test_provider_registry import KEY, NOW, a_call

HI = [{"role": "user", "content": "Hi"}]
CLAUDE = "global.anthropic.claude-sonnet-4-6"
NOVA = "global.amazon.nova-2-lite-v1:0"
GPT_OSS = "openai.gpt-oss-120b-1:0"
LLAMA = "meta.llama3-3-70b-instruct-v1:0"
RUNTIME = "https://bedrock-runtime.eu-central-1.amazonaws.com"
ADD = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
MUL = {"type": "function", "function": {"name": "mul"}}
EMPTY = {"json": {"type": "object", "properties": {}}}
PNG = "data:image/png;base64,iVBORw0KGgo="
AWS_KEY = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def sent(body: dict[str, Any], model: str = CLAUDE, **how: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    upstream = ADAPTER.build(a_call({"model": "x", "messages": HI} | body, dialect="bedrock", model_id=model, **how))
    return orjson.loads(upstream.body), upstream.dropped


def refused(body: dict[str, Any], model: str = CLAUDE, **how: Any) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        sent(body, model, **how)
    return caught.value.param


# Where to, and whose key


def test_a_plain_request_goes_out_byte_for_byte() -> None:
    upstream = ADAPTER.build(a_call(dialect="bedrock", model_id=CLAUDE, base_url=RUNTIME + "/"))
    assert upstream.url == f"{RUNTIME}/model/{CLAUDE}/converse"
    assert upstream.headers == {
        "content-type": "application/json",
        "authorization": f"Bearer {KEY}",
        "accept": "application/json",
        "accept-encoding": "identity",
    }
    assert upstream.body == (
        b'{"messages":[{"role":"user","content":[{"text":"Hi"}]}],"inferenceConfig":{"maxTokens":1000}}'
    )
    assert upstream.dropped == ()


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("amazon.nova-pro-v1:0", "amazon.nova-pro-v1%3A0"),
        (
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2",
            "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fa1b2",
        ),
        ("../x?y#z", "..%2Fx%3Fy%23z"),
    ],
)
def test_a_model_id_is_one_piece_of_the_path(model: str, path: str) -> None:
    upstream = ADAPTER.build(a_call(dialect="bedrock", model_id=model, base_url=RUNTIME, stream=True))
    assert upstream.url == f"{RUNTIME}/model/{path}/converse-stream"
    assert upstream.headers["accept"] == "application/vnd.amazon.eventstream"


def test_an_access_key_signs_the_request_at_the_moment_of_the_attempt() -> None:
    call = a_call(dialect="bedrock", model_id=CLAUDE, base_url=RUNTIME, key=AWS_KEY)
    upstream = ADAPTER.build(call)
    assert upstream.headers["x-amz-date"] == NOW.strftime("%Y%m%dT%H%M%SZ")
    assert upstream.headers["authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-central-1/bedrock/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, Signature="
    )
    assert not any("wJalr" in value for value in upstream.headers.values())


def test_the_region_is_the_hosts_unless_a_quirk_says_another() -> None:
    hosts = {
        "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com": "us-gov-west-1",
        "https://vpce-1a-2b.bedrock-runtime.us-east-2.vpce.amazonaws.com": "us-east-2",
        "https://bedrock-runtime.cn-north-1.amazonaws.com.cn": "cn-north-1",
    }
    for url, region in hosts.items():
        headers = ADAPTER.build(a_call(dialect="bedrock", base_url=url, key=AWS_KEY)).headers
        assert f"/{region}/bedrock/" in headers["authorization"]
    private = {"dialect": "bedrock", "base_url": "http://10.0.0.1:8080", "key": AWS_KEY}
    assert "/us-west-2/" in ADAPTER.build(a_call(**private, quirks={"region": "us-west-2"})).headers["authorization"]
    with pytest.raises(UpstreamAuthFailed):
        ADAPTER.build(a_call(**private))


@pytest.mark.parametrize(("source", "error"), [("platform", UpstreamAuthFailed), ("byok", ByokRejected)])
def test_half_an_access_key_is_a_refused_key_and_never_quoted(source: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        ADAPTER.build(a_call(dialect="bedrock", base_url=RUNTIME, key="AKIDEXAMPLE:", key_source=source))
    assert "AKID" not in str(caught.value)


def test_keys_are_checked_by_listing_models_where_that_is_done() -> None:
    provider = a_call(dialect="bedrock", base_url=RUNTIME).target.model.provider
    asked = ADAPTER.models_request(provider, Secret(KEY), now=NOW)
    assert (asked.url, asked.headers) == (
        "https://bedrock.eu-central-1.amazonaws.com/foundation-models",
        {"authorization": f"Bearer {KEY}"},
    )
    signed = ADAPTER.models_request(provider, Secret(AWS_KEY), now=NOW)
    assert "SignedHeaders=host;x-amz-date," in signed.headers["authorization"]
    with pytest.raises(ValueError, match="incomplete"):
        ADAPTER.models_request(provider, Secret("{}"), now=NOW)
    assert ADAPTER.models_request(provider, None, now=NOW).headers == {}


# Messages


def test_system_and_developer_messages_are_the_system_prompt() -> None:
    body, _ = sent({"messages": [{"role": "system", "content": "A"}, *HI, {"role": "developer", "content": "B"}]})
    assert body["system"] == [{"text": "A"}, {"text": "B"}]
    assert body["messages"] == [{"role": "user", "content": [{"text": "Hi"}]}]


def test_images_and_documents_are_their_bytes() -> None:
    pdf = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a_b  (1).pdf"}}
    parts = [{"type": "image_url", "image_url": {"url": PNG}}, pdf, pdf]
    body, _ = sent({"messages": [{"role": "user", "content": parts}]})
    assert body["messages"][0]["content"] == [
        {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}},
        {"document": {"format": "pdf", "name": "a b (1) pdf", "source": {"bytes": "JVBERi0="}}},
        {"document": {"format": "pdf", "name": "a b (1) pdf 2", "source": {"bytes": "JVBERi0="}}},
        {"text": "."},
    ]


@pytest.mark.parametrize(
    ("part", "where"),
    [
        ({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}, "messages[1].content[1]"),
        ({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AAAA"}}, "messages[1].content[1]"),
        ({"type": "search_result", "source": "x"}, "messages[1].content[1]"),
        ({"type": "document", "source": {"type": "url", "url": "https://example.org"}}, "messages[1].content[1]"),
        ({"type": "input_audio", "input_audio": {}}, "messages[1].content[1]"),
    ],
)
def test_parts_that_cannot_be_expressed_are_named(part: dict[str, Any], where: str) -> None:
    messages = [{"role": "system", "content": "A"}, {"role": "user", "content": [{"type": "text", "text": "x"}, part]}]
    assert refused({"messages": messages}) == where


def test_tool_calls_and_their_results_travel_both_ways() -> None:
    long = "call_" + "x" * 200
    use = [
        {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
        {"id": long, "type": "function", "function": {"name": "mul", "arguments": ""}},
    ]
    messages = [
        *HI,
        {"role": "assistant", "content": "Wait.", "tool_calls": use},
        {"role": "tool", "tool_call_id": "call_1", "content": "2"},
        {"role": "tool", "tool_call_id": long, "content": "", "is_error": True},
        {"role": "user", "content": "And?"},
    ]
    body, _ = sent({"messages": messages, "tools": [ADD, MUL]})
    assistant, user = body["messages"][1:]
    short = assistant["content"][2]["toolUse"]["toolUseId"]
    assert len(short) <= 64
    assert assistant["content"] == [
        {"text": "Wait."},
        {"toolUse": {"toolUseId": "call_1", "name": "add", "input": {"a": 1}}},
        {"toolUse": {"toolUseId": short, "name": "mul", "input": {}}},
    ]
    assert user["content"] == [
        {"toolResult": {"toolUseId": "call_1", "content": [{"text": "2"}]}},
        {"toolResult": {"toolUseId": short, "content": [{"text": "(no output)"}], "status": "error"}},
        {"text": "And?"},
    ]
    body, _ = sent({"messages": messages, "tools": [ADD, MUL]}, LLAMA)
    assert "status" not in body["messages"][2]["content"][1]["toolResult"]  # only Claude and Nova know it


def test_signed_thinking_goes_back_to_claude_and_to_nobody_else() -> None:
    thinking = [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "redacted_thinking", "data": "ZW5j"},
        {"type": "thinking", "thinking": "unsigned"},
    ]
    messages = [*HI, {"role": "assistant", "content": None, "thinking_blocks": thinking}, *HI]
    body, _ = sent({"messages": messages})
    assert body["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": "ZW5j"}},
    ]
    body, _ = sent({"messages": messages}, NOVA)
    assert body["messages"][1]["content"] == [{"text": "."}]


def test_cache_points_stand_behind_what_is_marked() -> None:
    mark: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    asked = {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "A", **hour}]},
            {"role": "user", "content": [{"type": "text", "text": "B", **mark}, {"type": "text", "text": "C"}]},
        ],
        "tools": [ADD | mark, MUL],
    }
    body, dropped = sent(asked)
    point = {"cachePoint": {"type": "default"}}
    assert body["system"] == [{"text": "A"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert body["messages"][0]["content"] == [{"text": "B"}, point, {"text": "C"}]
    assert [next(iter(tool)) for tool in body["toolConfig"]["tools"]] == ["toolSpec", "cachePoint", "toolSpec"]
    assert dropped == ()
    body, dropped = sent(asked, NOVA)  # no hour, and none for tools
    assert body["system"] == [{"text": "A"}, point]
    assert [next(iter(tool)) for tool in body["toolConfig"]["tools"]] == ["toolSpec", "toolSpec"]
    assert dropped == ("cache_control",)
    body, dropped = sent(asked, LLAMA)
    assert (body["system"], dropped) == ([{"text": "A"}], ("cache_control",))


# Tools and answers


def test_tools_and_each_way_to_choose_among_them() -> None:
    spec = [
        {"toolSpec": {"name": "add", "inputSchema": EMPTY, "description": "Adds."}},
        {"toolSpec": {"name": "mul", "inputSchema": EMPTY}},
    ]
    named = {"type": "function", "function": {"name": "mul"}}
    chosen = [
        (None, {}), ("auto", {}), ("required", {"toolChoice": {"any": {}}}),
        (named, {"toolChoice": {"tool": {"name": "mul"}}}),
    ]  # fmt: skip
    for said, expected in chosen:
        body, dropped = sent({"tools": [ADD, MUL], "tool_choice": said})
        assert body["toolConfig"] == {"tools": spec, **expected}
        assert dropped == ()
    body, _ = sent({"tools": [ADD, MUL], "tool_choice": "none"})
    assert "toolConfig" not in body
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}
    assert sent({"tools": [ADD, MUL], "tool_choice": allowed})[0]["toolConfig"] == {
        "tools": spec[1:],
        "toolChoice": {"any": {}},
    }


def test_tools_that_were_called_stay_defined_though_none_may_be_called() -> None:
    called = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = [
        *HI,
        {"role": "assistant", "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "c", "content": "2"},
    ]
    body, _ = sent({"messages": messages, "tools": [ADD], "tool_choice": "none"})
    assert body["toolConfig"]["tools"][0]["toolSpec"]["name"] == "add"
    body, _ = sent({"messages": messages})
    assert body["toolConfig"] == {"tools": [{"toolSpec": {"name": "add", "inputSchema": EMPTY}}]}


def test_a_model_is_forced_only_as_far_as_it_lets_itself() -> None:
    named = {"tools": [ADD, MUL], "tool_choice": {"type": "function", "function": {"name": "mul"}}}
    body, dropped = sent(named, "mistral.mistral-large-3-675b-instruct", quirks={"forced_tool_choice": "any"})
    assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]] == ["mul"]
    assert (body["toolConfig"]["toolChoice"], dropped) == ({"any": {}}, ())
    body, dropped = sent(named, LLAMA, quirks={"forced_tool_choice": False})
    assert len(body["toolConfig"]["tools"]) == 2
    assert ("toolChoice" in body["toolConfig"], dropped) == (False, ("tool_choice",))


def test_one_call_at_a_time_cannot_be_asked_for() -> None:
    assert sent({"tools": [ADD], "parallel_tool_calls": False})[1] == ("parallel_tool_calls",)
    assert sent({"tools": [ADD], "parallel_tool_calls": True})[1] == ()


SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}},
}


def test_a_json_schema_is_the_output_format_or_a_forced_tool() -> None:
    body, _ = sent({"response_format": SCHEMA})
    found = body["outputConfig"]["textFormat"]
    assert (found["type"], list(found["structure"]["jsonSchema"])) == ("json_schema", ["schema"])
    assert orjson.loads(found["structure"]["jsonSchema"]["schema"]) == {
        "type": "object",
        "properties": {"n": {"type": "integer", "description": "{minimum: 1}"}},
        "additionalProperties": False,
    }
    body, _ = sent({"response_format": SCHEMA}, NOVA, quirks={"structured_outputs": "tool"})
    assert body["toolConfig"]["toolChoice"] == {"tool": {"name": "tollgate_structured_answer"}}
    assert "outputConfig" not in body
    quirks = {"structured_outputs": "tool", "forced_tool_choice": False}
    assert refused({"response_format": SCHEMA}, LLAMA, quirks=quirks) == "response_format"
    body, _ = sent({"response_format": {"type": "json_object"}}, LLAMA)
    assert "JSON" in body["system"][0]["text"]


def test_strict_tools_are_strict() -> None:
    strict = {"type": "function", "function": {**ADD["function"], "strict": True}}  # type: ignore[dict-item]
    spec = sent({"tools": [strict]})[0]["toolConfig"]["tools"][0]["toolSpec"]
    assert (spec["strict"], spec["inputSchema"]["json"]["additionalProperties"]) == (True, False)


# Sampling and reasoning


def test_sampling_has_its_place_or_its_makers_own() -> None:
    asked = {"top_p": 0.9, "stop": ["END"], "top_k": 5, "max_tokens": 9, "temperature": 1.5}
    body, dropped = sent(asked, NOVA, cap=77)
    assert body["inferenceConfig"] == {"maxTokens": 77, "temperature": 1.0, "topP": 0.9, "stopSequences": ["END"]}
    assert body["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 5}}
    assert dropped == ()
    body, dropped = sent(asked, LLAMA)
    assert ("additionalModelRequestFields" in body, dropped) == (False, ("top_k",))
    body, dropped = sent(asked | {"temperature": None})
    assert body["additionalModelRequestFields"] == {"top_k": 5}
    assert sent(asked, GPT_OSS, quirks={"unsupported_params": ["stop"]})[1] == ("stop", "top_k")
    assert sent({}, NOVA, temperature="0.7")[0]["inferenceConfig"]["temperature"] == 0.7


@pytest.mark.parametrize(
    ("model", "effort", "fields"),
    [
        (CLAUDE, "low", {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        (CLAUDE, "none", None),
        (NOVA, "minimal", {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
        (NOVA, "high", {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}}),
        (GPT_OSS, "xhigh", {"reasoning_effort": "high"}),
        (GPT_OSS, "none", None),
    ],
)
def test_reasoning_effort_in_each_makers_words(model: str, effort: str, fields: Any) -> None:
    body, dropped = sent({"reasoning_effort": effort}, model, cap=10_000)
    assert body.get("additionalModelRequestFields") == fields
    assert dropped == ()


def test_claude_that_thinks_adaptively_is_given_an_effort() -> None:
    quirks = {"unsupported_params": ["temperature", "top_p", "top_k"]}
    body, dropped = sent({"reasoning_effort": "high", "response_format": SCHEMA}, quirks=quirks, temperature="0.7")
    assert body["additionalModelRequestFields"] == {
        "output_config": {"effort": "high"},
        "thinking": {"type": "adaptive", "display": "summarized"},
    }
    assert "textFormat" in body["outputConfig"]
    assert (body["inferenceConfig"], dropped) == ({"maxTokens": 1000}, ())


def test_a_profile_whose_arn_hides_its_maker_is_told_by_a_quirk() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2"
    assert sent({"top_k": 5}, arn)[1] == ("top_k",)
    assert sent({"top_k": 5}, arn, quirks={"maker": "claude"}) == (
        {
            "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
            "inferenceConfig": {"maxTokens": 1000},
            "additionalModelRequestFields": {"top_k": 5},
        },
        (),
    )


def test_what_has_no_place_is_named_or_refused() -> None:
    asked = {
        "seed": 7, "logprobs": True, "top_logprobs": 2, "frequency_penalty": 0.5, "presence_penalty": 0, "store": False,
        "user": "u-1", "metadata": {"a": "b"}, "reasoning_effort": "low", "thinking": {"type": "enabled"},
    }  # fmt: skip
    assert sent(asked, LLAMA, is_reasoning=False)[1] == (
        "frequency_penalty", "logprobs", "metadata", "reasoning_effort", "seed", "thinking", "top_logprobs", "user",
    )  # fmt: skip
    assert refused({"n": 2}) == "n"
    assert refused({"reasoning_effort": "wild"}, NOVA) == "reasoning_effort"
    assert refused({"messages": [{"role": "user", "content": "\ud800"}]}) == "messages"


def test_the_callers_body_stays_as_it_was() -> None:
    given = {"model": "x", "messages": [{"role": "system", "content": "A"}, *HI], "tools": [ADD], "top_k": 3}
    before = orjson.dumps(given)
    sent(given)
    sent(given, NOVA)
    assert orjson.dumps(given) == before
