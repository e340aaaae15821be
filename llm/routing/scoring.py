"""The score of a candidate for `cost | speed | quality | balanced`. Pure.

    score = w_cost * cost + w_speed * speed + w_quality * quality - latency_penalty

    cost     the cheapest survivor's price / its own, (3 x input + output) / 4: 1 for the cheapest and for a free one
    speed    1000 / (1000 + ms): the measured median time to first token, else TYPICAL_MS of its speed tier
    quality  1 for best, 0.6 for good, 0.3 for basic
    latency_penalty  0.2 where the measured median is above what the power level promises

`cost` looks at little but the price, so that the cheapest comes first; speed and quality break its ties.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType

from llm.routing.question import Question
from llm.types import Model

WEIGHTS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {  # cost, speed, quality
        "cost": (0.998, 0.001, 0.001),
        "speed": (0.1, 0.8, 0.1),
        "quality": (0.1, 0.1, 0.8),
        "balanced": (0.4, 0.2, 0.4),
    }
)
QUALITY: Mapping[str, float] = MappingProxyType({"best": 1.0, "good": 0.6, "basic": 0.3})
TYPICAL_MS: Mapping[str, float] = MappingProxyType({"fast": 400.0, "standard": 1_000.0, "slow": 4_000.0})
LATENCY_PENALTY = 0.2


def cheapest(prices: Sequence[Decimal]) -> Decimal:
    """The lowest price that is not zero; zero if all are."""
    return min((price for price in prices if price > 0), default=Decimal(0))


def score(
    question: Question, model: Model, price: Decimal, lowest: Decimal, *, slow: bool
) -> tuple[float, dict[str, float]]:
    """(score, its parts). `price` and `lowest` in USD per million tokens; `slow` brings the penalty."""
    cost = 1.0 if price <= 0 else float(lowest) / float(price)
    measured = question.state.ttft_ms.get(model.id) if question.state.ttft_ms else None
    milliseconds = TYPICAL_MS.get(model.speed_tier, 1_000.0) if measured is None else measured
    speed = 1_000.0 / (1_000.0 + milliseconds)
    quality = QUALITY.get(model.quality_tier, 0.6)
    w_cost, w_speed, w_quality = WEIGHTS[question.request.priority or "balanced"]
    parts = {"cost": cost, "speed": speed, "quality": quality}
    total = w_cost * cost + w_speed * speed + w_quality * quality
    if slow:
        parts["latency_penalty"] = -LATENCY_PENALTY
        total -= LATENCY_PENALTY
    return total, parts
