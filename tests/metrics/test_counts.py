"""`/metrics` of two web processes: each scrape is the exact sum, whichever process answers, whatever dies."""

import os
import signal
import threading
from decimal import Decimal

import httpx
import pytest

from tests.fakes import Behaviour
from tests.journeys.world import eventually
from tests.metrics.prepared import CACHED, INPUT, OUTPUT
from tests.metrics.served import Scrape, Served

DRF = "/api/v1/llm/chat/completions"
USAGE = {"prompt_tokens": 900, "cached_tokens": 800, "completion_tokens": 9, "reasoning_tokens": 4}
SLOW = Behaviour(chunks=["x"] * 500, delay_between_s=0.1)
COST = (100 * INPUT + 800 * CACHED + 9 * OUTPUT) / Decimal(1_000_000)


class Moved:
    """What has been added since `start`."""

    def __init__(self, served: Served) -> None:
        self._served, self._before = served, served.scrape()

    def by(self, name: str, *labels: str) -> dict[object, float]:
        after, before = self._served.scrape().by(name, *labels), self._before.by(name, *labels)
        moved = {key: value - before.get(key, 0) for key, value in after.items()}
        return {key: value for key, value in moved.items() if value}

    def total(self, name: str) -> float:
        return self._served.scrape()(name) - self._before(name)


def spread(served: Served) -> int:
    """Ask until both processes have answered, at least 20 times. How often."""
    asked = 0
    while asked < 20 or served.took_part() < 2:
        assert served.ask(stream=asked % 4 == 0).status_code == 200
        asked += 1
        assert asked < 500
    return asked


def test_answers_are_counted_exactly_over_both_processes(served: Served) -> None:
    moved = Moved(served)
    served.vendor.script("m", Behaviour(usage=USAGE))
    plain = streamed = 0
    while plain < 12 or served.took_part() < 2:
        assert served.ask().status_code == 200
        assert served.ask(path=DRF).status_code == 200
        assert served.ask(stream=True).text.endswith("data: [DONE]\n\n")
        plain, streamed = plain + 2, streamed + 1
    count = plain + streamed
    model = ("fakeai", "m")
    assert moved.by("requests_total", "provider", "model", "status", "stream", "key_source") == {
        (*model, "200", "false", "platform"): plain,
        (*model, "200", "true", "platform"): streamed,
    }
    assert moved.by("tokens_total", "provider", "model", "kind") == {
        (*model, "prompt"): 900 * count,
        (*model, "completion"): 9 * count,
        (*model, "cached"): 800 * count,
        (*model, "reasoning"): 4 * count,
    }
    assert moved.by("cost_usd_total", "provider", "model")[model] == pytest.approx(float(COST * count), rel=1e-12)
    assert moved.by("request_duration_seconds_count", "provider", "model") == {model: count}
    assert moved.by("time_to_first_token_seconds_count", "provider", "model") == {model: streamed}
    assert moved.total("overhead_seconds_count") == count
    assert moved.by("upstream_attempts_total", "provider", "code") == {("fakeai", "ok"): count}
    assert moved.total("errors_total") == moved.total("refusals_total") == moved.total("fallbacks_total") == 0
    # A reserve and a settlement each, the latter at most a second old in the other process.
    eventually(lambda: moved.total("ledger_operations_total") == 2 * count, what="the ledger's figures")
    assert 0 < moved.total("ledger_commits_total") <= 2 * count
    assert 0 < moved.total("ledger_commit_seconds_total") < 60
    took = served.scrape()
    assert took("request_duration_seconds_bucket", le="+Inf") == took("request_duration_seconds_count")
    assert took("request_duration_seconds_sum") > took("time_to_first_token_seconds_sum") > 0


def test_every_scrape_says_the_same_whoever_answers(served: Served) -> None:
    spread(served)
    first = served.scrape().counted
    assert sum(value for (name, _), value in first.items() if name == "tollgate_requests_total") > 0
    assert all(served.scrape().counted == first for _ in range(30))


def test_what_goes_wrong_is_counted_by_its_code(served: Served) -> None:
    moved = Moved(served)
    broken = {"type": "server_error", "message": "x"}
    # Two failures of each: the third would open a breaker.
    served.vendor.once("m", Behaviour(status=500))
    assert served.ask().status_code == 502
    served.vendor.once("m", Behaviour(in_band_error=broken, in_band_error_after=2))
    assert '"error"' in served.ask(stream=True).text
    served.vendor.script("first", Behaviour(status=429, delay_first_s=0.6))
    fell_back = [served.ask("balanced") for _ in range(2)]
    assert [one.headers["x-model-used"] for one in fell_back] == ["second"] * 2
    assert moved.by("requests_total", "provider", "model", "status", "stream") == {
        ("fakeai", "m", "502", "false"): 1,
        ("fakeai", "m", "200", "true"): 1,
        ("spare", "second", "200", "false"): 2,
    }
    assert moved.by("errors_total", "code") == {"upstream_error": 2}
    assert moved.by("fallbacks_total", "reason") == {"upstream_rate_limited": 2}
    assert moved.by("upstream_attempts_total", "provider", "code") == {
        ("fakeai", "upstream_error"): 2,
        ("fakeai", "upstream_rate_limited"): 2,
        ("spare", "ok"): 2,
    }
    assert moved.total("refusals_total") == 0
    # Waiting for a provider that fails is no overhead of the gateway's either.
    assert moved.total("overhead_seconds_count") == 1 + 2
    assert moved.total("overhead_seconds_sum") < 2 * 0.6
    assert max(float(one.headers["x-overhead-ms"]) for one in fell_back) < 600


