"""The median time to first token of the last 15 minutes, from 20 samples on."""

import random
import statistics
import uuid

import pytest

from llm.engine.latency import Latencies

T = 1_800_000_000.0
ONE, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


def test_nineteen_samples_are_too_few_and_twenty_enough() -> None:
    seen = Latencies()
    for _ in range(19):
        seen.record(ONE, 800, T)
    assert seen.medians(T) == {}
    seen.record(ONE, 800, T)
    assert seen.medians(T)[ONE] == pytest.approx(800, rel=0.08)


@pytest.mark.parametrize("seed", range(5))
def test_the_median_is_the_true_one_within_eight_percent(seed: int) -> None:
    draw = random.Random(seed)
    samples = [draw.lognormvariate(6.5, 0.8) for _ in range(501)]
    seen = Latencies()
    for sample in samples:
        seen.record(ONE, sample, T + draw.random() * 600)
    assert seen.medians(T + 600)[ONE] == pytest.approx(statistics.median(samples), rel=0.08)


def test_what_is_older_than_fifteen_minutes_is_forgotten() -> None:
    seen = Latencies()
    for _ in range(100):
        seen.record(ONE, 9_000, T)
        seen.record(OTHER, 100, T)
    for _ in range(30):
        seen.record(ONE, 300, T + 14 * 60)
    assert seen.medians(T + 14 * 60)[ONE] > 8_000
    assert set(seen.medians(T + 16 * 60)) == {ONE}
    assert seen.medians(T + 16 * 60)[ONE] == pytest.approx(300, rel=0.08)
    assert seen.medians(T + 60 * 60) == {}
    assert seen._models == {}


def test_anything_slow_or_quick_has_a_bucket() -> None:
    seen = Latencies()
    for sample in (0.0, 5.0, 10.0, 10_000_000.0):
        for _ in range(5):
            seen.record(ONE, sample, T)
    assert 0 < seen.medians(T)[ONE] <= 10
