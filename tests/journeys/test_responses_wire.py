"""`/v1/responses`: what a user of openai-python's Responses API does, through a vendor of each dialect."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from tests.fakes import Behaviour, google_wire
from tests.fakes.anthropic_wire import SIGNATURE
from tests.fakes.behaviour import DEFAULT_TEXT
from tests.journeys.world import ASK, Customer, Json, Vendor, World, price_of, usd
from tests.wires.responses_order import events_of, judged

SAY = "Say hello to the world"
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
CALLS = [
    {"name": "get_weather", "arguments": {"city": "Paris"}, "id": "call_paris"},
    {"name": "get_weather", "arguments": {"city": "Rome"}, "id": "call_rome"},
]
PIXEL = "data:image/png;base64,iVBORw0KGgo="


class Reply(BaseModel):
    answer: str


def sent(vendor: Vendor) -> Json:
    """The body that the vendor got last."""
    return dict(vendor.fake.requests[-1].body)


def streamed(customer: Customer, model: str, **body: Any) -> list[Json]:
    """The events of one stream, each frame looked at."""
    asked = {"model": model, "input": SAY, "stream": True, **body}
    with customer.http as client, client.stream("POST", "/v1/responses", json=asked) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        return events_of(b"".join(answer.iter_raw()))


def without_time(response: Json) -> Json:
    """What a whole answer and the last event of a stream have in common: all but ids and times."""
    text = json.dumps({name: value for name, value in response.items() if name not in ("created_at", "completed_at")})
    return dict(json.loads(text.replace(response["id"].removeprefix("resp_"), "")))


# --- text -------------------------------------------------------------------------------------------------------------


def test_a_response_is_answered_and_billed_to_the_last_digit(customer: Customer, vendor: Vendor) -> None:
    raw = customer.openai.responses.with_raw_response.create(model=vendor.reference, input=SAY)
    answer = raw.parse()
    Response.model_validate(answer.to_dict())
    assert answer.output_text == DEFAULT_TEXT
    assert (answer.object, answer.status, answer.error, answer.model) == ("response", "completed", None, "m")
    [message] = answer.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    assert answer.id.startswith("resp_")
    assert message.id.startswith("msg_")
    [entry] = vendor.fake.bill()
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (8, 5, 13)
    row = customer.row()
    expected = price_of(entry)
    assert expected == usd(8, 5) == row.cost_total_usd == row.budget_usd
    assert Decimal(str(answer.usage.to_dict()["cost"])) == expected == Decimal(raw.headers["x-cost-incurred"])
    assert raw.headers["x-request-id"] == str(row.id)
    assert (raw.headers["x-provider-used"], raw.headers["x-model-used"]) == (vendor.provider.slug, "m")
    assert customer.spent() == expected


def test_chat_and_responses_cost_the_same_streamed_and_not(customer: Customer, vendor: Vendor) -> None:
    client = customer.openai
    client.chat.completions.create(model=vendor.reference, messages=ASK)
    client.responses.create(model=vendor.reference, input=SAY)
    list(client.chat.completions.create(model=vendor.reference, messages=ASK, stream=True))
    list(client.responses.create(model=vendor.reference, input=SAY, stream=True))
    client.responses.create(model=vendor.reference, input=[{"role": "user", "content": SAY}])
    rows = customer.rows()
    assert [row.cost_total_usd for row in rows] == [usd(8, 5)] * 5
    assert len({row.held_usd for row in rows}) == 1
    assert [row.streamed for row in rows] == [False, False, True, True, False]


def test_a_stream_says_what_the_whole_answer_says(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(reasoning="let me think", text="Calling both.", tool_calls=CALLS))
    asked: Json = {"tools": [WEATHER], "instructions": "Be brief.", "metadata": {"a": "b"}, "max_output_tokens": 64}
    with customer.http as client:
        whole = client.post("/v1/responses", json={"model": vendor.reference, "input": SAY, **asked}).json()
    last = judged(streamed(customer, vendor.reference, **asked))
    assert without_time(last) == without_time(whole)
    assert [item["type"] for item in whole["output"]] == ["reasoning", "message", "function_call", "function_call"]
    assert Decimal(str(last["usage"]["cost"])) == customer.rows()[1].budget_usd == customer.rows()[0].budget_usd


def test_the_settings_come_back(customer: Customer, vendor: Vendor) -> None:
    answer = customer.openai.responses.create(
        model=vendor.reference,
        input=SAY,
        instructions="Be brief.",
        max_output_tokens=50,
        temperature=0.5,
        metadata={"project": "x"},
        tools=[WEATHER],
        tool_choice="auto",
        parallel_tool_calls=False,
        reasoning={"effort": "low"},
        text={"verbosity": "low"},
        store=True,
        truncation="disabled",
        user="ada",
        include=["reasoning.encrypted_content"],
    )
    Response.model_validate(answer.to_dict())
    assert (answer.instructions, answer.max_output_tokens, answer.temperature) == ("Be brief.", 50, 0.5)
    assert (answer.metadata, answer.parallel_tool_calls, answer.tool_choice) == ({"project": "x"}, False, "auto")
    assert (answer.reasoning.effort, answer.text.verbosity, answer.text.format.type) == ("low", "low", "text")
    assert (answer.truncation, answer.user, answer.previous_response_id) == ("disabled", "ada", None)
    assert answer.tools[0].name == "get_weather"
    assert answer.to_dict()["store"] is False
    body = sent(vendor)
    if vendor.name in ("openai", "anthropic"):
        assert body["max_tokens"] == 50
    assert not {"store", "input", "instructions", "include", "truncation", "text"} & body.keys()
    assert customer.row().end_user == "ada"
    if vendor.name == "openai":
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (body["reasoning_effort"], body["verbosity"]) == ("low", "low")
        assert "metadata" not in body  # OpenAI takes it only with `store`
    elif vendor.name == "anthropic":
        assert body["system"] == [{"type": "text", "text": "Be brief."}]


def test_a_stream_cut_at_the_cap_is_incomplete(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(text="one two three four " * 10))
    whole = customer.openai.responses.create(model=vendor.reference, input=SAY, max_output_tokens=16)
    assert (whole.status, whole.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert whole.output[0].status == "incomplete"
    last = judged(streamed(customer, vendor.reference, max_output_tokens=16))
    assert without_time(last) == without_time(whole.to_dict())
    assert [row.completion_tokens for row in customer.rows()] == [16, 16]


def test_the_streaming_helper_of_the_sdk_understands_it(customer: Customer, vendor: Vendor) -> None:
    with customer.openai.responses.stream(model=vendor.reference, input=SAY) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds.count("response.output_text.delta") == 5
    assert kinds[-1] == "response.completed"
    assert final.output_text == DEFAULT_TEXT
    assert Decimal(str(final.usage.to_dict()["cost"])) == usd(8, 5)


def test_the_parse_helper_reads_a_model_class(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(text='{"answer": "42"}'))
    answer = customer.openai.responses.parse(model=vendor.reference, input=SAY, text_format=Reply)
    assert answer.output_parsed == Reply(answer="42")
    body = sent(vendor)
    if vendor.name == "openai":
        assert body["response_format"]["json_schema"]["name"] == "Reply"
        assert body["response_format"]["json_schema"]["schema"]["required"] == ["answer"]
    elif vendor.name == "anthropic":
        assert body["output_config"]["format"]["schema"]["required"] == ["answer"]
    with customer.openai.responses.stream(model=vendor.reference, input=SAY, text_format=Reply) as stream:
        assert stream.get_final_response().output_parsed == Reply(answer="42")


def test_images_are_shown(customer: Customer, vendor: Vendor) -> None:
    customer.openai.responses.create(
        model=vendor.reference,
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {"type": "input_image", "image_url": PIXEL, "detail": "low"},
                ],
            }
        ],
    )
    turn = vendor.turns()[0]
    content = turn["parts" if vendor.name == "google" else "content"]
    if vendor.name == "google":
        assert content[1] == {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
    elif vendor.name == "openai":
        assert content[1] == {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
    elif vendor.name == "anthropic":
        assert content[1]["source"] == {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


# --- tools ------------------------------------------------------------------------------------------------------------


def test_tools_are_called_at_once_and_their_results_go_back(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.once("m", Behaviour(tool_calls=CALLS))
    client = customer.openai
    conversation: list[Any] = [{"role": "user", "content": SAY}]
    first = client.responses.create(
        model=vendor.reference, input=conversation, tools=[WEATHER], tool_choice="required", store=False
    )
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.call_id, json.loads(call.arguments)) for call in calls] == [
        ("call_paris", {"city": "Paris"}),
        ("call_rome", {"city": "Rome"}),
    ]
    assert len({call.id for call in calls}) == 2
    forced = {"openai": "required", "anthropic": {"type": "any"}}
    if vendor.name in forced:
        assert sent(vendor)["tool_choice"] == forced[vendor.name]
    conversation += first.output
    for call in calls:
        output = f"{json.loads(call.arguments)['city']}: sunny"
        conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": output})
    second = client.responses.create(model=vendor.reference, input=conversation, tools=[WEATHER])
    assert second.status == "completed"
    turns = vendor.turns()
    if vendor.name == "openai":
        assert [one["role"] for one in turns] == ["user", "assistant", "tool", "tool"]
        assert [call["id"] for call in turns[1]["tool_calls"]] == ["call_paris", "call_rome"]
        assert turns[3] == {"role": "tool", "tool_call_id": "call_rome", "content": "Rome: sunny"}
    elif vendor.name == "anthropic":
        assert [block["id"] for block in turns[1]["content"]] == ["call_paris", "call_rome"]
        assert [block["tool_use_id"] for block in turns[2]["content"]] == ["call_paris", "call_rome"]
    elif vendor.name == "google":
        assert turns[1]["parts"][0]["thoughtSignature"] == google_wire.SIGNATURE
        assert [part["functionResponse"]["id"] for part in turns[2]["parts"]] == ["call_paris", "call_rome"]


def test_the_streaming_helper_puts_tool_calls_together(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(tool_calls=CALLS))
    with customer.openai.responses.stream(model=vendor.reference, input=SAY, tools=[WEATHER]) as stream:
        done = [event for event in stream if event.type == "response.function_call_arguments.done"]
        final = stream.get_final_response()
    assert [json.loads(event.arguments) for event in done] == [{"city": "Paris"}, {"city": "Rome"}]
    assert [item.call_id for item in final.output] == ["call_paris", "call_rome"]


@pytest.mark.parametrize(
    ("choice", "openai_says", "anthropic_says"),
    [
        ({"type": "function", "name": "get_weather"}, {"type": "function", "function": {"name": "get_weather"}},
         {"type": "tool", "name": "get_weather"}),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_weather"}]},
         {"type": "allowed_tools", "allowed_tools": {
             "mode": "required", "tools": [{"type": "function", "function": {"name": "get_weather"}}]}},
         {"type": "any"}),
        ("none", "none", {"type": "none"}),
    ],
    ids=["named", "allowed", "none"],
)  # fmt: skip
def test_a_tool_choice_is_put_into_the_dialect(
    customer: Customer, vendor: Vendor, choice: Any, openai_says: Any, anthropic_says: Any
) -> None:
    customer.openai.responses.create(model=vendor.reference, input=SAY, tools=[WEATHER], tool_choice=choice)
    says = {"openai": openai_says, "anthropic": anthropic_says}
    if vendor.name in says:
        assert sent(vendor)["tool_choice"] == says[vendor.name]


# --- reasoning --------------------------------------------------------------------------------------------------------


def test_reasoning_is_a_summary(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(reasoning="let me think", text="Done."))
    answer = customer.openai.responses.create(model=vendor.reference, input=SAY, reasoning={"summary": "auto"})
    reasoning, message = answer.output
    assert (reasoning.type, reasoning.summary[0].text) == ("reasoning", "let me think")
    assert message.content[0].text == "Done."
    events = list(customer.openai.responses.create(model=vendor.reference, input=SAY, stream=True))
    thought = [event.delta for event in events if event.type == "response.reasoning_summary_text.delta"]
    assert "".join(thought) == "let me think"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_signatures_survive_a_round_trip_that_stores_nothing(world: World, customer: Customer, stream: bool) -> None:
    vendor = world.vendors["anthropic"]
    vendor.fake.once("m", Behaviour(reasoning="let me think", tool_calls=CALLS[:1]))
    client = customer.openai
    asked: Any = {
        "model": vendor.reference,
        "tools": [WEATHER],
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low"},
        "max_output_tokens": 4000,
    }
    conversation: list[Any] = [{"role": "user", "content": SAY}]
    if stream:
        with client.responses.stream(input=conversation, **asked) as events:
            first = events.get_final_response()
        # The helper's own items know fields that are not the API's.
        conversation += [item.to_dict() for item in first.output]
        for item in conversation[1:]:
            item.pop("parsed_arguments", None)
    else:
        first = client.responses.create(input=conversation, **asked)
        conversation += first.output
    conversation.append({"type": "function_call_output", "call_id": "call_paris", "output": "sunny"})
    client.responses.create(input=conversation, **asked)
    thinking, use = sent(vendor)["messages"][1]["content"]
    assert thinking == {"type": "thinking", "thinking": "let me think", "signature": SIGNATURE}
    assert use["id"] == "call_paris"


def test_reasoning_text_goes_back_to_a_vendor_without_signatures(world: World, customer: Customer) -> None:
    vendor = world.vendors["openai"]
    thinker = world.provider("thinker", vendor.fake, quirks={"assistant_fields": ["reasoning_content"]})
    reference = f"thinker/{world.model(thinker, 'm').model_id}"
    world.refresh()
    vendor.fake.once("m", Behaviour(reasoning="let me think", text="Done."))
    first = customer.openai.responses.create(model=reference, input=SAY)
    again: list[Any] = [{"role": "user", "content": SAY}, *first.output, {"role": "user", "content": "And?"}]
    customer.openai.responses.create(model=reference, input=again)
    assert sent(vendor)["messages"][1] == {
        "role": "assistant",
        "content": "Done.",
        "reasoning_content": "let me think",
    }


# --- dirty upstreams --------------------------------------------------------------------------------------------------

DIRT = {
    "carriage returns": Behaviour(crlf=True),
    "comments": Behaviour(comments=True),
    "several data lines": Behaviour(multi_data=True),
    "byte by byte": Behaviour(split_at=(1,), text="Zażółć gęślą 🦆 jaźń"),
    "no final blank": Behaviour(no_final_blank=True),
    "no end": Behaviour(no_done=True),
    "two ends": Behaviour(double_done=True),
    "no finish keys": Behaviour(missing_finish_keys=True),
    "no finish at all": Behaviour(finish_reason="omit"),
    "a role each time": Behaviour(role_every_chunk=True),
    "ids that change": Behaviour(id_changes=True),
    "usage everywhere": Behaviour(usage_placement="cumulative"),
    "usage twice": Behaviour(usage_placement="both"),
    "usage never": Behaviour(usage_placement="never"),
    "usage beyond belief": Behaviour(usage={"completion_tokens": -5}),
    "no text": Behaviour(text=""),
    "only reasoning": Behaviour(reasoning="hm", text=""),
    "odd finish": Behaviour(finish_reason="eos"),
    "filtered": Behaviour(finish_reason="content_filter"),
    "one character each": Behaviour(chunks=10_000),
    "tools": Behaviour(tool_calls=CALLS),
    "tools after text": Behaviour(text="Both.", tool_calls=CALLS),
    "tools without an index": Behaviour(tool_calls=CALLS, omit_tool_index=True),
    "tools with a role each time": Behaviour(tool_calls=CALLS, role_every_chunk=True, missing_finish_keys=True),
    "broken arguments": Behaviour(tool_calls=[{**CALLS[0], "arguments": '{"city": '}]),
    "no arguments": Behaviour(tool_calls=[{**CALLS[0], "arguments": ""}, CALLS[1]]),
    "unknown fields": Behaviour(extra_fields={"vendor": {"knob": [1]}}),
}


@pytest.mark.parametrize("name", DIRT)
def test_what_a_dirty_vendor_sends_comes_out_in_order_at_the_price_of_chat(
    customer: Customer, vendor: Vendor, name: str
) -> None:
    vendor.fake.script("m", DIRT[name])
    response = judged(streamed(customer, vendor.reference, tools=[WEATHER]))
    whole = customer.openai.responses.create(model=vendor.reference, input=SAY, tools=[WEATHER]).to_dict()
    if vendor.name == "openai" or name != "broken arguments":  # of which other dialects' fakes make an object
        assert without_time(response)["output"] == without_time(whole)["output"]
    tool = {"type": "function", "function": {field: WEATHER[field] for field in WEATHER if field != "type"}}
    customer.ask(vendor.reference, tools=[tool])
    with customer.stream(vendor.reference, tools=[tool]) as chat:
        chat.read()
    ours, ours_whole, chats_whole, chats = customer.rows()
    assert ours.cost_total_usd == chats.cost_total_usd > 0
    assert ours_whole.cost_total_usd == chats_whole.cost_total_usd > 0
    assert Decimal(str(response["usage"]["cost"])) == ours.budget_usd


def test_a_vendor_that_breaks_after_content_ends_in_one_failure(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script(
        "m", Behaviour(in_band_error={"type": "overloaded_error", "message": "Overloaded"}, in_band_error_after=2)
    )
    events = streamed(customer, vendor.reference)
    response = judged(events)
    assert response["error"]["code"] == "server_error"
    assert response["output"][0]["status"] == "incomplete"
    text = response["output"][0]["content"][0]["text"]
    assert text
    assert DEFAULT_TEXT.startswith(text)
    assert customer.row().status == "partial"
    with pytest.raises(openai.APIError) as caught:
        list(customer.openai.responses.create(model=vendor.reference, input=SAY, stream=True))
    assert caught.value.code in ("overloaded", "upstream_error")


def test_a_failure_before_content_is_a_true_status(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(empty_stream=True))
    with pytest.raises(openai.InternalServerError) as caught:
        customer.openai.responses.create(model=vendor.reference, input=SAY, stream=True)
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_invalid_response")
    assert customer.spent() == 0


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.fixture
def refusals(customer: Customer) -> Iterator[Customer]:
    """A customer whose requests must all be refused before anything happens."""
    yield customer
    customer.untouched()


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "stored"),
        ({"conversation": "conv_1"}, "conversation", "whole conversation"),
        ({"background": True}, "background", "stream it"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "instructions"),
        ({"truncation": "auto"}, "truncation", "disabled"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "metered"),
        ({"tools": [WEATHER, {"type": "mcp", "server_label": "x"}]}, "tools[1].type", "metered"),
        ({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, "tools[0].type", "metered"),
        ({"input": [{"type": "item_reference", "id": "rs_1"}]}, "input[0]", "store=False"),
        ({"input": [{"id": "rs_1"}]}, "input[0]", "store=False"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input[0].type", "Leave it out"),
        ({"max_tokens": 5}, "max_tokens", "max_output_tokens"),
        ({"messages": ASK}, "messages", "input"),
        ({"service_tier": "flex"}, "service_tier", "service tier flex"),
        ({"web_search_options": {}}, "web_search_options", "billed"),
    ],
)  # fmt: skip
def test_what_is_not_here_is_refused_with_what_to_do_instead(
    refusals: Customer, vendor: Vendor, body: Json, param: str, word: str
) -> None:
    with refusals.http as client:
        answer = client.post("/v1/responses", json={"model": vendor.reference, "input": SAY, **body})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", param)
    assert word in error["message"]
    assert vendor.fake.bill() == []


def test_the_snippet_of_the_documentation_runs(
    customer: Customer, vendor: Vendor, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path("docs/responses.md").read_text()
    snippet = page.split("```python\n")[1].split("```")[0]
    for said, meant in (
        ("http://127.0.0.1:8084", customer.url),
        ("tg_live_...", customer.secret),
        ('model="auto"', f'model="{vendor.reference}"'),
    ):
        assert said in snippet
        snippet = snippet.replace(said, meant)
    vendor.fake.once("m", Behaviour(reasoning="let me think", tool_calls=CALLS[:1]))
    vendor.fake.script("m", Behaviour(text="It is sunny."))
    exec(snippet, {})
    assert capsys.readouterr().out.startswith("It is sunny.ResponseUsage(")
    assert vendor.turns()[1]["role"] == ("model" if vendor.name == "google" else "assistant")


def test_a_budget_holds_on_this_wire_too(world: World) -> None:
    poor = world.customer(budget_limit_daily=Decimal(0))
    with pytest.raises(openai.RateLimitError) as caught:
        poor.openai.responses.create(model="fakeai/m", input=SAY)
    assert caught.value.code == "insufficient_quota"
    poor.untouched()


def test_the_wishes_of_a_request_stay_at_the_gateway(customer: Customer, vendor: Vendor) -> None:
    customer.openai.responses.create(
        model=vendor.reference, input=SAY, extra_body={"power_level": "eco"}, extra_headers={"X-Task-Type": "code"}
    )
    assert "power_level" not in sent(vendor)
    row = customer.row()
    assert (row.power_level, row.task_type) == ("eco", "code")
