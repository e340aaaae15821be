"""The catalog, routing and provider keys in the admin. Forms and words: domain calls change the rows."""

from llm.admin import (
    alerts,
    breakers,
    configs,
    corrections,
    models,
    overrides,
    price_book,
    price_tasks,
    proposals,
    providers,
    refusals,
    rules,
)

__all__ = [
    "alerts",
    "breakers",
    "configs",
    "corrections",
    "models",
    "overrides",
    "price_book",
    "price_tasks",
    "proposals",
    "providers",
    "refusals",
    "rules",
]
