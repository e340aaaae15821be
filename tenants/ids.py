"""Time-ordered identifiers (UUID version 7, RFC 9562 section 5.7)."""

import os
import time
import uuid

_VERSION_AND_VARIANT = (0x7 << 76) | (0b10 << 62)
_RANDOM_MASK = (0xFFF << 64) | ((1 << 62) - 1)


def uuid7() -> uuid.UUID:
    """48 bits of Unix milliseconds, then 74 random bits: sorts by time, cannot be guessed."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big") & _RANDOM_MASK
    return uuid.UUID(int=(milliseconds << 80) | _VERSION_AND_VARIANT | random)
