"""What is expected of every cell, said as exceptions: what is not here passes.

`DROPPED` is done without and named in `x-dropped-params`; what comes over `IN_PART` is named there, too. `REFUSED` is a
400 that names the field.
"""

from tests.matrix.features import FEATURES

WIRES = ("chat", "messages", "responses")
DIALECTS = ("openai", "anthropic", "google", "bedrock", "cohere")
PASSES, IN_PART, DROPPED, REFUSED, NO_WORDS = "passes", "in part", "dropped", "refused", "-"

# By feature and dialect, on every wire that has words for it.
EXCEPT: dict[tuple[str, str], str] = {
    ("top_k", "openai"): DROPPED,
    ("prompt caching marks", "openai"): DROPPED,
    ("content of no other dialect", "openai"): REFUSED,
    ("content of no other dialect", "google"): REFUSED,
    ("content of no other dialect", "bedrock"): REFUSED,
    ("content of no other dialect", "cohere"): REFUSED,
    ("seed", "anthropic"): DROPPED,
    ("penalties", "anthropic"): DROPPED,
    ("log probabilities", "anthropic"): DROPPED,
    ("several choices", "anthropic"): REFUSED,
    ("seed", "bedrock"): DROPPED,
    ("penalties", "bedrock"): DROPPED,
    ("log probabilities", "bedrock"): DROPPED,
    ("several choices", "bedrock"): REFUSED,
    ("image, by URL", "bedrock"): REFUSED,
    ("one tool call at a time", "bedrock"): DROPPED,
    ("end user", "bedrock"): DROPPED,
    ("several choices", "cohere"): REFUSED,
    ("one tool call at a time", "google"): DROPPED,
    ("end user", "google"): DROPPED,
    ("prompt caching marks", "google"): DROPPED,
    ("one tool call at a time", "cohere"): DROPPED,
    ("end user", "cohere"): DROPPED,
    ("prompt caching marks", "cohere"): DROPPED,
    **{("service tier auto", dialect): DROPPED for dialect in ("anthropic", "google", "bedrock", "cohere")},
}
# And on one wire alone.
WIRE_EXCEPT: dict[tuple[str, str, str], str] = {
    ("messages", "reasoning effort", "openai"): IN_PART,  # an effort, not the very number of tokens
    ("messages", "service tier auto", "anthropic"): PASSES,  # the client's own body
}


def expected(wire: str, dialect: str, feature: str) -> str:
    """What becomes of a feature on the way from a wire to a dialect."""
    [asked] = [one for one in FEATURES if one.name == feature]
    if wire not in asked.ask:
        return NO_WORDS
    return WIRE_EXCEPT.get((wire, feature, dialect)) or EXCEPT.get((feature, dialect), PASSES)
