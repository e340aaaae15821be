"""`make clients`: third-party SDKs, as their users call them, against a running Tollgate and providers on sockets.

Not part of the suite: it installs each SDK by lock (requirements/clients, tests/clients/node) under var/, where nothing
of Tollgate is. Each client is a small program (tests/clients/python, tests/clients/node) that asks the same things and
tells what its user sees; here that is compared with what the provider said and billed, for a provider of each dialect.
One line a check; exits 1 if anything is not as promised. `make clients ONLY=litellm` runs those whose name has it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.clients.live import Gateway, Json, Table, clean_environment
from tests.clients.roster import CLIENTS, VAR, Client, command, pinned, prepared
from tests.fakes import Behaviour, FakeProvider
from tests.fakes.anthropic_wire import SIGNATURE
from tests.fakes.openai_wire import vector

DIALECTS = ("openai", "anthropic")
SAID = "Hello from behind the gateway."
PARIS, ROME = ({"name": "get_weather", "arguments": {"city": city}} for city in ("Paris", "Rome"))
WEATHER = {"city": "Paris", "degrees": 21}
WRONG = "tg-wrong-key-0123456789"
IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one pixel


class Program:
    """A client under way: a job in, an answer out."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self.words, self.folder, self.log = words, folder, folder / "client.log"
        self.hello = self.start()

    def start(self) -> Json:
        """What it says of itself; again after it has died."""
        quiet = clean_environment(HOME=str(self.folder), LITELLM_LOCAL_MODEL_COST_MAP="True", DO_NOT_TRACK="1")
        with self.log.open("wb") as errors:
            self.child = subprocess.Popen(
                self.words, cwd=self.folder, env=quiet, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        return self._read()

    def ask(self, **job: Any) -> Json:
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(job).encode() + b"\n")
        self.child.stdin.flush()
        return self._read()

    def _read(self) -> Json:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            self.child.wait()
            lines = self.log.read_text().strip().splitlines()
            return {"died": "\n".join(lines[-12:])}
        found: Json = json.loads(line)
        return found

    def stop(self) -> None:
        """Its input ends; so does it."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Stage:
    """The gateway, a provider of each dialect, and a key that may spend, one that may not, one that is none."""

    def __init__(self, table: Table, gateway: Gateway, fakes: dict[str, FakeProvider], folder: Path) -> None:
        self.table, self.gateway, self.fakes, self.folder = table, gateway, fakes, folder
        self.good, self.poor = "", ""

    def set_up(self) -> None:
        staff = self.gateway.staff
        for dialect, fake in self.fakes.items():
            slug = f"fake{dialect}"
            made = staff("POST", "llm/providers", {"slug": slug, "base_url": fake.base_url, "dialect": dialect})
            self.table.check(f"a provider of the {dialect} dialect", made.get("slug"), slug)
            key = {"name": "main", "api_key": "sk-fake-0123456789abcd", "weight": 1}
            staff("POST", f"llm/providers/{slug}/credentials", key)
            for name in ("m", *(broken(client) for client in CLIENTS)):
                staff("POST", "llm/models", MODEL | {"provider": slug, "model_id": name})
        embedder = {"provider": "fakeopenai", "model_id": "m-embed", "kind": "embedding"}
        staff("POST", "llm/models", {name: MODEL[name] for name in ("display_name", INPUT_COST)} | embedder)
        tenant = staff("POST", "tenants", {"slug": "clients", "tier": "professional"})
        keys = f"tenants/{tenant['id']}/keys"
        self.good = staff("POST", keys, {"name": "good"})["key"]
        self.poor = staff("POST", keys, {"name": "poor", "budget_limit_daily": "0"})["key"]
        self.gateway.keys["tenant_api_key"] = self.good

    def rows(self, count: int) -> list[int]:
        """The tenant's latest usage rows added up: prompt, completion and cached tokens."""
        found: list[Json] = self.gateway.tenant(f"llm/usage?page_size={max(count, 1)}")["results"][:count]
        return [sum(row[name] for row in found) for name in ("prompt_tokens", "completion_tokens", "cached_tokens")]


def broken(client: Client) -> str:
    """The model whose stream breaks, one for each client: no breaker opens for what others have seen."""
    return f"broken-{CLIENTS.index(client)}"


INPUT_COST = "cost_per_1m_input_tokens"
MODEL: Json = {
    "display_name": "A model of the check",
    "context_window": 128_000,
    "max_output_tokens": 16_384,
    "supports_streaming": True,
    "supports_function_calling": True,
    "supports_vision": True,
    "supports_json_mode": True,
    INPUT_COST: "2.50",
    "cost_per_1m_output_tokens": "10.00",
}


@contextmanager
def started(words: list[str], folder: Path) -> Iterator[Program]:
    program = Program(words, folder)
    try:
        yield program
    finally:
        program.stop()


