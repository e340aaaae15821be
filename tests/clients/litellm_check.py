"""`make litellm-check`: Tollgate in front of a real LiteLLM proxy, each promise checked over real sockets.

Not part of the suite: it installs LiteLLM (locked in requirements/litellm.txt) in a virtual environment of its own
under var/, where nothing of Tollgate is. The proxy answers from `mock_response`s, so no vendor is called. Prints a
table, and exits 1 if anything is not as promised.
"""

import json
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai

from tests.clients.live import ROOT, Gateway, Json, Table, clean_environment, free_port, installed, running, wait

LOCK = ROOT / "requirements" / "litellm.txt"
VENV = ROOT / "var" / "litellm-check"
MASTER, WRONG = "sk-litellm-check-canary-0123456789", "sk-litellm-check-wrong-0123456789"
SAID, STREAMED, HOUSE = "Hello from behind the proxy.", "One two three four five six.", "The house speaks."
ASK: Any = [{"role": "user", "content": "Hello"}]


def config() -> Json:
    """What the proxy serves; JSON is YAML. `gpt-4o` is a name of our catalog, `streamer` a proxy's own for another."""

    def model(name: str, calls: str, text: str) -> Json:
        return {"model_name": name, "litellm_params": {"model": calls, "api_key": "none", "mock_response": text}}

    return {
        "model_list": [
            model("gpt-4o", "openai/gpt-4o", SAID),
            model("streamer", "openai/gpt-4o-mini", STREAMED),
            model("house-model", "openai/house-model", HOUSE),
        ],
        "general_settings": {"master_key": MASTER},
    }


class Proxied(Gateway):
    """Tollgate that knows of the proxy by its environment; a key of None is without both variables."""

    def __init__(self, folder: Path, proxy_url: str) -> None:
        super().__init__(folder)
        self.proxy_url = proxy_url

    def proxy(self, key: str | None) -> dict[str, str]:
        return {"LITELLM_PROXY_URL": self.proxy_url if key else "", "LITELLM_MASTER_KEY": key or ""}

    @property
    def sdk(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.keys["tenant_api_key"], max_retries=0, timeout=60)

    def refusal(self, model: str) -> tuple[int, str, str]:
        """Status, code and message of a call that must fail; (200, "", text) if it does not."""
        try:
            answer = self.sdk.chat.completions.create(model=model, messages=ASK)
        except openai.APIStatusError as error:
            body: Any = error.body
            return error.status_code, str(body.get("code")), str(body.get("message"))
        return 200, "", str(answer.choices[0].message.content)


def cost(model: Json, prompt: int, completion: int) -> Decimal:
    """By the price the API shows, to the last digit."""
    rates = (Decimal(model["cost_per_1m_input_tokens"]), Decimal(model["cost_per_1m_output_tokens"]))
    return (prompt * rates[0] + completion * rates[1]) / 1_000_000


def check_bootstrap(table: Table, gateway: Proxied) -> None:
    started = time.monotonic()
    logged = gateway.bootstrap(**gateway.proxy(MASTER))
    imported = next((line for line in logged.splitlines() if "litellm_models_imported" in line), "nothing imported")
    said = imported.partition("outcome=")[2].strip("'\"")
    took = f"bootstrap, in {time.monotonic() - started:.1f} s"
    table.check(took, said, lambda text: text.startswith("3 made, 0 there already, 0 skipped. Without a price: 1;"))


def check_catalog(table: Table, gateway: Proxied) -> None:
    provider = gateway.staff("GET", "llm/providers/litellm")
    table.check("the provider is on", provider["is_active"], True)
    table.check("its key", provider["platform_key"], "from the environment: LITELLM_MASTER_KEY")
    rows = {row["model_id"]: row for row in gateway.staff("GET", "llm/models?provider_name=litellm")["results"]}
    table.check("the models of its list", sorted(rows), ["gpt-4o", "house-model", "streamer"])
    for name, twin in (("gpt-4o", "openai/gpt-4o"), ("streamer", "openai/gpt-4o-mini")):
        ours = gateway.staff("GET", f"llm/models/{twin}")
        for fact in ("cost_per_1m_input_tokens", "cost_per_1m_output_tokens", "context_window", "max_output_tokens"):
            table.check(f"{name}: {fact} as of {twin}", rows[name][fact], ours[fact])
        why = f"copied from {twin} when the list of models was imported"
        table.check(f"{name}: where its price is from", rows[name]["price_version"]["reason"], why)
    table.check("house-model: price", rows["house-model"]["price_version"], None)
    again = gateway.staff("POST", "llm/providers/litellm/import-models", {})
    table.check("imported again", again["message"], "0 made, 3 there already, 0 skipped.")
    table.check("test of the provider", gateway.staff("POST", "llm/providers/litellm/test")["status"], "healthy")


