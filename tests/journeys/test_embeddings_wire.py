"""`/v1/embeddings` and `/v1/completions` live: what users of openai-python and LangChain do with them."""

import base64
import struct
from decimal import Decimal
from typing import Any

import openai
import pytest
from langchain_openai import OpenAIEmbeddings

from llm.wire import completions, embeddings
from tests import cast
from tests.fakes import Behaviour
from tests.fakes.openai_wire import vector
from tests.journeys import hostile
from tests.journeys.test_hostile_input import _JSON, judged_wire
from tests.journeys.world import Customer, World

PRICE = Decimal("0.10")  # USD per million tokens of the model `e`


@pytest.fixture(scope="module")
def shop(stage: World) -> World:
    """The stage, selling vectors too, and the sandbox."""
    vendor = stage.vendors["openai"].provider
    quirks = {"dimensions": True, "token_input": True}
    stage.model(vendor, "e", kind="embedding", input=str(PRICE), output=None, cached=None, context_window=100,
                quirks=quirks)  # fmt: skip
    stage.model(vendor, "fixed", kind="embedding", input=str(PRICE), output=None, cached=None)
    sandbox = cast.make_sandbox()
    cast.make_model(sandbox, "echo", input="0.25", output="0.50", quirks={"legacy_completions": True})
    stage.refresh()
    return stage


@pytest.fixture
def buyer(shop: World, world: World) -> Customer:
    return world.customer(sandbox_enabled=True)


# --- embeddings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [None, "float", "base64"])
def test_n_inputs_are_n_vectors_in_order_at_the_price_of_their_tokens(shop: World, buyer: Customer, form: Any) -> None:
    texts = ["one two", "three", "four five six"]
    asked: Any = {} if form is None else {"encoding_format": form}
    answer = buyer.openai.embeddings.create(model="fakeai/e", input=texts, **asked)
    expected = [vector(text, 8) for text in texts]
    if form == "base64":
        assert [list(struct.unpack("<8f", base64.b64decode(row.embedding))) for row in answer.data] == expected
    else:
        assert [row.embedding for row in answer.data] == expected
    assert [row.index for row in answer.data] == [0, 1, 2]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (6, 6)
    cost = 6 * PRICE / 1_000_000
    row = buyer.row()
    assert (row.cost_total_usd, row.prompt_tokens, row.completion_tokens) == (cost, 6, 0)
    assert Decimal(str(answer.usage.to_dict()["cost"])) == cost == buyer.spent()


def test_inputs_together_may_be_longer_than_a_context_window_and_one_may_not(shop: World, buyer: Customer) -> None:
    text = "word " * 60
    answer = buyer.openai.embeddings.create(model="fakeai/e", input=[text] * 20)
    assert answer.usage.prompt_tokens == 1_200
    row = buyer.row()
    assert (row.cost_total_usd, row.is_estimated, row.is_overrun) == (1_200 * PRICE / 1_000_000, False, False)
    with pytest.raises(openai.BadRequestError) as caught:
        buyer.openai.embeddings.create(model="fakeai/e", input=["a", "word " * 200])
    assert caught.value.code == "context_length_exceeded"
    assert len(buyer.rows()) == 1


def test_dimensions_are_for_models_that_take_them(shop: World, buyer: Customer) -> None:
    answer = buyer.openai.embeddings.create(model="fakeai/e", input="a", dimensions=4)
    assert len(answer.data[0].embedding) == 4
    with pytest.raises(openai.BadRequestError) as caught:
        buyer.openai.embeddings.create(model="fakeai/fixed", input="a", dimensions=4)
    assert caught.value.param == "dimensions"
    assert len(buyer.rows()) == 1 or buyer.rows()[1].cost_total_usd == 0


