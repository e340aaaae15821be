"""What an anthropic-python user does, through a vendor of each dialect: the SDK knows a base URL and a key alone."""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import pytest

from llm.models import LLMModel
from tests import cast
from tests.fakes import Behaviour, google_wire
from tests.fakes.anthropic_wire import SIGNATURE
from tests.fakes.behaviour import DEFAULT_TEXT
from tests.journeys.world import ASK, CACHED, Customer, Json, Vendor, World, price_of, usd
from tests.wires.anthropic_order import events_of, message_of

ROOT = Path(__file__).resolve().parents[2]
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALLS = [
    {"name": "get_weather", "arguments": {"city": "Paris"}, "id": "toolu_paris"},
    {"name": "get_weather", "arguments": {"city": "Rome"}, "id": "toolu_rome"},
]
PIXEL = "iVBORw0KGgo="
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}


def ask(customer: Customer, model: str, **body: Any) -> anthropic.types.Message:
    found: anthropic.types.Message = customer.anthropic.messages.create(
        **({"model": model, "max_tokens": 100, "messages": ASK} | body)
    )
    return found


def streamed(customer: Customer, model: str, **body: Any) -> Json:
    """The message that a stream adds up to, every frame of it looked at."""
    asked = {"model": model, "max_tokens": 100, "messages": ASK, "stream": True} | body
    with customer.http as client, client.stream("POST", "/v1/messages", json=asked) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.status_code == 200, raw
    return message_of(events_of(raw))


# --- text -------------------------------------------------------------------------------------------------------------


def test_a_message_is_answered_and_billed_to_the_last_digit(customer: Customer, vendor: Vendor) -> None:
    raw = customer.anthropic.messages.with_raw_response.create(model=vendor.reference, max_tokens=100, messages=ASK)
    answer = raw.parse()
    assert [(block.type, block.text) for block in answer.content] == [("text", DEFAULT_TEXT)]
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", "m")
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert answer.id.startswith("msg_")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (8, 5)
    row = customer.row()
    [entry] = vendor.fake.bill()
    assert price_of(entry) == usd(8, 5) == row.cost_total_usd
    assert Decimal(str(answer.usage.to_dict()["cost"])) == usd(8, 5)
    assert Decimal(raw.headers["x-cost-incurred"]) == usd(8, 5)
    assert raw.headers["request-id"] == raw.headers["x-request-id"] == str(row.id)
    assert (raw.headers["x-provider-used"], raw.headers["x-model-used"]) == (vendor.provider.slug, "m")


def test_the_streaming_helper_gets_text_and_the_final_message(customer: Customer, vendor: Vendor) -> None:
    with customer.anthropic.messages.stream(model=vendor.reference, max_tokens=100, messages=ASK) as stream:
        assert "".join(stream.text_stream) == DEFAULT_TEXT
        final = stream.get_final_message()
    assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("end_turn", 8, 5)
    assert final.content[0].text == DEFAULT_TEXT
    assert customer.row().cost_total_usd == usd(8, 5)


def test_a_stream_is_in_anthropics_order_and_tells_its_cost(customer: Customer, vendor: Vendor) -> None:
    message = streamed(customer, vendor.reference)
    assert message["content"] == [{"type": "text", "text": DEFAULT_TEXT}]
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (8, 5)
    assert Decimal(str(message["usage"]["cost"])) == usd(8, 5) == customer.row().budget_usd


def test_the_same_request_costs_the_same_on_both_wires(customer: Customer, vendor: Vendor) -> None:
    system = "Be brief."
    chat = [{"role": "system", "content": system}, *ASK]
    for stream in (False, True):
        customer.ask(vendor.reference, messages=chat, max_tokens=100, stream=stream)
        customer.ask(vendor.reference, path="/v1/messages", system=system, messages=ASK, max_tokens=100, stream=stream)
    prompt = 13 if vendor.name in ("openai", "cohere") else 10  # the fake counts a system message, and no system prompt
    assert [row.cost_total_usd for row in customer.rows()] == [usd(prompt, 5)] * 4
    assert [price_of(entry) for entry in vendor.fake.bill()] == [usd(prompt, 5)] * 4


