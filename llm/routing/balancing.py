"""A weighted order among equals that is the same every time for one session: weighted rendezvous hashing. Pure.

Each item gets a number u in (0, 1] from the seed and its own salt; items are tried by -ln(u) / weight, smallest first.
So an item comes first with the probability weight / sum of weights, and one that joins or leaves moves only what it
must (Schindelhauer and Schomaker, Weighted Distributed Hash Tables, 2005).
"""

from collections.abc import Sequence
from math import inf, log
from zlib import crc32

from llm.routing.question import MASK64, Entry
from llm.types import Credential

_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # of SplitMix64's finaliser
_UNIT = 2.0**-53


def draw(seed: int, salted: int) -> int:
    """53 even bits from two numbers of 64 bits. The seed comes from BLAKE2, so a short mix is enough."""
    mixed = (seed ^ salted) * _MIX_1 & MASK64
    return ((mixed ^ (mixed >> 31)) * _MIX_2 & MASK64) >> 11


def key(seed: int, salted: int, weight: int) -> float:
    """Where an item stands: smaller is earlier. Weight 0 or less is behind all others."""
    return -log((draw(seed, salted) + 1) * _UNIT) / weight if weight > 0 else inf


def entries(seed: int, equals: Sequence[Entry]) -> list[Entry]:
    """Equals by weight, then by slug (the order they are given in)."""
    weight = equals[0].weight
    if weight > 0 and all([one.weight == weight for one in equals]):  # noqa: C419 - a list is quicker here
        keys: list[float] = [-draw(seed, one.salt) for one in equals]  # the same order without the logarithm
    else:
        keys = [key(seed, one.salt, one.weight) for one in equals]
    return [equals[place] for place in sorted(range(len(equals)), key=keys.__getitem__)]


def credentials(seed: int, keys: Sequence[Credential]) -> list[Credential]:
    """A provider's keys by weight, then by name."""
    return sorted(keys, key=lambda one: (key(seed, _salt_of(one), one.weight), one.name))


def _salt_of(credential: Credential) -> int:
    return crc32(credential.name.encode()) if credential.id is None else credential.id.int & MASK64
