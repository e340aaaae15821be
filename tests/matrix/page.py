"""docs/compatibility.md, written from the table that the tests hold the gateway to.

.venv/bin/python -m tests.matrix.page writes it.
"""

from collections.abc import Iterator
from pathlib import Path

from tests.matrix import vectors
from tests.matrix.features import FEATURES
from tests.matrix.table import DIALECTS, DROPPED, EXCEPT, IN_PART, PASSES, REFUSED, WIRE_EXCEPT, WIRES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
HEAD = """# What works through which wire, at which provider

Every client wire reaches every provider dialect. This table says what becomes of each feature on the way. It is the one
that the tests hold the gateway to, streamed and not (`tests/matrix`), and is written by `python -m tests.matrix.page`.

- **yes**: the provider is told, in its own words.
- **dropped**: the provider's API has no words for it. The request goes on without it, and the answer's header
  `x-dropped-params` names it.
- **in part**: the provider is told what comes nearest, and `x-dropped-params` names it.
- **400**: going on without it would change what the answer means. The request is refused, the field named, and nothing
  is charged.
- `-`: the wire itself has no words for it.

The wires are OpenAI chat (`/v1/chat/completions`), Anthropic (`/v1/messages`) and OpenAI Responses (`/v1/responses`).
Of vendors that speak OpenAI's dialect each has limits of its own, which its catalog row says
(`docs/add-a-provider.md`).

The service tiers flex and priority are in no cell: a model with a price for the tier serves it if its API can be asked
for it, and every other one is a 400 that says what there is ([money](money.md#service-tiers)).

"""
VECTORS = """`/v1/embeddings`, at models that take what their vendor has (quirks `dimensions`, `token_input`). Anthropic
has none.

"""
NEWLINE = "\n"
WORDS = {PASSES: "yes", IN_PART: "in part", DROPPED: "dropped", REFUSED: "400"}


def lines() -> Iterator[str]:
    yield f"| feature | {' | '.join(WIRES)} | {' | '.join(DIALECTS)} |"
    yield "|---" * (1 + len(WIRES) + len(DIALECTS)) + "|"
    for feature in FEATURES:
        wires = ["yes" if wire in feature.ask else "-" for wire in WIRES]
        dialects = [WORDS[EXCEPT.get((feature.name, dialect), PASSES)] for dialect in DIALECTS]
        yield f"| {feature.name} | {' | '.join(wires)} | {' | '.join(dialects)} |"
    yield ""
    for (wire, feature_name, dialect), outcome in WIRE_EXCEPT.items():
        says = "." if outcome == PASSES else ", and `x-dropped-params` says so."
        yield f"From {wire} to {dialect}, {feature_name}: {WORDS[outcome]}{says}"


def vector_lines() -> Iterator[str]:
    yield f"| embeddings | {' | '.join(vectors.DIALECTS)} |"
    yield "|---" * (1 + len(vectors.DIALECTS)) + "|"
    for wish in vectors.WISHES:
        yield f"| {wish.name} | {' | '.join(WORDS[vectors.expected(wish, one)] for one in vectors.DIALECTS)} |"


def page() -> str:
    return f"{HEAD}{NEWLINE.join(lines())}\n\n{VECTORS}{NEWLINE.join(vector_lines())}\n"


if __name__ == "__main__":
    PAGE.write_text(page())
