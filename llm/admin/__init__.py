"""The catalog, routing and provider keys in the admin. Forms and words: domain calls change the rows."""

from llm.admin import configs, models, providers, refusals, rules

__all__ = ["configs", "models", "providers", "refusals", "rules"]
