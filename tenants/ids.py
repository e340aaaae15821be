"""Time-ordered identifiers (UUID version 7, RFC 9562 section 5.7)."""

import os
import time
import uuid

_VERSION_AND_VARIANT = (0x7 << 76) | (0b10 << 62)
_RANDOM_MASK = (0xFFF << 64) | ((1 << 62) - 1)
_BYTES = 8


class _Entropy:
    """The system's randomness, drawn 4 kB at a time: a system call per id costs more than all the rest of it."""

    def __init__(self) -> None:
        self.forget()
        # A forked child must not mint its parent's ids.
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        self._pieces: list[bytes] = []

    def draw(self) -> bytes:
        try:
            return self._pieces.pop()
        except IndexError:
            fresh = os.urandom(4000)
            self._pieces = [fresh[start : start + _BYTES] for start in range(0, len(fresh), _BYTES)]
            return self._pieces.pop()


_ENTROPY = _Entropy()


def uuid7() -> uuid.UUID:
    """48 bits of Unix milliseconds, 12 of what is left of the millisecond (section 6.2, method 3), 62 random bits: what
    one process makes sorts in the order it was made, also within a millisecond; cannot be guessed."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = (rest << 12) // 1_000_000
    return uuid7_of(milliseconds, fraction << 64 | int.from_bytes(_ENTROPY.draw(), "big"))


def uuid7_of(milliseconds: int, random: int) -> uuid.UUID:
    """The identifier of a moment (Unix milliseconds) with these bits after it: the lower 62 and the 65th to 76th."""
    return uuid.UUID(int=(milliseconds << 80) | _VERSION_AND_VARIANT | (random & _RANDOM_MASK))
