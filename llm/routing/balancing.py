"""A weighted order among equals that is the same every time for one session: weighted rendezvous hashing. Pure.

Each item draws a number u in (0, 1] from the seed and its own salt; items are tried by -ln(u) / weight, smallest first.
So an item comes first with the probability weight / sum of weights, and one that joins or leaves moves only what it
must (Schindelhauer and Schomaker, Weighted Distributed Hash Tables, 2005). The draw is multiplicative hashing: the seed
is even over 64 bits (BLAKE2), the salt odd, so their product modulo 2**64 is even too.
"""

from collections.abc import Sequence
from math import inf, log
from zlib import crc32

from llm.routing.question import MASK64, Entry
from llm.types import Credential

_UNIT = 2.0**-64


def key(seed: int, salt: int, weight: int) -> float:
    """Where an item stands: smaller is earlier. Weight 0 or less is behind all others."""
    return -log(((seed * salt & MASK64) + 1) * _UNIT) / weight if weight > 0 else inf


def entries(seed: int, equals: Sequence[Entry]) -> list[Entry]:
    """Equals by weight, then by slug (the order they are given in)."""
    weight = equals[0].weight
    if weight > 0 and [one.weight for one in equals].count(weight) == len(equals):
        draws = [seed * one.salt & MASK64 for one in equals]  # the same order without the logarithm
        places = sorted(range(len(equals)), key=draws.__getitem__, reverse=True)
    else:
        keys = [key(seed, one.salt, one.weight) for one in equals]
        places = sorted(range(len(equals)), key=keys.__getitem__)
    return [equals[place] for place in places]


def credentials(seed: int, keys: Sequence[Credential]) -> list[Credential]:
    """A provider's keys by weight, then by name."""
    if len(keys) == 1:
        return list(keys)
    return sorted(keys, key=lambda one: (key(seed, _salt_of(one), one.weight), one.name))


def _salt_of(credential: Credential) -> int:
    return (crc32(credential.name.encode()) if credential.id is None else credential.id.int & MASK64) | 1
