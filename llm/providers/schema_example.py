"""The smallest value that fits a JSON schema, the same every time. For the sandbox's tool calls and JSON answers."""

import math
from collections.abc import Mapping
from typing import Any

_DEPTH = 32
_FORMATS = {
    "date-time": "2025-01-01T00:00:00Z",
    "date": "2025-01-01",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "someone@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_MOST_FILLER = 256  # characters of text, or items, made up to reach a minimum


def smallest(schema: Any) -> Any:
    """An instance with required properties only. What cannot be met (a pattern, a `not`) is not tried: best effort.

    Recursion that a schema demands without end stops at null.
    """
    return _value(schema, schema if isinstance(schema, Mapping) else {}, 0)


def _value(schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _DEPTH:
        return None
    if "const" in schema:
        return schema["const"]
    for key in ("enum", "examples"):
        if isinstance(schema.get(key), list) and schema[key]:
            return schema[key][0]
    if "default" in schema:
        return schema["default"]
    if isinstance(schema.get("$ref"), str):
        return _value(_target(schema["$ref"], root), root, depth + 1)
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return _value(_simplest(schema[key]), root, depth + 1)
    if isinstance(schema.get("allOf"), list) and schema["allOf"]:
        return _value(_merged(schema, root), root, depth + 1)
    return _of_kind(_kind(schema), schema, root, depth)


def _of_kind(kind: str, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    if kind == "object":
        properties, required = schema.get("properties"), schema.get("required")
        known = properties if isinstance(properties, Mapping) else {}
        names = required if isinstance(required, list) else []
        return {name: _value(known.get(name), root, depth + 1) for name in names if isinstance(name, str)}
    if kind == "array":
        count = min(_whole(schema.get("minItems")), _MOST_FILLER)
        return [_value(schema.get("items"), root, depth + 1) for _ in range(count)]
    if kind == "string":
        text = _FORMATS.get(str(schema.get("format")), "")
        least = min(_whole(schema.get("minLength")), _MOST_FILLER)
        return text or "x" * least
    if kind in ("integer", "number"):
        return _number(schema, whole=kind == "integer")
    return False if kind == "boolean" else None


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema else "null"


def _number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    """Zero, or the nearest that the limits allow."""
    low, above = _limit(schema, "minimum"), _limit(schema, "exclusiveMinimum")
    high, below = _limit(schema, "maximum"), _limit(schema, "exclusiveMaximum")
    step = _limit(schema, "multipleOf") or 1
    found: int | float = 0
    if low is not None and found < low:
        found = math.ceil(low / step) * step if whole else low
    if above is not None and found <= above:
        found = (math.floor(above / step) + 1) * step
    if high is not None and found > high:
        found = math.floor(high / step) * step if whole else high
    if below is not None and found >= below:
        found = (math.ceil(below / step) - 1) * step
    return int(found) if whole else found


def _limit(schema: Mapping[str, Any], name: str) -> int | float | None:
    found = schema.get(name)
    return found if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found) else None


def _whole(found: Any) -> int:
    return found if type(found) is int and found > 0 else 0


def _simplest(options: list[Any]) -> Any:
    """Null if it is allowed, so that optional branches end; else the first."""
    return next((one for one in options if isinstance(one, Mapping) and one.get("type") == "null"), options[0])


def _merged(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema["allOf"]:
        one = _target(part["$ref"], root) if isinstance(part, Mapping) and "$ref" in part else part
        if isinstance(one, Mapping):
            merged = {key: value for key, value in one.items() if key not in ("properties", "required")}
            properties = {**(found.get("properties") or {}), **(one.get("properties") or {})}
            required = [*(found.get("required") or []), *(one.get("required") or [])]
            found |= merged
            found |= {"properties": properties} if properties else {}
            found |= {"required": required} if required else {}
    return found


def _target(reference: Any, root: Mapping[str, Any]) -> Any:
    """What a local reference such as `#/$defs/Name` points at; None if it points nowhere."""
    found: Any = root
    for step in str(reference).removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found
