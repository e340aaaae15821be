"""Embeddings, by provider dialect: what is asked for, what must come back, and what is expected of each cell."""

import base64
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fakes.openai_wire import vector
from tests.matrix.table import DROPPED, PASSES, REFUSED

Json = dict[str, Any]
DIALECTS = ("openai", "google", "bedrock", "cohere")  # Anthropic has no embeddings
ONE, TWO = "Say hello", "and goodbye"


@dataclass(frozen=True)
class Wish:
    """`holds`: whether the vectors of an answer's rows are what was asked for. `field`: what a refusal names."""

    name: str
    ask: Json
    holds: Callable[[list[Any]], bool]
    field: str


def near(found: Any, wanted: list[float]) -> bool:
    """Equal to float32: some dialects write numbers with fewer digits."""
    return len(found) == len(wanted) and all(abs(one - other) < 1e-6 for one, other in zip(found, wanted, strict=True))


def _unpacked(text: str) -> list[float]:
    data = base64.b64decode(text)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


WISHES = [
    Wish("one text", {"input": ONE}, lambda rows: near(rows[0], vector(ONE, 8)), "input"),
    Wish(
        "several texts, in order",
        {"input": [ONE, TWO]},
        lambda rows: near(rows[0], vector(ONE, 8)) and near(rows[1], vector(TWO, 8)),
        "input",
    ),
    Wish(
        "as base64",
        {"input": ONE, "encoding_format": "base64"},
        lambda rows: near(_unpacked(rows[0]), vector(ONE, 8)),
        "encoding_format",
    ),
    Wish("shorter vectors", {"input": ONE, "dimensions": 4}, lambda rows: len(rows[0]) == 4, "dimensions"),
    Wish("token ids", {"input": [[1, 2, 3]]}, lambda rows: near(rows[0], vector([1, 2, 3], 8)), "input"),
    Wish("end user", {"input": ONE, "user": "user-7"}, lambda rows: len(rows) == 1, "user"),
]
# The model of each dialect takes token ids and `dimensions` where its vendor has such a thing.
QUIRKS: dict[str, Json] = {
    "openai": {"dimensions": True, "token_input": True},
    **{dialect: {"dimensions": True} for dialect in ("google", "bedrock", "cohere")},
}
EXCEPT: dict[tuple[str, str], str] = {
    ("several texts, in order", "bedrock"): REFUSED,  # Titan takes one
    **{("token ids", dialect): REFUSED for dialect in ("google", "bedrock", "cohere")},
    **{("end user", dialect): DROPPED for dialect in ("google", "bedrock", "cohere")},
}


def expected(wish: Wish, dialect: str) -> str:
    return EXCEPT.get((wish.name, dialect), PASSES)
