"""What an openai-python user does, through a vendor of each dialect: the SDK knows a base URL and a key alone."""

import json
import time
from decimal import Decimal

import openai
import pytest
from openai.types.chat import ChatCompletion

from tests import cast
from tests.fakes import Behaviour
from tests.fakes.behaviour import DEFAULT_TEXT
from tests.journeys.world import ASK, CACHED, Customer, Vendor, World, price_of, usd

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALLS = [
    {"name": "get_weather", "arguments": {"city": "Paris"}, "id": "call_paris"},
    {"name": "get_weather", "arguments": {"city": "Rome"}, "id": "call_rome"},
]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "reply",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"answer": {"type": "string"}},
            "required": ["answer"],
            "additionalProperties": False,
        },
    },
}


# --- models -----------------------------------------------------------------------------------------------------------


def test_models_lists_what_the_key_may_call(world: World, customer: Customer) -> None:
    hidden = cast.make_model(world.vendors["openai"].provider, "not-priced", input=None)
    world.refresh()
    cast.make_config(customer.tenant, "shop")
    listed = list(customer.openai.models.list())
    assert [one.id for one in listed] == [
        "auto",
        "eco",
        "balanced",
        "precision",
        "config/shop",
        *sorted(vendor.reference for vendor in world.vendors.values()),
    ]
    hidden.delete()
    assert {one.object for one in listed} == {"model"}
    assert [one.owned_by for one in listed] == ["tollgate"] * 5 + sorted(
        one.provider.slug for one in world.vendors.values()
    )
    assert all(type(one.created) is int for one in listed)
    found = listed[5].to_dict()
    assert found["context_length"] == 128_000
    assert found["pricing"] == {"input": "2", "output": "8", "cache_read": "0.5"}
    assert found["capabilities"] == {"streaming": True, "function_calling": True, "vision": True, "json_mode": True}


def test_an_allow_list_shortens_the_list_of_models(world: World) -> None:
    narrow = world.customer(key={"allowed_models": ["fakethropic/m"]})
    assert [one.id for one in narrow.openai.models.list() if "/" in one.id] == ["fakethropic/m"]
    with pytest.raises(openai.NotFoundError) as caught:
        narrow.openai.models.retrieve("fakeai/m")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("written", ["fakeai/m", "fakeai%2Fm", "fakeai%2fm"])
def test_a_model_is_found_with_its_slash_raw_or_encoded(customer: Customer, written: str) -> None:
    with customer.http as client:
        answer = client.get(f"/v1/models/{written}")
    assert (answer.status_code, answer.json()["id"]) == (200, "fakeai/m")


def test_the_sdk_retrieves_a_model(customer: Customer, vendor: Vendor) -> None:
    found = customer.openai.models.retrieve(vendor.reference)
    assert (found.id, found.owned_by) == (vendor.reference, vendor.provider.slug)
    assert customer.openai.models.retrieve("auto").owned_by == "tollgate"


def test_models_come_in_anthropics_shape_for_its_sdk(world: World, customer: Customer) -> None:
    listed = list(customer.anthropic.models.list())
    references = sorted(vendor.reference for vendor in world.vendors.values())
    assert [one.id for one in listed][-len(references) :] == references
    assert {one.type for one in listed} == {"model"}
    assert customer.anthropic.models.retrieve("fakethropic/m").display_name == "m"


# --- chat -------------------------------------------------------------------------------------------------------------


def test_a_chat_is_answered_and_billed_to_the_last_digit(customer: Customer, vendor: Vendor) -> None:
    before = int(time.time())
    raw = customer.openai.chat.completions.with_raw_response.create(model=vendor.reference, messages=ASK)
    answer = raw.parse()
    assert answer.choices[0].message.content == DEFAULT_TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.object, answer.model) == ("chat.completion", "m")
    assert answer.id
    assert before <= answer.created <= time.time()
    [entry] = vendor.fake.bill()
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (entry.prompt_tokens, 5)
    row = customer.row()
    expected = price_of(entry)
    assert expected == usd(8, 5)
    assert (row.cost_total_usd, row.billed_usd, row.budget_usd) == (expected,) * 3
    assert Decimal(raw.headers["x-cost-incurred"]) == expected
    assert Decimal(str(answer.usage.model_dump()["cost"])) == expected
    assert raw.headers["x-request-id"] == str(row.id)
    assert (raw.headers["x-provider-used"], raw.headers["x-model-used"]) == (vendor.provider.slug, "m")
    assert (raw.headers["x-used-byok"], raw.headers["x-was-fallback"]) == ("false", "false")
    assert float(raw.headers["x-overhead-ms"]) >= 0
    assert (row.status, row.status_code, row.streamed, row.is_estimated) == ("completed", 200, False, False)
    assert customer.spent() == expected


