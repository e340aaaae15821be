"""One measurement: a kind of request, a target, the load generator's figures, and the processes' memory."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench import machine
from bench.world import CHAT, CLAUDE, VIEWSET, Target

SYSTEM = "You are a helpful assistant. Answer in two or three short sentences."
QUESTION = "What is the capital of Portugal, where in the country does it lie, and since when has it been the capital?"


@dataclass(frozen=True)
class Kind:
    """A kind of request. `say` is what the prompt tells the upstream."""

    stream: bool
    say: str = ""


PLAIN = Kind(stream=False)
BURST = Kind(stream=True, say=" (events=100)")
PACED = Kind(stream=True, say=" (events=100 pace=50)")
SHORT = Kind(stream=True, say=" (events=10)")


@dataclass(frozen=True)
class Load:
    """How the load generator is run. `count`: end after so many answers; 0 is only by time.

    `refusals`: 4xx are meant; elsewhere they are failures. `obeys`: a connection that is sent away with a Retry-After
    comes back when it says, as SDKs do.
    """

    connections: int
    warm_s: float
    seconds: float
    count: int = 0
    refusals: bool = False
    obeys: bool = False


@dataclass
class Shot:
    """What came of it. Times are us; `cpu` is that of all processes of the target in `seconds`, None if unknown."""

    seconds: float
    ok: int
    refused: int
    failed: int
    events: int
    cpu: float | None
    latency: dict[str, int]
    first_event: dict[str, int]
    memory_mb: float | None = None
    shed: int = 0  # sent away with a Retry-After
    shed_latency: dict[str, int] = field(default_factory=dict)
    figures: dict[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Work out what is looked at: per second, per answer, per event."""
        answers = self.ok + self.refused
        self.figures = {
            "rps": answers / self.seconds,
            "events_per_s": self.events / self.seconds,
            "p50": self.latency.get("p50"),
            "p99": self.latency.get("p99"),
            "goodput": self.ok / self.seconds,
            "shed_per_s": self.shed / self.seconds,
            "shed_p99": self.shed_latency.get("p99"),
            "ttft_p50": self.first_event.get("p50"),
            "ttft_p99": self.first_event.get("p99"),
            "cpu_per_answer": None if self.cpu is None or not answers else self.cpu / answers,
            "cpu_per_event": None if self.cpu is None or not self.events else self.cpu / self.events,
            "core": None if self.cpu is None else self.cpu / self.seconds / 1e6,
        }


def request(target: Target, kind: Kind) -> bytes:
    """One HTTP request, whole."""
    body: dict[str, Any] = {
        "model": target.model,
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": QUESTION + kind.say},
        ],
        "temperature": 0.7,
        "max_tokens": 200,
    }
    if kind.stream:
        body["stream"] = True
    content = json.dumps(body).encode()
    head = (
        f"POST {target.path} HTTP/1.1\r\nhost: 127.0.0.1:{target.port}\r\n"
        f"authorization: Bearer {target.key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


MIXED_REFUSALS = 3 / 12  # the share of what is meant to be refused


def mixed(target: Target) -> list[bytes]:
    """Twelve requests of all sorts: answers, streams, both dialects, the viewset, and three kinds of refusal."""
    claude = replace(target, model=CLAUDE)
    return [
        *[request(target, PLAIN)] * 4,
        request(target, SHORT),
        request(claude, SHORT),
        request(claude, PLAIN),
        request(replace(target, path=VIEWSET), PLAIN),
        request(replace(target, path=VIEWSET), SHORT),
        request(replace(target, key="tg_live_nobody"), PLAIN),
        request(replace(target, model="no-such-model"), PLAIN),
        request(replace(target, path=CHAT, model=""), PLAIN),
    ]


def shoot(target: Target, requests: Sequence[bytes], load: Load, folder: Path) -> Shot:
    """Run the load generator on its core. Raises RuntimeError where nobody listens, or a process ends."""
    pids = target.pids
    machine.wait_until_idle(pids)
    return measured(target, requests, load, folder, pids)


def measured(target: Target, requests: Sequence[bytes], load: Load, folder: Path, pids: Sequence[int] = ()) -> Shot:
    """The same at once, whatever else is under way; `pids`: whose CPU time is counted."""
    files = []
    for number, content in enumerate(requests):
        files.append(folder / f"request-{target.name.replace(' ', '-')}-{number}")
        files[-1].write_bytes(content)
    options = {"p": target.port, "c": load.connections, "w": load.warm_s, "s": load.seconds, "n": load.count}
    command = [str(machine.BUILD / "load"), *[f"-{name}{value}" for name, value in options.items()]]
    command += [f"-P{pid}" for pid in pids] + (["-o"] if load.obeys else [])
    with machine.on_cores(machine.LOAD):
        done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{target.name}, port {target.port}: {done.stderr.strip()}")
    said = json.loads(done.stdout)
    refused = said["refused"] if load.refusals else 0
    return Shot(
        seconds=said["seconds"],
        ok=said["ok"],
        refused=refused,
        failed=said["failed"] + said["refused"] - refused,
        events=said["events"],
        cpu=said["cpu_us"],
        latency=said["latency_us"] or {},
        first_event=said["first_event_us"] or {},
        shed=said["shed"],
        shed_latency=said["shed_latency_us"] or {},
        memory_mb=machine.memory_mb(pids),
    )
