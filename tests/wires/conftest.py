"""The stage is what the wires are tried on."""

from tests.journeys.stage import customer, db, stage, vendor, world

__all__ = ["customer", "db", "stage", "vendor", "world"]