def check_calls(table: Table, gateway: Proxied) -> None:
    model = gateway.staff("GET", "llm/models/litellm/gpt-4o")
    raw = gateway.sdk.chat.completions.with_raw_response.create(model="litellm/gpt-4o", messages=ASK)
    plain = raw.parse()
    assert plain.usage is not None
    table.check("a completion", plain.choices[0].message.content, SAID)
    due = cost(model, plain.usage.prompt_tokens, plain.usage.completion_tokens)
    table.check("x-cost-incurred, from our price", Decimal(raw.headers["x-cost-incurred"]), due)
    check_row(table, gateway, raw.headers["x-request-id"], due)
    model = gateway.staff("GET", "llm/models/litellm/streamer")
    with gateway.sdk.chat.completions.with_streaming_response.create(
        model="litellm/streamer", messages=ASK, stream=True, stream_options={"include_usage": True}
    ) as answer:
        chunks = list(answer.parse())
        request_id = answer.headers["x-request-id"]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    usage = chunks[-1].usage
    assert usage is not None
    table.check(f"a stream, in {len(chunks)} chunks", text, STREAMED)
    check_row(table, gateway, request_id, cost(model, usage.prompt_tokens, usage.completion_tokens))


def check_row(table: Table, gateway: Proxied, request_id: str, due: Decimal) -> None:
    row = gateway.tenant(f"llm/requests/{request_id}")
    table.check("its usage row: cost_total_usd", Decimal(row["cost_total_usd"]), due)
    who = f"{row['provider']} {row['key_source']} {row['status']}"
    table.check("its usage row: who answered", who, "litellm platform completed")


def check_unpriced(table: Table, gateway: Proxied) -> None:
    status, code, message = gateway.refusal("litellm/house-model")
    table.check("the unpriced model", (status, code), (503, "model_unpriced"))
    place = "/api/v1/admin/llm/models/litellm/house-model/prices"
    table.check("its refusal says what to do", message[-120:], lambda said: said.endswith(f"POST {place}."))
    gateway.staff("POST", place.removeprefix("/api/v1/admin/"), {"components": {"input": "1", "output": "3"}})
    live = wait(lambda: gateway.refusal("litellm/house-model")[0] == 200, 5)
    table.check(
        "with the price set there", gateway.refusal("litellm/house-model")[2], lambda said: live and said == HOUSE
    )


def check_wrong_key(table: Table, gateway: Proxied) -> None:
    table.check("a wrong master key", gateway.refusal("litellm/gpt-4o")[:2], (502, "upstream_auth_failed"))
    said = gateway.staff("POST", "llm/providers/litellm/test")["message"]
    words = "It refused the key from the environment: LITELLM_MASTER_KEY"
    table.check("its health, in words", said, lambda text: text.startswith(words))
    said = gateway.staff("POST", "llm/providers/litellm/import-models", {})["error"]["message"]
    table.check("its import, in words", said, lambda text: words in text)


def check_stopped(table: Table, gateway: Proxied) -> None:
    table.check("the proxy is stopped", gateway.refusal("litellm/gpt-4o")[:2], lambda told: told[0] in {502, 503})
    gateway.staff("POST", "llm/providers/litellm/test")
    said = gateway.staff("POST", "llm/providers/litellm/test")
    table.check(
        "its health after two probes", f"{said['status']}: {said['message']}", lambda text: text.startswith("down:")
    )
    down = (503, "no_provider_available")
    wait(lambda: gateway.refusal("litellm/gpt-4o")[:2] == down, 5)
    table.check("calls once it is known to be down", gateway.refusal("litellm/gpt-4o")[:2], down)


def check_left_behind(table: Table, gateway: Proxied) -> None:
    done = gateway.manage("reconcile", "--check", **gateway.proxy(None))
    table.check("reconcile --check", done.stdout.strip(), lambda _: done.returncode == 0)
    files = [
        path for path in gateway.folder.rglob("*") if path.is_file() and path.name not in {"config.yaml", "litellm.log"}
    ]
    leaks = [path.name for path in files if any(key.encode() in path.read_bytes() for key in (MASTER, WRONG))]
    table.check(f"files of {len(files)} that hold a master key", leaks, [])


def main() -> int:
    table = Table()
    command = installed(LOCK, VENV) / "litellm"
    table.say(
        f"LiteLLM {next(line for line in LOCK.read_text().splitlines() if line.startswith('litellm'))}".split(" \\")[0]
    )
    with tempfile.TemporaryDirectory(prefix="litellm-check-") as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(json.dumps(config()))
        port = free_port()
        proxy_url = f"http://127.0.0.1:{port}"
        serve = [str(command), "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
        quiet = clean_environment(HOME=name, LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_TELEMETRY="False")
        gateway = Proxied(folder, proxy_url)
        with running(serve, quiet, folder / "litellm.log", f"{proxy_url}/health/liveliness"):
            table.say("the proxy is up")
            check_bootstrap(table, gateway)
            with gateway.served(**gateway.proxy(MASTER)):
                check_catalog(table, gateway)
                check_calls(table, gateway)
                check_unpriced(table, gateway)
            with gateway.served(**gateway.proxy(WRONG)):
                check_wrong_key(table, gateway)
        with gateway.served(**gateway.proxy(MASTER)):
            check_stopped(table, gateway)
        again = gateway.manage("bootstrap", "--json", **gateway.proxy(MASTER))
        table.check("bootstrap with the proxy down", again.returncode, 0)
        with gateway.served(**gateway.proxy(None)):
            table.check("without the variables", gateway.staff("GET", "llm/providers/litellm")["is_active"], False)
        check_left_behind(table, gateway)
    sys.stdout.write(f"\n{table.failed} failed.\n" if table.failed else "\nAll as promised.\n")
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
