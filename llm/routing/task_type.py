"""What kind of task a message is, by cheap features: words it has, at its beginning and at its end. Pure.

Each hint is a piece of text with a weight; a leading space means a word begins there. The task with the most weight
wins from LEAST on, and the confidence is its share of all weight, held back by one hint: weight / (sum + 2). Less than
LEAST, or nothing, is `general` with confidence 0.
"""

from typing import Final

GENERAL: Final = "general"
HEAD, TAIL = 500, 250  # characters looked at: what is asked stands first or last
LEAST = 2
SHORT = 80
GREETINGS: Final = (" hi", " hello", " hey", " thanks", " thank you", " good morning", " how are you", " bye")

HINTS: Final[tuple[tuple[str, str, int], ...]] = (
    ("```", "code", 4),
    (" def ", "code", 3),
    (" function", "code", 2),
    (" refactor", "code", 3),
    (" python", "code", 3),
    (" javascript", "code", 3),
    (" typescript", "code", 3),
    (" sql", "code", 3),
    (" regex", "code", 3),
    (" debug", "code", 3),
    (" code", "code", 2),
    (" unit test", "code", 3),
    ("traceback", "code", 3),
    ("#include", "code", 4),
    (" translat", "translation", 4),
    (" into french", "translation", 2),
    (" into german", "translation", 2),
    (" into spanish", "translation", 2),
    (" into english", "translation", 2),
    (" extract", "extraction", 4),
    (" parse", "extraction", 2),
    (" as json", "extraction", 2),
    (" fields", "extraction", 1),
    (" step by step", "reasoning", 3),
    (" prove", "reasoning", 3),
    (" solve", "reasoning", 3),
    (" puzzle", "reasoning", 2),
    (" calculate", "reasoning", 2),
    (" theorem", "reasoning", 3),
    (" context:", "rag", 3),
    (" based on the following", "rag", 4),
    (" according to the", "rag", 2),
    (" documents:", "rag", 3),
    (" using only", "rag", 2),
    (" poem", "creative", 4),
    (" haiku", "creative", 4),
    (" story", "creative", 3),
    (" lyrics", "creative", 3),
    (" slogan", "creative", 3),
    (" fiction", "creative", 2),
)


def detect(text: str, needs: frozenset[str]) -> tuple[str, float]:
    """(task type, confidence from 0 to 1) of a message; `needs` as in RouteRequest."""
    if not text:
        return GENERAL, 0.0
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]} {text[-TAIL:]}"
    text = " " + text.lower().replace("\n", " ")
    weights = {"extraction": 1} if "json" in needs else {}
    for hint, task, weight in HINTS:
        if hint in text:
            weights[task] = weights.get(task, 0) + weight
    if len(text) <= SHORT and text.startswith(GREETINGS):
        weights["chat"] = weights.get("chat", 0) + 2
    if not weights:
        return GENERAL, 0.0
    best = max(weights, key=weights.__getitem__)
    if weights[best] < LEAST:
        return GENERAL, 0.0
    return best, round(weights[best] / (sum(weights.values()) + 2), 2)
