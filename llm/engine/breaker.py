"""When a provider that fails is left alone, and when it is tried again. A pure state machine: `now` is a parameter.

    closed    --3 failures in a row, or half of at least 10 calls in 30 s-->  open
    open      --its time has passed-->                                        half-open
    half-open --success-->                                                    closed
    half-open --failure-->                                                    open, up to twice as long

Half-open is what an open breaker is once its time has passed: the next request that wants it claims it, and is the one
probe. Times are Unix seconds. What a breaker guards is its key: a provider, a model, a platform key, or the rate limit
of one model with one key.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from llm.types import Block, Target, number_of

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"
PROVIDER, MODEL, CREDENTIAL, LIMIT = "provider", "model", "credential", "limit"

FAILURES = 3  # in a row
CALLS, SHARE, WINDOW_S = 10, 0.5, 30.0
OPEN_S, LONGEST_S = 10.0, 300.0
PROBE_S = 60.0  # a probe that has said nothing for so long does not keep others from trying
LAPSE_S = 900.0  # an opening that nobody has probed for so long is forgotten
MOST_WAIT_S = 366 * 86_400.0  # a provider that asks for more means never
_SLOTS = 10
_SLOT_S = WINDOW_S / _SLOTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What processes tell each other about one breaker."""

    key: str
    what: str  # for staff: it names keys
    state: str
    opened_at: float = 0.0
    until: float = 0.0
    failures: int = 0  # in a row
    openings: int = 0  # in a row, without a success in between
    reason: str = ""
    probe_owner: str = ""
    probe_until: float = 0.0

    @property
    def kind(self) -> str:
        return self.key.partition(":")[0]

    @property
    def place(self) -> tuple[str, int | None]:
        """(the provider's slug or the model's reference, the number of the key or None for any)."""
        name = self.key.partition(":")[2]
        if self.kind in (PROVIDER, MODEL):
            return name, None
        name, _, number = name.rpartition("#")
        return name, int(number, 16)

    def block(self, now: float) -> Block | None:
        """What it keeps out now; None if it lets pass."""
        if self.state == CLOSED or now >= max(self.until, self.probe_until):
            return None
        limited, name = self.kind == LIMIT, self.place[0]
        who = {
            PROVIDER: f"the provider {name}",
            MODEL: name,
            CREDENTIAL: f"a key for {name}",
            LIMIT: f"{name} with this key",
        }[self.kind]
        if now >= self.until:
            detail = f"the breaker of {who} is half-open, one request is trying it: {self.reason}"
            return Block(detail=detail, until=min(self.probe_until, now + 1), limited=limited)
        until = datetime.fromtimestamp(self.until, UTC)
        detail = f"the breaker of {who} is open until {until:%Y-%m-%d %H:%M:%S} UTC: {self.reason}"
        return Block(detail=detail, until=self.until, limited=limited)


def slug_of(key: str) -> str:
    """The provider that a breaker's key is about. Slugs hold neither `/` nor `#`."""
    return key.partition(":")[2].partition("/")[0].partition("#")[0]


def lapsed(record: Record, now: float) -> bool:
    return now >= max(record.until, record.probe_until) + LAPSE_S


Blocks = tuple[Mapping[str, Block], Mapping[tuple[str, int], Block]]


def blocks_of(records: Iterable[Record], now: float) -> Blocks:
    """What a RoutingState takes: `blocks` and `key_blocks`."""
    blocks: dict[str, Block] = {}
    key_blocks: dict[tuple[str, int], Block] = {}
    for record in records:
        block = record.block(now)
        if block is not None:
            name, number = record.place
            if number is None:
                blocks[name] = block
            else:
                key_blocks[name, number] = block
    return blocks, key_blocks


