"""Budgets, holds, usage and roll-ups: money and tenants. Knows no models and no HTTP."""