def test_the_clients_own_body_travels_to_a_vendor_that_speaks_it(world: World, customer: Customer) -> None:
    body = {
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A page."}},
                    {"type": "a_block_of_tomorrow", "knob": [1, 2]},
                    {"type": "text", "text": "What is it?"},
                ],
            }
        ],
        "max_tokens": 100,
        "top_k": 5,
        "temperature": 0.3,
        "knob_of_tomorrow": {"a": None},
        "metadata": {"user_id": "ada"},
        "power_level": "eco",
    }
    answer = customer.ask("fakethropic/m", path="/v1/messages", **body)
    assert answer.status_code == 200, answer.text
    assert "x-dropped-params" not in answer.headers
    del body["power_level"]
    assert world.other.requests[-1].body == body | {"model": "m"}
    row = customer.row()
    assert (row.end_user, row.power_level) == ("ada", "eco")


def test_what_only_anthropic_can_express_is_refused_elsewhere_and_named(world: World, customer: Customer) -> None:
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A page."}}
    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(customer, "fakeai/m", messages=[{"role": "user", "content": [document]}])
    assert "messages[0].content[0]" in caught.value.message
    assert world.fake.bill() == []
    assert customer.spent() == 0


def test_what_openai_has_no_name_for_is_dropped_and_named(world: World, customer: Customer) -> None:
    raw = customer.anthropic.messages.with_raw_response.create(
        model="fakeai/m",
        max_tokens=100,
        messages=ASK,
        thinking={"type": "disabled"},
        extra_body={"top_k": 5, "vendor_knob": 3},
    )
    assert raw.headers["x-dropped-params"] == "thinking, top_k, vendor_knob"
    assert not {"top_k", "thinking", "vendor_knob"} & world.fake.requests[-1].body.keys()


def test_settings_go_over_in_openais_words(world: World, customer: Customer) -> None:
    ask(
        customer,
        "fakeai/m",
        system="Be brief.",
        extra_body={"temperature": 0.2, "top_p": 0.9},
        stop_sequences=["END"],
        metadata={"user_id": "ada"},
        service_tier="standard_only",
        thinking={"type": "enabled", "budget_tokens": 8_000},
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
        tools=[WEATHER],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    sent = world.fake.requests[-1].body
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, *ASK]
    assert {name: sent[name] for name in ("temperature", "top_p", "stop", "user", "service_tier")} == {
        "temperature": 0.2,
        "top_p": 0.9,
        "stop": ["END"],
        "user": "ada",
        "service_tier": "default",
    }
    assert sent["reasoning_effort"] == "medium"
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }
    assert sent["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "parameters": WEATHER["input_schema"],
                "description": "The weather in a city.",
            },
        }
    ]
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", False)


# --- tools ------------------------------------------------------------------------------------------------------------


def test_parallel_tools_are_called_and_their_results_go_back(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.once("m", Behaviour(text="Let me see.", tool_calls=CALLS))
    first = ask(customer, vendor.reference, tools=[WEATHER])
    assert first.stop_reason == "tool_use"
    assert [block.type for block in first.content] == ["text", "tool_use", "tool_use"]
    called = [(block.id, block.input) for block in first.content[1:]]
    assert called == [("toolu_paris", {"city": "Paris"}), ("toolu_rome", {"city": "Rome"})]
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_paris", "content": "sunny"},
        {
            "type": "tool_result",
            "tool_use_id": "toolu_rome",
            "content": [{"type": "text", "text": "no such city"}],
            "is_error": True,
        },
    ]
    messages = [*ASK, first.to_param(), {"role": "user", "content": [*results, {"type": "text", "text": "So?"}]}]
    second = ask(customer, vendor.reference, tools=[WEATHER], messages=messages)
    assert second.stop_reason == "tool_use" or second.content[0].text == DEFAULT_TEXT
    sent = vendor.turns()
    if vendor.name == "anthropic":
        assert sent[2]["content"] == [*results, {"type": "text", "text": "So?"}]
        assert [block["type"] for block in sent[1]["content"]] == ["text", "tool_use", "tool_use"]
    elif vendor.name == "google":
        assert sent[1]["parts"][1]["thoughtSignature"] == google_wire.SIGNATURE
        answers = [part["functionResponse"]["response"] for part in sent[2]["parts"][:2]]
        assert answers == [{"output": "sunny"}, {"error": "no such city"}]
    elif vendor.name == "bedrock":
        assert [next(iter(block)) for block in sent[1]["content"]] == ["text", "toolUse", "toolUse"]
        assert [next(iter(block)) for block in sent[2]["content"]] == ["toolResult", "toolResult", "text"]
        assert sent[2]["content"][1]["toolResult"]["content"] == [{"text": "no such city"}]
    elif vendor.name == "openai":
        assert sent[1]["content"] == [{"type": "text", "text": "Let me see."}]
        assert [json.loads(call["function"]["arguments"]) for call in sent[1]["tool_calls"]] == [
            {"city": "Paris"},
            {"city": "Rome"},
        ]
        assert sent[2] == {"role": "tool", "tool_call_id": "toolu_paris", "content": "sunny"}
        assert (sent[3]["tool_call_id"], sent[3]["content"]) == (
            "toolu_rome",
            [{"type": "text", "text": "no such city"}],
        )
        assert sent[4] == {"role": "user", "content": [{"type": "text", "text": "So?"}]}


