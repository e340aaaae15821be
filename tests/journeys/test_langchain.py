"""What a LangChain user does: `ChatOpenAI` with a base URL and a key, over the Responses API."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.fakes import Behaviour
from tests.fakes.anthropic_wire import SIGNATURE
from tests.fakes.behaviour import DEFAULT_TEXT
from tests.journeys.world import Customer, Vendor, World, price_of

CALLS = [
    {"name": "get_weather", "arguments": {"city": "Paris"}, "id": "call_paris"},
    {"name": "get_weather", "arguments": {"city": "Rome"}, "id": "call_rome"},
]


class Reply(BaseModel):
    """An answer."""

    answer: str


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: sunny"


def model(customer: Customer, vendor: Vendor, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=vendor.reference,
        base_url=f"{customer.url}/v1",
        api_key=customer.secret,
        use_responses_api=True,
        max_retries=0,
        timeout=20,
        **options,
    )


def test_it_is_answered_whole_and_streamed_at_the_same_price(customer: Customer, vendor: Vendor) -> None:
    chat = model(customer, vendor)
    asked = [SystemMessage("Be brief."), HumanMessage("Say hello to the world")]
    whole = chat.invoke(asked)
    assert whole.text == DEFAULT_TEXT
    assert whole.usage_metadata["output_tokens"] == 5
    assert "".join(chunk.text for chunk in chat.stream(asked)) == DEFAULT_TEXT
    rows = customer.rows()
    assert [row.streamed for row in rows] == [False, True]
    entries = vendor.fake.bill()
    assert [row.cost_total_usd for row in rows] == [price_of(entry) for entry in entries]
    assert rows[0].cost_total_usd == rows[1].cost_total_usd
    assert whole.usage_metadata["input_tokens"] == entries[0].prompt_tokens


def test_tools_are_called_at_once_and_their_results_go_back(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.once("m", Behaviour(reasoning="let me think", tool_calls=CALLS))
    chat = model(customer, vendor).bind_tools([get_weather])
    asked: list[Any] = [HumanMessage("What is the weather?")]
    first = chat.invoke(asked)
    assert [(call["id"], call["args"]) for call in first.tool_calls] == [
        ("call_paris", {"city": "Paris"}),
        ("call_rome", {"city": "Rome"}),
    ]
    results = [ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]) for call in first.tool_calls]
    second = chat.invoke([*asked, first, *results])
    assert second.text
    sent = vendor.fake.requests[-1].body
    turns = sent.get("messages", [])
    if vendor.name == "google":
        answers = [part["functionResponse"] for part in sent["contents"][-1]["parts"]]
        assert [answer["name"] for answer in answers] == ["get_weather", "get_weather"]
    elif vendor.name == "openai":
        assert [turn["role"] for turn in turns] == ["user", "assistant", "tool", "tool"]
        assert turns[3]["content"] == "Rome: sunny"
    elif vendor.name == "anthropic":
        assert turns[1]["content"][0] == {"type": "thinking", "thinking": "let me think", "signature": SIGNATURE}
        assert [block["type"] for block in turns[2]["content"]] == ["tool_result", "tool_result"]


def test_a_streamed_message_is_put_together_and_goes_back(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.once("m", Behaviour(text="Both.", tool_calls=CALLS))
    chat = model(customer, vendor).bind_tools([get_weather])
    asked: list[Any] = [HumanMessage("What is the weather?")]
    whole: Any = None
    for chunk in chat.stream(asked):
        whole = chunk if whole is None else whole + chunk
    assert isinstance(whole, AIMessage)
    assert whole.text == "Both."
    assert [call["args"]["city"] for call in whole.tool_calls] == ["Paris", "Rome"]
    results = [ToolMessage("sunny", tool_call_id=call["id"]) for call in whole.tool_calls]
    assert chat.invoke([*asked, whole, *results]).text


def test_a_model_class_is_answered_with(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(text='{"answer": "42"}'))
    chat = model(customer, vendor).with_structured_output(Reply, method="json_schema")
    assert chat.invoke("What is it?") == Reply(answer="42")


def test_reasoning_is_shown(customer: Customer, vendor: Vendor) -> None:
    vendor.fake.script("m", Behaviour(reasoning="let me think", text="Done."))
    answer = model(customer, vendor, reasoning={"effort": "low", "summary": "auto"}, max_tokens=4000).invoke("Think.")
    thought = [block for block in answer.content_blocks if block["type"] == "reasoning"]
    assert thought[0]["reasoning"] == "let me think"
    assert answer.text == "Done."


def test_a_stream_that_breaks_is_an_error_and_no_short_answer(world: World, customer: Customer) -> None:
    vendor = world.vendors["openai"]
    vendor.fake.script("m", Behaviour(in_band_error={"message": "Overloaded"}, in_band_error_after=2))
    with pytest.raises(Exception, match="The provider reported an error"):
        list(model(customer, vendor).stream("Say hello to the world"))
    assert customer.row().status == "partial"
