"""Believable traffic for a gateway that has none yet: tenants, their requests through the ledger, and probes."""