def test_parallel_tools_of_a_stream_are_blocks_one_after_the_other(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(text="Let me see.", tool_calls=CALLS))
    message = streamed(customer, vendor.reference, tools=[WEATHER])
    assert message["stop_reason"] == "tool_use"
    signature = message["content"][1].pop("extra_content", None)
    assert signature == ({"google": {"thought_signature": google_wire.SIGNATURE}} if vendor.name == "google" else None)
    assert message["content"] == [
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "toolu_paris", "name": "get_weather", "input": {"city": "Paris"}},
        {"type": "tool_use", "id": "toolu_rome", "name": "get_weather", "input": {"city": "Rome"}},
    ]
    with customer.anthropic.messages.stream(
        model=vendor.reference, max_tokens=100, messages=ASK, tools=[WEATHER]
    ) as stream:
        final = stream.get_final_message()
    assert [block.input for block in final.content if block.type == "tool_use"] == [{"city": "Paris"}, {"city": "Rome"}]
    assert len({row.cost_total_usd for row in customer.rows()}) == 1


# --- the sandbox ------------------------------------------------------------------------------------------------------


def test_the_sandbox_answers_anthropics_sdk_too(world: World) -> None:
    world.model(cast.make_sandbox(), "echo")
    world.refresh()
    demo = world.customer(sandbox_enabled=True)
    plain = ask(demo, "sandbox/echo")
    assert plain.stop_reason == "end_turn"
    assert streamed(demo, "sandbox/echo")["content"] == [{"type": "text", "text": plain.content[0].text}]
    called = streamed(demo, "sandbox/echo", tools=[WEATHER], tool_choice={"type": "any"})
    assert [block["type"] for block in called["content"]][-1] == "tool_use"
    assert called["stop_reason"] == "tool_use"


# --- images, thinking, caching ----------------------------------------------------------------------------------------


def test_images_go_over_in_messages_and_in_tool_results(customer: Customer, vendor: Vendor) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    linked = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    if vendor.name not in ("openai", "anthropic"):
        linked = image  # its API takes no links
    call = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rome"}}
    messages = [
        {"role": "user", "content": [image, linked, {"type": "text", "text": "What is this?"}]},
        {"role": "assistant", "content": [call]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "map"}, image]}
            ],
        },
    ]
    ask(customer, vendor.reference, messages=messages, tools=[WEATHER])
    sent = vendor.turns()
    assert customer.row().prompt_tokens == vendor.fake.bill()[0].prompt_tokens
    if vendor.name == "anthropic":
        assert sent == messages
    if vendor.name != "openai":
        assert json.dumps(sent).count(PIXEL) == 3 - (vendor.name == "anthropic")
        return
    data_url = f"data:image/png;base64,{PIXEL}"
    assert [part.get("image_url", {}).get("url") for part in sent[0]["content"]] == [
        data_url,
        "https://example.com/a.png",
        None,
    ]
    assert sent[2]["content"] == [{"type": "text", "text": "map"}]
    assert sent[3]["role"] == "user"
    assert sent[3]["content"][1]["image_url"]["url"] == data_url


