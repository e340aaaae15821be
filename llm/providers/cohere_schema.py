"""JSON schemas as Cohere's structured outputs take them.

What it lists as unsupported and can be said in words goes into the description, where the model may still heed it.
`additionalProperties` is left out: only what the schema names is generated anyway. Compositions (`anyOf`, `allOf`,
`oneOf`, `not`) stay: without them the schema would mean something else, so the provider may refuse them by name.
Source: docs.cohere.com, "Structured Outputs", "Unsupported schema features".
"""

from typing import Any

import orjson

Json = dict[str, Any]
_IN_WORDS = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "minLength",
     "maxLength", "uniqueItems"}
)  # fmt: skip
_LEFT_OUT = frozenset({"additionalProperties", "$schema", "$id", "strict"})
_FORMATS = frozenset({"date-time", "uuid", "date", "time"})
_BY_NAME = frozenset({"properties", "$defs", "definitions"})


def strict(schema: Json) -> Json:
    """The schema with known keywords only; the given one is left as it is. As deep as a request may be."""
    found: Json = {}
    words: Json = {}
    for key, value in schema.items():
        if key in _BY_NAME and isinstance(value, dict):
            found[key] = {name: _inner(one) for name, one in value.items()}
        elif key in _IN_WORDS or (key == "format" and value not in _FORMATS):
            words[key] = value
        elif key in ("enum", "const"):
            found[key] = value
        elif key not in _LEFT_OUT:
            found[key] = _inner(value)
    if words:
        hints = "{" + ", ".join(f"{key}: {orjson.dumps(value).decode()}" for key, value in words.items()) + "}"
        said = found.get("description")
        found["description"] = f"{said}\n\n{hints}" if isinstance(said, str) and said else hints
    return found


def _inner(value: Any) -> Any:
    if isinstance(value, dict):
        return strict(value)
    return [_inner(one) for one in value] if isinstance(value, list) else value
