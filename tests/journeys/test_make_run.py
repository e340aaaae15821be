"""What `make run` gives a stranger: one command, a line to paste, an answer, jobs that run, a clean stop."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0


class Running:
    """`manage.py run` on a data folder of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = folder / "run.log"
        kept = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "TOLLGATE_ENV"}}
        self.environment = {
            **kept,
            "PORT": str(self.port),
            "TOLLGATE_DATA_DIR": str(folder / "var"),
            "DATABASE_URL": "",
            "CELERY_BROKER_URL": "",
            "PYTHONUNBUFFERED": "1",
        }
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "run"],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, what: Callable[[], Any]) -> Any:
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            found = what()
            if found:
                return found
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(f"not within {DEADLINE_S} s:\n{self.log.read_text()}")

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=DEADLINE_S, check=True,
        )  # fmt: skip
        return done.stdout


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    started = Running(tmp_path_factory.mktemp("run"))
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.send_signal(signal.SIGINT)
            started.process.wait(60)


def test_one_command_gives_a_line_to_paste_that_answers_at_once(running: Running) -> None:
    printed = running.wait_for(lambda: re.search(r"(curl .*?})'", running.log.read_text(), re.DOTALL))
    command = shlex.split(printed.group(0).replace("\\\n", " "))
    url = next(word for word in command if word.startswith("http"))
    headers = dict(
        command[place + 1].split(": ", 1) for place, word in enumerate(command) if word in ("-H", "--header")
    )
    body = next(command[place + 1] for place, word in enumerate(command) if word in ("-d", "--data"))
    headers.setdefault("Content-Type", "application/json")
    answer = httpx.post(url, headers=headers, content=body, timeout=20)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-provider-used"] == "sandbox"
    assert answer.json()["usage"]["cost"] > 0


def test_the_worker_probes_providers_and_rolls_usage_up(running: Running) -> None:
    running.wait_for(lambda: "Tollgate is running" in running.log.read_text())
    made = json.loads(running.manage("bootstrap", "--json"))
    base = f"http://127.0.0.1:{running.port}/api/v1/admin"
    staff = {"Authorization": f"Bearer {made['staff_api_key']}"}
    running.manage(
        "shell", "-c",
        "from billing.tasks import roll_up_daily; from llm.tasks import check_provider;"
        "from llm.models import LLMProvider;"
        "check_provider.delay(provider_id=str(LLMProvider.objects.get(slug='sandbox').pk)); roll_up_daily.delay()",
    )  # fmt: skip

    def health() -> bool:
        found = httpx.get(f"{base}/llm/providers/sandbox", headers=staff, timeout=20).json()
        return bool(found["health_status"] == "healthy")

    def rolled_up() -> bool:
        # Of an open day it notes how far it got; what is younger than a quarter of an hour is still read from the rows.
        shown = running.manage(
            "shell", "-c", "from billing.rollup_models import OpenDay as D; print(D.objects.count())"
        )
        return int(shown.split()[-1]) >= 1

    running.wait_for(health)
    running.wait_for(rolled_up)


def test_interrupting_it_stops_everything_and_says_so(running: Running) -> None:
    running.wait_for(lambda: "Tollgate is running" in running.log.read_text())
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0
    assert running.log.read_text().rstrip().endswith("Stopped.")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{running.port}/health/live", timeout=2)
