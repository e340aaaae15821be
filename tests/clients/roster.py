"""The clients of `make clients`: where each is pinned, how it is started, and what its user sees when a call fails."""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.clients import litellm_check
from tests.clients.live import ROOT, Table, installed

HERE = Path(__file__).resolve().parent
VAR = ROOT / "var" / "clients"
LOCKS = ROOT / "requirements" / "clients"
LITELLM = "litellm"  # the environment of `make litellm-check`
NODE = "node"
LISTED, COUNTED, EMBEDS = ("models",), ("models", "count_tokens"), ("embeddings",)
OBJECTS = ("streamed_schema",)
EVERYTHING = ("text", "stream", "tools", "streamed_tools", "schema", "image")


@dataclass(frozen=True)
class Errors:
    """The exceptions of an SDK, by the name of their class."""

    wrong_key: str = "AuthenticationError"
    no_budget: str = "RateLimitError"
    unknown_model: str = "NotFoundError"
    broken_stream: str | None = "APIError"


_CLAUDE = Errors(broken_stream="APIStatusError")
_NODE_CLAUDE = Errors(broken_stream="APIError")
_LITE = Errors(broken_stream="MidStreamFallbackError")
_LANG = Errors(
    "AnthropicAuthenticationError", "AnthropicRateLimitError", "AnthropicModelNotFoundError", "APIStatusError"
)
_PYDANTIC = Errors("ModelAuthenticationError", "ModelQuotaExceededError", "ModelNotFoundError", "ModelAPIError")
_PYDANTIC_CLAUDE = Errors("ModelAuthenticationError", "ModelRateLimitError", "ModelNotFoundError", "ModelServerError")
_RETRIED = Errors(*["InstructorRetryException"] * 3, broken_stream=None)


@dataclass(frozen=True)
class Client:
    """One SDK on one wire.

    lock: `requirements/clients/<lock>.txt`, or "node". packages: those whose version matters. schema_tool: the SDK asks
    for an object by offering a tool of this name; None: by a JSON schema. keeps_broken: it shows the text of a stream
    that breaks later. signs: where it sends reasoning back with the
    signature that Claude wants; elsewhere it knows of reasoning as a text alone.
    """

    name: str
    wire: str
    lock: str
    program: str
    packages: tuple[str, ...]
    errors: Errors = Errors()
    features: tuple[str, ...] = EVERYTHING
    more: tuple[str, ...] = ()
    schema_tool: str | None = None
    keeps_broken: bool = True
    signs: tuple[str, ...] = ("tools", "streamed_tools")

    def shown(self, text: str) -> str:
        """What of a broken stream its user has seen."""
        return text if self.keeps_broken else ""


_OPENAI = ("openai", "with_openai.py", ("openai",))
_ANTHROPIC = ("anthropic", "with_anthropic.py", ("anthropic",))
_OPENAI_NODE = (NODE, "with_openai.mjs", ("openai",))
_ANTHROPIC_NODE = (NODE, "with_anthropic.mjs", ("@anthropic-ai/sdk",))
_LANGCHAIN = ("anthropic", "with_langchain_anthropic.py", ("langchain-anthropic", "anthropic"))
_INSTRUCTOR = ("anthropic", "with_instructor.py", ("instructor", "openai", "anthropic"))
_PYDANTIC_AI = ("pydantic-ai", "with_pydantic_ai.py", ("pydantic-ai-slim", "openai", "anthropic"))
_LLAMA = ("llama-index", "with_llama_index.py", ("llama-index-llms-openai-like", "llama-index-core", "openai"))
_LITELLM = ("litellm", "with_litellm.py", ("litellm", "openai"))
_AI_SDK = (NODE, "with_ai_sdk.mjs")
_AI = Errors("APICallError", "APICallError", "APICallError", "PartError")