UNDER_WAY = ("requests_in_flight", "streams_open", "holds_open", "held_usd")
REFUSED = [
    ({"key": "tg_live_nobody"}, 401, "invalid_api_key", ""),
    ({"key": "poor"}, 429, "insufficient_quota", "false"),
    ({"key": "slow", "stream": True}, 429, "rate_limit_exceeded", "true"),
    ({"model": "fakeai/typed by a client"}, 404, "model_not_found", "false"),
    ({"model": 5}, 400, "invalid_value", ""),
    ({"temperature": 9}, 400, "invalid_value", ""),
]


@pytest.mark.parametrize("path", ["/v1/chat/completions", DRF])
@pytest.mark.parametrize(("request_", "status", "code", "stream"), REFUSED, ids=[row[2] for row in REFUSED])
def test_a_refusal_is_counted_once_and_touches_no_provider(
    served: Served, path: str, request_: dict[str, object], status: int, code: str, stream: str
) -> None:
    moved = Moved(served)
    answers = [served.ask(path=path, **request_) for _ in range(3)]  # type: ignore[arg-type]
    assert [(one.status_code, one.json()["error"]["code"]) for one in answers] == [(status, code)] * 3
    labels = ("provider", "model", "status", "stream", "key_source")
    assert moved.by("requests_total", *labels) == {("", "", str(status), stream, ""): 3}
    assert moved.by("refusals_total", "code") == moved.by("errors_total", "code") == {code: 3}
    assert moved.total("upstream_attempts_total") == moved.total("request_duration_seconds_count") == 0
    assert "typed by a client" not in served.scrape().text


def test_a_stream_under_way_is_seen_and_a_client_that_leaves_is_a_499(served: Served) -> None:
    moved = Moved(served)
    served.vendor.script("m", SLOW)
    body = {"model": "fakeai/m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    headers = {"Authorization": f"Bearer {served.keys['rich']}"}
    with (
        httpx.Client(base_url=served.url, timeout=30, trust_env=False) as client,
        client.stream("POST", "/v1/chat/completions", headers=headers, json=body) as answer,
    ):
        pieces = answer.iter_raw()  # kept: once it is collected, the connection is closed
        assert next(pieces).startswith(b"data: ")
        for name in UNDER_WAY:
            eventually(lambda name=name: served.scrape()(name) > 0, within_s=8, what=name)
        assert served.scrape()("requests_in_flight") == served.scrape()("streams_open") == 1
    eventually(lambda: moved.by("requests_total", "status", "stream") == {("499", "true"): 1}, what="the 499")
    assert moved.by("errors_total", "code") == {"client_gone": 1}
    assert moved.by("upstream_attempts_total", "code") == {"ok": 1}
    for name in UNDER_WAY:
        eventually(lambda name=name: served.scrape()(name) == 0, within_s=8, what=f"{name} at zero")


def test_a_client_that_does_not_wait_cancels_its_call(served: Served) -> None:
    moved = Moved(served)
    served.vendor.script("m", Behaviour(delay_first_s=30))
    with pytest.raises(httpx.ReadTimeout):
        served.ask(patience_s=0.5)
    eventually(lambda: moved.by("requests_total", "status") == {"499": 1}, what="the 499")
    assert moved.by("upstream_attempts_total", "provider", "code") == {("fakeai", "cancelled"): 1}
    assert moved.by("errors_total", "code") == {"client_gone": 1}
    assert moved.total("overhead_seconds_count") == 0


def test_a_process_that_dies_loses_no_count_and_leaves_nothing_under_way(served: Served) -> None:
    spread(served)
    served.vendor.script("first", SLOW)
    readers = [threading.Thread(target=_read, args=(served,), daemon=True) for _ in range(2)]
    for reader in readers:
        reader.start()
    eventually(lambda: served.scrape()("streams_open") == 2, within_s=15, what="two streams")
    before = served.scrape()
    for pid in before.pids:
        os.kill(pid, signal.SIGKILL)
    replaced = eventually(lambda: _two_others(served, before), within_s=60, what="two new processes")
    assert replaced.counted == before.counted
    assert replaced("streams_open") == replaced("requests_in_flight") == 0
    served.vendor.reset()
    moved = Moved(served)
    assert [served.ask().status_code for _ in range(10)] == [200] * 10
    assert moved.by("requests_total", "provider", "model", "status") == {("fakeai", "m", "200"): 10}


def _read(served: Served) -> None:
    try:
        served.ask("fakeai/first", stream=True)
    except httpx.HTTPError:
        return


def _two_others(served: Served, before: Scrape) -> Scrape | None:
    """A scrape that knows two processes, and none of those before."""
    try:
        now = served.scrape()
    except httpx.HTTPError:
        return None  # while there is none
    return now if len(now.pids) == 2 and not now.pids & before.pids else None


def test_a_process_tells_how_it_is(served: Served) -> None:
    now = served.scrape()
    for name, least, most in (
        ("process_cpu_seconds", 0.1, 600),
        ("process_resident_memory_bytes", 30e6, 1e9),
        ("process_open_fds", 5, 1_000),
        ("process_max_fds", 256, 1e9),
        ("process_gc_collections", 1, 1e6),
    ):
        each = now.by(name, "pid")
        assert len(each) == 2
        assert all(least < value < most for value in each.values()), (name, each)
    assert 0 <= now("catalog_age_seconds") < 5
    assert 0 <= now("event_loop_delay_seconds") < 1
    assert now("database_up") == 1
    assert now("ledger_queue_depth") == 0
    assert now.by("provider_health", "provider", "status") == {("fakeai", "unknown"): 1, ("spare", "unknown"): 1}
    assert len([one for one in now.samples if one.name == "tollgate_provider_health"]) == 8
