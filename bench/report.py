"""The figures as a table, beside the goals."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bench.suite import STREAMED, Results

MS = 1000.0  # us
ENOUGH = 100_000  # mixed requests, before growth says anything
GROWTH_MB = 2  # 20 bytes a request: one small object kept by each would show


@dataclass(frozen=True)
class Goal:
    """A promise and what was measured, in the same unit. `at_least`: more is better. Unmeasured: None, with why."""

    what: str
    measured: float | None
    limit: float
    unit: str
    at_least: bool = False
    why_not: str = "not measured"

    @property
    def reached(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def bound(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {number(self.limit)} {self.unit}".strip()

    @property
    def verdict(self) -> str:
        if self.measured is None or self.reached is None:
            return self.why_not
        if self.reached:
            return "reached"
        off = abs(self.measured - self.limit)
        share = f" ({off / self.limit:.0%})" if self.limit else ""
        return f"NOT reached: {f'{number(off)} {self.unit}'.strip()} {'short' if self.at_least else 'over'}{share}"


def goals(results: Results) -> list[Goal]:
    """What one process on one core is held to."""
    ours, memory = "tollgate", results.memory

    def added_ms(stage: str, figure: str) -> float | None:
        return scaled(results.added(stage, ours, figure), MS)

    one, two = results.median("pair", ours, "rps"), results.median("pair", "tollgate x 2", "rps")
    judged = memory["requests"] >= ENOUGH
    return [
        Goal("CPU per metered request", results.median("busy", ours, "cpu_per_answer"), 300, "us"),
        Goal("CPU per request, DRF viewset", results.median("busy", "tollgate viewset", "cpu_per_answer"), 600, "us"),
        Goal("added latency, 1 connection, p50", added_ms("alone", "p50"), 1.5, "ms"),
        Goal("added latency, 1 connection, p99", added_ms("alone", "p99"), 5, "ms"),
        Goal("added latency, 32 connections, p99", added_ms("busy", "p99"), 20, "ms"),
        Goal("CPU per event, bursts", results.median("bursts", ours, "cpu_per_event"), 15, "us"),
        Goal("CPU per event, paced", results.median("paced", ours, "cpu_per_event"), 75, "us"),
        Goal(
            "CPU per event, translated bursts",
            results.median("bursts", "tollgate translated", "cpu_per_event"),
            60,
            "us",
        ),
        Goal("added time to first token, paced, p50", added_ms("paced", "ttft_p50"), 2, "ms"),
        Goal("added time to first token, paced, p99", added_ms("paced", "ttft_p99"), 60, "ms"),
        Goal("broken answers", results.failed(ours), 0, ""),
        Goal("memory of a process, at most", memory["peak_mb"], 150, "MB"),
        Goal(
            f"memory growth over {memory['requests']:,} mixed requests",
            memory["growth_mb"] if judged else None,
            GROWTH_MB,
            "MB",
            why_not=f"{number(memory['growth_mb'])} MB; {ENOUGH:,} requests are needed to judge",
        ),
        Goal("two processes on two cores, times one", two / one if one and two else None, 1.7, "", at_least=True),
        *pressed(results),
        *[Goal(f"plan by {name}, 300 models and rules", us, 100, "us") for name, us in results.planning.items()],
    ]


def pressed(results: Results) -> Iterator[Goal]:
    """What is promised to those who are served when there is too much to do, and to those who are sent away."""
    goodputs = [(name, results.median("overload", name, "goodput")) for name in results.shots.get("overload", {})]
    peak, others = goodputs[0][1] if goodputs else None, goodputs[1:]
    for name, goodput in others:
        share = goodput / peak if goodput and peak else None
        yield Goal(f"goodput at {name}, of the peak", share, 0.9, "", at_least=True)
    waits = [results.median("overload", name, "shed_p99") for name, _ in others]
    slowest = max((wait for wait in waits if wait is not None), default=None)
    yield Goal("time to be sent away, p99", scaled(slowest, MS), 50, "ms")
    alone, flooded = (results.median("flood", f"quiet, {how}", "p99") for how in ("alone", "flooded"))
    times = flooded / alone if flooded and alone else None
    yield Goal("p99 of a tenant beside a flood, times its own", times, 1.5, "")


def scaled(value: float | None, divisor: float) -> float | None:
    return None if value is None else value / divisor


def number(value: float | None) -> str:
    """With as many digits as mean something."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}".rstrip("0").rstrip(".")


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Aligned columns: words to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        cells = []
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            is_number = (place and cell[:1] in "-+0123456789") or row is head
            cells.append(cell.rjust(width) if is_number else cell.ljust(width))
        yield "  ".join(cells).rstrip()