CLIENTS = (
    Client("openai-python", "chat", *_OPENAI, more=LISTED + EMBEDS),
    Client("openai-python", "responses", *_OPENAI),
    Client("anthropic-python", "messages", *_ANTHROPIC, _CLAUDE, more=COUNTED),
    Client("langchain-anthropic", "messages", *_LANGCHAIN, _LANG, schema_tool="Weather"),
    Client("llama-index", "chat", *_LLAMA, signs=()),
    Client("pydantic-ai", "chat", *_PYDANTIC_AI, _PYDANTIC, signs=()),
    Client("pydantic-ai", "responses", *_PYDANTIC_AI, _PYDANTIC),
    Client("pydantic-ai", "messages", *_PYDANTIC_AI, _PYDANTIC_CLAUDE, schema_tool="final_result"),
    Client("instructor", "chat", *_INSTRUCTOR, _RETRIED, ("schema",), OBJECTS, schema_tool="Weather"),
    Client("instructor", "messages", *_INSTRUCTOR, _RETRIED, ("schema",), OBJECTS, schema_tool="Weather"),
    Client("litellm", "chat", *_LITELLM, _LITE, more=EMBEDS, signs=("tools",)),
    Client("litellm", "messages", *_LITELLM, _LITE),
    Client("openai-node", "chat", *_OPENAI_NODE, more=LISTED + EMBEDS),
    Client("openai-node", "responses", *_OPENAI_NODE),
    Client("anthropic-node", "messages", *_ANTHROPIC_NODE, _NODE_CLAUDE, more=COUNTED),
    Client("ai-sdk", "chat", *_AI_SDK, ("ai", "@ai-sdk/openai"), _AI, more=OBJECTS + EMBEDS, signs=()),
    Client("ai-sdk", "responses", *_AI_SDK, ("ai", "@ai-sdk/openai"), _AI, more=OBJECTS),
    Client("ai-sdk", "compatible", *_AI_SDK, ("ai", "@ai-sdk/openai-compatible"), _AI, more=OBJECTS + EMBEDS, signs=()),
    Client("ai-sdk", "messages", *_AI_SDK, ("ai", "@ai-sdk/anthropic"), _AI, more=OBJECTS),
)


def command(client: Client) -> list[str]:
    """Its program, with the wire as argument."""
    if client.lock == NODE:
        return [str(shutil.which("node")), str(VAR / NODE / client.program), client.wire]
    return [str(_venv(client.lock) / "bin" / "python"), str(HERE / "python" / client.program), client.wire]


def pinned(client: Client) -> dict[str, str]:
    """The version that is locked for each of its packages."""
    if client.lock == NODE:
        wanted = json.loads((HERE / NODE / "package.json").read_text())["dependencies"]
        return {name: wanted[name] for name in client.packages}
    text = _lock(client.lock).read_text()
    found = dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", text, re.MULTILINE))
    return {name: found[name] for name in client.packages}


def prepared(table: Table, clients: Iterable[Client]) -> dict[str, str]:
    """Install what these need, if it is not there as locked. Returns what cannot be, with the reason."""
    missing = {}
    for lock in sorted({client.lock for client in clients}):
        if lock != NODE:
            installed(_lock(lock), _venv(lock))
            table.say(f"{_lock(lock).relative_to(ROOT)} is installed")
        elif shutil.which("node") and shutil.which("npm"):
            node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
            _install_node(VAR / NODE)
            table.say(f"tests/clients/node is installed; node {node.stdout.strip()}")
        else:
            missing[lock] = "node and npm are not on the PATH: install Node.js 20 or newer"
    return missing


def _lock(name: str) -> Path:
    return litellm_check.LOCK if name == LITELLM else LOCKS / f"{name}.txt"


def _venv(name: str) -> Path:
    return litellm_check.VENV if name == LITELLM else VAR / name


def _install_node(folder: Path) -> None:
    """The programs beside their node_modules, where imports are looked up; installed if the lock changed since."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (HERE / NODE).iterdir():
        shutil.copy(path, folder)
    stamp, wanted = folder / "installed", hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        subprocess.run(["npm", "ci", *quiet], cwd=folder, check=True)
        stamp.write_text(wanted)
