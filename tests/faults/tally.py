"""What a sweep of faults found, case by case: all of it is counted, and the test fails at the end, not at the first.

`FAULTS=full` makes every sweep of this folder a long one; `FAULT_SEED=...` repeats one. With `FAULTS_TABLE=path` each
case leaves a line there, of which tests/soak/faults.py prints a table.
"""

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

FULL = os.environ.get("FAULTS") == "full"
SEED = int(os.environ.get("FAULT_SEED", random.SystemRandom().randrange(10**6)))
What = Literal["statuses", "charges", "leaks"]


@dataclass
class Tally:
    """One case of a sweep. `runs`: how many requests met the fault."""

    case: str
    runs: int = 0
    seed: int = SEED
    statuses: list[str] = field(default_factory=list)
    charges: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    recovery_s: float | None = None

    @contextmanager
    def checking(self, what: What) -> Iterator[None]:
        """What is asserted inside counts as one wrong status, charge or leak if it does not hold."""
        try:
            yield
        except AssertionError as error:
            getattr(self, what).append(str(error)[:500])

    def close(self) -> None:
        """Print, leave a line in the table, and fail if anything was wrong."""
        found: dict[str, Any] = asdict(self)
        wrong = [f"{what}: {one}" for what in ("statuses", "charges", "leaks") for one in found[what]]
        figures = found | {what: len(found[what]) for what in ("statuses", "charges", "leaks")}
        print(f"FAULT_SEED={self.seed} FAULTS={'full' if FULL else 'short'} {figures}")  # noqa: T201 - to repeat it
        if table := os.environ.get("FAULTS_TABLE"):
            with Path(table).open("a") as lines:
                lines.write(json.dumps(figures) + "\n")
        assert wrong == [], "\n".join(wrong[:20])
