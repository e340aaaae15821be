"""The stage is what faults happen on."""

from tests.journeys.stage import customer, db, stage, vendor, world

__all__ = ["customer", "db", "stage", "vendor", "world"]
