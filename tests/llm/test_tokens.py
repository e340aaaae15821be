"""What is held for a request's input: a bound that no tokenizer passes, and an estimate for routing."""

from typing import Any

import pytest

from llm.engine import tokens

WINDOW = 100_000


def bound(body: dict[str, Any], dialect: str = "openai") -> int:
    return tokens.measure(body).bound(WINDOW, dialect)


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **more}]}


def test_the_bound_is_utf8_bytes_and_64_a_message() -> None:
    body = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好"}]}
    assert bound(body) == 9 + 6 + 2 * 64


def test_tools_add_their_schema_and_2048() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    assert (
        bound({**user("hi"), "tools": [tool]}) == 2 + 64 + len('[{"type":"function","function":{"name":"f"}}]') + 2048
    )


def test_an_image_counts_its_published_maximum_and_not_its_base64() -> None:
    parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 50_000}}]
    assert bound(user(parts)) == 64 + 48_169
    assert bound(user(parts), "anthropic") == 64 + 4_784


def test_media_without_a_published_maximum_hold_the_whole_context_window() -> None:
    assert bound(user([{"type": "input_audio", "input_audio": {"data": "AAAA"}}])) == WINDOW
    assert bound(user([{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]), "cohere") == WINDOW


def test_the_bound_never_passes_the_context_window() -> None:
    assert bound(user("x" * 200_000)) == WINDOW


@pytest.mark.parametrize(
    "body",
    [
        {**user("hi"), "documents": ["x" * 5_000]},
        user("hi", reasoning_details=[{"text": "x" * 5_000}]),
        user([{"type": "text", "text": "hi", "context": "x" * 5_000}]),
    ],
    ids=["a body field", "a message field", "a field of a part"],
)
def test_unknown_fields_that_travel_to_the_provider_are_counted(body: dict[str, Any]) -> None:
    assert bound(body) > 5_000


@pytest.mark.parametrize(
    ("text", "about"),
    [("The quick brown fox jumps over the lazy dog.", 10), ("你好世界今天天气很好", 8), ("1234567890", 4), ("", 0)],
)
def test_the_estimate_is_close_to_a_tokenizer(text: str, about: int) -> None:
    assert abs(tokens.estimate(text) - about) <= 1
