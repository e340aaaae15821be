"""The smallest value that fits a JSON schema, the same every time. For the sandbox's tool calls and JSON answers."""

import math
from collections.abc import Mapping
from typing import Any

import orjson

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
_MOST = 64 * 1024


def smallest(schema: Any) -> Any:
    """An instance with required properties only. What cannot be met (a pattern, a `not`) is not tried: best effort.

    Recursion that a schema demands without end, and anything beyond 64 KiB in all, is null.
    """
    return _Maker(schema if isinstance(schema, Mapping) else {}).value(schema, 0)


class _Maker:
    """Makes one instance. `left` bounds what a small schema may blow up to, in bytes of JSON or so."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = root
        self.left = _MOST

    def value(self, schema: Any, depth: int) -> Any:
        self.left -= 1
        if not isinstance(schema, Mapping) or depth > _DEPTH or self.left < 0:
            return None
        for key in ("const", "default"):
            if key in schema:
                return self._given(schema[key])
        for key in ("enum", "examples"):
            if isinstance(schema.get(key), list) and schema[key]:
                return self._given(schema[key][0])
        if isinstance(schema.get("$ref"), str):
            return self.value(_target(schema["$ref"], self.root), depth + 1)
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list) and schema[key]:
                return self.value(_simplest(schema[key]), depth + 1)
        if isinstance(schema.get("allOf"), list) and schema["allOf"]:
            return self.value(_merged(schema, self.root), depth + 1)
        return self._of_kind(_kind(schema), schema, depth)

    def _of_kind(self, kind: str, schema: Mapping[str, Any], depth: int) -> Any:
        if kind == "object":
            properties, required = schema.get("properties"), schema.get("required")
            known = properties if isinstance(properties, Mapping) else {}
            found = {}
            for name in required if isinstance(required, list) else []:
                if isinstance(name, str) and self._afford(len(name)):
                    found[name] = self.value(known.get(name), depth + 1)
            return found
        if kind == "array":
            items: list[Any] = []
            while len(items) < _whole(schema.get("minItems")) and self._afford(5):
                items.append(self.value(schema.get("items"), depth + 1))
            return items
        if kind == "string":
            least = _whole(schema.get("minLength"))
            return _FORMATS.get(str(schema.get("format"))) or ("x" * least if self._afford(least) else "")
        if kind in ("integer", "number"):
            return _number(schema, whole=kind == "integer")
        return False if kind == "boolean" else None

    def _given(self, value: Any) -> Any:
        return value if self._afford(len(orjson.dumps(value))) else None

    def _afford(self, size: int) -> bool:
        self.left -= size
        return self.left >= 0


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
    try:
        if low is not None and found < low:
            found = math.ceil(low / step) * step if whole else low
        if above is not None and found <= above:
            found = (math.floor(above / step) + 1) * step
        if high is not None and found > high:
            found = math.floor(high / step) * step if whole else high
        if below is not None and found >= below:
            found = (math.ceil(below / step) - 1) * step
        return int(found) if whole else found
    except OverflowError:
        return 0


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
