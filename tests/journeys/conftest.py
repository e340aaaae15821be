"""The stage is what all journeys share."""

from tests.journeys.stage import customer, db, stage, vendor, world

__all__ = ["customer", "db", "stage", "vendor", "world"]
