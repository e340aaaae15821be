"""JSON schemas as Gemini takes them, for answers and for what functions are given.

It knows a part of JSON Schema. A keyword outside it goes into the description, where the model may still heed it; what
says the same in other words (`const`, `definitions`, `nullable`, `allOf`) is put into those it knows. Source: the list
at GenerationConfig.responseJsonSchema in ai.google.dev/api and in googleapis/js-genai.
"""

from typing import Any

import orjson

Json = dict[str, Any]
_KEPT = frozenset(
    {"$anchor", "type", "format", "title", "description", "enum", "minItems", "maxItems", "minimum", "maximum",
     "required", "propertyOrdering"}
)  # fmt: skip
_SAYS_NOTHING = frozenset({"$schema", "$id", "$comment", "strict"})
_DEPTH = 64  # the same as the deepest request there is


def cleaned(schema: Json) -> Json:
    """The schema in known keywords; the given one is left as it is."""
    return _cleaned(schema, 0)


def _cleaned(schema: Any, depth: int) -> Json:
    if not isinstance(schema, dict) or depth > _DEPTH:
        return {}
    found: Json = {}
    if isinstance(schema.get("$ref"), str):  # nothing may stand beside a reference, but for definitions
        found["$ref"] = schema["$ref"].replace("#/definitions/", "#/$defs/", 1)
        schema = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    else:
        schema = _merged(schema, depth)
    unknown: Json = {}
    for key, value in schema.items():
        if not _nested(found, key, value, depth) and not _plain(found, key, value) and key not in _SAYS_NOTHING:
            unknown[key] = value
    if schema.get("nullable") is True and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
        del unknown["nullable"]
    if unknown:
        hints = "{" + ", ".join(f"{key}: {_shown(value)}" for key, value in unknown.items()) + "}"
        said = found.get("description")
        found["description"] = f"{said}\n\n{hints}" if isinstance(said, str) and said else hints
    return found


def _nested(found: Json, key: str, value: Any, depth: int) -> bool:
    """Keywords that hold schemas. True if this is one."""
    if key in ("$defs", "definitions", "properties") and isinstance(value, dict):
        name = "properties" if key == "properties" else "$defs"
        inner = {one: _cleaned(schema, depth + 1) for one, schema in value.items()}
        found[name] = found.get(name, {}) | inner
    elif key in ("anyOf", "oneOf", "prefixItems") and isinstance(value, list):
        found["anyOf" if key == "oneOf" else key] = [_cleaned(one, depth + 1) for one in value]
    elif key in ("items", "additionalProperties") and isinstance(value, dict):
        found[key] = _cleaned(value, depth + 1)
    elif key == "additionalProperties" and isinstance(value, bool):
        found[key] = value
    else:
        return False
    return True


def _plain(found: Json, key: str, value: Any) -> bool:
    """Keywords that are kept as they are. An enumeration is of texts and numbers only."""
    if key == "const" and _enumerable(value):
        found["enum"] = [value]
    elif key == "enum" and not (isinstance(value, list) and all(_enumerable(one) for one in value)):
        return False
    elif key in _KEPT:
        found[key] = value
    else:
        return False
    return True


def _enumerable(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _merged(schema: Json, depth: int) -> Json:
    """`allOf` as one schema: what all of its parts ask for together."""
    parts = schema.get("allOf")
    if not isinstance(parts, list) or depth > _DEPTH:
        return schema
    if not all(isinstance(one, dict) and "$ref" not in one for one in parts):
        if len(parts) == 1 and isinstance(parts[0], dict) and set(schema) <= {"allOf", "description", "title"}:
            return {"anyOf": parts} | {key: value for key, value in schema.items() if key != "allOf"}
        return schema  # said in the description
    whole = {key: value for key, value in schema.items() if key != "allOf"}
    for part in parts:
        for key, value in _merged(part, depth + 1).items():
            if key in ("properties", "$defs", "definitions") and isinstance(value, dict):
                whole[key] = whole.get(key, {}) | value
            elif key == "required" and isinstance(value, list):
                whole[key] = list(dict.fromkeys([*whole.get(key, []), *value]))
            else:
                whole.setdefault(key, value)
    return whole


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