def test_token_ids_are_taken_or_refused_clearly(shop: World, buyer: Customer) -> None:
    answer = buyer.openai.embeddings.create(model="fakeai/e", input=[[1, 2, 3], [4]])
    assert answer.usage.prompt_tokens == 4
    with pytest.raises(openai.BadRequestError) as caught:
        buyer.openai.embeddings.create(model="fakeai/fixed", input=[1, 2, 3])
    assert caught.value.param == "input"
    assert "token ids" in caught.value.message


def test_a_chat_model_makes_no_vectors_and_an_embedding_model_does_not_chat(shop: World, buyer: Customer) -> None:
    with pytest.raises(openai.BadRequestError, match="embedding"):
        buyer.openai.embeddings.create(model="fakeai/m", input="a")
    with pytest.raises(openai.BadRequestError, match="chat"):
        buyer.openai.chat.completions.create(model="fakeai/e", messages=[{"role": "user", "content": "a"}])
    buyer.untouched()


def test_usage_that_does_not_come_is_estimated_and_never_zero(shop: World, buyer: Customer) -> None:
    shop.fake.script("e", Behaviour(usage="none"))
    answer = buyer.openai.embeddings.create(model="fakeai/e", input=["one two", "three"])
    row = buyer.row()
    assert row.is_estimated
    assert row.cost_total_usd > 0
    assert answer.usage.prompt_tokens == row.prompt_tokens > 0


def test_langchain_embeds_documents(shop: World, buyer: Customer) -> None:
    embedder = OpenAIEmbeddings(
        model="fakeai/e", base_url=f"{buyer.url}/v1", api_key=buyer.secret, check_embedding_ctx_length=False
    )
    assert embedder.embed_documents(["one", "two"]) == [vector("one", 8), vector("two", 8)]


# --- legacy completions -----------------------------------------------------------------------------------------------


def test_a_prompt_is_completed_whole_and_streamed_at_the_same_price(buyer: Customer) -> None:
    asked: Any = {"model": "sandbox/echo", "prompt": "Say hello", "max_tokens": 50}
    whole = buyer.openai.completions.create(**asked)
    chunks = list(buyer.openai.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert whole.object == "text_completion"
    assert whole.choices[0].text
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].text
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    first, second = buyer.rows()
    assert first.cost_total_usd == second.cost_total_usd > 0
    assert Decimal(str(whole.usage.to_dict()["cost"])) == first.budget_usd


def test_every_prompt_is_answered_as_often_as_asked(buyer: Customer) -> None:
    answer = buyer.openai.completions.create(model="sandbox/echo", prompt=["One", "Two"], n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert not buyer.row().is_overrun


def test_a_model_that_serves_chats_alone_says_where_to_go(shop: World, buyer: Customer) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        buyer.openai.completions.create(model="fakeai/m", prompt="Say hello")
    assert "/v1/chat/completions" in caught.value.message
    buyer.untouched()


# --- hostile input ----------------------------------------------------------------------------------------------------

SOUND: dict[str, tuple[dict[str, Any], Any]] = {
    "/v1/embeddings": ({"model": "fakeai/e", "input": "Say hello"}, embeddings),
    "/v1/completions": ({"model": "sandbox/echo", "prompt": "Say hello"}, completions),
}


@pytest.mark.parametrize("path", SOUND)
def test_a_hostile_value_in_any_field_is_refused_by_name_or_harmless(shop: World, buyer: Customer, path: str) -> None:
    sound, wire = SOUND[path]
    wrong = []
    with buyer.http as client:
        for position, field in enumerate((*wire.CHECKS, "best_of", "suffix", "config", "task_type", "no_such")):
            for name, source in hostile.values_for(position).items():
                answer = client.post(path, content=hostile.object_with(sound, field, source), headers=_JSON)
                if complaint := judged_wire(answer, field=field):
                    wrong.append(f"{field} {name}: {complaint}")
        for name, body in {**hostile.BODIES, **hostile.ODD_BODIES}.items():
            answer = client.post(path, content=body, headers=_JSON)
            if complaint := judged_wire(answer) or ("" if answer.status_code == 400 else str(answer.status_code)):
                wrong.append(f"{name}: {complaint}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:60])
