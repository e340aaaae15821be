"""What is believed of a usage object, and what is not."""

import math
from decimal import Decimal
from typing import Any

import pytest

from llm.calls import Usage
from llm.providers.usage import from_openai, openai_shape

WINDOW = 1000


def test_openai_counts_cached_written_and_reasoning_tokens_inside() -> None:
    raw = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    usage = from_openai(raw, context_window=WINDOW)
    assert usage == Usage(
        prompt_tokens=100, completion_tokens=50, cached_tokens=60, cache_write_5m_tokens=30, reasoning_tokens=20
    )
    assert usage.meters() == {"input": 10, "cache_read": 60, "cache_write_5m": 30, "output": 30, "reasoning": 20}


@pytest.mark.parametrize(
    ("parts", "meters"),
    [
        # Text is what was cached, as far as there is any.
        ({"cached_tokens": 4, "audio_tokens": 6}, {"cache_read": 4, "audio_input": 6}),
        ({"cached_tokens": 7, "audio_tokens": 6}, {"cache_read": 4, "audio_input": 3, "audio_cache_read": 3}),
        (
            {"cached_tokens": 7, "audio_tokens": 6, "cached_tokens_details": {"audio_tokens": 5}},
            {"input": 2, "cache_read": 2, "audio_input": 1, "audio_cache_read": 5},
        ),
        # Cached video has no price of its own: it is cached input.
        ({"cached_tokens": 10, "video_tokens": 10}, {"cache_read": 10}),
        ({"image_tokens": 3, "text_tokens": 7}, {"input": 7, "image_input": 3}),
    ],
)
def test_media_are_counted_apart_and_no_token_twice(parts: dict[str, Any], meters: dict[str, int]) -> None:
    usage = from_openai(
        {"prompt_tokens": 10, "completion_tokens": 0, "prompt_tokens_details": parts}, context_window=WINDOW
    )
    assert usage is not None
    assert usage.meters() == meters
    assert sum(usage.meters().values()) == 10


@pytest.mark.parametrize(
    ("extra", "cached"),
    [
        ({"prompt_cache_hit_tokens": 40, "prompt_cache_miss_tokens": 60}, 40),
        ({"cached_tokens": 40}, 40),
        ({"cache_read_input_tokens": 40}, 40),
        ({"prompt_tokens_details": {"cached_tokens": 0}, "prompt_cache_hit_tokens": 40}, 0),
        ({"prompt_tokens_details": None}, 0),
        ({"prompt_tokens_details": {"cached_tokens": None}}, 0),
    ],
)
def test_cached_tokens_are_found_where_each_vendor_puts_them(extra: dict[str, Any], cached: int) -> None:
    usage = from_openai({"prompt_tokens": 100, "completion_tokens": 5} | extra, context_window=WINDOW)
    assert usage == Usage(prompt_tokens=100, completion_tokens=5, cached_tokens=cached)


def test_xai_counts_reasoning_beside_completion_and_its_total_says_so() -> None:
    # Figures of a real grok-4.20 answer.
    raw = {
        "prompt_tokens": 10120,
        "completion_tokens": 1499,
        "total_tokens": 14428,
        "prompt_tokens_details": {"cached_tokens": 128},
        "completion_tokens_details": {"reasoning_tokens": 2809},
    }
    expected = Usage(prompt_tokens=10120, completion_tokens=4308, cached_tokens=128, reasoning_tokens=2809)
    assert from_openai(raw, context_window=256_000) == expected
    assert from_openai(raw, context_window=256_000, reasoning_outside_completion=True) == expected
    del raw["total_tokens"]
    assert from_openai(raw, context_window=256_000) is None  # more reasoning than completion
    assert from_openai(raw, context_window=256_000, reasoning_outside_completion=True) == expected


@pytest.mark.parametrize(
    ("said", "usd"),
    [
        ({}, None),
        ({"cost": 0.00014}, "0.00014"),  # OpenRouter
        ({"cost": 0}, "0"),
        ({"cost": 1}, "1"),
        ({"cost": {"input_tokens_cost": 0.1, "total_cost": 0.006}}, "0.006"),  # Perplexity
        ({"cost_in_usd_ticks": 2_709_000}, "0.0002709"),  # xAI
        ({"cost": 1e-11}, "0"),
        ({"cost": 5e-11}, "0.0000000001"),
        ({"cost": -1}, None),
        ({"cost": 100_001}, None),
        ({"cost": 10**5000}, None),
        ({"cost": math.nan}, None),
        ({"cost": math.inf}, None),
        ({"cost": True}, None),
        ({"cost": "0.5"}, None),
        ({"cost": {"total_cost": "x"}}, None),
        ({"cost": None}, None),
        ({"cost_in_usd_ticks": 10**30}, None),
    ],
)
def test_what_a_provider_says_it_costs_is_kept_if_it_can_be_and_never_makes_its_counts_unbelievable(
    said: dict[str, Any], usd: str | None
) -> None:
    usage = from_openai({"prompt_tokens": 10, "completion_tokens": 5} | said, context_window=WINDOW)
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (10, 5, False)
    assert usage.reported_cost == (None if usd is None else Decimal(usd))


