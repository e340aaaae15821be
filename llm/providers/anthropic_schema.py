"""JSON schemas as Anthropic's structured outputs take them.

Every object must be closed, and a keyword it does not know is a 400. Such a keyword goes into the description, where
the model may still heed it. Source: platform.claude.com/docs, "Structured outputs", and `transform_schema` of its SDK.
"""

from typing import Any

import orjson

Json = dict[str, Any]
_KEPT = frozenset({"type", "enum", "const", "title", "description", "required"})
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_DEPTH = 64  # the same as the deepest request there is


def strict(schema: Json) -> Json:
    """The schema, closed and with known keywords only; the given one is left as it is."""
    return _strict(schema, 0)


def _strict(schema: Any, depth: int) -> Json:
    if not isinstance(schema, dict) or depth > _DEPTH:
        return {}
    found: Json = {}
    unknown: Json = {}
    if "$ref" in schema:  # nothing may stand beside a reference, but for the definitions at the root
        schema = {key: value for key, value in schema.items() if key in ("$ref", "$defs", "definitions")}
        found["$ref"] = schema.pop("$ref")
    for key, value in schema.items():
        if key in ("$defs", "definitions", "properties") and isinstance(value, dict):
            found[key] = {name: _strict(one, depth + 1) for name, one in value.items()}
        elif key in ("anyOf", "oneOf", "allOf") and isinstance(value, list):
            found["anyOf" if key == "oneOf" else key] = [_strict(one, depth + 1) for one in value]
        elif key == "items" and isinstance(value, dict):
            found[key] = _strict(value, depth + 1)
        elif key in _KEPT or (key == "format" and value in _FORMATS) or (key == "minItems" and value in (0, 1)):
            found[key] = value
        elif key not in ("additionalProperties", "$schema", "$id", "strict"):
            unknown[key] = value
    if _is_object(found):
        found.setdefault("properties", {})
        found["additionalProperties"] = False
    if unknown:
        hints = "{" + ", ".join(f"{key}: {_shown(value)}" for key, value in unknown.items()) + "}"
        said = found.get("description")
        found["description"] = f"{said}\n\n{hints}" if isinstance(said, str) and said else hints
    return found


def _is_object(schema: Json) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
