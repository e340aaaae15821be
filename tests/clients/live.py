"""What the checks with real programs share: a table of results, virtual environments under var/, servers, a gateway."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
Json = dict[str, Any]


@dataclass
class Table:
    """What was checked and what was found; width: of what was checked, in characters."""

    width: int = 60
    checked: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)

    def check(self, what: str, found: Any, wanted: Any) -> None:
        """A line; found is compared with what is wanted, a function is asked."""
        good = wanted(found) if callable(wanted) else found == wanted
        self.checked += 1
        self.failed += not good
        shown = str(found) if len(str(found)) <= 150 else f"{str(found)[:149]}…"
        self.say(f"{'ok' if good else 'FAILED':<7}{what:<{self.width}}{shown}")
        if not good and not callable(wanted):
            self.say(f"{'':<{7 + self.width}}wanted: {wanted}")

    def say(self, line: str) -> None:
        sys.stdout.write(f"{time.monotonic() - self.started:6.1f} s  {line}\n")
        sys.stdout.flush()


def installed(lock: Path, venv: Path) -> Path:
    """The `bin` of a virtual environment with what is locked there, made anew if the lock changed since."""
    stamp, wanted = venv / "installed", hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)
        stamp.write_text(wanted)
    return venv / "bin"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(**more: str) -> dict[str, str]:
    """This process's, without keys and databases that would change what is checked."""
    return {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_URL"))} | more


@contextmanager
def running(
    command: list[str], environment: dict[str, str], log: Path, alive: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A server, from the moment it answers at `alive` until it is stopped."""
    with log.open("ab") as output:
        child = subprocess.Popen(command, cwd=log.parent, env=environment, stdout=output, stderr=output)
    try:
        wait(lambda: answers(alive) or child.poll() is not None, 120)
        if child.poll() is not None:
            raise SystemExit(f"{command[0]} ended at once:\n{log.read_text()[-3_000:]}")
        yield child
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def wait(done: Callable[[], Any], seconds: float) -> bool:
    """Poll; False if it took too long."""
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


class Gateway:
    """Tollgate on a data folder of its own, as its three kinds of people use it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.port = folder, folder / "tollgate.log", free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.keys: Json = {}

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of this machine's, whatever a .env says."""
        defaults = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL"), "")
        return defaults | clean_environment(
            TOLLGATE_ENV="development", TOLLGATE_DATA_DIR=str(self.folder / "data"), HOST="127.0.0.1",
            PORT=str(self.port), LOG_LEVEL="DEBUG", **more,
        )  # fmt: skip

    def manage(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment(**more), capture_output=True, text=True, check=False
        )
        with self.log.open("a") as log:
            log.write(done.stderr)
        return done

    @contextmanager
    def served(self, **more: str) -> Iterator[None]:
        command = [sys.executable, str(ROOT / "manage.py"), "serve"]
        with running(command, self.environment(**more), self.log, f"{self.url}/health/ready"):
            yield

    def bootstrap(self, **more: str) -> str:
        """Ready to serve, its keys known. Returns what it logged."""
        done = self.manage("bootstrap", "--json", **more)
        if done.returncode:
            raise SystemExit(f"bootstrap failed:\n{done.stderr[-3_000:]}")
        self.keys = json.loads(done.stdout)
        return done.stderr

    def staff(self, method: str, path: str, body: Json | None = None) -> Json:
        return self._call(method, f"/api/v1/admin/{path}", self.keys["staff_api_key"], body)

    def tenant(self, path: str) -> Json:
        return self._call("GET", f"/api/v1/{path}", self.keys["tenant_api_key"], None)

    def _call(self, method: str, path: str, key: str, body: Json | None) -> Json:
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.request(method, self.url + path, headers=headers, json=body, timeout=60, trust_env=False)
        found: Json = answer.json()
        return found
