"""The stage of the journeys, with a provider of every dialect."""

import pytest

from llm.types import DIALECTS
from tests.journeys.stage import customer, db, stage, vendor, world
from tests.journeys.world import World

__all__ = ["customer", "db", "models", "stage", "vendor", "world"]


@pytest.fixture(scope="module")
def models(stage: World) -> dict[str, str]:
    """The reference of a model that can do everything, by dialect; all are played by the one fake provider."""
    made = {}
    for dialect in sorted(DIALECTS - {"sandbox"}):
        provider = stage.provider(f"all-{dialect}", stage.fake, dialect)
        quirks = {"maker": "claude"} if dialect == "bedrock" else {}  # what it takes depends on whose model it is
        model = stage.model(provider, "m", is_reasoning=True, max_output_tokens=16_000, quirks=quirks)
        made[dialect] = f"{provider.slug}/{model.model_id}"
    stage.refresh()
    return made