def test_thinking_goes_there_and_back_with_its_signature(world: World, customer: Customer) -> None:
    world.other.script("m", Behaviour(reasoning="let me think", text="Done."))
    asked = {"thinking": {"type": "enabled", "budget_tokens": 1_024}, "max_tokens": 2_000}
    first = ask(customer, "fakethropic/m", **asked)
    assert [block.type for block in first.content] == ["thinking", "text"]
    assert (first.content[0].thinking, first.content[0].signature) == ("let me think", SIGNATURE)
    ask(customer, "fakethropic/m", **asked, messages=[*ASK, first.to_param(), *ASK])
    sent = world.other.requests[-1].body
    thought = {"type": "thinking", "thinking": "let me think", "signature": SIGNATURE}
    assert sent["messages"][1]["content"][0] == thought
    assert sent["thinking"] == asked["thinking"]
    message = streamed(customer, "fakethropic/m", **asked)
    assert message["content"] == [thought, {"type": "text", "text": "Done."}]


def test_thinking_through_bedrock_keeps_its_signature_too(world: World, customer: Customer) -> None:
    world.aws.script("m", Behaviour(reasoning="let me think", text="Done."))
    first = ask(customer, "fakerock/m")
    assert [block.type for block in first.content] == ["thinking", "text"]
    assert first.content[0].thinking == "let me think"
    assert first.content[0].signature
    assert streamed(customer, "fakerock/m")["content"] == [block.to_dict() for block in first.content]


def test_reasoning_of_other_vendors_is_thinking_without_a_signature(world: World, customer: Customer) -> None:
    world.fake.script("m", Behaviour(reasoning="let me think", text="Done."))
    first = ask(customer, "fakeai/m")
    assert [block.type for block in first.content] == ["thinking", "text"]
    assert (first.content[0].thinking, first.content[0].signature) == ("let me think", "")
    assert streamed(customer, "fakeai/m")["content"] == [
        {"type": "thinking", "thinking": "let me think", "signature": ""},
        {"type": "text", "text": "Done."},
    ]
    history = [*ASK, first.to_param(), *ASK]
    ask(customer, "fakeai/m", messages=history)
    bare = {
        "role": "assistant",
        "content": [{"type": "text", "text": "Done."}],
    }  # OpenAI refuses any more
    assert world.fake.requests[-1].body["messages"][1] == bare
    takes_it = cast.make_provider("fakeseek", world.fake.base_url, quirks={"assistant_fields": ["reasoning_content"]})
    cast.make_credential(takes_it)
    kept = cast.make_model(takes_it, "m")
    world.refresh()
    ask(customer, "fakeseek/m", messages=history)
    assert world.fake.requests[-1].body["messages"][1]["reasoning_content"] == "let me think"
    LLMModel.objects.filter(pk=kept.pk).update(is_active=False)  # what was used is not deleted
    world.refresh()
    ask(customer, "fakethropic/m", messages=history)  # Claude refuses thinking that it did not sign
    assert [block["type"] for block in world.other.requests[-1].body["messages"][1]["content"]] == ["text"]


def test_cached_tokens_are_told_as_anthropic_tells_them(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(usage={"prompt_tokens": 1000, "cached_tokens": 900, "completion_tokens": 10}))
    system = [{"type": "text", "text": "A long book.", "cache_control": {"type": "ephemeral"}}]
    answer = ask(customer, vendor.reference, system=system)
    usage = answer.usage
    cached = vendor.cached(900)
    told = (1000 - cached, cached, 10)
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == told
    expected = ((1000 - cached) * Decimal(2) + cached * CACHED + 10 * Decimal(8)) / 1_000_000
    assert customer.row().cost_total_usd == expected
    counted = streamed(customer, vendor.reference, system=system)["usage"]
    assert (counted["input_tokens"], counted["cache_read_input_tokens"], counted["output_tokens"]) == told
    assert Decimal(str(counted["cost"])) == expected
    sent = vendor.fake.requests[-1].body
    if vendor.name == "anthropic":
        assert sent["system"][0]["cache_control"] == {"type": "ephemeral"}
    elif vendor.name in ("openai", "cohere"):  # they cache by themselves, and refuse to be told
        assert "cache_control" not in str(sent)


def test_written_caches_are_paid_for_and_told(world: World, customer: Customer) -> None:
    world.other.script(
        "m", Behaviour(usage={"prompt_tokens": 1000, "cache_creation_tokens": 600, "cache_creation_1h_tokens": 100})
    )
    usage = ask(customer, "fakethropic/m").usage
    assert (usage.input_tokens, usage.cache_creation_input_tokens) == (300, 700)
    assert usage.cache_creation.to_dict() == {"ephemeral_5m_input_tokens": 600, "ephemeral_1h_input_tokens": 100}
    assert customer.row().cache_write_tokens == 700


