"""Money in the admin: the request log, windows, holds, roll-ups, adjustments and alerts; read-only, jobs write them."""

from billing.admin import alerts, ledger, usage

__all__ = ["alerts", "ledger", "usage"]
