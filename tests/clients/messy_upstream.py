"""`make messy-upstream`: Tollgate in front of a real server with an OpenAI dialect of its own, `transformers serve`: no
`[DONE]`, no finish_reason until the end, usage unasked on the last chunk, errors as `{"detail": ...}`, as text and,
inside a stream, as a bare string.

What comes out of Tollgate is checked frame by frame and with openai-python, and every bill against the server's count.
Not part of the suite: it installs torch and transformers (pinned here; not locked by hash, since torch has other builds
for other machines) in a virtual environment of its own under var/. The model is made on the spot and knows nothing;
nothing is downloaded at run time. Prints a table, and exits 1 if anything is not as promised.
"""

import json
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai

from tests.clients.live import ROOT, Gateway, Json, Table, clean_environment, free_port, running, wait
from tests.wires import openai_chunks

PINS = ("torch==2.13.0", "transformers[serving]==5.24.0")
VENV = ROOT / "var" / "messy-upstream"
ASK: Any = [{"role": "user", "content": "Hello"}]
PROMPT = 8  # tokens: five letters, the user's mark, an end, the assistant's mark
INPUT, OUTPUT = Decimal("1.00"), Decimal("3.00")  # USD per million tokens
GREEDY: Json = {"temperature": 0, "logit_bias": {"0": -100.0}}  # always the same words, and never the end


def installed(table: Table) -> Path:
    """The `bin` of a virtual environment with the pins, made anew if they changed since."""
    stamp, wanted = VENV / "installed", "\n".join(PINS)
    if not stamp.exists() or stamp.read_text() != wanted:
        table.say(f"installing {', '.join(PINS)} ...")
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, *PINS], check=True)
        stamp.write_text(wanted)
        table.say(f"installed, in {time.monotonic() - started:.0f} s")
    size = sum(path.stat().st_size for path in VENV.rglob("*") if path.is_file() and not path.is_symlink())
    table.say(f"{', '.join(PINS)}: {size / 1e9:.1f} GB under var/")
    return VENV / "bin"


class Messy:
    """The two of them, and how each is asked."""

    def __init__(self, gateway: Gateway, url: str) -> None:
        self.gateway, self.url = gateway, url

    def direct(self, **body: Any) -> httpx.Response:
        """Of the server itself."""
        body = {"model": "tiny", "messages": ASK, **body}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=120, trust_env=False)

    def ask(self, model: str = "messy/tiny", **body: Any) -> httpx.Response:
        """Through Tollgate."""
        return httpx.post(
            f"{self.gateway.url}/v1/chat/completions", json={"model": model, "messages": ASK, **body},
            headers=self.headers, timeout=120, trust_env=False,
        )  # fmt: skip

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.gateway.keys['tenant_api_key']}"}

    @property
    def sdk(self) -> openai.OpenAI:
        url, key = f"{self.gateway.url}/v1", self.gateway.keys["tenant_api_key"]
        return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=120)

    def row(self, answer: httpx.Response) -> Json:
        """The usage row of an answer."""
        return self.gateway.tenant(f"llm/requests/{answer.headers['x-request-id']}")


def cost(prompt: int, completion: int) -> Decimal:
    return (prompt * INPUT + completion * OUTPUT) / 1_000_000


def check_catalog(table: Table, messy: Messy) -> None:
    """The provider and its models, as staff add them."""
    staff = messy.gateway.staff
    provider = {"slug": "messy", "base_url": f"{messy.url}/v1", "auth_type": "none"}
    table.check("the provider is added", staff("POST", "llm/providers", provider).get("dialect"), "openai")
    for name in ("tiny", "missing"):
        model = {
            "provider": "messy", "model_id": name, "context_window": 32_768, "max_output_tokens": 8_192,
            "cost_per_1m_input_tokens": str(INPUT), "cost_per_1m_output_tokens": str(OUTPUT),
        }  # fmt: skip
        table.check(f"the model {name} is added", staff("POST", "llm/models", model).get("model_id"), name)
    table.check("the provider is tested", staff("POST", "llm/providers/messy/test").get("status"), "healthy")
    table.check("it can be called", wait(lambda: messy.ask(max_tokens=1).status_code == 200, 10), True)