STAGES = {
    "busy": "Answers at once, 32 connections",
    "alone": "Answers at once, 1 connection",
    "bursts": "Streams in bursts of 100 events, 32 connections",
    "paced": "Streams of one event each 50 ms, 500 at once",
    "mixed": "Mixed requests: answers, streams, both dialects, viewset, refusals",
    "pair": "One process with 32 connections, two with 64",
    "overload": "Many times as many clients as one process has places; who is sent away comes back when told to",
    "flood": "A tenant with one connection, answers of 100 ms, beside one with 50 connections, answers at once",
}
BY_GOODPUT = [
    ("goodput/s", "goodput", 1, False), ("p50 ms", "p50", MS, False), ("p99 ms", "p99", MS, False),
    ("sent away/s", "shed_per_s", 1, False), ("in ms p99", "shed_p99", MS, False),
]  # fmt: skip
PRESSED = ("overload", "flood")
# Column, figure, divided by, added to direct.
BY_ANSWER = [
    ("answers/s", "rps", 1, False), ("p50 ms", "p50", MS, False), ("p99 ms", "p99", MS, False),
    ("+p50 ms", "p50", MS, True), ("+p99 ms", "p99", MS, True),
    ("CPU us/answer", "cpu_per_answer", 1, False), ("cores", "core", 1, False),
]  # fmt: skip
BY_EVENT = [
    ("streams/s", "rps", 1, False), ("events/s", "events_per_s", 1, False),
    ("first ms p50", "ttft_p50", MS, False), ("p99", "ttft_p99", MS, False),
    ("+p50 ms", "ttft_p50", MS, True), ("+p99 ms", "ttft_p99", MS, True),
    ("CPU us/event", "cpu_per_event", 1, False), ("cores", "core", 1, False),
]  # fmt: skip


def stage(results: Results, name: str) -> Iterator[str]:
    """One stage's figures, a row for each target."""
    columns = BY_EVENT if name in STREAMED else BY_GOODPUT if name in PRESSED else BY_ANSWER
    rows = []
    for target, shots in results.shots[name].items():
        cells = [target]
        for _, figure, divisor, added in columns:
            value = (results.added if added else results.median)(name, target, figure)
            cells.append("-" if added and target == "direct" else number(scaled(value, divisor)))
        memory = max((shot.memory_mb for shot in shots if shot.memory_mb is not None), default=None)
        rows.append([*cells, number(memory), str(sum(shot.failed for shot in shots))])
    yield f"\n{STAGES[name]}"
    yield from table(["", *[column[0] for column in columns], "MB", "broken"], rows)


def lines(results: Results) -> Iterator[str]:
    """The whole report."""
    facts, memory = results.facts, results.memory
    yield (
        f"Tollgate's benchmark: {facts['cores']} cores, Linux {facts['kernel']}, Python {facts['python']}; gateway on "
        f"core {facts['gateway_core']}, load and upstream on core {facts['load_core']}."
    )
    yield (
        f"PostgreSQL {facts['server_version']}: fsync {facts['fsync']}, synchronous_commit "
        f"{facts['synchronous_commit']}, one commit alone {facts['commit_us']:,} us. "
        f"Medians of {facts['rounds']} round(s); {facts['took_s']} s in all."
    )
    yield from warnings(facts)
    for name in results.shots:
        yield from stage(results, name)
    tenths = ", ".join(number(size) for size in memory["tenths_mb"])
    yield f"\nMemory: {number(memory['before_mb'])} MB at the start, {number(memory['peak_mb'])} MB at most;"
    yield f"after each tenth of {memory['requests']:,} mixed requests {tenths} MB."
    yield "\nGoals, for one process on one core"
    rows = [[goal.what, f"{number(goal.measured)} {goal.unit}", goal.bound, goal.verdict] for goal in goals(results)]
    yield from table(["", "measured", "goal", ""], rows)


def warnings(facts: dict[str, Any]) -> Iterator[str]:
    """What makes these figures worth less."""
    if "off" in (facts["fsync"], facts["synchronous_commit"]):
        yield "WARNING: this PostgreSQL does not wait for the disk, so metering is measured too cheap."
    if facts["load_average"] > facts["cores"] / 2:
        busy = f"WARNING: the load average was {facts['load_average']} before: latencies and rates are noise,"
        yield f"{busy} CPU figures are too high by what cold caches cost."
    core = facts["gateway_core"]
    for name in facts["not_pinned"]:
        yield f"WARNING: {name} does not run on core {core} alone; start it with `taskset -c {core}`."


def as_json(results: Results) -> dict[str, Any]:
    """Everything that was measured, and the goals."""
    judged = [
        {"goal": goal.what, "measured": goal.measured, "limit": goal.limit, "unit": goal.unit, "reached": goal.reached}
        for goal in goals(results)
    ]
    return {**asdict(results), "goals": judged}
