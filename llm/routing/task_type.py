"""What kind of task a message is, by cheap features: words it has, at its beginning and at its end. Pure.

Each hint is a word, or a piece of text, with a weight. The task with the most weight wins from LEAST on, and its
confidence is its share of all weight, held back by one hint: weight / (sum + 2). Less than LEAST is `general`, 0.
"""

from typing import Final

GENERAL: Final = "general"
HEAD, TAIL = 500, 250  # characters looked at: what is asked stands first or last
LEAST = 2
SHORT = 80
GREETINGS: Final = ("hi", "hello", "hey", "thanks", "thank you", "good morning", "how are you", "bye")

_WORDS: Final[tuple[tuple[str, int, str], ...]] = (
    ("code", 3, "python javascript typescript java rust sql regex refactor debug debugging traceback stacktrace"),
    ("code", 2, "code function functions bug compile compiler script unittest pytest"),
    ("translation", 4, "translate translates translated translating translation"),
    ("translation", 1, "french german spanish italian chinese japanese portuguese"),
    ("extraction", 4, "extract extracts extracted extracting extraction"),
    ("extraction", 2, "parse json csv"),
    ("extraction", 1, "fields"),
    ("reasoning", 3, "prove proof solve theorem derive"),
    ("reasoning", 2, "puzzle riddle calculate equation"),
    ("creative", 4, "poem poems haiku sonnet limerick"),
    ("creative", 3, "story stories lyrics slogan"),
    ("creative", 2, "fiction imagine rhyme"),
)
_PHRASES: Final = (
    ("```", "code", 4),
    ("#include", "code", 4),
    ("select * from", "code", 3),
    ("step by step", "reasoning", 3),
    ("based on the following", "rag", 4),
    ("context:", "rag", 3),
    ("documents:", "rag", 3),
    ("according to the", "rag", 2),
)
HINTS: Final = {word: (task, weight) for task, weight, words in _WORDS for word in words.split()}
_KNOWN: Final = frozenset(HINTS)
_SPACES: Final = str.maketrans(dict.fromkeys(".,;:!?()[]{}<>\"'`*/=\n\t", " "))


def detect(text: str, needs: frozenset[str]) -> tuple[str, float]:
    """(task type, confidence from 0 to 1) of a message; `needs` as in RouteRequest."""
    if not text:
        return GENERAL, 0.0
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]} {text[-TAIL:]}"
    text = text.lower()
    weights = {"extraction": 1} if "json" in needs else {}
    for word in _KNOWN.intersection(text.translate(_SPACES).split()):
        task, weight = HINTS[word]
        weights[task] = weights.get(task, 0) + weight
    for phrase, task, weight in _PHRASES:
        if phrase in text:
            weights[task] = weights.get(task, 0) + weight
    if len(text) <= SHORT and text.startswith(GREETINGS):
        weights["chat"] = weights.get("chat", 0) + 2
    if not weights:
        return GENERAL, 0.0
    best = max(sorted(weights), key=weights.__getitem__)
    if weights[best] < LEAST:
        return GENERAL, 0.0
    return best, round(weights[best] / (sum(weights.values()) + 2), 2)
