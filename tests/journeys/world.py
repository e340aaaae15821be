"""One gateway, three vendors on sockets and as many customers as a module wants: the stage of the journeys.

`World` is made once for a module (see conftest.py). Every test takes fresh customers, so that rows, budgets and caches
of one test are never those of another, and the vendors forget their scripts and bills in between.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import openai
from django.core.management import call_command

from billing.models import BudgetWindow, Hold, UsageRecord
from llm.engine import runtime, snapshot
from llm.models import LLMBreaker, LLMModel, LLMProvider
from tenants.models import Tenant
from tests import cast
from tests.conftest import Gateway
from tests.fakes import Entry, FakeProvider

Json = dict[str, Any]
ASK = [{"role": "user", "content": "Say hello to the world"}]
# USD per million tokens of the model `m` at both vendors.
INPUT, CACHED, OUTPUT = Decimal("2.00"), Decimal("0.50"), Decimal("8.00")
# Where the event with the finish is the one with the usage.
FINISH_COUNTS = ("anthropic", "google")
PLATFORM_KEY = "sk-platform-0123456789"
_numbers = itertools.count(1)


def eventually(found: Callable[[], Any], *, within_s: float = 3.0, what: str = "it") -> Any:
    """Poll until `found()` is truthy, and return that. Fails after `within_s`."""
    until = time.monotonic() + within_s
    while True:
        value = found()
        if value:
            return value
        assert time.monotonic() < until, f"{what} did not happen within {within_s} s"
        time.sleep(0.01)


def price_of(entry: Entry, *, input: Decimal = INPUT, output: Decimal = OUTPUT) -> Decimal:  # noqa: A002 - the meter
    """What a vendor's bill comes to at the card of `m`: the independent truth."""
    fresh = entry.prompt_tokens - entry.cached_tokens
    return (fresh * input + entry.cached_tokens * CACHED + entry.completion_tokens * output) / 1_000_000


def usd(prompt: int, completion: int = 0, cached: int = 0) -> Decimal:
    """The price of so many tokens at the card of `m`."""
    return ((prompt - cached) * INPUT + cached * CACHED + completion * OUTPUT) / 1_000_000


