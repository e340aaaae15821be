"""Seven worked bills, from the `usage` that a provider sends to the row in the ledger, to the last digit."""

from dataclasses import dataclass
from decimal import Decimal

import orjson
import pytest

from billing import pricing
from llm.engine import snapshot
from llm.models import PriceComponent, PriceVersion
from llm.providers import usage
from tests import cast
from tests.fakes import Behaviour
from tests.journeys.world import Customer, Json, World

CONTEXT_WINDOW = 1_000_000
ABOVE = 200_000


@dataclass(frozen=True)
class Example:
    """USD per million tokens by meter, and strictly above 200,000 prompt tokens; the usage in OpenAI's shape, whose
    prompt includes what was read from and written to a cache; what it costs in USD."""

    name: str
    prices: dict[str, str]
    prompt: int
    completion: int
    total: str
    above: tuple[tuple[str, str], ...] = ()
    cached: int = 0
    written: int = 0
    reasoning: int = 0

    @property
    def usage(self) -> Json:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached, "cache_write_tokens": self.written},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }

    def priced(self, world: World) -> PriceVersion:
        """A model of the vendor of the OpenAI dialect, at that price."""
        provider = world.vendors["openai"].provider
        for found in PriceVersion.objects.filter(model__provider=provider, model__model_id=self.name):
            return found
        model = cast.make_model(provider, self.name, input=None, context_window=CONTEXT_WINDOW)
        version = cast.make_price(model, **self.prices)
        for meter, usd in self.above:
            PriceComponent.objects.create(version=version, meter=meter, unit_price_usd=Decimal(usd), above_tokens=ABOVE)
        world.refresh()
        return version


PLAIN = {"input": "2.5", "output": "10"}
GEMINI = {"input": "1.25", "output": "10"}
GEMINI_ABOVE = (("input", "2.5"), ("output", "15"))
CLAUDE = {"input": "3", "output": "15", "cache_read": "0.3", "cache_write_5m": "3.75"}
THINKING = {"input": "0.3", "output": "2.5", "reasoning": "3.5"}
EXAMPLES = [
    Example("in-and-out", PLAIN, 1000, 500, "0.0075"),
    Example("cached", PLAIN | {"cache_read": "1.25"}, 1000, 500, "0.0065", cached=800),
    Example("cached-without-a-price", PLAIN, 1000, 500, "0.0075", cached=800),
    Example("written", CLAUDE, 12307, 550, "0.054399", written=12304),
    Example("at-the-threshold", GEMINI, 200_000, 150, "0.2515", above=GEMINI_ABOVE),
    Example("above-it", GEMINI, 200_001, 150, "0.5022525", above=GEMINI_ABOVE),
    Example("reasoning", THINKING, 17, 1578, "0.0049021", reasoning=952),
]
examples = pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)


@examples
def test_a_usage_is_normalised_into_meters_and_priced_by_the_card_of_its_version(
    world: World, example: Example
) -> None:
    card = snapshot.card_of(example.priced(world))
    counted = usage.from_openai(example.usage, context_window=CONTEXT_WINDOW)
    assert counted is not None
    cost = pricing.price(card, counted.meters(), prompt_tokens=counted.prompt_tokens)
    assert (cost.total, cost.input + cost.output) == (Decimal(example.total), Decimal(example.total))
    assert sum(counted.meters().values()) == example.prompt + example.completion  # no token in two meters


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@examples
def test_a_completion_costs_the_same_over_the_wire_streamed_and_not(
    world: World, customer: Customer, example: Example, stream: bool
) -> None:
    vendor, version = world.vendors["openai"], example.priced(world)
    said = Behaviour(prompt_tokens=example.prompt, completion_tokens=example.completion, usage=example.usage)
    vendor.fake.script(example.name, said)
    messages = [{"role": "user", "content": "x" * example.prompt}]
    options = {"stream_options": {"include_usage": True}} if stream else {}
    answer = customer.ask(
        f"{vendor.provider.slug}/{example.name}", messages=messages, max_tokens=2000, stream=stream, **options
    )
    assert answer.status_code == 200, answer.text
    row = customer.row()
    assert (row.cost_total_usd, row.cost_input_usd + row.cost_output_usd) == (Decimal(example.total),) * 2
    assert row.billed_usd == row.budget_usd == customer.spent() == Decimal(example.total)
    assert (row.price_version_id, row.streamed, row.is_estimated, row.is_overrun) == (version.pk, stream, False, False)
    told = [frame for frame in answer.text.split("\n\n") if '"cost"' in frame][-1] if stream else answer.text
    usage_told = orjson.loads(told.removeprefix("data: "))["usage"]
    assert (usage_told["prompt_tokens"], usage_told["completion_tokens"]) == (example.prompt, example.completion)
    assert f'"cost":{example.total}' in told.replace(" ", "")
    assert stream or answer.headers["x-cost-incurred"] == example.total
