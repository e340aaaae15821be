"""The broker is gone, mute or cannot write: completions and admin do not notice, and what enqueues says so, soon."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.books import ROOT, Books, given_postgres
from tests.faults.storm import served
from tests.journeys.world import eventually

ON_POSTGRES = "DATABASE_URL" in os.environ
BOUND_S = 10.0  # CELERY_BROKER_CONNECTION_TIMEOUT is 2 s, the machine is busy


@pytest.fixture(scope="module")
def house() -> Iterator[tuple[Books, dict[str, Any]]]:
    """A database with everything that `make run` puts into it."""
    with Books(given_postgres() if ON_POSTGRES else None) as books:
        done = books.manage("bootstrap", "--json")
        assert done.returncode == 0, done.stderr[-2000:]
        yield books, json.loads(done.stdout)


@contextmanager
def gone() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield free.getsockname()[1]


@contextmanager
def mute() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


@contextmanager
def worker(books: Books) -> Iterator[None]:
    """A worker that was away, and comes back."""
    command = [sys.executable, "-m", "celery", "-A", "tollgate", "worker", "--pool", "solo", "--loglevel", "ERROR"]
    child = subprocess.Popen(command, cwd=ROOT, env=books.environment)
    try:
        yield
    finally:
        child.terminate()
        child.wait(30)


class Staff:
    """A staff member in the admin."""

    def __init__(self, port: int, made: dict[str, Any]) -> None:
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=60, follow_redirects=True, trust_env=False, verify=False
        )
        page = self._http.get("/admin/login/").text
        login = {"username": made["staff_username"], "password": made["staff_password"], "next": "/admin/"}
        assert self._http.post("/admin/login/", data=login | self._token(page)).status_code == 200

    def _token(self, page: str) -> dict[str, str]:
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert found
        return {"csrfmiddlewaretoken": found[1]}

    def run_a_job(self) -> tuple[str, float]:
        """The page after “Run selected tasks” of two schedules, and the seconds it took."""
        where = "/admin/django_celery_beat/periodictask/"
        listed = self._http.get(where)
        assert listed.status_code == 200
        chosen = re.findall(r'name="_selected_action" value="(\d+)"', listed.text)[:2]
        assert len(chosen) == 2
        started = time.monotonic()
        form: dict[str, Any] = {"action": "run_tasks", "_selected_action": chosen}
        answer = self._http.post(where, data=form | self._token(listed.text))
        assert answer.status_code == 200, answer.text[:500]
        return answer.text, time.monotonic() - started


def completions_go_on(port: int, made: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {made['tenant_api_key']}"}
    body = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hello"}]}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, verify=False) as client:
        for path in ("/v1/chat/completions", "/api/v1/llm/chat/completions"):
            answer = client.post(path, json=body, timeout=20)
            assert (answer.status_code, answer.elapsed.total_seconds() < 2) == (200, True), answer.text
        staff = {"Authorization": f"Bearer {made['staff_api_key']}"}
        for call in ("/api/v1/admin/llm/providers/sandbox/test", "/api/v1/admin/llm/providers/sandbox/health"):
            method = "POST" if call.endswith("test") else "GET"
            answer = client.request(method, call, headers=staff, timeout=20)
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("state", [gone, mute], ids=["gone", "mute"])
@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}/1", "amqp://guest:guest@127.0.0.1:{}//"], ids=["redis", "amqp"])
def test_a_broker_that_does_not_answer(
    house: tuple[Books, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, state: Any, url: str
) -> None:
    books, made = house
    with state() as broker:
        monkeypatch.setenv("CELERY_BROKER_URL", url.format(broker))
        with served(books, 1) as [port]:
            staff = Staff(port, made)
            page, took = staff.run_a_job()
            assert "The broker is out of reach, so not all of these jobs were started." in page
            assert took < BOUND_S
            completions_go_on(port, made)


def test_the_embedded_brokers_folder_cannot_be_written(house: tuple[Books, dict[str, Any]]) -> None:
    """A file in the folder's place stops everybody, also root; the server starts all the same, and recovers."""
    books, made = house
    queue = Path(books.environment["TOLLGATE_DATA_DIR"]) / "broker" / "queue"
    shutil.rmtree(queue)
    queue.touch()
    with served(books, 1) as [port]:
        staff = Staff(port, made)
        assert "The broker is out of reach, so not all of these jobs were started." in staff.run_a_job()[0]
        completions_go_on(port, made)
        queue.unlink()
        queue.mkdir()
        assert "2 tasks were successfully run" in staff.run_a_job()[0]
        assert len(list(queue.iterdir())) == 2
    done = "SELECT status FROM django_celery_results_taskresult"
    with worker(books):
        eventually(lambda: len(books.query(done)) >= 2, within_s=60, what="catching up")
    assert {status for (status,) in books.query(done)} == {"SUCCESS"}
    assert list(queue.iterdir()) == []