def test_the_parse_helper_reads_a_model_class(customer: Customer, vendor: Vendor) -> None:
    from pydantic import BaseModel  # comes with the SDK

    class Reply(BaseModel):
        answer: str

    vendor.fake.script("m", Behaviour(text='{"answer": "42"}'))
    found = customer.anthropic.messages.parse(model=vendor.reference, max_tokens=100, messages=ASK, output_format=Reply)
    assert found.parsed_output == Reply(answer="42")
    sent = vendor.fake.requests[-1].body
    if vendor.name in ("openai", "anthropic"):
        asked = sent.get("output_config", {}).get("format") or sent["response_format"]["json_schema"]
        assert asked["schema"]["required"] == ["answer"]


def test_betas_are_asked_for_where_they_can_be(world: World, customer: Customer) -> None:
    names = ["interleaved-thinking-2025-05-14", "fast-mode-2026-02-01"]
    for model in ("fakethropic/m", "fakeai/m"):
        found = customer.anthropic.beta.messages.create(model=model, max_tokens=100, messages=ASK, betas=names)
        assert found.content[0].text == DEFAULT_TEXT
    assert world.other.requests[-1].headers["anthropic-beta"] == names[0]
    assert not any("beta" in name for name in world.fake.requests[-1].headers)


# --- counting and listing ---------------------------------------------------------------------------------------------


def test_tokens_are_counted_for_every_model_and_cost_nothing(customer: Customer, vendor: Vendor) -> None:
    count = customer.anthropic.messages.count_tokens
    short = count(model=vendor.reference, messages=ASK).input_tokens
    assert 5 <= short <= 15
    long = count(model=vendor.reference, messages=[{"role": "user", "content": "word " * 200_000}]).input_tokens
    assert long > 150_000  # more than the model's window: that is what one counts for
    with_tools = count(model=vendor.reference, messages=ASK, tools=[WEATHER], system="Be brief.").input_tokens
    assert with_tools > short
    customer.untouched()
    assert vendor.fake.requests == []


def test_tokens_of_an_unknown_model_are_not_counted(customer: Customer) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        customer.anthropic.messages.count_tokens(model="fakeai/nothing", messages=ASK)
    assert caught.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError):
        customer.anthropic.messages.count_tokens(model="fakeai/m", messages=[])


def test_models_come_in_pages_where_a_client_asks_for_them(customer: Customer) -> None:
    models = customer.anthropic.models
    everything = [one.id for one in models.list()]
    first = models.list(limit=2)
    assert [one.id for one in first.data] == everything[:2]
    assert first.has_more is True
    assert [one.id for one in models.list(limit=2)] == everything  # the SDK turns the pages
    before = models.list(limit=2, before_id=everything[-1])
    assert [one.id for one in before.data] == everything[-3:-1]
    found = models.retrieve("fakethropic/m")
    assert (found.type, found.lifecycle, found.max_input_tokens) == ("model", "active", 128_000)
    assert found.created_at.year >= 1970
    with pytest.raises(anthropic.NotFoundError) as caught:
        models.retrieve("fakethropic/nothing")
    assert caught.value.body["error"]["type"] == "not_found_error"
    for bad in ({"limit": 0}, {"limit": 1001}, {"after_id": "nothing"}):
        with pytest.raises(anthropic.BadRequestError):
            models.list(**bad)


def test_the_snippet_of_the_docs_runs_as_it_is_written(
    world: World, customer: Customer, capsys: pytest.CaptureFixture[str]
) -> None:
    [snippet] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/anthropic.md").read_text(), re.DOTALL)
    for written, here in (
        ("http://127.0.0.1:8084", customer.url),
        ("tg_live_...", customer.secret),
        ('"auto"', '"fakeai/m"'),
    ):
        assert written in snippet
        snippet = snippet.replace(written, here)
    exec(compile(snippet, "docs/anthropic.md", "exec"), {})
    said = capsys.readouterr().out
    assert said.startswith(f"{DEFAULT_TEXT}end_turn Usage(")
    assert "input_tokens=4, output_tokens=5" in said