def check_mess(table: Table, messy: Messy) -> None:
    """That it is one: else this proves nothing."""
    raw = messy.direct(stream=True, max_tokens=12, **GREEDY).content
    chunks = [json.loads(line[6:]) for line in raw.split(b"\n\n") if line]
    choices = [chunk["choices"][0] for chunk in chunks]
    table.check("the server says no [DONE]", b"[DONE]" in raw, False)
    table.check("it leaves finish_reason out", [choice.get("finish_reason", "-") for choice in choices][:2], ["-", "-"])
    table.check("it gives usage unasked", "usage" in chunks[-1], True)


def check_answers(table: Table, messy: Messy) -> None:
    plain = messy.ask(max_tokens=12, **GREEDY)
    whole = openai_chunks.whole(plain.content)
    table.check("a whole answer", (whole.said.finish, ascii(whole.said.text)), lambda said: said[0] == "length")
    check_row(table, messy, plain, 12)
    asked = messy.ask(max_tokens=12, stream=True, stream_options={"include_usage": True}, **GREEDY)
    streamed = openai_chunks.stream(asked.content, usage=True)
    table.check("the same, streamed", streamed.said, whole.said)
    table.check("its usage", streamed.usage, whole.usage)
    check_row(table, messy, asked, 12)
    unasked = messy.ask(max_tokens=12, stream=True, **GREEDY)
    table.check("a stream that asked for no usage", openai_chunks.stream(unasked.content).said, whole.said)
    check_row(table, messy, unasked, 12)
    ends = messy.ask(max_tokens=50, stream=True, logit_bias={"0": 100.0})
    said = openai_chunks.stream(ends.content).said
    table.check("a model that ends at once", (said.text, said.finish), ("", "stop"))
    check_row(table, messy, ends, 1)


def check_row(table: Table, messy: Messy, answer: httpx.Response, completion: int) -> None:
    row = messy.row(answer)
    found = (row["status"], row["prompt_tokens"], row["completion_tokens"], Decimal(row["cost_total_usd"]))
    wanted = ("completed", PROMPT, completion, cost(PROMPT, completion))
    table.check("its bill, by the server's count", found, wanted)
    table.check("its bill is no estimate", row["is_estimated"], False)


def check_sdk(table: Table, messy: Messy) -> None:
    said = messy.sdk.chat.completions.create(model="messy/tiny", messages=ASK, max_tokens=12, **GREEDY)
    text = said.choices[0].message.content
    with messy.sdk.chat.completions.stream(
        model="messy/tiny", messages=ASK, max_tokens=12, stream_options={"include_usage": True}, **GREEDY
    ) as stream:
        try:
            added = stream.get_final_completion()
        except openai.LengthFinishReasonError as cut:  # openai-python's way to say so
            added = cut.completion
    table.check(f"openai-python {openai.__version__}: the same text", added.choices[0].message.content, text)
    table.check("openai-python: the same usage", added.usage, said.usage)