def test_openai_reasoning_is_never_counted_twice() -> None:
    raw = {
        "prompt_tokens": 10,
        "completion_tokens": 30,
        "total_tokens": 40,
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    assert from_openai(raw, context_window=WINDOW) == Usage(prompt_tokens=10, completion_tokens=30, reasoning_tokens=20)


def test_a_zero_is_a_zero_and_a_missing_completion_follows_from_the_total() -> None:
    nothing = Usage(prompt_tokens=0, completion_tokens=0)
    assert from_openai({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, context_window=9) == nothing
    assert from_openai({"prompt_tokens": 7, "total_tokens": 7}, context_window=9) == Usage(
        prompt_tokens=7, completion_tokens=0
    )
    assert from_openai({"prompt_tokens": 7}, context_window=9) is None
    assert from_openai({"prompt_tokens": 7}, context_window=9, completion_estimate=2) == Usage(
        prompt_tokens=7, completion_tokens=2, estimated=True
    )


BAD = [-1, True, False, 1.0, "5", math.nan, math.inf, [], {}, 10**30]


@pytest.mark.parametrize("bad", BAD, ids=repr)
@pytest.mark.parametrize("key", ["prompt_tokens", "completion_tokens"])
def test_counts_beyond_belief_are_not_believed(key: str, bad: Any) -> None:
    assert from_openai({"prompt_tokens": 5, "completion_tokens": 5} | {key: bad}, context_window=WINDOW) is None


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_parts_beyond_belief_are_not_believed(bad: Any) -> None:
    whole = {"prompt_tokens": 5, "completion_tokens": 5}
    for part in (
        {"prompt_tokens_details": {"cached_tokens": bad}},
        {"prompt_tokens_details": {"cache_creation_tokens": bad}},
        {"prompt_tokens_details": {"cache_creation_token_details": {"ephemeral_1h_input_tokens": bad}}},
        {"completion_tokens_details": {"reasoning_tokens": bad}},
        {"prompt_tokens_details": "five"},
    ):
        assert from_openai(whole | part, context_window=WINDOW) is None


@pytest.mark.parametrize("raw", [None, [], "usage", 5, {}, {"prompt_tokens": None, "completion_tokens": 5}])
def test_what_is_no_usage_is_none(raw: Any) -> None:
    assert from_openai(raw, context_window=WINDOW) is None


def test_usage_up_to_the_window_is_recorded_as_reported_and_above_it_is_not() -> None:
    def read(prompt: int, completion: int, choices: int = 1) -> Usage | None:
        raw = {"prompt_tokens": prompt, "completion_tokens": completion}
        return from_openai(raw, context_window=WINDOW, choices=choices)

    assert read(1000, 1000) == Usage(prompt_tokens=1000, completion_tokens=1000)
    assert read(1001, 1) is None
    assert read(1, 1001) is None
    assert read(1, 1001, choices=2) == Usage(prompt_tokens=1, completion_tokens=1001)
    assert read(1001, 1, choices=2) is None


def test_parts_larger_than_their_whole_are_not_believed() -> None:
    whole = {"prompt_tokens": 10, "completion_tokens": 10}
    for part in (
        {"prompt_tokens_details": {"cached_tokens": 11}},
        {"prompt_tokens_details": {"cached_tokens": 6, "cache_creation_tokens": 5}},
        {"completion_tokens_details": {"reasoning_tokens": 11}},
    ):
        assert from_openai(whole | part, context_window=WINDOW) is None


def test_anthropic_counts_cached_and_written_tokens_outside() -> None:
    raw = {
        "input_tokens": 10,
        "cache_read_input_tokens": 60,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 25, "ephemeral_1h_input_tokens": 5},
        "output_tokens": 40,
        "output_tokens_details": {"thinking_tokens": 15},
        "service_tier": "standard",
    }
    usage = from_openai(openai_shape(raw), context_window=WINDOW)
    assert usage == Usage(
        prompt_tokens=100,
        completion_tokens=40,
        cached_tokens=60,
        cache_write_5m_tokens=25,
        cache_write_1h_tokens=5,
        reasoning_tokens=15,
    )
    assert openai_shape(raw) == {
        "prompt_tokens": 100,
        "completion_tokens": 40,
        "total_tokens": 140,
        "prompt_tokens_details": {
            "cached_tokens": 60,
            "cache_creation_tokens": 30,
            "cache_creation_token_details": {"ephemeral_5m_input_tokens": 25, "ephemeral_1h_input_tokens": 5},
        },
        "completion_tokens_details": {"reasoning_tokens": 15},
    }


def test_anthropic_writes_without_a_split_are_kept_five_minutes() -> None:
    raw = {"input_tokens": 1, "cache_creation_input_tokens": 30, "cache_creation": None, "output_tokens": 2}
    assert from_openai(openai_shape(raw), context_window=WINDOW) == Usage(
        prompt_tokens=31, completion_tokens=2, cache_write_5m_tokens=30
    )


@pytest.mark.parametrize("bad", BAD, ids=repr)
@pytest.mark.parametrize("key", ["input_tokens", "output_tokens", "cache_read_input_tokens"])
def test_anthropic_counts_beyond_belief_are_not_believed(key: str, bad: Any) -> None:
    raw = {"input_tokens": 5, "output_tokens": 5} | {key: bad}
    assert from_openai(openai_shape(raw), context_window=WINDOW) is None
