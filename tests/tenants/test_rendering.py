"""Answers are written by orjson; what they say is what DRF would say."""

import json
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from django.utils.translation import gettext_lazy
from rest_framework.renderers import JSONRenderer

from tenants.api.rendering import OrjsonRenderer

SAID = [
    {"money": Decimal("0.0123"), "count": 2**63 - 1, "share": 0.1, "none": None, "yes": True},
    {"id": uuid.UUID(int=7), "day": date(2026, 11, 26), "at": datetime(2026, 11, 26, 1, 2, 3, 456, tzinfo=UTC)},
    {"text": "Zürich \u2028 \U0001f600 </script> \x00", "lazy": gettext_lazy("Email"), "in": timedelta(seconds=1.5)},
    {1: [time(1, 2, 3), (), {}], "": b"bytes", "set": {1}},
    None,
]


@pytest.mark.parametrize("indent", ["", "; indent=2"])
@pytest.mark.parametrize("said", SAID)
def test_it_says_what_drf_says(said: object, indent: str) -> None:
    wanted, found = (one().render(said, f"application/json{indent}") for one in (JSONRenderer, OrjsonRenderer))
    assert (json.loads(found) if found else None) == (json.loads(wanted) if wanted else None)
    assert found.count(b"\n") == wanted.count(b"\n")
