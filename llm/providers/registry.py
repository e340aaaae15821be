"""Which dialects are built, and their adapters."""

from functools import cache
from importlib import import_module

from llm.providers.base import Adapter

# By dialect and kind of call. Each module has its adapter as ADAPTER.
_MODULES = {
    ("openai", "chat"): "openai",
    ("openai", "embedding"): "openai_embeddings",
    ("openai", "completion"): "openai_completions",
    ("anthropic", "chat"): "anthropic",
    ("bedrock", "chat"): "bedrock",
    ("bedrock", "embedding"): "bedrock_embeddings",
    ("cohere", "chat"): "cohere",
    ("cohere", "embedding"): "cohere_embeddings",
    ("google", "chat"): "google",
    ("google", "embedding"): "google_embeddings",
    ("sandbox", "chat"): "sandbox",
    ("sandbox", "embedding"): "sandbox_embeddings",
    ("sandbox", "completion"): "sandbox_completions",
}


@cache
def adapter(dialect: str, kind: str = "chat") -> Adapter:
    """The adapter of a built dialect. Raises LookupError for any other: routing keeps those out.

    Imported on first use: a process that only ever calls one dialect carries only that one, and adding a dialect costs
    nothing until it is called.
    """
    module = _MODULES.get((dialect, kind))
    if module is None:
        raise LookupError(f"The dialect {dialect!r} is not built for {kind}.")
    found: Adapter = import_module(f"llm.providers.{module}").ADAPTER
    return found
