"""The sandbox's embeddings and legacy completions, through the door that the engine uses."""

import asyncio
import math
from dataclasses import replace
from typing import Any, cast

import pytest

from llm.calls import Call, Completed, StreamEvent
from llm.engine import attempt
from llm.engine.http import Client
from llm.errors import InvalidRequest
from tests.llm.test_provider_registry import a_call

NO_CLIENT = cast("Client", None)  # the sandbox needs none


def a_request(kind: str, body: dict[str, Any], **how: Any) -> Call:
    return replace(a_call(body, dialect="sandbox", **how), kind=kind)


def answered(kind: str, body: dict[str, Any], **how: Any) -> Completed:
    return asyncio.run(attempt.complete(NO_CLIENT, a_request(kind, body, **how), attempt.Progress()))


def streamed(body: dict[str, Any], **how: Any) -> list[StreamEvent]:
    call = a_request("completion", body, stream=True, **how)
    return asyncio.run(attempt.begin(NO_CLIENT, call, attempt.Progress())).first


# Embeddings


def test_a_vector_is_a_unit_the_same_every_time_and_another_for_another_text() -> None:
    once, again = (answered("embedding", {"input": ["a b", "c"]}) for _ in range(2))
    first, second = (row["embedding"] for row in once.body["data"])
    assert once.body == again.body
    assert first != second
    assert (len(first), [row["index"] for row in once.body["data"]]) == (256, [0, 1])
    assert math.isclose(math.fsum(number * number for number in first), 1)
    assert once.usage == {"prompt_tokens": 3, "total_tokens": 3}


def test_dimensions_and_token_ids() -> None:
    found = answered("embedding", {"input": [[5, 6, 7]], "dimensions": 3})
    assert len(found.body["data"][0]["embedding"]) == 3
    assert found.usage == {"prompt_tokens": 3, "total_tokens": 3}
    for wrong in (0, 5000, "3"):
        with pytest.raises(InvalidRequest) as caught:
            answered("embedding", {"input": "a", "dimensions": wrong})
        assert caught.value.param == "dimensions"


# Legacy completions


def test_a_prompt_is_answered_in_the_legacy_shape() -> None:
    found = answered("completion", {"prompt": "Once upon", "n": 2}).body
    assert found["object"] == "text_completion"
    said = "Thank you for your message. You said: Once upon"
    assert [(one["index"], one["text"], one["finish_reason"]) for one in found["choices"]] == [
        (0, said, "stop"),
        (1, said, "stop"),
    ]
    assert found["usage"] == {"prompt_tokens": 6, "completion_tokens": 18, "total_tokens": 24}


def test_several_prompts_are_answered_in_order_and_the_stream_says_the_same() -> None:
    body = {"prompt": ["one", "two"], "n": 2, "stop": "said"}
    whole = answered("completion", body, cap=4).body
    events = streamed(body, cap=4)
    texts, finishes = ["", "", "", ""], {}
    for event in events[:-1]:
        assert event.chunk is not None
        assert event.chunk["object"] == "text_completion"
        [choice] = event.chunk["choices"]
        texts[choice["index"]] += choice["text"]
        if choice["finish_reason"]:
            finishes[choice["index"]] = choice["finish_reason"]
    assert texts == [one["text"] for one in whole["choices"]] == ["Thank you for your"] * 4
    assert finishes == dict.fromkeys(range(4), "length")
    assert [event.usage for event in events[-2:]] == [whole["usage"]] * 2
    assert all(event.usage is None for event in events[:-2])
    assert sum(event.output_bytes for event in events) == sum(len(text) for text in texts)
    assert events[-1].done


@pytest.mark.parametrize("prompt", [None, [], [1, 2], [[1], [2]], {"a": 1}], ids=str)
def test_a_prompt_that_is_no_text_is_refused(prompt: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        answered("completion", {"prompt": prompt})
    assert caught.value.param == "prompt"
