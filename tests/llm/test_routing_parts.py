"""The small parts of routing: task detection, weights."""

import uuid
from collections import Counter

import pytest

from llm.routing import balancing
from llm.routing.question import Entry, salt
from llm.routing.task_type import detect
from tests.llm.routing_world import credential, model, provider

NOTHING = frozenset()
AT = provider("openai")


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Write a Python function that sorts a list.", "code"),
        ("```\nTraceback (most recent call last)\n``` Why?", "code"),
        ("Translate this letter into French, please.", "translation"),
        ("Extract the invoice fields as JSON.", "extraction"),
        ("Prove step by step that the square root of two is irrational.", "reasoning"),
        ("Based on the following documents: ... who signed?", "rag"),
        ("Write a poem about the sea.", "creative"),
        ("Hello, how are you?", "chat"),
        ("What is the capital of France?", "general"),
        ("", "general"),
        ("It is important to be reasonable and historic.", "general"),
    ],
)
def test_a_task_is_told_by_its_words(text, task):
    assert detect(text, NOTHING)[0] == task


def test_confidence_is_between_zero_and_one_and_zero_for_general():
    assert detect("What is the capital of France?", NOTHING) == ("general", 0.0)
    assert detect("Write a poem.", NOTHING) == ("creative", 0.67)


def test_what_stands_in_the_middle_of_a_long_text_does_not_count():
    filler = "lorem ipsum dolor sit amet " * 100
    assert detect(f"{filler} translate {filler}", NOTHING)[0] == "general"
    assert detect(f"{filler} translate this", NOTHING)[0] == "translation"


def entry(name: str, weight: int) -> Entry:
    one = model(AT, name)
    return Entry(one, None, weight, salt(one.id.bytes))


@pytest.mark.parametrize("weights", [(1, 1, 1), (100, 100, 100), (5, 3, 2), (90, 9, 1)])
def test_each_comes_first_as_often_as_its_weight_says(weights):
    equals = [entry(f"m{place}", weight) for place, weight in enumerate(weights)]
    seeds = [salt(uuid.UUID(int=number).bytes) for number in range(6000)]
    firsts = Counter(balancing.entries(seed, equals)[0].model.model_id for seed in seeds)
    for one in equals:
        share = one.weight / sum(weights)
        assert firsts[one.model.model_id] / 6000 == pytest.approx(share, abs=0.025)


def test_who_leaves_moves_only_its_own_requests():
    equals = [entry(f"m{place}", 100) for place in range(5)]
    for number in range(200):
        seed = salt(uuid.UUID(int=number).bytes)
        before = balancing.entries(seed, equals)
        after = balancing.entries(seed, equals[1:])
        assert after == [one for one in before if one is not equals[0]]


def test_weight_zero_is_behind_everybody_and_all_zero_is_by_slug():
    assert balancing.entries(1, [entry("a", 0), entry("b", 1), entry("c", 1)])[-1].model.model_id == "a"
    assert [one.model.model_id for one in balancing.entries(1, [entry("a", 0), entry("b", 0)])] == ["a", "b"]


def test_keys_of_a_provider_share_by_weight():
    keys = [credential("a", weight=3), credential("b", weight=1)]
    seeds = [salt(uuid.UUID(int=number).bytes) for number in range(4000)]
    firsts = Counter(balancing.credentials(seed, keys)[0].name for seed in seeds)
    assert firsts["a"] / 4000 == pytest.approx(0.75, abs=0.025)
