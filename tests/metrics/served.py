"""A gateway of two web processes, a vendor, and what a scrape of `/metrics` says."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes import FakeProvider
from tests.faults.books import ROOT, Books, given_postgres
from tests.faults.storm import wait_ready
from tests.journeys.world import ASK

TOKEN = "scrape-canary-Kd83hQz6Vw1x"


class Scrape:
    """One answer of `/metrics`, parsed by prometheus-client's own parser."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples of `tollgate_<name>` that have these labels."""
        return sum(s.value for s in self.samples if s.name == f"tollgate_{name}" and labels.items() <= s.labels.items())

    def by(self, name: str, *labels: str) -> dict[Any, float]:
        """Samples by their values of one label, or of several; zeros left out."""
        found: dict[Any, float] = {}
        for sample in self.samples:
            if sample.name == f"tollgate_{name}" and sample.value:
                values = tuple(sample.labels.get(label, "") for label in labels)
                key = values[0] if len(values) == 1 else values
                found[key] = found.get(key, 0) + sample.value
        return found

    @property
    def pids(self) -> set[int]:
        return {int(pid) for pid in self.by("process_resident_memory_bytes", "pid")}

    @property
    def counted(self) -> dict[tuple[str, str], float]:
        """Every series that requests move. A scrape may not change it, nor may the death of a process."""
        own = ("tollgate_process_", "tollgate_ledger_", "tollgate_catalog_", "tollgate_job_")
        kinds = ("counter", "histogram")
        return {
            (sample.name, str(sorted(sample.labels.items()))): sample.value
            for name, family in self.families.items()
            if family.type in kinds and not name.startswith(own)
            for sample in family.samples
        }


@dataclass
class Served:
    """`manage.py serve` with WEB_WORKERS=2."""

    url: str
    keys: dict[str, str]
    vendor: FakeProvider
    folder: Path  # where the processes keep their figures

    def request(self, method: str, path: str, *, patience_s: float = 30, **options: Any) -> httpx.Response:
        """On a connection of its own: either process may take it."""
        with httpx.Client(base_url=self.url, timeout=patience_s, trust_env=False, verify=False) as client:
            return client.request(method, path, **options)

    def ask(
        self,
        model: str = "fakeai/m",
        *,
        key: str = "rich",
        path: str = "/v1/chat/completions",
        patience_s: float = 30,
        **body: Any,
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.keys.get(key, key)}"}
        json_ = {"model": model, "messages": ASK} | body
        return self.request("POST", path, patience_s=patience_s, headers=headers, json=json_)

    def scrape(self) -> Scrape:
        answer = self.request("GET", "/metrics")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        return Scrape(answer.text)

    def took_part(self) -> int:
        """How many processes have counted a request."""
        files = [MmapedDict.read_all_values_from_file(str(path)) for path in self.folder.glob("counter_*.db")]
        return sum(any("tollgate_requests_total" in key and value for key, value, *_ in file) for file in files)


@contextmanager
def serving() -> Iterator[Served]:
    """Start it all, with a scratch database of the kind the tests run on; stop it by its process id."""
    with FakeProvider() as vendor, Books(given_postgres() if "DATABASE_URL" in os.environ else None) as books:
        prepare = [sys.executable, "-m", "tests.metrics.prepared", vendor.base_url]
        prepared = subprocess.run(prepare, cwd=ROOT, env=books.environment, stdout=subprocess.PIPE, check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = books.environment | {
            "PORT": str(port), "WEB_WORKERS": "2", "GRACE_PERIOD_S": "2", "METRICS_TOKEN": TOKEN,
        }  # fmt: skip
        server = subprocess.Popen([sys.executable, "manage.py", "serve"], cwd=ROOT, env=environment)
        try:
            wait_ready(port)
            folder = Path(books.environment["TOLLGATE_DATA_DIR"]) / "metrics" / str(port)
            yield Served(f"http://127.0.0.1:{port}", json.loads(prepared.stdout), vendor, folder)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
