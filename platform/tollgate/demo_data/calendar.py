"""When demo requests happen: each tenant's working days and hours, growth, and the bad hours of providers. Pure."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from billing.windows import zone
from tollgate.demo_data.personas import Persona

# The share of a busy hour that each hour of the tenant's own day has.
_HOURS = (4, 3, 2, 2, 2, 4, 10, 28, 62, 92, 100, 94, 70, 84, 100, 96, 88, 70, 44, 30, 24, 18, 12, 7)
_SATURDAY = 5
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A provider that failed this share of its calls for a while, and was slower by `slower` meanwhile."""

    provider: str
    since: datetime
    until: datetime
    failing: float
    slower: float


def incidents(*, now: datetime) -> tuple[Incident, ...]:
    """What went wrong: an outage this morning, a slow week's day, a bad evening."""

    def ago(provider: str, hours: float, lasts: float, failing: float, slower: float) -> Incident:
        since = now - timedelta(hours=hours)
        return Incident(
            provider=provider, since=since, until=since + timedelta(hours=lasts), failing=failing, slower=slower
        )

    return (
        ago("groq", 7.5, 0.8, 0.85, 1.0),
        ago("mistral", 15, 2.5, 0.04, 3.2),
        ago("openai", 24 * 8 + 5, 3, 0.4, 1.8),
        ago("anthropic", 24 * 19 + 9, 5, 0.22, 2.4),
    )


def hours(persona: Persona, *, number: int, now: datetime, days: int, rng: Random) -> Counter[int]:
    """How many of `number` requests fall into each hour, counted back from now (0 is the last one)."""
    weights = [_weight(persona, now - (back + 1) * _HOUR, 1 - back / (24 * days), rng) for back in range(24 * days)]
    return Counter(rng.choices(range(len(weights)), weights, k=number))


def _weight(persona: Persona, at: datetime, progress: float, rng: Random) -> float:
    local = at.astimezone(zone(persona.timezone))
    of_week = persona.weekend if local.weekday() >= _SATURDAY else 1.0
    grown = math.exp(math.log(persona.grows) * progress)
    return _HOURS[local.hour] * of_week * grown * rng.lognormvariate(0, 0.18)


def moments(count: int, back: int, *, now: datetime, rng: Random) -> Iterator[datetime]:
    """`count` moments in the hour that began `back + 1` hours ago."""
    begins = now - (back + 1) * _HOUR
    for _ in range(count):
        yield begins + timedelta(milliseconds=rng.randrange(3_600_000))
