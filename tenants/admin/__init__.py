"""Tenants, keys and the audit log in the admin; and what every admin page of Tollgate is made of (`base`)."""

from tenants.admin import audit, keys

__all__ = ["audit", "keys"]
