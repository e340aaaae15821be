"""Money in the admin: requests, windows, holds, roll-ups, adjustments, statements, alerts. Rows are only read."""

from billing.admin import alerts, ledger, statements, usage

__all__ = ["alerts", "ledger", "statements", "usage"]