class Breaker:
    """One breaker as one process sees it. Methods that may change what others should know return whether they did."""

    __slots__ = (
        "_bad",
        "_good",
        "_past",
        "_slot",
        "failures",
        "key",
        "opened_at",
        "openings",
        "probe_owner",
        "probe_until",
        "reason",
        "state",
        "until",
        "what",
    )

    def __init__(self, key: str, what: str) -> None:
        self.key, self.what = key, what
        self.close()

    def close(self) -> None:
        """As if nothing had ever failed."""
        self.state, self.reason, self.probe_owner = CLOSED, "", ""
        self.opened_at = self.until = self.probe_until = 0.0
        self.failures = self.openings = 0
        self._slot = self._good = self._bad = 0
        self._past: deque[tuple[int, int, int]] = deque(maxlen=_SLOTS)

    def succeeded(self, now: float, *, started: float, trying: bool = True) -> bool:
        """A call that began at `started` went well. It closes only what was opened before the call began, and only if
        the call was let through to find out (`trying`), not because nobody here had heard of the opening yet."""
        if self.state != CLOSED:
            if not trying or started <= self.opened_at:
                return False
            self.close()
            return True
        self.failures = 0
        slot = int(now / _SLOT_S)
        if slot != self._slot:
            self._turn(slot)
        self._good += 1
        return False

    def failed(self, now: float, *, why: str, draw: float, probing: bool = False) -> bool:
        """A call failed. `why` is its code; `draw` from 0 to 1 scatters the time that a repeated opening lasts;
        `probing`: the call was this breaker's probe."""
        if self.state != CLOSED:
            if not probing:
                return False
            self.failures += 1
            self._open(now, f"its probe failed with {why}, {self.failures} failures in a row", draw)
            return True
        self.failures += 1
        slot = int(now / _SLOT_S)
        if slot != self._slot:
            self._turn(slot)
        self._bad += 1
        if self.failures >= FAILURES:
            self._open(now, f"it failed {self.failures} times in a row, last with {why}", draw)
            return True
        calls, bad = self._recent(slot)
        if calls >= CALLS and bad >= SHARE * calls:
            self._open(now, f"{bad} of its last {calls} calls failed, last with {why}", draw)
            return True
        return False

    def told_to_wait(self, now: float, wait: float) -> bool:
        """The provider asks for no request for so many seconds. Never shortened by a later, shorter wait."""
        until = now + min(wait, MOST_WAIT_S)
        if self.state != CLOSED and until <= self.until:
            return False
        if self.state == CLOSED:
            self.openings = 1
        self.failures += 1
        self.state, self.opened_at, self.until = OPEN, now, until
        self.probe_owner, self.probe_until = "", 0.0
        self.reason = f"the provider limits requests and asked to wait {wait:,.0f} s"
        return True

    def claim(self, now: float, owner: str) -> None:
        """The probe is on its way. Only for one that is half-open."""
        self.state, self.probe_owner, self.probe_until = HALF_OPEN, owner, now + PROBE_S

    def let_go(self) -> None:
        """The probe found out nothing: the next request may try."""
        self.state, self.probe_owner, self.probe_until = OPEN, "", 0.0

    def adopt(self, record: Record) -> None:
        """What another process, or staff, made of it."""
        if record.state == CLOSED:
            if self.state != CLOSED:
                self.close()
            return
        self.state, self.reason, self.what = record.state, record.reason, record.what
        self.opened_at, self.until = record.opened_at, record.until
        self.failures, self.openings = record.failures, record.openings
        self.probe_owner, self.probe_until = record.probe_owner, record.probe_until

    def record(self) -> Record:
        return Record(
            key=self.key,
            what=self.what,
            state=self.state,
            opened_at=self.opened_at,
            until=self.until,
            failures=self.failures,
            openings=self.openings,
            reason=self.reason,
            probe_owner=self.probe_owner,
            probe_until=self.probe_until,
        )

    def _open(self, now: float, reason: str, draw: float) -> None:
        """Exactly 10 s at first; when it fails again from 10 s up to twice as long each time, 5 minutes at most."""
        longest = min(LONGEST_S, OPEN_S * 2 ** min(self.openings, 10))
        self.openings += 1
        self.state, self.reason = OPEN, reason
        self.opened_at, self.until = now, now + OPEN_S + draw * (longest - OPEN_S)
        self.probe_owner, self.probe_until = "", 0.0

    def _turn(self, slot: int) -> None:
        """The clock has moved on to another slot of three seconds."""
        self._past.append((self._slot, self._good, self._bad))
        self._slot, self._good, self._bad = slot, 0, 0

    def _recent(self, slot: int) -> tuple[int, int]:
        """(calls, failures) of the last 30 s, to the slot."""
        good, bad = self._good, self._bad
        for at, goods, bads in self._past:
            if at > slot - _SLOTS:
                good, bad = good + goods, bad + bads
        return good + bad, bad


Line = tuple[Breaker, Breaker, Breaker, Breaker]


def keys_of(target: Target) -> tuple[tuple[str, str], ...]:
    """(key, what it is in words for staff) of a target's four breakers: provider, model, credential, rate limit."""
    slug, reference = target.model.provider.slug, target.model.reference
    number = number_of(target.credential)
    own = "a tenant's own key" if target.key_source == "byok" else "the key"
    name = "no key" if target.credential is None else f"{own} “{target.credential.name}”"
    return (
        (f"{PROVIDER}:{slug}", slug),
        (f"{MODEL}:{reference}", reference),
        (f"{CREDENTIAL}:{slug}#{number:x}", f"{slug} with {name}"),
        (f"{LIMIT}:{reference}#{number:x}", f"{reference} with {name}"),
    )