class Checks:
    """One client against one dialect."""

    def __init__(self, stage: Stage, client: Client, dialect: str, program: Program) -> None:
        self.stage, self.client, self.program = stage, client, program
        self.name = f"{client.name}, {client.wire}, {dialect}"
        self.fake, self.model = stage.fakes[dialect], f"fake{dialect}/m"

    def run(self) -> None:
        for feature in self.client.features + self.client.more:
            getattr(self, feature)()
        self.wrong_key()
        self.no_budget()
        self.unknown_model()
        if self.client.errors.broken_stream:
            self.broken_stream()

    def ask(self, feature: str, key: str | None = None, model: str | None = None) -> Json:
        """Asked on a provider that remembers nothing but its script."""
        job = {"feature": feature, "url": self.stage.gateway.url, "image": IMAGE}
        return self.program.ask(key=key or self.stage.good, model=model or self.model, **job)

    def compare(self, what: str, found: Json, wanted: Json) -> None:
        self.stage.table.check(f"{self.name}: {what}", {name: found.get(name) for name in wanted}, wanted)
        if found.get("error") and "error" not in wanted:
            self.stage.table.say(f"{'':<7}{found['error']}")
        if "died" in found:
            self.stage.table.say(found["died"])
            self.program.start()

    def answered(self, what: str, feature: str, *turns: Behaviour, **wanted: Any) -> Json:
        """The answer, and usage as the provider has billed it, turn by turn."""
        self.fake.reset()
        self.fake.once("*", *turns)
        found = self.ask(feature)
        due = self.fake.totals()
        usage = [due.prompt_tokens, due.completion_tokens, due.cached_tokens]
        rows = self.stage.rows(due.requests)
        shown = usage if found.get("usage", True) is not None else None
        self.compare(what, found | {"rows": rows}, wanted | {"usage": shown, "rows": usage})
        if due.requests != len(turns):
            self.stage.table.check(f"{self.name}: {what}, calls", due.requests, len(turns))
        return found

    def text(self) -> None:
        self.answered("text", "text", Behaviour(text=SAID), text=SAID)
        cached = Behaviour(text=SAID, usage={"prompt_tokens": 100, "cached_tokens": 60})
        self.answered("text on a cached prompt", "text", cached, text=SAID)

    def stream(self) -> None:
        found = self.answered("a stream", "stream", Behaviour(text=SAID), text=SAID)
        cached = Behaviour(text=SAID, usage={"prompt_tokens": 100, "cached_tokens": 60})
        self.answered("a stream on a cached prompt", "stream", cached, text=SAID)
        shown = found.get("pieces", 0)
        self.stage.table.check(f"{self.name}: a stream comes in pieces", shown, lambda pieces: pieces > 1)

    def tools(self) -> None:
        self.called("a tool", "tools", PARIS)
        self.called("parallel tools", "tools", PARIS, ROME)
        self.reasoned("a tool after reasoning", "tools")

    def streamed_tools(self) -> None:
        self.called("parallel tools, streamed", "streamed_tools", PARIS, ROME)
        self.reasoned("a tool after reasoning, streamed", "streamed_tools")

    def called(self, what: str, feature: str, *calls: Json) -> None:
        """The calls reach the client, what its tools say reaches the provider, and its answer the client."""
        wanted = [[call["name"], call["arguments"]] for call in calls]
        self.answered(what, feature, Behaviour(tool_calls=calls), Behaviour(text=SAID), text=SAID, tools=wanted)
        sent = json.dumps(self.fake.requests[-1].body) if self.fake.requests else ""
        results = [f"sunny in {call['arguments']['city']}" for call in calls]
        reached = [result for result in results if result in sent]
        self.stage.table.check(f"{self.name}: {what}, results", reached, results)

    def reasoned(self, what: str, feature: str) -> None:
        """Reasoning, and a word before the call, break no client; a signature comes back where both sides have one."""
        text = "Let me see." if feature == "tools" else None  # streamed, Pydantic AI takes a first text for the answer
        first = Behaviour(reasoning="Let me think.", text=text, tool_calls=[PARIS])
        wanted = [[PARIS["name"], PARIS["arguments"]]]
        self.answered(what, feature, first, Behaviour(text=SAID), text=SAID, tools=wanted)
        if feature in self.client.signs and self.fake is self.stage.fakes["anthropic"]:
            blocks = [block for turn in self.fake.requests[-1].body["messages"] for block in turn["content"]]
            signed = [one.get("signature") for one in blocks if isinstance(one, dict) and one["type"] == "thinking"]
            self.stage.table.check(f"{self.name}: {what}, its signature", signed, [SIGNATURE])

    def schema(self) -> None:
        self.parsed("an object of a schema", "schema")

    def streamed_schema(self) -> None:
        self.parsed("an object of a schema, streamed", "streamed_schema")

    def parsed(self, what: str, feature: str) -> None:
        answer = json.dumps(WEATHER)
        if self.client.schema_tool:
            called = Behaviour(tool_calls=[{"name": self.client.schema_tool, "arguments": WEATHER}])
            self.answered(what, feature, called, parsed=WEATHER)
        else:
            self.answered(what, feature, Behaviour(text=answer), parsed=WEATHER)
        sent = json.dumps(self.fake.requests[-1].body) if self.fake.requests else ""
        asked = all(f'"{name}"' in sent for name in WEATHER)
        self.stage.table.check(f"{self.name}: {what}, asked for", asked, True)

    def image(self) -> None:
        self.answered("an image", "image", Behaviour(text=SAID), text=SAID)
        sent = json.dumps(self.fake.requests[-1].body) if self.fake.requests else ""
        self.stage.table.check(f"{self.name}: the image, byte for byte", IMAGE in sent, True)

    def models(self) -> None:
        self.compare("the list of models", self.ask("models"), {"text": self.model})

    def count_tokens(self) -> None:
        found = self.ask("count_tokens")
        counted = found.get("counted")
        self.stage.table.check(f"{self.name}: tokens are counted", counted, lambda count: count and 8 <= count <= 40)

    def embeddings(self) -> None:
        """Of the openai dialect: Claude has none."""
        if self.fake is self.stage.fakes["openai"]:
            vectors = [vector(text, 8) for text in ("Paris", "Rome")]
            self.answered("embeddings", "embeddings", Behaviour(), parsed=vectors)

    def refused(self, what: str, kind: str, status: int, **job: str) -> None:
        self.fake.reset()
        found = self.ask("text", **job)
        error = found.get("error") or {}
        seen = {"error": error.get("type"), "status": error.get("status"), "calls": self.fake.totals().requests}
        self.compare(what, found | seen, {"error": kind, "status": status, "calls": 0})

    def wrong_key(self) -> None:
        self.refused("a wrong key", self.client.errors.wrong_key, 401, key=WRONG)

    def no_budget(self) -> None:
        self.refused("no budget", self.client.errors.no_budget, 429, key=self.stage.poor)

    def unknown_model(self) -> None:
        self.refused("an unknown model", self.client.errors.unknown_model, 404, model=self.model + "-nothing")

    def broken_stream(self) -> None:
        """The provider fails after two words: the client shows them, and then that it failed."""
        self.fake.reset()
        oops = {"message": "The fake broke.", "type": "server_error", "code": "oops"}
        self.fake.once(broken(self.client), Behaviour(text=SAID, in_band_error=oops, in_band_error_after=2))
        found = self.ask("stream", model=self.model.removesuffix("m") + broken(self.client))
        error = found.get("error") or {}
        wanted = {"error": self.client.errors.broken_stream, "text": self.client.shown("Hello from")}
        self.compare("a stream that breaks", found | {"error": error.get("type")}, wanted)