@dataclass
class Customer:
    """A tenant with one key, and what it sees."""

    tenant: Tenant
    key: Any
    secret: str
    url: str

    @property
    def openai(self) -> openai.OpenAI:
        http = openai.DefaultHttpxClient(verify=False)  # plain HTTP: certificates cost 50 ms to load
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=self.secret, max_retries=0, timeout=20, http_client=http
        )

    @property
    def anthropic(self) -> anthropic.Anthropic:
        http = anthropic.DefaultHttpxClient(verify=False)
        return anthropic.Anthropic(base_url=self.url, api_key=self.secret, max_retries=0, timeout=20, http_client=http)

    @property
    def http(self) -> httpx.Client:
        """A plain client of the whole server, with the key."""
        headers = {"Authorization": f"Bearer {self.secret}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, verify=False, trust_env=False)

    def ask(self, model: str = "fakeai/m", *, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
        """One chat request, read to its end."""
        with self.http as client:
            return client.post(path, json={"model": model, "messages": ASK, **body})

    @contextmanager
    def stream(self, model: str = "fakeai/m", **body: Any) -> Iterator[httpx.Response]:
        with (
            self.http as client,
            client.stream(
                "POST", "/v1/chat/completions", json={"model": model, "messages": ASK, "stream": True, **body}
            ) as answer,
        ):
            yield answer

    def rows(self) -> list[UsageRecord]:
        """The usage rows, oldest first."""
        return list(UsageRecord.objects.filter(tenant_id=self.tenant.pk).order_by("id"))

    def row(self) -> UsageRecord:
        """The one usage row there is; waited for, since a client that leaves is not told when it is written."""
        eventually(lambda: self.rows() and not self.holds(), what="settling")
        [row] = self.rows()
        return row

    def holds(self) -> int:
        return Hold.objects.filter(tenant_id=self.tenant.pk).count()

    def spent(self) -> Decimal:
        """What the tenant's day window says. Everything held must have been let go of."""
        windows = BudgetWindow.objects.filter(scope_id=self.tenant.pk, scope_kind="tenant")
        assert [window.held for window in windows] == [Decimal(0)] * len(windows)
        return sum((window.spent for window in windows if window.period == "day"), Decimal(0))

    def untouched(self) -> None:
        """Nothing was recorded, spent or held: the request was never accepted."""
        assert self.rows() == []
        assert self.holds() == 0
        assert self.spent() == 0


@dataclass(frozen=True)
class Vendor:
    """One provider of the catalog, and the fake that plays it."""

    name: str
    fake: FakeProvider
    provider: LLMProvider
    model: LLMModel

    @property
    def reference(self) -> str:
        return f"{self.provider.slug}/{self.model.model_id}"

    def cached(self, tokens: int) -> int:
        """Of cached tokens, those that it bills as such: Cohere counts them, but bills none."""
        return 0 if self.name == "cohere" else tokens

    def loses_usage(self, said: Json) -> bool:
        """Whether a script leaves out the event that says what was produced."""
        return "no_done" in said if self.name == "cohere" else "omit" in said.values() and self.name in FINISH_COUNTS

    def turns(self) -> list[Json]:
        """The chat that it got last, as its dialect has it."""
        found: list[Json] = self.fake.requests[-1].body["contents" if self.name == "google" else "messages"]
        return found


class World:
    """The stage. `world.vendors`, by dialect ("openai", "anthropic", ...), each sell a model `m` at the same price."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.fake = FakeProvider().start()
        self.other = FakeProvider().start()
        self.aws = FakeProvider().start()
        self.canadian = FakeProvider().start()
        self.gemini = FakeProvider().start()
        self.fakes = (self.fake, self.other, self.aws, self.canadian, self.gemini)
        cast.make_power_levels()
        self.vendors = {
            "openai": self._vendor("openai", "fakeai", self.fake),
            "anthropic": self._vendor("anthropic", "fakethropic", self.other),
            "bedrock": self._vendor("bedrock", "fakerock", self.aws),
            "cohere": self._vendor("cohere", "fakohere", self.canadian),
            "google": self._vendor("google", "fakegoogle", self.gemini),
        }
        self.refresh()

    def _vendor(self, dialect: str, slug: str, fake: FakeProvider) -> Vendor:
        provider = self.provider(slug, fake, dialect)
        return Vendor(dialect, fake, provider, self.model(provider, "m"))

    def provider(self, slug: str, fake: FakeProvider | None, dialect: str = "openai", **values: Any) -> LLMProvider:
        """A provider with a platform key; without a fake nobody listens."""
        url = cast.UNREACHABLE if fake is None else fake.base_url
        if dialect == "cohere":
            url = url.replace("/v1", "/v2")
        found = cast.make_provider(slug, url, dialect, **values)
        cast.make_credential(found, PLATFORM_KEY)
        return found

    def model(self, provider: LLMProvider, model_id: str, **values: Any) -> LLMModel:
        prices = {"input": str(INPUT), "output": str(OUTPUT), "cached": str(CACHED)}
        return cast.make_model(provider, model_id, **(prices | values))

    def customer(self, *, key: Json | None = None, **tenant: Any) -> Customer:
        """A new tenant with a key of its own."""
        made = cast.make_tenant(f"customer-{next(_numbers)}", **tenant)
        issued, secret = cast.make_key(made, **(key or {}))
        return Customer(made, issued, secret, self.gateway.url)

    def refresh(self) -> None:
        """Make what a test has put into the catalog live now."""
        snapshot.WATCH.refresh()

    def reset(self) -> None:
        """Vendors that remember nothing, and a gateway that has nothing against them."""
        for fake in self.fakes:
            fake.reset()
        self.forgive()

    def forgive(self) -> None:
        """Close all breakers and forget what counted towards one: for tests that fail on purpose, again and again."""
        eventually(lambda: runtime.RUNTIME.health.at_rest, what="the last breaker's writing")
        LLMBreaker.objects.all().delete()
        runtime.RUNTIME.health.reset()

    def quiet(self) -> None:
        """No journey under way, no vendor busy."""
        eventually(lambda: runtime.RUNTIME.under_way == 0, what="the last journey's end")
        assert all(fake.wait_idle() for fake in self.fakes)

    def stop(self) -> None:
        for fake in self.fakes:
            fake.stop()


def emptied() -> None:
    """Truncate every table, as a transactional test does when it ends."""
    call_command("flush", verbosity=0, interactive=False, reset_sequences=False, allow_cascade=False)


def frames_of(raw: bytes) -> list[Json]:
    """The chunks of a stream, each frame checked: `data: {json}` and a blank line, pings apart, last `[DONE]`."""
    assert raw.endswith(b"data: [DONE]\n\n"), raw[-200:]
    found = payloads_of(raw)
    assert found.pop() == b"[DONE]"
    assert b"[DONE]" not in found
    return [json.loads(payload) for payload in found]


def payloads_of(raw: bytes) -> list[bytes]:
    """What each frame carries. Fails on anything but `data:` frames and `: ping` comments."""
    blocks = raw.split(b"\n\n")
    assert blocks.pop() == b"", raw[-200:]
    found = []
    for block in blocks:
        if block == b": ping":
            continue
        assert block.startswith(b"data: "), block
        assert b"\n" not in block, block
        assert b"\r" not in block, block
        found.append(block[6:])
    return found
