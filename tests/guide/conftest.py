"""The stage of the journeys for the guide's queries: one gateway, two vendors, rows that stay for a module."""

from tests.journeys.stage import db, stage, world

__all__ = ["db", "stage", "world"]
