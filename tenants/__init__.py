"""Tenants, tiers, members and API keys: who calls. Imports no other app of ours."""
