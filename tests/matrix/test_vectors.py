"""`/v1/embeddings` x provider dialect x what may be asked for: each passes, is dropped by name, or is a clear 400."""

import pytest

from llm.types import BUILT
from tests.journeys.world import Customer, World
from tests.matrix import table, vectors
from tests.matrix.vectors import Wish


@pytest.fixture(scope="module")
def sellers(stage: World) -> dict[str, str]:
    """The reference of an embedding model, by dialect."""
    made = {}
    for dialect in vectors.DIALECTS:
        provider = stage.provider(f"vec-{dialect}", stage.fake, dialect)
        model = stage.model(
            provider, "e", kind="embedding", output=None, cached=None, quirks=vectors.QUIRKS[dialect]
        )  # fmt: skip
        made[dialect] = f"{provider.slug}/{model.model_id}"
    stage.refresh()
    return made


def test_the_table_has_every_dialect_that_has_embeddings() -> None:
    built = {dialect for dialect, kind in BUILT if kind == "embedding"}
    assert set(vectors.DIALECTS) == built - {"sandbox"}


@pytest.mark.parametrize("wish", vectors.WISHES, ids=lambda wish: wish.name.replace(" ", "-"))
@pytest.mark.parametrize("dialect", vectors.DIALECTS)
def test_vectors_of_every_dialect_are_openais_or_a_refusal_that_says_why(
    world: World, customer: Customer, sellers: dict[str, str], dialect: str, wish: Wish
) -> None:
    with customer.http as client:
        answer = client.post("/v1/embeddings", json={"model": sellers[dialect], **wish.ask})
    if answer.status_code == 400:
        found = table.REFUSED
        assert answer.json()["error"]["param"].startswith(wish.field)
        assert world.fake.requests == []
        assert customer.spent() == 0
    else:
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert [row["index"] for row in body["data"]] == list(range(len(body["data"])))
        assert wish.holds([row["embedding"] for row in body["data"]])
        dropped = answer.headers.get("x-dropped-params", "")
        assert dropped in ("", wish.field)
        found = table.DROPPED if dropped else table.PASSES
        [entry], row = world.fake.bill(), customer.row()
        assert row.is_estimated or row.prompt_tokens == entry.prompt_tokens
        assert row.budget_usd == customer.spent() > 0
    assert found == vectors.expected(wish, dialect)