def check_client(stage: Stage, client: Client) -> None:
    with started(command(client), stage.folder) as program:
        versions = program.hello.get("versions")
        stage.table.check(f"{client.name}, {client.wire}: as pinned", versions, pinned(client))
        if versions is None:
            stage.table.say(str(program.hello.get("died")))
            return
        for dialect in DIALECTS:
            Checks(stage, client, dialect, program).run()


def check_books(stage: Stage) -> None:
    done = stage.gateway.manage("reconcile", "--check")
    stage.table.check("reconcile --check", done.stdout.strip(), lambda _: done.returncode == 0)


def main() -> int:
    parser = argparse.ArgumentParser(description="Third-party SDKs against a running Tollgate.")
    parser.add_argument("only", nargs="*", help="parts of names of clients; all without")
    only = parser.parse_args().only
    chosen = [one for one in CLIENTS if not only or any(part in one.name for part in only)]
    table = Table(width=78)
    table.say(f"{len(chosen)} clients")
    missing = prepared(table, chosen)
    with tempfile.TemporaryDirectory(prefix="clients-check-") as name:
        folder = Path(name)
        gateway = Gateway(folder)
        gateway.bootstrap()
        with FakeProvider() as openai, FakeProvider() as anthropic, gateway.served():
            stage = Stage(table, gateway, {"openai": openai, "anthropic": anthropic}, folder)
            stage.set_up()
            for client in chosen:
                if client.lock in missing:
                    table.check(f"{client.name}, {client.wire}", missing[client.lock], "installed")
                else:
                    check_client(stage, client)
        check_books(stage)
        if table.failed:
            table.say(f"the gateway's log is in {shutil.copy(gateway.log, VAR / 'tollgate.log')}")
    told = f"{table.failed} of {table.checked} failed." if table.failed else f"All {table.checked} as promised."
    sys.stdout.write(f"\n{told}\n")
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
