"""JSON bodies, read strictly: what is ambiguous or cannot be stored is refused before anything looks at it."""

import json
import re
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

MAX_DEPTH = 64
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class StrictJSONParser(JSONParser):
    """DRF's parser, but it refuses duplicate keys, NaN, nesting over 64, NUL characters and lone surrogates."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            body = json.loads(
                stream.read().decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
            )
        except UnicodeDecodeError as error:
            raise ParseError("it is not UTF-8.") from error
        except RecursionError as error:
            raise ParseError(f"it is nested more than {MAX_DEPTH} levels deep.") from error
        except ValueError as error:
            raise ParseError(str(error)) from error
        _check(body)
        return body


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("an object has the same key twice.")
    return values


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number.")


def _check(body: Any) -> None:
    """Level by level, so that depth costs no stack."""
    level: list[Any] = [body]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                if _UNSTORABLE.search(value):
                    raise ParseError("a text holds a NUL character or half a surrogate pair.")
            elif isinstance(value, dict):
                below += value.keys()
                below += value.values()
            elif isinstance(value, list):
                below += value
        if not below:
            return
        level = below
    raise ParseError(f"it is nested more than {MAX_DEPTH} levels deep.")
