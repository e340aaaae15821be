"""What all dialects of embeddings share: the inputs of OpenAI's body, and vectors as OpenAI lists them."""

import base64
import binascii
import math
import sys
from array import array
from typing import Any

from llm.calls import Completed
from llm.errors import InvalidRequest, UpstreamInvalid

Json = dict[str, Any]


def inputs(body: Any, *, most: int | None = None, token_arrays: bool = False) -> list[Any]:
    """The inputs of OpenAI's body, each a string or (`token_arrays`) a list of token ids. Raises InvalidRequest."""
    given = body.get("input")
    if isinstance(given, str) or (isinstance(given, list) and given and type(given[0]) is int):
        given = [given]
    if not isinstance(given, list) or not given:
        raise InvalidRequest("`input` must be a string or a list of strings, not empty.", param="input")
    if most is not None and len(given) > most:
        raise InvalidRequest(f"This model's API takes at most {most} inputs at once.", param="input")
    for position, one in enumerate(given):
        if isinstance(one, str):
            continue
        if not isinstance(one, list) or not one or not all(type(token) is int for token in one):
            raise InvalidRequest("An input must be a string or a list of token ids.", param=f"input[{position}]")
        if not token_arrays:
            raise InvalidRequest(
                "This model's API takes text, not token ids. Send `input` as strings.",
                param="input",
                code="unsupported_parameter",
            )
    return given


def dimensions_field(body: Any, quirks: Any) -> str | None:
    """What the vendor calls `dimensions`, by the quirk of that name; None if it was not asked for.

    Raises InvalidRequest where the model's vectors have one length only.
    """
    if body.get("dimensions") is None:
        return None
    known = quirks.get("dimensions")
    if not known:
        raise InvalidRequest(
            "This model's vectors have one length. Leave `dimensions` out.",
            param="dimensions",
            code="unsupported_parameter",
        )
    return known if isinstance(known, str) else "dimensions"


def vector(said: Any) -> list[float]:
    """A vector as a list of numbers, or as base64 of little-endian float32. Raises UpstreamInvalid for any other."""
    try:
        if isinstance(said, str):
            packed = array("f", base64.b64decode(said, validate=True))
            if sys.byteorder == "big":
                packed.byteswap()
            found = packed.tolist()
        elif isinstance(said, list):
            found = array("d", said).tolist()
        else:
            raise UpstreamInvalid("The provider sent a vector that is none.")
    except (TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise UpstreamInvalid("The provider sent a vector that is none.") from error
    if not found or not math.isfinite(math.fsum(found)):
        raise UpstreamInvalid("The provider sent a vector that is none.")
    return found


def listed(vectors: list[list[float]], *, expected: int, model: str, usage: Json | None) -> Completed:
    """OpenAI's list of vectors in the order of the inputs. Raises UpstreamInvalid if any are missing or too many."""
    if len(vectors) != expected:
        raise UpstreamInvalid(f"The provider sent {len(vectors)} vectors for {expected} inputs.")
    data = [{"object": "embedding", "index": index, "embedding": numbers} for index, numbers in enumerate(vectors)]
    body: Json = {"object": "list", "data": data, "model": model}
    if usage is not None:
        body["usage"] = usage
    return Completed(body=body, usage=usage)