def check_errors(table: Table, messy: Messy) -> None:
    """Streamed and not: the right status, and words that help."""
    cases: list[tuple[str, str, Json, tuple[int, str]]] = [
        ("a model that nobody knows", "messy/nobody", {}, (404, "model_not_found")),
        ("a model that the server does not know", "messy/missing", {}, (502, "upstream_error")),
        ("a temperature that is none", "messy/tiny", {"temperature": 9}, (400, "invalid_value")),
        ("a field that the server refuses", "messy/tiny", {"top_k_p": 1}, (400, "upstream_rejected")),
        ("a value that breaks the model", "messy/tiny", {"frequency_penalty": -2}, (502, "upstream_error")),
    ]
    for what, model, body, wanted in cases:
        for stream in (False, True):
            messy.ask(max_tokens=1)  # three failures in a row would open the breaker
            answer = messy.ask(model, stream=stream, max_tokens=5, **body)
            found = answer.json()["error"] if answer.status_code != 200 else {"code": "", "message": answer.text}
            table.check(
                f"{what}{', streamed' if stream else ''}", (answer.status_code, found["code"], found["message"]),
                lambda seen, wanted=wanted: seen[:2] == wanted and len(seen[2]) > 20,
            )  # fmt: skip
            if answer.status_code == 502:
                table.check("  and it costs nothing", Decimal(messy.row(answer)["cost_total_usd"]), Decimal(0))
    table.check("after all that it answers", messy.ask(max_tokens=2).status_code, 200)


def check_leaving(table: Table, messy: Messy) -> None:
    """The server works on one answer at a time: who comes next would have to wait for one that goes on unheard."""
    started = time.monotonic()
    messy.ask(max_tokens=100, **GREEDY)
    per_token = (time.monotonic() - started) / 100
    table.say(f"{per_token * 1000:.0f} ms a token")
    length = int(60 / per_token)
    seen = 0
    body = {"model": "messy/tiny", "messages": ASK, "stream": True, "max_tokens": min(length, 8_000), **GREEDY}
    url = f"{messy.gateway.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=messy.headers, timeout=60, trust_env=False) as answer:
        for line in answer.iter_lines():
            seen += line.startswith("data: ")
            if seen == 6:
                break
    left = time.monotonic()
    next_one = messy.direct(max_tokens=1)
    waited = time.monotonic() - left
    table.check("who comes next does not wait for it", f"{waited:.1f} s", lambda _: waited < 10)
    assert next_one.status_code == 200
    settled = wait(lambda: messy.row(answer).get("status") == "cancelled", 10)
    row = messy.row(answer)
    table.check(
        "its bill: settled as cancelled", (settled, row["status"], row["status_code"]), (True, "cancelled", 499)
    )
    few = 1 <= row["completion_tokens"] <= 60
    table.check("its bill: what was received, estimated", (few, row["is_estimated"]), (True, True))
    table.check("its bill is not zero", Decimal(row["cost_total_usd"]), lambda paid: paid > 0)


def check_left_behind(table: Table, messy: Messy) -> None:
    done = messy.gateway.manage("reconcile", "--check")
    table.check("reconcile --check", done.stdout.strip(), lambda _: done.returncode == 0)


def main() -> int:
    table = Table()
    commands = installed(table)
    with tempfile.TemporaryDirectory(prefix="messy-upstream-") as name:
        folder = Path(name)
        # Nothing of this machine's, and nothing from any hub.
        alone = clean_environment(HOME=name, HF_HOME=f"{name}/hub", HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
        maker = str(Path(__file__).with_name("tiny_model.py"))
        subprocess.run([str(commands / "python"), maker, f"{name}/tiny"], check=True, env=alone, capture_output=True)
        size = sum(path.stat().st_size for path in (folder / "tiny").iterdir())
        table.say(f"the model is made: {size / 1e6:.1f} MB")
        port = free_port()
        serve = [str(commands / "transformers"), "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
        gateway = Gateway(folder)
        messy = Messy(gateway, f"http://127.0.0.1:{port}")
        gateway.bootstrap()
        with running(serve, alone, folder / "serve.log", f"{messy.url}/health"), gateway.served():
            table.say("both are up")
            check_catalog(table, messy)
            check_mess(table, messy)
            check_answers(table, messy)
            check_sdk(table, messy)
            check_errors(table, messy)
            check_leaving(table, messy)
            check_left_behind(table, messy)
    sys.stdout.write(f"\n{table.failed} of {table.checked} failed.\n" if table.failed else "\nAll as promised.\n")
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
