"""Money in the admin: the request log, windows, holds, roll-ups and adjustments; read-only, the ledger writes them."""

from billing.admin import ledger, usage

__all__ = ["ledger", "usage"]
