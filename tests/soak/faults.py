"""The sweeps of tests/faults in their long form, seed after seed, and a table of what they found.

.venv/bin/python -m tests.soak.faults --seed 7 --rounds 5

A provider cut at every single byte is looked at once on each database; the faults of databases and of Redis each round.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ONCE = (("postgres", "test_cut_everywhere.py"), ("sqlite", "test_cut_everywhere.py"))
EACH_ROUND = (
    ("postgres", "test_database_faults.py"),
    ("sqlite", "test_sqlite_locked.py"),
    ("postgres", "test_redis_faults.py"),
    ("sqlite", "test_redis_faults.py"),
)
HEAD = ("case", "database", "runs", "seeds", "wrong statuses", "wrong charges", "leaks", "recovery s")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass
class Line:
    """One case on one database, over all its seeds."""

    seeds: list[int]
    runs: int = 0
    statuses: int = 0
    charges: int = 0
    leaks: int = 0
    recovery_s: float | None = None

    def add(self, found: dict[str, Any]) -> None:
        self.seeds.append(found["seed"])
        for name in ("runs", "statuses", "charges", "leaks"):
            setattr(self, name, getattr(self, name) + found[name])
        if found["recovery_s"] is not None:
            self.recovery_s = max(self.recovery_s or 0.0, found["recovery_s"])

    def cells(self) -> tuple[str, ...]:
        first, last = min(self.seeds), max(self.seeds)
        seeds = str(first) if first == last else f"{first}-{last}"
        recovery = "" if self.recovery_s is None else f"{self.recovery_s:.2f}"
        return (str(self.runs), seeds, str(self.statuses), str(self.charges), str(self.leaks), recovery)


def swept(database: str, module: str, seed: int, folder: Path) -> bool:
    """Run one module in its long form; whether it passed."""
    table = folder / f"{database}.jsonl"
    environment = os.environ | {"FAULTS": "full", "FAULT_SEED": str(seed), "FAULTS_TABLE": str(table)}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", f"--db={database}", f"tests/faults/{module}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    say(f"seed {seed}, {database}: {module} {'passed' if done.returncode == 0 else 'FAILED'}")
    if done.returncode != 0:
        say(f"status {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}")
    return done.returncode == 0


def print_table(folder: Path) -> None:
    lines: dict[tuple[str, str], Line] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for raw in path.read_text().splitlines():
            found = json.loads(raw)
            lines.setdefault((found["case"], path.stem), Line([])).add(found)
    rows = [HEAD, *((*place, *line.cells()) for place, line in sorted(lines.items()))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the first round")
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    say(f"--seed {chosen.seed} --rounds {chosen.rounds}")
    with tempfile.TemporaryDirectory(prefix="tollgate-faults-") as name:
        folder = Path(name)
        passed = [swept(*sweep, chosen.seed, folder) for sweep in ONCE]
        for turn in range(chosen.rounds):
            passed += [swept(*sweep, chosen.seed + turn, folder) for sweep in EACH_ROUND]
        print_table(folder)
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
