"""A provider that fails is left alone: what opens a breaker, what it takes out, who probes, what the client is told.

The breakers of this gateway are looked at through what it does and through the table; the clock is the real one, so
what has to be over is moved into the past by hand.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from llm.engine import breaker, runtime
from llm.models import LLMBreaker, LLMModel, PowerLevelPolicy
from tests import cast
from tests.fakes import Behaviour
from tests.journeys.world import Customer, World, eventually

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
DOWN = Behaviour(status=500)


@pytest.fixture
def pair(world: World) -> list[LLMModel]:
    """`balanced` goes to b1 of one vendor, then to b2 of the other."""
    found = list(LLMModel.objects.filter(model_id__in=["b1", "b2"]).order_by("model_id"))
    if found:
        return found
    first = world.model(world.vendors["openai"].provider, "b1")
    second = world.model(world.vendors["anthropic"].provider, "b2")
    cast.make_rule(first, "balanced")
    cast.make_rule(second, "balanced", is_fallback=True)
    world.refresh()
    return [first, second]


def calls(world: World, model: str) -> int:
    """How often a model was really asked."""
    return sum(one.body["model"] == model for one in (*world.fake.requests, *world.other.requests))


def rows() -> dict[str, LLMBreaker]:
    return {f"{row.kind} {row.what}": row for row in LLMBreaker.objects.all()}


def opened(*whats: str) -> dict[str, LLMBreaker]:
    """The open breakers, once they are written; exactly these."""
    eventually(lambda: runtime.RUNTIME.health.at_rest, what="writing")
    found = {name: row for name, row in rows().items() if row.state != "closed"}
    assert set(found) == set(whats)
    return found


def due() -> None:
    """Let the time of the open breakers be over: the gateway hears of it as if another process had said so."""
    eventually(lambda: runtime.RUNTIME.health.at_rest, what="writing")
    LLMBreaker.objects.filter(state="open").update(until=datetime.now(UTC))
    eventually(lambda: not runtime.RUNTIME.health.state(time.time()).blocks, what="hearing of it")


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


FAILURES = {
    "5xx": DOWN,
    "reset": Behaviour(cut_after_bytes=0, cut_how="reset"),
    "bad body": Behaviour(bad_json=True),
    "silence": Behaviour(delay_first_s=30),
}


@STREAMED
@pytest.mark.parametrize("failure", FAILURES)
def test_the_third_failure_in_a_row_opens_and_the_fourth_request_goes_straight_to_the_fallback(
    world: World, pair: list[LLMModel], customer: Customer, settings: Any, failure: str, stream: bool
) -> None:
    settings.UPSTREAM_FIRST_EVENT_TIMEOUT_S = settings.UPSTREAM_TOTAL_TIMEOUT_S = 0.6
    world.fake.script("b1", FAILURES[failure])
    answers = [customer.ask("balanced", stream=stream) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert calls(world, "b1") == 3
    assert [answer.headers["x-was-fallback"] for answer in answers] == ["true"] * 3 + ["false"] * 2
    rejected = customer.rows()[3].decision["rejections"]
    assert [(one["model"], one["code"]) for one in rejected] == [("fakeai/b1", "provider_down")]
    assert "the breaker of the provider fakeai is open until" in rejected[0]["detail"]
    assert "it failed 3 times in a row" in rejected[0]["detail"]
    found = opened("provider fakeai", "model fakeai/b1")
    for row in found.values():
        assert 9 < (row.until - row.opened_at).total_seconds() <= 10
        assert (row.failures, row.openings, row.state) == (3, 1, "open")


@STREAMED
def test_a_provider_down_completely_costs_at_most_1_2_calls_per_request(
    world: World, pair: list[LLMModel], customer: Customer, stream: bool
) -> None:
    world.fake.script("b1", DOWN)
    assert {customer.ask("balanced", stream=stream).status_code for _ in range(200)} == {200}
    assert calls(world, "b2") == 200
    assert calls(world, "b1") == 3 + sum(row.openings - 1 for row in rows().values() if row.kind == "model")
    assert calls(world, "b1") + calls(world, "b2") <= 240


@pytest.mark.parametrize("status", [400, 404, 422])
def test_what_is_the_requests_own_fault_never_counts(
    world: World, pair: list[LLMModel], customer: Customer, status: int
) -> None:
    world.fake.script("b1", Behaviour(status=status))
    for _ in range(6):
        customer.ask("fakeai/b1")
    assert calls(world, "b1") == 6
    opened()


def test_a_refused_platform_key_is_left_out_and_its_provider_stays(
    world: World, pair: list[LLMModel], customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "OPEN_S", 300.0)  # no probe, however long these requests take
    provider = pair[0].provider
    second = cast.make_credential(provider, "sk-second-9876543210", key_name="second")
    world.refresh()
    world.fake.script("b1", Behaviour(expected_key="sk-second-9876543210"))
    try:
        for _ in range(30):
            assert customer.ask("fakeai/b1").status_code == 200
    finally:
        second.delete()
        world.refresh()
    assert calls(world, "b1") == 33
    [row] = opened(f"credential fakeai with the key “{provider.credentials.get(tenant=None).key_name}”").values()
    assert row.reason == "it failed 3 times in a row, last with upstream_auth_failed"


@STREAMED
def test_an_own_key_that_is_refused_says_so_every_time(
    world: World, pair: list[LLMModel], customer: Customer, stream: bool
) -> None:
    cast.make_credential(pair[0].provider, "sk-own-abcdefghijkl", customer.tenant)
    world.fake.script("b1", Behaviour(status=401))
    assert {told(customer.ask("fakeai/b1", stream=stream)) for _ in range(5)} == {(400, "byok_rejected")}
    opened()


@pytest.mark.parametrize("how", ["seconds", "date"])
@STREAMED
def test_a_wait_that_a_provider_asks_for_is_honoured_at_once_for_that_model_and_key_alone(
    world: World, pair: list[LLMModel], customer: Customer, how: str, stream: bool
) -> None:
    world.model(pair[0].provider, f"sibling-{how}-{stream}")
    world.refresh()
    wait: Any = 60 if how == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=61), usegmt=True)
    world.fake.script("b1", Behaviour(status=429, retry_after=wait))
    assert told(customer.ask("fakeai/b1", stream=stream)) == (429, "upstream_rate_limited")
    answers = [customer.ask("fakeai/b1", stream=stream) for _ in range(25)]  # no trickle either
    assert {told(answer) for answer in answers} == {(429, "upstream_rate_limited")}
    assert all(57 < int(answer.headers["retry-after"]) <= 61 for answer in answers)
    assert all(answer.headers["x-should-retry"] == "true" for answer in answers)
    assert calls(world, "b1") == 1
    assert customer.ask("balanced").headers["x-model-used"] == "b2"
    assert customer.ask(f"fakeai/sibling-{how}-{stream}").status_code == 200
    other = world.customer()
    cast.make_credential(pair[0].provider, "sk-own-abcdefghijkl", other.tenant)
    world.fake.script("b1", Behaviour())
    assert other.ask("fakeai/b1").status_code == 200


def test_limits_without_a_time_count_as_failures_of_that_model_with_that_key(
    world: World, pair: list[LLMModel], customer: Customer
) -> None:
    world.fake.script("b1", Behaviour(status=429))
    answers = [customer.ask("fakeai/b1") for _ in range(5)]
    assert {told(answer) for answer in answers} == {(429, "upstream_rate_limited")}
    assert [answer.headers.get("retry-after") for answer in answers] == [None, None, None, "10", "10"]
    assert calls(world, "b1") == 3
    key = pair[0].provider.credentials.get(tenant=None).key_name
    opened(f"limit fakeai/b1 with the key “{key}”")


def test_a_pinned_model_that_nobody_may_stand_in_for_is_a_503_with_the_true_time(
    world: World, pair: list[LLMModel], customer: Customer
) -> None:
    world.fake.script("b1", DOWN)
    answers = [customer.ask("fakeai/b1") for _ in range(40)]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert [told(answer) for answer in answers[:3]] == [(502, "upstream_error")] * 3
    assert len(refused) == 40 - calls(world, "b1")  # but for the trickle
    assert {told(answer) for answer in refused} == {(503, "no_provider_available")}
    waits = [int(answer.headers["retry-after"]) for answer in refused]
    assert waits == sorted(waits, reverse=True)
    assert 5 <= waits[-1] <= waits[0] <= 10
    assert "the breaker of the provider fakeai is open until" in refused[0].json()["error"]["message"]


def test_the_trickle_goes_on_and_its_success_closes_early(
    world: World, pair: list[LLMModel], customer: Customer
) -> None:
    world.fake.script("b1", DOWN)
    for _ in range(3):
        customer.ask("fakeai/b1")
    world.fake.script("b1", Behaviour())
    tries = next(number for number in range(1, 400) if customer.ask("fakeai/b1").status_code == 200)
    assert customer.ask("fakeai/b1").status_code == 200
    opened()
    assert calls(world, "b1") == 5
    assert "one of the few that still try" in str(customer.rows()[-2].decision["notes"])
    assert tries < 400


# --- half-open --------------------------------------------------------------------------------------------------------


def test_one_request_probes_and_the_others_do_not_wait_for_it(
    world: World, pair: list[LLMModel], customer: Customer
) -> None:
    world.fake.script("b1", DOWN)
    for _ in range(3):
        customer.ask("balanced")
    world.fake.script("b1", Behaviour(delay_first_s=1.0))
    due()
    with ThreadPoolExecutor(20) as clients:
        used = [one.headers["x-model-used"] for one in clients.map(lambda _: customer.ask("balanced"), range(20))]
    assert sorted(used) == ["b1"] + ["b2"] * 19
    assert calls(world, "b1") == 4
    opened()
    assert customer.ask("balanced").headers["x-model-used"] == "b1"


def test_a_probe_that_fails_opens_it_for_longer(world: World, pair: list[LLMModel], customer: Customer) -> None:
    world.fake.script("b1", DOWN)
    for _ in range(3):
        customer.ask("balanced")
    due()
    assert customer.ask("balanced").headers["x-model-used"] == "b2"
    assert customer.ask("balanced").headers["x-was-fallback"] == "false"
    assert calls(world, "b1") == 4
    for row in opened("provider fakeai", "model fakeai/b1").values():
        assert (row.openings, row.failures) == (2, 4)
        assert 10 <= (row.until - row.opened_at).total_seconds() <= 20
        assert row.reason == "its probe failed with upstream_error, 4 failures in a row"


def test_the_first_word_of_a_stream_is_proof_enough(world: World, pair: list[LLMModel], customer: Customer) -> None:
    world.fake.script("b1", DOWN)
    for _ in range(3):
        customer.ask("balanced")
    world.fake.script("b1", Behaviour(text="one two three four five", delay_between_s=0.3))
    due()
    with customer.stream("balanced") as answer:
        assert answer.headers["x-model-used"] == "b1"
        world.fake.script("b1", Behaviour())
        assert customer.ask("balanced").headers["x-model-used"] == "b1"
        answer.read()
    opened()


@pytest.mark.parametrize("ends", ["the client leaves", "it is rejected"])
def test_a_probe_that_finds_nothing_out_leaves_it_to_the_next(
    world: World, pair: list[LLMModel], customer: Customer, ends: str
) -> None:
    world.fake.script("b1", DOWN)
    for _ in range(3):
        customer.ask("balanced")
    due()
    if ends == "it is rejected":
        world.fake.script("b1", Behaviour(status=400))
        assert customer.ask("balanced").status_code == 400
    else:
        world.fake.script("b1", Behaviour(delay_first_s=30))
        body = {"model": "balanced", "messages": [{"role": "user", "content": "x"}]}
        with customer.http as client, pytest.raises(httpx.ReadTimeout):
            client.post("/v1/chat/completions", json=body, timeout=1.0)
        world.quiet()
    eventually(lambda: runtime.RUNTIME.health.at_rest, what="letting go of the probe")
    world.fake.script("b1", Behaviour())
    assert customer.ask("balanced").headers["x-model-used"] == "b1"
    assert calls(world, "b1") == 5
    opened()


def test_a_fallback_whose_breaker_is_half_open_is_probed_too(
    world: World, pair: list[LLMModel], customer: Customer
) -> None:
    world.other.script("b2", DOWN)
    for _ in range(3):
        customer.ask("fakethropic/b2")
    due()
    world.other.script("b2", Behaviour())
    world.fake.script("b1", DOWN)
    answer = customer.ask("balanced")
    assert (answer.status_code, answer.headers["x-model-used"]) == (200, "b2")
    opened()


# --- staff and other processes ----------------------------------------------------------------------------------------


def test_a_reset_by_staff_is_effective_within_a_second(world: World, pair: list[LLMModel], customer: Customer) -> None:
    world.fake.script("b1", DOWN)
    for _ in range(3):
        customer.ask("balanced")
    world.fake.script("b1", Behaviour())
    found = opened("provider fakeai", "model fakeai/b1")
    _, secret = cast.make_staff(f"staff-{time.time_ns()}")
    headers = {"Authorization": f"Bearer {secret}"}
    for row in found.values():
        answer = httpx.post(f"{world.gateway.url}/api/v1/admin/llm/breakers/{row.pk}/reset", headers=headers)
        assert (answer.status_code, answer.json()["state"]) == (200, "closed")
    done = time.monotonic()
    eventually(lambda: customer.ask("balanced").headers["x-model-used"] == "b1", within_s=1.5)
    assert time.monotonic() - done < 1.5


def test_what_another_process_opened_is_heard_within_a_second(
    world: World, pair: list[LLMModel], customer: Customer
) -> None:
    assert customer.ask("balanced").headers["x-model-used"] == "b1"
    cast.make_breaker(pair[0], "provider")
    eventually(lambda: customer.ask("balanced").headers["x-model-used"] == "b2", within_s=2.5)
    LLMBreaker.objects.all().delete()
    eventually(lambda: customer.ask("balanced").headers["x-model-used"] == "b1", within_s=2.5)


# --- live latency -----------------------------------------------------------------------------------------------------


def test_a_model_that_is_slower_than_promised_gives_way_and_the_decision_says_so(
    world: World, pair: list[LLMModel], customer: Customer
) -> None:
    third = LLMModel.objects.filter(model_id="b3").first() or world.model(pair[1].provider, "b3")
    if not third.rules.exists():
        cast.make_rule(third, "precision", priority=200)
        cast.make_rule(pair[0], "precision", priority=100)
    world.refresh()
    PowerLevelPolicy.objects.filter(power_level="precision").update(max_latency_ms=40)
    world.refresh()
    world.fake.script("b1", Behaviour(delay_first_s=0.06))
    barrier = threading.Barrier(5)

    def stream(_: int) -> str:
        barrier.wait()
        return customer.ask("precision", stream=True).headers["x-model-used"]

    with ThreadPoolExecutor(5) as clients:
        assert set(clients.map(stream, range(20))) == {"b1"}
    eventually(lambda: customer.ask("precision").headers["x-model-used"] == "b3", what="knowing better")
    decision = customer.rows()[-1].decision
    assert [(one["model"], one["parts"].get("latency_penalty")) for one in decision["candidates"]] == [
        ("fakethropic/b3", None), ("fakeai/b1", -1),
    ]  # fmt: skip
    [note] = decision["notes"]
    assert note.startswith("Latency penalty: the median time to first token of fakeai/b1 is ")
    assert note.endswith(" ms, precision promises 40 ms.")
    assert 60 <= runtime.RUNTIME.health.state(time.time()).ttft_ms[pair[0].pk] < 600