def test_cached_tokens_cost_what_cached_tokens_cost(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(usage={"prompt_tokens": 1000, "cached_tokens": 900, "completion_tokens": 10}))
    answer = customer.openai.chat.completions.create(model=vendor.reference, messages=ASK)
    assert answer.usage.prompt_tokens == 1000
    cached = vendor.cached(900)
    assert cached == 0 or answer.usage.prompt_tokens_details.cached_tokens == 900
    expected = ((1000 - cached) * Decimal(2) + cached * CACHED + 10 * Decimal(8)) / 1_000_000
    assert expected == price_of(vendor.fake.bill()[0])
    assert customer.row().cost_total_usd == expected


def test_every_way_to_write_a_message_is_taken(customer: Customer, vendor: Vendor) -> None:
    pixel = "data:image/png;base64,iVBORw0KGgo="
    answer = customer.openai.chat.completions.create(
        model=vendor.reference,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is this?"}]},
            {"role": "assistant", "content": None, "tool_calls": [tool_call("call_1", "{}")]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            {"role": "assistant"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": pixel}}]},
        ],
        tools=[],
        max_completion_tokens=50,
        stop=["END"],
        temperature=0.2,
        user="ada",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        extra_body={"vendor_knob": 3},
    )
    assert answer.choices[0].message.content == DEFAULT_TEXT
    sent = vendor.fake.requests[-1].body
    if vendor.name == "bedrock":
        assert sent["inferenceConfig"]["maxTokens"] == 50
    elif vendor.name == "google":
        assert sent["generationConfig"]["maxOutputTokens"] == 50
    else:
        assert sent["max_tokens"] == 50
    if vendor.name == "openai":
        assert sent["vendor_knob"] == 3
        assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    elif vendor.name == "google":
        assert "vendor_knob" not in sent
        assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
        assert sent["contents"][2]["parts"][1] == {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
    elif vendor.name == "bedrock":
        assert "vendor_knob" not in sent
        assert sent["system"] == [{"text": "Be brief."}]
        assert sent["messages"][2]["content"][1] == {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}}
    elif vendor.name == "cohere":
        assert "vendor_knob" not in sent
        assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    else:
        assert "vendor_knob" not in sent
        assert sent["system"] == [{"type": "text", "text": "Be brief."}]
    assert customer.row().end_user == "ada"


def test_what_the_dialect_cannot_say_is_named(world: World, customer: Customer) -> None:
    raw = customer.openai.chat.completions.with_raw_response.create(
        model="fakethropic/m", messages=ASK, seed=7, logprobs=True, extra_body={"vendor_knob": 3}
    )
    assert raw.headers["x-dropped-params"] == "logprobs, seed, vendor_knob"
    kept = customer.openai.chat.completions.with_raw_response.create(
        model="fakeai/m", messages=ASK, seed=7, logprobs=True, extra_body={"vendor_knob": 3}
    )
    assert "x-dropped-params" not in kept.headers
    assert world.fake.requests[-1].body["seed"] == 7


def test_gateway_words_and_client_headers_stay_at_the_gateway(customer: Customer, vendor: Vendor) -> None:
    customer.openai.chat.completions.create(
        model=vendor.reference,
        messages=ASK,
        extra_body={"power_level": "eco", "task_type": "chat", "priority": "cost"},
        extra_headers={"X-Session-Id": "s-1", "X-Request-ID": "mine", "X-Secret": "no", "Cookie": "a=b"},
    )
    seen = vendor.fake.requests[-1]
    assert not {"power_level", "task_type", "priority"} & seen.body.keys()
    assert not {"x-secret", "cookie", "x-session-id", "user-agent"} & seen.headers.keys()
    assert "mine" not in seen.headers.values()
    assert seen.headers["accept-encoding"] == "identity"
    assert customer.secret not in str(seen.headers)
    row = customer.row()
    assert (row.session_id, row.client_request_id) == ("s-1", "mine")


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_says_the_same_and_costs_the_same(customer: Customer, vendor: Vendor) -> None:
    plain = customer.openai.chat.completions.create(model=vendor.reference, messages=ASK)
    chunks = list(customer.openai.chat.completions.create(model=vendor.reference, messages=ASK, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == plain.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks)
    first, second = customer.rows()
    assert first.cost_total_usd == second.cost_total_usd == usd(8, 5)
    assert [price_of(entry) for entry in vendor.fake.bill()] == [usd(8, 5)] * 2
    assert (first.streamed, second.streamed) == (False, True)
    assert second.ttft_ms is not None
    assert customer.spent() == usd(16, 10)


def test_a_stream_with_usage_ends_in_one_chunk_of_usage(customer: Customer, vendor: Vendor) -> None:
    raw = customer.openai.chat.completions.with_raw_response.create(
        model=vendor.reference, messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(raw.parse())
    assert "x-cost-incurred" not in raw.headers
    *earlier, last = chunks
    assert [chunk.usage for chunk in earlier] == [None] * len(earlier)
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (8, 5, 13)
    assert Decimal(str(last.usage.model_dump()["cost"])) == usd(8, 5) == customer.row().budget_usd


def test_the_streaming_helper_of_the_sdk_understands_it(customer: Customer, vendor: Vendor) -> None:
    with customer.openai.chat.completions.stream(model=vendor.reference, messages=ASK) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == DEFAULT_TEXT


def test_reasoning_is_kept(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(reasoning="let me think", text="Done."))
    plain = customer.openai.chat.completions.create(model=vendor.reference, messages=ASK)
    assert plain.choices[0].message.to_dict()["reasoning_content"] == "let me think"
    chunks = list(customer.openai.chat.completions.create(model=vendor.reference, messages=ASK, stream=True))
    thought = [chunk.choices[0].delta.to_dict().get("reasoning_content") or "" for chunk in chunks]
    assert "".join(thought) == "let me think"
    assert [row.completion_tokens for row in customer.rows()] == [4, 4]


# --- tools ------------------------------------------------------------------------------------------------------------


def tool_call(call_id: str, arguments: str) -> dict:
    return {"id": call_id, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}


def test_one_tool_is_called(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(tool_calls=CALLS[:1]))
    answer = customer.openai.chat.completions.create(
        model=vendor.reference, messages=ASK, tools=[WEATHER], tool_choice="required"
    )
    [choice] = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    [call] = choice.message.tool_calls
    assert (call.id, call.type, call.function.name) == ("call_paris", "function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    sent = vendor.fake.requests[-1].body
    inside = {"bedrock": "toolChoice", "google": "functionCallingConfig"}.get(vendor.name)
    forced = sent["toolConfig"][inside] if inside else sent["tool_choice"]
    said = {"openai": "required", "anthropic": {"type": "any"}, "bedrock": {"any": {}}, "cohere": "REQUIRED"}
    assert forced == (said | {"google": {"mode": "ANY"}})[vendor.name]


def test_two_tools_are_called_at_once_plain_and_streamed(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(tool_calls=CALLS))
    asked = {"model": vendor.reference, "messages": ASK, "tools": [WEATHER]}
    plain = customer.openai.chat.completions.create(**asked)
    called = [(call.id, json.loads(call.function.arguments)) for call in plain.choices[0].message.tool_calls]
    assert called == [("call_paris", {"city": "Paris"}), ("call_rome", {"city": "Rome"})]
    chunks = list(customer.openai.chat.completions.create(**asked, stream=True))
    fragments = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    for index, expected in enumerate(CALLS):
        own = [fragment for fragment in fragments if fragment.index == index]
        assert (own[0].id, own[0].type, own[0].function.name) == (expected["id"], "function", "get_weather")
        assert all(one.id is None and one.type is None and one.function.name is None for one in own[1:])
        said = "".join(one.function.arguments or "" for one in own)
        assert json.loads(said) == expected["arguments"]
    assert {fragment.index for fragment in fragments} == {0, 1}
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["tool_calls"]
    assert len({row.cost_total_usd for row in customer.rows()}) == 1


def test_the_streaming_helper_puts_tool_calls_together(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(tool_calls=CALLS))
    with customer.openai.chat.completions.stream(model=vendor.reference, messages=ASK, tools=[WEATHER]) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    assert [json.loads(event.arguments) for event in done] == [{"city": "Paris"}, {"city": "Rome"}]


def test_argument_bytes_of_a_stream_are_untouched(world: World, customer: Customer) -> None:
    arguments = '{"city":  "Łódź",\t"n": 1.50}'
    world.fake.script("m", Behaviour(tool_calls=[{"name": "get_weather", "arguments": arguments}]))
    chunks = customer.openai.chat.completions.create(model="fakeai/m", messages=ASK, tools=[WEATHER], stream=True)
    said = [call.function.arguments for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert "".join(part or "" for part in said) == arguments


def test_tool_results_go_back_and_the_chat_goes_on(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.once("m", Behaviour(tool_calls=CALLS))
    client = customer.openai
    first: ChatCompletion = client.chat.completions.create(model=vendor.reference, messages=ASK, tools=[WEATHER])
    message = first.choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": f"{json.loads(call.function.arguments)['city']}: sunny"}
        for call in message.tool_calls
    ]
    second = client.chat.completions.create(
        model=vendor.reference, messages=[*ASK, message.to_dict(), *results], tools=[WEATHER]
    )
    assert second.choices[0].message.content is not None
    sent = vendor.turns()
    if vendor.name in ("openai", "cohere"):
        assert sent[2:] == results
        assert sent[1]["tool_calls"][0]["id"] == "call_paris"
    elif vendor.name == "google":
        assert [part["functionCall"]["id"] for part in sent[1]["parts"]] == ["call_paris", "call_rome"]
        assert [part["functionResponse"]["id"] for part in sent[2]["parts"]] == ["call_paris", "call_rome"]
        assert sent[2]["parts"][0]["functionResponse"]["response"] == {"output": "Paris: sunny"}
    elif vendor.name == "bedrock":
        assert [block["toolUse"]["toolUseId"] for block in sent[1]["content"]] == ["call_paris", "call_rome"]
        assert [block["toolResult"]["toolUseId"] for block in sent[2]["content"]] == ["call_paris", "call_rome"]
        assert sent[2]["content"][0]["toolResult"]["content"] == [{"text": "Paris: sunny"}]
    else:
        assert [block["id"] for block in sent[1]["content"]] == ["call_paris", "call_rome"]
        assert [(block["type"], block["tool_use_id"]) for block in sent[2]["content"]] == [
            ("tool_result", "call_paris"),
            ("tool_result", "call_rome"),
        ]
    assert [row.status for row in customer.rows()] == ["completed", "completed"]


# --- JSON, choices ----------------------------------------------------------------------------------------------------


def test_a_json_schema_is_passed_on_and_answered(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(text='{"answer": "42"}'))
    answer = customer.openai.chat.completions.create(model=vendor.reference, messages=ASK, response_format=SCHEMA)
    assert json.loads(answer.choices[0].message.content) == {"answer": "42"}
    sent = vendor.fake.requests[-1].body
    if vendor.name == "openai":
        assert sent["response_format"] == SCHEMA
    elif vendor.name == "google":
        assert sent["generationConfig"]["responseMimeType"] == "application/json"
        assert sent["generationConfig"]["responseJsonSchema"]["required"] == ["answer"]
    elif vendor.name == "bedrock":
        format_ = sent["outputConfig"]["textFormat"]
        assert format_["type"] == "json_schema"
        assert json.loads(format_["structure"]["jsonSchema"]["schema"])["required"] == ["answer"]
    elif vendor.name == "cohere":
        assert sent["response_format"]["type"] == "json_object"
        assert sent["response_format"]["json_schema"]["required"] == ["answer"]
    else:
        assert sent["output_config"]["format"]["type"] == "json_schema"
        assert sent["output_config"]["format"]["schema"]["required"] == ["answer"]


def test_the_parse_helper_reads_a_model_class(customer: Customer, vendor: Vendor) -> None:
    from pydantic import BaseModel  # comes with the SDK

    class Reply(BaseModel):
        answer: str

    vendor.fake.script("m", Behaviour(text='{"answer": "42"}'))
    answer = customer.openai.chat.completions.parse(model=vendor.reference, messages=ASK, response_format=Reply)
    assert answer.choices[0].message.parsed == Reply(answer="42")


def test_two_choices_come_back_and_both_are_paid(world: World, customer: Customer) -> None:
    answer = customer.openai.chat.completions.create(model="fakeai/m", messages=ASK, n=2)
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [
        (0, DEFAULT_TEXT),
        (1, DEFAULT_TEXT),
    ]
    chunks = list(customer.openai.chat.completions.create(model="fakeai/m", messages=ASK, n=2, stream=True))
    for index in (0, 1):
        own = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert "".join(choice.delta.content or "" for choice in own) == DEFAULT_TEXT
        assert [choice.finish_reason for choice in own if choice.finish_reason] == ["stop"]
    assert [row.cost_total_usd for row in customer.rows()] == [usd(8, 10)] * 2
    assert [price_of(entry) for entry in world.fake.bill()] == [usd(8, 10)] * 2


def test_two_choices_of_a_dialect_that_gives_one_are_refused_clearly(world: World, customer: Customer) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        customer.openai.chat.completions.create(model="fakethropic/m", messages=ASK, n=2)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "n")
    assert world.other.bill() == []
    assert customer.spent() == 0
