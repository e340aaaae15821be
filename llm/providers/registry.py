"""Which dialects are built, and their adapters."""

from llm.providers.base import Adapter

DIALECTS = frozenset({"openai", "anthropic", "sandbox"})


def adapter(dialect: str) -> Adapter:
    """The adapter of a built dialect. Raises LookupError for any other: routing keeps those out.

    Imported on first use: a process that only ever calls one dialect carries only that one, and adding a dialect costs
    nothing until it is called. After that an import statement is a dictionary look-up.
    """
    if dialect == "openai":
        from llm.providers import openai  # lazily: only the dialects in use are loaded

        return openai.ADAPTER
    if dialect == "anthropic":
        from llm.providers import anthropic  # lazily: only the dialects in use are loaded

        return anthropic.ADAPTER
    if dialect == "sandbox":
        from llm.providers import sandbox  # lazily: only the dialects in use are loaded

        return sandbox.ADAPTER
    raise LookupError(f"The dialect {dialect!r} is not built.")
