"""Identifiers: RFC 9562's version 7, in the order they were made, also within a millisecond."""

import time
import uuid

from tenants.ids import uuid7, uuid7_of


def test_ids_made_one_after_another_sort_so_and_differ() -> None:
    made = []
    for _ in range(5_000):
        made.append(uuid7())
        time.perf_counter_ns()  # what anybody does between two ids takes longer than they can tell apart
    assert made == sorted(made)
    assert len({*made}) == len(made)
    assert len({one.int & ((1 << 62) - 1) for one in made}) == len(made)  # the random bits alone, too


def test_an_id_says_its_millisecond_version_and_variant() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert uuid7_of(before, 0) <= made <= uuid7_of(time.time_ns() // 1_000_000, (1 << 76) - 1)
