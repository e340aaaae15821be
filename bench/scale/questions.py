"""What is asked of the ten million rows, twenty times each with other parameters, and how quick it has to be."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Any
from urllib.parse import urlencode

CALLS = 20
REPORT_MS, LIST_MS = 100, 1000  # API reports; lists and pages of the admin, and documents: a month's draft
SPANS = {"1 day": 1, "30 days": 30, "1 year": 365}
PAGES = (2, 1000, 4000)  # of 50 rows
GROUPS = ("day", "month", "model", "provider", "key", "config", "user", "power_level", "task_type", "byok")


@dataclass(frozen=True)
class Question:
    """One kind of request. `path` is asked anew for each call; `by`: `tenant`, `staff` or `session`."""

    name: str
    by: str
    path: Callable[[], str]
    goal_ms: float = REPORT_MS
    tenant: int | None = None  # which tenant's key asks; None: another each time


@dataclass
class World:
    """What questions are made of: ids that are there."""

    tenants: list[dict[str, Any]]
    ids: Mapping[str, list[str]]  # of requests: by tenant's id
    models: list[str]
    slugs: list[str]
    users: list[str]
    cursors: Mapping[tuple[str, int], str]  # by who asks and which page
    today: date
    random: Random


def query(path: str, **parameters: Any) -> str:
    return f"{path}?{urlencode(parameters)}" if parameters else path


class Questions:
    """All of them, of the largest tenant where it is a tenant that asks, since it is the slowest."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.large = world.tenants[0]

    def all(self) -> Iterator[Question]:
        yield from self._lists()
        yield from self._summaries()
        yield from self._rest()
        yield from self._admin()

    def _choose(self, of: list[Any]) -> Any:
        return self.world.random.choice(of)

    def _span(self, days: int) -> dict[str, str]:
        """So many days, ending somewhere in the last weeks."""
        end = self.world.today - timedelta(days=self.world.random.randrange(0, 30 if days < 365 else 3))
        return {"from": str(end - timedelta(days=days - 1)), "to": str(end)}

    def _lists(self) -> Iterator[Question]:
        url, span = "/api/v1/llm/usage", self._span
        filters: dict[str, Callable[[], dict[str, Any]]] = {
            "first page": dict,
            "1,000 a page": lambda: {"page_size": 1000},
            "a common model": lambda: {"model": self._choose(self.world.models[:5])},
            "a rare model": lambda: {"model": self._choose(self.world.models[-20:])},
            "a provider": lambda: {"provider": self._choose(self.world.slugs)},
            "status failed": lambda: {"status": "failed"},
            "status expired (none)": lambda: {"status": "expired"},
            "its busiest key": lambda: {"key": self.large["keys"][0]["id"]},
            "any key": lambda: {"key": self._choose(self.large["keys"])["id"]},
            "its quietest key": lambda: {"key": self.large["keys"][-1]["id"]},
            "7 days": lambda: span(7),
            "7 days long ago": lambda: {"from": self._ago(300), "to": self._ago(293)},
            "7 days long ago, failed": lambda: {"from": self._ago(300), "to": self._ago(293), "status": "failed"},
        }
        for name, make in filters.items():
            yield Question(f"usage, {name}", "tenant", lambda make=make: query(url, **make()), tenant=0)
        yield Question("usage of any tenant, first page", "tenant", lambda: url)
        yield Question("usage, staff, first page", "staff", lambda: "/api/v1/admin/usage")
        yield Question(
            "usage, staff, a tenant's failed", "staff",
            lambda: query("/api/v1/admin/usage", tenant=self._choose(self.world.tenants)["slug"], status="failed"),
        )  # fmt: skip
        for key, what in (("large", "the largest tenant"), ("staff", "staff")):
            by = "staff" if key == "staff" else "tenant"
            path = "/api/v1/admin/usage" if key == "staff" else url
            for page in PAGES:
                cursor = self.world.cursors[by, page]
                yield Question(
                    f"usage, page {page:,}, {what}", by, lambda p=path, c=cursor: query(p, cursor=c), tenant=0
                )

    def _ago(self, days: int) -> str:
        return str(self.world.today - timedelta(days=days))

    def _summaries(self) -> Iterator[Question]:
        for span, days in SPANS.items():
            for group in GROUPS:
                yield Question(
                    f"summary by {group}, {span}", "tenant",
                    lambda d=days, g=group: query("/api/v1/llm/usage/summary", group_by=g, **self._span(d)), tenant=0,
                )  # fmt: skip
        for span, days in SPANS.items():
            for group in GROUPS:
                yield Question(
                    f"summary by {group}, {span}, all tenants", "staff",
                    lambda d=days, g=group: query("/api/v1/admin/usage/summary", group_by=g, **self._span(d)),
                )  # fmt: skip
            yield Question(
                f"top models, {span}", "staff",
                lambda d=days: query("/api/v1/admin/usage/top-models", limit=20, **self._span(d)),
            )  # fmt: skip

    def _rest(self) -> Iterator[Question]:
        month = (self.world.today.replace(day=1) - timedelta(days=1)).isoformat()[:7]
        request = lambda: f"/api/v1/llm/requests/{self._choose(self.world.ids[self.large['id']])}"  # noqa: E731
        yield Question("one request", "tenant", request, tenant=0)
        yield Question("me", "tenant", lambda: "/api/v1/me")
        yield Question("credits", "tenant", lambda: "/api/v1/llm/credits")
        yield Question("adjustments", "tenant", lambda: "/api/v1/llm/adjustments")
        yield Question("own provider keys", "tenant", lambda: "/api/v1/llm/byok/keys", tenant=0)
        for span, days in SPANS.items():
            yield Question(
                f"one key, {span}", "tenant",
                lambda d=days: query(f"/api/v1/keys/{self._choose(self.large['keys'])['id']}/usage", **self._span(d)),
                tenant=0,
            )  # fmt: skip
        yield Question("statements", "tenant", lambda: "/api/v1/statements", tenant=0)
        for which, tenant in (("a middling", 9), ("the largest", 0)):
            yield Question(
                f"last month's statement, {which} tenant", "tenant", lambda: f"/api/v1/statements/{month}",
                goal_ms=LIST_MS, tenant=tenant,
            )  # fmt: skip

    def _admin(self) -> Iterator[Question]:
        log, world = "/admin/billing/usagerecord/", self.world
        pages: dict[str, Callable[[], str]] = {
            "dashboard": lambda: "/admin/",
            "usage page, 30 days": lambda: "/admin/usage/?span=30d",
            "usage page, a year by user": lambda: query(
                "/admin/usage/", span="custom", **{"from": self._ago(364), "to": str(world.today)}, by="user"
            ),
            "request log": lambda: log,
            "request log, a tenant": lambda: query(log, tenant=self._choose(world.tenants)["id"]),
            "request log, failed": lambda: query(log, status__exact="failed"),
            "request log, swept (none)": lambda: query(log, status__exact="expired"),
            "request log, a common model": lambda: query(log, model_name=self._choose(world.models[:5])),
            "request log, a rare model": lambda: query(log, model_name=self._choose(world.models[-20:])),
            "request log, a user": lambda: query(log, user_id=self._choose(world.users)),
            "request log, no such user": lambda: query(log, user_id=f"nobody-{world.random.random()}"),
            "request log, own keys": lambda: query(log, used_byok__exact=1),
            "request log, a power level": lambda: query(log, power_level="eco"),
            "request log, a tenant's errors of a day": lambda: query(
                log, tenant=self._choose(world.tenants)["id"], answer="error", **self._days(1)
            ),
            "request log, a week long ago": lambda: query(log, **self._days(7)),
            "request log, search": lambda: query(log, q=self._choose(world.ids[self.large["id"]])),
            "request log, page 10": lambda: f"{log}?p=10",
            "request log, page 1,000": lambda: f"{log}?p=1000",
            "request log, beyond the last page": lambda: f"{log}?p=99999999",
            "one request": lambda: f"{log}{self._choose(world.ids[self.large['id']])}/change/",
            "adjustments": lambda: "/admin/billing/adjustment/",
            "adjustments, a tenant": lambda: query(
                "/admin/billing/adjustment/", tenant=self._choose(world.tenants)["id"]
            ),
            "windows": lambda: "/admin/billing/budgetwindow/",
            "daily usage": lambda: "/admin/billing/dailyusage/",
            "daily usage, a tenant": lambda: query(
                "/admin/billing/dailyusage/", tenant=self._choose(world.tenants)["id"]
            ),
            "health board": lambda: "/admin/health/",
            "a tenant": lambda: f"/admin/tenants/tenant/{self._choose(world.tenants)['id']}/change/",
            "a key": lambda: f"/admin/tenants/apikey/{self._choose(self.large['keys'])['id']}/change/",
        }
        for name, path in pages.items():
            yield Question(f"admin: {name}", "session", path, goal_ms=LIST_MS)

    def _days(self, number: int) -> dict[str, str]:
        end = self.world.today - timedelta(days=self.world.random.randrange(30, 300))
        return {"billing_day_from": str(end - timedelta(days=number - 1)), "billing_day_to": str(end)}
