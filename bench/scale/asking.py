"""The questions put to a running gateway over HTTP, one at a time, and the table of what came of it."""

import http.client
import statistics
import time
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from bench.scale.fill import say
from bench.scale.questions import CALLS, PAGES, Question, Questions, World
from tests.faults.books import connect


@dataclass
class Answered:
    """What CALLS calls of one question took, in ms. `first`: the first, its caches as they were."""

    question: Question
    times: list[float]
    status: int
    size: int
    asked: tuple[str, str, dict[str, str]]  # its name, the last path and its headers

    @property
    def p95(self) -> float:
        return sorted(self.times)[round(len(self.times) * 0.95) - 1]

    @property
    def missed(self) -> bool:
        return self.status != 200 or self.p95 > self.question.goal_ms

    def line(self) -> str:
        said = f"{statistics.median(self.times):8,.1f} {self.p95:8,.1f} {max(self.times):8,.1f} {self.times[0]:8,.1f}"
        verdict = "met" if not self.missed else "MISSED" if self.status == 200 else f"HTTP {self.status}"
        return f"{self.question.name:52} {said} {self.size / 1000:8,.1f} {self.question.goal_ms:6,.0f}  {verdict}"


HEAD = f"{'':52} {'p50 ms':>8} {'p95':>8} {'max':>8} {'first':>8} {'kB':>8} {'goal':>6}"


class Asking:
    """One connection that is kept, as a client keeps it."""

    def __init__(self, made: Any, port: int) -> None:
        self.made, self.random = made, Random(5)
        self.tenants = made.people["tenants"]
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.world = self._world()

    def _world(self) -> World:
        with connect(self.made.books.url) as database:

            def first(statement: str, *parameters: Any) -> list[Any]:
                return [row[0] for row in database.execute(statement, parameters or None).fetchall()]

            ids = {one["id"]: [str(pk) for pk in first(_IDS, one["id"])] for one in (self.tenants[0], self.tenants[9])}
            cursors = {}
            for page in PAGES:
                for by, statement, given in (("tenant", _PAGE, (self.tenants[0]["id"],)), ("staff", _PAGE_ALL, ())):
                    last = first(statement, *given, (page - 1) * 50 - 1)
                    position = f"p={last[0] if last else ids[self.tenants[0]['id']][-1]}"
                    cursors[by, page] = b64encode(position.encode()).decode()
            return World(
                tenants=self.tenants,
                ids=ids,
                models=first(_MODELS),
                slugs=first("SELECT DISTINCT provider_slug FROM billing_daily_usage LIMIT 10"),
                users=first("SELECT DISTINCT user_id FROM billing_monthly_user_usage WHERE user_id <> '' LIMIT 200"),
                cursors=cursors,
                today=datetime.now(UTC).date(),
                random=self.random,
            )

    def all(self, chosen: str) -> list[Answered]:
        found = []
        for question in Questions(self.world).all():
            if chosen in question.name:
                found.append(self.ask(question))
                say(found[-1].line())
        return found

    def headers(self, question: Question) -> dict[str, str]:
        if question.by == "session":
            return {"cookie": f"sessionid={self.made.people['session']}"}
        if question.by == "staff":
            return {"authorization": f"Bearer {self.made.staff}"}
        tenant = self.random.choice(self.tenants) if question.tenant is None else self.tenants[question.tenant]
        return {"authorization": f"Bearer {tenant['keys'][0]['secret']}"}

    def ask(self, question: Question) -> Answered:
        times, status, size = [], 200, 0
        for _ in range(CALLS):
            path, headers = question.path(), self.headers(question)
            began = time.perf_counter()
            self.connection.request("GET", path, headers=headers)
            answer = self.connection.getresponse()
            size = len(answer.read())
            times.append((time.perf_counter() - began) * 1000)
            status = answer.status if answer.status != 200 else status
            if times[-1] > 10_000 or status != 200:
                break
        return Answered(question, times, status, size, (question.name, path, headers))


_IDS = "SELECT id FROM llm_usage_logs WHERE tenant_id = %s ORDER BY id DESC LIMIT 2000"
_PAGE = "SELECT id FROM llm_usage_logs WHERE tenant_id = %s ORDER BY id DESC OFFSET %s LIMIT 1"
_PAGE_ALL = "SELECT id FROM llm_usage_logs ORDER BY id DESC OFFSET %s LIMIT 1"
_MODELS = "SELECT model_name FROM billing_daily_usage GROUP BY 1 ORDER BY sum(requests) DESC"


def report(made: Any, port: int, chosen: str = "") -> list[Answered]:
    """Ask everything (or what has `chosen` in its name), print the table, and give back what missed its goal."""
    found = Asking(made, port).all(chosen)
    print(HEAD)
    for one in found:
        print(one.line())
    missed = [one for one in found if one.missed]
    print(f"{len(found) - len(missed)} of {len(found)} met, {len(missed)} missed")
    return missed
