"""Money in the admin: requests, windows, holds, roll-ups, adjustments, statements, alerts. Rows are only read."""

from billing.admin import alerts, credits, ledger, statements, usage  # noqa: A004 - named for what it shows

__all__ = ["alerts", "credits", "ledger", "statements", "usage"]
