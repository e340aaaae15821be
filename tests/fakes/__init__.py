"""Fakes are servers on sockets, not patches. `FakeProvider` is a vendor that keeps its own bill."""

from __future__ import annotations

from .behaviour import Behaviour
from .bill import Entry, Totals
from .exchange import Captured
from .process import ProviderProcess
from .receiver import FakeReceiver, Received
from .server import FakeProvider

__all__ = ["Behaviour", "Captured", "Entry", "FakeProvider", "FakeReceiver", "ProviderProcess", "Received", "Totals"]
