"""What is measured: a scratch database on PostgreSQL, the upstream, and the gateway, set up through its public API."""

import contextlib
import http.client
import json
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine
from tests.faults.books import Books, connect
from tests.postgres import database_url

CHAT, VIEWSET = "/v1/chat/completions", "/api/v1/llm/chat/completions"
MODEL, CLAUDE = "bench-chat", "bench-claude"
START_S = 90
AMPLE = "1000000"  # USD: a limit that is checked and never reached


@dataclass(frozen=True)
class Target:
    """Something that answers chat completions on a port of this machine."""

    name: str
    port: int
    key: str = ""
    path: str = CHAT
    model: str = MODEL

    @classmethod
    def parse(cls, text: str) -> "Target":
        """`name=port,key,path,model`, of which key, path and model may be missing or empty. Raises ValueError."""
        name, _, rest = text.partition("=")
        port, key, path, model = (rest.split(",") + [""] * 3)[:4]
        if not name or not port.isdigit():
            raise ValueError(f"A target is name=port,key,path,model; {text!r} is not.")
        return cls(name, int(port), key, path or CHAT, model or MODEL)

    @property
    def pids(self) -> list[int]:
        return machine.processes_of(self.port)


@dataclass(frozen=True)
class World:
    """Everything that runs, until the end of the context."""

    books: Books
    facts: dict[str, Any]
    upstream: Target
    gateway: Target
    flooder: str  # the key of another tenant

    @property
    def folder(self) -> Path:
        return Path(self.books.folder.name)


@contextmanager
def world(upstream_port: int) -> Iterator[World]:
    """Database, upstream and gateway, ready to answer. `upstream_port` 0 is any that is free."""
    with ExitStack() as stack:
        books = stack.enter_context(Books(database_url(durable=True)))
        facts = facts_of(books)
        upstream = stack.enter_context(answering(books, upstream_port))
        staff = bootstrap(books)["staff_api_key"]
        port = stack.enter_context(serving(books, workers=1))
        key, flooder = set_up(port, staff, upstream)
        gateway = Target("tollgate", port, key)
        until_it_answers(gateway)
        yield World(books, facts, Target("direct", upstream), gateway, flooder)


@contextmanager
def answering(books: Books, port: int) -> Iterator[int]:
    """The upstream; the port it answers on. Raises Unfit if it is taken."""
    log = Path(books.folder.name) / "upstream.log"
    with machine.running([str(machine.BUILD / "upstream"), str(port)], log, cores=[machine.LOAD]) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        if not said:
            raise machine.Unfit(f"The upstream cannot listen on port {port}: {log.read_text().strip()}")
        yield int(said.split()[1])


@contextmanager
def serving(books: Books, *, workers: int, **settings: int) -> Iterator[int]:
    """`manage.py serve` with so many processes, one on one core, and other settings; the port it answers on."""
    port = free_port()
    env = books.environment | {"HOST": "127.0.0.1", "PORT": str(port), "WEB_WORKERS": str(workers)}
    env |= {name: str(value) for name, value in settings.items()}
    log = Path(books.folder.name) / f"serve-{port}.log"
    cores = machine.PAIR if workers > 1 else (machine.GATEWAY,)
    with machine.running([sys.executable, "manage.py", "serve"], log, cores=cores, env=env) as process:
        until = time.monotonic() + START_S
        while not ready(port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"The gateway does not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield port


def facts_of(books: Books) -> dict[str, Any]:
    """What the database promises to keep, and how long one commit alone takes it (median of 50, in us)."""
    with connect(books.url) as database:
        facts = {
            name: database.execute(f"SHOW {name}").fetchone()[0]
            for name in ("server_version", "fsync", "synchronous_commit")
        }
        database.execute("CREATE TABLE bench_commit (n int)")
        took = []
        for number in range(50):
            began = time.perf_counter()
            database.execute("INSERT INTO bench_commit VALUES (%s)", [number])
            took.append(time.perf_counter() - began)
        database.execute("DROP TABLE bench_commit")
    return facts | {"commit_us": round(statistics.median(took) * 1e6)}


def bootstrap(books: Books) -> dict[str, str]:
    """Tables, the shipped catalog, and keys."""
    done = books.manage("bootstrap", "--json")
    if done.returncode != 0:
        raise RuntimeError(f"The database cannot be prepared:\n{done.stderr[-3000:]}")
    keys: dict[str, str] = json.loads(done.stdout)
    return keys


def set_up(port: int, staff: str, upstream: int) -> list[str]:
    """Providers of both dialects, their models with prices, and two tenants with budgets; their keys."""

    def create(path: str, **body: Any) -> Any:
        status, answer = ask(port, "POST", f"/api/v1/admin/{path}", staff, body)
        if status != 201:
            raise RuntimeError(f"POST {path} answered {status}: {answer}")
        return answer

    for slug, dialect, model in (("bench", "openai", MODEL), ("bench-anthropic", "anthropic", CLAUDE)):
        create("llm/providers", slug=slug, dialect=dialect, base_url=f"http://127.0.0.1:{upstream}/v1")
        create(f"llm/providers/{slug}/credentials", name="bench", api_key="sk-bench-0123456789abcdef")
        costs = {"cost_per_1m_input_tokens": "2.5", "cost_per_1m_output_tokens": "10"}
        create("llm/models", provider=slug, model_id=model, max_output_tokens=16_384, **costs)
    limits = {"budget_limit_daily": AMPLE, "budget_limit_monthly": AMPLE}
    keys = []
    for slug in ("bench", "flooder"):
        create("tenants", slug=slug, tier="enterprise", **limits)
        keys.append(create(f"tenants/{slug}/keys", name="bench", **limits)["key"])
    return keys


def until_it_answers(target: Target) -> None:
    """Wait for the catalog's edits to be live."""
    body = {"model": CLAUDE, "messages": [{"role": "user", "content": "Hello"}]}
    until = time.monotonic() + START_S
    while (answer := ask(target.port, "POST", target.path, target.key, body))[0] != 200:
        if time.monotonic() > until:
            raise RuntimeError(f"{target.name} answers {answer}")
        time.sleep(0.2)


def refuse_mute(target: Target, upstream_port: int) -> None:
    """Raise Unfit unless another gateway answers before it is measured."""
    body = {"model": target.model, "messages": [{"role": "user", "content": "Hello"}]}
    try:
        status, answer = ask(target.port, "POST", target.path, target.key, body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        status, answer = 0, str(error)
    if status != 200:
        raise machine.Unfit(
            f"{target.name} on port {target.port} answers {status or 'nothing'}: {answer}\n"
            f"Is it running, and is its provider http://127.0.0.1:{upstream_port}/v1?"
        )


def ask(port: int, method: str, path: str, key: str, body: Any = None) -> tuple[int, Any]:
    """One request; status and JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or "null")
    finally:
        connection.close()


def ready(port: int) -> bool:
    with contextlib.suppress(OSError):
        return ask(port, "GET", "/health/ready", "")[0] == 200
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
