"""What is measured, in which order. Targets take turns in every round, so that what disturbs one disturbs all."""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from typing import Any

from bench import machine
from bench.pressure import Pressure
from bench.shots import BURST, MIXED_REFUSALS, PACED, PLAIN, Kind, Load, Shot, mixed, request, shoot
from bench.world import CLAUDE, VIEWSET, Target, World, serving

BUSY = 32  # connections
STREAMED = ("bursts", "paced")  # the stages that are judged by the event
TENTHS = 10


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    rounds: int
    seconds: float  # of each measurement
    streams: int  # paced, at once
    paced_s: float
    paced_warm_s: float  # the length of a stream spreads their starts evenly
    mixed: int  # requests over which memory must not grow
    planning_s: float


FULL = Size(rounds=3, seconds=4, streams=500, paced_s=8, paced_warm_s=5, mixed=100_000, planning_s=3)
QUICK = Size(rounds=1, seconds=1.5, streams=500, paced_s=3, paced_warm_s=4, mixed=3_000, planning_s=0.5)


@dataclass
class Results:
    """Shots by stage and target, and what is measured once."""

    shots: dict[str, dict[str, list[Shot]]] = field(default_factory=dict)
    planning: dict[str, float] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def median(self, stage: str, target: str, figure: str) -> float | None:
        """Over the rounds; None where it was not measured."""
        found = [shot.figures[figure] for shot in self.shots.get(stage, {}).get(target, [])]
        known = [value for value in found if value is not None]
        return statistics.median(known) if known else None

    def added(self, stage: str, target: str, figure: str) -> float | None:
        """What comes on top of the direct way."""
        there, direct = self.median(stage, target, figure), self.median(stage, "direct", figure)
        return None if there is None or direct is None else there - direct

    def failed(self, target: str) -> int:
        """Answers that broke, were cut, were 5xx or refused, in all stages; `target` is how its name begins."""
        return sum(
            shot.failed
            for targets in self.shots.values()
            for name, shots in targets.items()
            if name.startswith(target)
            for shot in shots
        )


class Suite:
    """One run of everything."""

    def __init__(self, made: World, others: list[Target], size: Size) -> None:
        self.made, self.size = made, size
        self.results = Results(facts=dict(made.facts))
        self.began = time.monotonic()
        gateway = made.gateway
        self.viewset = replace(gateway, name="tollgate viewset", path=VIEWSET)
        self.translated = replace(gateway, name="tollgate translated", model=CLAUDE)
        self.all = [made.upstream, gateway, *others]

    def run(self) -> Results:
        """Every stage; memory is looked at before the first and after the last."""
        gateway = self.made.gateway
        self.results.memory["before_mb"] = machine.memory_mb(gateway.pids)
        for number in range(self.size.rounds):
            turn = f"round {number + 1} of {self.size.rounds}"
            for target in [*self.all, self.viewset]:
                self._shoot("busy", target, PLAIN, Load(BUSY, self.size.seconds / 8, self.size.seconds), turn)
                self._shoot("alone", target, PLAIN, Load(1, self.size.seconds / 8, self.size.seconds / 2), turn)
            for target in [*self.all, self.translated]:
                self._shoot("bursts", target, BURST, Load(BUSY, self.size.seconds / 8, self.size.seconds), turn)
        for target in self.all:
            load = Load(self.size.streams, self.size.paced_warm_s, self.size.paced_s)
            self._shoot("paced", target, PACED, load, "once")
        self._mixed()
        self.results.memory["peak_mb"] = machine.memory_mb(gateway.pids, "VmHWM")
        self._pair()
        Pressure(self.made, self.size.seconds, self._keep).run()
        self._planning()
        self.results.facts["took_s"] = round(time.monotonic() - self.began)
        return self.results

    def say(self, text: str) -> None:
        """A line of progress, on standard error."""
        print(f"[{time.monotonic() - self.began:4.0f} s] {text}", file=sys.stderr, flush=True)

    def _shoot(self, stage: str, target: Target, kind: Kind, load: Load, turn: str) -> None:
        self._keep(stage, target, shoot(target, [request(target, kind)], load, self.made.folder), turn)

    def _keep(self, stage: str, target: Target, shot: Shot, turn: str) -> None:
        self.results.shots.setdefault(stage, {}).setdefault(target.name, []).append(shot)
        figures, what = shot.figures, "event" if stage in STREAMED else "answer"
        each = figures[f"cpu_per_{what}"]
        cpu = "" if each is None else f", {each:,.1f} us CPU per {what}"
        broken = f", {shot.failed} BROKEN" if shot.failed else ""
        self.say(f"{stage}, {turn}: {target.name} {figures['rps']:,.0f} answers/s{cpu}{broken}")

    def _mixed(self) -> None:
        """Memory after each tenth of the requests: the first tenth warms up, the other nine must not grow."""
        gateway = self.made.gateway
        load = Load(BUSY, 0, 600, count=self.size.mixed // TENTHS, refusals=True)
        for number in range(TENTHS):
            shot = shoot(gateway, mixed(gateway), load, self.made.folder)
            self._keep("mixed", gateway, shot, f"{(number + 1) * load.count:,} of {self.size.mixed:,}")
        shots = self.results.shots["mixed"][gateway.name]
        unmeant = sum(shot.refused for shot in shots) - MIXED_REFUSALS * self.size.mixed - BUSY * TENTHS
        if unmeant > 0:  # else a gateway that answers nobody would be praised for its memory
            raise RuntimeError(f"{unmeant:.0f} of the mixed requests were refused without reason.")
        sizes = [shot.memory_mb for shot in shots]
        assert sizes[0] is not None
        assert sizes[-1] is not None
        self.results.memory |= {"requests": self.size.mixed, "tenths_mb": sizes, "growth_mb": sizes[-1] - sizes[0]}

    def _pair(self) -> None:
        """One process and two by turns, each with as many connections."""
        with serving(self.made.books, workers=2) as port:
            pair = replace(self.made.gateway, name="tollgate x 2", port=port)
            for number in range(self.size.rounds):
                turn = f"round {number + 1} of {self.size.rounds}"
                for target, processes in ((self.made.gateway, 1), (pair, 2)):
                    load = Load(BUSY * processes, self.size.seconds / 4, self.size.seconds)
                    self._shoot("pair", target, PLAIN, load, turn)

    def _planning(self) -> None:
        command = [sys.executable, "-m", "bench.planning", str(self.size.planning_s)]
        with machine.on_cores(machine.GATEWAY):
            done = subprocess.run(
                command, cwd=machine.ROOT, env=self.made.books.environment, capture_output=True, text=True, check=False
            )
        if done.returncode != 0:
            raise RuntimeError(done.stderr[-3000:])
        self.results.planning = json.loads(done.stdout)
        self.say(f"planning: {', '.join(f'{name} {us:,.0f} us' for name, us in self.results.planning.items())}")


def machine_facts() -> dict[str, Any]:
    """Where this was measured."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "kernel": os.uname().release,
        "python": sys.version.split()[0],
        "load_average": round(os.getloadavg()[0], 1),
        "gateway_core": machine.GATEWAY,
        "load_core": machine.LOAD,
    }
